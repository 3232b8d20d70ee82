//! Who can be reached, as seen from here. Local and quick; nothing moves because of it, it only decides whom to ask
//! first and whom to skip. What members agree on, more slowly, is the business of `gossip`.
//!
//! A peer is skipped when its connection closes, when a ping has gone unanswered for `silence_ms`, or when several
//! requests in a row had no answer; whatever it says brings it back, and a ping asks for a word whenever it is silent.

use std::collections::BTreeMap;

use moim_core::{MachineId, NodeId};
use smallvec::SmallVec;

use crate::membership::{Hello, MemberInfo};
use crate::options::Options;
use crate::views::PeerState;

/// One peer as seen from here.
#[derive(Debug)]
pub(crate) struct Peer {
    pub(crate) info: MemberInfo,
    connected: bool,
    heard_mono_ms: u64,
    /// When the first ping went out that has not been answered.
    pinged_mono_ms: Option<u64>,
    missed: u32,
    /// It has said goodbye on this connection.
    leaving: bool,
    state: PeerState,
    pub(crate) since_mono_ms: u64,
}

/// Peers that something is said to in one turn, as many as it takes to be worth knowing.
#[derive(Debug, Default)]
pub(crate) struct Addressed(SmallVec<[NodeId; ADDRESSED_MAX]>);

const ADDRESSED_MAX: usize = 16;

impl Addressed {
    pub(crate) fn note(&mut self, peer: NodeId) {
        if self.0.len() < ADDRESSED_MAX && !self.has(peer) {
            self.0.push(peer);
        }
    }

    pub(crate) fn has(&self, peer: NodeId) -> bool {
        self.0.contains(&peer)
    }

    pub(crate) fn clear(&mut self) {
        self.0.clear();
    }
}

/// All peers: members of the record, and before there is one, whoever was met.
#[derive(Debug, Default)]
pub(crate) struct Peers {
    by_id: BTreeMap<NodeId, Peer>,
}

impl Peers {
    /// Learns of a member without having met it.
    pub(crate) fn know(&mut self, info: &MemberInfo, mono_ms: u64) {
        self.by_id.entry(info.member.node).or_insert_with(|| Peer {
            info: info.clone(),
            connected: false,
            heard_mono_ms: mono_ms,
            pinged_mono_ms: None,
            missed: 0,
            leaving: false,
            state: PeerState::Unreachable,
            since_mono_ms: mono_ms,
        });
    }

    /// A connection stands.
    pub(crate) fn up(&mut self, hello: &Hello, mono_ms: u64, options: &Options) {
        let info = &hello.info;
        self.know(info, mono_ms);
        if let Some(peer) = self.by_id.get_mut(&info.member.node) {
            peer.info = info.clone();
            peer.connected = true;
            peer.heard_mono_ms = mono_ms;
            peer.pinged_mono_ms = None;
            peer.missed = 0;
            peer.leaving = false;
            peer.judge(mono_ms, options);
        }
    }

    /// It stops, and takes nothing more.
    pub(crate) fn leaves(&mut self, node: NodeId) {
        if let Some(peer) = self.by_id.get_mut(&node) {
            peer.leaving = true;
        }
    }

    /// The connection is gone.
    pub(crate) fn down(&mut self, node: NodeId, mono_ms: u64, options: &Options) {
        if let Some(peer) = self.by_id.get_mut(&node) {
            peer.connected = false;
            peer.judge(mono_ms, options);
        }
    }

    /// It said something. Returns whether it had been skipped until now.
    pub(crate) fn heard(&mut self, node: NodeId, mono_ms: u64, options: &Options) -> bool {
        let Some(peer) = self.by_id.get_mut(&node) else { return false };
        let skipped = matches!(peer.state, PeerState::Silent | PeerState::Skipped);
        peer.heard_mono_ms = mono_ms;
        peer.pinged_mono_ms = None;
        peer.missed = 0;
        peer.judge(mono_ms, options);
        skipped
    }

    /// A request to it had no answer in time.
    pub(crate) fn missed(&mut self, node: NodeId, mono_ms: u64, options: &Options) {
        if let Some(peer) = self.by_id.get_mut(&node) {
            peer.missed = peer.missed.saturating_add(1);
            peer.judge(mono_ms, options);
        }
    }

    /// Judges everybody's silence anew and returns the connected peers to ping.
    pub(crate) fn tick(&mut self, mono_ms: u64, options: &Options) -> Vec<NodeId> {
        let connected = self.by_id.values().filter(|peer| peer.connected).count() as u64;
        let least_ms = connected * 1_000 / u64::from(options.pings_per_second_max.max(1));
        let interval_ms = u64::from(options.ping_interval_ms).max(least_ms);
        let mut silent = Vec::new();
        for (&node, peer) in &mut self.by_id {
            let quiet_ms = mono_ms.saturating_sub(peer.heard_mono_ms);
            if peer.connected && quiet_ms >= interval_ms {
                peer.pinged_mono_ms.get_or_insert(mono_ms);
                silent.push(node);
            }
            peer.judge(mono_ms, options);
        }
        silent
    }

    /// This node stood still: answers to its pings could not be heard.
    pub(crate) fn pause(&mut self, gap_ms: u64) {
        for peer in self.by_id.values_mut() {
            peer.pinged_mono_ms = peer.pinged_mono_ms.map(|pinged_ms| pinged_ms + gap_ms);
        }
    }

    /// It is at other addresses than before.
    pub(crate) fn moved(&mut self, info: &MemberInfo) {
        if let Some(peer) = self.by_id.get_mut(&info.member.node) {
            peer.info.take_addresses(info);
        }
    }

    /// How it looks from here. Strangers are unreachable.
    pub(crate) fn state(&self, node: NodeId) -> PeerState {
        self.by_id.get(&node).map_or(PeerState::Unreachable, |peer| peer.state)
    }

    /// Whether a peer is on this machine.
    pub(crate) fn is_on(&self, node: NodeId, machine: MachineId) -> bool {
        self.by_id.get(&node).is_some_and(|peer| peer.info.member.machine == machine)
    }

    /// Whether messages to it are worth sending.
    pub(crate) fn is_reachable(&self, node: NodeId) -> bool {
        self.by_id.get(&node).is_some_and(|peer| peer.state == PeerState::Up && !peer.leaving)
    }

    /// Whether a peer has said nothing since this moment of the monotonic clock.
    pub(crate) fn is_silent_since(&self, node: NodeId, mono_ms: u64) -> bool {
        self.by_id.get(&node).is_some_and(|peer| peer.heard_mono_ms <= mono_ms)
    }

    pub(crate) fn is_connected(&self, node: NodeId) -> bool {
        self.by_id.get(&node).is_some_and(|peer| peer.connected)
    }

    /// Everybody connected.
    pub(crate) fn connected(&self) -> Vec<NodeId> {
        self.by_id.iter().filter(|(_, peer)| peer.connected).map(|(&node, _)| node).collect()
    }

    /// Everybody known.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (NodeId, &Peer)> {
        self.by_id.iter().map(|(&node, peer)| (node, peer))
    }
}

impl Peer {
    pub(crate) fn state(&self) -> PeerState {
        self.state
    }

    fn judge(&mut self, mono_ms: u64, options: &Options) {
        let waited_ms = self.pinged_mono_ms.map_or(0, |at| mono_ms.saturating_sub(at));
        let state = match () {
            () if !self.connected => PeerState::Unreachable,
            () if self.missed >= options.missed_deadlines_max => PeerState::Skipped,
            () if waited_ms >= u64::from(options.silence_ms) => PeerState::Silent,
            () => PeerState::Up,
        };
        if state != self.state {
            self.state = state;
            self.since_mono_ms = mono_ms;
        }
    }
}
