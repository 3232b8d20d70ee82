//! Waiting while RocksDB's flushes and compactions lag behind.
//!
//! RocksDB makes a writer wait inside, at the head of its queue of writers. When a flush then fails for want of room,
//! its own recovery must get into that queue to flush again, and cannot: writer and recovery wait for each other for
//! ever (seen with 11.8.1; the writer in `DelayWrite`, the recovery in `EnterUnbatched`). So writes are told not to wait
//! inside, are refused as *incomplete* with nothing applied, and are offered again from here.
//!
//! That leaves no use for slowing down in steps, whose credits refused writes would use up: see `options`, which makes
//! RocksDB stop only. Pressure reaches clients all the same, because one group that waits holds up all.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use rocksdb::properties::BACKGROUND_ERRORS;
use rocksdb::{DB, Error, ErrorKind};

/// Between two offers.
const AGAIN_AFTER: Duration = Duration::from_millis(1);

/// Why a write was not done.
#[derive(Debug)]
pub(super) enum Refused {
    /// RocksDB says so.
    Failed(Error),
    /// Writes are stopped, and what would start them again has failed in the background: for want of room, as other
    /// failures are told to writers.
    Stopped,
}

/// How long writers have waited, and what had failed in the background when the last of them got through.
#[derive(Debug, Default)]
pub(super) struct Stall {
    micros: AtomicU64,
    errors: AtomicU64,
    /// Whether any was refused since then.
    refused: AtomicBool,
}

impl Stall {
    /// Offers a write until it is taken or refused for good.
    pub(super) fn out_of_the_way(
        &self,
        db: &DB,
        write: impl Fn() -> Result<(), Error>,
    ) -> Result<(), Refused> {
        loop {
            match write() {
                Ok(()) => {
                    if self.refused.load(Ordering::Relaxed) {
                        self.errors.store(errors(db), Ordering::Relaxed);
                        self.refused.store(false, Ordering::Relaxed);
                    }
                    return Ok(());
                }
                Err(error) => {
                    self.refused.store(true, Ordering::Relaxed);
                    if error.kind() != ErrorKind::Incomplete {
                        return Err(Refused::Failed(error));
                    }
                }
            }
            if errors(db) > self.errors.load(Ordering::Relaxed) {
                return Err(Refused::Stopped);
            }
            self.wait();
        }
    }

    #[expect(
        clippy::disallowed_methods,
        reason = "on an engine's own account: RocksDB would sleep in this very place"
    )]
    pub(super) fn wait(&self) {
        std::thread::sleep(AGAIN_AFTER);
        let micros = u64::try_from(AGAIN_AFTER.as_micros()).unwrap_or(u64::MAX);
        self.micros.fetch_add(micros, Ordering::Relaxed);
    }

    /// Microseconds that writers have waited, at least.
    pub(super) fn micros(&self) -> u64 {
        self.micros.load(Ordering::Relaxed)
    }
}

/// Flushes and compactions that have failed so far. RocksDB counts them on the default family.
pub(super) fn errors(db: &DB) -> u64 {
    db.property_int_value(BACKGROUND_ERRORS).ok().flatten().unwrap_or(0)
}
