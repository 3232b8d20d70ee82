//! What goes wrong with a disk at run time, apart from being full: reads that fail, and damage.
//!
//! A read that fails is that request's misfortune: it gets an error that names the disk, other replicas answer, and the
//! node serves on. Damage (a checksum that does not hold) is kept for whoever decides about the engine as a whole.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use moim_storage::StorageError;
use tokio::sync::Notify;
use tracing::error;

/// Damage that was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Damage {
    /// What the engine says.
    pub(crate) error: StorageError,
    /// Nothing can be written any more: to wait gains nothing.
    pub(crate) is_final: bool,
}

/// Shared by all who touch the disk.
#[derive(Debug, Default)]
pub(crate) struct Faults {
    damage: Mutex<Option<Damage>>,
    found: Notify,
    corrupt: AtomicU64,
    failed: AtomicU64,
}

impl Faults {
    /// A read has failed.
    pub(super) fn read(&self, error: &StorageError) {
        let (counter, is_damage) = match error {
            StorageError::Corruption(_) => (&self.corrupt, true),
            _ => (&self.failed, false),
        };
        let so_far = counter.fetch_add(1, Ordering::Relaxed) + 1;
        // Reported when it begins and as it goes on, without a line for each.
        if so_far.is_power_of_two() {
            error!(so_far, "a read failed: {error}");
        }
        if is_damage {
            self.damaged(error, false);
        }
    }

    /// A write has met damage.
    pub(super) fn write(&self, error: &StorageError) {
        if matches!(error, StorageError::Corruption(_)) {
            self.damaged(error, true);
        }
    }

    fn damaged(&self, error: &StorageError, is_final: bool) {
        let mut damage = self.damage.lock().unwrap_or_else(PoisonError::into_inner);
        if damage.as_ref().is_none_or(|known| is_final && !known.is_final) {
            *damage = Some(Damage { error: error.clone(), is_final });
            self.found.notify_one();
        }
    }

    /// Waits for damage; returns again only when it has become final.
    pub(crate) async fn next_damage(&self) -> Damage {
        loop {
            self.found.notified().await;
            let damage = self.damage.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(damage) = damage.as_ref() {
                return damage.clone();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn damage_is_told_once_and_again_when_it_is_final() {
        let faults = Faults::default();
        let corrupt = StorageError::Corruption("checksum".to_owned());
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        let next = || {
            let wait = std::time::Duration::from_millis(20);
            runtime.block_on(async { tokio::time::timeout(wait, faults.next_damage()).await.ok() })
        };
        faults.read(&StorageError::Io("unreadable".to_owned()));
        assert_eq!(next(), None);
        faults.read(&corrupt);
        faults.read(&corrupt);
        assert_eq!(next().map(|damage| damage.is_final), Some(false));
        faults.read(&corrupt);
        assert_eq!(next(), None);
        faults.write(&corrupt);
        assert_eq!(next().map(|damage| damage.is_final), Some(true));
    }
}
