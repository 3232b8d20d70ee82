//! The memory table: what has been written since the last flush, in the order of keys, ahead of the tables.
//!
//! Invariants: what it says of a key is newer than what any older table says; a deletion is kept as such, because an
//! older table may hold the key; a deleted range takes the entries here at once and is kept for the older tables.
//!
//! A write finds its entry by the hash of the key (`index`), and takes its place if it has one: most writes are of keys
//! that were written lately. Only new keys have to be put in order (`order`), and that is done for many at once. So a write
//! waits for two lines of memory (`entries`) where a search in a tree waits for a dozen.
//!
//! Values are shared with whoever wrote them, unless they fit in the entry; keys are copied.

mod entries;
mod index;
mod key;
mod order;
mod ranges;
mod value;

#[cfg(test)]
mod tests;

use std::hint::black_box;
use std::ops::Range;

use bytes::Bytes;
use foldhash::fast::FixedState;

pub(crate) use self::ranges::Ranges;

use self::entries::{Entries, Entry};
use self::index::Index;
use self::key::{Key, Sought};
use self::order::{Order, PLACE_BYTES};
use self::value::Value;
use crate::heap::block_bytes;
use crate::{Batch, Family, PageLimit, Write};

/// What an entry costs besides its key and value: its line, its places in the order and in an index half full.
const ENTRY_OVERHEAD_BYTES: usize = size_of::<Entry>() + PLACE_BYTES + 8;

/// Entries that are looked at before the first of them is needed, where all are walked: as many as the processor's nearest
/// cache holds with what they point to.
const ENTRIES_AHEAD: usize = 64;

/// Entries that are asked who shares their values, about: enough to know it to a tenth.
const ENTRIES_ASKED: usize = 256;

/// What is known of a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Found {
    /// Its value, or that it is deleted.
    Known(Option<Bytes>),
    /// Nothing: older tables are to be asked.
    Unknown,
}

/// See the module's documentation.
#[derive(Clone, Debug)]
pub(crate) struct Memtable {
    families: [FamilyTable; Family::ALL.len()],
    bytes: usize,
    /// Of which values, which others may hold as well.
    shared_bytes: usize,
    /// Of [`Self::bytes`], those of deleted ranges.
    erased_bytes: usize,
    /// Of [`Self::bytes`], those of stale entries.
    stale_bytes: usize,
}

#[derive(Clone, Debug)]
struct FamilyTable {
    hashes: FixedState,
    entries: Entries,
    index: Index,
    order: Order,
    erased: Ranges,
}

impl FamilyTable {
    fn new(hashes: FixedState) -> Self {
        let (entries, index) = (Entries::default(), Index::default());
        Self { hashes, entries, index, order: Order::default(), erased: Ranges::default() }
    }

    fn find(&self, key: &Sought<'_>) -> Option<u32> {
        self.index
            .find(key.hash(&self.hashes), |position| self.entries.get(position).key.parts() == *key)
    }

    /// Adds a key that is not there. Answers what it takes.
    fn add(&mut self, key: &Sought<'_>, value: Value) -> usize {
        let entry = Entry { key: Key::new(key), value };
        let bytes = key_bytes(&entry.key);
        let position = self.entries.add(entry);
        let (entries, hashes) = (&self.entries, &self.hashes);
        let hash_of = |at| entries.get(at).key.parts().hash(hashes);
        self.index.add(key.hash(hashes), position, hash_of);
        self.order.add(key.prefix(), position, entries);
        bytes
    }

    /// Takes the entries of a range out. Answers with each whether it was stale.
    fn remove(&mut self, from: &[u8], to: &[u8]) -> impl Iterator<Item = (Entry, bool)> {
        let range = (&Sought::new(from), &Sought::new(to));
        let gone = self.order.remove(range, &self.entries);
        gone.into_iter().map(|position| {
            let (entries, hashes) = (&self.entries, &self.hashes);
            let hash_of = |at| entries.get(at).key.parts().hash(hashes);
            self.index.remove(hash_of(position), position, hash_of);
            self.entries.remove(position)
        })
    }
}

impl Memtable {
    /// An empty one, whose hashes are seeded with this.
    pub(crate) fn new(hash_seed: u64) -> Self {
        let families = Family::ALL.map(|_| FamilyTable::new(FixedState::with_seed(hash_seed)));
        Self { families, bytes: 0, shared_bytes: 0, erased_bytes: 0, stale_bytes: 0 }
    }

    /// What is known of a key here.
    pub(crate) fn get(&self, family: Family, key: &[u8]) -> Found {
        let table = self.table(family);
        match table.find(&Sought::new(key)) {
            Some(position) => Found::Known(table.entries.get(position).value.to_shared()),
            None if table.erased.covers(key) => Found::Known(None),
            None => Found::Unknown,
        }
    }

    /// Looks at what these batches will touch, one kind of memory after the other: the processor then waits for all at
    /// once, where [`Self::apply`] would wait for one after the other.
    pub(crate) fn warm(&self, batches: &[Batch]) {
        let find = |write: &Write| {
            let (Write::Put { family, key, .. } | Write::Delete { family, key }) = write else {
                return None;
            };
            let table = self.table(*family);
            let position = table.index.guess(Sought::new(key).hash(&table.hashes))?;
            Some(&table.entries.get(position).key)
        };
        let keys: Vec<_> = batches.iter().flatten().filter_map(find).collect();
        black_box(keys.iter().fold(0, |all, key| all ^ key.prefix()));
        black_box(keys.iter().fold(0, |all, key| all ^ key.end()));
    }

    /// Does what a write says.
    pub(crate) fn apply(&mut self, write: &Write) {
        match write {
            Write::Put { family, key, value } => drop(self.set(*family, key, Value::new(value))),
            Write::Delete { family, key } => drop(self.set(*family, key, Value::NONE)),
            Write::DeleteRange { family, from, to } => self.erase(*family, (from, to)),
        }
    }

    /// Does what a write says, and leaves in it the value that it has replaced, if any: to be freed by whoever freed the
    /// write anyway, and most likely made both.
    pub(crate) fn exchange(&mut self, write: &mut Write) {
        let Write::Put { family, key, value } = write else { return self.apply(write) };
        let new = Value::take(value);
        if let Some(Value::Long(old)) = self.set(*family, key, new) {
            *value = old;
        }
    }

    /// Gives a key this value. Answers what it had here.
    fn set(&mut self, family: Family, key: &Bytes, value: Value) -> Option<Value> {
        let new = value.block_bytes();
        self.shared_bytes += new;
        self.bytes += new;
        let table = &mut self.families[family.index()];
        let key = Sought::new(key);
        let Some(position) = table.find(&key) else {
            self.bytes += table.add(&key, value);
            return None;
        };
        let (old, was_stale) = table.entries.replace(position, value);
        let gone = old.block_bytes();
        if was_stale {
            self.stale_bytes -= key_bytes(&table.entries.get(position).key) + gone;
        }
        self.shared_bytes -= gone;
        self.bytes -= gone;
        Some(old)
    }

    fn erase(&mut self, family: Family, (from, to): (&Bytes, &Bytes)) {
        if from >= to {
            return;
        }
        let table = &mut self.families[family.index()];
        for (entry, was_stale) in table.remove(from, to) {
            let (key_bytes, bytes) = (key_bytes(&entry.key), entry.value.block_bytes());
            self.bytes -= key_bytes + bytes;
            self.shared_bytes -= bytes;
            self.stale_bytes -= if was_stale { key_bytes + bytes } else { 0 };
        }
        table.erased.add(Bytes::copy_from_slice(from), Bytes::copy_from_slice(to));
        let bytes = size_of::<Entry>() + block_bytes(from.len()) + block_bytes(to.len());
        self.bytes += bytes;
        self.erased_bytes += bytes;
    }

    /// From now on whatever is here is *stale*, each entry until something is said of its key again.
    pub(crate) fn mark(&mut self) {
        self.families.iter_mut().for_each(|table| table.entries.mark());
        self.stale_bytes = self.bytes - self.erased_bytes;
    }

    /// How much of [`Self::bytes`] is stale.
    pub(crate) fn stale_bytes(&self) -> usize {
        self.stale_bytes
    }

    /// The next stale entries of one family, as many as it takes to make this many bytes; `None` when there are no more.
    pub(crate) fn stale(&self, from: Cursor, bytes_max: usize) -> Option<Stale> {
        let (family, first) = Family::ALL.into_iter().skip(from.family).find_map(|family| {
            let start = if family.index() == from.family { from.position } else { 0 };
            Some((family, self.table(family).entries.next_stale(start)?))
        })?;
        let entries = &self.table(family).entries;
        let (mut batch, mut positions, mut bytes) = (Batch::new(), Vec::new(), 0);
        let mut next = Some(first);
        while let Some(position) = next.filter(|_| bytes < bytes_max) {
            let Entry { key, value } = entries.get(position);
            bytes += key_bytes(key) + value.len();
            let key = key.to_bytes();
            batch.push(match value.to_shared() {
                Some(value) => Write::Put { family, key, value },
                None => Write::Delete { family, key },
            });
            positions.push(position);
            next = entries.next_stale(position + 1);
        }
        let cursor = Cursor { family: family.index(), position: next.unwrap_or(u32::MAX) };
        Some(Stale { family, positions, batch, next: cursor })
    }

    /// These entries are not stale any more.
    pub(crate) fn refresh(&mut self, stale: &Stale) {
        let table = &mut self.families[stale.family.index()];
        for &position in &stale.positions {
            if table.entries.refresh(position) {
                let Entry { key, value } = table.entries.get(position);
                self.stale_bytes -= key_bytes(key) + value.block_bytes();
            }
        }
    }

    /// Whether ranges were deleted.
    pub(crate) fn has_erased(&self) -> bool {
        self.families.iter().any(|table| !table.erased.is_empty())
    }

    /// All entries of a family, deletions included, in the order of keys. They lie anywhere in memory, so many are looked at
    /// before the first is answered: the processor waits for all at once.
    pub(crate) fn entries(&self, family: Family) -> impl Iterator<Item = (Bytes, Option<&[u8]>)> {
        let table = self.table(family);
        let mut all = table.order.all(&table.entries);
        let ahead = std::iter::from_fn(move || {
            let some: Vec<_> = all.by_ref().take(ENTRIES_AHEAD).collect();
            black_box(some.iter().fold(0, |all, entry| all ^ entry.key.prefix()));
            black_box(
                some.iter().fold(0, |all, entry| all ^ entry.key.end() ^ entry.value.start()),
            );
            (!some.is_empty()).then_some(some)
        });
        ahead.flatten().map(|entry| (entry.key.to_bytes(), entry.value.bytes()))
    }

    /// The ranges of a family that were deleted, in order and apart from each other.
    pub(crate) fn erased(&self, family: Family) -> impl Iterator<Item = (&Bytes, &Bytes)> {
        self.table(family).erased.iter()
    }

    /// How many entries a family has, deletions included.
    pub(crate) fn len(&self, family: Family) -> usize {
        self.table(family).entries.len()
    }

    /// Whether nothing was written.
    pub(crate) fn is_empty(&self) -> bool {
        self.families.iter().all(|table| table.entries.len() == 0 && table.erased.is_empty())
    }

    /// What it takes in memory, roughly.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// How much of [`Self::bytes`] is values, which whoever wrote them may hold as well.
    pub(crate) fn shared_bytes(&self) -> usize {
        self.shared_bytes
    }

    /// How much of [`Self::bytes`] nobody else holds now, roughly: a few entries are asked who shares their values.
    pub(crate) fn alone_bytes(&self) -> usize {
        let given: usize = self.families.iter().map(|table| table.entries.given()).sum();
        let every = (given / ENTRIES_ASKED).max(1);
        let asked = self.families.iter().flat_map(|table| table.entries.every(every));
        let (shareable, shared) = asked
            .filter_map(|entry| entry.value.is_shared())
            .fold((0, 0), |(shareable, shared), is_shared| {
                (shareable + 1, shared + usize::from(is_shared))
            });
        self.bytes - self.shared_bytes / shareable.max(1) * shared
    }

    fn table(&self, family: Family) -> &FamilyTable {
        &self.families[family.index()]
    }

    /// The beginning of a range: what a page of `limit` can need of it, and perhaps not the whole.
    pub(crate) fn slice(&self, family: Family, range: &Range<Bytes>, limit: PageLimit) -> Slice {
        let table = self.table(family);
        let mut slice = Slice { until: range.end.clone(), ..Slice::default() };
        let deletions_max = limit.entries_max.max(DELETIONS_PER_SLICE);
        // One more than the page takes, so that it is known whether there is more; and the one that is not taken.
        let at_most = limit.entries_max.saturating_add(deletions_max).saturating_add(3);
        let (mut values, mut deletions, mut bytes) = (0_usize, 0_usize, 0);
        let bounds = (&Sought::new(&range.start), &Sought::new(&range.end));
        for Entry { key, value } in table.order.within(bounds, at_most, &table.entries) {
            if values > limit.entries_max || bytes > limit.bytes_max || deletions > deletions_max {
                slice.until = key.to_bytes();
                break;
            }
            if value.bytes().is_none() {
                deletions += 1;
            } else {
                values += 1;
                bytes = bytes.saturating_add(key.len() + value.len());
            }
            slice.entries.push((key.to_bytes(), value.to_shared()));
        }
        slice.erased = table.erased.within(&range.start, &slice.until);
        slice
    }
}

/// Deletions that a slice looks at in a row before it ends early.
const DELETIONS_PER_SLICE: usize = 1 << 10;

/// The beginning of a range in one memory table.
#[derive(Clone, Debug, Default)]
pub(crate) struct Slice {
    /// In order; `None` is a deletion.
    pub(crate) entries: Vec<(Bytes, Option<Bytes>)>,
    /// What of the range is deleted in older tables.
    pub(crate) erased: Ranges,
    /// The slice says all that is known up to this key, exclusive.
    pub(crate) until: Bytes,
}

/// Where a search for stale entries goes on.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Cursor {
    family: usize,
    position: u32,
}

/// Some stale entries of a family, as what would write them again.
#[derive(Clone, Debug)]
pub(crate) struct Stale {
    family: Family,
    positions: Vec<u32>,
    pub(crate) batch: Batch,
    pub(crate) next: Cursor,
}

/// An entry with this key and no value.
fn key_bytes(key: &Key) -> usize {
    ENTRY_OVERHEAD_BYTES + key.block_bytes()
}
