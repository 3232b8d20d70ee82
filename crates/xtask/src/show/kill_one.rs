//! A node is killed with -9 while clients write, and comes back.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, bail, ensure};

use super::Verdict;
use super::cluster::{Cluster, NODES, await_true};
use super::http;
use super::sessions::{Mishap, Sessions};
use super::stage::Stage;

const SESSIONS: u32 = 100_000;
const WRITERS: usize = 6;
const VICTIM: u16 = 2;
/// Errors must have ended this long after the kill.
const ERRORS_END: Duration = Duration::from_secs(2);
/// How long the node is away: well beyond when errors must have ended.
const AWAY: Duration = Duration::from_secs(5);
const WRITING: Duration = Duration::from_mins(5);
const REPAIR: Duration = Duration::from_secs(30);
/// Sessions that are looked at on every replica.
const SAMPLE: u32 = 400;
/// Written while a node is away, in the second part.
const MISSED: u32 = 2_000;

pub(super) fn play(stage: &Stage) -> Result<Verdict> {
    let cluster = Cluster::start(stage)?;
    let sessions = Sessions::new("session", cluster.redis_ports(), SESSIONS);
    println!("  {WRITERS} clients write {SESSIONS} sessions of 2 KB at W=2 through all nodes");
    let began = Instant::now();
    let (killed, back) = sessions.write_during(WRITERS, || interrupt(&cluster, &sessions))?;
    let seconds = began.elapsed().as_secs_f64();
    println!("  {} writes acknowledged in {seconds:.1} s", sessions.writes());
    let pause_ms = sessions.pause_ms_max();
    println!("  longest time that a client waited between acknowledgements: {pause_ms} ms");
    judge_errors(&sessions, killed, back)?;
    read_all(&cluster, &sessions)?;
    if Stage::keeps() {
        only_reads_repair(&cluster)?;
    }
    Ok(Verdict::Shown)
}

fn read_all(cluster: &Cluster<'_>, sessions: &Sessions) -> Result<()> {
    println!("  reading all sessions back at R=2 through every node");
    sessions.verify("2")?;
    println!("  every acknowledged write is there, on every node the newest");
    await_true(REPAIR, "replicas still differ", || Ok(differing(cluster, sessions)? == 0))?;
    println!("  all {NODES} replicas of the sampled sessions are equal");
    Ok(())
}

/// Above, nodes that lived have offered what the killed one had missed. What they owe is lost when they stop too, and
/// then it is left to reads.
fn only_reads_repair(cluster: &Cluster<'_>) -> Result<()> {
    cluster.kill(&[VICTIM])?;
    cluster.await_connected(&[1, 3], u64::from(NODES) - 1)?;
    let missed = Sessions::new("missed", cluster.redis_ports(), MISSED);
    missed.write_during(WRITERS, || Ok(()))?;
    println!(
        "  {MISSED} sessions are written that node {VICTIM} misses; then the others are killed too"
    );
    cluster.kill(&[1, 3])?;
    cluster.resume()?;
    cluster.await_connected(&[1, 2, 3], u64::from(NODES))?;
    let (behind, sampled) = (differing(cluster, &missed)?, sample(&missed).count());
    println!("  of {sampled} sampled sessions, node {VICTIM} lacks {behind}");
    ensure!(
        behind == sampled,
        "node {VICTIM} has sessions that it missed, though nobody read them"
    );
    read_all(cluster, &missed)
}

/// Kills and restarts; returns when each was done.
fn interrupt(cluster: &Cluster<'_>, sessions: &Sessions) -> Result<(Instant, Instant)> {
    sessions.await_writes(u64::from(SESSIONS) * 3 / 10, WRITING)?;
    println!("  {} writes are acknowledged; now node {VICTIM} is killed", sessions.writes());
    let killed = Instant::now();
    cluster.kill(&[VICTIM])?;
    thread::sleep(AWAY);
    println!("  {} writes are acknowledged; now it is started again", sessions.writes());
    let back = Instant::now();
    cluster.restart(&[VICTIM])?;
    println!("  it serves again after {:.1} s", back.elapsed().as_secs_f64());
    sessions.await_writes(u64::from(SESSIONS), WRITING)?;
    // Some more with all three.
    thread::sleep(ERRORS_END);
    Ok((killed, back))
}

fn judge_errors(sessions: &Sessions, killed: Instant, back: Instant) -> Result<()> {
    let mishaps = sessions.seen();
    let early: Vec<_> = mishaps.iter().filter(|mishap| mishap.at < killed).collect();
    if let Some(first) = early.first() {
        bail!("{} errors before the kill: {}", early.len(), first.what);
    }
    for (who, of_victim) in
        [("nodes that live", false), ("the killed node, who go to another", true)]
    {
        let seen =
            mishaps.iter().filter(|mishap| (mishap.home == usize::from(VICTIM)) == of_victim);
        let seen: Vec<&Mishap> = seen.collect();
        let Some(last) = seen.iter().max_by_key(|mishap| mishap.at) else {
            println!("  clients of {who}: no errors");
            continue;
        };
        let after = last.at - killed;
        println!(
            "  clients of {who}: {} errors, the last {} ms after the kill ({})",
            seen.len(),
            after.as_millis(),
            last.what
        );
        if after > ERRORS_END {
            let late = if last.at < back { "" } else { ", after the node came back" };
            bail!(
                "errors went on for {:.1} s after the kill{late}: {}",
                after.as_secs_f64(),
                last.what
            );
        }
    }
    Ok(())
}

fn sample(sessions: &Sessions) -> impl Iterator<Item = u32> {
    (0..sessions.count()).step_by((sessions.count() / SAMPLE) as usize)
}

/// How many of the sampled sessions have replicas that do not hold the same.
fn differing(cluster: &Cluster<'_>, sessions: &Sessions) -> Result<usize> {
    let mut differing = 0;
    for session in sample(sessions) {
        let path = format!("/v1/ring/key/0/{}", sessions.key(session));
        let shown = http::get(cluster.http_port(1), &path)?.json()?;
        let Some(replicas) = shown["replicas"].as_array() else { bail!("no replicas in {shown}") };
        let first = &replicas[0];
        let equal = |other: &serde_json::Value| {
            other["state"] == "held"
                && other["clock"] == first["clock"]
                && other["versions"] == first["versions"]
        };
        if replicas.len() != usize::from(NODES) || !replicas.iter().all(equal) {
            differing += 1;
        }
    }
    Ok(differing)
}
