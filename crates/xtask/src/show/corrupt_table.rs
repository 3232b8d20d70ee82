//! Bytes of one node's tables are flipped: while it is stopped, and under its feet while it serves. It notices, sets
//! the data aside, begins anew without a restart of its process, and nobody ever reads a wrong value.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use super::Verdict;
use super::cluster::{Cluster, NODES, await_true};
use super::http;
use super::sessions::Sessions;
use super::stage::Stage;

const VICTIM: u16 = 3;
const WRITERS: usize = 3;
/// Of 2 KB: with any engine, and so little memory, most of it is in tables then.
const SESSIONS: u32 = 12_000;
const MEMORY_BYTES: u64 = 64 << 20;
const NOTICED: Duration = Duration::from_secs(30);

pub(super) fn play(stage: &Stage) -> Result<Verdict> {
    if !Stage::keeps() {
        return Ok(Verdict::NotBuilt("an engine that keeps".to_owned()));
    }
    let memory = ("MOIM_NODE_MEMORY_BYTES", MEMORY_BYTES.to_string());
    let cluster = Cluster::start_as(stage, vec![memory])?;
    let sessions = Sessions::new("session", cluster.redis_ports(), SESSIONS);
    sessions.write_during(WRITERS, || Ok(()))?;
    println!("  {SESSIONS} sessions of 2 KB are written at W=2");
    while_it_serves(&cluster, &sessions)?;
    while_it_is_stopped(&cluster, &sessions)?;
    Ok(Verdict::Shown)
}

fn while_it_serves(cluster: &Cluster<'_>, sessions: &Sessions) -> Result<()> {
    // Nothing of what is in tables is in the node's memory after a start.
    cluster.kill(&[VICTIM])?;
    cluster.restart(&[VICTIM])?;
    cluster.await_connected(&[1, 2, 3], u64::from(NODES))?;
    let pid = cluster.pid(VICTIM)?;
    let tables = flip(&cluster.data(VICTIM), |path| has_extension(path, "sst"))?;
    println!("  half the bytes of {tables} tables of node {VICTIM} are flipped while it serves");
    let began = Instant::now();
    sessions.verify("2")?;
    println!("  every session is read as it was written, through every node");
    await_set_aside(cluster, 1)?;
    println!("  set aside after {:.1} s", began.elapsed().as_secs_f64());
    after(cluster, sessions)?;
    ensure!(cluster.pid(VICTIM)? == pid, "its process was restarted");
    println!("  in the same process");
    Ok(())
}

fn while_it_is_stopped(cluster: &Cluster<'_>, sessions: &Sessions) -> Result<()> {
    cluster.kill(&[VICTIM])?;
    let data = cluster.data(VICTIM);
    let own_log = data.join("commit-log");
    let logs = if own_log.is_dir() {
        flip(&own_log, |path| {
            path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("segment-"))
        })?
    } else {
        flip(&data, |path| has_extension(path, "log"))?
    };
    println!(
        "  now node {VICTIM} is killed, bytes in {logs} files of its log are flipped, and it is started"
    );
    cluster.restart(&[VICTIM])?;
    await_set_aside(cluster, 2)?;
    after(cluster, sessions)
}

fn after(cluster: &Cluster<'_>, sessions: &Sessions) -> Result<()> {
    cluster.await_ready(VICTIM)?;
    cluster.await_connected(&[1, 2, 3], u64::from(NODES))?;
    sessions.verify("2")?;
    println!("  it began empty, serves again, and every session is read through every node");
    Ok(())
}

fn has_extension(path: &Path, wanted: &str) -> bool {
    path.extension().is_some_and(|extension| extension == wanted)
}

/// Flips bytes in the middle of all such files. Returns how many.
fn flip(data: &Path, is_wanted: impl Fn(&Path) -> bool) -> Result<usize> {
    let mut flipped = 0;
    for path in files(data)? {
        if !is_wanted(&path) {
            continue;
        }
        let mut bytes = fs::read(&path)?;
        let (from, to) = (bytes.len() / 8, bytes.len() * 5 / 8);
        bytes[from..to].iter_mut().for_each(|byte| *byte ^= 0x55);
        // In place, as a disk would: an engine that has the file open reads what is there now.
        fs::write(&path, bytes)?;
        flipped += 1;
    }
    ensure!(flipped > 0, "there is nothing to flip in {}", data.display());
    Ok(flipped)
}

fn files(data: &Path) -> Result<Vec<PathBuf>> {
    let entries = fs::read_dir(data).with_context(|| data.display().to_string())?;
    entries.map(|entry| Ok(entry?.path())).collect()
}

fn await_set_aside(cluster: &Cluster<'_>, times: usize) -> Result<()> {
    await_true(NOTICED, "the damage is not noticed", || {
        // While it begins anew it does not answer.
        let Ok(answer) = http::get(cluster.http_port(VICTIM), "/v1/status") else {
            return Ok(false);
        };
        let status = answer.json()?;
        let set_aside = status["local"]["set_aside_s"].as_array();
        Ok(set_aside.is_some_and(|all| all.len() == times))
    })
}
