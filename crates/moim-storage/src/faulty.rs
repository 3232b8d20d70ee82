//! An engine that fails when it is told to: for tests of those who must live with the faults of a disk.
//!
//! Like a real one it fails before anything was done: a batch that is refused has left no trace.

use std::ops::Range;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use bytes::Bytes;

use crate::{
    Batch, Cached, CompactionPace, Durability, Engine, Family, Figures, Page, PageLimit, Snapshot,
    StorageError,
};

/// Any engine, with faults. Without one it does what the engine does, but answers no read from memory.
#[derive(Debug)]
pub struct FaultyEngine<E> {
    inner: E,
    writes: Mutex<Option<StorageError>>,
    reads: Mutex<Option<StorageError>>,
    applies: AtomicU64,
    batches: AtomicU64,
}

impl<E: Engine> FaultyEngine<E> {
    /// Without a fault so far.
    pub fn new(inner: E) -> Self {
        let (writes, reads) = (Mutex::default(), Mutex::default());
        let (applies, batches) = (AtomicU64::new(0), AtomicU64::new(0));
        Self { inner, writes, reads, applies, batches }
    }

    /// From now on every write and sync fails with this, or none does.
    pub fn fail_writes(&self, fault: Option<StorageError>) {
        set(&self.writes, fault);
    }

    /// From now on every read fails with this, or none does.
    pub fn fail_reads(&self, fault: Option<StorageError>) {
        set(&self.reads, fault);
    }

    /// Groups offered so far, refused ones included.
    pub fn applies(&self) -> u64 {
        self.applies.load(Ordering::SeqCst)
    }

    /// Batches applied so far.
    pub fn batches(&self) -> u64 {
        self.batches.load(Ordering::SeqCst)
    }
}

fn set(fault: &Mutex<Option<StorageError>>, to: Option<StorageError>) {
    *fault.lock().unwrap_or_else(PoisonError::into_inner) = to;
}

fn check(fault: &Mutex<Option<StorageError>>) -> Result<(), StorageError> {
    fault.lock().unwrap_or_else(PoisonError::into_inner).clone().map_or(Ok(()), Err)
}

impl<E: Engine> Engine for FaultyEngine<E> {
    fn get(&self, family: Family, key: &[u8]) -> Result<Option<Bytes>, StorageError> {
        check(&self.reads)?;
        self.inner.get(family, key)
    }

    fn get_cached(&self, _family: Family, _key: &[u8]) -> Result<Cached, StorageError> {
        Ok(Cached::NeedsDisk)
    }

    fn scan(
        &self,
        family: Family,
        range: Range<&[u8]>,
        limit: PageLimit,
    ) -> Result<Page, StorageError> {
        check(&self.reads)?;
        self.inner.scan(family, range, limit)
    }

    fn apply(&self, batches: &[Batch], durability: Durability) -> Result<(), StorageError> {
        self.applies.fetch_add(1, Ordering::SeqCst);
        check(&self.writes)?;
        self.inner.apply(batches, durability)?;
        self.batches.fetch_add(batches.len() as u64, Ordering::SeqCst);
        Ok(())
    }

    fn sync(&self) -> Result<(), StorageError> {
        check(&self.writes)?;
        self.inner.sync()
    }

    fn snapshot(&self) -> Box<dyn Snapshot + '_> {
        self.inner.snapshot()
    }

    fn drop_range(&self, family: Family, range: Range<&[u8]>) -> Result<(), StorageError> {
        check(&self.writes)?;
        self.inner.drop_range(family, range)
    }

    fn checkpoint(&self, directory: &Path) -> Result<(), StorageError> {
        check(&self.writes)?;
        self.inner.checkpoint(directory)
    }

    fn reclaim(&self, entries_max: usize) -> Result<(), StorageError> {
        check(&self.writes)?;
        self.inner.reclaim(entries_max)
    }

    fn pace_compactions(&self, pace: CompactionPace) {
        self.inner.pace_compactions(pace);
    }

    fn figures(&self) -> Figures {
        self.inner.figures()
    }
}
