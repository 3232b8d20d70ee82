//! What somebody gets who clones the repository: `make test` passes and `make dev` is ready.
//!
//! RocksDB is compiled once per machine and is taken from where it is kept; everything else is built anew.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use super::Verdict;
use super::cluster::{NODES, free_base_port};
use super::http;
use super::process::{Finished, run, watch};
use super::scratch::Scratch;
use super::stage::Stage;

const BUILD: Duration = Duration::from_hours(2);
const GIT: Duration = Duration::from_mins(5);
/// Settings of the checkout that runs this, which cargo handed down.
const INHERITED: [&str; 4] =
    ["ROCKSDB_LIB_DIR", "ROCKSDB_STATIC", "CARGO_TARGET_DIR", "CARGO_MANIFEST_DIR"];

pub(super) fn play(stage: &Stage) -> Result<Verdict> {
    let clone = Scratch::new("clone")?;
    let mut git = Command::new("git");
    git.args(["clone", "--quiet", "--no-local"]).arg(stage.checkout()).arg(clone.path());
    run(&mut git, GIT)?.successful().context("git clone")?;
    let heads = (head(stage.checkout())?, head(clone.path())?);
    ensure!(heads.0 == heads.1, "the clone is at {}, the checkout at {}", heads.1, heads.0);
    println!("  cloned {}", heads.1);
    let took = watch(&mut make(&clone, "test"), BUILD).context("make test")?;
    println!("  make test passed in {:.0} s", took.as_secs_f64());
    dev(&clone)?;
    Ok(Verdict::Shown)
}

fn head(checkout: &Path) -> Result<String> {
    let mut git = Command::new("git");
    let finished = run(git.args(["rev-parse", "HEAD"]).current_dir(checkout), GIT)?;
    Ok(finished.successful().context("git rev-parse")?.stdout.trim().to_owned())
}

fn make(clone: &Scratch, target: &str) -> Command {
    let mut make = Command::new("make");
    make.arg(target).current_dir(clone.path());
    for name in INHERITED {
        make.env_remove(name);
    }
    make
}

fn dev(clone: &Scratch) -> Result<()> {
    let data = Scratch::new("data")?;
    let place =
        data.path().to_str().context("the temporary directory has a name that is no text")?;
    let base = free_base_port()?;
    let arguments = format!("ARGS=--nodes {NODES} --base-port {base} --data {place} --detach");
    let _stopped = Stopped { clone, data: place };
    let took = watch(make(clone, "dev").arg(&arguments), BUILD).context("make dev")?;
    for node in 1..=NODES {
        let ready = http::get(base + 1_000 + node, "/readyz")?;
        ensure!(ready.status == 200, "node {node} is not ready: {}", ready.status);
    }
    println!("  make dev: {NODES} nodes are ready after {:.0} s", took.as_secs_f64());
    Ok(())
}

/// Stops the clone's cluster whatever happened.
struct Stopped<'a> {
    clone: &'a Scratch,
    data: &'a str,
}

impl Drop for Stopped<'_> {
    fn drop(&mut self) {
        let mut moim = Command::new(self.clone.path().join("target/release/moim"));
        moim.args(["dev", "stop", "--data", self.data]);
        if let Err(error) = run(&mut moim, GIT).and_then(Finished::successful) {
            println!("  the clone's cluster did not stop by itself: {error:#}");
        }
    }
}
