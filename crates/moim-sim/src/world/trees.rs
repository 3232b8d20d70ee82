//! Whether owners' Merkle trees are equal: the end of all repair.

use std::collections::BTreeMap;

use moim_core::NodeId;
use moim_core::merkle::Place;

use super::World;

impl World {
    /// A tree that two of its owners sum up differently, in words. What may have expired on some clock is left out.
    pub(crate) fn tree_difference(&self) -> Option<String> {
        let horizon_ms = self.wall_ms_max() + self.common.options.max_clock_skew_ms;
        let roots: BTreeMap<NodeId, BTreeMap<Place, u64>> = self
            .servers
            .iter()
            .filter_map(|server| Some((server.id(), server.node.as_ref()?.tree_roots(horizon_ms))))
            .collect();
        let ring = &self.nodes().next()?.record()?.ring;
        for place in roots.values().flat_map(BTreeMap::keys) {
            let sum_at = |owner: NodeId| roots.get(&owner).and_then(|of| of.get(place)).copied();
            let owners = ring.owners_of(place.partition, self.plan.shape.n);
            let sums: Vec<_> = owners.map(|owner| (owner, sum_at(owner))).collect();
            if sums.windows(2).any(|pair| pair[0].1 != pair[1].1) {
                return Some(format!("{place:?}: {sums:?}"));
            }
        }
        None
    }
}
