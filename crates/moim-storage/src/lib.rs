//! Bytes on disk behind one small trait, [`Engine`]. Knows nothing of nodes, objects or rings.
//!
//! Three engines: [`memory::MemoryEngine`], the reference, which keeps nothing; `rocks::RocksEngine` (feature
//! `rocksdb`); and [`lsm::LsmEngine`], a commit log and memory tables of our own above the tables of either.
//! [`faulty::FaultyEngine`] makes any of them fail for tests. One conformance suite (`tests/conformance.rs`) holds all to
//! the same behaviour, also after a kill.
//!
//! Invariants: a batch is applied whole or not at all, and batches in the order given; after [`Engine::apply`] with
//! [`Durability::Synced`] returns, the batch and all before it survive the machine; a read sees every batch applied
//! before it; a range whose end is not after its start is empty, never an error.
//! The trait says nothing about *how*.

pub mod faulty;
pub mod files;
pub mod heap;
mod log;
pub mod lsm;
pub mod memory;
mod memtable;
#[cfg(feature = "rocksdb")]
pub mod rocks;

use std::fmt;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

/// What a key belongs to. Each family is a keyspace of its own; a batch may span them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Family {
    /// Objects.
    Data,
    /// Hints kept for other nodes.
    Hints,
    /// The node's own records: ring, clock bound.
    Meta,
    /// Sums over the objects, kept in step with them.
    Trees,
}

impl Family {
    /// All families.
    pub const ALL: [Self; 4] = [Self::Data, Self::Hints, Self::Meta, Self::Trees];

    /// Its place in [`Family::ALL`].
    pub(crate) const fn index(self) -> usize {
        match self {
            Self::Data => 0,
            Self::Hints => 1,
            Self::Meta => 2,
            Self::Trees => 3,
        }
    }
}

/// One change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Write {
    /// Sets a key.
    Put {
        /// Where.
        family: Family,
        /// The key.
        key: Bytes,
        /// Its new value. An engine may share it for as long as it keeps it in memory: it should not be a small part of
        /// something large.
        value: Bytes,
    },
    /// Removes a key, if it is there.
    Delete {
        /// Where.
        family: Family,
        /// The key.
        key: Bytes,
    },
    /// Removes all keys from `from` up to but not including `to`.
    DeleteRange {
        /// Where.
        family: Family,
        /// The first key to go.
        from: Bytes,
        /// The first key to stay.
        to: Bytes,
    },
}

/// Changes that happen together or not at all.
pub type Batch = Vec<Write>;

/// When a batch counts as kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    /// After an fsync: it survives the machine.
    Synced,
    /// After it was handed to the operating system: it survives the process.
    Written,
}

/// Whether a value is known without waiting for the disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cached {
    /// It is; `None` means that there is no such key.
    Known(Option<Bytes>),
    /// Only [`Engine::get`] can tell, and it may block.
    NeedsDisk,
}

/// What may be given back of a stored value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reclaim {
    /// Nothing.
    Keep,
    /// The whole entry.
    Remove,
    /// All but these bytes.
    Replace(Vec<u8>),
}

/// Judges entries of [`Family::Data`] during compaction: `(key, value)`. Must not panic, and must be pure but for the
/// time it closes over: an engine may call it from its own threads, on any entry, any number of times.
pub type ReclaimRule = Arc<dyn Fn(&[u8], &[u8]) -> Reclaim + Send + Sync>;

/// Asked by compactions each time that they have gone through so many bytes: how long to leave the disk and the
/// processor to others. Called from the engine's own threads, several at once.
pub type CompactionPace = Arc<dyn Fn(u64) -> Duration + Send + Sync>;

/// Why an engine could not do what it was asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StorageError {
    /// What is on disk is damaged: set the directory aside and refill from the replicas.
    Corruption(String),
    /// The disk is full. Reads go on.
    Full(String),
    /// Any other fault of the disk or the operating system.
    Io(String),
    /// Another process has the directory open.
    Locked(String),
}

impl fmt::Display for StorageError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Corruption(what) => write!(f, "data on disk is damaged: {what}"),
            Self::Full(what) => write!(f, "the disk is full: {what}"),
            Self::Io(what) => write!(f, "the disk failed: {what}"),
            Self::Locked(what) => write!(f, "another process uses this directory: {what}"),
        }
    }
}

impl std::error::Error for StorageError {}

/// One page of a scan.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Page {
    /// Entries in the order of their keys.
    pub entries: Vec<(Bytes, Bytes)>,
    /// Whether the range may hold more after the last entry.
    pub more: bool,
}

/// Bounds of a page; whichever is met first ends it (but a page has at least one entry if there is one).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PageLimit {
    /// Entries.
    pub entries_max: usize,
    /// Bytes of keys and values together.
    pub bytes_max: usize,
}

impl PageLimit {
    /// Whether a page that holds `entries` with `bytes` may take one more of `next_bytes`.
    pub(crate) const fn admits(self, entries: usize, bytes: usize, next_bytes: usize) -> bool {
        entries == 0 || (entries < self.entries_max && bytes + next_bytes <= self.bytes_max)
    }
}

/// Figures of an engine for metrics (REQ-6). What an engine does not have stays 0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Figures {
    /// Syncs of the commit log since the start.
    pub log_syncs: u64,
    /// Bytes written to the commit log since the start.
    pub log_bytes: u64,
    /// Bytes in memory tables now.
    pub memtable_bytes: u64,
    /// Sorted-string tables now.
    pub tables: u64,
    /// Bytes of tables now.
    pub tables_bytes: u64,
    /// Reads that a Bloom filter spared a table since the start.
    pub filter_hits: u64,
    /// Reads that a Bloom filter let through in vain since the start.
    pub filter_false_hits: u64,
    /// Bytes of block cache in use now.
    pub cache_bytes: u64,
    /// Keys, roughly.
    pub keys_estimate: u64,
    /// Bytes waiting to be compacted now.
    pub compaction_pending_bytes: u64,
    /// Bytes that compactions and flushes have written since the start.
    pub compaction_written_bytes: u64,
    /// Bytes of what compaction would leave of the tables now, roughly: the rest is overwritten or deleted.
    pub live_bytes: u64,
    /// Bytes of all tables on disk now, those included that only readers or snapshots still hold.
    pub files_bytes: u64,
    /// Microseconds that writers were made to wait for flushes and compactions since the start.
    pub stall_micros: u64,
    /// 1 while all writes must wait, 0 otherwise.
    pub writes_stopped: u64,
    /// Reads and writes since the start that met a checksum which does not hold, or files that do not fit together.
    pub corruptions: u64,
    /// Reads and writes since the start that failed with an error of the operating system.
    pub io_errors: u64,
    /// Writes since the start that had no room.
    pub full_errors: u64,
    /// Faults in the background since the start.
    pub background_errors: u64,
}

/// A view of an engine at one moment. Keep it short-lived: it pins old versions.
pub trait Snapshot {
    /// One page of `range` of `family`.
    fn scan(
        &self,
        family: Family,
        range: Range<&[u8]>,
        limit: PageLimit,
    ) -> Result<Page, StorageError>;
}

/// Ordered keys and values that survive. All calls may block except [`Engine::get_cached`].
pub trait Engine: Send + Sync {
    /// The value of a key.
    fn get(&self, family: Family, key: &[u8]) -> Result<Option<Bytes>, StorageError>;

    /// The value of a key if that needs no disk.
    fn get_cached(&self, family: Family, key: &[u8]) -> Result<Cached, StorageError>;

    /// One page of `range`, in the order of keys.
    fn scan(
        &self,
        family: Family,
        range: Range<&[u8]>,
        limit: PageLimit,
    ) -> Result<Page, StorageError> {
        self.snapshot().scan(family, range, limit)
    }

    /// Applies `batches` in order as one group with, if asked, one sync for all. After [`StorageError::Full`] nothing of
    /// the group is applied, and the same group may be offered again; after any other error nobody knows how much of it
    /// is kept, and neither it nor the sync is to be tried again.
    fn apply(&self, batches: &[Batch], durability: Durability) -> Result<(), StorageError>;

    /// As [`Self::apply`]. Where it succeeds, an engine may leave in the batches any values instead of theirs: those that they
    /// replaced in memory, so that they are freed by whoever frees the batches. Memory is freed fastest by the thread that
    /// allocated it. After an error the batches are as they were.
    fn exchange(&self, batches: &mut [Batch], durability: Durability) -> Result<(), StorageError> {
        self.apply(batches, durability)
    }

    /// Makes everything applied so far durable.
    fn sync(&self) -> Result<(), StorageError>;

    /// A view that later batches do not change.
    fn snapshot(&self) -> Box<dyn Snapshot + '_>;

    /// Removes a whole range and gives its space back soon, cheaper than [`Write::DeleteRange`] for much data.
    /// Durable when it returns. Nothing may write to the range meanwhile, and snapshots need not hold on to it.
    fn drop_range(&self, family: Family, range: Range<&[u8]>) -> Result<(), StorageError>;

    /// A copy of the current state in `directory`, which must not exist yet, by hard links where that can be had.
    fn checkpoint(&self, directory: &Path) -> Result<(), StorageError>;

    /// Does up to `entries_max` entries' worth of what the engine leaves undone of reclaiming by itself. An engine that
    /// compacts shows entries to the rule then, and carries out here the replacements that it found; one that does not
    /// shows entries to the rule here. So call it now and then, whatever the engine.
    fn reclaim(&self, entries_max: usize) -> Result<(), StorageError>;

    /// From now on compactions rest as `pace` says, unless so much waits for them that writers would soon have to wait,
    /// too. The first pace stays. An engine that compacts nothing has no use for it.
    fn pace_compactions(&self, pace: CompactionPace) {
        drop(pace);
    }

    /// Figures for metrics.
    fn figures(&self) -> Figures;

    /// Bytes that it holds in memory within its budget. Never blocks; 0 if it keeps no account.
    fn memory_bytes(&self) -> u64 {
        0
    }

    /// How much of [`Self::memory_bytes`] is values that it shares with whoever wrote them, as long as those hold them.
    fn shared_bytes(&self) -> u64 {
        0
    }
}
