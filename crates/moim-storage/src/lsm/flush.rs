//! From memory to tables: freezing, flushing, and writers that wait for it.
//!
//! A flush that finds no room on the disk is tried again every [`AGAIN_AFTER`], and writers are refused with
//! [`StorageError::Full`] once the log and the active table have taken what they may. Any other failure of a flush is the
//! end of writing, as a failed sync is.

use std::sync::atomic::Ordering;
use std::sync::{Arc, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use super::clean::Need;
use super::fullness::Look;
use super::tables::{Run, Tables};
use super::{Inner, LsmEngine, Writer, lock};
use crate::files::Files;
use crate::log::{Prepared, Room, Spare};
use crate::memtable::Memtable;
use crate::{Batch, StorageError};

/// Between two tries of a flush that had no room: each may write a table in vain.
const AGAIN_AFTER: Duration = Duration::from_secs(2);

/// Between two looks at whether the log grows. If it does not, a part of the segments that were prepared in vain goes back
/// to the disk.
const TRIM_EVERY: Duration = Duration::from_secs(2);

/// A log that grows by no more between two looks rests: a few writes a second.
const TRICKLE_BYTES: u64 = 32 << 10;

/// The part that goes each time: a log that goes on soon still has some.
const TRIM_PART: usize = 4;

/// What is worth writing out when the log rests: this part of what a table may hold, or more segments in use than that. A
/// start replays less in no time.
const REST_PART: usize = 16;
const REST_SEGMENTS: u64 = 2;

/// With this part of a table full, the one before it has to get into the tables.
const URGENT_PART: usize = 4;

/// Between two steps of a flush that nobody waits for: with [`Run::STEP_BYTES`] some 50 MB a second.
const FLUSH_PAUSE: Duration = Duration::from_millis(4);

/// Between two steps of filling a segment: at some 80 MB a second it is soon ready, and the syncs of writers, which wait
/// for the same disk, hardly notice.
const PREPARE_PAUSE: Duration = Duration::from_millis(10);

/// What the waiting of writers is counted in.
const TICK: Duration = Duration::from_millis(1);

/// How the frozen table fares, and what else the flusher has to do.
#[derive(Debug, Default)]
pub(super) struct Flushing {
    frozen: Option<Frozen>,
    /// Whatever lies in segments up to this life was written before the mark: see `clean`.
    pub(super) mark: u64,
    /// The log is to be cleaned, or is being cleaned.
    pub(super) wants_cleaning: bool,
    /// The last look at whether the tables in memory are full, if they are the same since.
    pub(super) look: Option<Look>,
    /// Why the last try failed; `None` again after one that did not.
    failure: Option<StorageError>,
    tries: u64,
    /// Looks in a row at a log that rested.
    rests: u32,
    /// What the log had written at the last look.
    seen_bytes: u64,
    /// Whether somebody else does it.
    has_flusher: bool,
    is_closing: bool,
}

/// What a flush is about.
#[derive(Clone, Copy, Debug)]
struct Frozen {
    /// The last life of a segment that the frozen table covers.
    life: u64,
    stay: Stay,
}

/// How long tables are likely to stay as they are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stay {
    /// Until more come, with which they are compacted.
    Brief,
    /// Writers rest.
    Long,
}

impl Flushing {
    pub(super) fn close(&mut self) {
        self.is_closing = true;
    }

    pub(super) fn is_closing(&self) -> bool {
        self.is_closing
    }

    pub(super) fn has_flusher(&self) -> bool {
        self.has_flusher
    }

    /// Why the frozen table is not in the tables although that was tried.
    pub(super) fn check(&self) -> Result<(), StorageError> {
        self.failure.clone().map_or(Ok(()), Err)
    }
}

/// The thread that flushes. Dropping it waits for its end.
pub(super) struct Flusher(Option<JoinHandle<()>>);

impl Drop for Flusher {
    fn drop(&mut self) {
        if let Some(thread) = self.0.take() {
            // If it died, the log still has everything.
            drop(thread.join());
        }
    }
}

impl<F: Files + 'static, T: Tables + 'static> LsmEngine<F, T> {
    /// From now on a thread of the engine's own flushes, and writers wait only when it lags behind. Not for the simulator, which
    /// has one thread.
    pub fn start_flusher(&mut self) -> Result<(), StorageError> {
        let inner = Arc::clone(&self.inner);
        lock(&inner.writer).flushing.has_flusher = true;
        let thread = std::thread::Builder::new().name("moim-flush".to_owned());
        match thread.spawn(move || {
            let _death = Death(&inner);
            inner.flush_for_ever();
        }) {
            Ok(thread) => {
                self.flusher = Some(Flusher(Some(thread)));
                Ok(())
            }
            Err(error) => Err(StorageError::Io(format!("start a thread: {error}"))),
        }
    }
}

/// A flusher that dies would leave its writers waiting for ever.
struct Death<'a, F: Files, T: Tables>(&'a Inner<F, T>);

impl<F: Files, T: Tables> Drop for Death<'_, F, T> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            lock(&self.0.writer).log.fail(StorageError::Io("the flusher has died".to_owned()));
            self.0.turned.notify_all();
        }
    }
}

impl<F: Files, T: Tables> Inner<F, T> {
    /// The log with room for these batches, and an active table that may grow.
    pub(super) fn with_room(
        &self,
        batches: &[Batch],
    ) -> Result<MutexGuard<'_, Writer<F>>, StorageError> {
        let mut writer = lock(&self.writer);
        loop {
            writer.log.check()?;
            writer = self.meet_need(writer)?;
            if !self.is_memory_full(&mut writer) {
                match writer.log.make_room(batches) {
                    Ok(Room::Ready) => {
                        self.ask_for_segment(&writer);
                        return Ok(writer);
                    }
                    Ok(Room::Capped) => {}
                    // A flush gives segments back, unless none are in use.
                    Err(StorageError::Full(_)) if writer.log.in_use_bytes() > 0 => {}
                    Err(error) => return Err(error),
                }
            }
            self.freeze(&mut writer, Stay::Brief);
            writer = self.await_flush(writer)?;
        }
    }

    /// Has the log cleaned or the active table flushed, if that is due: by the flusher, if there is one.
    fn meet_need<'a>(
        &'a self,
        mut writer: MutexGuard<'a, Writer<F>>,
    ) -> Result<MutexGuard<'a, Writer<F>>, StorageError> {
        let has_flusher = writer.flushing.has_flusher;
        match self.need(&mut writer) {
            Need::Nothing => return Ok(writer),
            Need::Flush => self.freeze(&mut writer, Stay::Brief),
            Need::Cleaning if has_flusher => {
                if !std::mem::replace(&mut writer.flushing.wants_cleaning, true) {
                    self.turned.notify_all();
                }
            }
            Need::Cleaning => writer = self.clean(writer),
        }
        if has_flusher || writer.flushing.frozen.is_none() {
            return Ok(writer);
        }
        self.await_flush(writer)
    }

    /// Wakes the flusher if it can prepare a segment. While it flushes it would not listen.
    fn ask_for_segment(&self, writer: &Writer<F>) {
        let flushing = &writer.flushing;
        if flushing.has_flusher && flushing.frozen.is_none() && writer.log.wants_segment() {
            self.turned.notify_all();
        }
    }

    /// Writes everything out that was applied before.
    pub(super) fn flush(&self) -> Result<(), StorageError> {
        let mut writer = lock(&self.writer);
        if writer.flushing.frozen.is_some() {
            writer = self.await_try(writer)?;
        }
        self.freeze(&mut writer, Stay::Brief);
        if writer.flushing.frozen.is_some() {
            drop(self.await_try(writer)?);
        }
        Ok(())
    }

    /// Makes the active table the frozen one, if there is none and anything to write out.
    pub(super) fn freeze(&self, writer: &mut Writer<F>, stay: Stay) {
        if writer.flushing.frozen.is_some() {
            return;
        }
        let mut memtables = self.write();
        if memtables.active.is_empty() && writer.log.in_use_bytes() == 0 {
            return;
        }
        let fresh = Arc::new(Memtable::new(self.options.hash_seed));
        memtables.frozen = Some(std::mem::replace(&mut memtables.active, fresh));
        writer.flushing.mark = writer.log.seal();
        writer.flushing.frozen = Some(Frozen { life: writer.flushing.mark, stay });
        writer.flushing.wants_cleaning = false;
        writer.flushing.look = None;
        self.turned.notify_all();
    }

    /// Waits until no table is frozen; not for room that a flush did not find.
    fn await_flush<'a>(
        &'a self,
        writer: MutexGuard<'a, Writer<F>>,
    ) -> Result<MutexGuard<'a, Writer<F>>, StorageError> {
        if writer.flushing.has_flusher {
            writer.flushing.check()?;
        }
        self.await_try(writer)
    }

    /// Waits until no table is frozen, or a try from now on has failed.
    fn await_try<'a>(
        &'a self,
        mut writer: MutexGuard<'a, Writer<F>>,
    ) -> Result<MutexGuard<'a, Writer<F>>, StorageError> {
        if !writer.flushing.has_flusher {
            drop(writer);
            self.try_flush();
            writer = lock(&self.writer);
            return writer.flushing.check().map(|()| writer);
        }
        let tries = writer.flushing.tries;
        self.counters.stalled.fetch_add(1, Ordering::Relaxed);
        let is_over = |writer: &Writer<F>| {
            let is_tried = writer.flushing.frozen.is_none() || writer.flushing.tries > tries;
            is_tried || writer.log.check().is_err()
        };
        while !is_over(&writer) {
            writer = self.stall(writer);
        }
        self.counters.stalled.fetch_sub(1, Ordering::Relaxed);
        writer.log.check()?;
        writer.flushing.check().map(|()| writer)
    }

    /// Waits for news, and counts how long, to a tick: below the server nothing reads a clock.
    fn stall<'a>(&self, writer: MutexGuard<'a, Writer<F>>) -> MutexGuard<'a, Writer<F>> {
        let woken = self.turned.wait_timeout(writer, TICK);
        let (writer, timeout) = woken.unwrap_or_else(PoisonError::into_inner);
        if timeout.timed_out() {
            let micros = u64::try_from(TICK.as_micros()).unwrap_or(u64::MAX);
            self.counters.stall_micros.fetch_add(micros, Ordering::Relaxed);
        }
        writer
    }

    /// The flusher's life.
    fn flush_for_ever(&self) {
        let mut writer = lock(&self.writer);
        while !writer.flushing.is_closing {
            let is_wanted = writer.flushing.frozen.is_some() && writer.log.check().is_ok();
            if is_wanted && writer.flushing.failure.is_none() {
                drop(writer);
                self.try_flush();
                writer = lock(&self.writer);
            } else if is_wanted {
                let woken = self.turned.wait_timeout(writer, AGAIN_AFTER);
                let (guard, timeout) = woken.unwrap_or_else(PoisonError::into_inner);
                writer = guard;
                if timeout.timed_out() {
                    writer.flushing.failure = None;
                }
            } else if writer.flushing.wants_cleaning && writer.log.check().is_ok() {
                writer = self.clean(writer);
            } else if writer.log.wants_segment() && writer.log.check().is_ok() {
                writer = self.prepare(writer);
            } else {
                let woken = self.turned.wait_timeout(writer, TRIM_EVERY);
                let (guard, timeout) = woken.unwrap_or_else(PoisonError::into_inner);
                writer = if timeout.timed_out() { self.trim(guard) } else { guard };
            }
        }
    }

    /// Fills a segment of the log ahead of need, or as much of it as there is time for.
    fn prepare<'a>(&'a self, mut writer: MutexGuard<'a, Writer<F>>) -> MutexGuard<'a, Writer<F>> {
        let Ok(Some(mut preparation)) = writer.log.begin_preparing() else { return writer };
        loop {
            drop(writer);
            let prepared = preparation.step();
            writer = lock(&self.writer);
            let flushing = &writer.flushing;
            let is_late =
                flushing.frozen.is_some() || flushing.wants_cleaning || flushing.is_closing;
            if is_late || prepared != Ok(Prepared::InPart) {
                // What the log cannot go on after, it says to whoever writes next.
                drop(writer.log.end_preparing(preparation, prepared.map(drop)));
                return writer;
            }
            let woken = self.turned.wait_timeout(writer, PREPARE_PAUSE);
            writer = woken.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Gives segments of the log back when it rests, and has the active table written out that keeps the others. Should
    /// that fail, it is tried again.
    fn trim<'a>(&'a self, mut writer: MutexGuard<'a, Writer<F>>) -> MutexGuard<'a, Writer<F>> {
        let written_bytes = writer.log.written_bytes();
        let flushing = &mut writer.flushing;
        let grown_bytes = written_bytes - flushing.seen_bytes;
        flushing.seen_bytes = written_bytes;
        flushing.rests =
            if grown_bytes > TRICKLE_BYTES { 0 } else { flushing.rests.saturating_add(1) };
        let is_rested = TRIM_EVERY.saturating_mul(flushing.rests) > self.options.rest;
        if writer.log.take_has_begun() {
            return writer;
        }
        if is_rested {
            drop(writer);
            self.tables.rest(true);
            writer = lock(&self.writer);
            if self.is_worth_writing_out(&writer) {
                self.freeze(&mut writer, Stay::Long);
                return writer;
            }
        }
        let which = if is_rested { Spare::Any } else { Spare::Blank };
        for _ in 0..writer.log.spare(which).div_ceil(TRIM_PART) {
            if writer.flushing.is_closing || !writer.log.trim(which).unwrap_or(false) {
                break;
            }
            drop(writer);
            writer = lock(&self.writer);
        }
        writer
    }

    fn is_worth_writing_out(&self, writer: &Writer<F>) -> bool {
        let memtables = self.read();
        let is_large = memtables.active.bytes() >= self.options.memtable_bytes / REST_PART
            || writer.log.in_use_bytes() > REST_SEGMENTS * self.options.log().segment_bytes;
        memtables.frozen.is_none() && is_large && writer.log.check().is_ok()
    }

    /// Flushes the frozen table, and tells how it went.
    fn try_flush(&self) {
        // From the first look at the table until it is gone: a second flush of the same would bring old values back over
        // those of the next.
        let alone = lock(&self.changing);
        let frozen = self.read().frozen.clone();
        let outcome = match &frozen {
            None => Ok(()),
            Some(table) => self.sync_if_needed().and_then(|()| self.ingest(table)),
        };
        let mut writer = lock(&self.writer);
        writer.flushing.tries += 1;
        let outcome = outcome.and_then(|()| match writer.flushing.frozen {
            None => Ok(()),
            Some(frozen) => writer.log.release(frozen.life),
        });
        match outcome {
            Ok(()) => {
                writer.flushing.frozen = None;
                writer.flushing.look = None;
                writer.flushing.failure = None;
                self.write().frozen = None;
            }
            Err(error) => {
                self.counters.flush_failures.fetch_add(1, Ordering::Relaxed);
                if !matches!(error, StorageError::Full(_)) {
                    writer.log.fail(error.clone());
                }
                writer.flushing.failure = Some(error);
            }
        }
        self.turned.notify_all();
        // To free a large table takes a while: not under the locks, which go first.
        drop(writer);
        drop(alone);
        drop(frozen);
    }

    /// Pauses a flush, unless somebody waits for it, or will before long: the active table has grown to a part of what it may.
    fn yield_disk(&self) {
        let is_waited_for = self.counters.stalled.load(Ordering::Relaxed) > 0;
        if is_waited_for || self.read().active.bytes() >= self.options.memtable_bytes / URGENT_PART
        {
            return;
        }
        let writer = lock(&self.writer);
        if writer.flushing.has_flusher && !writer.flushing.is_closing {
            drop(self.turned.wait_timeout(writer, FLUSH_PAUSE));
        }
    }

    /// Tables take only what the log has durably.
    pub(super) fn sync_if_needed(&self) -> Result<(), StorageError> {
        let is_synced = lock(&self.writer).log.is_synced();
        if is_synced { Ok(()) } else { self.sync() }
    }

    fn ingest(&self, table: &Memtable) -> Result<(), StorageError> {
        let rule_panics = &self.counters.rule_panics;
        let frozen = lock(&self.writer).flushing.frozen;
        let stays = frozen.is_some_and(|frozen| frozen.stay == Stay::Long);
        let yield_disk = &|| self.yield_disk();
        let run = Run { table, rule: self.rule.as_ref(), rule_panics, yield_disk, stays };
        self.tables.rest(stays);
        let bytes = self.tables.ingest(&run)?;
        self.counters.flushed_bytes.fetch_add(bytes, Ordering::Relaxed);
        Ok(())
    }
}
