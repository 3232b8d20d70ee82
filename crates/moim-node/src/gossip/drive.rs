//! The node's side of gossip: timers, messages, what is persisted of it, and what follows from news.

use bytes::Bytes;
use moim_core::NodeId;
use moim_storage::{Family, Write};

use super::word::Line;
use super::{Letter, Own, Reach};
use crate::gate::Outgoing;
use crate::keyspace;
use crate::membership::MemberInfo;
use crate::message::Message;
use crate::node::Node;
use crate::timer::Timer;
use crate::views::{MemberState, MemberView, PeerState};

impl Node {
    /// Raises the heartbeat, and tells a few.
    pub(crate) fn on_gossip_tick(&mut self) {
        let next = self.now.mono_ms + u64::from(self.options.gossip_period_ms);
        self.timers.set(next, Timer::Gossip);
        self.beat();
    }

    fn beat(&mut self) {
        if !self.speaks() {
            return;
        }
        let (own, now) = (self.own_word(), self.now.mono_ms);
        let Self { gossip, peers, options, .. } = self;
        let letters = gossip.beat(own, now, |node| reach(peers.state(node)), options);
        self.post(letters);
    }

    /// Looks for members whose silence has become suspicious, and reports them at once.
    pub(crate) fn judge_members(&mut self) {
        if !self.speaks() {
            return;
        }
        let Self { gossip, peers, now, .. } = self;
        let lost = peers.iter().filter(|(_, peer)| reach(peer.state()) == Reach::Lost);
        let begun = gossip.judge(now.mono_ms, lost.map(|(node, _)| node));
        if begun > 0 {
            self.figures.suspicions += begun as u64;
            let own = self.own_word();
            let Self { gossip, peers, options, .. } = self;
            let letters = gossip.report(own, |node| reach(peers.state(node)), options);
            self.post(letters);
        }
    }

    /// A peer says what it knows of all members.
    pub(crate) fn on_gossip(&mut self, from: NodeId, lines: &[Line]) {
        let known = self.record().is_some_and(|record| record.member(from).is_some());
        if !known {
            return;
        }
        self.figures.gossip_received += 1;
        let news = self.gossip.hear(lines, self.now.mono_ms);
        if news.raised {
            self.figures.rival_words += 1;
            self.keep_generation();
        }
        self.recalled(from);
        if !news.moved.is_empty() {
            self.members_moved(&news.moved);
        }
        if let Some(duplicate) = news.duplicate {
            self.halt(duplicate.to_string());
        }
    }

    /// A connection to a member stands, and it said who it is.
    pub(crate) fn greet(&mut self, info: &MemberInfo) {
        if self.gossip.meet(info) {
            self.members_moved(std::slice::from_ref(info));
        }
        if self.speaks() {
            let letters = self.gossip.greet(info.member.node, &self.options);
            self.post(letters);
        }
    }

    /// The server is stopping: whoever hears it in time need not find out by silence.
    pub(crate) fn on_stop(&mut self) {
        self.begin_parting();
        self.beat();
    }

    /// This node stood still for so long.
    pub(crate) fn paused(&mut self, gap_ms: u64) {
        self.figures.pauses += 1;
        self.peers.pause(gap_ms);
        self.gossip.pause(gap_ms, self.now.mono_ms);
    }

    /// Persists the generation; no word leaves under it before that is durable, or a restart could use it again.
    pub(crate) fn keep_generation(&mut self) {
        let generation = self.gossip.heartbeat().generation;
        let key = Bytes::from_static(keyspace::META_GENERATION);
        let value = Bytes::copy_from_slice(&generation.to_be_bytes());
        self.generation_batch = self.store.write(Write::Put { family: Family::Meta, key, value });
    }

    /// Members as gossip knows them, this node included.
    pub fn members(&self) -> Vec<MemberView> {
        self.gossip.views(self.now.mono_ms)
    }

    /// Nodes that clients may be sent to: this one first, then members that are neither down nor about to stop. Of those
    /// that were never heard, the ones that can be reached.
    pub fn present(&self) -> Vec<NodeId> {
        let own = self.info.member.node;
        let is_present = |&node: &NodeId| match self.gossip.state(node) {
            MemberState::Alive | MemberState::Suspect => true,
            MemberState::Unknown => self.peers.is_reachable(node),
            MemberState::Stopping | MemberState::Down => false,
        };
        let others = self.peers.iter().map(|(node, _)| node).filter(is_present);
        std::iter::once(own).chain(others).collect()
    }

    /// What members agree on of a node.
    pub fn member_state(&self, node: NodeId) -> MemberState {
        self.gossip.state(node)
    }

    /// A node that belongs to a cluster and serves has heartbeats; one that stopped serving is to be found silent.
    fn speaks(&self) -> bool {
        self.adopted && self.halted.is_none()
    }

    fn own_word(&self) -> Own {
        Own {
            floor: self.pending_floor(),
            durable: self.gate.durable(),
            load: u32::try_from(self.operations.len()).unwrap_or(u32::MAX),
            stopping: self.is_stopping(),
        }
    }

    fn post(&mut self, letters: Vec<Letter>) {
        for Letter { to, lines } in letters {
            self.figures.gossip_sent += 1;
            self.send(self.generation_batch, Outgoing::Peer(to, Message::Gossip(lines)));
        }
    }
}

/// The first generation of a run: above what the disk kept, and above that of runs whose disk was lost, if the clock is
/// right. If not, gossip raises it.
pub(crate) fn first_generation(stored: u64, wall_ms: u64) -> u64 {
    wall_ms.max(stored.saturating_add(1))
}

fn reach(state: PeerState) -> Reach {
    match state {
        PeerState::Up => Reach::Talking,
        PeerState::Silent | PeerState::Skipped => Reach::Doubtful,
        PeerState::Unreachable => Reach::Lost,
    }
}
