//! Meeting peers: who is let in, how the founding record comes about, and keeping the record.

use bytes::Bytes;
use moim_core::NodeId;
use moim_storage::{Family, Write};

use super::{FoundingStep, Hello, HelloRefused, MemberInfo, PROTOCOL, Record};
use crate::api::Effect;
use crate::gate::Outgoing;
use crate::keyspace;
use crate::message::Message;
use crate::node::Node;
use crate::timer::Timer;
use crate::wire;

impl Node {
    pub(crate) fn on_peer_up(&mut self, hello: &Hello) {
        let node = hello.info.member.node;
        if let Err(refused) = self.check_hello(hello) {
            self.effects.push(Effect::Disconnect(node, refused.to_string()));
            return;
        }
        if self.peers.is_connected(node) {
            // What was asked on the connection that this one replaces may never be answered.
            self.give_up_on(node);
        }
        self.was_member |= self.record.is_none() && hello.cluster.is_some();
        self.forget_completeness_of(node);
        self.peers.up(hello, self.now.mono_ms, &self.options);
        if let Some(founding) = &mut self.founding {
            let step = founding.meet(&hello.info);
            self.founding_step(step);
        } else if hello.cluster.is_none()
            && let Some(record) = self.record().cloned()
        {
            self.send_plain(node, Message::Record(Box::new(record)));
        }
        self.greet(&hello.info);
        self.offer_tasks(node);
        self.hand_off(node);
    }

    fn check_hello(&self, hello: &Hello) -> Result<(), HelloRefused> {
        let own = self.info.member.node;
        let node = hello.info.member.node;
        match (&self.record, hello.cluster) {
            _ if hello.protocol >> 8 != PROTOCOL >> 8 => {
                Err(HelloRefused::Protocol(hello.protocol))
            }
            _ if node == own => Err(HelloRefused::Duplicate),
            _ if hello.settings != self.settings() => Err(HelloRefused::Settings),
            (Some(ours), Some(theirs)) if ours.cluster != theirs => {
                Err(HelloRefused::Cluster(theirs))
            }
            (Some(ours), _) if ours.member(node).is_none() => Err(HelloRefused::Stranger),
            _ => Ok(()),
        }
    }

    pub(crate) fn on_peer_down(&mut self, node: NodeId) {
        self.peers.down(node, self.now.mono_ms, &self.options);
        self.on_farewell(node);
        self.forget_completeness_of(node);
        self.give_up_on(node);
    }

    pub(crate) fn on_peer_tick(&mut self) {
        for node in self.peers.tick(self.now.mono_ms, &self.options) {
            self.send_plain(node, Message::Ping);
        }
        self.judge_members();
        self.read_hints();
        if let Some(founding) = &mut self.founding {
            let step = founding.step();
            self.founding_step(step);
        }
        let next = self.now.mono_ms + u64::from(self.options.ping_interval_ms);
        self.timers.set(next, Timer::PeerTick);
    }

    pub(crate) fn on_founding(&mut self, from: NodeId, digest: u64) {
        match (&mut self.founding, &self.record) {
            (Some(founding), _) => {
                let step = founding.announced(from, digest);
                self.founding_step(step);
            }
            // It has not heard that all agree.
            (None, Some(record)) if record.member(from).is_some() => {
                let record = record.clone();
                self.send_plain(from, Message::Record(Box::new(record)));
            }
            (None, _) => {}
        }
    }

    fn founding_step(&mut self, step: FoundingStep) {
        match step {
            FoundingStep::Wait => {}
            FoundingStep::Announce(digest) => {
                for node in self.peers.connected() {
                    self.send_plain(node, Message::Founding { digest });
                }
            }
            FoundingStep::Adopt(record) => {
                // The others may not have heard us yet, and from now on we answer with the record.
                for node in self.peers.connected() {
                    self.send_plain(node, Message::Founding { digest: record.cluster });
                }
                self.keep_record(*record);
            }
            FoundingStep::Impossible(error) => {
                self.halt(format!("this cluster cannot be founded: {error}"));
            }
        }
    }

    pub(crate) fn on_record(&mut self, record: Record) {
        let newer = self.record.is_none();
        if newer && record.member(self.info.member.node).is_some() {
            self.keep_record(record);
        }
    }

    /// Takes a record; it counts once it is durable.
    fn keep_record(&mut self, record: Record) {
        let (key, value) =
            (Bytes::from_static(keyspace::META_RECORD), wire::encode_record(&record));
        let batch = self.store.write(Write::Put { family: Family::Meta, key, value });
        self.record = Some(record);
        self.founding = None;
        if self.was_member {
            self.begin_filling();
        }
        self.know_members();
        self.send(batch, Outgoing::Adopted);
    }

    pub(crate) fn adopt(&mut self) {
        self.adopted = true;
        if let Some(record) = self.record.clone() {
            self.effects.push(Effect::Adopted(Box::new(record)));
        }
    }

    pub(crate) fn know_members(&mut self) {
        let own = self.info.member.node;
        let members = self.record.iter().flat_map(|record| &record.members);
        for info in members.filter(|info| info.member.node != own) {
            self.peers.know(info, self.now.mono_ms);
        }
        if let Some(record) = &self.record {
            self.gossip.set_members(&record.members, self.now.mono_ms);
        }
    }

    /// Members are at other addresses than the record says. The record keeps the latest that is known: addresses are no
    /// part of what its version decides, and a restart needs to know where to find the others.
    pub(crate) fn members_moved(&mut self, moved: &[MemberInfo]) {
        let Some(record) = &mut self.record else { return };
        let mut changed = false;
        for info in moved {
            self.peers.moved(info);
            let members = record.members.iter_mut();
            for member in members.filter(|member| member.member.node == info.member.node) {
                changed |= member.take_addresses(info);
            }
        }
        if changed {
            let (key, value) =
                (Bytes::from_static(keyspace::META_RECORD), wire::encode_record(record));
            let batch = self.store.write(Write::Put { family: Family::Meta, key, value });
            self.send(batch, Outgoing::Adopted);
        }
    }

    /// Equal on two nodes exactly when the settings are that must be.
    pub(crate) fn settings(&self) -> u64 {
        let partitions =
            self.record.as_ref().map_or(self.partitions, |record| record.ring.partitions());
        let skew_ms = self.options.max_clock_skew_ms;
        let text = format!("{} {skew_ms} {:x}", partitions.get(), self.namespaces.fingerprint());
        moim_core::fingerprint(text.as_bytes())
    }
}
