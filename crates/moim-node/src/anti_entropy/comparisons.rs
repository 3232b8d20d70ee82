//! Who was equal since when: what makes things settled.

use std::collections::BTreeMap;

use moim_core::NodeId;
use moim_core::clock::Hlc;
use moim_core::ring::Partition;

/// Comparisons kept for one peer and partition: the last that counts, the next that will, and the newest.
const KEPT_MAX: usize = 3;

/// A comparison that found both equal, or made them so. Times are of this node's clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Equal {
    since: Hlc,
    /// Slices that end here or before were left out.
    horizon_ms: u64,
}

/// Records of comparisons, in memory only: after a restart everything is compared anew.
#[derive(Debug, Default)]
pub(crate) struct Comparisons {
    by_peer: BTreeMap<(NodeId, Partition), Vec<Equal>>,
    passed_ms: u64,
}

impl Comparisons {
    /// A comparison that began at `since` is over, and all that either held then is at both.
    pub(crate) fn note(&mut self, peer: NodeId, partition: Partition, since: Hlc, horizon_ms: u64) {
        let passed_ms = self.passed_ms;
        let kept = self.by_peer.entry((peer, partition)).or_default();
        let counting = kept.iter().rposition(|equal| equal.horizon_ms <= passed_ms);
        kept.drain(..counting.unwrap_or(0));
        if kept.len() == KEPT_MAX {
            kept.pop();
        }
        kept.push(Equal { since, horizon_ms });
        assert!(kept.len() <= KEPT_MAX, "records of one pair grow");
    }

    /// Slices that end here have passed at this node by more than the clock error.
    pub(crate) fn pass(&mut self, passed_ms: u64) {
        self.passed_ms = self.passed_ms.max(passed_ms);
    }

    /// The start of the latest comparison with that owner that found both equal, or made them so. It counts once the
    /// slices that it left out have passed as well: until then one of the two may hold a value there that the other has
    /// deleted.
    pub(crate) fn equal_since(&self, peer: NodeId, partition: Partition) -> Option<Hlc> {
        let kept = self.by_peer.get(&(peer, partition))?;
        let counting = kept.iter().filter(|equal| equal.horizon_ms <= self.passed_ms);
        counting.map(|equal| equal.since).max()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use moim_core::ring::PartitionCount;

    #[test]
    fn a_comparison_counts_when_what_it_left_out_has_passed() {
        let partition = PartitionCount::DEFAULT.partition(1).expect("below 4096");
        let peer = NodeId(2);
        let mut comparisons = Comparisons::default();
        let since = |at_ms: u64| Some(Hlc::from_millis(at_ms));
        for at_ms in [10, 20, 30, 40] {
            comparisons.note(peer, partition, Hlc::from_millis(at_ms), at_ms + 5);
        }
        assert_eq!(comparisons.equal_since(peer, partition), None);
        comparisons.pass(26);
        assert_eq!(comparisons.equal_since(peer, partition), since(20));
        comparisons.note(peer, partition, Hlc::from_millis(50), 55);
        comparisons.pass(45);
        assert_eq!(comparisons.equal_since(peer, partition), since(40));
        assert_eq!(comparisons.equal_since(NodeId(3), partition), None);
    }
}
