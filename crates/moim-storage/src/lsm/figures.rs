//! What the engine tells about itself (REQ-6): the tables' figures, and its own log and memory tables.

use std::sync::atomic::{AtomicU64, Ordering};

use super::tables::Tables;
use super::{Inner, lock};
use crate::files::Files;
use crate::{Family, Figures};

pub(super) fn of<F: Files, T: Tables>(inner: &Inner<F, T>) -> Figures {
    let counter = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
    let counters = &inner.counters;
    let mut figures = inner.tables.figures();
    {
        let writer = lock(&inner.writer);
        figures.log_syncs += writer.log.syncs();
        figures.log_bytes += writer.log.written_bytes();
        let has_failed = writer.log.check().is_err() || writer.flushing.check().is_err();
        figures.writes_stopped |= u64::from(has_failed);
    }
    for table in inner.read().layers() {
        figures.memtable_bytes += table.bytes() as u64;
        figures.keys_estimate += table.len(Family::Data) as u64;
    }
    figures.writes_stopped |= u64::from(counter(&counters.stalled) > 0);
    figures.stall_micros += counter(&counters.stall_micros);
    figures.compaction_written_bytes += counter(&counters.flushed_bytes);
    figures.background_errors += counter(&counters.rule_panics) + counter(&counters.flush_failures);
    figures.io_errors += counter(&counters.io);
    figures.full_errors += counter(&counters.full);
    figures
}
