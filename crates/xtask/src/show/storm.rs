//! Nodes are killed, paused and cut off in all combinations while clients write. What the simulator does with simulated
//! machines, on real processes, disks and sockets; what happened is in the output, and happens no second time.

use std::collections::BTreeMap;
use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::Result;

use super::Verdict;
use super::cluster::{Cluster, NODES};
use super::sessions::Sessions;
use super::stage::Stage;

const SESSIONS: u32 = 20_000;
const WRITERS: usize = 6;
const DISTURBANCES: usize = 40;
/// A node, and another that may be in trouble at the same time.
const PAIRS: [[u16; 2]; 3] = [[1, 2], [2, 3], [3, 1]];
/// How long each lasts at the most, and the calm after it, in milliseconds.
const MILLISECONDS_MAX: usize = 3_000;
/// Owed copies that could not be delivered are offered again within this time.
const CALM: Duration = Duration::from_secs(12);
/// Letters of an error that say what kind it is.
const KIND_LETTERS: usize = 60;

pub(super) fn play(stage: &Stage) -> Result<Verdict> {
    if !Stage::keeps() {
        return Ok(Verdict::NotBuilt("an engine that keeps".to_owned()));
    }
    let cluster = Cluster::start(stage)?;
    let sessions = Sessions::new("session", cluster.redis_ports(), SESSIONS);
    println!("  {WRITERS} clients write {SESSIONS} sessions of 2 KB at W=2, again and again");
    let mut dice = Dice::new()?;
    sessions.write_during(WRITERS, || {
        for _ in 0..DISTURBANCES {
            disturb(&cluster, &mut dice)?;
            sessions.send_home();
            thread::sleep(dice.time());
        }
        Ok(())
    })?;
    tell(&sessions);
    cluster.await_connected(&[1, 2, 3], u64::from(NODES))?;
    sessions.verify("2")?;
    println!("  every acknowledged write is there, through every node at R=2");
    thread::sleep(CALM);
    sessions.verify("1")?;
    println!("  and after {} s on every node alone", CALM.as_secs());
    Ok(Verdict::Shown)
}

fn disturb(cluster: &Cluster<'_>, dice: &mut Dice) -> Result<()> {
    let [one, other] = PAIRS[dice.below(PAIRS.len())];
    let time = dice.time();
    match dice.below(6) {
        0 => for_a_while(time, || cluster.kill(&[one]), || cluster.restart(&[one])),
        1 => for_a_while(time, || cluster.kill(&[one, other]), || cluster.restart(&[one, other])),
        2 => for_a_while(time, || cluster.kill(&[1, 2, 3]), || cluster.resume()),
        3 => for_a_while(time, || cluster.pause(one), || cluster.restart(&[one])),
        4 => for_a_while(time, || cluster.cut(one), || cluster.heal()),
        _ => for_a_while(
            time,
            || cluster.cut(one),
            || {
                for_a_while(time, || cluster.kill(&[other]), || cluster.restart(&[other]))?;
                cluster.heal()
            },
        ),
    }
}

fn for_a_while(
    time: Duration,
    begin: impl FnOnce() -> Result<()>,
    end: impl FnOnce() -> Result<()>,
) -> Result<()> {
    begin()?;
    thread::sleep(time);
    end()
}

fn tell(sessions: &Sessions) {
    let mishaps = sessions.seen();
    println!("  {} writes acknowledged, {} errors:", sessions.writes(), mishaps.len());
    let mut kinds = BTreeMap::<String, usize>::new();
    for mishap in mishaps {
        *kinds.entry(mishap.what.chars().take(KIND_LETTERS).collect()).or_default() += 1;
    }
    for (kind, count) in kinds {
        println!("    {count:>7} {kind}");
    }
    println!("  longest time without an acknowledgement: {} ms", sessions.pause_ms_max());
}

/// A linear congruential generator: quality does not matter here, a dependency would.
struct Dice(u64);

impl Dice {
    fn new() -> Result<Self> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH)?;
        Ok(Self(u64::from(now.subsec_nanos())))
    }

    fn below(&mut self, end: usize) -> usize {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(self.0 >> 33).expect("31 bits fit") % end
    }

    fn time(&mut self) -> Duration {
        Duration::from_millis(self.below(MILLISECONDS_MAX) as u64)
    }
}
