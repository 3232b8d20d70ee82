//! Suspicion, reporters, and when a member is down.

use std::collections::{BTreeMap, BTreeSet};

use moim_core::{MachineId, NodeId};

use super::Gossip;
use super::word::Suspicion;
use crate::membership::MemberInfo;
use crate::views::{MemberState, MemberView};

/// Machines whose reports agree before a member is down, if as many live.
const REPORTERS: usize = 2;

impl Gossip {
    /// Judges everybody's silence, and more strictly that of members whose connection is `lost`; answers how many members
    /// this node has begun to suspect. Not while frozen.
    pub fn judge(&mut self, mono_ms: u64, lost: impl IntoIterator<Item = NodeId>) -> usize {
        if mono_ms < self.frozen_until_mono_ms {
            return 0;
        }
        let thawed = std::mem::take(&mut self.is_frozen);
        let mut begun = 0;
        for node in lost {
            let Some(member) = self.members.get_mut(&node) else { continue };
            if !member.suspected && member.is_suspicious(mono_ms, true) {
                member.suspected = true;
                self.doubts.insert(node);
                begun += 1;
            }
        }
        if self.quiet_until_mono_ms <= mono_ms {
            begun += self.judge_all(mono_ms);
        }
        if begun > 0 || thawed {
            self.assess(mono_ms);
        }
        begun
    }

    /// Looks for silence that is suspicious whatever the connection, and when there can be some next.
    fn judge_all(&mut self, mono_ms: u64) -> usize {
        let mut begun = 0;
        self.quiet_until_mono_ms = u64::MAX;
        for (&node, member) in self.members.iter_mut().filter(|(_, member)| !member.suspected) {
            if member.is_suspicious(mono_ms, false) {
                member.suspected = true;
                self.doubts.insert(node);
                begun += 1;
            } else {
                self.quiet_until_mono_ms =
                    self.quiet_until_mono_ms.min(member.suspicious_mono_ms());
            }
        }
        begun
    }

    /// Counts reporters and settles every member's state.
    pub(super) fn assess(&mut self, mono_ms: u64) {
        let reported = self.reported();
        // Who lives matters for the number of reporters alone, and often there are none.
        let alive = if reported.is_empty() { BTreeMap::new() } else { self.living_machines() };
        let enough = if self.is_credulous { 1 } else { REPORTERS };
        for (node, member) in &mut self.members {
            let reporters = reported.get(node).map_or(0, BTreeSet::len);
            if reporters > 0 && !self.is_frozen {
                let only_itself =
                    member.is_witness() && alive.get(&member.info.member.machine) == Some(&1);
                let witnesses = alive.len() - usize::from(only_itself);
                member.down |= reporters >= enough.min(witnesses);
            }
            member.settle(reporters, mono_ms);
        }
    }

    /// Machines on which a witness lives, and how many; this node's own is one of them.
    fn living_machines(&self) -> BTreeMap<MachineId, usize> {
        let mut living = BTreeMap::from([(self.info.member.machine, 1)]);
        for member in self.members.values().filter(|member| member.is_witness()) {
            *living.entry(member.info.member.machine).or_default() += 1;
        }
        living
    }

    /// Who is suspected at the present heartbeat, by which machines.
    fn reported(&self) -> BTreeMap<NodeId, BTreeSet<MachineId>> {
        let mut reported: BTreeMap<NodeId, BTreeSet<MachineId>> = BTreeMap::new();
        for (suspicion, reporter) in self.reports() {
            let current = self.members.get(&suspicion.member);
            let is_current =
                current.is_some_and(|member| member.word.heartbeat == suspicion.heartbeat);
            if is_current || self.is_credulous {
                reported.entry(suspicion.member).or_default().insert(reporter.member.machine);
            }
        }
        reported
    }

    /// All suspicions of witnesses, this node's own among them.
    fn reports(&self) -> impl Iterator<Item = (Suspicion, &MemberInfo)> {
        let doubtful = || self.doubts.iter().filter_map(|node| self.members.get(node));
        let suspected = doubtful().filter(|member| member.suspected);
        let own = suspected.map(|member| (member.suspicion(), &self.info));
        let witnesses = doubtful().filter(|member| member.is_witness());
        own.chain(witnesses.flat_map(|member| {
            member.word.suspects.iter().map(|&suspicion| (suspicion, &member.info))
        }))
    }

    /// What members agree on of a node. Of this one: that it lives.
    pub fn state(&self, node: NodeId) -> MemberState {
        match self.members.get(&node) {
            Some(member) => member.state,
            None if node == self.info.member.node => MemberState::Alive,
            None => MemberState::Unknown,
        }
    }

    /// All members, this one included, in the order of their ids.
    pub fn views(&self, mono_ms: u64) -> Vec<MemberView> {
        let mut views: Vec<_> = self
            .members
            .values()
            .map(|member| MemberView {
                info: member.info.clone(),
                own: false,
                state: member.state,
                since_mono_ms: member.since_mono_ms,
                phi: member.phi(mono_ms, &self.thresholds),
                reporters: self.reporters_of(member.suspicion(), false),
                generation: member.word.heartbeat.generation,
                heartbeat: member.word.heartbeat.counter,
                heartbeat_age_ms: mono_ms.saturating_sub(member.grown_mono_ms),
                load: member.word.load,
                floor: member.word.floor,
                durable: member.durable,
            })
            .collect();
        views.push(self.own_view());
        views.sort_by_key(|view| view.info.member.node);
        views
    }

    fn own_view(&self) -> MemberView {
        let own = Suspicion { member: self.info.member.node, heartbeat: self.word.heartbeat };
        MemberView {
            info: self.info.clone(),
            own: true,
            state: if self.word.stopping { MemberState::Stopping } else { MemberState::Alive },
            since_mono_ms: 0,
            phi: 0.0,
            reporters: self.reporters_of(own, true),
            generation: self.word.heartbeat.generation,
            heartbeat: self.word.heartbeat.counter,
            heartbeat_age_ms: 0,
            load: self.word.load,
            floor: self.word.floor,
            durable: Some(self.durable),
        }
    }

    /// Who reports this suspicion; `any_counter` also at an earlier heartbeat of the generation: this node's own
    /// heartbeats that do not reach somebody are worth showing.
    fn reporters_of(&self, wanted: Suspicion, any_counter: bool) -> Vec<NodeId> {
        let same = |reported: Suspicion| {
            reported.member == wanted.member
                && reported.heartbeat.generation == wanted.heartbeat.generation
                && (any_counter || reported.heartbeat.counter == wanted.heartbeat.counter)
        };
        let reports = self.reports().filter(|&(suspicion, _)| same(suspicion));
        reports.map(|(_, reporter)| reporter.member.node).collect()
    }
}
