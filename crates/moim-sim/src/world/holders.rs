//! Who holds a write at the moment of its acknowledgement (INV-2, INV-5).
//!
//! The only check that looks into disks rather than at what clients see: it notices an acknowledgement that came too
//! early even when nothing happens to fail afterwards.

use bytes::Bytes;
use moim_core::NodeId;
use moim_core::object::{Context, Object};
use moim_node::{Outcome, keyspace};
use moim_storage::Family;

use super::World;
use super::clients::namespace;
use crate::check::cart;

impl World {
    /// A client is about to be told that its write is acknowledged: W owners must have it synced, this one or what
    /// replaced it, but for old pairs of its clock, which owners prune each in its own time. A node that stands in counts
    /// if it has synced as well that it keeps it for them.
    pub(super) fn check_held(&mut self, node: usize, operation: u64, outcome: &Outcome) {
        let Outcome::Written { context, version } = outcome else { return };
        let Some(entry) = self.entry(operation) else { return };
        // A disk that was lost meanwhile may have held it when its node said so.
        if self.disk_lost_us.is_some_and(|lost_us| lost_us >= entry.start.at_us) {
            return;
        }
        let needed = entry.w;
        let of_key = &entry.key;
        let earlier = self.history.iter().filter(|operation| operation.key == *of_key);
        let pairs_max = self.common.options.clock_pairs_max;
        let (namespace, key) = (namespace(&entry.key), Bytes::from(entry.key.name.clone()));
        let Some(ring) = self.servers[node].node.as_ref().and_then(|node| node.record()) else {
            return;
        };
        let partition = ring.ring.partition_of(&key);
        let data_key = keyspace::data_key(partition, namespace, &key);
        let synced = |node: &NodeId, family| {
            let disk = self.index_of(*node).map(|index| &self.servers[index].disk);
            disk.and_then(|disk| disk.get_synced(family, &data_key))
        };
        let holds = |node: &NodeId| {
            let held = synced(node, Family::Data);
            let object = held.and_then(|held| Object::decode(held).ok());
            object.is_some_and(|object| match (context, object.context()) {
                (Context::Siblings(written), Context::Siblings(held)) => {
                    let is_old = cart::are_old(earlier.clone(), self.now_us);
                    held.descends(&cart::without_pruned(written, &held, pairs_max, &is_old))
                }
                _ => object.written() >= *version,
            })
        };
        let n = self.plan.shape.n;
        let owners = ring.ring.owners_of(partition, n).filter(holds);
        let keeps = |node: &NodeId| holds(node) && synced(node, Family::Hints).is_some();
        let stand_ins = ring.ring.stand_ins_of(partition, n).filter(keeps);
        let held = u8::try_from(owners.count() + stand_ins.count()).unwrap_or(u8::MAX);
        if held < needed {
            self.unheld.push((operation, held, needed));
        }
    }
}
