//! Reading ranges, page by page.
//!
//! Scans are for comparing and moving partitions, so they read ahead and leave the cache to the clients' reads.

use std::ops::Range;

use bytes::Bytes;
use rocksdb::ReadOptions;

use super::RocksEngine;
use crate::{Family, Page, PageLimit, Snapshot, StorageError};

/// What an entry is taken to have, in bytes: how far a page of a known number of them may reach.
const ENTRY_BYTES: usize = 2 << 10;

/// A view of the engine at one moment.
pub(super) struct RocksSnapshot<'engine> {
    engine: &'engine RocksEngine,
    view: rocksdb::Snapshot<'engine>,
}

impl<'engine> RocksSnapshot<'engine> {
    pub(super) fn new(engine: &'engine RocksEngine) -> Self {
        Self { engine, view: engine.db.snapshot() }
    }
}

impl Snapshot for RocksSnapshot<'_> {
    fn scan(
        &self,
        family: Family,
        range: Range<&[u8]>,
        limit: PageLimit,
    ) -> Result<Page, StorageError> {
        let mut reads = ReadOptions::default();
        reads.set_snapshot(&self.view);
        page(self.engine, reads, family, range, limit)
    }
}

/// One page of `range` as `reads` sees it.
pub(super) fn page(
    engine: &RocksEngine,
    mut reads: ReadOptions,
    family: Family,
    range: Range<&[u8]>,
    limit: PageLimit,
) -> Result<Page, StorageError> {
    let mut page = Page::default();
    if range.start >= range.end {
        return Ok(page);
    }
    reads.set_iterate_upper_bound(range.end);
    reads.fill_cache(false);
    // What is read ahead beyond the page is read in vain, and each page begins anew.
    let page_bytes = limit.entries_max.saturating_mul(ENTRY_BYTES).min(limit.bytes_max);
    reads.set_readahead_size(engine.options.scan_readahead_bytes.min(page_bytes));

    let mut entries = engine.db.raw_iterator_cf_opt(engine.family(family), reads);
    let mut bytes = 0;
    entries.seek(range.start);
    while let Some((key, value)) = entries.item() {
        let entry_bytes = key.len() + value.len();
        if !limit.admits(page.entries.len(), bytes, entry_bytes) {
            page.more = true;
            return Ok(page);
        }
        bytes += entry_bytes;
        page.entries.push((Bytes::copy_from_slice(key), Bytes::copy_from_slice(value)));
        entries.next();
    }
    // The end of the range and a failed read look alike until one asks.
    entries.status().map_err(|error| engine.faults.note_read("scan", error))?;
    Ok(page)
}
