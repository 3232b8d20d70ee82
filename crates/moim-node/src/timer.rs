//! Deadlines in one table. A timer that is no longer wanted is not looked for: its owner is gone when it rings.

use std::collections::BTreeMap;

use moim_core::NodeId;

use crate::message::OpId;

/// What a timer is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Timer {
    /// An operation's time is over.
    Deadline(OpId),
    /// A read has waited long enough for the replicas it asked.
    ReadRetry(OpId),
    /// A write that met a later version has waited long enough for the other owners.
    Restamp(OpId),
    /// Look after the peers.
    PeerTick,
    /// Raise the own heartbeat and tell a few.
    Gossip,
    /// Look how far things have settled.
    Settle,
    /// Offer owed copies again.
    TaskRetry(NodeId),
    /// Look whom to compare with.
    ExchangeTick,
    /// The pace lets an exchange with this peer, of this number, go on.
    ExchangePage(NodeId, u64),
    /// The pace lets this question of a peer that fills its disk be answered.
    Give(u64),
    /// Offer again what is kept for an owner.
    HandOff(NodeId),
    /// A request has waited long enough for owners: others stand in.
    StandIn(OpId),
}

/// Timers by the millisecond at which they ring. Operations of one moment share a list, so that setting one costs a
/// push.
#[derive(Debug, Default)]
pub(crate) struct Timers {
    by_mono_ms: BTreeMap<u64, Vec<Timer>>,
}

impl Timers {
    pub(crate) fn set(&mut self, at_mono_ms: u64, timer: Timer) {
        self.by_mono_ms.entry(at_mono_ms).or_default().push(timer);
    }

    /// Removes and returns what is due, earliest first.
    pub(crate) fn due(&mut self, mono_ms: u64) -> Vec<Timer> {
        let mut due = Vec::new();
        while let Some(entry) =
            self.by_mono_ms.first_entry().filter(|entry| *entry.key() <= mono_ms)
        {
            due.extend(entry.remove());
        }
        due
    }

    pub(crate) fn next_mono_ms(&self) -> Option<u64> {
        self.by_mono_ms.first_key_value().map(|(&at, _)| at)
    }
}
