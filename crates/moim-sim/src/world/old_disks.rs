//! Old copies of disks whose nodes serve from them and do not know it.
//!
//! A node cannot tell by itself that its disk is an old copy. The others remember how far it had been, in memory, and it
//! waits a second for those that it cannot reach. If all who remember are away for longer, or have restarted since, it
//! serves what it has, and a request that needs it to meet an acknowledged write may miss that write: a quorum in which
//! one owner has silently forgotten is one owner short. So such requests are judged as if that owner had not taken part,
//! and the copy counts as gone until its node is filled, or to the end.

use std::collections::BTreeMap;

use bytes::Bytes;
use moim_node::Node;
use moim_node::keyspace::META_BATCH;
use moim_storage::Family;

use super::World;
use crate::history::Operation;

/// What is known of old disks.
#[derive(Debug, Default)]
pub(super) struct OldDisks {
    /// Nodes whose disks lack batches that were durable, and that have not noticed; since when they serve nevertheless.
    unnoticed: BTreeMap<usize, Option<u64>>,
    /// The highest batch that was ever durable on a disk that its node has lost: an old copy may come after an empty one.
    lost: BTreeMap<usize, u64>,
    /// Nodes that served unnoticed, from when to when, until they noticed or lost that disk as well.
    served: Vec<(usize, u64, u64)>,
}

impl OldDisks {
    fn end(&mut self, node: usize, now_us: u64) {
        if let Some(Some(since_us)) = self.unnoticed.remove(&node) {
            self.served.push((node, since_us, now_us));
        }
    }
}

fn number(stored: &Bytes) -> Option<u64> {
    stored.as_ref().try_into().ok().map(u64::from_be_bytes)
}

impl World {
    /// The number of the last batch that survives a crash of a node.
    pub(super) fn durable_batch(&self, node: usize) -> Option<u64> {
        number(&self.servers[node].disk.get_synced(Family::Meta, META_BATCH)?)
    }

    /// A node's disk was replaced; before, it had `before` as its last durable batch. An empty one is noticed at once.
    pub(super) fn disk_was_replaced(&mut self, node: usize, before: Option<u64>) {
        self.old_disks.end(node, self.now_us);
        let lost = self.old_disks.lost.entry(node).or_default();
        *lost = before.unwrap_or(0).max(*lost);
        let lost = *lost;
        if self.durable_batch(node).is_some_and(|now| now < lost) {
            self.old_disks.unnoticed.insert(node, None);
        }
    }

    /// Whether a node's disk is an old copy and nobody has told it.
    pub(super) fn has_unnoticed_disk(&self, node: usize) -> bool {
        self.old_disks.unnoticed.contains_key(&node)
    }

    /// The last batch that a node has written to an old copy of its disk, if it has not noticed that it is one.
    pub(super) fn batch_of_old_disk(&self, node: usize) -> Option<u64> {
        self.old_disks.unnoticed.get(&node)?;
        number(&self.servers[node].disk.get(Family::Meta, META_BATCH)?)
    }

    /// A node has had a turn, and `before` it this last batch: it may have been told, or begun to serve without. Told is
    /// whoever skips numbers of batches, whatever else it makes of it. That it is being filled is no sign of it: it may
    /// have been when the copy was made, and then serves what was filled before.
    pub(super) fn watch_old_disk(&mut self, node: usize, before: Option<u64>) {
        let Some(&since_us) = self.old_disks.unnoticed.get(&node) else { return };
        let begun = |node: &Node| node.figures().fillings > 0;
        let Some(has_begun) = self.servers[node].node.as_ref().map(begun) else { return };
        let skipped = before.zip(self.batch_of_old_disk(node)).map(|(before, now)| now - before);
        if has_begun || skipped.is_some_and(|batches| batches > 1) {
            self.old_disks.end(node, self.now_us);
        } else if since_us.is_none() && self.servers[node].serves() {
            self.count("old disks served unnoticed");
            self.old_disks.unnoticed.insert(node, Some(self.now_us));
        }
    }

    /// How many owners of a request's key served at any time since it began from old disks, and did not know it.
    pub(super) fn old_copies(&self, entry: &Operation) -> u8 {
        let begun_us = entry.start.at_us;
        let OldDisks { unnoticed, served, .. } = &self.old_disks;
        let serving = unnoticed.iter().filter(|(_, since_us)| since_us.is_some());
        let ended = served.iter().filter(|&&(.., until_us)| until_us >= begun_us);
        let mut nodes: Vec<usize> =
            serving.map(|(&node, _)| node).chain(ended.map(|&(node, ..)| node)).collect();
        nodes.sort_unstable();
        nodes.dedup();
        let Some(ring) = self.nodes().find_map(Node::record).filter(|_| !nodes.is_empty()) else {
            return u8::try_from(nodes.len()).unwrap_or(u8::MAX);
        };
        let partition = ring.ring.partition_of(entry.key.name.as_bytes());
        let owners = ring.ring.owners_of(partition, self.plan.shape.n);
        let old =
            owners.filter(|owner| self.index_of(*owner).is_some_and(|of| nodes.contains(&of)));
        u8::try_from(old.count()).unwrap_or(u8::MAX)
    }
}
