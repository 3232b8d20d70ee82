//! The simulator: many seeds, one seed twice, and rules switched off to see them missed; and sessions for hours.

use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use super::Verdict;
use super::process::{Finished, run};
use super::stage::Stage;

/// What a sweep of 200 seeds may take.
const SWEEP: Duration = Duration::from_mins(3);
const LIMIT: Duration = Duration::from_mins(30);
/// Rules that can be switched off.
const MUTATIONS: usize = 11;

pub(super) fn play(stage: &Stage) -> Result<Verdict> {
    let sweep = simulate(stage, &["sweep", "--seeds", "200", "--operations", "2000"])?;
    ensure!(sweep.stdout.contains("200 passed, 0 failed"), "not all seeds passed");
    let seconds = sweep.took.as_secs_f64();
    println!("  200 seeds in {seconds:.1} s");
    ensure!(sweep.took < SWEEP, "that is longer than {} s", SWEEP.as_secs());
    let twice = simulate(stage, &["twice", "--seed", "7"])?;
    ensure!(twice.stdout.contains("both traces are the same"), "the traces differ");
    let mutations = simulate(stage, &["mutations", "--seeds", "1000"])?;
    let caught = mutations.stdout.lines().filter(|line| line.contains(" caught at seed ")).count();
    ensure!(caught == MUTATIONS, "{caught} of {MUTATIONS} mutations were caught");
    Ok(Verdict::Shown)
}

/// Two hours of sessions that expire, with a replica away for two of their lives.
pub(super) fn play_sessions(stage: &Stage) -> Result<Verdict> {
    let sessions = simulate(stage, &["sessions"])?;
    ensure!(
        sessions.stdout.contains(": 0 resurrected, 0 lost"),
        "a session came back, or was lost"
    );
    Ok(Verdict::Shown)
}

fn simulate(stage: &Stage, words: &[&str]) -> Result<Finished> {
    let simulator = stage.simulator()?;
    let words_in_line = words.join(" ");
    println!("  moim-sim {words_in_line}");
    let finished = run(Command::new(simulator).args(words), LIMIT)?;
    finished.stdout.lines().for_each(|line| println!("  | {line}"));
    finished.successful().with_context(|| format!("moim-sim {words_in_line}"))
}
