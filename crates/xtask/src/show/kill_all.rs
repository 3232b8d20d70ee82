//! All nodes are killed at once while clients write, and come back.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::Result;

use super::Verdict;
use super::cluster::{Cluster, NODES};
use super::sessions::Sessions;
use super::stage::Stage;

const SESSIONS: u32 = 30_000;
const WRITERS: usize = 6;
const WRITING: Duration = Duration::from_mins(5);
/// How often they are killed.
const ROUNDS: u64 = 3;

pub(super) fn play(stage: &Stage) -> Result<Verdict> {
    if !Stage::keeps() {
        return Ok(Verdict::NotBuilt("an engine that keeps".to_owned()));
    }
    let cluster = Cluster::start(stage)?;
    let sessions = Sessions::new("session", cluster.redis_ports(), SESSIONS);
    println!("  {WRITERS} clients write {SESSIONS} sessions of 2 KB at W=2 through all nodes");
    sessions.write_during(WRITERS, || {
        (1..=ROUNDS).try_for_each(|round| black_out(&cluster, &sessions, round))
    })?;
    println!("  {} writes acknowledged in all; reading all sessions back", sessions.writes());
    sessions.verify("2")?;
    println!("  every acknowledged write is there");
    Ok(Verdict::Shown)
}

fn black_out(cluster: &Cluster<'_>, sessions: &Sessions, round: u64) -> Result<()> {
    let all: Vec<u16> = (1..=NODES).collect();
    // Writes already acknowledged in this round: the kill must meet clients that are busy.
    sessions.await_writes(sessions.writes() + u64::from(SESSIONS) / 4, WRITING)?;
    println!("  round {round}: {} writes are acknowledged; now all are killed", sessions.writes());
    cluster.kill(&all)?;
    thread::sleep(Duration::from_millis(500));
    let back = Instant::now();
    cluster.resume()?;
    println!("  they serve again after {:.1} s", back.elapsed().as_secs_f64());
    Ok(())
}
