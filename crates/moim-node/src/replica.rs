//! The replica: joins what coordinators send into local state, and tells them what it holds.
//!
//! Every coordinator's own node is a replica like any other: its messages take this same path and pass the same gate.

use bytes::{Bytes, BytesMut};
use moim_core::clock::Hlc;
use moim_core::object::{Joined, Object};
use moim_core::ring::Partition;
use moim_core::{NamespaceId, NodeId};

use crate::anti_entropy::Answer;
use crate::api::{BatchId, DiskRoom, Why};
use crate::coordinator::{Mint, Operation};
use crate::gate::{NOTHING, Outgoing};
use crate::hint::Handoff;
use crate::keyspace;
use crate::message::{Message, OpId, ReadResult, Want, WriteResult};
use crate::namespace::Conflict;
use crate::node::Node;
use crate::options::Mutation;
use crate::settled::Admission;
use crate::store::{Looked, Stored};

/// Bytes of the allocations that keys of one turn share: some hundred keys.
const KEYS_BYTES: usize = 4 << 10;

/// A key, and where it lies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Target {
    pub(crate) namespace: NamespaceId,
    pub(crate) partition: Partition,
    /// The persisted key, at whose end the user's is.
    pub(crate) data_key: Bytes,
}

impl Target {
    pub(crate) fn new(namespace: NamespaceId, key: &[u8], partition: Partition) -> Self {
        Self { namespace, partition, data_key: keyspace::data_key(partition, namespace, key) }
    }

    /// The same in `room`: see [`keyspace::data_key_in`]. Whoever keeps it beyond a request keeps [`Self::apart`].
    pub(crate) fn new_in(
        room: &mut BytesMut,
        namespace: NamespaceId,
        key: &[u8],
        partition: Partition,
    ) -> Self {
        let bytes = keyspace::PREFIX_BYTES + key.len();
        if room.capacity() < bytes {
            *room = BytesMut::with_capacity(bytes.max(KEYS_BYTES));
        }
        Self {
            namespace,
            partition,
            data_key: keyspace::data_key_in(room, (partition, namespace), key),
        }
    }

    /// The same in an allocation of its own, for keeping.
    pub(crate) fn apart(&self) -> Self {
        Self { data_key: Bytes::copy_from_slice(&self.data_key), ..self.clone() }
    }

    /// The user's key.
    pub(crate) fn key(&self) -> &[u8] {
        &self.data_key[keyspace::PREFIX_BYTES..]
    }

    /// The user's key, in the allocation of the persisted one.
    pub(crate) fn shared_key(&self) -> Bytes {
        self.data_key.slice(keyspace::PREFIX_BYTES..)
    }
}

/// Who asked this replica, under which operation, and how long it waits for the answer.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Asker {
    pub(crate) node: NodeId,
    pub(crate) op: OpId,
    pub(crate) until_mono_ms: u64,
}

/// Something to do with the local copy of one key, which may have to be read from disk first.
#[derive(Debug)]
pub(crate) enum Work {
    /// Join this into it; a node that is no owner stands in for one.
    Join { asker: Asker, target: Target, incoming: Stored, stands_for: Option<NodeId> },
    /// Join this into it, and give back what it held beside.
    Meet { asker: Asker, target: Target, incoming: Stored },
    /// Tell `from` of it.
    Tell { asker: Asker, target: Target, want: Want, from_disk: bool },
    /// Make a new version of it.
    Mint(Box<Mint>),
    /// Hand it over to an owner that it was kept for.
    HandOff(Handoff),
    /// Forget it, if every owner has it.
    Release { target: Target },
    /// Forget what may be forgotten of it.
    Forget { target: Target },
}

impl Work {
    fn data_key(&self) -> &Bytes {
        match self {
            Self::Join { target, .. }
            | Self::Meet { target, .. }
            | Self::Tell { target, .. }
            | Self::Release { target }
            | Self::Forget { target } => &target.data_key,
            Self::Mint(mint) => &mint.target.data_key,
            Self::HandOff(handoff) => &handoff.target.data_key,
        }
    }

    /// Its key had to be read from disk: who asks is told.
    pub(crate) fn note_disk(&mut self) {
        if let Self::Tell { from_disk, .. } = self {
            *from_disk = true;
        }
    }

    /// Whether an object without its value is all that it needs.
    fn takes_outline(&self) -> bool {
        matches!(self, Self::Join { .. } | Self::Tell { want: Want::Digest, .. })
    }

    /// When nobody waits for it any more, on the monotonic clock.
    fn until_mono_ms(&self) -> u64 {
        match self {
            Self::Join { asker, .. } | Self::Meet { asker, .. } | Self::Tell { asker, .. } => {
                asker.until_mono_ms
            }
            Self::Mint(mint) => mint.until_mono_ms(),
            // Nobody waits, but it has to be done.
            Self::HandOff(_) | Self::Release { .. } | Self::Forget { .. } => u64::MAX,
        }
    }
}

impl Node {
    /// A coordinator wants its object joined into ours.
    pub(crate) fn on_write(
        &mut self,
        asker: Asker,
        namespace: NamespaceId,
        key: &[u8],
        object: Bytes,
    ) {
        let admitted = match self.own_write(asker, object) {
            Ok(own) => self.admit_own(asker.until_mono_ms, own),
            Err(object) => self.admit_write(asker.until_mono_ms, (namespace, key), object),
        };
        match admitted {
            Ok((target, incoming)) => {
                self.work(Work::Join { asker, target, incoming, stands_for: None });
            }
            Err(why) => self.refuse_write(asker, why),
        }
    }

    /// A coordinator wants to know what we hold.
    pub(crate) fn on_read(&mut self, asker: Asker, namespace: NamespaceId, key: &[u8], want: Want) {
        let target = match (want, self.own_read(asker)) {
            (Want::Hinted, _) => self.hinted_target(namespace, key),
            (Want::Object | Want::Digest, None) => self.local_target(namespace, key),
            (Want::Object | Want::Digest, Some(own)) => {
                self.check_served(namespace, own.partition).map(|()| own)
            }
        };
        match target {
            Ok(target) if !self.is_filled(target.partition) => {
                self.refuse_read(asker, Why::NotReady);
            }
            Ok(target) => self.work(Work::Tell { asker, target, want, from_disk: false }),
            Err(why) => self.refuse_read(asker, why),
        }
    }

    /// Does work now if the key is in memory, otherwise when it has been read. Not at all when nobody waits for it any
    /// more: the time that it spent in queues and on the disk counts.
    pub(crate) fn work(&mut self, work: Work) {
        if work.until_mono_ms() <= self.now.mono_ms {
            return self.expire(work);
        }
        if work.takes_outline()
            && let Some((held, batch)) = self.store.outline(work.data_key(), &mut self.figures)
        {
            return self.run_on_outline(work, held.as_ref(), batch);
        }
        match self.store.look(work.data_key(), &mut self.figures) {
            Looked::Ready(stored, batch) => self.run(work, stored, batch),
            Looked::Absent if self.store.waiting() >= self.options.reads_waiting_max => {
                self.refuse(work, Why::Overloaded);
            }
            Looked::Absent => {
                let key = work.data_key().clone();
                self.figures.cache_misses += 1;
                self.store.wait(&key, work, self.clock.last(), &mut self.effects);
            }
        }
    }

    /// Drops work that comes too late. Who asked has given up by its own clock and needs no answer.
    fn expire(&mut self, work: Work) {
        self.figures.expired += 1;
        if let Work::Mint(mint) = work {
            let waited_ms = mint.waited_ms(self.now.mono_ms);
            self.mint_failed(*mint, Why::NoAnswer(waited_ms));
        }
    }

    /// The key of this work could not be read.
    pub(crate) fn refuse(&mut self, work: Work, why: Why) {
        match work {
            Work::Join { asker, .. } => self.refuse_write(asker, why),
            Work::Meet { asker, .. } => self.answer_exchange(asker, Err(why), NOTHING),
            Work::Tell { asker, .. } => self.refuse_read(asker, why),
            Work::Mint(mint) => self.mint_failed(*mint, why),
            Work::HandOff(handoff) => self.handoff_failed(&handoff),
            Work::Release { target } => self.release_failed(&target),
            // The next sweep tries again.
            Work::Forget { .. } => {}
        }
    }

    /// Does work that takes an outline of the local copy.
    fn run_on_outline(&mut self, work: Work, held: Option<&Object>, batch: BatchId) {
        match work {
            Work::Join { asker, target, incoming, stands_for } => {
                self.join_for(asker, (target, stands_for), (held, batch), incoming);
            }
            Work::Tell { asker, from_disk, .. } => {
                self.tell(asker, ReadResult::Digest(held.map(Object::digest)), (from_disk, batch));
            }
            work => unreachable!("it takes no outline: {work:?}"),
        }
    }

    fn run(&mut self, work: Work, stored: Option<Stored>, batch: BatchId) {
        let held = stored.as_ref().map(|stored| &stored.object);
        match work {
            Work::Join { .. } | Work::Tell { want: Want::Digest, .. } => {
                self.run_on_outline(work, held, batch);
            }
            Work::Meet { asker, target, incoming } => {
                let (came, data_key) = (incoming.object.clone(), target.data_key.clone());
                let (result, reveals) = self.join((target, None), (held, batch), incoming);
                let answer = match result {
                    // Whoever sent it learns that it is gone, by the same join.
                    WriteResult::Refused(Why::Forgotten) => {
                        Ok(Answer::Object(Some(came.emptied().encode())))
                    }
                    WriteResult::Refused(why) => Err(why),
                    WriteResult::Stored | WriteResult::Superseded(_) => {
                        let held = self.store.peek(&data_key);
                        let more = held.filter(|held| !came.covers(&held.object));
                        Ok(Answer::Object(more.map(|held| held.encoded)))
                    }
                };
                self.answer_exchange(asker, answer, reveals);
            }
            Work::Tell { asker, from_disk, .. } => {
                let result = ReadResult::Object(stored.map(|stored| stored.encoded));
                self.tell(asker, result, (from_disk, batch));
            }
            Work::Mint(mint) => self.mint(*mint, stored, batch),
            Work::HandOff(handoff) => self.send_hint(handoff, stored, batch),
            Work::Release { target } => self.release(&target),
            Work::Forget { target } => self.forget(&target, stored),
        }
    }

    fn tell(&mut self, asker: Asker, result: ReadResult, (from_disk, reveals): (bool, BatchId)) {
        let reply = Message::ReadReply { op: asker.op, result, from_disk };
        self.send(reveals, Outgoing::Peer(asker.node, reply));
    }

    /// Joins what a coordinator sent, and answers it.
    fn join_for(
        &mut self,
        asker: Asker,
        (target, stands_for): (Target, Option<NodeId>),
        held: (Option<&Object>, BatchId),
        incoming: Stored,
    ) {
        let partition = target.partition;
        let (result, reveals) = self.join((target, stands_for), held, incoming);
        let result = match result {
            // It is here, but whether something outranks it this replica cannot tell yet.
            WriteResult::Stored | WriteResult::Superseded(_) if !self.is_filled(partition) => {
                WriteResult::Refused(Why::NotReady)
            }
            result => result,
        };
        self.answer_write(asker.node, asker.op, result, reveals);
    }

    fn join(
        &mut self,
        (target, stands_for): (Target, Option<NodeId>),
        (held, batch): (Option<&Object>, BatchId),
        incoming: Stored,
    ) -> (WriteResult, BatchId) {
        self.clock.observe(incoming.object.written());
        let incoming = match self.admit_incoming(&target, held, incoming) {
            Admission::Join(incoming) => incoming,
            Admission::Known => return (WriteResult::Stored, batch),
            Admission::Refuse(why) => return (WriteResult::Refused(why), batch),
        };
        let Some(held) = held else { return self.take((target, stands_for), incoming) };
        match self.joined(held, &incoming.object) {
            Ok(Joined::Incoming) => self.take((target, stands_for), incoming),
            Ok(Joined::Merged(both)) => self.take((target, stands_for), Stored::new(both)),
            Ok(Joined::Unchanged) => (self.unchanged(held, &incoming.object), batch),
            Err(why) => (WriteResult::Refused(why), NOTHING),
        }
    }

    /// Stores what came of a join.
    fn take(
        &mut self,
        (target, stands_for): (Target, Option<NodeId>),
        stored: Stored,
    ) -> (WriteResult, BatchId) {
        let stored = self.pruned(&target, stored);
        (WriteResult::Stored, self.keep(target, stored, stands_for))
    }

    fn joined(&self, held: &Object, incoming: &Object) -> Result<Joined, Why> {
        let joined = held.join(incoming).map_err(|_differ| Why::Namespace)?;
        Ok(match joined {
            Joined::Merged(both)
                if self.options.mutation == Some(Mutation::DropConcurrentSibling) =>
            {
                // The planted fault keeps one side of two concurrent histories.
                if held.written() >= both.written() { Joined::Unchanged } else { Joined::Incoming }
            }
            joined => joined,
        })
    }

    /// What to say when our copy already holds what came in: in `lww`, that it is outranked (unless it is the very
    /// same write), because a write that begins after another's acknowledgement must end above it.
    fn unchanged(&self, held: &Object, incoming: &Object) -> WriteResult {
        match (held, incoming) {
            (Object::Lww(held), Object::Lww(new))
                if (held.written, held.dot) != (new.written, new.dot)
                    && self.options.mutation != Some(Mutation::HideSuperseded) =>
            {
                WriteResult::Superseded(held.written)
            }
            _ => WriteResult::Stored,
        }
    }

    /// Whether the disk is so far behind that a write which begins now will hardly be durable by then: the oldest batch
    /// has waited for as long already.
    pub(crate) fn sync_outlasts(&self, until_mono_ms: u64) -> bool {
        let behind_ms = self.store.sync_behind_ms(self.now.mono_ms);
        behind_ms > 0 && behind_ms >= until_mono_ms.saturating_sub(self.now.mono_ms)
    }

    pub(crate) fn admit_write(
        &mut self,
        until_mono_ms: u64,
        (namespace, key): (NamespaceId, &[u8]),
        object: Bytes,
    ) -> Result<(Target, Stored), Why> {
        let target = self.local_target(namespace, key)?;
        Ok((target, self.admit_object(until_mono_ms, namespace, object)?))
    }

    /// What this node coordinates itself and sends to itself is taken as it is: nothing has to be decoded. Gives back the
    /// bytes of anything else.
    fn own_write(&self, asker: Asker, encoded: Bytes) -> Result<(Target, Stored), Bytes> {
        let is_own = asker.node == self.info.member.node;
        let sent = self.operations.get(asker.op).filter(|_| is_own).and_then(Operation::written);
        let is_same =
            |sent: &(&Target, &Stored)| std::ptr::eq(sent.1.encoded.as_ref(), encoded.as_ref());
        match sent.filter(is_same) {
            Some((target, sent)) => {
                Ok((target.clone(), Stored { object: sent.object.clone(), encoded }))
            }
            None => Err(encoded),
        }
    }

    /// Where the key lies that this node reads as a coordinator and asks itself for.
    fn own_read(&self, asker: Asker) -> Option<Target> {
        let is_own = asker.node == self.info.member.node;
        self.operations.get(asker.op).filter(|_| is_own)?.read().cloned()
    }

    fn admit_own(
        &mut self,
        until_mono_ms: u64,
        (target, incoming): (Target, Stored),
    ) -> Result<(Target, Stored), Why> {
        self.check_served(target.namespace, target.partition)?;
        self.check_behind(until_mono_ms)?;
        let incoming = self.admit_decoded(target.namespace, incoming)?;
        Ok((target, incoming))
    }

    /// An object that may be joined into ours.
    pub(crate) fn admit_object(
        &mut self,
        until_mono_ms: u64,
        namespace: NamespaceId,
        object: Bytes,
    ) -> Result<Stored, Why> {
        self.check_behind(until_mono_ms)?;
        let incoming = Stored::outlined(object).map_err(|_damaged| Why::Unsupported)?;
        self.admit_decoded(namespace, incoming)
    }

    /// Refuses what the disk is too far behind for. One that is full is not one that is slow.
    fn check_behind(&self, until_mono_ms: u64) -> Result<(), Why> {
        let is_full = self.disk_room == DiskRoom::Exhausted;
        let is_behind = self.store.unsynced_bytes() >= self.options.unsynced_bytes_max
            || self.sync_outlasts(until_mono_ms);
        if is_behind && !is_full { Err(Why::Overloaded) } else { Ok(()) }
    }

    fn admit_decoded(&mut self, namespace: NamespaceId, incoming: Stored) -> Result<Stored, Why> {
        self.check_room(&incoming.object)?;
        self.check_kind(namespace, &incoming.object)?;
        self.check_skew(incoming.object.written())?;
        Ok(incoming)
    }

    /// The key's place, if this node is one of its owners or may stand in for one.
    pub(crate) fn hinted_target(&self, namespace: NamespaceId, key: &[u8]) -> Result<Target, Why> {
        if self.halted.is_some() {
            return Err(Why::Disk);
        }
        let record = self.record.as_ref().ok_or(Why::NotReady)?;
        let policy = self.namespaces.get(namespace).ok_or(Why::Namespace)?;
        let target = Target::new(namespace, key, record.ring.partition_of(key));
        if policy.sloppy || self.owns(&target) { Ok(target) } else { Err(Why::Namespace) }
    }

    /// The key's place, if this node serves it.
    fn local_target(&mut self, namespace: NamespaceId, key: &[u8]) -> Result<Target, Why> {
        if self.halted.is_some() {
            return Err(Why::Disk);
        }
        let target = self.target(namespace, key).ok_or(Why::NotReady)?;
        self.check_served(namespace, target.partition)?;
        Ok(target)
    }

    fn check_served(&self, namespace: NamespaceId, partition: Partition) -> Result<(), Why> {
        if self.halted.is_some() {
            return Err(Why::Disk);
        }
        let record = self.record.as_ref().ok_or(Why::NotReady)?;
        let policy = self.namespaces.get(namespace).ok_or(Why::Namespace)?;
        let owns = record.ring.owns(self.info.member.node, partition, policy.n);
        if owns { Ok(()) } else { Err(Why::NotReady) }
    }

    fn check_kind(&self, namespace: NamespaceId, object: &Object) -> Result<(), Why> {
        let conflict = self.namespaces.get(namespace).map(|policy| policy.conflict);
        match (conflict, object) {
            (Some(Conflict::Lww), Object::Lww(_))
            | (Some(Conflict::Siblings), Object::Siblings(_)) => Ok(()),
            _ => Err(Why::Namespace),
        }
    }

    /// Refuses a stamp from too far in the future: taking it would drag every clock that hears of it along.
    fn check_skew(&mut self, stamp: Hlc) -> Result<(), Why> {
        let ahead_ms = stamp.millis().saturating_sub(self.now.wall_ms);
        if ahead_ms <= self.options.max_clock_skew_ms {
            return Ok(());
        }
        self.figures.clock_skew_refused += 1;
        Err(Why::ClockSkew(ahead_ms))
    }

    pub(crate) fn refuse_write(&mut self, asker: Asker, why: Why) {
        self.answer_write(asker.node, asker.op, WriteResult::Refused(why), NOTHING);
    }

    pub(crate) fn answer_write(
        &mut self,
        to: NodeId,
        op: OpId,
        result: WriteResult,
        reveals: BatchId,
    ) {
        self.send(reveals, Outgoing::Peer(to, Message::WriteReply { op, result }));
    }

    fn refuse_read(&mut self, asker: Asker, why: Why) {
        let result = ReadResult::Refused(why);
        let reply = Message::ReadReply { op: asker.op, result, from_disk: false };
        self.send_plain(asker.node, reply);
    }
}
