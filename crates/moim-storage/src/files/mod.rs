//! The files of a commit log behind a small trait, so that its recovery can be put to every fault of a disk without one.
//!
//! [`disk::DiskFiles`] is a directory of the operating system; [`memory::MemoryFiles`] is one in memory that loses,
//! tears, reorders and flips what was written to it, as told.
//!
//! Invariants: what was written is kept only by a [`File::sync`] that came after it and succeeded; a file that was made
//! is found again only after [`Files::sync`]. After a failed sync nobody knows what is kept, and a second one that
//! succeeds says nothing of the first: the operating system may have dropped the pages in between.

pub(crate) mod blocks;
pub mod disk;
pub mod memory;

use std::path::Path;
use std::sync::Arc;

use crate::StorageError;

/// A directory of files that only the engine touches.
pub trait Files: Send + Sync + Sized {
    /// An open file.
    type File: File;

    /// The names of all files, in order.
    fn list(&self) -> Result<Vec<String>, StorageError>;

    /// Makes a file of `bytes` bytes with its space set aside as far as the disk can do that. What is in it is zeros.
    /// After [`StorageError::Full`] there is no such file.
    fn create(&self, name: &str, bytes: u64) -> Result<Arc<Self::File>, StorageError>;

    /// Opens a file that is there.
    fn open(&self, name: &str) -> Result<Arc<Self::File>, StorageError>;

    /// Removes a file.
    fn remove(&self, name: &str) -> Result<(), StorageError>;

    /// Makes durable which files there are.
    fn sync(&self) -> Result<(), StorageError>;

    /// The files that a copy of the engine in another directory will have: none so far.
    fn beside(&self, directory: &Path) -> Result<Self, StorageError>;
}

/// An open file; reads and writes name their place.
pub trait File: Send + Sync {
    /// Its length in bytes.
    fn bytes(&self) -> Result<u64, StorageError>;

    /// Reads `bytes` bytes at `offset`, fewer only where the file ends.
    fn read(&self, offset: u64, bytes: usize) -> Result<Vec<u8>, StorageError>;

    /// Writes at `offset`. After an error any part of `bytes` may be in the file.
    fn write(&self, offset: u64, bytes: &[u8]) -> Result<(), StorageError>;

    /// Makes durable what has been written so far.
    fn sync(&self) -> Result<(), StorageError>;

    /// Writes at `offset`, durably. What was written before and not synced need not be durable then. Whole blocks that lie
    /// at a block's beginning in memory too (`Blocks`) cost a disk least. After an error any part of `bytes` may be
    /// in the file.
    fn write_through(&self, offset: u64, bytes: &[u8]) -> Result<(), StorageError> {
        self.write(offset, bytes)?;
        self.sync()
    }
}
