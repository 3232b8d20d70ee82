//! What may be forgotten. *Settled* of a partition is the latest time up to which every owner is known to hold the same
//! and no member can still send anything older: below it tombstones, headers of expired values and old pairs of a clock
//! may go, and nothing above it ever does (INV-7).

use moim_core::clock::Hlc;

use crate::node::Node;

impl Node {
    /// Nothing stamped earlier than this may still be sent by this node: pending writes, hints, repairs.
    #[expect(dead_code, reason = "gossip will carry it")]
    pub(crate) fn pending_floor(&self) -> Hlc {
        // Writes under way are not known by their stamps yet.
        let kept = self.hints.floor().into_iter().chain(self.tasks.floor());
        kept.fold(Hlc::default(), Hlc::min)
    }
}
