//! Gossip alone, at sizes that whole nodes do not reach in one thread: how long news takes, how long a death takes until
//! all agree, and what it costs.
//!
//! [`moim_node::gossip::Gossip`] is the code that ships. Left out are connections: who is dead is known to be silent
//! (its pings go unanswered after `silence_ms`), or lost at once, as the measurement wants it.

use std::collections::{BTreeMap, BTreeSet};

use moim_core::ring::Member;
use moim_core::{MachineId, NodeId};
use moim_node::gossip::word::{Heartbeat, Line};
use moim_node::gossip::{Gossip, Letter, Own, Reach};
use moim_node::membership::MemberInfo;
use moim_node::message::Message;
use moim_node::options::Options;
use moim_node::views::MemberState;
use moim_node::wire;

use crate::random::Random;

/// How often nodes look for silence, in milliseconds: their usual `ping_interval_ms`.
const LOOK_MS: u64 = 100;

/// Time for heartbeats to become regular, in milliseconds.
const WARM_UP_MS: u64 = 20_000;

/// Time over which traffic is measured, in milliseconds.
const TRAFFIC_MS: u64 = 5_000;

/// News is followed from so many members.
const ORIGINS: usize = 10;

/// Nothing takes longer than this, or it never ends, in milliseconds.
const PATIENCE_MS: u64 = 60_000;

/// How a member dies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Death {
    /// It is no longer heard; connections to it stay open.
    Silent,
    /// Its connections are reset.
    Reset,
}

/// What was measured at one size.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Measured {
    /// Members.
    pub nodes: usize,
    /// Milliseconds from a heartbeat until everybody had it: for each of several members, in order.
    pub spread_ms: Vec<u64>,
    /// Bytes that a node sends a second, frames included, on average.
    pub sent_bytes_per_second: u64,
    /// Suspicions while all lived: each of one member by one other, which is no verdict.
    pub false_suspicions: usize,
    /// Intervals between heartbeats that were judged until then, over all pairs.
    pub judged: u64,
    /// Verdicts while all lived: members that somebody held down.
    pub false_verdicts: usize,
    /// Milliseconds from a silent death until the first and until the last of the living held it down.
    pub silent_ms: (u64, u64),
    /// The same for a death that resets connections.
    pub reset_ms: (u64, u64),
}

/// Suspicions that a million judged intervals may bring while all live. Phi accrual promises no silence that is never
/// exceeded, only how rarely: a phi of 8 is once in 10^8 intervals of normal distribution, and what gossip relays has a
/// longer tail. A suspicion by one observer costs a message and is void at the next heartbeat; a verdict takes a second
/// machine that suspects the same heartbeat.
pub const SUSPICIONS_PER_MILLION: u64 = 1;

impl Measured {
    /// Whether the detector kept quiet while all lived: nobody was held down, and suspicions were as rare as is promised.
    pub fn is_quiet(&self) -> bool {
        let suspicions = self.false_suspicions as u64;
        self.false_verdicts == 0 && suspicions * 1_000_000 <= self.judged * SUSPICIONS_PER_MILLION
    }

    /// Rounds (periods) that news took on average, in thousandths.
    pub fn rounds_mean_milli(&self, period_ms: u32) -> u64 {
        let sum: u64 = self.spread_ms.iter().sum();
        sum * 1_000 / (self.spread_ms.len().max(1) as u64 * u64::from(period_ms))
    }

    /// Rounds (periods) that the slowest news took, in thousandths.
    pub fn rounds_max_milli(&self, period_ms: u32) -> u64 {
        self.spread_ms.last().copied().unwrap_or(0) * 1_000 / u64::from(period_ms)
    }
}

/// Measures a cluster of so many members.
pub fn measure(nodes: usize, seed: u64, options: &Options) -> Measured {
    let mut club = Club::new(nodes, seed, options);
    club.run(WARM_UP_MS);
    club.sent_bytes = 0;
    let spread_ms = club.spread();
    let measured_ms =
        club.run(TRAFFIC_MS.saturating_sub(spread_ms.iter().max().copied().unwrap_or(0))).max(1);
    let sent_bytes_per_second =
        club.sent_bytes * 1_000 / ((measured_ms - WARM_UP_MS) * nodes as u64);
    let (false_suspicions, false_verdicts) = (club.suspicions, club.held_down.len());
    let pairs = (nodes * (nodes - 1)) as u64;
    let judged = pairs * (club.now_ms / u64::from(options.gossip_period_ms));
    let silent_ms = club.die(nodes / 2, Death::Silent);
    let reset_ms = club.die(0, Death::Reset);
    Measured {
        nodes,
        spread_ms,
        sent_bytes_per_second,
        false_suspicions,
        judged,
        false_verdicts,
        silent_ms,
        reset_ms,
    }
}

/// Something that happens to a member.
#[derive(Debug)]
enum Event {
    Beat,
    Hear(Vec<Line>),
}

/// Members, and letters on their way.
struct Club<'a> {
    options: &'a Options,
    members: Vec<Gossip>,
    dead: BTreeMap<usize, (u64, Death)>,
    /// By time, in the order in which they were planned.
    events: BTreeMap<(u64, u64), (usize, Event)>,
    planned: u64,
    random: Random,
    now_ms: u64,
    looked_ms: u64,
    sent_bytes: u64,
    suspicions: usize,
    /// Members that somebody held down although they lived.
    held_down: BTreeSet<usize>,
}

fn id(index: usize) -> NodeId {
    NodeId(index as u64 + 1)
}

fn index(node: NodeId) -> usize {
    usize::try_from(node.0).unwrap_or(usize::MAX) - 1
}

fn info(index: usize) -> MemberInfo {
    let member = Member {
        node: id(index),
        machine: MachineId(index as u64),
        zone: String::new(),
        dc: String::new(),
        weight: 1,
    };
    // The record says the addresses; they travel only when they change.
    let none = String::new;
    MemberInfo {
        member,
        peer_address: none(),
        redis_address: none(),
        cluster_address: none(),
        http_address: none(),
    }
}

impl<'a> Club<'a> {
    fn new(nodes: usize, seed: u64, options: &'a Options) -> Self {
        let mut random = Random::new(seed).fork("gossip");
        let infos: Vec<_> = (0..nodes).map(info).collect();
        let member = |info: &MemberInfo| {
            let mut gossip = Gossip::new(info.clone(), 1, random.bits(), random.bits(), options);
            gossip.set_members(&infos, 0);
            gossip
        };
        let members = infos.iter().map(member).collect();
        let mut club = Self {
            options,
            members,
            dead: BTreeMap::new(),
            events: BTreeMap::new(),
            planned: 0,
            random,
            now_ms: 0,
            looked_ms: 0,
            sent_bytes: 0,
            suspicions: 0,
            held_down: BTreeSet::new(),
        };
        for node in 0..nodes {
            let at_ms = club.random.between(0, u64::from(options.gossip_period_ms) - 1);
            club.plan(at_ms, node, Event::Beat);
        }
        club
    }

    fn plan(&mut self, at_ms: u64, node: usize, event: Event) {
        self.planned += 1;
        self.events.insert((at_ms, self.planned), (node, event));
    }

    /// Lets so much time pass; answers what time it is then.
    fn run(&mut self, ms: u64) -> u64 {
        let end_ms = self.now_ms + ms;
        self.run_until(end_ms, |_| false);
        end_ms
    }

    /// Lets time pass until `done`, which is asked once a millisecond at the most and every [`LOOK_MS`] at least; answers
    /// whether it came to that.
    fn run_until(&mut self, end_ms: u64, mut done: impl FnMut(&Self) -> bool) -> bool {
        let mut asked_ms = None;
        while asked_ms == Some(self.now_ms) || !done(self) {
            asked_ms = Some(self.now_ms);
            let next_ms = self.events.first_key_value().map_or(u64::MAX, |(&(at_ms, _), _)| at_ms);
            let look_ms = self.looked_ms + LOOK_MS;
            if next_ms.min(look_ms) > end_ms {
                self.now_ms = end_ms;
                return false;
            }
            if look_ms <= next_ms {
                self.now_ms = look_ms;
                self.look();
            } else if let Some(((at_ms, _), (node, event))) = self.events.pop_first() {
                self.now_ms = at_ms;
                self.happen(node, event);
            }
        }
        true
    }

    fn happen(&mut self, node: usize, event: Event) {
        if self.dead.contains_key(&node) {
            return;
        }
        let now_ms = self.now_ms;
        match event {
            Event::Hear(lines) => {
                let news = self.members[node].hear(&lines, now_ms);
                assert!(!news.raised && news.moved.is_empty(), "nobody moves or is here twice");
                self.note_verdicts(node);
            }
            Event::Beat => {
                self.plan(now_ms + u64::from(self.options.gossip_period_ms), node, Event::Beat);
                let Self { members, dead, options, .. } = self;
                let reach = |peer| reach(dead, options, now_ms, peer);
                let letters = members[node].beat(Own::default(), now_ms, reach, options);
                self.post(letters);
            }
        }
    }

    /// Everybody looks for silence.
    fn look(&mut self) {
        self.looked_ms = self.now_ms;
        for node in 0..self.members.len() {
            if self.dead.contains_key(&node) {
                continue;
            }
            let Self { members, dead, options, now_ms, .. } = self;
            let reach = |peer| reach(dead, options, *now_ms, peer);
            let lost = dead.keys().map(|&dead| id(dead)).filter(|&peer| reach(peer) == Reach::Lost);
            let begun = members[node].judge(*now_ms, lost);
            if begun > 0 {
                let letters = members[node].report(Own::default(), reach, options);
                self.suspicions += begun;
                self.note_verdicts(node);
                self.post(letters);
            }
        }
    }

    /// Remembers whom a member holds down while all live. Verdicts change when a list is heard and when somebody begins to
    /// suspect, and only where there are suspicions.
    fn note_verdicts(&mut self, observer: usize) {
        if self.suspicions == 0 || !self.dead.is_empty() {
            return;
        }
        let Self { members, held_down, .. } = self;
        let is_down = |&other: &usize| members[observer].state(id(other)) == MemberState::Down;
        held_down.extend((0..members.len()).filter(is_down));
    }

    fn post(&mut self, letters: Vec<Letter>) {
        for Letter { to, lines } in letters {
            let mut frame = Vec::new();
            let message = Message::Gossip(lines);
            wire::encode(&message, &mut frame);
            self.sent_bytes += frame.len() as u64;
            let Message::Gossip(lines) = message else { unreachable!("just made") };
            let at_ms = self.now_ms + self.random.delay(1, 20);
            self.plan(at_ms, index(to), Event::Hear(lines));
        }
    }

    /// Follows the next heartbeat of several members until everybody has it: how long each took, in order.
    fn spread(&mut self) -> Vec<u64> {
        let began_ms = self.now_ms;
        let mut followed: BTreeMap<usize, (Heartbeat, Option<u64>)> = (0..ORIGINS
            .min(self.members.len()))
            .map(|nth| nth * self.members.len() / ORIGINS.min(self.members.len()))
            .map(|origin| (origin, (self.members[origin].heartbeat(), None)))
            .collect();
        let mut waiting: BTreeSet<usize> = followed.keys().copied().collect();
        let mut spread_ms = Vec::new();
        self.run_until(began_ms + PATIENCE_MS, |club| {
            for (&origin, (before, begun_ms)) in &mut followed {
                let now = club.members[origin].heartbeat();
                if begun_ms.is_none() && now > *before {
                    (*before, *begun_ms) = (now, Some(club.now_ms));
                }
            }
            waiting.retain(|origin| {
                let (heartbeat, Some(begun_ms)) = followed[origin] else { return true };
                let knows = |member: &Gossip| member.heartbeat_of(id(*origin)) >= Some(heartbeat);
                let others = club.members.iter().enumerate().filter(|(at, _)| at != origin);
                let all = others.into_iter().all(|(_, member)| knows(member));
                if all {
                    spread_ms.push(club.now_ms - begun_ms);
                }
                !all
            });
            waiting.is_empty()
        });
        spread_ms.sort_unstable();
        spread_ms
    }

    /// A member dies: how long until the first and the last of the others hold it down.
    fn die(&mut self, node: usize, death: Death) -> (u64, u64) {
        let died_ms = self.now_ms;
        self.dead.insert(node, (died_ms, death));
        let down = |club: &Self| {
            let living = (0..club.members.len()).filter(|other| !club.dead.contains_key(other));
            let states = living.map(|other| club.members[other].state(id(node)));
            states.fold((0_usize, 0_usize), |(down, all), state| {
                (down + usize::from(state == MemberState::Down), all + 1)
            })
        };
        self.run_until(died_ms + PATIENCE_MS, |club| down(club).0 > 0);
        let first_ms = self.now_ms - died_ms;
        self.run_until(died_ms + PATIENCE_MS, |club| {
            let (down, all) = down(club);
            down == all
        });
        (first_ms, self.now_ms - died_ms)
    }
}

fn reach(
    dead: &BTreeMap<usize, (u64, Death)>,
    options: &Options,
    now_ms: u64,
    peer: NodeId,
) -> Reach {
    let silence_ms = u64::from(options.silence_ms) + LOOK_MS;
    match dead.get(&index(peer)) {
        Some(&(at_ms, Death::Reset)) if now_ms > at_ms => Reach::Lost,
        Some(&(at_ms, Death::Silent)) if now_ms > at_ms + silence_ms => Reach::Doubtful,
        _ => Reach::Talking,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn news_reaches_everybody_in_about_log_n_rounds() {
        let options = Options::default();
        for nodes in [3, 30, 100] {
            let measured = measure(nodes, 1, &options);
            assert_eq!(measured.spread_ms.len(), nodes.min(ORIGINS), "{measured:?}");
            let bound_milli = 1_000 * u64::from(nodes.ilog2() + 1);
            assert!(
                measured.rounds_max_milli(options.gossip_period_ms) <= bound_milli,
                "{measured:?}"
            );
            assert_eq!(
                (measured.false_suspicions, measured.false_verdicts),
                (0, 0),
                "{measured:?}"
            );
            let patience_ms = 3_000 + 1_000 * u64::from(nodes.ilog2());
            assert!(measured.silent_ms.1 <= patience_ms, "{measured:?}");
            assert!(measured.reset_ms.1 <= patience_ms, "{measured:?}");
        }
    }

    #[test]
    fn a_seed_is_a_measurement() {
        let options = Options::default();
        assert_eq!(measure(20, 5, &options), measure(20, 5, &options));
    }
}
