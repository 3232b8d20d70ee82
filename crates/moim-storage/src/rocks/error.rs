//! What RocksDB says went wrong, in the four words of [`StorageError`].

use std::sync::atomic::{AtomicU64, Ordering};

use rocksdb::{Error, ErrorKind};

use crate::StorageError;

// RocksDB passes the operating system's reason on in its text only.
const DISK_FULL: [&str; 2] = ["No space left on device", "Disk quota exceeded"];
const FILE_MISSING: &str = "No such file or directory";
const LOCK_HELD: [&str; 2] = ["lock hold by current process", "While lock file"];

/// `error`, with what the engine was `doing`.
pub(super) fn storage_error(doing: &str, error: Error) -> StorageError {
    let kind = error.kind();
    let reason = error.into_string();
    let says = |texts: &[&str]| texts.iter().any(|text| reason.contains(text));
    let full = says(&DISK_FULL);
    let locked = says(&LOCK_HELD);

    let what = format!("{doing}: {reason}");
    match kind {
        ErrorKind::Corruption => StorageError::Corruption(what),
        _ if full => StorageError::Full(what),
        _ if locked => StorageError::Locked(what),
        _ => StorageError::Io(what),
    }
}

/// As [`storage_error`], where a file that is not there is one that ought to be.
pub(super) fn reading_error(doing: &str, error: Error) -> StorageError {
    match storage_error(doing, error) {
        StorageError::Io(what) if what.contains(FILE_MISSING) => StorageError::Corruption(what),
        other => other,
    }
}

/// How often an engine has failed those who asked it, by kind.
#[derive(Debug, Default)]
pub(super) struct Faults {
    pub(super) corrupt: AtomicU64,
    pub(super) io: AtomicU64,
    pub(super) full: AtomicU64,
}

impl Faults {
    /// As [`storage_error`], counted.
    pub(super) fn note(&self, doing: &str, error: Error) -> StorageError {
        self.count(storage_error(doing, error))
    }

    /// As [`reading_error`], counted.
    pub(super) fn note_read(&self, doing: &str, error: Error) -> StorageError {
        self.count(reading_error(doing, error))
    }

    /// A write that waits for a background job which found no room, counted.
    pub(super) fn note_stopped(&self) -> StorageError {
        self.count(StorageError::Full("write: a flush or compaction found no room".to_owned()))
    }

    fn count(&self, error: StorageError) -> StorageError {
        let counter = match &error {
            StorageError::Corruption(_) => &self.corrupt,
            StorageError::Full(_) => &self.full,
            StorageError::Io(_) | StorageError::Locked(_) => &self.io,
        };
        counter.fetch_add(1, Ordering::Relaxed);
        error
    }
}
