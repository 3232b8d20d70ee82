//! Files in memory that fail as disks do: for property tests of recovery, and for the simulator.
//!
//! Nothing here draws a random number: whoever crashes the disk says, sector by sector, what is kept (INV-1).
//!
//! Invariants: reads see every write; a crash keeps what was synced, and of each sector written since then either the
//! old or the new content; a file that was made, or removed, without a sync of the directory may be gone, or back.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::{File, Files};
use crate::StorageError;

/// The unit that a disk writes whole or not at all.
pub const SECTOR_BYTES: usize = 512;

/// A disk; a clone is another handle of it.
#[derive(Clone, Debug, Default)]
pub struct MemoryFiles {
    disk: Arc<Mutex<Disk>>,
}

#[derive(Debug, Default)]
struct Disk {
    files: BTreeMap<String, Content>,
    /// Files whose removal is not yet durable.
    removed: BTreeMap<String, Content>,
    /// Bytes of all files together, at most; `None` without a bound.
    capacity: Option<u64>,
    fails: Option<Fault>,
    syncs: u64,
}

/// What a faulty disk says no to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Writes.
    Writes,
    /// Syncs, of which nothing is kept.
    Syncs,
}

#[derive(Clone, Debug, Default)]
struct Content {
    now: Vec<u8>,
    durable: Vec<u8>,
    /// Writes since the last sync: where and how long.
    pending: Vec<(usize, usize)>,
    /// Whether the directory is known to name it.
    named: bool,
}

/// What becomes of the writes that were not synced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// All are lost.
    Lost,
    /// All are kept: the process died and the machine did not.
    Kept,
    /// Sector by sector, as chance has it.
    Torn,
}

impl MemoryFiles {
    /// A machine dies: `chance(n)` is asked for numbers below `n`. Handles of files stay, and see what is left.
    pub fn crash(&self, fate: Fate, mut chance: impl FnMut(u64) -> u64) {
        let mut disk = self.lock();
        let disk = &mut *disk;
        for (name, content) in std::mem::take(&mut disk.removed) {
            if fate == Fate::Lost || (fate == Fate::Torn && chance(2) == 0) {
                disk.files.entry(name).or_insert(content);
            }
        }
        disk.files.retain(|_, content| {
            content.named
                || match fate {
                    Fate::Lost => false,
                    Fate::Kept => true,
                    Fate::Torn => chance(2) == 0,
                }
        });
        for content in disk.files.values_mut() {
            content.crash(fate, &mut chance);
            content.named = true;
        }
        disk.fails = None;
    }

    /// A copy that shares no future with this one, unsynced writes included.
    #[must_use]
    pub fn contents_clone(&self) -> Self {
        let disk = self.lock();
        let (files, removed) = (disk.files.clone(), disk.removed.clone());
        Self { disk: Arc::new(Mutex::new(Disk { files, removed, ..Disk::default() })) }
    }

    /// Flips one bit of what is on the disk, durably.
    pub fn flip(&self, name: &str, bit: usize) {
        if let Some(content) = self.lock().files.get_mut(name) {
            for bytes in [&mut content.now, &mut content.durable] {
                if let Some(byte) = bytes.get_mut(bit / 8) {
                    *byte ^= 1 << (bit % 8);
                }
            }
        }
    }

    /// From now on all files together hold so many bytes, or as many as there are.
    pub fn bound(&self, capacity: Option<u64>) {
        self.lock().capacity = capacity;
    }

    /// From now on this fails, or nothing does.
    pub fn fail(&self, fault: Option<Fault>) {
        self.lock().fails = fault;
    }

    /// Files with their bytes, to look at.
    pub fn contents(&self) -> Vec<(String, Vec<u8>)> {
        let disk = self.lock();
        disk.files.iter().map(|(name, content)| (name.clone(), content.now.clone())).collect()
    }

    /// Syncs of files so far.
    pub fn syncs(&self) -> u64 {
        self.lock().syncs
    }

    // Nothing that is done under the lock panics half-way.
    fn lock(&self) -> MutexGuard<'_, Disk> {
        self.disk.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Disk {
    fn check(&self, fault: Fault) -> Result<(), StorageError> {
        if self.fails == Some(fault) {
            return Err(StorageError::Io(format!("{fault:?} fail, as they were told to")));
        }
        Ok(())
    }

    fn file(&mut self, name: &str) -> Result<&mut Content, StorageError> {
        let gone = || StorageError::Io(format!("{name} does not exist"));
        self.files.get_mut(name).ok_or_else(gone)
    }
}

impl Content {
    fn write(&mut self, offset: usize, bytes: &[u8]) {
        let end = offset + bytes.len();
        if self.now.len() < end {
            self.now.resize(end, 0);
        }
        self.now[offset..end].copy_from_slice(bytes);
        self.pending.push((offset, bytes.len()));
    }

    fn sync(&mut self) {
        if self.durable.len() != self.now.len() {
            self.durable.resize(self.now.len(), 0);
        }
        for (offset, length) in self.pending.drain(..) {
            self.durable[offset..offset + length]
                .copy_from_slice(&self.now[offset..offset + length]);
        }
    }

    fn crash(&mut self, fate: Fate, chance: &mut impl FnMut(u64) -> u64) {
        match fate {
            Fate::Kept => self.sync(),
            Fate::Lost => self.forget(),
            Fate::Torn => {
                let odds = 1 + chance(8);
                let latest = std::mem::take(&mut self.pending);
                for sector in sectors(&latest) {
                    let kept = sector.start..sector.end.min(self.now.len());
                    if chance(8) < odds && kept.end <= self.durable.len() {
                        self.durable[kept.clone()].copy_from_slice(&self.now[kept]);
                    }
                }
                self.forget();
            }
        }
    }

    fn forget(&mut self) {
        self.pending.clear();
        self.now.clone_from(&self.durable);
    }
}

/// The sectors that writes have touched, each once.
fn sectors(writes: &[(usize, usize)]) -> Vec<std::ops::Range<usize>> {
    let numbers = writes.iter().flat_map(|&(offset, length)| {
        offset / SECTOR_BYTES..(offset + length).div_ceil(SECTOR_BYTES)
    });
    let numbers: std::collections::BTreeSet<usize> = numbers.collect();
    numbers.into_iter().map(|sector| sector * SECTOR_BYTES..(sector + 1) * SECTOR_BYTES).collect()
}

impl Files for MemoryFiles {
    type File = MemoryFile;

    fn list(&self) -> Result<Vec<String>, StorageError> {
        Ok(self.lock().files.keys().cloned().collect())
    }

    fn create(&self, name: &str, bytes: u64) -> Result<Arc<MemoryFile>, StorageError> {
        let mut disk = self.lock();
        disk.check(Fault::Writes)?;
        let used: u64 = disk.files.values().map(|content| content.now.len() as u64).sum();
        if disk.capacity.is_some_and(|capacity| used + bytes > capacity) {
            return Err(StorageError::Full(format!("{name}: {bytes} bytes are not left")));
        }
        let zeros = vec![0; usize::try_from(bytes).unwrap_or(usize::MAX)];
        let content = Content { now: zeros.clone(), durable: zeros, ..Content::default() };
        disk.files.insert(name.to_owned(), content);
        drop(disk);
        self.open(name)
    }

    fn open(&self, name: &str) -> Result<Arc<MemoryFile>, StorageError> {
        self.lock().file(name)?;
        Ok(Arc::new(MemoryFile { disk: self.clone(), name: name.to_owned() }))
    }

    fn remove(&self, name: &str) -> Result<(), StorageError> {
        let mut disk = self.lock();
        disk.file(name)?;
        if let Some(content) = disk.files.remove(name).filter(|content| content.named) {
            disk.removed.insert(name.to_owned(), content);
        }
        Ok(())
    }

    fn sync(&self) -> Result<(), StorageError> {
        let mut disk = self.lock();
        disk.check(Fault::Syncs)?;
        disk.removed.clear();
        disk.files.values_mut().for_each(|content| content.named = true);
        Ok(())
    }

    fn beside(&self, _: &Path) -> Result<Self, StorageError> {
        Err(StorageError::Io("files in memory have no other directory".to_owned()))
    }
}

/// A file of such a disk.
#[derive(Debug)]
pub struct MemoryFile {
    disk: MemoryFiles,
    name: String,
}

impl File for MemoryFile {
    fn bytes(&self) -> Result<u64, StorageError> {
        Ok(self.disk.lock().file(&self.name)?.now.len() as u64)
    }

    fn read(&self, offset: u64, bytes: usize) -> Result<Vec<u8>, StorageError> {
        let mut disk = self.disk.lock();
        let content = &disk.file(&self.name)?.now;
        let start = usize::try_from(offset).unwrap_or(usize::MAX).min(content.len());
        let end = start.saturating_add(bytes).min(content.len());
        Ok(content[start..end].to_vec())
    }

    fn write(&self, offset: u64, bytes: &[u8]) -> Result<(), StorageError> {
        let mut disk = self.disk.lock();
        disk.check(Fault::Writes)?;
        let offset = usize::try_from(offset).unwrap_or(usize::MAX);
        disk.file(&self.name)?.write(offset, bytes);
        Ok(())
    }

    fn sync(&self) -> Result<(), StorageError> {
        let mut disk = self.disk.lock();
        disk.check(Fault::Syncs)?;
        disk.syncs += 1;
        disk.file(&self.name)?.sync();
        Ok(())
    }
}
