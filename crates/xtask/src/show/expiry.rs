//! Values end when they should on every node, also where a node was down when they were written or when they ended.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};

use super::Verdict;
use super::cluster::{Cluster, NODES};
use super::redis::Reply;
use super::stage::Stage;

const LIFE: Duration = Duration::from_millis(1_500);
/// Long enough for a node to come back meanwhile.
const LONG_LIFE: Duration = Duration::from_secs(15);
/// Between the end of a value and looking for it: the deadline is whole milliseconds.
const MARGIN: Duration = Duration::from_millis(5);
const DOWN: u16 = 3;

pub(super) fn play(stage: &Stage) -> Result<Verdict> {
    let cluster = Cluster::start(stage)?;
    while_all_are_up(&cluster)?;
    down_from_before_the_write(&cluster)?;
    back_before_the_end(&cluster)?;
    down_at_the_end(&cluster)?;
    no_return_of_an_older_value(&cluster)?;
    Ok(Verdict::Shown)
}

fn while_all_are_up(cluster: &Cluster<'_>) -> Result<()> {
    let end = set(cluster, "up", LIFE)?;
    expect(cluster, "up", &Reply::from("v"))?;
    sleep_until(end);
    expect(cluster, "up", &Reply::Nil)?;
    println!("  SET up v PX 1500: there at once, gone after 1.5 s, on every node");
    Ok(())
}

fn down_from_before_the_write(cluster: &Cluster<'_>) -> Result<()> {
    cluster.kill(&[DOWN])?;
    let end = set(cluster, "missed", LIFE)?;
    sleep_until(end);
    cluster.restart(&[DOWN])?;
    expect(cluster, "missed", &Reply::Nil)?;
    println!("  a value that node {DOWN} missed from its write to its end is gone on every node");
    Ok(())
}

fn back_before_the_end(cluster: &Cluster<'_>) -> Result<()> {
    cluster.kill(&[DOWN])?;
    let end = set(cluster, "early", LONG_LIFE)?;
    cluster.restart(&[DOWN])?;
    cluster.await_connected(&[1, 2, 3], u64::from(NODES))?;
    ensure!(Instant::now() < end, "the restart took longer than the value lives");
    let reply = cluster.call(DOWN, &["GET", "early"])?;
    ensure!(reply == Reply::from("v"), "GET early on node {DOWN} before its end: {reply}");
    let left = cluster.call(DOWN, &["PTTL", "early"])?;
    ensure!(matches!(left, Reply::Integer(ms) if (1..15_000).contains(&ms)), "PTTL: {left}");
    sleep_until(end);
    expect(cluster, "early", &Reply::Nil)?;
    println!("  a value whose write node {DOWN} missed is there when it is back, and ends in time");
    Ok(())
}

fn down_at_the_end(cluster: &Cluster<'_>) -> Result<()> {
    let end = set(cluster, "late", LIFE)?;
    expect(cluster, "late", &Reply::from("v"))?;
    cluster.kill(&[DOWN])?;
    sleep_until(end);
    cluster.restart(&[DOWN])?;
    expect(cluster, "late", &Reply::Nil)?;
    println!("  a value that ended while node {DOWN} was down is gone there too");
    Ok(())
}

/// The node that was away holds an older value that never ends.
fn no_return_of_an_older_value(cluster: &Cluster<'_>) -> Result<()> {
    cluster.call(1, &["SET", "older", "old"])?;
    cluster.kill(&[DOWN])?;
    let end = set(cluster, "older", LIFE)?;
    sleep_until(end);
    cluster.restart(&[DOWN])?;
    cluster.await_connected(&[1, 2, 3], u64::from(NODES))?;
    // At the default level first: at ONE, the node answers from what it has until a read has repaired it.
    for node in [DOWN, 1, 2] {
        let reply = cluster.call(node, &["GET", "older"])?;
        ensure!(reply == Reply::Nil, "an older value came back on node {node}: {reply}");
    }
    expect(cluster, "older", &Reply::Nil)?;
    println!("  an older value without an end, left on node {DOWN}, does not come back");
    Ok(())
}

/// Returns when the value must be gone.
fn set(cluster: &Cluster<'_>, key: &str, life: Duration) -> Result<Instant> {
    let mut connection = cluster.redis(1)?;
    let ms = life.as_millis().to_string();
    let reply = connection.call(&["SET", key, "v", "PX", &ms])?;
    // Its life begins when the node gets it, so before now.
    let end = Instant::now() + life + MARGIN;
    ensure!(reply == Reply::Status("OK".to_owned()), "SET {key} v PX {ms}: {reply}");
    Ok(end)
}

/// What every node must say, from itself alone and from all.
fn expect(cluster: &Cluster<'_>, key: &str, expected: &Reply) -> Result<()> {
    for level in ["ONE", "QUORUM"] {
        for node in 1..=NODES {
            let mut connection = cluster.redis(node)?;
            connection.call(&["MOIM.LEVEL", "READ", level])?;
            let reply = connection.call(&["GET", key])?;
            ensure!(
                reply == *expected,
                "GET {key} at {level} on node {node}: {reply}, not {expected}"
            );
        }
    }
    Ok(())
}

fn sleep_until(moment: Instant) {
    thread::sleep(moment.saturating_duration_since(Instant::now()));
}
