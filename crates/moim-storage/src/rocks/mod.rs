//! The engine on disk: RocksDB behind [`Engine`].
//!
//! A write goes to the commit log and the memory table, is synced once a group, and reaches sorted-string tables when
//! the memory table is full (REQ-6). Each [`Family`] is a column family; nothing else is, because a column family per
//! partition costs files and CPU that a key prefix does not.
//!
//! Invariants:
//! - A log damaged anywhere but at its torn end refuses to open ([`StorageError::Corruption`]). RocksDB's own default
//!   drops everything after the damage in silence, acknowledged writes included.
//! - Nor does a damaged length pass for such a torn end (see the `log_check` module).
//! - The same holds when the file that names the current state is gone while data are there: RocksDB would start afresh.
//! - A damaged table fails the reads that meet the damage, and never answers with a wrong value.
//! - The rule of reclaiming never unwinds into C++ and never overwrites a newer value (see the `reclaim` module).
//! - The database is closed before anything it points to is freed.
//!
//! It also serves as the tables of the `lsm` engine (see the `ingest` module), which has a log and memory tables of its
//! own; then RocksDB's log holds next to nothing, and its memory tables as little.
//!
//! Left out: several paths, transactions, key-value separation (faulty in this release of RocksDB). Nothing of RocksDB
//! shows outside but [`RocksOptions`].

mod error;
mod figures;
mod ingest;
mod log_check;
mod options;
mod pacing;
mod reclaim;
mod scan;
mod stall;

use std::fs;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64};

use bytes::Bytes;
use rocksdb::checkpoint::Checkpoint;
use rocksdb::{Cache, ColumnFamily, DB, Options, ReadOptions, ReadTier, WriteBatch, WriteOptions};

pub use self::options::RocksOptions;

use self::error::{Faults, reading_error};
use self::pacing::Pacing;
use self::reclaim::Reclaimer;
use self::stall::{Refused, Stall};
use crate::files::disk::LOG_DIRECTORY;
use crate::{
    Batch, Cached, CompactionPace, Durability, Engine, Family, Figures, Page, PageLimit,
    ReclaimRule, Snapshot, StorageError, Write,
};

/// See the module's documentation.
pub struct RocksEngine {
    // Dropped from top to bottom: the database first, for its threads use what follows.
    db: DB,
    reclaimer: Option<Arc<Reclaimer>>,
    cache: Cache,
    faults: Faults,
    stall: Stall,
    pacing: Arc<Pacing>,
    /// The options that the database was opened with: they hold its counters.
    database: Options,
    options: RocksOptions,
    directory: PathBuf,
    /// Numbers the files of runs.
    runs: AtomicU64,
    /// Whether writers are known to rest.
    rests: AtomicBool,
    // Made once: each would be an allocation a call.
    reads: ReadOptions,
    cached_reads: ReadOptions,
    synced: WriteOptions,
    written: WriteOptions,
}

impl RocksEngine {
    /// Opens the engine in `directory`, which is made if it is not there. Replays the log, so it takes about a second
    /// for each 200 MB of it. Compactions apply `rule`.
    pub fn open(
        directory: &Path,
        options: &RocksOptions,
        rule: Option<ReclaimRule>,
    ) -> Result<Self, StorageError> {
        let log = directory.join(LOG_DIRECTORY);
        if log.exists() {
            return Err(StorageError::Io(format!(
                "its newest writes are in {}: the lsm engine wrote this directory, and only that can open it",
                log.display()
            )));
        }
        Self::open_tables(directory, options, rule)
    }

    /// As [`Self::open`], beneath the log that another engine keeps in the same directory.
    pub(crate) fn open_tables(
        directory: &Path,
        options: &RocksOptions,
        rule: Option<ReclaimRule>,
    ) -> Result<Self, StorageError> {
        refuse_headless(directory)?;
        refuse_damaged_logs(directory)?;
        let cache = Cache::new_hyper_clock_cache(options.cache_bytes, 0);
        let pacing = Arc::<Pacing>::default();
        let reclaimer = rule.map(|rule| Arc::new(Reclaimer::new(rule, &pacing)));
        let database = options::database(options, &cache);
        let families = options::families(options, &cache, reclaimer.as_ref());
        let db = DB::open_cf_descriptors(&database, directory, families)
            .map_err(|error| reading_error(&format!("open {}", directory.display()), error))?;

        let mut cached_reads = ReadOptions::default();
        cached_reads.set_read_tier(ReadTier::BlockCache);
        let (mut synced, mut written) = (WriteOptions::default(), WriteOptions::default());
        synced.set_sync(true);
        // Refuse rather than wait: waiting inside can last for ever (see the `stall` module).
        synced.set_no_slowdown(true);
        written.set_no_slowdown(true);
        Ok(Self {
            db,
            reclaimer,
            cache,
            faults: Faults::default(),
            stall: Stall::default(),
            pacing,
            database,
            options: options.clone(),
            directory: directory.to_owned(),
            runs: AtomicU64::new(0),
            rests: AtomicBool::new(false),
            reads: ReadOptions::default(),
            cached_reads,
            synced,
            written,
        })
    }

    /// Writes the memory tables out and compacts everything, the rule included. For an operator who wants the space
    /// back at once, and for tests; it may take minutes and all of the disk's bandwidth.
    pub fn compact(&self) -> Result<(), StorageError> {
        for family in Family::ALL {
            let handle = self.family(family);
            self.db.flush_cf(handle).map_err(|error| self.faults.note("flush", error))?;
            self.db.compact_range_cf(handle, None::<&[u8]>, None::<&[u8]>);
        }
        Ok(())
    }

    fn family(&self, family: Family) -> &ColumnFamily {
        self.db.cf_handle(options::name(family)).expect("the engine opened every family")
    }

    /// Writes what `build` makes. While RocksDB wants writers to wait, the waiting is done here (see the `stall` module).
    fn write(
        &self,
        build: impl Fn() -> WriteBatch,
        durability: Durability,
    ) -> Result<(), StorageError> {
        let how = match durability {
            Durability::Synced => &self.synced,
            Durability::Written => &self.written,
        };
        self.stall.out_of_the_way(&self.db, || self.db.write_opt(build(), how)).map_err(|refused| {
            match refused {
                Refused::Failed(error) => self.faults.note("write", error),
                Refused::Stopped => self.faults.note_stopped(),
            }
        })
    }

    fn erase(&self, family: Family, range: &Range<&[u8]>) -> Result<(), StorageError> {
        let build = || {
            let mut batch = WriteBatch::default();
            batch.delete_range_cf(self.family(family), range.start, range.end);
            batch
        };
        self.write(build, Durability::Synced)
    }

    fn collect(&self, batches: &[Batch]) -> WriteBatch {
        let mut collected = WriteBatch::with_capacity_bytes(log_bytes(batches));
        for write in batches.iter().flatten() {
            match write {
                Write::Put { family, key, value } => {
                    collected.put_cf(self.family(*family), key, value);
                }
                Write::Delete { family, key } => collected.delete_cf(self.family(*family), key),
                // RocksDB takes a range that ends before it starts for an error, after it has logged it.
                Write::DeleteRange { family, from, to } if from < to => {
                    collected.delete_range_cf(self.family(*family), from, to);
                }
                Write::DeleteRange { .. } => {}
            }
        }
        collected
    }
}

impl Engine for RocksEngine {
    fn get(&self, family: Family, key: &[u8]) -> Result<Option<Bytes>, StorageError> {
        match self.db.get_pinned_cf_opt(self.family(family), key, &self.reads) {
            Ok(value) => Ok(value.map(|value| Bytes::copy_from_slice(&value))),
            Err(error) => Err(self.faults.note_read("read", error)),
        }
    }

    fn get_cached(&self, family: Family, key: &[u8]) -> Result<Cached, StorageError> {
        match self.db.get_pinned_cf_opt(self.family(family), key, &self.cached_reads) {
            Ok(value) => Ok(Cached::Known(value.map(|value| Bytes::copy_from_slice(&value)))),
            Err(error) if error.kind() == rocksdb::ErrorKind::Incomplete => Ok(Cached::NeedsDisk),
            Err(error) => Err(self.faults.note_read("read", error)),
        }
    }

    // An iterator has a view of its own; a snapshot besides would only be one more lock to take.
    fn scan(
        &self,
        family: Family,
        range: Range<&[u8]>,
        limit: PageLimit,
    ) -> Result<Page, StorageError> {
        scan::page(self, ReadOptions::default(), family, range, limit)
    }

    fn apply(&self, batches: &[Batch], durability: Durability) -> Result<(), StorageError> {
        let is_empty = batches.iter().all(Vec::is_empty);
        match (is_empty, durability) {
            (true, Durability::Synced) => self.sync(),
            (true, Durability::Written) => Ok(()),
            (false, _) => {
                let _announced = self.reclaimer.as_ref().map(|it| it.announce(batches));
                self.write(|| self.collect(batches), durability)
            }
        }
    }

    fn sync(&self) -> Result<(), StorageError> {
        self.db.flush_wal(true).map_err(|error| self.faults.note("sync the log", error))
    }

    fn snapshot(&self) -> Box<dyn Snapshot + '_> {
        Box::new(scan::RocksSnapshot::new(self))
    }

    /// The range is erased twice. The first time makes the loss durable before any file goes, so that a crash between
    /// the two is harmless. The second covers what a compaction may have done in between: had it moved the first mark
    /// into a file that then went as a whole, older entries in files that straddle the border would be back.
    fn drop_range(&self, family: Family, range: Range<&[u8]>) -> Result<(), StorageError> {
        if range.start >= range.end {
            return Ok(());
        }
        let _announced = self.reclaimer.as_ref().map(|it| it.announce_range());
        self.erase(family, &range)?;
        let last = just_below(range.end);
        if range.start <= last.as_slice() {
            self.db
                .delete_file_in_range_cf(self.family(family), range.start, &last)
                .map_err(|error| self.faults.note("drop tables", error))?;
        }
        self.erase(family, &range)
    }

    fn checkpoint(&self, directory: &Path) -> Result<(), StorageError> {
        Checkpoint::new(&self.db)
            .and_then(|checkpoint| checkpoint.create_checkpoint(directory))
            .map_err(|error| self.faults.note(&format!("copy to {}", directory.display()), error))
    }

    fn reclaim(&self, entries_max: usize) -> Result<(), StorageError> {
        match &self.reclaimer {
            Some(reclaimer) => reclaimer.carry_out(self, entries_max),
            None => Ok(()),
        }
    }

    fn pace_compactions(&self, pace: CompactionPace) {
        self.pacing.set(pace);
    }

    fn figures(&self) -> Figures {
        figures::of(self)
    }

    fn memory_bytes(&self) -> u64 {
        // Memory tables are charged to the cache.
        self.cache.get_usage() as u64
    }
}

/// Refuses a directory that has data but not the file that says which of them are current.
fn refuse_headless(directory: &Path) -> Result<(), StorageError> {
    let Ok(entries) = fs::read_dir(directory) else { return Ok(()) };
    let mut data = None;
    for entry in entries.flatten() {
        let path = entry.path();
        if path.file_name().is_some_and(|name| name == "CURRENT") {
            return Ok(());
        }
        if path.extension().is_some_and(|extension| extension == "sst" || extension == "log") {
            data = Some(path);
        }
    }
    match data {
        None => Ok(()),
        Some(data) => Err(StorageError::Corruption(format!(
            "{} is there but the file CURRENT beside it is not",
            data.display()
        ))),
    }
}

/// Refuses logs with damage that RocksDB does not notice.
fn refuse_damaged_logs(directory: &Path) -> Result<(), StorageError> {
    let Ok(entries) = fs::read_dir(directory) else { return Ok(()) };
    for path in entries.flatten().map(|entry| entry.path()) {
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let is_log = path.extension().is_some_and(|extension| extension == "log");
        if is_log || name.starts_with("MANIFEST-") {
            log_check::check(&path)?;
        }
    }
    Ok(())
}

/// About what the batches will take in the log, so that its buffer is allocated once.
fn log_bytes(batches: &[Batch]) -> usize {
    const ENTRY_BYTES: usize = 16;
    let entry = |write: &Write| match write {
        Write::Put { key, value, .. } => key.len() + value.len(),
        Write::Delete { key, .. } => key.len(),
        Write::DeleteRange { from, to, .. } => from.len() + to.len(),
    };
    ENTRY_BYTES + batches.iter().flatten().map(|write| ENTRY_BYTES + entry(write)).sum::<usize>()
}

/// A key below `end` with hardly a key between them. Files are dropped up to and *including* a key, and there is no
/// greatest key below another; a file that ends between the two stays, and what it holds of the range is erased.
fn just_below(end: &[u8]) -> Vec<u8> {
    const PADDING: [u8; 16] = [0xff; 16];
    let mut below = end.to_vec();
    match below.pop() {
        // `end` without its closing zero is the greatest key below it.
        None | Some(0) => {}
        Some(last) => {
            below.push(last - 1);
            below.extend(PADDING);
        }
    }
    below
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn just_below_is_below_and_above_what_lies_before() {
        for (end, before) in [
            (&b"b"[..], &b"azzzz"[..]),
            (b"a\0", b"a"),
            (b"\x01\x00", b"\x01"),
            (b"ab\x01", b"ab\0z"),
        ] {
            assert!(just_below(end).as_slice() < end);
            assert!(just_below(end).as_slice() >= before);
        }
    }
}
