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

impl World {
    /// A client is about to be told that its write is acknowledged: W owners must have it synced, this one or what
    /// replaced it.
    pub(super) fn check_held(&mut self, node: usize, operation: u64, outcome: &Outcome) {
        let Outcome::Written { context, version } = outcome else { return };
        let Some(entry) = self.entry(operation) else { return };
        // A disk that was lost meanwhile may have held it when its node said so.
        if self.disk_lost_us.is_some_and(|lost_us| lost_us >= entry.start.at_us) {
            return;
        }
        let needed = entry.w;
        let (namespace, key) = (namespace(&entry.key), Bytes::from(entry.key.name.clone()));
        let Some(ring) = self.servers[node].node.as_ref().and_then(|node| node.record()) else {
            return;
        };
        let partition = ring.ring.partition_of(&key);
        let data_key = keyspace::data_key(partition, namespace, &key);
        let holds = |owner: &NodeId| {
            let disk = self.index_of(*owner).map(|index| &self.servers[index].disk);
            let held = disk.and_then(|disk| disk.get_synced(Family::Data, &data_key));
            let object = held.and_then(|held| Object::decode(held).ok());
            object.is_some_and(|object| match (context, object.context()) {
                (Context::Siblings(written), Context::Siblings(held)) => held.descends(written),
                _ => object.written() >= *version,
            })
        };
        let mut owners: Vec<NodeId> = ring.ring.owners_of(partition, self.plan.shape.n).collect();
        if entry.key.sloppy {
            // Whoever stands in counts as well.
            owners = self.servers.iter().map(super::server::Server::id).collect();
        }
        let held =
            u8::try_from(owners.iter().filter(|owner| holds(owner)).count()).unwrap_or(u8::MAX);
        if held < needed {
            self.unheld.push((operation, held, needed));
        }
    }
}
