//! Files in memory that fail as disks do: for property tests of recovery, and for the simulator.
//!
//! Nothing here draws a random number: whoever crashes the disk says, sector by sector, what is kept (INV-1).
//!
//! Invariants: reads see every write; a crash keeps what was synced, and of the writes to each sector since then the first
//! few, all or none; a file that was made, or removed, without a sync of the directory may be gone, or back.

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
    /// Writes so far.
    writes: u64,
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
    /// Writes since the last sync, in order.
    pending: Vec<Write>,
    /// Whether the directory is known to name it.
    named: bool,
}

#[derive(Clone, Debug)]
struct Write {
    /// Counted over all files.
    number: u64,
    offset: usize,
    bytes: Vec<u8>,
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
    /// Those before the write of this number (see [`MemoryFiles::writes`]) are kept, the first sector of the next is lost,
    /// and all else is as chance has it.
    TornFrom(u64),
}

impl MemoryFiles {
    /// A machine dies: `chance(n)` is asked for numbers below `n`. Handles of files stay, and see what is left.
    pub fn crash(&self, fate: Fate, mut chance: impl FnMut(u64) -> u64) {
        let mut disk = self.lock();
        let disk = &mut *disk;
        for (name, content) in std::mem::take(&mut disk.removed) {
            if fate == Fate::Lost || (fate != Fate::Kept && chance(2) == 0) {
                disk.files.entry(name).or_insert(content);
            }
        }
        disk.files.retain(|_, content| {
            content.named
                || match fate {
                    Fate::Lost => false,
                    Fate::Kept => true,
                    Fate::Torn | Fate::TornFrom(_) => chance(2) == 0,
                }
        });
        let pending = disk.files.values().flat_map(|content| &content.pending);
        let lost = match fate {
            Fate::TornFrom(from) => {
                pending.map(|write| write.number).filter(|number| *number >= from).min()
            }
            _ => None,
        };
        for content in disk.files.values_mut() {
            match fate {
                Fate::Lost => content.forget(),
                Fate::Kept => content.sync(),
                Fate::Torn => content.tear((0, None), &mut chance),
                Fate::TornFrom(from) => content.tear((from, lost), &mut chance),
            }
            content.named = true;
        }
        disk.fails = None;
    }

    /// A copy that shares no future with this one, unsynced writes included.
    #[must_use]
    pub fn contents_clone(&self) -> Self {
        let disk = self.lock();
        let (files, removed) = (disk.files.clone(), disk.removed.clone());
        let writes = disk.writes;
        Self { disk: Arc::new(Mutex::new(Disk { files, removed, writes, ..Disk::default() })) }
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

    /// Writes so far, synced or not.
    pub fn writes(&self) -> u64 {
        self.lock().writes
    }

    /// How many syncs of files there were.
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
    fn write(&mut self, write: Write) {
        let end = write.offset + write.bytes.len();
        if self.now.len() < end {
            self.now.resize(end, 0);
        }
        self.now[write.offset..end].copy_from_slice(&write.bytes);
        self.pending.push(write);
    }

    fn sync(&mut self) {
        self.durable.resize(self.now.len(), 0);
        for write in self.pending.drain(..) {
            let place = write.offset..write.offset + write.bytes.len();
            self.durable[place].copy_from_slice(&write.bytes);
        }
    }

    /// Keeps of the writes to each sector the first few: all below a number, and not the first sector of the lost one.
    fn tear(&mut self, (from, lost): (u64, Option<u64>), chance: &mut impl FnMut(u64) -> u64) {
        let pending = std::mem::take(&mut self.pending);
        self.durable.resize(self.now.len(), 0);
        let odds = 1 + chance(8);
        for (sector, writes) in by_sector(&pending) {
            let certain = writes.iter().filter(|write| write.number < from).count();
            let is_first = |write: &&Write| {
                lost == Some(write.number) && write.offset / SECTOR_BYTES == sector
            };
            let possible = writes.iter().position(is_first).unwrap_or(writes.len());
            let mut kept = certain;
            while kept < possible && chance(8) < odds {
                kept += 1;
            }
            for write in &writes[..kept] {
                self.keep(write, sector);
            }
        }
        self.forget();
    }

    /// Makes durable what a write put into one sector.
    fn keep(&mut self, write: &Write, sector: usize) {
        let from = write.offset.max(sector * SECTOR_BYTES);
        let to = (write.offset + write.bytes.len()).min((sector + 1) * SECTOR_BYTES);
        let bytes = &write.bytes[from - write.offset..to - write.offset];
        self.durable[from..to].copy_from_slice(bytes);
    }

    fn forget(&mut self) {
        self.pending.clear();
        self.now.clone_from(&self.durable);
    }
}

/// The writes that touch each sector, in order.
fn by_sector(pending: &[Write]) -> BTreeMap<usize, Vec<&Write>> {
    let mut sectors: BTreeMap<usize, Vec<&Write>> = BTreeMap::new();
    for write in pending {
        let end = write.offset + write.bytes.len();
        for sector in write.offset / SECTOR_BYTES..end.div_ceil(SECTOR_BYTES) {
            sectors.entry(sector).or_default().push(write);
        }
    }
    sectors
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
        let number = disk.writes;
        disk.writes += 1;
        disk.file(&self.name)?.write(Write { number, offset, bytes: bytes.to_vec() });
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
