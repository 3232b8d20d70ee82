//! What the engine is opened with.

use std::time::Duration;

use crate::files::blocks::BLOCK_BYTES;
use crate::log::LogOptions;

const MIB: usize = 1 << 20;

/// Sizes of an engine's log and memory tables, and their seed. Start from [`LsmOptions::default`] or
/// [`LsmOptions::for_memtable`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LsmOptions {
    /// Bytes that a memory table holds alone, what its entries cost besides included, at which it is written out as tables.
    /// Default 256 MiB. Values that whoever wrote them holds as well do not count, up to one and a half times as much. Two
    /// tables can be there, one that takes writes and one being written out: then writers wait.
    pub memtable_bytes: usize,
    /// Bytes of a segment of the commit log. Default 64 MiB.
    pub segment_bytes: u64,
    /// Bytes of all segments in use, at which writers wait until some can be reused. Each time that a quarter of that is
    /// written the log is cleaned of what was overwritten, or the memory table is written out where too little was. Default
    /// 1 GiB, which takes about 2 s to replay. At least four segments.
    pub log_bytes_max: u64,
    /// Seeds the hashes of keys in memory tables. Default 0: the same in every run. Whoever serves strangers draws it, so
    /// that none can choose keys whose hashes meet, each of which would make all of them slower to find.
    pub hash_seed: u64,
    /// After so long with hardly a write the memory table is written out and the log's segments go back to the disk, if
    /// there is a flusher ([`super::LsmEngine::start_flusher`]): what rests is small, and soon replayed. Default five
    /// minutes. A log that goes on has to make its segments anew, and its syncs cost half as much again in new ones: so
    /// longer than a busy store pauses.
    pub rest: Duration,
}

const REST: Duration = Duration::from_mins(5);

impl Default for LsmOptions {
    fn default() -> Self {
        Self {
            memtable_bytes: 256 * MIB,
            segment_bytes: 64 * MIB as u64,
            log_bytes_max: 1024 * MIB as u64,
            hash_seed: 0,
            rest: REST,
        }
    }
}

impl LsmOptions {
    /// Sizes that suit a memory table of this size. The log holds eight times as much, so it grows by two tables from one
    /// cleaning to the next: most of what is rewritten then has been, even in a table that holds the most, with values that
    /// others hold as well. What that costs is disk, and time to replay it.
    #[must_use]
    pub fn for_memtable(memtable_bytes: usize) -> Self {
        let log_bytes_max = 8 * memtable_bytes as u64;
        let segment_bytes = (log_bytes_max / 32).clamp(64 << 10, 64 * MIB as u64);
        Self { memtable_bytes, segment_bytes, log_bytes_max, hash_seed: 0, rest: REST }
    }

    /// Bytes at which a table is written out whoever else holds its values: the log has to have room for what comes
    /// meanwhile, and the others may let go of them all.
    pub(super) fn whole_bytes(&self) -> usize {
        self.memtable_bytes.saturating_mul(5) / 2
    }

    pub(super) fn log(&self) -> LogOptions {
        let segment_bytes = self.segment_bytes.next_multiple_of(BLOCK_BYTES as u64);
        let log_bytes_max = self.log_bytes_max.max(4 * segment_bytes);
        LogOptions { segment_bytes, log_bytes_max }
    }
}
