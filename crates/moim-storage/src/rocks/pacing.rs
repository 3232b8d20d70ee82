//! Compactions that leave the disk and the processor to others (REQ-46).
//!
//! RocksDB can bound what compactions write, but by a figure that is set when it is opened. What they go through is
//! shown to the rule of reclaiming, entry by entry, on the compaction's own thread: there it rests, as long as its
//! owner's [`CompactionPace`] says.
//!
//! Invariant: with [`URGENT_TABLES`] in level 0 nothing rests, so writers never wait for a compaction that rests. Only the
//! `lsm` engine looks at how many there are: without it, compactions rest whatever waits for them, so that engine on its
//! own is given no pace.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::CompactionPace;

/// Between two rests: some milliseconds of work.
const STEP_BYTES: u64 = 128 << 10;

/// Tables in level 0 from which on compactions do not rest: a few more than begin one, for each is large.
const URGENT_TABLES: u64 = 6;

/// What all compactions of an engine share.
#[derive(Default)]
pub(super) struct Pacing {
    pace: OnceLock<CompactionPace>,
    is_urgent: AtomicBool,
}

impl Pacing {
    /// The first stays.
    pub(super) fn set(&self, pace: CompactionPace) {
        drop(self.pace.set(pace));
    }

    /// So many tables are in level 0 now.
    pub(super) fn note_tables(&self, tables: u64) {
        self.is_urgent.store(tables >= URGENT_TABLES, Ordering::Relaxed);
    }

    fn rest(&self, bytes: u64) {
        let Some(pace) = self.pace.get() else { return };
        let pause = pace(bytes);
        if !pause.is_zero() && !self.is_urgent.load(Ordering::Relaxed) {
            sleep(pause);
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "a thread of RocksDB's has nothing else to do")]
fn sleep(pause: Duration) {
    std::thread::sleep(pause);
}

/// How far one compaction has got since its last rest.
#[derive(Default)]
pub(super) struct Steps(u64);

impl Steps {
    /// It has gone through so many bytes more.
    pub(super) fn add(&mut self, bytes: usize, pacing: &Pacing) {
        self.0 += bytes as u64;
        if self.0 >= STEP_BYTES {
            pacing.rest(std::mem::take(&mut self.0));
        }
    }
}
