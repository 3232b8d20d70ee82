//! The one place that decides when a message may leave (INV-2).
//!
//! Every outgoing message names the batch it reveals: an acknowledgement its own, a read's answer the last batch that
//! touched the key, a ping none. It leaves when that batch is as durable as configured; turns go on meanwhile. This
//! holds for messages to the node's own replica as well: the coordinator treats it like any other.

use std::collections::BTreeMap;

use crate::api::{BatchId, Effect, Outcome, RequestId, Why};
use crate::message::{Message, ReadResult, WriteResult};
use crate::node::Node;
use moim_core::NodeId;

/// Something that leaves the node (or goes to its own replica).
#[derive(Debug)]
pub(crate) enum Outgoing {
    Peer(NodeId, Message),
    Client(RequestId, Outcome),
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

    /// Returns the message if it may leave now, keeps it otherwise.
    pub(crate) fn pass(
        &mut self,
        mono_ms: u64,
        reveals: BatchId,
        outgoing: Outgoing,
    ) -> Option<Outgoing> {
        if !self.holds(reveals) {
            return Some(outgoing);
        }
        let list = self.held.entry(reveals).or_insert_with(|| self.spare.pop().unwrap_or_default());
        list.push(Held { since_mono_ms: mono_ms, outgoing });
        self.count += 1;
        None
    }

    /// Everything up to `batch` is durable: appends what may leave now to `leaving`, in the order of batches, less what
    /// nobody waits for any more; returns how much that was.
    pub(crate) fn durable_up_to(
        &mut self,
        mono_ms: u64,
        batch: BatchId,
        leaving: &mut Vec<Outgoing>,
    ) -> u64 {
        self.durable = self.durable.max(batch);
        let mut expired = 0;
        while let Some(entry) = self.held.first_entry().filter(|entry| *entry.key() <= self.durable)
        {
            let mut list = entry.remove();
            self.count -= list.len();
            for held in list.drain(..) {
                let waited_ms = mono_ms.saturating_sub(held.since_mono_ms);
                match aged(held.outgoing, u32::try_from(waited_ms).unwrap_or(u32::MAX)) {
                    Some(outgoing) => leaving.push(outgoing),
                    None => expired += 1,
                }
            }
            if self.spare.len() < SPARE_MAX && list.capacity() <= SPARE_CAPACITY_MAX {
                self.spare.push(list);
            }
        }
        expired
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
    pub(crate) fn send(&mut self, reveals: BatchId, outgoing: Outgoing) {
        let full = self.gate.holds(reveals) && self.gate.len() >= self.options.held_max;
        let (reveals, outgoing) =
            if full { refused(reveals, outgoing) } else { (reveals, outgoing) };
        if let Some(outgoing) = self.gate.pass(self.now.mono_ms, reveals, outgoing) {
            self.leave(outgoing);
        }
    }

    fn leave(&mut self, outgoing: Outgoing) {
        match outgoing {
            Outgoing::Peer(to, message) if to == self.info.member.node => {
                self.local.push_back(message);
            }
            Outgoing::Peer(to, message) => {
                self.addressed.note(to);
                self.effects.push(Effect::Send(to, message));
            }
            Outgoing::Client(id, outcome) => self.effects.push(Effect::Reply(id, outcome)),
            Outgoing::Adopted => self.adopt(),
        }
    }

    pub(crate) fn on_durable(&mut self, batch: BatchId) {
        if self.halted.is_some() {
            return;
        }
        self.store.durable_up_to(batch);
        let mut leaving = std::mem::take(&mut self.leaving);
        self.figures.expired += self.gate.durable_up_to(self.now.mono_ms, batch, &mut leaving);
        for outgoing in leaving.drain(..) {
            self.leave(outgoing);
        }
        self.leaving = leaving;
    }
}

/// Instead of a replica's answer, for want of room to hold it back: that it is overloaded. Anything else as it is.
fn refused(reveals: BatchId, outgoing: Outgoing) -> (BatchId, Outgoing) {
    match outgoing {
        Outgoing::Peer(to, Message::WriteReply { op, .. }) => {
            let result = WriteResult::Refused(Why::Overloaded);
            (NOTHING, Outgoing::Peer(to, Message::WriteReply { op, result }))
        }
        Outgoing::Peer(to, Message::ReadReply { op, .. }) => {
            let result = ReadResult::Refused(Why::Overloaded);
            (NOTHING, Outgoing::Peer(to, Message::ReadReply { op, result, from_disk: false }))
        }
        other => (reveals, other),
    }
}

/// Takes the time that a request spent here off what its asker still waits; nothing is left of one that is too late.
fn aged(mut outgoing: Outgoing, waited_ms: u32) -> Option<Outgoing> {
    if let Outgoing::Peer(_, message) = &mut outgoing
        && let Some(budget_ms) = message.budget_ms_mut()
    {
        *budget_ms = budget_ms.checked_sub(waited_ms).filter(|&left_ms| left_ms > 0)?;
    }
    Some(outgoing)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_passes_before_its_batch() {
        let mut gate = Gate::new(false, NOTHING);
        let ping = || Outgoing::Peer(NodeId(1), Message::Ping);
        assert!(gate.pass(0, NOTHING, ping()).is_some());
        assert!(gate.pass(0, BatchId(2), ping()).is_none());
        assert!(gate.pass(0, BatchId(1), ping()).is_none());
        let mut left = Vec::new();
        gate.durable_up_to(0, BatchId(1), &mut left);
        assert_eq!(left.len(), 1);
        gate.durable_up_to(0, BatchId(3), &mut left);
        assert_eq!(left.len(), 2);
        assert!(gate.pass(0, BatchId(3), ping()).is_some());
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
        assert!(gate.pass(100, BatchId(1), read(50)).is_none());
        assert!(gate.pass(100, BatchId(1), read(51)).is_none());
        assert!(gate.pass(100, BatchId(1), founding).is_none());
        assert_eq!(gate.len(), 3);
        let mut left = Vec::new();
        let expired = gate.durable_up_to(150, BatchId(1), &mut left);
        assert_eq!((left.len(), expired, gate.len()), (2, 1, 0));
        let Outgoing::Peer(_, message) = &mut left[0] else { panic!("a message to a peer") };
        assert_eq!(message.budget_ms_mut(), Some(&mut 1));
    }
}
