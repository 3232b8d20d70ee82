//! The floor: since when everything began that this node may still send.

use moim_core::NodeId;
use moim_core::clock::Hlc;
use moim_core::ring::Partition;

use crate::node::Node;

impl Node {
    /// Whatever object this node may still send to a replica was stamped by it, or came into its hands, at or after this
    /// time. Never above what its clock may still stamp, and it never goes back: the clock's bound is persisted.
    ///
    /// Each source gives its oldest: requests that run (a read counts too, because a repair may come of it), copies
    /// owed, hints, and objects that wait for the disk on their way in. What the gate still holds of a request that has
    /// ended does not leave any more (its time is over). Called about once a second; costs one look at the running requests.
    pub(crate) fn pending_floor(&self) -> Hlc {
        let sources = [
            self.operations.oldest(),
            self.tasks.oldest(),
            self.hints.oldest(),
            self.store.oldest_read(),
            self.exchanges.oldest(),
        ];
        sources.into_iter().flatten().fold(self.clock.last(), Hlc::min)
    }

    /// The least floor that any ring member has reported, the dead included until they are removed.
    pub(super) fn members_floor(&self, pending: Hlc) -> Hlc {
        let Some(record) = &self.record else { return Hlc::ZERO };
        let own = self.info.member.node;
        let others = record.members.iter().map(|info| info.member.node).filter(|&node| node != own);
        let others: Vec<_> = others.collect();
        let heard = if others.is_empty() { pending } else { self.gossip.floor(others) };
        let least = pending.min(heard);
        // A node that lost its disk has lost its clock's bound too: its stamps begin again at the wall clock, which may
        // be behind hybrid time by as much as clocks may differ.
        let lost_bound_ms = 2 * self.options.max_clock_skew_ms;
        let millis = least.millis().saturating_sub(lost_bound_ms);
        Hlc::from_millis(millis)
    }

    /// When the last comparison began after which this node and `other` held the same of a partition.
    pub(super) fn equal_since(&self, other: NodeId, partition: Partition) -> Hlc {
        self.comparisons.equal_since(other, partition).unwrap_or(Hlc::ZERO)
    }
}
