//! Who lives, as members agree: heartbeats that everybody passes on, and verdicts that two must share.
//!
//! Every member raises a heartbeat counter each `gossip_period_ms` and sends its list of all members' latest words to
//! `gossip_fanout` peers drawn at random, sometimes to one that it believes dead; a peer that connects is greeted with a
//! list, so that healed partitions find each other (Demers et al., 1987; van Renesse, Minsky and Hayden, 1998). A
//! member whose counter stops growing becomes suspect here by [`phi`] accrual. Its suspicions are part of a member's own
//! word, so that a report travels, ages and dies with the heartbeat of its reporter.
//!
//! Invariants: lists are joined member by member, in any order and number (INV-4); only a member raises its own words; a
//! suspicion names one heartbeat and is void at the next; *down* takes two live reporters on distinct machines that
//! suspect the same heartbeat (one, when no other witness lives) and stays until that heartbeat is outdone; the node's
//! own pauses are taken out of every silence and freeze verdicts for a period; down never moves ownership. Messages are
//! bounded: in bytes, in suspicions, in profiles (INV-8).
//!
//! Left out: dialing (the server dials every member that is not connected for as long as it takes, and that is how dead
//! members and seeds are met again), and whom to skip right now, which is local and quicker (`peers`).
//!
//! | module | concept |
//! |---|---|
//! | [`word`] | what is said of a member |
//! | `member` | what is known of one |
//! | [`phi`] | when silence is suspicious |
//! | `spread` | whom to tell what |
//! | `verdict` | suspicion, reporters, down |
//! | `rival` | two live processes with one id |
//! | `drive` | the node's timers and messages |

mod chance;
mod drive;
mod member;
pub mod phi;
mod rival;
mod spread;
mod verdict;
pub mod word;

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

use moim_core::NodeId;
use moim_core::clock::Hlc;

use self::chance::Chance;
use self::member::Member;
use self::phi::Thresholds;
use self::rival::Rival;
use self::word::{Heartbeat, Line, Word};
use crate::api::BatchId;
use crate::membership::MemberInfo;
use crate::options::{Mutation, Options};

pub(crate) use self::drive::first_generation;
pub use self::rival::Duplicate;
pub use self::spread::Letter;

/// Each hop that news travels adds this part of a period to the smallest deviation that phi reckons with. Measured: with
/// less, one heartbeat in some ten thousand is late enough for a suspicion.
const SPREAD_PER_PERIOD: u32 = 10;

/// How a member can be reached from here, which is local knowledge.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach {
    /// Connected and talking.
    Talking,
    /// Connected, but it does not answer.
    Doubtful,
    /// Not connected.
    Lost,
}

/// What a node puts into its next word.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Own {
    /// It will send nothing stamped earlier than this.
    pub floor: Hlc,
    /// Its highest durable batch.
    pub durable: BatchId,
    /// Requests that it coordinates now.
    pub load: u32,
    /// It takes no new requests.
    pub stopping: bool,
}

/// What hearing a list changed beyond the list.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct News {
    /// Members that are at other addresses than before.
    pub moved: Vec<MemberInfo>,
    /// The own generation had to be raised: keep it before the next word leaves.
    pub raised: bool,
    /// Another process lives under this node's id, and this one has to give way.
    pub duplicate: Option<Duplicate>,
}

/// One node's view of all members.
#[derive(Debug)]
pub struct Gossip {
    info: MemberInfo,
    /// The generation with which this run began.
    first_generation: u64,
    word: Word,
    durable: BatchId,
    /// What others remember of this node's durable batches beyond what this run had said itself when it heard it.
    heard_durable: Option<BatchId>,
    profile_news: u32,
    rival: Option<Rival>,
    /// All other members.
    members: BTreeMap<NodeId, Member>,
    /// Members that this node suspects, and those whose words suspect somebody: without them nobody's state depends on
    /// what another says, and who lives is all that has to be looked at.
    doubts: BTreeSet<NodeId>,
    /// Nobody who is connected and not suspected yet becomes suspicious before this moment.
    quiet_until_mono_ms: u64,
    thresholds: Thresholds,
    fanout: usize,
    chance: Chance,
    /// Where the rotation of old words and profiles stands.
    rotation: usize,
    /// No verdicts: this node stood still a moment ago.
    is_frozen: bool,
    frozen_until_mono_ms: u64,
    /// Switched on by the simulator only: one reporter is enough, at whatever heartbeat.
    is_credulous: bool,
}

impl Gossip {
    /// Knows nobody. `generation` is larger than that of any earlier run; `run` is random, `seed` decides chance.
    pub fn new(info: MemberInfo, generation: u64, run: u64, seed: u64, options: &Options) -> Self {
        let [a, b, c, d, ..] = run.to_be_bytes();
        let word = Word {
            heartbeat: Heartbeat { generation: generation.max(1), counter: 0 },
            run: u32::from_be_bytes([a, b, c, d]),
            ..Word::default()
        };
        Self {
            info,
            first_generation: word.heartbeat.generation,
            word,
            durable: BatchId::default(),
            heard_durable: None,
            profile_news: 0,
            rival: None,
            members: BTreeMap::new(),
            doubts: BTreeSet::new(),
            quiet_until_mono_ms: 0,
            thresholds: Thresholds::new(
                options.gossip_period_ms,
                options.suspicion_deviation_min_ms,
                options.suspicion_phi,
                options.suspicion_phi_lost,
            ),
            fanout: options.gossip_fanout.max(1),
            chance: Chance::new(seed),
            rotation: 0,
            is_frozen: false,
            frozen_until_mono_ms: 0,
            is_credulous: options.mutation == Some(Mutation::OneReporter),
        }
    }

    /// What the disk kept of earlier runs is durable before the first word is spoken.
    #[must_use]
    pub fn with_durable(mut self, durable: BatchId) -> Self {
        self.durable = durable;
        self
    }

    /// These are the members from now on, as the record has them; the own one may be among them.
    pub fn set_members(&mut self, members: &[MemberInfo], mono_ms: u64) {
        let own = self.info.member.node;
        self.members.retain(|node, _| members.iter().any(|info| info.member.node == *node));
        self.doubts.retain(|node| self.members.contains_key(node));
        for info in members.iter().filter(|info| info.member.node != own) {
            let member = || Member::new(info, &self.thresholds, mono_ms);
            self.members.entry(info.member.node).or_insert_with(member);
        }
        self.profile_news = self.news_rounds();
        // Over more hops heartbeats come less regularly, and silence says less.
        let hops = self.members.len().max(1).ilog(self.fanout + 1);
        self.thresholds.spread_ms = hops * self.thresholds.period_ms / SPREAD_PER_PERIOD;
        self.quiet_until_mono_ms = 0;
        self.assess(mono_ms);
    }

    /// Joins a list that a peer sent.
    pub fn hear(&mut self, lines: &[Line], mono_ms: u64) -> News {
        let mut news = News::default();
        let rounds = self.news_rounds();
        let was_calm = self.doubts.is_empty();
        for line in lines {
            if line.member == self.info.member.node {
                self.hear_of_self(line, &mut news);
                continue;
            }
            // Whoever is no member of this node's record is not spoken of.
            let Some(member) = self.members.get_mut(&line.member) else { continue };
            member.join(line, &self.thresholds, mono_ms);
            self.quiet_until_mono_ms = self.quiet_until_mono_ms.min(member.suspicious_mono_ms());
            if member.is_doubtful() {
                self.doubts.insert(line.member);
            } else {
                self.doubts.remove(&line.member);
            }
            if was_calm {
                member.settle(0, mono_ms);
            }
            let generation = line.word.heartbeat.generation;
            if let Some(info) = line.profile.as_deref().filter(|info| fits(line.member, info))
                && member.take_profile(info, generation, rounds)
            {
                news.moved.push(info.clone());
            }
        }
        // Assessing everybody is what hearing a list would cost most, with a thousand members.
        if !was_calm || !self.doubts.is_empty() {
            self.assess(mono_ms);
        }
        news
    }

    /// A member said hello itself: what it says of itself is true now. Answers whether it is at other addresses.
    pub fn meet(&mut self, info: &MemberInfo) -> bool {
        let rounds = self.news_rounds();
        let Some(member) = self.members.get_mut(&info.member.node) else { return false };
        let generation = member.word.heartbeat.generation;
        let moved = !member::same_addresses(&member.info, info);
        if member.info != *info {
            member.info = info.clone();
            member.profile_generation = generation.max(1);
            member.profile_news = rounds;
        }
        moved
    }

    /// This node stood still for so long (a stopped process, a suspended machine): nobody else was silent because of
    /// it, and until its inbox has been read nobody is judged.
    pub fn pause(&mut self, gap_ms: u64, mono_ms: u64) {
        for member in self.members.values_mut() {
            member.grown_mono_ms = (member.grown_mono_ms + gap_ms).min(mono_ms);
        }
        self.is_frozen = true;
        self.frozen_until_mono_ms = mono_ms + u64::from(self.thresholds.period_ms);
    }

    /// The own heartbeat as it was last spoken.
    pub fn heartbeat(&self) -> Heartbeat {
        self.word.heartbeat
    }

    /// The latest heartbeat of a member that has reached this node.
    pub fn heartbeat_of(&self, node: NodeId) -> Option<Heartbeat> {
        self.members.get(&node).map(|member| member.word.heartbeat)
    }

    /// Nothing stamped earlier than this is still to be sent by any of these members, as far as they have said. The
    /// last word of a member that is down counts; one that was never heard makes it zero.
    pub fn floor(&self, members: impl IntoIterator<Item = NodeId>) -> Hlc {
        let floor = |node: NodeId| match self.members.get(&node) {
            Some(member) => member.word.floor,
            None if node == self.info.member.node => self.word.floor,
            None => Hlc::default(),
        };
        members.into_iter().map(floor).min().unwrap_or_default()
    }

    /// The highest batch of a node that anybody heard it call durable, in this or an earlier generation. Asked for this
    /// node itself: what others remember beyond all that this run had called durable when it heard of it. So anything
    /// but `None` means that its disk has lost batches that it had acknowledged.
    pub fn heard_durable(&self, node: NodeId) -> Option<BatchId> {
        if node == self.info.member.node {
            return self.heard_durable;
        }
        self.members.get(&node).and_then(|member| member.durable)
    }

    /// For how many heartbeats something new is passed on: enough that by then everybody has it.
    fn news_rounds(&self) -> u32 {
        2 * (self.members.len() + 1).ilog2() + 4
    }
}

/// A profile is the member's own, and its id, machine and weight are such as a ring has.
fn fits(node: NodeId, info: &MemberInfo) -> bool {
    info.member.node == node
}
