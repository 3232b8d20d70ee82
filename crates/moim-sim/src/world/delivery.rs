//! From an event to the node's turn, and from the node's effects to events.

use bytes::Bytes;
use moim_node::api::ReadId;
use moim_node::membership::Hello;
use moim_node::message::Message;
use moim_node::{Effect, Input};
use moim_storage::Family;

use super::network::{Connection, Link};
use super::{Event, World};

/// A node that wants to be woken at once is woken after this long: a real loop takes time as well.
const WAKE_US_MIN: u64 = 50;

impl World {
    fn is_run(&self, node: usize, start: u32) -> bool {
        self.servers[node].is_up() && self.servers[node].starts == start
    }

    /// Puts something before a node, which takes it soon.
    pub(super) fn hand(&mut self, node: usize, input: Input) {
        if !self.servers[node].is_up() {
            return;
        }
        self.servers[node].inbox.push(input);
        self.plan_turn(node);
    }

    pub(super) fn plan_turn(&mut self, node: usize) {
        let delay_us = self.chance.turns.delay(30, 5_000);
        let server = &mut self.servers[node];
        if !server.is_up() || server.turn_planned || server.paused {
            return;
        }
        server.turn_planned = true;
        self.queue.plan(self.now_us + delay_us, Event::Turn { node, start: server.starts });
    }

    pub(super) fn turn(&mut self, node: usize, start: u32) {
        if !self.is_run(node, start) {
            return;
        }
        let old_batch = self.batch_of_old_disk(node);
        let server = &mut self.servers[node];
        server.turn_planned = false;
        if server.paused {
            return;
        }
        let now = server.now(self.now_us);
        let mut inputs = std::mem::take(&mut server.inbox);
        for input in &inputs {
            self.trace.line(self.now_us, format_args!("n{node} < {input:?}"));
        }
        let mut effects = Vec::new();
        if let Some(running) = &mut server.node {
            running.turn(now, &mut inputs, &mut effects);
        }
        for effect in effects {
            self.trace.line(self.now_us, format_args!("n{node} > {effect:?}"));
            self.carry_out(node, effect);
        }
        self.watch_old_disk(node, old_batch);
        self.begin_sync(node);
        self.plan_wake(node);
    }

    fn plan_wake(&mut self, node: usize) {
        let late_us = self.chance.turns.delay(100, 3_000);
        let server = &mut self.servers[node];
        let Some(due_ms) = server.node.as_ref().and_then(moim_node::Node::wake_mono_ms) else {
            return;
        };
        let at_us = server.true_us(due_ms).max(self.now_us + WAKE_US_MIN) + late_us;
        if server.wake_us.is_none_or(|planned_us| planned_us > at_us) {
            server.wake_us = Some(at_us);
            self.queue.plan(at_us, Event::Wake { node, start: server.starts });
        }
    }

    pub(super) fn wake(&mut self, node: usize, start: u32) {
        if !self.is_run(node, start) || self.servers[node].wake_us != Some(self.now_us) {
            return;
        }
        self.servers[node].wake_us = None;
        self.plan_turn(node);
    }

    fn carry_out(&mut self, node: usize, effect: Effect) {
        match effect {
            Effect::Commit(id, batch) => self.servers[node].disk.commit(id, batch),
            Effect::Load(id, family, key) => self.load(node, id, (family, key)),
            Effect::List { id, family, from, to, limit } => {
                let failed = self.fails_to_read(node);
                let page = self.servers[node].disk.list(family, (&from, &to), limit);
                let page = if failed { Err("simulated".to_owned()) } else { Ok(page) };
                self.plan_disk_read(node, Input::Listed(id, page));
            }
            Effect::Send(to, message) => self.send(node, to, message),
            Effect::Reply(request, outcome) => self.reply(node, request, outcome),
            Effect::Disconnect(peer, _) => self.disconnect(node, peer),
            Effect::Adopted(_) => self.count("records adopted"),
            Effect::Halted(_) => self.count("nodes halted"),
        }
    }

    /// A read may see the disk at any moment from when it was asked for until it is answered.
    fn load(&mut self, node: usize, id: ReadId, key: (Family, Bytes)) {
        self.count("disk reads");
        if self.fails_to_read(node) {
            return self.plan_disk_read(node, Input::Loaded(id, Err("simulated".to_owned())));
        }
        if self.chance.disks.chance(500) {
            let held = self.servers[node].disk.get(key.0, &key.1);
            return self.plan_disk_read(node, Input::Loaded(id, Ok(held)));
        }
        let (at_us, start) = (self.disk_us(node), self.servers[node].starts);
        self.queue.plan(at_us, Event::DiskReadNow { node, start, id, key });
    }

    fn fails_to_read(&mut self, node: usize) -> bool {
        let per_mille = self.plan.shape.read_errors.max(self.servers[node].read_errors);
        let failed = self.servers[node].has_failed_disk() || self.chance.disks.chance(per_mille);
        if failed {
            self.count("reads failed");
        }
        failed
    }

    fn plan_disk_read(&mut self, node: usize, input: Input) {
        let (at_us, start) = (self.disk_us(node), self.servers[node].starts);
        self.queue.plan(at_us, Event::DiskRead { node, start, input: Box::new(input) });
    }

    fn disk_us(&mut self, node: usize) -> u64 {
        self.now_us + self.servers[node].disk_slow_us + self.chance.disks.delay(100, 20_000)
    }

    pub(super) fn disk_read(&mut self, node: usize, start: u32, input: Input) {
        if self.is_run(node, start) {
            self.hand(node, input);
        }
    }

    pub(super) fn disk_read_now(
        &mut self,
        node: usize,
        start: u32,
        id: ReadId,
        key: &(Family, Bytes),
    ) {
        let held = self.servers[node].disk.get(key.0, &key.1);
        self.disk_read(node, start, Input::Loaded(id, Ok(held)));
    }

    pub(super) fn begin_sync(&mut self, node: usize) {
        self.tell_room(node);
        let (usual_us, longest_us) = self.plan.sync_us;
        let server = &mut self.servers[node];
        if server.has_failed_disk() || server.room.full || !server.disk.begin_sync() {
            return;
        }
        let took_us = server.disk_slow_us + self.chance.disks.delay(usual_us, longest_us);
        self.queue.plan(self.now_us + took_us, Event::Synced { node, start: server.starts });
    }

    /// A paused node's disk goes on: what it was told to write gets written.
    pub(super) fn synced(&mut self, node: usize, start: u32) {
        if !self.is_run(node, start) || self.servers[node].has_failed_disk() {
            return;
        }
        self.count("syncs");
        if let Some(last) = self.servers[node].disk.end_sync() {
            self.hand(node, Input::Durable(last));
        }
        self.begin_sync(node);
    }

    fn send(&mut self, node: usize, to: moim_core::NodeId, message: Message) {
        let Some(peer) = self.index_of(to) else { return };
        let Some(&connection) = self.servers[node].peers.get(&peer) else { return };
        self.count("messages sent");
        let link = (node, peer);
        for delivery in self.network.send(self.now_us, link, connection, message) {
            self.plan_arrival(link, delivery);
        }
    }

    pub(super) fn plan_arrival(&mut self, link: Link, delivery: super::network::Delivery) {
        let super::network::Delivery { at_us, connection, message } = delivery;
        self.queue.plan(at_us, Event::Arrive { link, connection, message: Box::new(message) });
    }

    /// A message is taken only from the connection that the receiver believes in.
    pub(super) fn arrive(&mut self, (from, to): Link, connection: Connection, message: Message) {
        let current = self.servers[to].peers.get(&from) == Some(&connection);
        if current && !self.network.has_vanished(connection) {
            let sender = self.servers[from].id();
            self.hand(to, Input::Peer(sender, message));
        }
    }

    pub(super) fn dial(&mut self, link: Link) {
        let (a, b) = link;
        let again_us = self.now_us + self.chance.dials.delay(60_000, 400_000);
        self.queue.plan(again_us, Event::Dial { link });
        let banned =
            self.banned_until_us.get(&link).is_some_and(|&until_us| until_us > self.now_us);
        let hello = |of: usize| {
            let server = &self.servers[of];
            if server.paused { None } else { server.node.as_ref().map(moim_node::Node::hello) }
        };
        let (Some(of_a), Some(of_b), false) = (hello(a), hello(b), banned) else { return };
        let Some((connection, learns_us)) = self.network.connect(self.now_us, link) else { return };
        self.count("connections");
        let up = |node, peer, hello| Event::Up { node, peer, connection, hello: Box::new(hello) };
        self.queue.plan(learns_us[0], up(a, b, of_b));
        self.queue.plan(learns_us[1], up(b, a, of_a));
    }

    pub(super) fn up(&mut self, node: usize, peer: usize, connection: Connection, hello: Hello) {
        let stands = self.network.connection((node, peer)) == Some(connection);
        if stands && self.servers[node].is_up() {
            self.servers[node].peers.insert(peer, connection);
            self.hand(node, Input::PeerUp(Box::new(hello)));
        }
    }

    pub(super) fn down(&mut self, node: usize, peer: usize, connection: Connection) {
        let server = &mut self.servers[node];
        if server.is_up() && server.peers.get(&peer) == Some(&connection) {
            server.peers.remove(&peer);
            let gone = self.servers[peer].id();
            self.hand(node, Input::PeerDown(gone));
        }
    }

    /// Ends a connection; each side notices in its own time.
    pub(super) fn close(&mut self, link: Link, vanish: bool, notice_us: (u64, u64)) {
        let Some(connection) = self.network.close(link, vanish) else { return };
        for (node, peer) in [link, (link.1, link.0)] {
            let at_us = self.now_us + self.chance.dials.between(notice_us.0, notice_us.1);
            self.queue.plan(at_us, Event::Down { node, peer, connection });
        }
    }

    pub(super) fn break_off(&mut self, link: Link, connection: Connection) {
        let still_cut = self.network.cuts().contains(&link);
        if still_cut && self.network.connection(link) == Some(connection) {
            self.count("connections timed out");
            self.close(link, true, (0, 1_000_000));
        }
    }

    fn disconnect(&mut self, node: usize, peer: moim_core::NodeId) {
        let Some(peer) = self.index_of(peer) else { return };
        self.count("disconnects");
        let until_us = self.now_us + self.chance.dials.between(500_000, 2_000_000);
        self.banned_until_us.insert((node.min(peer), node.max(peer)), until_us);
        self.close((node, peer), false, (0, 5_000));
    }

    pub(super) fn compact(&mut self) {
        self.queue.plan(self.now_us + 700_000, Event::Compact);
        let node = self.chance.disks.index(self.servers.len());
        let (wall_ms, grace_ms) = (self.wall_ms(node), self.common.options.max_clock_skew_ms);
        self.reclaimed_ms = self.reclaimed_ms.max(wall_ms.saturating_sub(grace_ms));
        self.back_up(node);
        let shrunk = self.servers[node].disk.compact(wall_ms, grace_ms);
        self.trace.line(self.now_us, format_args!("n{node} compacts: {shrunk} values given back"));
        *self.tally.entry("values given back").or_default() += shrunk as u64;
    }
}
