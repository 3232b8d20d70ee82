//! What RocksDB says went wrong, in the four words of [`StorageError`].

use rocksdb::{Error, ErrorKind};

use crate::StorageError;

// RocksDB passes the operating system's reason on in its text only.
const DISK_FULL: [&str; 2] = ["No space left on device", "Disk quota exceeded"];
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
