//! The one place that decides when a message may leave (INV-2).
//!
//! Every outgoing message names the batch it reveals: an acknowledgement its own, a read's answer the last batch that
//! touched the key, a ping none. It leaves when that batch is as durable as configured; turns go on meanwhile. This
//! holds for messages to the node's own replica as well: the coordinator treats it like any other. What a client is told comes
//! of answers that have passed here, and reveals no more than they did.

use std::collections::BTreeMap;

use crate::api::{BatchId, Effect, Why};
use crate::message::{Message, ReadResult, WriteResult};
use crate::node::Node;
use moim_core::NodeId;

/// Something that leaves the node (or goes to its own replica).
#[derive(Debug)]
pub(crate) enum Outgoing {
    Peer(NodeId, Message),
    Adopted,
}

/// Holds back what reveals batches that are not yet durable.
#[derive(Debug, Default)]
pub(crate) struct Gate {
    durable: BatchId,
    held: BTreeMap<BatchId, Vec<Held>>,
    /// Lists that are empty again: each has grown to what a batch usually holds back.
    spare: Vec<Vec<Held>>,
    count: usize,
    /// Switched on by the simulator only: lets everything through at once.
    open: bool,
}

/// Something that waits for its batch.
#[derive(Debug)]
struct Held {
    since_mono_ms: u64,
    outgoing: Outgoing,
}

/// Empty lists kept for the next batches: a few are on their way to the disk at any time.
const SPARE_MAX: usize = 8;

/// An empty list that is larger is given back: it held the answers of an unusual moment.
const SPARE_CAPACITY_MAX: usize = 4_096;

/// Reveals nothing that a crash could take back.
pub(crate) const NOTHING: BatchId = BatchId(0);

impl Gate {
    /// `durable` is what the disk kept of earlier runs.
    pub(crate) fn new(open: bool, durable: BatchId) -> Self {
        Self { durable, open, ..Self::default() }
    }

    /// The highest durable batch.
    pub(crate) fn durable(&self) -> BatchId {
        self.durable
    }

    /// Whether what reveals this batch has to wait.
    pub(crate) fn holds(&self, reveals: BatchId) -> bool {
        !self.open && reveals > self.durable
    }

    /// Keeps a message until the batch that it reveals is durable.
    fn hold(&mut self, mono_ms: u64, reveals: BatchId, outgoing: Outgoing) {
        let list = self.held.entry(reveals).or_insert_with(|| self.spare.pop().unwrap_or_default());
        list.push(Held { since_mono_ms: mono_ms, outgoing });
        self.count += 1;
    }

    /// Everything up to `batch` is durable.
    fn advance(&mut self, batch: BatchId) {
        self.durable = self.durable.max(batch);
    }

    /// What the earliest batch holds back that is durable by now, for [`Self::give_back`] when it is empty.
    fn due(&mut self) -> Option<Vec<Held>> {
        let entry = self.held.first_entry().filter(|entry| *entry.key() <= self.durable)?;
        let list = entry.remove();
        self.count -= list.len();
        Some(list)
    }

    /// Keeps an empty list for another batch.
    fn give_back(&mut self, list: Vec<Held>) {
        assert!(list.is_empty(), "what was held has left");
        if self.spare.len() < SPARE_MAX && list.capacity() <= SPARE_CAPACITY_MAX {
            self.spare.push(list);
        }
    }

    /// How much is held.
    pub(crate) fn len(&self) -> usize {
        self.count
    }

    /// After a failed sync nothing that was held will ever be true.
    pub(crate) fn drop_held(&mut self) {
        self.held.clear();
        self.count = 0;
    }
}

impl Node {
    /// Lets something leave now or when `reveals` is durable.
    #[inline]
    pub(crate) fn send(&mut self, reveals: BatchId, outgoing: Outgoing) {
        if self.gate.holds(reveals) {
            self.hold_back(reveals, outgoing);
        } else {
            self.leave(outgoing);
        }
    }

    fn hold_back(&mut self, reveals: BatchId, outgoing: Outgoing) {
        if self.gate.len() < self.options.held_max {
            return self.gate.hold(self.now.mono_ms, reveals, outgoing);
        }
        match refused(outgoing) {
            Ok(refusal) => self.leave(refusal),
            Err(outgoing) => self.gate.hold(self.now.mono_ms, reveals, outgoing),
        }
    }

    /// Sends what reveals nothing: it carries no stamp of this node's, and says nothing of its own replica.
    #[inline]
    pub(crate) fn send_plain(&mut self, to: NodeId, message: Message) {
        if to == self.info.member.node {
            self.local.push_back(message);
        } else {
            self.addressed.note(to);
            self.effects.push(Effect::Send(to, message));
        }
    }

    #[inline]
    fn leave(&mut self, outgoing: Outgoing) {
        match outgoing {
            Outgoing::Peer(to, message) => self.send_plain(to, message),
            Outgoing::Adopted => self.adopt(),
        }
    }

    pub(crate) fn on_durable(&mut self, batch: BatchId) {
        if self.halted.is_some() {
            return;
        }
        self.store.durable_up_to(batch);
        self.gate.advance(batch);
        while let Some(mut list) = self.gate.due() {
            for mut held in list.drain(..) {
                if held.is_wanted(self.now.mono_ms) {
                    self.leave(held.outgoing);
                } else {
                    self.figures.expired += 1;
                }
            }
            self.gate.give_back(list);
        }
    }
}

impl Held {
    /// Takes the time that a request spent here off what its asker still waits; says whether anything is left.
    fn is_wanted(&mut self, mono_ms: u64) -> bool {
        let Outgoing::Peer(_, message) = &mut self.outgoing else { return true };
        let Some(budget_ms) = message.budget_ms_mut() else { return true };
        let waited_ms = mono_ms.saturating_sub(self.since_mono_ms);
        let waited_ms = u32::try_from(waited_ms).unwrap_or(u32::MAX);
        *budget_ms = budget_ms.saturating_sub(waited_ms);
        *budget_ms > 0
    }
}

/// Instead of a replica's answer, for want of room to hold it back: that it is overloaded, which reveals nothing. Anything
/// else as it is.
fn refused(outgoing: Outgoing) -> Result<Outgoing, Outgoing> {
    match outgoing {
        Outgoing::Peer(to, Message::WriteReply { op, .. }) => {
            let result = WriteResult::Refused(Why::Overloaded);
            Ok(Outgoing::Peer(to, Message::WriteReply { op, result }))
        }
        Outgoing::Peer(to, Message::ReadReply { op, .. }) => {
            let result = ReadResult::Refused(Why::Overloaded);
            Ok(Outgoing::Peer(to, Message::ReadReply { op, result, from_disk: false }))
        }
        other => Err(other),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What may leave at this time, once everything up to `batch` is durable, and how much nobody waits for.
    fn left(gate: &mut Gate, mono_ms: u64, batch: BatchId) -> (Vec<Outgoing>, u64) {
        let (mut left, mut expired) = (Vec::new(), 0);
        gate.advance(batch);
        while let Some(mut list) = gate.due() {
            for mut held in list.drain(..) {
                if held.is_wanted(mono_ms) {
                    left.push(held.outgoing);
                } else {
                    expired += 1;
                }
            }
            gate.give_back(list);
        }
        (left, expired)
    }

    #[test]
    fn nothing_passes_before_its_batch() {
        let mut gate = Gate::new(false, NOTHING);
        let ping = || Outgoing::Peer(NodeId(1), Message::Ping);
        assert!(!gate.holds(NOTHING));
        for batch in [2, 1] {
            assert!(gate.holds(BatchId(batch)));
            gate.hold(0, BatchId(batch), ping());
        }
        assert_eq!(left(&mut gate, 0, BatchId(1)).0.len(), 1);
        assert!(gate.holds(BatchId(2)) && gate.len() == 1);
        assert_eq!(left(&mut gate, 0, BatchId(3)).0.len(), 1);
        assert!(!gate.holds(BatchId(3)) && gate.len() == 0);
    }

    #[test]
    fn what_waited_too_long_does_not_leave() {
        let mut gate = Gate::new(false, NOTHING);
        let founding = Outgoing::Peer(NodeId(1), Message::Founding { digest: 1 });
        let read = |budget_ms| {
            let (op, key) = (crate::message::OpId(1), bytes::Bytes::new());
            let (namespace, want) = (moim_core::NamespaceId(0), crate::message::Want::Digest);
            Outgoing::Peer(NodeId(1), Message::Read { op, namespace, key, want, budget_ms })
        };
        for outgoing in [read(50), read(51), founding] {
            gate.hold(100, BatchId(1), outgoing);
        }
        assert_eq!(gate.len(), 3);
        let (mut left, expired) = left(&mut gate, 150, BatchId(1));
        assert_eq!((left.len(), expired, gate.len()), (2, 1, 0));
        let Outgoing::Peer(_, message) = &mut left[0] else { panic!("a message to a peer") };
        assert_eq!(message.budget_ms_mut(), Some(&mut 1));
    }
}
