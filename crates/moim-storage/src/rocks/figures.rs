//! What an engine tells about itself (REQ-6): RocksDB's counters and properties as [`Figures`].

use std::sync::atomic::Ordering;

use rocksdb::properties::{
    BACKGROUND_ERRORS, CUR_SIZE_ALL_MEM_TABLES, ESTIMATE_LIVE_DATA_SIZE, ESTIMATE_NUM_KEYS,
    ESTIMATE_PENDING_COMPACTION_BYTES, IS_WRITE_STOPPED, PropName, TOTAL_SST_FILES_SIZE,
};
use rocksdb::statistics::Ticker;

use super::RocksEngine;
use super::reclaim::Reclaimer;
use crate::{Family, Figures};

pub(super) fn of(engine: &RocksEngine) -> Figures {
    let counter = |ticker| engine.database.get_ticker_count(ticker);
    let mut figures = Figures {
        log_syncs: counter(Ticker::WalFileSynced),
        log_bytes: counter(Ticker::WalFileBytes),
        filter_hits: counter(Ticker::BloomFilterUseful),
        // The two counters are read one after the other, so the second may already be ahead.
        filter_false_hits: counter(Ticker::BloomFilterFullPositive)
            .saturating_sub(counter(Ticker::BloomFilterFullTruePositive)),
        cache_bytes: engine.cache.get_usage() as u64,
        keys_estimate: property(engine, Family::Data, ESTIMATE_NUM_KEYS),
        background_errors: background_errors(engine),
        compaction_written_bytes: counter(Ticker::CompactWriteBytes)
            + counter(Ticker::FlushWriteBytes),
        stall_micros: engine.stall.micros(),
        // Holds for the database as a whole, whichever family is asked.
        writes_stopped: property(engine, Family::Data, IS_WRITE_STOPPED),
        corruptions: engine.faults.corrupt.load(Ordering::Relaxed),
        io_errors: engine.faults.io.load(Ordering::Relaxed),
        full_errors: engine.faults.full.load(Ordering::Relaxed),
        ..Figures::default()
    };
    for family in Family::ALL {
        let tables = engine.db.get_column_family_metadata_cf(engine.family(family));
        figures.tables += tables.file_count as u64;
        figures.tables_bytes += tables.size;
        figures.live_bytes += property(engine, family, ESTIMATE_LIVE_DATA_SIZE);
        figures.files_bytes += property(engine, family, TOTAL_SST_FILES_SIZE);
        figures.memtable_bytes += property(engine, family, CUR_SIZE_ALL_MEM_TABLES);
        figures.compaction_pending_bytes +=
            property(engine, family, ESTIMATE_PENDING_COMPACTION_BYTES);
    }
    figures
}

/// A property that the database does not know is a figure that it does not have: 0.
fn property(engine: &RocksEngine, family: Family, name: &PropName) -> u64 {
    engine.db.property_int_value_cf(engine.family(family), name).ok().flatten().unwrap_or(0)
}

/// Failed flushes and compactions, and rules that panicked: both happen where nobody is waiting for an answer.
fn background_errors(engine: &RocksEngine) -> u64 {
    // RocksDB counts its own on the default family, whichever family they befall.
    let own = engine.db.property_int_value(BACKGROUND_ERRORS).ok().flatten().unwrap_or(0);
    own + engine.reclaimer.as_deref().map_or(0, Reclaimer::rule_panics)
}
