#![allow(dead_code, reason = "shared by tests; none uses all of it")]
//! The engine on disk and its files.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use moim_storage::lsm::{DiskLsm, LsmOptions};
use moim_storage::rocks::{RocksEngine, RocksOptions};
use moim_storage::{Engine, Family, StorageError, Write};

pub(crate) fn open(directory: &Path) -> Result<RocksEngine, StorageError> {
    RocksEngine::open(directory, &RocksOptions::for_memory(16 << 20), None)
}

pub(crate) fn open_lsm(directory: &Path) -> Result<DiskLsm, StorageError> {
    let rocks = RocksOptions::for_memory(16 << 20);
    DiskLsm::open_directory(directory, &rocks, LsmOptions::for_memtable(4 << 20), None)
}

/// Engines that keep.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Rocks,
    Lsm,
}

pub(crate) enum Disk {
    Rocks(Box<RocksEngine>),
    Lsm(DiskLsm),
}

impl Kind {
    pub(crate) fn open(self, directory: &Path) -> Result<Disk, StorageError> {
        match self {
            Self::Rocks => open(directory).map(|engine| Disk::Rocks(Box::new(engine))),
            Self::Lsm => open_lsm(directory).map(Disk::Lsm),
        }
    }
}

impl Disk {
    pub(crate) fn compact(&self) {
        match self {
            Self::Rocks(engine) => engine.compact(),
            Self::Lsm(engine) => engine.compact(),
        }
        .unwrap();
    }
}

impl std::ops::Deref for Disk {
    type Target = dyn Engine;

    fn deref(&self) -> &Self::Target {
        match self {
            Self::Rocks(engine) => &**engine,
            Self::Lsm(engine) => engine,
        }
    }
}

/// A copy of a directory and what is beneath it as it is at one moment, which is what a crash leaves: taken again if a
/// flush or a compaction has changed anything meanwhile. (A list of tables that is newer than the tables beside it is
/// nothing that a disk could hold.)
pub(crate) fn copy(home: &Path) -> tempfile::TempDir {
    for _ in 0..COPIES_MAX {
        let before = state(home);
        let copy = tempfile::tempdir().unwrap();
        copy_into(home, copy.path());
        if state(home) == before {
            return copy;
        }
    }
    panic!("{} does not rest for the time of a copy", home.display());
}

const COPIES_MAX: usize = 500;

/// Length and time of every file that matters.
fn state(directory: &Path) -> BTreeMap<PathBuf, (u64, Option<SystemTime>)> {
    let mut state = BTreeMap::new();
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        // What RocksDB tells people is no part of the data.
        if path.file_name().is_some_and(|name| name == "LOG") {
            continue;
        }
        match fs::metadata(&path) {
            Ok(about) if about.is_dir() => state.extend(self::state(&path)),
            Ok(about) => drop(state.insert(path, (about.len(), about.modified().ok()))),
            Err(_gone) => {}
        }
    }
    state
}

fn copy_into(from: &Path, to: &Path) {
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let to = to.join(entry.file_name());
        if entry.path().is_dir() {
            fs::create_dir(&to).unwrap();
            copy_into(&entry.path(), &to);
        } else if entry.file_name() != "LOCK" {
            // Files come and go beneath the feet of who lists them.
            fs::copy(entry.path(), to).ok();
        }
    }
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
