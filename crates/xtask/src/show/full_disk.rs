//! A node whose disk fills up: what it says, who takes its writes, and how it goes on when there is room again.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use super::Verdict;
use super::cluster::{Cluster, NODES, await_true};
use super::http;
use super::redis::{self, Reply};
use super::sessions::Sessions;
use super::small_disk::SmallDisk;
use super::stage::Stage;

const DISK_MIB: u32 = 128;
/// Below a tenth of the disk.
const LITTLE_BYTES: u64 = 9 << 20;
const FULL: u16 = 2;
const WRITERS: usize = 3;
const SESSIONS: u32 = 500;
/// Keys deleted before it is looked again whether a disk is full.
const DELETED: u32 = 100;
/// The file system is looked at every second, and both engines look for room every few.
const NOTICED: Duration = Duration::from_secs(20);

pub(super) fn play(stage: &Stage) -> Result<Verdict> {
    if !Stage::keeps() {
        return Ok(Verdict::NotBuilt("an engine that keeps".to_owned()));
    }
    if !SmallDisk::can_be_mounted() {
        return Ok(Verdict::NotBuilt(
            "mounting a small file system, which only root may".to_owned(),
        ));
    }
    let cluster = Cluster::start_on_small_disks(stage, DISK_MIB)?;
    let pids = pids(&cluster)?;
    let sessions = Sessions::new("session", cluster.redis_ports(), SESSIONS);
    sessions.write_during(WRITERS, || Ok(()))?;
    println!("  {SESSIONS} sessions are written; each node has a disk of {DISK_MIB} MB");
    little_room(&cluster)?;
    no_room(&cluster)?;
    nobody_has_room(&cluster)?;
    sessions.verify("2")?;
    println!("  every session that was acknowledged before is there, through every node");
    ensure!(self::pids(&cluster)? == pids, "a node was restarted");
    println!("  and no process was restarted");
    Ok(Verdict::Shown)
}

fn little_room(cluster: &Cluster<'_>) -> Result<()> {
    cluster.disk(FULL)?.fill(LITTLE_BYTES)?;
    await_room(cluster, FULL, "low")?;
    println!("  node {FULL} has less than a tenth of its disk left and says so");
    expect_ok(cluster, FULL, &["SET", "low", "taken by the others"])?;
    let reply = at(cluster, FULL, "ALL", &["SET", "low", "by all"])?;
    println!("  SET at ALL through it  ->  {reply}");
    let words = reply.error().unwrap_or_default();
    ensure!(words.starts_with("OOM") && words.contains("disk is full"), "not said: {reply}");
    let got = http::put(cluster.http_port(FULL), "/v1/kv/0/low?w=ALL", &[], "by all")?;
    ensure!(got.status == 507, "HTTP says {}", got.status);
    let reply = at(cluster, FULL, "ONE", &["GET", "session:0"])?;
    ensure!(reply.error().is_none(), "GET on the full node: {reply}");
    expect_ok(cluster, 1, &["SET", "goes", "v"])?;
    let reply = at(cluster, FULL, "ALL", &["DEL", "goes"])?;
    ensure!(reply == Reply::Integer(1), "DEL at ALL: {reply}");
    println!(
        "  SET at W=2 is taken by the others, reads go on, DEL works on all three; HTTP answers 507"
    );
    Ok(())
}

fn no_room(cluster: &Cluster<'_>) -> Result<()> {
    cluster.disk(FULL)?.fill(0)?;
    // What still wants to be kept there, deletions, finds no room once the room that the log had set aside is used up.
    let mut round = 0;
    await_true(NOTICED, "node 2 does not notice that its disk is full", || {
        round += 1;
        delete_many(cluster, round)?;
        Ok(room(cluster, FULL)? == "exhausted")
    })?;
    println!("  now it is full to the brim, and a commit waits");
    let began = Instant::now();
    expect_ok(cluster, FULL, &["SET", "brim", "by others"])?;
    let reply = cluster.call(FULL, &["GET", "brim"])?;
    ensure!(reply == Reply::from("by others"), "GET brim: {reply}");
    println!("  SET and GET through it work in {} ms", began.elapsed().as_millis());
    cluster.disk(FULL)?.empty()?;
    let began = Instant::now();
    await_room(cluster, FULL, "enough")?;
    await_works(cluster, &["SET", "brim", "by all"], "ALL")?;
    println!("  room again: writes at ALL work after {:.1} s", began.elapsed().as_secs_f64());
    Ok(())
}

/// Writes and deletes keys with long names through node 1.
fn delete_many(cluster: &Cluster<'_>, round: u32) -> Result<()> {
    let mut connection = cluster.redis(1)?;
    let keys: Vec<_> = (0..DELETED).map(|key| format!("{key}:{round}:{:4096}", "")).collect();
    let commands = keys
        .iter()
        .flat_map(|key| [redis::command(&["SET", key, "v"]), redis::command(&["DEL", key])]);
    connection.send(&commands.collect::<Vec<_>>().concat())?;
    for _ in 0..2 * DELETED {
        connection.receive()?;
    }
    Ok(())
}

fn nobody_has_room(cluster: &Cluster<'_>) -> Result<()> {
    for node in 1..=NODES {
        cluster.disk(node)?.fill(LITTLE_BYTES)?;
    }
    for node in 1..=NODES {
        await_room(cluster, node, "low")?;
    }
    for node in 1..=NODES {
        let reply = at(cluster, node, "QUORUM", &["SET", "none", "v"])?;
        let words = reply.error().unwrap_or_default();
        ensure!(words.starts_with("OOM"), "node {node}: {reply}");
        let reply = cluster.call(node, &["GET", "brim"])?;
        ensure!(reply == Reply::from("by all"), "GET brim on node {node}: {reply}");
    }
    println!("  all three have little room: every SET is refused with -OOM, every GET answered");
    for node in 1..=NODES {
        cluster.disk(node)?.empty()?;
    }
    let began = Instant::now();
    await_works(cluster, &["SET", "none", "v"], "ALL")?;
    println!("  room again: writes at ALL work after {:.1} s", began.elapsed().as_secs_f64());
    Ok(())
}

fn await_works(cluster: &Cluster<'_>, words: &[&str], level: &str) -> Result<()> {
    await_true(NOTICED, &format!("{words:?} at {level} does not work"), || {
        Ok((1..=NODES)
            .all(|node| at(cluster, node, level, words).is_ok_and(|reply| reply.error().is_none())))
    })
}

fn await_room(cluster: &Cluster<'_>, node: u16, wanted: &str) -> Result<()> {
    await_true(NOTICED, &format!("the room of node {node} is not '{wanted}'"), || {
        Ok(room(cluster, node)? == wanted)
    })
}

fn room(cluster: &Cluster<'_>, node: u16) -> Result<String> {
    let status = http::get(cluster.http_port(node), "/v1/status")?.json()?;
    let room = status["local"]["disk_room"].as_str().context("a status without disk_room")?;
    Ok(room.to_owned())
}

fn expect_ok(cluster: &Cluster<'_>, node: u16, words: &[&str]) -> Result<()> {
    let reply = cluster.call(node, words)?;
    ensure!(reply == Reply::Status("OK".to_owned()), "{words:?} on node {node}: {reply}");
    Ok(())
}

/// One command at a level, errors included.
fn at(cluster: &Cluster<'_>, node: u16, level: &str, words: &[&str]) -> Result<Reply> {
    let mut connection = cluster.redis(node)?;
    connection.call(&["MOIM.LEVEL", "READ", level, "WRITE", level])?;
    Ok(connection.call(words)?)
}

fn pids(cluster: &Cluster<'_>) -> Result<Vec<u64>> {
    (1..=NODES).map(|node| cluster.pid(node)).collect()
}
