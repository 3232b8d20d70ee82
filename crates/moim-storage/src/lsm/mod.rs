//! A log-structured merge engine: a commit log and memory tables of our own, above sorted tables of any kind.
//!
//! A group of batches is one record of the log, then part of the active memory table. A full table is *frozen* and
//! flushed: what is left of it, sorted, goes into the tables as new ones, and its segments of the log are free again. What
//! is overwritten or expires before that never leaves memory and log. (After O'Neil et al., *The Log-Structured
//! Merge-Tree*, 1996; the parts are those of Bigtable and `LevelDB`.) A table that is rewritten faster than it grows is not
//! flushed at all: the log is cleaned of what it has overwritten (`clean`).
//!
//! Invariants:
//! - Log before memory table before answer; tables take only what the log has durably. So after a crash the log, replayed
//!   over tables that may be anywhere between two flushes, gives the same state as without the crash.
//! - A segment is reused only after what it holds is in tables, or in a later segment, durably. Runs enter the tables in
//!   the order of the log.
//! - Readers ask active, frozen, tables, in this order; a run is in the tables before the frozen table goes.
//! - At most one table is frozen: writers wait for it when the active one is full as well, or the log.
//! - No thread of its own unless one is started ([`LsmEngine::start_flusher`]): without it a full table is flushed by
//!   the write that finds it full, and equal calls give equal answers.
//!
//! A snapshot holds on to the active table; the first write after that copies the tree (not the values), so snapshots are
//! free to take, and dear to write beside. Scans need none. Left out: bounds on how long snapshots live.

mod clean;
#[cfg(feature = "rocksdb")]
mod directory;
mod figures;
mod flush;
mod fullness;
mod merge;
mod options;
mod tables;
mod view;

#[cfg(test)]
mod tests;

use std::ops::Range;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{
    Arc, Condvar, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard,
};

use bytes::Bytes;

#[cfg(feature = "rocksdb")]
pub use self::directory::DiskLsm;
pub use self::options::LsmOptions;
pub use self::tables::{Run, Tables};

use self::flush::{Flusher, Flushing};
use self::view::View;
use crate::files::Files;
use crate::log::CommitLog;
use crate::memtable::{Found, Memtable};
use crate::{
    Batch, Cached, CompactionPace, Durability, Engine, Family, Figures, Page, PageLimit,
    ReclaimRule, Snapshot, StorageError, Write,
};

/// See the module's documentation.
pub struct LsmEngine<F: Files, T: Tables> {
    inner: Arc<Inner<F, T>>,
    flusher: Option<Flusher>,
}

struct Inner<F: Files, T: Tables> {
    options: LsmOptions,
    rule: Option<ReclaimRule>,
    /// Locked before `memtables`, never after.
    writer: Mutex<Writer<F>>,
    /// A flush or a cleaning has begun to be wanted; a flush has ended, or will not come any more.
    turned: Condvar,
    memtables: RwLock<Memtables>,
    tables: T,
    /// Held by whoever changes tables: a flush, the dropping of a range, a reclaiming pass; and by a checkpoint.
    changing: Mutex<()>,
    /// Held by a sync: the kernel tells one caller of a write that failed in the background, and another at the same time
    /// that all is well. Locked before `writer`.
    syncing: Mutex<()>,
    counters: Counters,
}

struct Writer<F: Files> {
    log: CommitLog<F>,
    flushing: Flushing,
}

struct Memtables {
    active: Arc<Memtable>,
    frozen: Option<Arc<Memtable>>,
}

impl Memtables {
    /// All of them, newest first.
    fn layers(&self) -> impl Iterator<Item = &Arc<Memtable>> {
        std::iter::once(&self.active).chain(&self.frozen)
    }
}

/// What only the engine itself can count.
#[derive(Default)]
struct Counters {
    flushed_bytes: AtomicU64,
    stall_micros: AtomicU64,
    stalled: AtomicU64,
    rule_panics: AtomicU64,
    flush_failures: AtomicU64,
    io: AtomicU64,
    full: AtomicU64,
}

impl<F: Files, T: Tables> LsmEngine<F, T> {
    /// Opens the engine over `tables`, whatever they hold, and replays the log in `files`. A flush applies `rule`.
    pub fn open(
        files: F,
        tables: T,
        options: LsmOptions,
        rule: Option<ReclaimRule>,
    ) -> Result<Self, StorageError> {
        let mut active = Memtable::new(options.hash_seed);
        let log = CommitLog::open(files, options.log(), |batch| {
            for write in &batch {
                active.apply(write);
            }
        })?;
        let inner = Inner {
            options,
            rule,
            writer: Mutex::new(Writer { log, flushing: Flushing::default() }),
            turned: Condvar::new(),
            memtables: RwLock::new(Memtables { active: Arc::new(active), frozen: None }),
            tables,
            changing: Mutex::default(),
            syncing: Mutex::default(),
            counters: Counters::default(),
        };
        Ok(Self { inner: Arc::new(inner), flusher: None })
    }

    /// The tables.
    pub fn tables(&self) -> &T {
        &self.inner.tables
    }

    /// Writes the memory tables out, and waits for it.
    pub fn flush(&self) -> Result<(), StorageError> {
        self.inner.flush()
    }

    /// Writes the memory tables out and compacts the tables. For an operator who wants the space back at once, and for
    /// tests; it may take minutes.
    pub fn compact(&self) -> Result<(), StorageError> {
        self.flush()?;
        let _alone = lock(&self.inner.changing);
        self.inner.tables.compact()
    }
}

impl<F: Files, T: Tables> Drop for LsmEngine<F, T> {
    fn drop(&mut self) {
        lock(&self.inner.writer).flushing.close();
        self.inner.turned.notify_all();
        drop(self.flusher.take());
        // Without its mark the log is as after a crash, which loses nothing.
        drop(lock(&self.inner.writer).log.close());
    }
}

impl<F: Files, T: Tables> Inner<F, T> {
    // Nothing that these locks guard is left half-changed by a panic: nothing between two changes of a group can panic.
    fn read(&self) -> RwLockReadGuard<'_, Memtables> {
        self.memtables.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Memtables> {
        self.memtables.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// What the memory tables know of a key.
    fn find(&self, family: Family, key: &[u8]) -> Found {
        let memtables = self.read();
        let known = memtables.layers().map(|table| table.get(family, key));
        known.into_iter().find(|found| *found != Found::Unknown).unwrap_or(Found::Unknown)
    }

    fn apply(&self, batches: &[Batch], durability: Durability) -> Result<(), StorageError> {
        let _writer = self.append(batches, durability)?;
        let mut memtables = self.write();
        let active = Arc::make_mut(&mut memtables.active);
        batches.iter().flatten().for_each(|write| active.apply(write));
        Ok(())
    }

    fn exchange(&self, batches: &mut [Batch], durability: Durability) -> Result<(), StorageError> {
        let _writer = self.append(batches, durability)?;
        let mut memtables = self.write();
        let active = Arc::make_mut(&mut memtables.active);
        batches.iter_mut().flatten().for_each(|write| active.exchange(write));
        Ok(())
    }

    /// Appends a group to the log. What is returned keeps the active table the one that the group belongs to.
    fn append(
        &self,
        batches: &[Batch],
        durability: Durability,
    ) -> Result<MutexGuard<'_, Writer<F>>, StorageError> {
        let mut writer = self.with_room(batches)?;
        match durability {
            Durability::Synced => writer.log.append_synced(batches)?,
            Durability::Written => writer.log.append(batches)?,
        }
        self.read().active.warm(batches);
        Ok(writer)
    }

    /// Makes what was appended so far durable, while others append.
    fn sync(&self) -> Result<(), StorageError> {
        let _alone = lock(&self.syncing);
        let unsynced = lock(&self.writer).log.unsynced()?;
        let outcome = unsynced.sync();
        lock(&self.writer).log.note_synced(&unsynced, outcome)
    }

    fn drop_range(&self, family: Family, range: Range<&[u8]>) -> Result<(), StorageError> {
        let (from, to) = (Bytes::copy_from_slice(range.start), Bytes::copy_from_slice(range.end));
        // From here on nobody sees the range, and nothing of it comes back: what a frozen table still brings into the
        // tables is hidden, and deleted when this memory table follows.
        self.apply(&[vec![Write::DeleteRange { family, from, to }]], Durability::Synced)?;
        let _alone = lock(&self.changing);
        self.tables.drop_range(family, range)
    }

    fn checkpoint(&self, directory: &Path) -> Result<(), StorageError> {
        self.flush()?;
        let _alone = lock(&self.changing);
        let writer = lock(&self.writer);
        // A flush that began since and has failed may have left a part of a memory table in the tables.
        writer.flushing.check()?;
        self.tables.checkpoint(directory)?;
        writer.log.create_beside(directory)
    }

    /// Counts what is told to a caller.
    fn counted<O>(&self, outcome: Result<O, StorageError>) -> Result<O, StorageError> {
        match &outcome {
            Err(StorageError::Full(_)) => self.counters.full.fetch_add(1, Ordering::Relaxed),
            Err(StorageError::Io(_)) => self.counters.io.fetch_add(1, Ordering::Relaxed),
            _ => 0,
        };
        outcome
    }
}

impl<F: Files, T: Tables> Engine for LsmEngine<F, T> {
    fn get(&self, family: Family, key: &[u8]) -> Result<Option<Bytes>, StorageError> {
        match self.inner.find(family, key) {
            Found::Known(value) => Ok(value),
            Found::Unknown => self.inner.tables.get(family, key),
        }
    }

    fn get_cached(&self, family: Family, key: &[u8]) -> Result<Cached, StorageError> {
        match self.inner.find(family, key) {
            Found::Known(value) => Ok(Cached::Known(value)),
            Found::Unknown => self.inner.tables.get_cached(family, key),
        }
    }

    // Not through a snapshot: the next write would have to copy the active table's tree.
    fn scan(
        &self,
        family: Family,
        range: Range<&[u8]>,
        limit: PageLimit,
    ) -> Result<Page, StorageError> {
        view::first_page(range, |range| {
            let memtables = self.inner.read();
            let slices = memtables.layers().map(|table| table.slice(family, &range, limit));
            let slices = slices.collect();
            let tables = self.inner.tables.snapshot();
            drop(memtables);
            merge::page(slices, &*tables, (family, range), limit)
        })
    }

    fn apply(&self, batches: &[Batch], durability: Durability) -> Result<(), StorageError> {
        self.inner.counted(match (is_nothing(batches), durability) {
            (true, Durability::Synced) => self.inner.sync(),
            (true, Durability::Written) => Ok(()),
            (false, _) => self.inner.apply(batches, durability),
        })
    }

    fn exchange(&self, batches: &mut [Batch], durability: Durability) -> Result<(), StorageError> {
        if is_nothing(batches) {
            return self.apply(batches, durability);
        }
        self.inner.counted(self.inner.exchange(batches, durability))
    }

    fn sync(&self) -> Result<(), StorageError> {
        self.inner.counted(self.inner.sync())
    }

    fn snapshot(&self) -> Box<dyn Snapshot + '_> {
        let memtables = self.inner.read();
        let layers = memtables.layers().map(Arc::clone).collect();
        Box::new(View::new(layers, self.inner.tables.snapshot()))
    }

    fn drop_range(&self, family: Family, range: Range<&[u8]>) -> Result<(), StorageError> {
        if range.start >= range.end {
            return Ok(());
        }
        self.inner.counted(self.inner.drop_range(family, range))
    }

    fn checkpoint(&self, directory: &Path) -> Result<(), StorageError> {
        self.inner.checkpoint(directory)
    }

    fn reclaim(&self, entries_max: usize) -> Result<(), StorageError> {
        // What a pass replaces in the tables is older than anything in memory, and a flush waits for its end.
        let _alone = lock(&self.inner.changing);
        self.inner.tables.reclaim(entries_max)
    }

    fn pace_compactions(&self, pace: CompactionPace) {
        self.inner.tables.pace_compactions(pace);
    }

    fn figures(&self) -> Figures {
        figures::of(&self.inner)
    }

    fn memory_bytes(&self) -> u64 {
        let memtables = self.inner.read();
        let own: usize = memtables.layers().map(|table| table.bytes()).sum();
        own as u64 + self.inner.tables.memory_bytes()
    }

    fn shared_bytes(&self) -> u64 {
        self.inner.read().layers().map(|table| table.shared_bytes() as u64).sum()
    }
}

fn is_nothing(batches: &[Batch]) -> bool {
    batches.iter().all(Vec::is_empty)
}

fn lock<L>(mutex: &Mutex<L>) -> MutexGuard<'_, L> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
