//! Which batch a read must wait for. A node asks to read a key after it has committed to it only when it no longer
//! holds the object in memory; rare, but a read that overtakes the committer would then bring back an older state.

use moim_node::api::BatchId;
use moim_storage::{Batch, Family, Write};

use super::Read;

/// Buckets of keys. Two keys of one bucket make a read wait in vain, for one sync at the most, when the other was
/// written in that very moment.
const BUCKETS: usize = 4_096;

/// The last batch that touched each bucket of keys. Forgets nothing and needs no cleaning: an old batch is applied.
#[derive(Debug)]
pub(super) struct Barrier {
    buckets: Box<[BatchId]>,
    last: BatchId,
    /// The last batch that removed a range.
    range: BatchId,
}

impl Default for Barrier {
    fn default() -> Self {
        let buckets = vec![BatchId::default(); BUCKETS].into_boxed_slice();
        Self { buckets, last: BatchId::default(), range: BatchId::default() }
    }
}

impl Barrier {
    /// A batch is on its way to the disk.
    pub(super) fn committed(&mut self, id: BatchId, batch: &Batch) {
        assert!(id > self.last, "a node counts its batches upwards");
        self.last = id;
        for write in batch {
            match write {
                Write::Put { family, key, .. } | Write::Delete { family, key } => {
                    self.buckets[bucket(*family, key)] = id;
                }
                Write::DeleteRange { .. } => self.range = id,
            }
        }
    }

    /// The batch that must be applied before this read.
    pub(super) fn before(&self, read: &Read) -> BatchId {
        match read {
            Read::Load { family, key, .. } => self.buckets[bucket(*family, key)].max(self.range),
            Read::List { .. } => self.last,
        }
    }
}

fn bucket(family: Family, key: &[u8]) -> usize {
    let [.., a, b] = moim_core::fingerprint(key).to_be_bytes();
    (usize::from(u16::from_be_bytes([a, b])) ^ family as usize) % BUCKETS
}
