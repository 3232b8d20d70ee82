//! Who was equal since when: what makes things settled.

use std::collections::BTreeMap;

use moim_core::ring::Partition;
use moim_core::{NamespaceId, NodeId};

use super::Knowledge;

/// Comparisons kept for one peer and partition: the last that counts, the next that will, and the newest.
const KEPT_MAX: usize = 3;

/// A comparison that found both equal, or made them so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Equal {
    knowledge: Knowledge,
    /// Slices that end here or before were left out.
    horizon_ms: u64,
}

/// Records of comparisons, in memory only: after a restart everything is compared anew.
#[derive(Debug, Default)]
pub(crate) struct Comparisons {
    by_peer: BTreeMap<(NodeId, Partition, Option<NamespaceId>), Vec<Equal>>,
    passed_ms: u64,
}

impl Comparisons {
    /// A comparison that began with this knowledge is over, and all that either held then is at both.
    pub(crate) fn note(
        &mut self,
        peer: NodeId,
        (partition, namespace): (Partition, Option<NamespaceId>),
        knowledge: Knowledge,
        horizon_ms: u64,
    ) {
        let passed_ms = self.passed_ms;
        let kept = self.by_peer.entry((peer, partition, namespace)).or_default();
        let counting = kept.iter().rposition(|equal| equal.horizon_ms <= passed_ms);
        kept.drain(..counting.unwrap_or(0));
        if kept.len() == KEPT_MAX {
            kept.pop();
        }
        kept.push(Equal { knowledge, horizon_ms });
        assert!(kept.len() <= KEPT_MAX, "records of one pair grow");
    }

    /// Slices that end here have passed at this node by more than the clock error.
    pub(crate) fn pass(&mut self, passed_ms: u64) {
        self.passed_ms = self.passed_ms.max(passed_ms);
    }

    /// What the latest comparison of everything in a partition with that owner went on, if it found both equal or made
    /// them so. It counts once the slices that it left out have passed as well: until then one of the two may hold a
    /// value there that the other has deleted.
    pub(crate) fn knowledge(&self, peer: NodeId, partition: Partition) -> Knowledge {
        let of_all = self.by_peer.get(&(peer, partition, None)).into_iter().flatten();
        let mut counting = of_all.filter(|equal| equal.horizon_ms <= self.passed_ms);
        counting.next_back().map_or_else(Knowledge::default, |equal| equal.knowledge)
    }

    /// An owner may have restarted: how far it was complete means nothing any more.
    pub(crate) fn void_completeness(&mut self) {
        for equal in self.by_peer.values_mut().flatten() {
            equal.knowledge.complete = moim_core::clock::Hlc::ZERO;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use moim_core::clock::Hlc;
    use moim_core::ring::PartitionCount;

    fn known(at_ms: u64) -> Knowledge {
        let at = Hlc::from_millis(at_ms);
        Knowledge { floor: at, complete: at }
    }

    #[test]
    fn a_comparison_counts_when_what_it_left_out_has_passed() {
        let partition = PartitionCount::DEFAULT.partition(1).expect("below 4096");
        let (peer, namespace) = (NodeId(2), NamespaceId(0));
        let mut comparisons = Comparisons::default();
        for at_ms in [10, 20, 30, 40] {
            comparisons.note(peer, (partition, None), known(at_ms), at_ms + 5);
        }
        assert_eq!(comparisons.knowledge(peer, partition), Knowledge::default());
        comparisons.pass(26);
        assert_eq!(comparisons.knowledge(peer, partition), known(20));
        comparisons.note(peer, (partition, None), known(50), 55);
        comparisons.pass(45);
        assert_eq!(comparisons.knowledge(peer, partition), known(40));
        comparisons.note(peer, (partition, Some(namespace)), known(60), 44);
        assert_eq!(comparisons.knowledge(peer, partition), known(40), "one namespace is not all");
        assert_eq!(comparisons.knowledge(NodeId(3), partition), Knowledge::default());
        comparisons.void_completeness();
        assert_eq!(comparisons.knowledge(peer, partition).complete, Hlc::ZERO);
        assert_eq!(comparisons.knowledge(peer, partition).floor, Hlc::from_millis(40));
    }
}
