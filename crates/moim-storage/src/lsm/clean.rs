//! Cleaning: the log's older part is given back without writing the memory table out.
//!
//! When a table is rewritten faster than it grows, hardly anything that the older segments of the log hold is still wanted:
//! each of its keys has been written again since. So the log is cleaned as a log-structured file system is (Rosenblum and
//! Ousterhout, 1991): what is still wanted is appended once more, and the older segments are free. What is hot then never
//! reaches the tables, which nobody has to write, compact and remove (as in TRIAD; Balmau et al., USENIX ATC 2017).
//!
//! A *mark* parts the log: whatever lies in segments up to it was written before, and the entries of the active table that
//! were not written since are *stale*. To clean is to append the stale entries, and then to release the segments up to the
//! mark and set it anew. It is done each time the log has grown by [`ROUND_PART`] since. Where too much is stale, the table
//! is flushed as a whole: then it is better off in the tables, once, than in the log again and again.
//!
//! Invariant: a segment up to the mark is released only when all entries of the active table were written, durably, in
//! segments beyond the mark, and no table is frozen. So replaying what is left gives the same table.

use std::sync::{Arc, MutexGuard, PoisonError};
use std::time::Duration;

use super::flush::Stay;
use super::tables::Tables;
use super::{Inner, Writer, lock};
use crate::StorageError;
use crate::files::Files;
use crate::log::Room;
use crate::memtable::{Cursor, Stale};

/// The part of what the log may hold that it grows by from one mark to the next. Two such parts are then in use, and as
/// much is left for the time that a flush takes.
const ROUND_PART: u64 = 4;

/// The part of that up to which stale entries are appended again: at the most half as much again is then written. Tables
/// would be written and compacted instead, several times as much and at more expense. What is in use and what is appended
/// again come to three quarters of the log.
const STALE_PART: u64 = 2;

/// Bytes that are appended at once: writers wait for it.
const STEP_BYTES: usize = 128 << 10;

/// Between two steps: writers go first.
const STEP_PAUSE: Duration = Duration::from_millis(1);

/// What the log's older part needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Need {
    Nothing,
    Cleaning,
    /// The active table is to be written out.
    Flush,
}

impl<F: Files, T: Tables> Inner<F, T> {
    /// What is to be done before the log and the active table grow further.
    pub(super) fn need(&self, writer: &mut Writer<F>) -> Need {
        let is_full = self.is_memory_full(writer);
        let round_bytes = self.options.log().log_bytes_max / ROUND_PART;
        let has_grown = writer.log.bytes_after(writer.flushing.mark) > round_bytes;
        let memtables = self.read();
        let active = &memtables.active;
        match () {
            () if memtables.frozen.is_some() => Need::Nothing,
            () if is_full => Need::Flush,
            () if !has_grown => Need::Nothing,
            // A deleted range is in force for older tables too: it has to get there.
            () if active.has_erased() => Need::Flush,
            () if active.stale_bytes() as u64 > round_bytes / STALE_PART => Need::Flush,
            () => Need::Cleaning,
        }
    }

    /// Cleans the log. Where it has no room for what is stale, or does not take it for another reason, the active table is
    /// frozen instead; a log that does not go on after that says so to whoever writes next.
    pub(super) fn clean<'a>(
        &'a self,
        mut writer: MutexGuard<'a, Writer<F>>,
    ) -> MutexGuard<'a, Writer<F>> {
        let mut from = Cursor::default();
        while self.may_clean(&writer) {
            let stale = self.read().active.stale(from, STEP_BYTES);
            let Some(stale) = stale else {
                writer = self.release(writer);
                break;
            };
            from = stale.next;
            if self.append_again(&mut writer, &stale).is_err() {
                self.freeze(&mut writer, Stay::Brief);
                break;
            }
            writer = self.pause(writer);
        }
        writer.flushing.wants_cleaning = false;
        writer
    }

    /// A table that is frozen meanwhile is flushed, which does more.
    fn may_clean(&self, writer: &Writer<F>) -> bool {
        self.read().frozen.is_none() && !writer.flushing.is_closing() && writer.log.check().is_ok()
    }

    fn append_again(&self, writer: &mut Writer<F>, stale: &Stale) -> Result<(), StorageError> {
        let batches = std::slice::from_ref(&stale.batch);
        if writer.log.make_room(batches)? == Room::Capped {
            return Err(StorageError::Full("the log is at its bound".to_owned()));
        }
        if writer.log.is_synced() {
            writer.log.append_synced(batches)?;
        } else {
            writer.log.append(batches)?;
        }
        Arc::make_mut(&mut self.write().active).refresh(stale);
        Ok(())
    }

    /// Nothing of the active table is stale: what lies up to the mark is free, once that is durable.
    fn release<'a>(&'a self, writer: MutexGuard<'a, Writer<F>>) -> MutexGuard<'a, Writer<F>> {
        let mark = writer.flushing.mark;
        drop(writer);
        let synced = self.sync_if_needed();
        let mut writer = lock(&self.writer);
        // Without a flusher other writers clean as well. What lies up to their mark is not known to be wanted no more.
        let is_mine = writer.flushing.mark == mark;
        if synced.is_ok() && is_mine && self.may_clean(&writer) {
            // The log itself remembers a failure.
            if writer.log.release(mark).is_ok() {
                writer.flushing.mark = writer.log.seal();
                Arc::make_mut(&mut self.write().active).mark();
            }
        }
        writer
    }

    fn pause<'a>(&'a self, writer: MutexGuard<'a, Writer<F>>) -> MutexGuard<'a, Writer<F>> {
        if !writer.flushing.has_flusher() {
            return writer;
        }
        let woken = self.turned.wait_timeout(writer, STEP_PAUSE);
        woken.unwrap_or_else(PoisonError::into_inner).0
    }
}
