//! A disk that is slow on request: an experiment's, to see what waits for it and what does not.
//!
//! The delays are at the engine, in the threads that would wait for the disk, so everything above meets them as it would
//! meet a real one's.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// The longest delay, in milliseconds: a node must be able to stop meanwhile.
pub(crate) const DELAY_MS_MAX: u64 = 10_000;

/// Delays in milliseconds; none at first.
#[derive(Debug, Default)]
pub(crate) struct Slowness {
    read_ms: AtomicU64,
    commit_ms: AtomicU64,
}

impl Slowness {
    /// From now on each read of the disk takes so much longer, and each group commit.
    pub(crate) fn set(&self, read_ms: u64, commit_ms: u64) {
        self.read_ms.store(read_ms.min(DELAY_MS_MAX), Ordering::Relaxed);
        self.commit_ms.store(commit_ms.min(DELAY_MS_MAX), Ordering::Relaxed);
    }

    pub(super) fn before_read(&self) {
        wait(&self.read_ms);
    }

    pub(super) fn before_commit(&self) {
        wait(&self.commit_ms);
    }
}

fn wait(delay_ms: &AtomicU64) {
    let ms = delay_ms.load(Ordering::Relaxed);
    if ms > 0 {
        std::thread::sleep(Duration::from_millis(ms));
    }
}
