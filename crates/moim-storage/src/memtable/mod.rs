//! The memory table: what has been written since the last flush, in the order of keys, ahead of the tables.
//!
//! Invariants: what it says of a key is newer than what any older table says; a deletion is kept as such, because an
//! older table may hold the key; a deleted range takes the entries here at once and is kept for the older tables.
//!
//! Large values are shared with whoever wrote them, small ones and keys are copied: a small value would otherwise keep
//! the large network buffer alive that it arrived in.

mod key;
mod ranges;
mod value;

use std::collections::BTreeMap;
use std::ops::{Bound, Range};

use bytes::Bytes;

pub(crate) use self::ranges::Ranges;

use self::key::{Key, Prefixed, Sought};
use self::value::{Value, own};
use crate::heap::block_bytes;
use crate::{Family, PageLimit, Write};

/// What an entry costs besides its key and value: its place in a tree that is two thirds full.
const ENTRY_OVERHEAD_BYTES: usize = 2 * size_of::<(Key, Value)>();

/// What is known of a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Found {
    /// Its value, or that it is deleted.
    Known(Option<Bytes>),
    /// Nothing: older tables are to be asked.
    Unknown,
}

/// See the module's documentation.
#[derive(Clone, Debug, Default)]
pub(crate) struct Memtable {
    families: [FamilyTable; Family::ALL.len()],
    bytes: usize,
    /// Of which values that others may hold as well.
    shared_bytes: usize,
}

#[derive(Clone, Debug, Default)]
struct FamilyTable {
    entries: BTreeMap<Key, Value>,
    erased: Ranges,
}

impl Memtable {
    /// What is known of a key here.
    pub(crate) fn get(&self, family: Family, key: &[u8]) -> Found {
        let table = self.table(family);
        match table.entries.get::<dyn Prefixed>(&Sought::new(key)) {
            Some(value) => Found::Known(value.to_shared()),
            None if table.erased.covers(key) => Found::Known(None),
            None => Found::Unknown,
        }
    }

    /// Does what a write says.
    pub(crate) fn apply(&mut self, write: &Write) {
        match write {
            Write::Put { family, key, value } => self.set(*family, key, Some(value)),
            Write::Delete { family, key } => self.set(*family, key, None),
            Write::DeleteRange { family, from, to } => self.erase(*family, (from, to)),
        }
    }

    fn set(&mut self, family: Family, key: &Bytes, value: Option<&Bytes>) {
        let value = Value::new(value);
        let new = value.block_bytes();
        let mut old = (0, 0);
        let entries = &mut self.families[family.index()].entries;
        if let Some(held) = entries.get_mut::<dyn Prefixed>(&Sought::new(key)) {
            old = held.block_bytes();
            *held = value;
        } else {
            entries.insert(Key::new(own(key)), value);
            self.bytes += key_bytes(key);
        }
        self.bytes = self.bytes + new.0 - old.0;
        self.shared_bytes = self.shared_bytes + new.1 - old.1;
    }

    fn erase(&mut self, family: Family, (from, to): (&Bytes, &Bytes)) {
        if from >= to {
            return;
        }
        let table = &mut self.families[family.index()];
        let gone: Vec<Key> = within(&table.entries, from, to).map(|(key, _)| key.clone()).collect();
        for key in gone {
            let (bytes, shared_bytes) =
                table.entries.remove(&key).map_or((0, 0), |value| value.block_bytes());
            self.bytes -= key_bytes(&key.bytes) + bytes;
            self.shared_bytes -= shared_bytes;
        }
        table.erased.add(own(from), own(to));
        self.bytes += key_bytes(from) + block_bytes(to.len());
    }

    /// All entries of a family, deletions included.
    pub(crate) fn entries(&self, family: Family) -> impl Iterator<Item = (&Bytes, Option<&[u8]>)> {
        self.table(family).entries.iter().map(|(key, value)| (&key.bytes, value.bytes()))
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
        self.families.iter().all(|table| table.entries.is_empty() && table.erased.is_empty())
    }

    /// What it takes in memory, roughly.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// How much of [`Self::bytes`] is large values, which whoever wrote them may hold as well.
    pub(crate) fn shared_bytes(&self) -> usize {
        self.shared_bytes
    }

    fn table(&self, family: Family) -> &FamilyTable {
        &self.families[family.index()]
    }

    /// The beginning of a range: what a page of `limit` can need of it, and perhaps not the whole.
    pub(crate) fn slice(&self, family: Family, range: &Range<Bytes>, limit: PageLimit) -> Slice {
        let table = self.table(family);
        let mut slice = Slice { until: range.end.clone(), ..Slice::default() };
        let deletions_max = limit.entries_max.max(DELETIONS_PER_SLICE);
        let (mut values, mut deletions, mut bytes) = (0_usize, 0_usize, 0);
        for (key, value) in within(&table.entries, &range.start, &range.end) {
            let key = &key.bytes;
            // One more than the page takes, so that it is known whether there is more.
            if values > limit.entries_max || bytes > limit.bytes_max || deletions > deletions_max {
                slice.until = key.clone();
                break;
            }
            if value.bytes().is_none() {
                deletions += 1;
            } else {
                values += 1;
                bytes = bytes.saturating_add(key.len() + value.len());
            }
            slice.entries.push((key.clone(), value.to_shared()));
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

/// The entries of a range that is not empty.
fn within<'table>(
    entries: &'table BTreeMap<Key, Value>,
    from: &[u8],
    to: &[u8],
) -> impl Iterator<Item = (&'table Key, &'table Value)> {
    let (from, to) = (Sought::new(from), Sought::new(to));
    let bounds: (Bound<&dyn Prefixed>, Bound<&dyn Prefixed>) =
        (Bound::Included(&from), Bound::Excluded(&to));
    entries.range::<dyn Prefixed, _>(bounds)
}

/// An entry with this key and no value.
fn key_bytes(key: &[u8]) -> usize {
    ENTRY_OVERHEAD_BYTES + block_bytes(key.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    use Family::{Data, Meta};

    fn put(key: &'static str, value: &'static str) -> Write {
        Write::Put { family: Data, key: key.into(), value: value.into() }
    }

    fn erase(from: &'static str, to: &'static str) -> Write {
        Write::DeleteRange { family: Data, from: from.into(), to: to.into() }
    }

    fn table(writes: &[Write]) -> Memtable {
        let mut table = Memtable::default();
        for write in writes {
            table.apply(write);
        }
        table
    }

    #[test]
    fn a_deletion_is_known_and_an_absent_key_is_not() {
        let deleted = Write::Delete { family: Data, key: "b".into() };
        let table = table(&[put("a", "1"), deleted, erase("m", "p"), put("n", "2")]);
        assert_eq!(table.get(Data, b"a"), Found::Known(Some("1".into())));
        assert_eq!(table.get(Data, b"b"), Found::Known(None));
        assert_eq!(table.get(Data, b"c"), Found::Unknown);
        assert_eq!(table.get(Data, b"m"), Found::Known(None));
        assert_eq!(table.get(Data, b"n"), Found::Known(Some("2".into())));
        assert_eq!(table.get(Data, b"p"), Found::Unknown);
        assert_eq!(table.get(Meta, b"a"), Found::Unknown);
    }

    #[test]
    fn bytes_are_given_back_with_what_took_them() {
        const LONG: &str = "a value that does not fit beside its length";
        let mut table = table(&[put("a", LONG), put("a", "1"), put("b", "2"), put("c", LONG)]);
        let values = block_bytes(LONG.len());
        assert_eq!(table.bytes(), 3 * (16 + ENTRY_OVERHEAD_BYTES) + values, "one is not in place");
        table.apply(&erase("a", "z"));
        assert_eq!(table.bytes(), 16 + 16 + ENTRY_OVERHEAD_BYTES, "the range itself");
        assert!(!table.is_empty());
    }

    #[test]
    fn a_slice_ends_where_the_page_must_and_says_so() {
        let table = table(&[put("a", "1"), put("b", "1"), put("c", "1"), put("d", "1")]);
        let range = Bytes::from("a")..Bytes::from("z");
        let slice = table.slice(Data, &range, PageLimit { entries_max: 2, bytes_max: usize::MAX });
        assert_eq!((slice.entries.len(), &slice.until[..]), (3, &b"d"[..]));
        let all = table.slice(Data, &range, PageLimit { entries_max: 9, bytes_max: usize::MAX });
        assert_eq!((all.entries.len(), &all.until[..]), (4, &b"z"[..]));
    }

    #[test]
    fn small_values_do_not_keep_their_buffer_alive_and_large_ones_are_not_copied() {
        let frame = Bytes::from(vec![7; 4_000]);
        let mut table = Memtable::default();
        let (key, value) = (frame.slice(0..10), frame.slice(10..20));
        table.apply(&Write::Put { family: Data, key, value });
        assert!(frame.is_unique());
        let large = frame.slice(10..2_000);
        table.apply(&Write::Put { family: Data, key: "k".into(), value: large.clone() });
        let Found::Known(Some(held)) = table.get(Data, b"k") else { panic!("it was just put") };
        assert_eq!(held.as_ptr(), large.as_ptr());
        assert_eq!(table.shared_bytes(), 2_048);
        table.apply(&put("k", "small"));
        assert_eq!(table.shared_bytes(), 0);
    }
}
