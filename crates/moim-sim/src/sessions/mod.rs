//! Sessions for hours: some are begun and as many end every second, many more are touched, and one replica is away for
//! twice their life. Nothing that ended comes back, and what ended costs nothing to repair: an expiry sends no message and
//! leaves no tombstone (REQ-42).
//!
//! What it is compared with is a store that makes a tombstone of each session that expired, as it has to where a deadline
//! is no part of what replicas compare: each pair of owners tells it once, at what the smallest such entry costs in our
//! own exchange ([`tombstone_bytes`]). What is counted against that is every byte about a session that has expired by
//! then: copies in exchanges, and copies that are sent more than two seconds after they were written.
//!
//! Sessions end in three ways: most are touched no more and expire; some are cut short, so that an older version with a
//! later deadline is on the replica that was away; some are deleted.

mod cluster;

use std::collections::BTreeMap;

use bytes::Bytes;
use moim_core::clock::{Actor, Dot, Epoch, Hlc};
use moim_core::object::{Content, Object, Version};
use moim_core::quorum::Level;
use moim_core::{NamespaceId, NodeId};
use moim_node::anti_entropy::{Ask, Terms};
use moim_node::api::{Action, Expiry, Outcome};
use moim_node::message::{Message, OpId};
use moim_node::{RequestId, wire};

use crate::random::Random;
use cluster::{Cluster, NODES};

pub use cluster::Repair;

/// How sessions are used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Load {
    /// Sessions that live at once, about.
    pub sessions: u64,
    /// Begun a second, and as many end.
    pub ended_per_second: u64,
    /// Touched a second: each is written anew with a later deadline.
    pub touched_per_second: u64,
    /// The life of a session after its last touch, in seconds.
    pub ttl_s: u64,
    /// Bytes of a session.
    pub value_bytes: usize,
}

/// The load of the requirement, for sessions of twenty minutes: with two lives before, two while one replica is away
/// and two after, it runs for two hours.
pub const FULL: Load = Load {
    sessions: 50_000,
    ended_per_second: 28,
    touched_per_second: 200,
    ttl_s: 1_200,
    value_bytes: 200,
};

/// What came of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Measured {
    /// Simulated time, in seconds.
    pub simulated_s: u64,
    /// Sessions that expired, and those of them that were cut short.
    pub expired: u64,
    /// Of these, cut short.
    pub shortened: u64,
    /// Sessions that were deleted.
    pub deleted: u64,
    /// Requests, and those that failed.
    pub requests: u64,
    /// Of these, failed.
    pub failed: u64,
    /// Reads that were judged.
    pub judged: u64,
    /// Sessions that were served after their end, in words.
    pub resurrected: Vec<String>,
    /// Sessions that were not served before their end, in words.
    pub lost: Vec<String>,
    /// Repair before the replica went, while it was away, and after it was back.
    pub repair: [Repair; 3],
    /// Sessions that ended in the same three parts.
    pub ended: [u64; 3],
    /// Entries on each disk at the end, and sessions that lived then.
    pub stored: Vec<usize>,
    /// Live at the end.
    pub live: u64,
}

impl Measured {
    /// What tombstones of the expired sessions would have cost, in bytes.
    pub fn tombstones_bytes(&self) -> u64 {
        let pairs = (NODES * (NODES - 1) / 2) as u64;
        self.expired * pairs * tombstone_bytes()
    }
}

/// What one tombstone costs in an exchange: the frame that carries it one way, without its answer.
pub fn tombstone_bytes() -> u64 {
    let actor = Actor { node: NodeId(1), epoch: Epoch { run: 1, serial: 0 } };
    let dot = Dot { actor, counter: 1 };
    let deleted = Version::of_value(Hlc::from_millis(1), dot, Bytes::new());
    let object = Object::Lww(Version { content: Content::Deleted, ..deleted }).encode();
    let terms = Terms {
        ring: 1,
        since: Hlc::ZERO,
        theirs: Hlc::ZERO,
        horizon_ms: 0,
        namespace: None,
        filled: true,
    };
    let ask = Ask::Object { namespace: NamespaceId(0), key: key(100_000), object };
    let mut frame = Vec::new();
    wire::encode(&Message::Exchange { op: OpId(1), terms, ask: Box::new(ask) }, &mut frame);
    frame.len() as u64
}

fn key(session: u64) -> Bytes {
    Bytes::from(format!("session:{session:010}"))
}

/// Sessions whose fate is judged are read so often, a second.
const READS_PER_SECOND: u64 = 20;

/// A session that is cut short lives so long, in milliseconds.
const SHORT_MS: u64 = 10_000;

/// What is known of a session.
#[derive(Clone, Copy, Debug, Default)]
struct Truth {
    /// It ends then, in Unix milliseconds; 0 if it was deleted.
    until_ms: u64,
    /// A write of it is under way.
    busy: bool,
    /// A write of it failed, so that nobody knows.
    unsure: bool,
    /// How it ended is in the sums.
    counted: bool,
}

/// A request under way.
#[derive(Clone, Copy, Debug)]
enum Asked {
    Write { session: u64, until_ms: u64 },
    Read { session: u64, at_ms: u64 },
}

/// Runs it.
pub fn measure(seed: u64, load: Load, mut progress: impl FnMut(u64, u64)) -> Measured {
    let mut town = Town::new(seed, load);
    let ttl_s = load.ttl_s;
    town.fill();
    let total_s = 6 * ttl_s;
    let (mut before, mut ended) = (Repair::default(), 0);
    for part in 0..3 {
        match part {
            1 => town.cluster.stop(NODES - 1),
            2 => town.cluster.start(NODES - 1),
            _ => {}
        }
        for second in 0..2 * ttl_s {
            town.second();
            progress(part as u64 * 2 * ttl_s + second + 1, total_s);
        }
        town.measured.repair[part] = town.cluster.repair.since(before);
        before = town.cluster.repair;
        town.count_ended();
        let all = town.measured.expired + town.measured.deleted;
        town.measured.ended[part] = all - ended;
        ended = all;
    }
    town.finish()
}

struct Town {
    load: Load,
    cluster: Cluster,
    random: Random,
    truth: BTreeMap<u64, Truth>,
    /// Sessions that somebody uses.
    active: Vec<u64>,
    /// Sessions that ended not long ago.
    gone: Vec<u64>,
    begun: u64,
    asked: BTreeMap<RequestId, Asked>,
    began_ms: u64,
    measured: Measured,
}

impl Town {
    fn new(seed: u64, load: Load) -> Self {
        let cluster = Cluster::new(seed, load.ttl_s * 1_000);
        let began_ms = cluster.wall_ms();
        Self {
            load,
            cluster,
            random: Random::new(seed).fork("town"),
            truth: BTreeMap::new(),
            active: Vec::new(),
            gone: Vec::new(),
            begun: 0,
            asked: BTreeMap::new(),
            began_ms,
            measured: Measured::default(),
        }
    }

    /// As many sessions as there are once as many end as begin: those in use, and those that nobody touches any more.
    fn fill(&mut self) {
        let idle = self.load.ended_per_second * self.load.ttl_s * IDLE_PERCENT / 100;
        let in_use = self.load.sessions.saturating_sub(idle).max(self.load.ended_per_second);
        while (self.active.len() as u64) < in_use {
            for _ in 0..20 {
                self.begin();
            }
            self.step();
        }
        for _ in 0..idle {
            let life_ms = self.random.between(1_000, self.load.ttl_s * 1_000);
            self.begun += 1;
            self.put(self.begun, life_ms);
            if self.begun.is_multiple_of(20) {
                self.step();
            }
        }
    }

    fn begin(&mut self) {
        self.begun += 1;
        self.active.push(self.begun);
        self.put(self.begun, self.load.ttl_s * 1_000);
    }

    fn put(&mut self, session: u64, life_ms: u64) {
        let until_ms = self.cluster.wall_ms() + life_ms;
        let value = Bytes::from(vec![b's'; self.load.value_bytes]);
        let action =
            Action::Put { value: value.into(), expiry: Expiry::At(until_ms), context: None };
        self.write(session, until_ms, action);
    }

    fn write(&mut self, session: u64, until_ms: u64, action: Action) {
        let now_ms = self.cluster.wall_ms();
        let truth = self.truth.entry(session).or_default();
        if truth.busy {
            return;
        }
        if truth.until_ms != 0 && truth.until_ms <= now_ms && !truth.counted {
            self.measured.expired += 1;
        }
        *truth = Truth { busy: true, counted: false, ..*truth };
        self.measured.requests += 1;
        let id = self.cluster.ask(key(session), action, None);
        self.asked.insert(id, Asked::Write { session, until_ms });
    }

    /// One second of everything, spread over its steps.
    fn second(&mut self) {
        const STEPS: u64 = 100;
        let share = |of: u64, step: u64| (of * (step + 1)) / STEPS - (of * step) / STEPS;
        for step in 0..STEPS {
            for _ in 0..share(self.load.ended_per_second, step) {
                self.begin();
                self.end_one();
            }
            for _ in 0..share(self.load.touched_per_second, step) {
                let session = *self.random.pick(&self.active);
                self.put(session, self.load.ttl_s * 1_000);
            }
            for _ in 0..share(READS_PER_SECOND, step) {
                let of = if self.random.chance(500) { &self.active } else { &self.gone };
                if !of.is_empty() {
                    let session = *self.random.pick(of);
                    self.read(session, None);
                }
            }
            self.step();
        }
        self.measured.simulated_s += 1;
    }

    fn end_one(&mut self) {
        let at = self.random.index(self.active.len());
        let session = self.active.swap_remove(at);
        self.gone.push(session);
        match self.random.between(0, 99) {
            0..=79 => {}
            80..=89 => {
                self.measured.shortened += 1;
                self.put(session, SHORT_MS);
            }
            _ => {
                self.measured.deleted += 1;
                self.write(session, 0, Action::Delete { context: None });
            }
        }
    }

    fn read(&mut self, session: u64, r: Option<Level>) {
        if self.truth.get(&session).is_none_or(|truth| truth.busy || truth.unsure) {
            return;
        }
        self.measured.requests += 1;
        let at_ms = self.cluster.wall_ms();
        let id = self.cluster.ask(key(session), Action::Get, r);
        self.asked.insert(id, Asked::Read { session, at_ms });
    }

    fn step(&mut self) {
        self.cluster.step();
        for (id, outcome) in std::mem::take(&mut self.cluster.answers) {
            match self.asked.remove(&id) {
                Some(Asked::Write { session, until_ms }) => self.wrote(session, until_ms, &outcome),
                Some(Asked::Read { session, at_ms }) => self.judge(session, at_ms, &outcome),
                None => {}
            }
        }
        if self.cluster.wall_ms().is_multiple_of(60_000) {
            // What a client never hears of is forgotten with the node that it asked.
            let kept = self.gone.len().saturating_sub(50_000);
            self.gone.drain(..kept);
        }
    }

    fn wrote(&mut self, session: u64, until_ms: u64, outcome: &Outcome) {
        let truth = self.truth.entry(session).or_default();
        truth.busy = false;
        if matches!(outcome, Outcome::Written { .. }) {
            truth.until_ms = until_ms;
            truth.unsure = false;
        } else {
            truth.unsure = true;
            self.measured.failed += 1;
        }
    }

    /// What a read says, against what is known: nothing is judged that a write overlapped, or that ended meanwhile.
    fn judge(&mut self, session: u64, asked_ms: u64, outcome: &Outcome) {
        let Some(truth) = self.truth.get(&session) else { return };
        let Outcome::Found(found) = outcome else {
            self.measured.failed += 1;
            return;
        };
        let now_ms = self.cluster.wall_ms();
        let (was_gone, is_live) = (truth.until_ms <= asked_ms, truth.until_ms > now_ms);
        if truth.busy || truth.unsure || !(was_gone || is_live) {
            return;
        }
        self.measured.judged += 1;
        let served = !found.versions.is_empty();
        let what = || format!("session {session} until {} read at {now_ms}", truth.until_ms);
        match (was_gone, served) {
            (true, true) => self.measured.resurrected.push(what()),
            (false, false) => self.measured.lost.push(what()),
            _ => {}
        }
    }

    /// Counts the sessions that have expired since.
    fn count_ended(&mut self) {
        let now_ms = self.cluster.wall_ms();
        for truth in self.truth.values_mut() {
            if truth.until_ms != 0 && truth.until_ms <= now_ms && !truth.counted {
                truth.counted = true;
                self.measured.expired += 1;
            }
        }
    }

    /// Looks at every session once more, at one replica: wherever it is asked, it is as it should be.
    fn finish(mut self) -> Measured {
        let sessions: Vec<_> = self.truth.keys().copied().collect();
        for (at, session) in sessions.into_iter().enumerate() {
            self.read(session, Some(Level::Count(1)));
            if at.is_multiple_of(20) {
                self.step();
            }
        }
        for _ in 0..200 {
            self.step();
        }
        let now_ms = self.cluster.wall_ms();
        let live = |truth: &&Truth| truth.until_ms > now_ms;
        self.measured.live = self.truth.values().filter(live).count() as u64;
        self.measured.stored = (0..NODES).map(|node| self.cluster.stored(node)).collect();
        self.measured.simulated_s = (now_ms - self.began_ms) / 1_000;
        self.measured
    }
}

/// Of those that end, so many stay until they expire by themselves.
const IDLE_PERCENT: u64 = 80;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_expires_stays_away_and_costs_next_to_nothing() {
        let load = Load {
            sessions: 900,
            ended_per_second: 2,
            touched_per_second: 6,
            ttl_s: 240,
            value_bytes: 50,
        };
        let measured = measure(1, load, |_, _| {});
        assert_eq!(measured.resurrected, Vec::<String>::new());
        assert_eq!(measured.lost, Vec::<String>::new());
        assert!(measured.expired > 1_000 && measured.judged > 5_000, "{measured:?}");
        let expired_bytes: u64 = measured.repair.iter().map(|of| of.expired_bytes).sum();
        // Copies that outlive every clock's doubt about their deadline are sent: with such short lives that shows.
        assert!(expired_bytes * 50 < measured.tombstones_bytes(), "{measured:?}");
    }
}
