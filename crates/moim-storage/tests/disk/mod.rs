#![allow(dead_code, reason = "shared by tests; none uses all of it")]
//! The engine on disk and its files.

use std::fs;
use std::path::{Path, PathBuf};

use moim_storage::rocks::{RocksEngine, RocksOptions};
use moim_storage::{Family, StorageError, Write};

pub(crate) fn open(directory: &Path) -> Result<RocksEngine, StorageError> {
    RocksEngine::open(directory, &RocksOptions::for_memory(16 << 20), None)
}

pub(crate) fn put(family: Family, key: impl Into<Vec<u8>>, value: impl Into<Vec<u8>>) -> Write {
    Write::Put { family, key: key.into().into(), value: value.into().into() }
}

/// The files with an extension, oldest first: RocksDB numbers them.
pub(crate) fn files(directory: &Path, extension: &str) -> Vec<PathBuf> {
    let mut files: Vec<_> = fs::read_dir(directory)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|it| it == extension))
        .collect();
    files.sort();
    files
}
