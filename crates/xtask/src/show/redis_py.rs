//! The most used Redis client there is, unchanged: redis-py, and its asyncio client, over RESP2 and RESP3.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};

use super::Verdict;
use super::cluster::{Cluster, NODES};
use super::process::{run, tail};
use super::scratch::Scratch;
use super::stage::Stage;

const SCRIPT: &str = include_str!("redis_py.py");
const INSTALL: Duration = Duration::from_mins(5);
const PLAY: Duration = Duration::from_mins(2);

pub(super) fn play(stage: &Stage) -> Result<Verdict> {
    let place = Scratch::new("python")?;
    if let Err(why) = install(place.path()) {
        return Ok(Verdict::NotBuilt(format!("redis-py in a virtual environment: {why:#}")));
    }
    let script = place.path().join("scenario.py");
    fs::write(&script, SCRIPT)?;
    let cluster = Cluster::start(stage)?;
    let mut python = Command::new(place.path().join("venv/bin/python"));
    python.arg(&script).args((1..=NODES).map(|node| cluster.redis_port(node).to_string()));
    let finished = run(&mut python, PLAY)?;
    finished.stdout.lines().for_each(|line| println!("  {line}"));
    let what_failed = tail(&finished.stderr);
    finished.successful().with_context(|| format!("redis-py: {what_failed}"))?;
    Ok(Verdict::Shown)
}

/// redis-py in a virtual environment at this place.
pub(super) fn install(place: &Path) -> Result<()> {
    println!("  installing redis-py into a virtual environment");
    let venv = place.join("venv");
    let mut make = Command::new("python3");
    run(make.args(["-m", "venv"]).arg(&venv), INSTALL)?.successful().context("python3 -m venv")?;
    let mut pip = Command::new(venv.join("bin/pip"));
    pip.args(["install", "--quiet", "--disable-pip-version-check", "redis"]);
    run(&mut pip, INSTALL)?.successful().context("pip install redis")?;
    Ok(())
}
