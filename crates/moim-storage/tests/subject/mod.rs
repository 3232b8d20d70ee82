//! An engine under test: what it takes to open it, close it and make it reclaim, whichever it is.

use moim_storage::files::memory::MemoryFiles;
#[cfg(feature = "rocksdb")]
use moim_storage::lsm::DiskLsm;
use moim_storage::lsm::{LsmEngine, LsmOptions};
use moim_storage::memory::MemoryEngine;
#[cfg(feature = "rocksdb")]
use moim_storage::rocks::{RocksEngine, RocksOptions};
use moim_storage::{Durability, Engine, Family, PageLimit, ReclaimRule, Write};

/// No bound at all.
pub(crate) const WHOLE: PageLimit = PageLimit { entries_max: usize::MAX, bytes_max: usize::MAX };
/// Above every key of the suite.
pub(crate) const TOP: &[u8] = &[0xff; 40];

/// Opens a fresh engine.
pub(crate) type Open = fn(Option<ReclaimRule>) -> Subject;

/// The engine and what belongs to it. An engine is `None` only while it is being reopened.
pub(crate) enum Subject {
    /// The reference.
    Memory(MemoryEngine),
    /// Log and memory tables of our own over tables in memory.
    Lsm { engine: Option<MemoryLsm>, rule: Option<ReclaimRule>, files: MemoryFiles },
    /// RocksDB in a directory of its own.
    #[cfg(feature = "rocksdb")]
    Rocks {
        engine: Option<Box<RocksEngine>>,
        rule: Option<ReclaimRule>,
        directory: tempfile::TempDir,
    },
    /// Log and memory tables of our own over RocksDB.
    #[cfg(feature = "rocksdb")]
    DiskLsm {
        engine: Option<Box<DiskLsm>>,
        rule: Option<ReclaimRule>,
        directory: tempfile::TempDir,
    },
}

pub(crate) type MemoryLsm = LsmEngine<MemoryFiles, MemoryEngine>;

impl Subject {
    pub(crate) fn memory(rule: Option<ReclaimRule>) -> Self {
        Self::Memory(MemoryEngine::new(rule))
    }

    pub(crate) fn lsm(rule: Option<ReclaimRule>) -> Self {
        let files = MemoryFiles::default();
        let engine = open_lsm(&files, MemoryEngine::new(None), rule.clone());
        Self::Lsm { engine: Some(engine), rule, files }
    }

    #[cfg(feature = "rocksdb")]
    pub(crate) fn rocks(rule: Option<ReclaimRule>) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let engine = open_rocks(directory.path(), rule.clone());
        Self::Rocks { engine: Some(Box::new(engine)), rule, directory }
    }

    #[cfg(feature = "rocksdb")]
    pub(crate) fn disk_lsm(rule: Option<ReclaimRule>) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let engine = open_disk_lsm(directory.path(), rule.clone());
        Self::DiskLsm { engine: Some(Box::new(engine)), rule, directory }
    }

    pub(crate) fn engine(&self) -> &dyn Engine {
        match self {
            Self::Memory(engine) => engine,
            Self::Lsm { engine, .. } => engine.as_ref().unwrap(),
            #[cfg(feature = "rocksdb")]
            Self::Rocks { engine, .. } => engine.as_deref().unwrap(),
            #[cfg(feature = "rocksdb")]
            Self::DiskLsm { engine, .. } => engine.as_deref().unwrap(),
        }
    }

    /// A clean stop and start. The memory engine has none, so its copy stands in.
    pub(crate) fn reopen(&mut self) {
        match self {
            Self::Memory(engine) => *engine = engine.contents_clone(),
            Self::Lsm { engine, rule, files } => {
                let tables = engine.as_ref().unwrap().tables().contents_clone();
                drop(engine.take());
                *engine = Some(open_lsm(files, tables, rule.clone()));
            }
            #[cfg(feature = "rocksdb")]
            Self::Rocks { engine, rule, directory } => {
                drop(engine.take());
                *engine = Some(Box::new(open_rocks(directory.path(), rule.clone())));
            }
            #[cfg(feature = "rocksdb")]
            Self::DiskLsm { engine, rule, directory } => {
                drop(engine.take());
                *engine = Some(Box::new(open_disk_lsm(directory.path(), rule.clone())));
            }
        }
    }

    /// Shows every entry to the rule.
    pub(crate) fn show_all_to_rule(&self) {
        match self {
            Self::Memory(_) => {}
            Self::Lsm { engine, .. } => engine.as_ref().unwrap().compact().unwrap(),
            #[cfg(feature = "rocksdb")]
            Self::Rocks { engine, .. } => engine.as_ref().unwrap().compact().unwrap(),
            #[cfg(feature = "rocksdb")]
            Self::DiskLsm { engine, .. } => engine.as_ref().unwrap().compact().unwrap(),
        }
    }

    /// Shows every entry to the rule and carries out what it says.
    pub(crate) fn reclaim_all(&self) {
        self.show_all_to_rule();
        self.engine().reclaim(usize::MAX).unwrap();
    }

    pub(crate) fn put(&self, family: Family, key: &'static [u8], value: &'static [u8]) {
        self.write(vec![put(family, key, value)]);
    }

    pub(crate) fn write(&self, batch: Vec<Write>) {
        self.engine().apply(&[batch], Durability::Written).unwrap();
    }

    pub(crate) fn get(&self, family: Family, key: &[u8]) -> Option<Vec<u8>> {
        self.engine().get(family, key).unwrap().map(Vec::from)
    }

    /// All keys of a family.
    pub(crate) fn keys(&self, family: Family) -> Vec<Vec<u8>> {
        let page = self.engine().scan(family, b""..TOP, WHOLE).unwrap();
        page.entries.into_iter().map(|(key, _)| Vec::from(key)).collect()
    }
}

pub(crate) fn put(family: Family, key: &'static [u8], value: &'static [u8]) -> Write {
    Write::Put { family, key: key.into(), value: value.into() }
}

pub(crate) fn delete(family: Family, key: &'static [u8]) -> Write {
    Write::Delete { family, key: key.into() }
}

pub(crate) fn delete_range(family: Family, from: &'static [u8], to: &'static [u8]) -> Write {
    Write::DeleteRange { family, from: from.into(), to: to.into() }
}

/// Small enough that some checks fill it, and the write that finds it full writes it out.
fn open_lsm(files: &MemoryFiles, tables: MemoryEngine, rule: Option<ReclaimRule>) -> MemoryLsm {
    let options = LsmOptions {
        memtable_bytes: 4 << 10,
        segment_bytes: 8 << 10,
        log_bytes_max: 64 << 10,
        hash_seed: 0,
        rest: std::time::Duration::MAX,
    };
    LsmEngine::open(files.clone(), tables, options, rule).unwrap()
}

#[cfg(feature = "rocksdb")]
pub(crate) fn open_rocks(directory: &std::path::Path, rule: Option<ReclaimRule>) -> RocksEngine {
    RocksEngine::open(directory, &RocksOptions::for_memory(16 << 20), rule).unwrap()
}

#[cfg(feature = "rocksdb")]
pub(crate) fn open_disk_lsm(directory: &std::path::Path, rule: Option<ReclaimRule>) -> DiskLsm {
    let rocks = RocksOptions::for_memory(16 << 20);
    DiskLsm::open_directory(directory, &rocks, LsmOptions::for_memtable(1 << 20), rule).unwrap()
}
