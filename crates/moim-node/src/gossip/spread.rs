//! Whom to tell what: a few peers at random, what has grown lately, in messages of bounded size.

use moim_core::NodeId;

use super::word::{Line, Suspicion};
use super::{Gossip, Own, Reach};
use crate::options::Options;
use crate::views::MemberState;

/// Lines of members that have not grown for long, in each list: so that whoever missed them learns of them at last.
const OLD_LINES: usize = 4;

/// Profiles that are not new, in each list.
const OLD_PROFILES: usize = 2;

/// One in so many heartbeats also goes to a member that does not answer or is believed dead.
const DEAD_ONE_IN: usize = 4;

/// About so many of all members greet one that connects with their whole list; the others say only what concerns it.
const FULL_GREETINGS: usize = 8;

/// A list for a peer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Letter {
    /// For whom.
    pub to: NodeId,
    /// What is said.
    pub lines: Vec<Line>,
}

impl Gossip {
    /// Raises the own heartbeat and tells a few.
    pub fn beat(
        &mut self,
        own: Own,
        mono_ms: u64,
        reach: impl Fn(NodeId) -> Reach,
        options: &Options,
    ) -> Vec<Letter> {
        self.speak(own, options);
        let targets = self.targets(&reach, options);
        if targets.is_empty() {
            return Vec::new();
        }
        let lines = self.fresh_lines(mono_ms, options);
        targets.into_iter().flat_map(|to| letters(to, &lines, options)).collect()
    }

    /// Raises the own heartbeat at once, because this node suspects somebody anew, and tells a few just that.
    pub fn report(
        &mut self,
        own: Own,
        reach: impl Fn(NodeId) -> Reach,
        options: &Options,
    ) -> Vec<Letter> {
        self.speak(own, options);
        let reported = self.word.suspects.iter().filter_map(|suspicion| {
            self.members.get(&suspicion.member).map(|member| member.line(false))
        });
        let lines: Vec<_> = std::iter::once(self.own_line(false)).chain(reported).collect();
        let targets = self.targets(&reach, options);
        targets.into_iter().flat_map(|to| letters(to, &lines, options)).collect()
    }

    /// What a peer that connects is told: who this node is, what it remembers of the peer itself, and if chance will
    /// have it, everything.
    pub fn greet(&mut self, to: NodeId, options: &Options) -> Vec<Letter> {
        let everything = self.chance.below(self.members.len().max(1)) < FULL_GREETINGS;
        let mut lines = vec![self.own_line(true)];
        let others = self.members.iter().filter(|&(&node, _)| node == to || everything);
        let heard = others.filter(|(_, member)| member.word.heartbeat.generation > 0);
        lines.extend(heard.map(|(_, member)| member.line(member.profile_generation > 0)));
        trim_profiles(&mut lines, options.gossip_profiles_max);
        letters(to, &lines, options)
    }

    /// The next word of this node.
    fn speak(&mut self, own: Own, options: &Options) {
        self.word.heartbeat.counter = self.word.heartbeat.counter.saturating_add(1);
        self.word.floor = own.floor;
        self.word.load = own.load;
        self.word.stopping = own.stopping;
        self.durable = own.durable;
        self.word.suspects = self.suspects(options.gossip_suspects_max);
        self.profile_news = self.profile_news.saturating_sub(1);
        for member in self.members.values_mut() {
            member.profile_news = member.profile_news.saturating_sub(1);
        }
        self.rotation = self.rotation.wrapping_add(1);
    }

    /// Whom this node suspects. Beyond the limit those go first on whom there is no verdict yet, the others by turns;
    /// and every reporter leaves out different ones, so that two are found for each.
    fn suspects(&self, limit: usize) -> Vec<Suspicion> {
        let suspected = self.members.values().filter(|member| member.suspected);
        let own = self.info.member.node.0;
        let mut ranked: Vec<_> = suspected
            .map(|member| {
                let turn = if member.down { self.word.heartbeat.counter } else { 0 };
                let node = member.info.member.node.0;
                let mut text = [0; 24];
                for (part, number) in text.chunks_exact_mut(8).zip([own, node, turn]) {
                    part.copy_from_slice(&number.to_be_bytes());
                }
                (member.down, moim_core::fingerprint(&text), member.suspicion())
            })
            .collect();
        ranked.sort_unstable();
        ranked.truncate(limit);
        ranked.into_iter().map(|(_, _, suspicion)| suspicion).collect()
    }

    /// The next living member in the order of ids, peers drawn for this round, and now and then a dead one. The first
    /// makes sure that everybody is told something every period: if all were drawn, one in twenty would hear nothing for
    /// a period and some for several, and silence would say little.
    fn targets(&mut self, reach: &impl Fn(NodeId) -> Reach, options: &Options) -> Vec<NodeId> {
        let (mut living, mut dead) = (Vec::new(), Vec::new());
        for (&node, member) in &self.members {
            match reach(node) {
                Reach::Talking if member.state != MemberState::Down => living.push(node),
                Reach::Talking | Reach::Doubtful => dead.push(node),
                Reach::Lost => {}
            }
        }
        let own = self.info.member.node;
        let mut targets = Vec::with_capacity(options.gossip_fanout + 1);
        if !living.is_empty() {
            let next = living.partition_point(|&node| node < own) % living.len();
            targets.push(living.remove(next));
        }
        let drawn = options.gossip_fanout.saturating_sub(1);
        targets.extend(self.chance.draw(&mut living, drawn));
        if targets.is_empty() || self.chance.below(DEAD_ONE_IN) == 0 {
            targets.extend(self.chance.draw(&mut dead, 1));
        }
        targets
    }

    /// This node's line and those that grew while they were news, and by turns a few of the others.
    fn fresh_lines(&self, mono_ms: u64, options: &Options) -> Vec<Line> {
        let news_ms = u64::from(self.news_rounds()) * u64::from(options.gossip_period_ms);
        let is_fresh = |grown_mono_ms: u64| mono_ms.saturating_sub(grown_mono_ms) <= news_ms;
        let heard = || self.members.values().filter(|m| m.word.heartbeat.generation > 0);
        let mut lines = vec![self.own_line(self.profile_news > 0)];
        let fresh = heard().filter(|member| is_fresh(member.grown_mono_ms));
        lines.extend(fresh.map(|member| member.line(member.profile_news > 0)));
        trim_profiles(&mut lines, options.gossip_profiles_max);
        let old: Vec<_> = heard().filter(|member| !is_fresh(member.grown_mono_ms)).collect();
        lines.extend(by_turns(&old, self.rotation, OLD_LINES).map(|member| member.line(true)));
        let moved: Vec<_> = heard().filter(|member| member.profile_generation > 0).collect();
        let profiles = by_turns(&moved, self.rotation, OLD_PROFILES);
        lines.extend(profiles.map(|member| member.line(true)));
        lines
    }

    fn own_line(&self, with_profile: bool) -> Line {
        Line {
            member: self.info.member.node,
            word: self.word.clone(),
            durable: self.durable,
            profile: with_profile.then(|| Box::new(self.info.clone())),
        }
    }
}

/// `count` of these, going round.
fn by_turns<T>(all: &[T], turn: usize, count: usize) -> impl Iterator<Item = &T> {
    let start = turn.wrapping_mul(count) % all.len().max(1);
    all.iter().cycle().skip(start).take(count.min(all.len()))
}

/// Leaves profiles out beyond a limit; they come by turns later.
fn trim_profiles(lines: &mut [Line], limit: usize) {
    for line in lines.iter_mut().filter(|line| line.profile.is_some()).skip(limit) {
        line.profile = None;
    }
}

/// One list in as many messages as the bound on their bytes makes of it. A message has at least one line.
fn letters(to: NodeId, lines: &[Line], options: &Options) -> Vec<Letter> {
    let mut letters: Vec<Letter> = Vec::new();
    let mut bytes = usize::MAX;
    for line in lines {
        bytes = bytes.saturating_add(line.bytes());
        if bytes > options.gossip_message_bytes_max {
            bytes = line.bytes();
            letters.push(Letter { to, lines: Vec::new() });
        }
        letters.last_mut().expect("the first line begins a message").lines.push(line.clone());
    }
    letters
}
