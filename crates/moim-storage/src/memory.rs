//! The reference engine: ordered maps in memory. It keeps nothing past the process.
//!
//! The simulator runs on it, and so does `moim dev` without C++; the conformance suite takes it as the measure of the
//! other engine. It has no thread, clock or randomness: the same calls give the same answers.
//!
//! Invariants: a table that a snapshot or a copy still holds is never changed, the writer copies it first (so taking a
//! snapshot costs nothing, and the first write after it pays); the engine owns what it stores, so that a small value
//! never keeps the large network buffer alive that it arrived in.
//!
//! Left out on purpose: files, and with them checkpoints and any difference between [`Durability`]s. Who wants a power
//! cut keeps a [`MemoryEngine::contents_clone`] of the moment of the last sync.

use std::collections::BTreeMap;
use std::ops::{Bound, Range};
use std::path::Path;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use bytes::Bytes;

use crate::{
    Batch, Cached, Durability, Engine, Family, Figures, Page, PageLimit, Reclaim, ReclaimRule,
    Snapshot, StorageError, Write,
};

/// One family.
type Table = BTreeMap<Bytes, Bytes>;

/// See the module's documentation.
pub struct MemoryEngine {
    rule: Option<ReclaimRule>,
    contents: RwLock<Contents>,
}

impl MemoryEngine {
    /// An empty engine; [`Engine::reclaim`] applies `rule`.
    pub fn new(rule: Option<ReclaimRule>) -> Self {
        Self { rule, contents: RwLock::default() }
    }

    /// A second engine that holds the same entries and the same rule and shares no future with this one.
    #[must_use]
    pub fn contents_clone(&self) -> Self {
        Self { rule: self.rule.clone(), contents: RwLock::new(self.read().clone()) }
    }

    // A panic elsewhere cannot leave contents half-changed: nothing between two changes of a batch can panic. So a
    // poisoned lock says nothing about the data.
    fn read(&self) -> RwLockReadGuard<'_, Contents> {
        self.contents.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Contents> {
        self.contents.write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Engine for MemoryEngine {
    fn get(&self, family: Family, key: &[u8]) -> Result<Option<Bytes>, StorageError> {
        Ok(self.read().table(family).get(key).cloned())
    }

    fn get_cached(&self, family: Family, key: &[u8]) -> Result<Cached, StorageError> {
        self.get(family, key).map(Cached::Known)
    }

    // Not through a snapshot: the next write would have to copy the table that it holds.
    fn scan(
        &self,
        family: Family,
        range: Range<&[u8]>,
        limit: PageLimit,
    ) -> Result<Page, StorageError> {
        Ok(page_of(self.read().table(family), range, limit))
    }

    fn apply(&self, batches: &[Batch], durability: Durability) -> Result<(), StorageError> {
        let mut contents = self.write();
        for write in batches.iter().flatten() {
            contents.apply(write);
        }
        if durability == Durability::Synced {
            contents.log_syncs += 1;
        }
        Ok(())
    }

    fn sync(&self) -> Result<(), StorageError> {
        self.write().log_syncs += 1;
        Ok(())
    }

    fn snapshot(&self) -> Box<dyn Snapshot + '_> {
        Box::new(MemorySnapshot { tables: self.read().tables.clone() })
    }

    fn drop_range(&self, family: Family, range: Range<&[u8]>) -> Result<(), StorageError> {
        self.write().remove_range(family, range);
        Ok(())
    }

    fn checkpoint(&self, directory: &Path) -> Result<(), StorageError> {
        let directory = directory.display();
        Err(StorageError::Io(format!(
            "the memory engine keeps nothing, so there are no files to copy to {directory}; \
             run with the rocksdb engine to take checkpoints"
        )))
    }

    fn reclaim(&self, entries_max: usize) -> Result<(), StorageError> {
        let Some(rule) = &self.rule else { return Ok(()) };
        let mut contents = self.write();
        for (key, value) in contents.next_to_judge(entries_max) {
            match rule(&key, &value) {
                Reclaim::Keep => {}
                Reclaim::Remove => contents.remove(Family::Data, &key),
                Reclaim::Replace(value) => contents.put(Family::Data, key, value.into()),
            }
        }
        Ok(())
    }

    fn figures(&self) -> Figures {
        let contents = self.read();
        Figures {
            log_syncs: contents.log_syncs,
            log_bytes: contents.log_bytes,
            memtable_bytes: contents.bytes,
            keys_estimate: contents.table(Family::Data).len() as u64,
            ..Figures::default()
        }
    }
}

/// All that an engine holds; a clone shares the tables until one side writes.
#[derive(Clone, Default)]
struct Contents {
    tables: [Arc<Table>; Family::ALL.len()],
    /// The last key of [`Family::Data`] that the rule has judged. Empty at the start: the one entry that this skips
    /// there, the empty key, is the last of the round.
    judged: Bytes,
    /// Keys and values of all tables.
    bytes: u64,
    log_syncs: u64,
    log_bytes: u64,
}

impl Contents {
    fn table(&self, family: Family) -> &Table {
        &self.tables[family.index()]
    }

    fn table_mut(&mut self, family: Family) -> &mut Table {
        Arc::make_mut(&mut self.tables[family.index()])
    }

    fn apply(&mut self, write: &Write) {
        match write {
            Write::Put { family, key, value } => {
                self.log_bytes += (key.len() + value.len()) as u64;
                self.put(*family, Bytes::copy_from_slice(key), Bytes::copy_from_slice(value));
            }
            Write::Delete { family, key } => {
                self.log_bytes += key.len() as u64;
                self.remove(*family, key);
            }
            Write::DeleteRange { family, from, to } => {
                self.log_bytes += (from.len() + to.len()) as u64;
                self.remove_range(*family, from..to);
            }
        }
    }

    fn put(&mut self, family: Family, key: Bytes, value: Bytes) {
        let key_bytes = key.len() as u64;
        self.bytes += key_bytes + value.len() as u64;
        if let Some(old) = self.table_mut(family).insert(key, value) {
            self.bytes -= key_bytes + old.len() as u64;
        }
    }

    fn remove(&mut self, family: Family, key: &[u8]) {
        if let Some(old) = self.table_mut(family).remove(key) {
            self.bytes -= (key.len() + old.len()) as u64;
        }
    }

    fn remove_range(&mut self, family: Family, range: Range<&[u8]>) {
        let keys: Vec<Bytes> =
            entries_of(self.table(family), range).map(|(key, _)| key.clone()).collect();
        for key in keys {
            self.remove(family, &key);
        }
    }

    /// The next `entries_max` entries for the rule, going round, but none of them twice.
    fn next_to_judge(&mut self, entries_max: usize) -> Vec<(Bytes, Bytes)> {
        let table = self.table(Family::Data);
        let judged: &[u8] = &self.judged;
        let ahead = table.range::<[u8], _>((Bound::Excluded(judged), Bound::Unbounded));
        let round = table.range::<[u8], _>((Bound::Unbounded, Bound::Included(judged)));
        let entries: Vec<_> = ahead
            .chain(round)
            .take(entries_max)
            .map(|(key, value)| (key.clone(), value.clone()))
            .collect();
        if let Some((last, _)) = entries.last() {
            self.judged = last.clone();
        }
        entries
    }
}

/// The tables of one moment.
struct MemorySnapshot {
    tables: [Arc<Table>; Family::ALL.len()],
}

impl Snapshot for MemorySnapshot {
    fn scan(
        &self,
        family: Family,
        range: Range<&[u8]>,
        limit: PageLimit,
    ) -> Result<Page, StorageError> {
        Ok(page_of(&self.tables[family.index()], range, limit))
    }
}

fn page_of(table: &Table, range: Range<&[u8]>, limit: PageLimit) -> Page {
    let mut page = Page::default();
    let mut bytes = 0;
    for (key, value) in entries_of(table, range) {
        let entry_bytes = key.len() + value.len();
        if !limit.admits(page.entries.len(), bytes, entry_bytes) {
            page.more = true;
            break;
        }
        bytes += entry_bytes;
        page.entries.push((key.clone(), value.clone()));
    }
    page
}

fn entries_of<'table>(
    table: &'table Table,
    range: Range<&[u8]>,
) -> impl Iterator<Item = (&'table Bytes, &'table Bytes)> {
    // The standard map panics on a range that ends before it starts.
    let end = range.end.max(range.start);
    table.range::<[u8], _>((Bound::Included(range.start), Bound::Excluded(end)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(engine: &MemoryEngine, key: &'static str, value: &'static str) {
        let write = Write::Put { family: Family::Data, key: key.into(), value: value.into() };
        engine.apply(&[vec![write]], Durability::Written).unwrap();
    }

    fn keys(engine: &MemoryEngine) -> Vec<Bytes> {
        let everything = PageLimit { entries_max: usize::MAX, bytes_max: usize::MAX };
        let page = engine.scan(Family::Data, b""..b"\xff", everything).unwrap();
        page.entries.into_iter().map(|(key, _)| key).collect()
    }

    #[test]
    fn a_copy_and_its_original_go_separate_ways() {
        let original = MemoryEngine::new(None);
        put(&original, "a", "1");
        let copy = original.contents_clone();
        put(&original, "b", "2");
        put(&copy, "c", "3");
        assert_eq!(keys(&original), ["a", "b"]);
        assert_eq!(keys(&copy), ["a", "c"]);
    }

    #[test]
    fn the_hand_goes_round_and_judges_none_twice_in_a_turn() {
        let seen = Arc::new(RwLock::new(Vec::new()));
        let log = Arc::clone(&seen);
        let rule: ReclaimRule = Arc::new(move |key, _| {
            log.write().unwrap().push(Bytes::copy_from_slice(key));
            Reclaim::Keep
        });
        let engine = MemoryEngine::new(Some(rule));
        for key in ["", "a", "b", "c"] {
            put(&engine, key, "1");
        }
        engine.reclaim(3).unwrap();
        engine.reclaim(9).unwrap();
        assert_eq!(*seen.read().unwrap(), ["a", "b", "c", "", "a", "b", "c"]);
    }

    #[test]
    fn bytes_are_counted_exactly() {
        let engine = MemoryEngine::new(None);
        put(&engine, "key", "value");
        put(&engine, "key", "v");
        put(&engine, "other", "value");
        assert_eq!(engine.figures().memtable_bytes, 3 + 1 + 5 + 5);
        engine.drop_range(Family::Data, b"k"..b"l").unwrap();
        assert_eq!(engine.figures().memtable_bytes, 5 + 5);
        assert_eq!(engine.figures().keys_estimate, 1);
    }

    #[test]
    fn a_stored_value_does_not_keep_its_buffer_alive() {
        let engine = MemoryEngine::new(None);
        let frame = Bytes::from(vec![7; 1000]);
        let write =
            Write::Put { family: Family::Data, key: frame.slice(0..1), value: frame.slice(1..2) };
        engine.apply(&[vec![write]], Durability::Written).unwrap();
        assert!(frame.is_unique());
    }
}
