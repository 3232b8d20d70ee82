//! What N=5 promises at which levels: five nodes in the simulator, under faults.

use std::process::Command;
use std::time::Duration;

use anyhow::{Result, ensure};

use super::Verdict;
use super::process::run;
use super::stage::Stage;

const LIMIT: Duration = Duration::from_mins(10);
/// Of five copies: W, R, and whether W + R > 5.
const LEVELS: [(u8, u8, bool); 5] =
    [(3, 3, true), (2, 4, true), (1, 5, true), (5, 1, true), (1, 1, false)];

pub(super) fn play(stage: &Stage) -> Result<Verdict> {
    let simulator = stage.simulator()?;
    println!("  moim-sim levels");
    let finished = run(Command::new(simulator).arg("levels"), LIMIT)?;
    finished.stdout.lines().for_each(|line| println!("  | {line}"));
    let finished = finished.successful()?;
    for (w, r, strong) in LEVELS {
        let title = format!("W={w} R={r}:");
        let mut rows = finished.stdout.lines().skip_while(|line| !line.starts_with(&title));
        ensure!(rows.next().is_some(), "{title} has no verdict");
        let rows: Vec<&str> =
            rows.take_while(|line| line.starts_with(' ')).map(str::trim).collect();
        let held = rows.iter().filter(|row| row.starts_with("held:")).count();
        ensure!(held > 0, "{title} nothing is said to have held");
        ensure!(rows.len() > held || strong, "{title} everything held, which nobody promises");
    }
    Ok(Verdict::Shown)
}
