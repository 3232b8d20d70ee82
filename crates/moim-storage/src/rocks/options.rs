//! How the engine is set up: a few sizes for the operator, and the rest decided here, with the reason at each.

use std::sync::Arc;

use rocksdb::statistics::StatsLevel;
use rocksdb::{
    BlockBasedOptions, Cache, ColumnFamilyDescriptor, DBCompressionType, DBRecoveryMode, Options,
    WriteBufferManager,
};

use super::reclaim::{ReclaimFactory, Reclaimer};
use crate::Family;

const KIB: usize = 1 << 10;
const MIB: usize = 1 << 20;

/// Memory tables of the families that hold little.
const HINTS_MEMTABLE_BYTES: usize = 16 * MIB;
const META_MEMTABLE_BYTES: usize = 4 * MIB;

/// A small entry is written with every object, and most overwrite each other.
const TREES_MEMTABLE_BYTES: usize = 8 * MIB;

/// RocksDB's diary: enough to see the last days, never enough to matter on disk.
const DIARY_BYTES_MAX: usize = 16 * MIB;
const DIARY_FILES_MAX: usize = 5;

/// A compaction reads ahead so much of each of its tables, which are a dozen and more: by default 2 MiB, which is a tenth
/// of a small budget, and no faster where the kernel reads ahead as well.
const COMPACTION_READAHEAD_BYTES: usize = 256 * KIB;

const LEVELS: usize = 7;

/// Tables in level 0 that are compacted together, and when writers rest.
pub(super) const LEVEL_0_TABLES: i32 = 4;
pub(super) const LEVEL_0_TABLES_AT_REST: i32 = 1;

/// Tables in level 0 at which writers must wait: each of them may be asked for every key.
pub(super) const LEVEL_0_TABLES_MAX: i32 = 36;

/// The same of runs, which hold up to two and a half times as much as a memory table may alone.
pub(super) const LEVEL_0_RUNS_MAX: u64 = 14;

/// Sizes of an engine. Start from [`RocksOptions::default`] or [`RocksOptions::for_memory`].
#[derive(Clone, Debug, PartialEq)]
pub struct RocksOptions {
    /// Bytes of memory for blocks read, filters, indexes *and* memory tables together. Default 512 MiB. What the
    /// memory tables take is not there for blocks, so keep it well above `memtable_bytes` × `memtables_max`.
    pub cache_bytes: usize,
    /// Bytes of one memory table; a full one is written out as a table. Default 64 MiB. With 256 MiB a rewritten
    /// session is written out less often: 10 to 20 % less CPU a write, for 400 MB more memory.
    pub memtable_bytes: usize,
    /// Bytes that a memory table of our own brings into level 0 at once, where the `lsm` engine stands above this one.
    /// Default 0: memory tables are RocksDB's own.
    pub run_bytes: u64,
    /// Memory tables, those being written out included, before writes have to wait. Default 3; above that RocksDB would
    /// slow writers down before it stops them.
    pub memtables_max: usize,
    /// Bytes of commit log before the families that need its oldest part are written out. Default 512 MiB, which
    /// takes about 3 s to replay. Keep it above `memtable_bytes` × `memtables_max`, or tables come out small.
    pub log_bytes_max: u64,
    /// Bytes of a block, the unit of reading, caching and compressing. Default 16 KiB.
    pub block_bytes: usize,
    /// Bytes of one sorted-string table. Default 64 MiB.
    pub table_bytes: u64,
    /// Bits of Bloom filter a key. Default 10: one in a hundred looks for a key that is not there reads a block.
    pub filter_bits: f64,
    /// Bytes of a table after which the kernel is asked to write them back. Default 1 MiB. Without it gigabytes
    /// of dirty pages pile up, and the log's next fsync waits for all of them.
    pub bytes_per_sync: u64,
    /// Threads that flush and compact. Default 2.
    pub background_threads: u16,
    /// Files held open. Default 1,024; keep it below the process's limit.
    pub open_files_max: u16,
    /// Seconds after which a table that no compaction has touched is compacted for the rule's sake. Default 6 h.
    pub periodic_compaction_seconds: u64,
    /// Bytes that a scan reads ahead, at most. Default 2 MiB.
    pub scan_readahead_bytes: usize,
}

impl Default for RocksOptions {
    fn default() -> Self {
        Self {
            cache_bytes: 512 * MIB,
            memtable_bytes: 64 * MIB,
            run_bytes: 0,
            memtables_max: 3,
            log_bytes_max: 512 * MIB as u64,
            block_bytes: 16 * KIB,
            table_bytes: 64 * MIB as u64,
            filter_bits: 10.0,
            bytes_per_sync: MIB as u64,
            background_threads: 2,
            open_files_max: 1024,
            periodic_compaction_seconds: 6 * 60 * 60,
            scan_readahead_bytes: 2 * MIB,
        }
    }
}

impl RocksOptions {
    /// The defaults, scaled to a budget of `memory_bytes` for everything that the engine keeps in memory.
    #[must_use]
    pub fn for_memory(memory_bytes: usize) -> Self {
        let memtable_bytes = (memory_bytes / 8).clamp(4 * MIB, 256 * MIB);
        Self {
            cache_bytes: memory_bytes.max(16 * MIB),
            memtable_bytes,
            log_bytes_max: 8 * memtable_bytes as u64,
            ..Self::default()
        }
    }
}

/// The name of a family on disk. Never to be changed.
pub(super) const fn name(family: Family) -> &'static str {
    match family {
        Family::Data => "data",
        Family::Hints => "hints",
        Family::Meta => "meta",
        Family::Trees => "trees",
    }
}

/// What holds for the database as a whole.
pub(super) fn database(options: &RocksOptions, cache: &Cache) -> Options {
    let mut database = Options::default();
    database.create_if_missing(true);
    database.create_missing_column_families(true);
    // The default recovers up to the damage and drops the rest in silence. This one forgives a torn end only.
    database.set_wal_recovery_mode(DBRecoveryMode::TolerateCorruptedTailRecords);
    database.set_paranoid_checks(true);
    database.set_max_total_wal_size(options.log_bytes_max);
    database.set_bytes_per_sync(options.bytes_per_sync);
    database.set_compaction_readahead_size(COMPACTION_READAHEAD_BYTES);
    database.set_max_background_jobs(i32::from(options.background_threads));
    database.set_max_open_files(i32::from(options.open_files_max));
    database.set_write_buffer_manager(&memtable_budget(options, cache));
    database.set_max_log_file_size(DIARY_BYTES_MAX);
    database.set_keep_log_file_num(DIARY_FILES_MAX);
    // Counters only: timers would read the clock on every call. They are exported, so no dump to the diary either.
    database.enable_statistics();
    database.set_statistics_level(StatsLevel::ExceptHistogramOrTimers);
    database.set_stats_dump_period_sec(0);
    database.set_stats_persist_period_sec(0);
    database
}

/// Charges memory tables to the cache, so that the two together have one bound. It never stalls writers itself: the
/// limit of memory tables of a family does, with less memory in flight.
fn memtable_budget(options: &RocksOptions, cache: &Cache) -> WriteBufferManager {
    let bytes = options.memtable_bytes * options.memtables_max
        + 2 * (HINTS_MEMTABLE_BYTES + META_MEMTABLE_BYTES + TREES_MEMTABLE_BYTES);
    WriteBufferManager::new_write_buffer_manager_with_cache(bytes, false, cache.clone())
}

/// All families, and the one that RocksDB insists on, which stays empty.
pub(super) fn families(
    options: &RocksOptions,
    cache: &Cache,
    reclaimer: Option<&Arc<Reclaimer>>,
) -> Vec<ColumnFamilyDescriptor> {
    let tables = tables(options, cache);
    let mut families: Vec<_> = Family::ALL
        .into_iter()
        .map(|family| {
            let mut settings = family_settings(family, options, &tables);
            if let (Family::Data, Some(reclaimer)) = (family, reclaimer) {
                settings.set_compaction_filter_factory(ReclaimFactory::new(reclaimer));
                settings.set_periodic_compaction_seconds(options.periodic_compaction_seconds);
            }
            ColumnFamilyDescriptor::new(name(family), settings)
        })
        .collect();
    let unused = family_settings(Family::Meta, options, &tables);
    families.push(ColumnFamilyDescriptor::new(rocksdb::DEFAULT_COLUMN_FAMILY_NAME, unused));
    families
}

fn family_settings(family: Family, options: &RocksOptions, tables: &BlockBasedOptions) -> Options {
    let memtable_bytes = match family {
        Family::Data => options.memtable_bytes,
        Family::Hints => HINTS_MEMTABLE_BYTES.min(options.memtable_bytes),
        Family::Meta => META_MEMTABLE_BYTES.min(options.memtable_bytes),
        Family::Trees => TREES_MEMTABLE_BYTES.min(options.memtable_bytes),
    };
    let mut settings = Options::default();
    settings.set_write_buffer_size(memtable_bytes);
    settings.set_max_write_buffer_number(i32::try_from(options.memtables_max).unwrap_or(i32::MAX));
    settings.set_target_file_size_base(options.table_bytes);
    // Four tables in level 0 start a compaction; a level 1 of the same size makes that one cheapest.
    settings.set_max_bytes_for_level_base(4 * options.run_bytes.max(memtable_bytes as u64));
    settings.set_level_compaction_dynamic_level_bytes(true);
    // Stop writers or let them go, nothing in between: see the `stall` module.
    settings.set_level_zero_file_num_compaction_trigger(LEVEL_0_TABLES);
    settings.set_level_zero_slowdown_writes_trigger(LEVEL_0_TABLES_MAX);
    settings.set_level_zero_stop_writes_trigger(LEVEL_0_TABLES_MAX);
    settings.set_soft_pending_compaction_bytes_limit(0);
    settings.set_compression_per_level(&compression());
    // A small database has but one level below 0. It is the last one, and data on disk are compressed (REQ-3).
    settings.set_bottommost_compression_type(DBCompressionType::Lz4);
    settings.set_block_based_table_factory(tables);
    settings
}

/// How a table is written that comes from a memory table of our own: as RocksDB would write one of level 0, or, if it will
/// stay for long, of the last.
pub(super) fn run_table(options: &RocksOptions, cache: &Cache, stays: bool) -> Options {
    let mut settings = Options::default();
    let compression = if stays { DBCompressionType::Lz4 } else { DBCompressionType::None };
    settings.set_compression_type(compression);
    settings.set_block_based_table_factory(&tables(options, cache));
    settings.set_bytes_per_sync(options.bytes_per_sync);
    settings
}

/// Nothing for the two upper levels, whose tables are soon rewritten; lz4 below.
fn compression() -> [DBCompressionType; LEVELS] {
    let mut levels = [DBCompressionType::Lz4; LEVELS];
    levels[..2].fill(DBCompressionType::None);
    levels
}

fn tables(options: &RocksOptions, cache: &Cache) -> BlockBasedOptions {
    let mut tables = BlockBasedOptions::default();
    tables.set_block_size(options.block_bytes);
    tables.set_block_cache(cache);
    tables.set_bloom_filter(options.filter_bits, false);
    // Within the budget rather than beside it; those of level 0 are asked first for every key and stay.
    tables.set_cache_index_and_filter_blocks(true);
    tables.set_pin_l0_filter_and_index_blocks_in_cache(true);
    tables
}
