//! The one place that decides when a message may leave (INV-2).
//!
//! Every outgoing message names the batch it reveals: an acknowledgement its own, a read's answer the last batch that
//! touched the key, a ping none. It leaves when that batch is as durable as configured; turns go on meanwhile. This
//! holds for messages to the node's own replica as well: the coordinator treats it like any other.

use std::collections::BTreeMap;

use crate::api::{BatchId, Outcome, RequestId};
use crate::message::Message;
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
    held: BTreeMap<BatchId, Vec<Outgoing>>,
    /// Switched on by the simulator only: lets everything through at once.
    open: bool,
}

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

    /// Returns the message if it may leave now, keeps it otherwise.
    pub(crate) fn pass(&mut self, reveals: BatchId, outgoing: Outgoing) -> Option<Outgoing> {
        if self.open || reveals <= self.durable {
            return Some(outgoing);
        }
        self.held.entry(reveals).or_default().push(outgoing);
        None
    }

    /// Everything up to `batch` is durable: returns what may leave now, in the order of batches.
    pub(crate) fn durable_up_to(
        &mut self,
        batch: BatchId,
    ) -> impl Iterator<Item = Outgoing> + use<> {
        self.durable = self.durable.max(batch);
        let still_held = self.held.split_off(&BatchId(self.durable.0 + 1));
        std::mem::replace(&mut self.held, still_held).into_values().flatten()
    }

    /// After a failed sync nothing that was held will ever be true.
    pub(crate) fn drop_held(&mut self) {
        self.held.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_passes_before_its_batch() {
        let mut gate = Gate::new(false, NOTHING);
        let ping = || Outgoing::Peer(NodeId(1), Message::Ping);
        assert!(gate.pass(NOTHING, ping()).is_some());
        assert!(gate.pass(BatchId(2), ping()).is_none());
        assert!(gate.pass(BatchId(1), ping()).is_none());
        assert_eq!(gate.durable_up_to(BatchId(1)).count(), 1);
        assert_eq!(gate.durable_up_to(BatchId(3)).count(), 1);
        assert!(gate.pass(BatchId(3), ping()).is_some());
    }
}
