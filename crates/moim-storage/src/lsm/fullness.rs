//! When a memory table is full.
//!
//! Values are shared with whoever wrote them (`memtable`), and what was written lately is in the node's cache of objects as
//! well, where it counts. So a table is full not when it holds so much, but when it holds so much *alone*: sets
//! that the cache has room for, and that are rewritten, then stay in memory (and in the log, see `clean`), where a table
//! that counted all of it would be written out again and again.
//!
//! Who shares a value stands beside the value, so a few entries are asked, now and then.

use super::tables::Tables;
use super::{Inner, Writer};
use crate::files::Files;

/// Between two looks the log grows by this part of what a table may hold alone.
const LOOK_PART: u64 = 64;

/// What came of the last look.
#[derive(Clone, Copy, Debug)]
pub(super) struct Look {
    /// What the log had written.
    written_bytes: u64,
    is_full: bool,
}

impl<F: Files, T: Tables> Inner<F, T> {
    /// Whether the active table has to be written out; while one is being written out, whether writers have to wait for it.
    pub(super) fn is_memory_full(&self, writer: &mut Writer<F>) -> bool {
        let table_bytes = self.options.memtable_bytes;
        let memtables = self.read();
        let are_too_many = |active: usize, frozen: usize| {
            active >= table_bytes || active + frozen >= 2 * table_bytes
        };
        let (active, frozen) = (&memtables.active, memtables.frozen.as_ref());
        if !are_too_many(active.bytes(), frozen.map_or(0, |table| table.bytes())) {
            return false;
        }
        let has_shared = memtables.layers().any(|table| table.shared_bytes() > 0);
        if active.bytes() >= self.options.whole_bytes() || !has_shared {
            return true;
        }
        let written_bytes = writer.log.written_bytes();
        let look_bytes = table_bytes as u64 / LOOK_PART;
        if let Some(last) = writer.flushing.look
            && written_bytes - last.written_bytes < look_bytes
        {
            return last.is_full;
        }
        let is_full =
            are_too_many(active.alone_bytes(), frozen.map_or(0, |table| table.alone_bytes()));
        writer.flushing.look = Some(Look { written_bytes, is_full });
        is_full
    }
}
