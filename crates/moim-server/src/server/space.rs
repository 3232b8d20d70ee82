//! Watches how much of the file system of the data directory is in use, so that writes are refused before they fail:
//! a compaction needs room for what it writes before it gives back what it read, so a disk that is full to the brim
//! could not even delete.

use std::cell::Cell;
use std::io;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::sleep;
use tracing::{info, warn};

use crate::disk::Room;
use crate::http::metrics::{Metric, count};

/// How often it is looked.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// How far, in percent, use must fall below the limit before writes are taken again: what stands at the limit would
/// otherwise open and close with every compaction.
const RELIEF_PERCENT: u8 = 2;

/// The file system of a directory, as it was seen last.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Space {
    /// What this user can have of it, used or not.
    pub(super) size_bytes: u64,
    /// What is left of that.
    pub(super) available_bytes: u64,
}

impl Space {
    /// Asks the system; may block.
    pub(super) fn of(directory: &Path) -> io::Result<Self> {
        let of = rustix::fs::statvfs(directory)?;
        let bytes = |blocks: u64| blocks.saturating_mul(of.f_frsize);
        let used_bytes = bytes(of.f_blocks.saturating_sub(of.f_bfree));
        let available_bytes = bytes(of.f_bavail);
        // As `df` counts: blocks that only root may take are no room.
        Ok(Self { size_bytes: used_bytes.saturating_add(available_bytes), available_bytes })
    }

    /// Whether more than `percent` of it is in use.
    fn exceeds(self, percent: u8) -> bool {
        let used_bytes = self.size_bytes - self.available_bytes;
        // A file system without a size (some network ones) does not say.
        u128::from(used_bytes) * 100 > u128::from(self.size_bytes) * u128::from(percent)
    }

    /// Whether there is too little room, given whether there was.
    fn is_low(self, limit_percent: u8, was_low: bool) -> bool {
        let relief = if was_low { RELIEF_PERCENT } else { 0 };
        self.exceeds(limit_percent.saturating_sub(relief))
    }
}

/// The last look, for metrics.
#[derive(Clone, Debug, Default)]
pub(super) struct Watched(Rc<Cell<(Space, bool)>>);

impl Watched {
    /// Bytes left on the file system, and its size.
    pub(super) fn space(&self) -> (u64, u64) {
        let (space, _) = self.0.get();
        (space.available_bytes, space.size_bytes)
    }

    pub(super) fn metrics(&self) -> Vec<Metric> {
        let (space, low) = self.0.get();
        let gauge = |name, help, bytes| Metric::gauge(name, help, count(bytes));
        vec![
            gauge(
                "moim_disk_size_bytes",
                "Size of the file system of the data directory.",
                space.size_bytes,
            ),
            gauge("moim_disk_available_bytes", "Room that is left on it.", space.available_bytes),
            gauge(
                "moim_disk_low",
                "1 if more than node.disk_used_percent_max of it is in use, so that no new values are taken.",
                u64::from(low),
            ),
        ]
    }
}

/// Looks for ever, and says when room gets low or is there again.
pub(super) async fn watch(
    directory: PathBuf,
    limit_percent: u8,
    room: Arc<Room>,
    watched: Watched,
) {
    let mut silent = false;
    loop {
        let path = directory.clone();
        // It may block: a network file system that hangs must not stop the loop.
        let looked = tokio::task::spawn_blocking(move || Space::of(&path)).await;
        match looked.unwrap_or_else(|error| Err(io::Error::other(error))) {
            Ok(space) => note(space, limit_percent, &room, &watched),
            Err(error) if !silent => {
                silent = true;
                warn!(
                    "how full the disk is cannot be found out: {error}; writes are refused only when they fail"
                );
            }
            Err(_) => {}
        }
        sleep(LOOK_EVERY).await;
    }
}

fn note(space: Space, limit_percent: u8, room: &Room, watched: &Watched) {
    let (_, was_low) = watched.0.get();
    let low = space.is_low(limit_percent, was_low);
    watched.0.set((space, low));
    if low == was_low {
        return;
    }
    room.set_low(low);
    let left_mib = space.available_bytes >> 20;
    if low {
        warn!(
            left_mib,
            "more than {limit_percent} % of the disk is in use: this node takes no new values. Free or add space, or \
             raise node.disk_used_percent_max"
        );
    } else {
        info!(left_mib, "there is room on the disk again: this node takes new values");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn room_is_low_above_the_limit_until_well_below_it() {
        let used = |percent: u64| Space { size_bytes: 1000, available_bytes: 1000 - 10 * percent };
        assert!(!used(90).is_low(90, false));
        assert!(used(91).is_low(90, false));
        assert!(used(89).is_low(90, true));
        assert!(!used(88).is_low(90, true));
        assert!(!used(100).is_low(100, false), "100 is never exceeded");
        assert!(!Space::default().is_low(90, true), "a file system without a size");
    }

    #[test]
    fn the_system_knows_the_size_of_a_directory() {
        let directory = tempfile::tempdir().unwrap();
        let space = Space::of(directory.path()).unwrap();
        assert!(space.size_bytes >= space.available_bytes && space.size_bytes > 0, "{space:?}");
        assert!(Space::of(&directory.path().join("none")).is_err());
    }
}
