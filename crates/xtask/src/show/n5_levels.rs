//! What N=5 promises at which levels: five nodes in the simulator, under faults.

use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use super::Verdict;
use super::process::run;
use super::stage::Stage;

const LIMIT: Duration = Duration::from_mins(10);
/// Of five copies: W, R.
const LEVELS: [(u8, u8); 5] = [(3, 3), (2, 4), (1, 5), (5, 1), (1, 1)];
const FRESH: &str = "reads see acknowledged writes";
const ORDERED: &str = "later writes win";

pub(super) fn play(stage: &Stage) -> Result<Verdict> {
    let simulator = stage.simulator()?;
    println!("  moim-sim levels");
    let finished = run(Command::new(simulator).arg("levels"), LIMIT)?;
    finished.stdout.lines().for_each(|line| println!("  | {line}"));
    let finished = finished.successful().context("moim-sim levels")?;
    for (w, r) in LEVELS {
        let rows = rows(&finished.stdout, &format!("W={w} R={r}:"))?;
        // The rules of quorums, so that the simulator's own table is not taken on trust.
        for (property, promised) in [(FRESH, w + r > 5), (ORDERED, 2 * w > 5)] {
            let row = rows.iter().find(|row| row.contains(property));
            let row = row.with_context(|| format!("W={w} R={r}: nothing about '{property}'"))?;
            ensure!(row.starts_with("held:") == promised, "W={w} R={r}: {row}");
            // What is not promised must be seen to fail, or the simulator is blind to it.
            ensure!(promised || !row.contains("(0 exceptions)"), "W={w} R={r}: {row}");
        }
    }
    Ok(Verdict::Shown)
}

/// What is said under a title.
fn rows<'a>(output: &'a str, title: &str) -> Result<Vec<&'a str>> {
    let mut rows = output.lines().skip_while(|line| !line.starts_with(title));
    ensure!(rows.next().is_some(), "{title} has no verdict");
    Ok(rows.take_while(|line| line.starts_with(' ')).map(str::trim).collect())
}
