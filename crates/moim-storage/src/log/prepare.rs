//! Segments that are filled with zeros before they are needed, by whoever has the time.
//!
//! A new file's space is set aside and not written, and each sync of records there must also make durable which of it now
//! is: a commit of the file system's journal, half of what the sync costs and all that makes it wait for others' syncs. In
//! its second life a segment has that behind it; this is for the first.
//!
//! A log that is hardly written to prepares nothing. While a segment is prepared the log goes on without it, with what
//! it has: nobody ever waits for zeros. A crash leaves a segment without a life, or one whose life is over, with more or
//! fewer zeros in it, and so one that is free.

use std::sync::Arc;

use super::segment::{HEADER_BLOCK_BYTES, Segment};
use super::{CommitLog, replay};
use crate::StorageError;
use crate::files::blocks::Blocks;
use crate::files::{File as _, Files};

/// Bytes that a segment has taken when the next is prepared. Not sooner: most nodes that are started write little.
const AFTER_BYTES: u64 = 4 << 20;

/// Zeros that are written and synced at once. The disk has others to serve meanwhile.
const STEP_BYTES: usize = if cfg!(test) { 3 << 10 } else { 1 << 20 };

/// A segment on its way to being free.
pub(crate) struct Preparation<F: Files> {
    files: Arc<F>,
    name: String,
    bytes: u64,
    segment: Option<Segment<F::File>>,
    filled_bytes: u64,
    zeros: Blocks,
}

/// How far a segment is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Prepared {
    /// There is more to fill.
    InPart,
    /// It is full of zeros, durably.
    Whole,
}

impl<F: Files> Preparation<F> {
    /// Makes the file, or writes more of its zeros. Not to be gone on with after an error.
    pub(crate) fn step(&mut self) -> Result<Prepared, StorageError> {
        let Some(segment) = &mut self.segment else {
            let file = self.files.create(&self.name, self.bytes)?;
            self.segment = Some(Segment::blank(self.name.clone(), file, self.bytes));
            return self.files.sync().map(|()| Prepared::InPart);
        };
        let left = usize::try_from(self.bytes - self.filled_bytes).unwrap_or(usize::MAX);
        // Past the cache, where they would only take the place of what is needed.
        let zeros = &self.zeros.content()[..left.min(STEP_BYTES)];
        segment.file.write_through(self.filled_bytes, zeros)?;
        self.filled_bytes += zeros.len() as u64;
        segment.is_filled = self.filled_bytes == self.bytes;
        Ok(if segment.is_filled { Prepared::Whole } else { Prepared::InPart })
    }
}

impl<F: Files> CommitLog<F> {
    /// Whether a segment should be prepared: many records come in, and the next one is not ready.
    pub(crate) fn wants_segment(&self) -> bool {
        let is_due =
            |last: &Segment<_>| last.position >= AFTER_BYTES && last.life != self.prepared_in;
        self.segments.back().is_some_and(is_due)
            && self.preparing_bytes == 0
            && !self.free.iter().any(|segment| segment.is_filled)
    }

    /// A segment to be prepared, unless the log has as many as it may.
    pub(crate) fn begin_preparing(&mut self) -> Result<Option<Preparation<F>>, StorageError> {
        self.check()?;
        assert!(self.preparing_bytes == 0, "one is prepared at a time");
        self.prepared_in = self.segments.back().map_or(0, |last| last.life);
        let bytes = self.options.segment_bytes;
        let segment = self.free.iter().position(|segment| !segment.is_filled);
        let segment = segment.map(|at| self.free.swap_remove(at));
        let unused = self.free.iter().chain(&self.void);
        let unused_bytes: u64 = unused.map(|segment| segment.bytes).sum();
        let all_bytes = self.in_use_bytes() + unused_bytes + bytes;
        if segment.is_none() && all_bytes > self.options.log_bytes_max {
            return Ok(None);
        }
        let name = replay::segment_name(self.next_name);
        self.next_name += u64::from(segment.is_none());
        self.preparing_bytes = bytes;
        let files = Arc::clone(&self.files);
        // What says that its former life is over stays as it is.
        let filled_bytes = HEADER_BLOCK_BYTES as u64;
        let mut zeros = Blocks::default();
        zeros.reset(STEP_BYTES).extend(std::iter::repeat_n(0, STEP_BYTES));
        Ok(Some(Preparation { files, name, bytes, segment, filled_bytes, zeros }))
    }

    /// Takes back what was prepared, in whole or in part, and how that went. There may have been no room for it; any
    /// other failure is the end of writing.
    pub(crate) fn end_preparing(
        &mut self,
        preparation: Preparation<F>,
        outcome: Result<(), StorageError>,
    ) -> Result<(), StorageError> {
        self.preparing_bytes = 0;
        if let Some(segment) = preparation.segment {
            self.set_free(segment)?;
        }
        match outcome {
            Ok(()) | Err(StorageError::Full(_)) => Ok(()),
            Err(error) => Err(self.fail(error)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    use crate::files::memory::MemoryFiles;
    use crate::log::{LogOptions, Room};
    use crate::{Family, Write};

    #[test]
    fn a_segment_is_wanted_when_much_is_written_and_none_is_ready() {
        let options = LogOptions { segment_bytes: 8 << 20, log_bytes_max: 64 << 20 };
        let mut log = CommitLog::open(MemoryFiles::default(), options, |_| {}).unwrap();
        let (key, value) = ("k".into(), vec![7; 1 << 20].into());
        let group = [vec![Write::Put { family: Family::Data, key, value }]];
        let append = |log: &mut CommitLog<MemoryFiles>, times: usize| {
            for _ in 0..times {
                assert_eq!(log.make_room(&group).unwrap(), Room::Ready);
                log.append(&group).unwrap();
            }
        };
        append(&mut log, 3);
        assert!(!log.wants_segment(), "most logs stay as small");
        append(&mut log, 2);
        assert!(log.wants_segment());
        let preparation = log.begin_preparing().unwrap().unwrap();
        assert!(!log.wants_segment(), "one at a time");
        log.end_preparing(preparation, Err(StorageError::Full(String::new()))).unwrap();
        assert!(!log.wants_segment(), "not again before the next segment");
        append(&mut log, 8);
        let mut preparation = log.begin_preparing().unwrap().unwrap();
        while preparation.step().unwrap() == Prepared::InPart {}
        log.end_preparing(preparation, Ok(())).unwrap();
        append(&mut log, 6);
        assert!(log.wants_segment(), "the one that was ready is in use");
        let preparation = log.begin_preparing().unwrap().unwrap();
        let failed = log.end_preparing(preparation, Err(StorageError::Io(String::new())));
        assert!(failed.is_err() && log.make_room(&group).is_err(), "the disk is at fault");
    }
}
