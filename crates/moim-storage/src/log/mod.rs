//! The commit log: every group of batches, in its order, before it counts as applied.
//!
//! The log is a chain of segments of fixed size (`segment`), each with records (`record`), and a small file that says
//! which of them count (`control`). A segment whose records are all in tables, or in later segments, is reused: a sync
//! of blocks that were written before costs half of one that makes them a file's, and goes on when the disk is full. So
//! segments are kept as long as the log grows, and given back when it rests for long ([`CommitLog::trim`]); and before
//! there are any to be reused, the next one can be filled with zeros ahead of need (`prepare`).
//!
//! Rules of replay (`replay`), with what cannot be told apart:
//! - Records count up to the first that is missing or damaged.
//! - If a later record of the same chain, or the control file, says that the missing one was durable, the log is
//!   *damaged*: acknowledged writes are gone, and it refuses to open ([`StorageError::Corruption`]).
//! - Otherwise the rest is what a crash left of writes that were never synced, whole, torn or in another order, and it is
//!   dropped. What was dropped never comes back: the next segment names the number where it goes on.
//! - A log that was closed in order ends with a mark, so its last records have a witness too. After a crash the last
//!   synced group has none until another follows it: damage to just that one looks like a torn write.
//!
//! What is to be durable at once goes past the operating system's cache, in whole blocks (`files::blocks`): the block in
//! which the last record ends is written again with the next, as a sync of the cache would.
//!
//! Invariants: a record is acknowledged as synced only after a sync of its file that came after its write, or after a
//! write through to the disk, of it and all before it;
//! after a failed sync nothing is written any more; segments together never exceed their bound.
//!
//! Left out: threads, and any notion of what the payload means beyond batches.

mod control;
mod prepare;
mod record;
mod replay;
mod segment;

#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::path::Path;
use std::sync::Arc;

#[cfg(feature = "rocksdb")]
pub(crate) use self::control::NAME as CONTROL_NAME;

pub(crate) use self::prepare::Prepared;

use self::control::Control;
use self::record::{HEAD_BYTES, Kind, PAYLOAD_BYTES_MAX};
use self::segment::{HEADER_BLOCK_BYTES, Header, Segment};
use crate::files::blocks::{BLOCK_BYTES, Blocks};
use crate::files::{File, Files};
use crate::{Batch, Durability, StorageError};

/// A buffer that a large group has grown is not kept above this.
const BUFFER_BYTES_MAX: usize = 4 << 20;

/// Sizes of a log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct LogOptions {
    /// Bytes of a segment. One larger group gets a segment of its own size.
    pub(crate) segment_bytes: u64,
    /// Bytes of all segments in use.
    pub(crate) log_bytes_max: u64,
}

/// See the module's documentation.
#[derive(Debug)]
pub(crate) struct CommitLog<F: Files> {
    files: Arc<F>,
    options: LogOptions,
    control: Control<F::File>,
    /// Oldest first; records go to the last one unless it is sealed.
    segments: VecDeque<Segment<F::File>>,
    is_sealed: bool,
    /// What can be reused.
    free: Vec<Segment<F::File>>,
    /// Whether a segment was begun since the last look.
    has_begun: bool,
    /// The last life during which a segment was prepared, or that was tried in vain.
    prepared_in: u64,
    /// Bytes of a segment that is being prepared.
    preparing_bytes: u64,
    /// What a crash has left behind the records that count. The control file still names one of them as the newest, so
    /// they must stay as they are until it names another.
    void: Vec<Segment<F::File>>,
    /// Numbers for files and lives that were never given.
    next_name: u64,
    next_life: u64,
    /// The number of the next record.
    next: u64,
    /// All records below this number are durable.
    synced: u64,
    /// Why nothing may be written any more.
    failed: Option<StorageError>,
    buffer: Blocks,
    /// What the block holds before the next record: it is written again with it.
    block: Vec<u8>,
    written_bytes: u64,
    syncs: u64,
}

/// Whether the next record has a place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Room {
    /// It has.
    Ready,
    /// The log has grown to its bound: something must be released first.
    Capped,
}

/// Files to be synced, and what is durable then.
pub(crate) struct Unsynced<F> {
    files: Vec<Arc<F>>,
    through: u64,
}

impl<F: File> Unsynced<F> {
    /// Syncs them.
    pub(crate) fn sync(&self) -> Result<(), StorageError> {
        self.files.iter().try_for_each(|file| file.sync())
    }
}

/// Which of the free segments are meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Spare {
    /// Those that were prepared and never used: nothing says that so many are needed.
    Blank,
    Any,
}

impl Spare {
    fn has<F>(self, segment: &Segment<F>) -> bool {
        self == Self::Any || segment.life == 0
    }
}

impl<F: Files> CommitLog<F> {
    /// Opens the log in `files`, or makes a new one, and shows every group that it holds to `apply`, in order.
    pub(crate) fn open(
        files: F,
        options: LogOptions,
        apply: impl FnMut(Batch),
    ) -> Result<Self, StorageError> {
        replay::open(files, options, apply)
    }

    /// Finds a place for a record of these batches. After [`StorageError::Full`] there is no room on the disk for
    /// another segment; if there are segments to release, that makes room.
    pub(crate) fn make_room(&mut self, batches: &[Batch]) -> Result<Room, StorageError> {
        self.check()?;
        let payload_bytes = record::payload_bytes(batches);
        if payload_bytes > PAYLOAD_BYTES_MAX {
            let why = format!("a group of {payload_bytes} bytes; {PAYLOAD_BYTES_MAX} are allowed");
            return Err(StorageError::Io(why));
        }
        // Room for a closing mark always remains.
        let needed = (payload_bytes + 3 * HEAD_BYTES) as u64;
        let fits = |last: &Segment<_>| last.position + needed <= last.bytes;
        if !self.is_sealed && self.segments.back().is_some_and(fits) {
            return Ok(Room::Ready);
        }
        let bytes = self.options.segment_bytes.max(HEADER_BLOCK_BYTES as u64 + needed);
        let bytes = bytes.next_multiple_of(BLOCK_BYTES as u64);
        let in_use_bytes = self.in_use_bytes() + self.preparing_bytes;
        if !self.segments.is_empty() && in_use_bytes + bytes > self.options.log_bytes_max {
            return Ok(Room::Capped);
        }
        self.begin(bytes).map(|()| Room::Ready)
    }

    /// Appends a record. There must be room for it. After [`StorageError::Full`] nothing is appended.
    pub(crate) fn append(&mut self, batches: &[Batch]) -> Result<(), StorageError> {
        self.encode(batches);
        self.write(Kind::Group, Durability::Written)
    }

    /// Appends a record and makes everything durable.
    pub(crate) fn append_synced(&mut self, batches: &[Batch]) -> Result<(), StorageError> {
        self.encode(batches);
        // Otherwise what was written before has to be synced anyway.
        if self.is_synced() {
            return self.write(Kind::Group, Durability::Synced);
        }
        self.write(Kind::Group, Durability::Written)?;
        self.sync()
    }

    /// Makes everything durable.
    pub(crate) fn sync(&mut self) -> Result<(), StorageError> {
        let unsynced = self.unsynced()?;
        let outcome = unsynced.sync();
        self.note_synced(&unsynced, outcome)
    }

    /// Whether everything is durable.
    pub(crate) fn is_synced(&self) -> bool {
        self.synced == self.next
    }

    /// What a sync has to do, so that it can be done while others append.
    pub(crate) fn unsynced(&self) -> Result<Unsynced<F::File>, StorageError> {
        self.check()?;
        let dirty = self.segments.iter().filter(|segment| segment.end > self.synced);
        let mut files: Vec<_> = dirty.map(|segment| Arc::clone(&segment.file)).collect();
        if files.is_empty() {
            // Whoever asks for a sync gets one.
            files.extend(self.segments.back().map(|last| Arc::clone(&last.file)));
        }
        Ok(Unsynced { files, through: self.next })
    }

    /// How that sync went. A failed one is the end of writing.
    pub(crate) fn note_synced(
        &mut self,
        unsynced: &Unsynced<F::File>,
        outcome: Result<(), StorageError>,
    ) -> Result<(), StorageError> {
        outcome.map_err(|error| self.fail(error))?;
        self.syncs += 1;
        self.synced = self.synced.max(unsynced.through);
        Ok(())
    }

    /// Ends the segment, so that what comes next is in another, and answers the last life so far.
    pub(crate) fn seal(&mut self) -> u64 {
        self.is_sealed = true;
        self.segments.back().map_or(0, |last| last.life)
    }

    /// Everything up to and with this life is in tables or in later segments, durably: its segments can be reused.
    pub(crate) fn release(&mut self, life: u64) -> Result<(), StorageError> {
        self.check()?;
        if self.segments.front().is_none_or(|first| first.life > life) {
            return Ok(());
        }
        let left = self.segments.iter().find(|segment| segment.life > life);
        let newest = self.control.state.newest;
        let oldest = left.map_or(newest + 1, |segment| segment.life);
        self.set_control(newest, oldest)?;
        if oldest > newest {
            self.free_void()?;
        }
        while let Some(segment) = self.segments.pop_front_if(|segment| segment.life <= life) {
            self.set_free(segment)?;
        }
        Ok(())
    }

    /// Whether a segment was begun since this was last asked.
    pub(crate) fn take_has_begun(&mut self) -> bool {
        std::mem::take(&mut self.has_begun)
    }

    /// How many segments wait for their next life, or for their first.
    pub(crate) fn spare(&self, which: Spare) -> usize {
        self.free.iter().filter(|segment| which.has(segment)).count()
    }

    /// Gives a free segment back to the disk, if there is more than one, which lets a full disk's log go on. Answers
    /// whether it did. One at a time, because that takes milliseconds and writers wait for it.
    pub(crate) fn trim(&mut self, which: Spare) -> Result<bool, StorageError> {
        self.check()?;
        let at = self.free.iter().rposition(|segment| which.has(segment));
        let Some(at) = at.filter(|_| self.free.len() > 1) else { return Ok(false) };
        self.files.remove(&self.free[at].name)?;
        self.free.remove(at);
        Ok(true)
    }

    /// Writes the mark of a log that was closed in order.
    pub(crate) fn close(&mut self) -> Result<(), StorageError> {
        self.sync()?;
        // After a start without a write since, the log is as it was found.
        if !self.segments.back().is_some_and(|last| last.is_clean) {
            return Ok(());
        }
        self.encode(&[]);
        self.write(Kind::Closed, Durability::Written)?;
        self.sync()
    }

    /// An empty log for a copy of the engine in another directory.
    pub(crate) fn create_beside(&self, directory: &Path) -> Result<(), StorageError> {
        let files = self.files.beside(directory)?;
        Self::open(files, self.options, |_| {}).map(drop)
    }

    /// Bytes of the segments in use.
    pub(crate) fn in_use_bytes(&self) -> u64 {
        self.segments.iter().map(|segment| segment.bytes).sum()
    }

    /// Bytes of the segments in use whose life is beyond this one.
    pub(crate) fn bytes_after(&self, life: u64) -> u64 {
        let after = self.segments.iter().filter(|segment| segment.life > life);
        after.map(|segment| segment.bytes).sum()
    }

    /// Bytes of records written so far.
    pub(crate) fn written_bytes(&self) -> u64 {
        self.written_bytes
    }

    /// Syncs so far.
    pub(crate) fn syncs(&self) -> u64 {
        self.syncs
    }

    /// Why nothing may be written any more, if so.
    pub(crate) fn check(&self) -> Result<(), StorageError> {
        self.failed.clone().map_or(Ok(()), Err)
    }

    /// Takes note of a failure after which nobody knows what is on the disk.
    pub(crate) fn fail(&mut self, error: StorageError) -> StorageError {
        // The disk may have dropped what it had no room for, and would not say so twice.
        let error = match error {
            StorageError::Full(what) => StorageError::Io(what),
            other => other,
        };
        self.failed.get_or_insert(error).clone()
    }

    /// Puts the payload of the next record into the buffer, behind what its first block holds already.
    fn encode(&mut self, batches: &[Batch]) {
        if self.buffer.capacity() > BUFFER_BYTES_MAX {
            self.buffer = Blocks::default();
        }
        let record_bytes_max = record::payload_bytes(batches) + 2 * HEAD_BYTES;
        let buffer = self.buffer.reset(BLOCK_BYTES + record_bytes_max);
        buffer.extend_from_slice(&self.block);
        record::encode(buffer, batches);
    }

    /// Writes what is in the buffer as the next record: through to the disk, or for the operating system to write.
    fn write(&mut self, kind: Kind, durability: Durability) -> Result<(), StorageError> {
        self.check()?;
        let last = self.segments.back_mut().expect("there is a place for it");
        let before = self.block.len();
        record::seal(self.buffer.filled(before), last.life, kind, (self.next, self.synced));
        let bytes = self.buffer.content().len() - before;
        let written = match durability {
            Durability::Synced => {
                let start = last.position - before as u64;
                last.file.write_through(start, self.buffer.whole())
            }
            Durability::Written => last.file.write(last.position, &self.buffer.content()[before..]),
        };
        match written {
            Ok(()) => {}
            Err(StorageError::Full(what)) => {
                last.is_clean = false;
                self.is_sealed = true;
                return Err(StorageError::Full(what));
            }
            Err(error) => return Err(self.fail(error)),
        }
        let all = before + bytes;
        self.block.clear();
        self.block.extend_from_slice(&self.buffer.content()[all - all % BLOCK_BYTES..all]);
        self.next += 1;
        last.position += bytes as u64;
        last.end = self.next;
        self.written_bytes += bytes as u64;
        if durability == Durability::Synced {
            self.syncs += 1;
            self.synced = self.next;
        }
        Ok(())
    }

    /// Begins a segment.
    fn begin(&mut self, bytes: u64) -> Result<(), StorageError> {
        let mut segment = self.take_segment(bytes)?;
        let previous = self.segments.back().map_or(0, |last| last.life);
        let life = self.next_life;
        let header =
            Header { life, previous, first: self.next, synced: self.synced, bytes: segment.bytes };
        match segment.file.write(0, &header.encode()) {
            Ok(()) => {}
            // A disk that never writes in place can be full for that too.
            Err(StorageError::Full(what)) => {
                self.free.push(segment);
                return Err(StorageError::Full(what));
            }
            Err(error) => return Err(self.fail(error)),
        }
        segment.file.sync().map_err(|error| self.fail(error))?;
        let oldest = self.segments.front().map_or(life, |first| first.life);
        self.set_control(life, oldest)?;
        self.next_life += 1;
        self.has_begun = true;
        self.free_void()?;
        segment.life = life;
        segment.position = HEADER_BLOCK_BYTES as u64;
        segment.end = self.next;
        segment.is_clean = true;
        self.segments.push_back(segment);
        self.block.clear();
        self.is_sealed = false;
        Ok(())
    }

    /// A free file of this size, or a new one.
    fn take_segment(&mut self, bytes: u64) -> Result<Segment<F::File>, StorageError> {
        let fitting = self.free.iter().enumerate().filter(|(_, segment)| segment.bytes >= bytes);
        if let Some((at, _)) = fitting.min_by_key(|(_, segment)| !segment.is_filled) {
            return Ok(self.free.swap_remove(at));
        }
        let name = replay::segment_name(self.next_name);
        let file = self.files.create(&name, bytes)?;
        self.next_name += 1;
        self.files.sync().map_err(|error| self.fail(error))?;
        Ok(Segment::blank(name, file, bytes))
    }

    /// Keeps a segment for its next life, if it has the size that they all have.
    fn set_free(&mut self, mut segment: Segment<F::File>) -> Result<(), StorageError> {
        if segment.bytes == self.options.segment_bytes {
            segment.is_filled |= segment.position >= segment.bytes / 8 * 7;
            self.free.push(segment);
            return Ok(());
        }
        self.files.remove(&segment.name).map_err(|error| self.fail(error))
    }

    fn free_void(&mut self) -> Result<(), StorageError> {
        std::mem::take(&mut self.void).into_iter().try_for_each(|segment| self.set_free(segment))
    }

    fn set_control(&mut self, newest: u64, oldest: u64) -> Result<(), StorageError> {
        self.control.set((newest, oldest), self.synced).map_err(|error| self.fail(error))
    }
}
