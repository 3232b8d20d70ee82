//! What is being brought to somebody: a lost disk filled, repairs on demand, copies handed over to owners that are back.
//! Each is looked at twice a second, and one that has not got on for [`STALLED_MS`] is an alarm: it is tried for ever,
//! but somebody should know.
//!
//! Seen from outside, so that nothing in those transfers has to think of it: one has got on when less is left than before,
//! or more bytes have moved. Copies kept for an owner that cannot be reached are not on their way and not here. Bounded
//! by the repairs that are remembered, the members, and one. Left out: comparisons on schedule, which nobody waits for.

use std::collections::BTreeMap;

use moim_core::NodeId;

use crate::node::Node;
use crate::views::{ExchangeReason, TransferReason, TransferView};

/// Without progress for so long, in milliseconds, a transfer is an alarm. A dozen times `exchange_answer_ms`.
pub const STALLED_MS: u64 = 60_000;

/// Transfers under way.
#[derive(Debug, Default)]
pub(crate) struct Transfers {
    by_name: BTreeMap<(TransferReason, Option<NodeId>), TransferView>,
}

impl Node {
    /// Looks how far transfers are.
    pub(crate) fn watch_transfers(&mut self) {
        let before = std::mem::take(&mut self.transfers.by_name);
        for now in self.transfers_now() {
            let name = (now.reason, now.peer);
            let view = before.get(&name).map_or(now, |known| {
                let moves = now.left < known.left || now.bytes > known.bytes;
                let moved_mono_ms = if moves { now.moved_mono_ms } else { known.moved_mono_ms };
                let (began_mono_ms, total) = (known.began_mono_ms, known.total.max(now.total));
                TransferView { began_mono_ms, moved_mono_ms, total, ..now }
            });
            self.transfers.by_name.insert(name, view);
        }
    }

    /// Transfers as if they had begun just now.
    fn transfers_now(&self) -> Vec<TransferView> {
        let mono_ms = self.now.mono_ms;
        let fresh = |reason, (left, total): (u64, u64), bytes| {
            let (began_mono_ms, moved_mono_ms) = (mono_ms, mono_ms);
            TransferView { reason, peer: None, began_mono_ms, moved_mono_ms, left, total, bytes }
        };
        let mut all = Vec::new();
        let (exchanges, repairs) = self.repairs();
        if let Some(filling) = &self.filling {
            let view = filling.view();
            let running = exchanges.iter().filter(|it| it.reason == ExchangeReason::Fill);
            let bytes = filling.bytes() + running.map(|it| it.bytes).sum::<u64>();
            let left = view.partitions - view.filled;
            all.push(fresh(TransferReason::Refill, (left, view.partitions), bytes));
        }
        for repair in repairs.iter().filter(|repair| repair.ended_mono_ms.is_none()) {
            let left = repair.partitions.saturating_sub(repair.partitions_done);
            let reason = TransferReason::Repair(repair.id);
            all.push(fresh(reason, (left, repair.partitions), repair.bytes));
        }
        for owner in self.hints.awaited().into_iter().filter(|&owner| self.can_ask(owner)) {
            let left = self.hints.count_for(owner);
            let view = fresh(TransferReason::Hints, (left, left), 0);
            all.push(TransferView { peer: Some(owner), ..view });
        }
        all
    }

    /// Transfers under way.
    pub fn transfers(&self) -> Vec<TransferView> {
        self.transfers.by_name.values().copied().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_that_does_not_get_on_is_an_alarm() {
        let view = TransferView {
            reason: TransferReason::Refill,
            peer: None,
            began_mono_ms: 5,
            moved_mono_ms: 1_000,
            left: 7,
            total: 9,
            bytes: 0,
        };
        assert!(!view.is_stalled(STALLED_MS) && !view.is_stalled(1_000 + STALLED_MS - 1));
        assert!(view.is_stalled(1_000 + STALLED_MS));
    }
}
