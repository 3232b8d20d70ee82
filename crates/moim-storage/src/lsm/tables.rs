//! What lies below the memory tables: sorted tables that take a whole memory table at once.

use std::borrow::Cow;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;

use crate::memory::MemoryEngine;
use crate::memtable::Memtable;
use crate::{Batch, Durability, Engine, Family, Reclaim, ReclaimRule, StorageError, Write};

/// An engine that also takes sorted runs. Everything else that it is asked to write is small or a whole range.
pub trait Tables: Engine {
    /// Takes a run, newer than all that the tables hold. Durable when it returns; taken in part if it fails, and the
    /// same run may then be offered again. Answers how many bytes of tables that made.
    fn ingest(&self, run: &Run<'_>) -> Result<u64, StorageError>;

    /// Writes whatever is left in memory and compacts everything.
    fn compact(&self) -> Result<(), StorageError>;

    /// Whether writers rest from now on, so that nothing need wait for more of its kind to be compacted with.
    fn rest(&self, _rests: bool) {}
}

/// A memory table on its way to the tables, without what may be reclaimed.
pub struct Run<'a> {
    pub(super) table: &'a Memtable,
    pub(super) rule: Option<&'a ReclaimRule>,
    pub(super) rule_panics: &'a AtomicU64,
    pub(super) yield_disk: &'a dyn Fn(),
    pub(super) stays: bool,
}

impl<'a> Run<'a> {
    /// Bytes that are written between two pauses: a whole table at once keeps the disk from the syncs of writers for a tenth
    /// of a second.
    pub const STEP_BYTES: usize = 256 << 10;

    /// Leaves the disk to others for a moment, unless somebody waits for the run to be taken. Whoever takes it calls this each
    /// time that it has written [`Self::STEP_BYTES`].
    pub fn yield_disk(&self) {
        (self.yield_disk)();
    }

    /// Whether the tables that come of it are likely to stay as they are for long, because writers rest.
    pub fn stays(&self) -> bool {
        self.stays
    }

    /// Ranges of a family to be deleted before anything is put.
    pub fn erased(&self, family: Family) -> impl Iterator<Item = (&'a Bytes, &'a Bytes)> {
        self.table.erased(family)
    }

    /// Entries of a family in the order of keys; `None` is a deletion.
    pub fn entries(&self, family: Family) -> impl Iterator<Item = (Bytes, Option<Cow<'a, [u8]>>)> {
        self.table.entries(family).map(move |(key, value)| {
            let left = value.and_then(|value| self.left_of(family, &key, value));
            (key, left)
        })
    }

    /// What reclaiming leaves of a value. To remove it is to delete it: an older table may hold an older one.
    fn left_of(&self, family: Family, key: &[u8], value: &'a [u8]) -> Option<Cow<'a, [u8]>> {
        let rule = self.rule.filter(|_| family == Family::Data);
        // A panic of the rule is not the flush's: the entry is kept, as a compaction keeps it.
        let verdict = rule.map(|rule| catch_unwind(AssertUnwindSafe(|| rule(key, value))));
        match verdict {
            None | Some(Ok(Reclaim::Keep)) => Some(Cow::Borrowed(value)),
            Some(Ok(Reclaim::Remove)) => None,
            Some(Ok(Reclaim::Replace(header))) => Some(Cow::Owned(header)),
            Some(Err(_)) => {
                self.rule_panics.fetch_add(1, Ordering::Relaxed);
                Some(Cow::Borrowed(value))
            }
        }
    }
}

/// Tables in memory, for tests and the simulator: durable by definition.
impl Tables for MemoryEngine {
    fn ingest(&self, run: &Run<'_>) -> Result<u64, StorageError> {
        let mut batch = Batch::new();
        let mut bytes = 0;
        for family in Family::ALL {
            batch.extend(run.erased(family).map(|(from, to)| {
                let (from, to) = (from.clone(), to.clone());
                Write::DeleteRange { family, from, to }
            }));
            batch.extend(run.entries(family).map(|(key, value)| {
                match value.map(|value| Bytes::from(value.into_owned())) {
                    None => Write::Delete { family, key },
                    Some(value) => {
                        bytes += (key.len() + value.len()) as u64;
                        Write::Put { family, key, value }
                    }
                }
            }));
        }
        self.apply(&[batch], Durability::Written).map(|()| bytes)
    }

    fn compact(&self) -> Result<(), StorageError> {
        Ok(())
    }
}
