//! Three nodes with right clocks and a quick network, ten milliseconds a step, and what they send each other in bytes.
//!
//! A world of its own rather than `world`, which writes down every request and every event: this one runs for hours.

use std::collections::BTreeMap;

use bytes::Bytes;
use moim_core::object::{Object, expiry_of, hlc_of};
use moim_core::quorum::Level;
use moim_core::ring::{Member, PartitionCount};
use moim_core::{MachineId, NamespaceId, NodeId};
use moim_node::anti_entropy::{Answer, Ask};
use moim_node::api::{Action, Effect, Outcome};
use moim_node::keyspace::{
    META_BATCH, META_CLOCK_BOUND, META_FILLING, META_GENERATION, META_RECORD, StoredTrees,
};
use moim_node::membership::MemberInfo;
use moim_node::message::Message;
use moim_node::namespace::{Namespace, Namespaces};
use moim_node::options::Options;
use moim_node::{Boot, Input, Node, Now, Request, RequestId, wire};
use moim_storage::Family;

use crate::random::Random;
use crate::world::disk::Disk;

/// Nodes, and copies of every session.
pub(super) const NODES: usize = 3;

/// What a step takes: nodes take what arrived in the step before. In milliseconds.
const STEP_MS: u64 = 10;

/// Where clocks begin, in Unix milliseconds.
const BEGIN_MS: u64 = 1_750_000_000_000;

/// How often each disk compacts, in milliseconds.
const COMPACT_MS: u64 = 30_000;

/// A copy that is sent this much later than it was written is repair, in milliseconds: requests wait for a second.
const LATE_MS: u64 = 2_000;

/// What is repaired, in bytes of peer frames.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Repair {
    /// Comparisons: sums of spans, slices and leaves, entries, and their answers, objects apart.
    pub compared_bytes: u64,
    /// Copies of sessions that live: a replica that was away needs them.
    pub live_bytes: u64,
    /// Copies of sessions that have expired: what expiry costs.
    pub expired_bytes: u64,
    /// Copies of deletions.
    pub deleted_bytes: u64,
}

impl Repair {
    /// What came to it since `before`.
    #[must_use]
    pub fn since(self, before: Self) -> Self {
        Self {
            compared_bytes: self.compared_bytes - before.compared_bytes,
            live_bytes: self.live_bytes - before.live_bytes,
            expired_bytes: self.expired_bytes - before.expired_bytes,
            deleted_bytes: self.deleted_bytes - before.deleted_bytes,
        }
    }
}

#[derive(Debug)]
struct Machine {
    node: Option<Node>,
    disk: Disk,
    inbox: Vec<Input>,
    runs: u64,
}

/// The cluster.
#[derive(Debug)]
pub(super) struct Cluster {
    namespaces: Namespaces,
    now_ms: u64,
    random: Random,
    machines: Vec<Machine>,
    requests: u64,
    /// Answers that nobody has taken.
    pub(super) answers: BTreeMap<RequestId, Outcome>,
    pub(super) repair: Repair,
    frame: Vec<u8>,
}

fn info(index: usize) -> MemberInfo {
    let id = index as u64 + 1;
    let member = Member {
        node: NodeId(id),
        machine: MachineId(id),
        zone: String::new(),
        dc: String::new(),
        weight: 1,
    };
    let none = String::new;
    MemberInfo {
        member,
        peer_address: format!("n{id}"),
        redis_address: none(),
        cluster_address: none(),
        http_address: none(),
    }
}

impl Cluster {
    /// Founded, with sessions that live no longer than `ttl_ms`.
    pub(super) fn new(seed: u64, ttl_ms: u64) -> Self {
        let sessions = Namespace { sloppy: false, max_ttl_ms: Some(ttl_ms), ..Namespace::new("0") };
        let machine = || Machine { node: None, disk: Disk::default(), inbox: Vec::new(), runs: 0 };
        let mut cluster = Self {
            namespaces: Namespaces::new(&sessions, Vec::new()).expect("one namespace"),
            now_ms: 0,
            random: Random::new(seed).fork("sessions"),
            machines: std::iter::repeat_with(machine).take(NODES).collect(),
            requests: 0,
            answers: BTreeMap::new(),
            repair: Repair::default(),
            frame: Vec::new(),
        };
        (0..NODES).for_each(|node| cluster.start(node));
        while !cluster.is_ready() {
            cluster.step();
        }
        cluster
    }

    /// Unix milliseconds, on every clock.
    pub(super) fn wall_ms(&self) -> u64 {
        BEGIN_MS + self.now_ms
    }

    fn is_ready(&self) -> bool {
        let serves = |node: &Node| node.readiness().is_ok();
        self.machines.iter().all(|machine| machine.node.as_ref().is_some_and(serves))
    }

    /// Starts a node with what its disk holds, and connects it with the others.
    pub(super) fn start(&mut self, index: usize) {
        let seed = self.random.bits();
        let (now, namespaces) = (self.now(), self.namespaces.clone());
        let machine = &mut self.machines[index];
        machine.runs += 1;
        let meta = |key| machine.disk.get(Family::Meta, key);
        let mut stored_trees = StoredTrees::default();
        let trees: Vec<_> = machine.disk.all(Family::Trees).collect();
        stored_trees.add(&trees).expect("trees that a node stored");
        let boot = Boot {
            info: info(index),
            run: machine.runs,
            seed,
            stored_record: meta(META_RECORD),
            stored_clock_bound: meta(META_CLOCK_BOUND),
            stored_filling: meta(META_FILLING),
            stored_trees,
            stored_generation: meta(META_GENERATION),
            stored_batch: meta(META_BATCH),
            founding_members: NODES,
            partitions: PartitionCount::new(256).expect("a power of two"),
            namespaces,
            options: Options::default(),
        };
        machine.node = Some(Node::new(now, boot).expect("a disk that a node wrote"));
        for other in (0..NODES).filter(|&other| other != index) {
            for (node, peer) in [(index, other), (other, index)] {
                let hello = self.machines[peer].node.as_ref().map(Node::hello);
                if let Some(hello) = hello.filter(|_| self.machines[node].node.is_some()) {
                    self.machines[node].inbox.push(Input::PeerUp(Box::new(hello)));
                }
            }
        }
    }

    /// Ends a node; its disk stays.
    pub(super) fn stop(&mut self, index: usize) {
        self.machines[index].node = None;
        self.machines[index].inbox.clear();
        self.machines[index].disk.crash(&mut self.random);
        for machine in &mut self.machines {
            machine.inbox.push(Input::PeerDown(info(index).member.node));
        }
    }

    /// The entries on a disk that hold a session or the memory of one.
    pub(super) fn stored(&self, index: usize) -> usize {
        self.machines[index].disk.all(Family::Data).count()
    }

    /// Puts a request to a node, or to another one if it is away.
    pub(super) fn ask(&mut self, key: Bytes, action: Action, r: Option<Level>) -> RequestId {
        self.requests += 1;
        let id = RequestId(self.requests);
        let running: Vec<_> =
            (0..NODES).filter(|&node| self.machines[node].node.is_some()).collect();
        let coordinator = *self.random.pick(&running);
        let namespace = NamespaceId(0);
        let request = Request { namespace, key, action, r, w: None, timeout_ms: None };
        self.machines[coordinator].inbox.push(Input::Request(id, request));
        id
    }

    fn now(&self) -> Now {
        Now { mono_ms: self.now_ms + 1, wall_ms: self.wall_ms() }
    }

    /// Ten milliseconds pass.
    pub(super) fn step(&mut self) {
        self.now_ms += STEP_MS;
        let now = self.now();
        let inboxes: Vec<_> =
            self.machines.iter_mut().map(|machine| std::mem::take(&mut machine.inbox)).collect();
        for (index, mut inputs) in inboxes.into_iter().enumerate() {
            let machine = &mut self.machines[index];
            let Some(node) = &mut machine.node else { continue };
            let is_due = node.wake_mono_ms().is_none_or(|due_ms| due_ms <= now.mono_ms);
            if inputs.is_empty() && !is_due {
                continue;
            }
            let mut effects = Vec::new();
            node.turn(now, &mut inputs, &mut effects);
            for effect in effects {
                self.carry_out(index, effect);
            }
            self.sync(index);
        }
        if self.now_ms.is_multiple_of(COMPACT_MS) {
            let (wall_ms, grace_ms) = (self.wall_ms(), Options::default().max_clock_skew_ms);
            for machine in &mut self.machines {
                machine.disk.compact(wall_ms, grace_ms);
            }
        }
    }

    fn sync(&mut self, index: usize) {
        let machine = &mut self.machines[index];
        if machine.disk.begin_sync()
            && let Some(last) = machine.disk.end_sync()
        {
            machine.inbox.push(Input::Durable(last));
        }
    }

    fn carry_out(&mut self, index: usize, effect: Effect) {
        let Machine { disk, inbox, .. } = &mut self.machines[index];
        match effect {
            Effect::Commit(id, batch) => disk.commit(id, batch),
            Effect::Load(id, family, key) => {
                inbox.push(Input::Loaded(id, Ok(disk.get(family, &key))));
            }
            Effect::List { id, family, from, to, limit } => {
                inbox.push(Input::Listed(id, Ok(disk.list(family, (&from, &to), limit))));
            }
            Effect::Send(to, message) => self.send(index, to, message),
            Effect::Reply(id, outcome) => drop(self.answers.insert(id, outcome)),
            Effect::Disconnect(..) | Effect::Adopted(_) | Effect::Halted(_) => {}
        }
    }

    fn send(&mut self, from: usize, to: NodeId, message: Message) {
        let Some(to) = (0..NODES).find(|&index| info(index).member.node == to) else { return };
        if self.machines[to].node.is_none() {
            return;
        }
        self.count(&message);
        self.machines[to].inbox.push(Input::Peer(info(from).member.node, message));
    }

    /// Counts what is not the first sending of a write.
    fn count(&mut self, message: &Message) {
        let late = |object: &Bytes| hlc_of(object).millis() + LATE_MS <= self.wall_ms();
        let objects: Vec<&Bytes> = match message {
            Message::Write { object, .. } | Message::Hint { object, .. } if late(object) => {
                vec![object]
            }
            Message::Exchange { ask, .. } => match &**ask {
                Ask::Object { object, .. } => vec![object],
                _ => Vec::new(),
            },
            Message::ExchangeReply { result: Ok(Answer::Object(more)), .. } => {
                more.iter().collect()
            }
            Message::ExchangeReply { result: Ok(Answer::Entries { objects, .. }), .. }
            | Message::ExchangeReply { result: Ok(Answer::Rest { objects, .. }), .. } => {
                objects.iter().map(|(_, object)| object).collect()
            }
            Message::ExchangeReply { .. } => Vec::new(),
            _ => return,
        };
        self.frame.clear();
        wire::encode(message, &mut self.frame);
        let mut rest = self.frame.len() as u64;
        // A message that carries one object is there for it; of a page, each has its own share.
        let one = objects.len() == 1;
        for object in objects {
            let bytes = if one { rest } else { object.len() as u64 };
            rest -= bytes.min(rest);
            *self.repair.of(object, BEGIN_MS + self.now_ms) += bytes;
        }
        self.repair.compared_bytes += rest;
    }
}

impl Repair {
    fn of(&mut self, object: &Bytes, wall_ms: u64) -> &mut u64 {
        let expires_ms = expiry_of(object);
        let is_value = Object::decode(object.clone())
            .is_ok_and(|object| object.versions().iter().any(|version| version.value().is_some()));
        match () {
            () if expires_ms != 0 && expires_ms <= wall_ms => &mut self.expired_bytes,
            () if is_value => &mut self.live_bytes,
            () => &mut self.deleted_bytes,
        }
    }
}
