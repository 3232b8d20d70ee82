//! A table against a model, and what it promises beside.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;

use crate::heap::SHARED_BYTES;
use Family::{Data, Meta};

const WHOLE: PageLimit = PageLimit { entries_max: usize::MAX, bytes_max: usize::MAX };

fn put(key: &'static str, value: &'static str) -> Write {
    Write::Put { family: Data, key: key.into(), value: value.into() }
}

fn erase(from: &'static str, to: &'static str) -> Write {
    Write::DeleteRange { family: Data, from: from.into(), to: to.into() }
}

fn table(writes: &[Write]) -> Memtable {
    let mut table = Memtable::new(0);
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
    let values = block_bytes(LONG.len()) + SHARED_BYTES;
    assert_eq!(table.bytes(), 3 * ENTRY_OVERHEAD_BYTES + values, "one is not in place");
    table.apply(&put("a key of more than 23 bytes", "1"));
    assert_eq!(table.bytes(), 4 * ENTRY_OVERHEAD_BYTES + 16 + values, "the key's end");
    table.apply(&erase("a", "z"));
    assert_eq!(table.bytes(), 16 + 16 + size_of::<Entry>(), "the range itself");
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
fn short_values_do_not_keep_their_buffer_alive_and_others_are_not_copied() {
    let frame = Bytes::from(vec![7; 4_000]);
    let mut table = Memtable::new(0);
    let (key, value) = (frame.slice(0..10), frame.slice(10..20));
    table.apply(&Write::Put { family: Data, key, value });
    assert!(frame.is_unique());
    let large = frame.slice(10..2_000);
    table.apply(&Write::Put { family: Data, key: "k".into(), value: large.clone() });
    let Found::Known(Some(held)) = table.get(Data, b"k") else { panic!("it was just put") };
    assert_eq!(held.as_ptr(), large.as_ptr());
    assert_eq!(table.shared_bytes(), 2_048 + SHARED_BYTES);
    table.apply(&put("k", "small"));
    assert_eq!(table.shared_bytes(), 0);
}

#[derive(Clone, Debug)]
enum Step {
    Write(Write),
    Exchange(Bytes, Bytes),
    /// A view that later writes do not change.
    Snapshot,
    Mark,
    /// The next stale entries are not stale any more.
    Refresh(usize),
    Slice(Vec<u8>, Vec<u8>, usize),
}

/// Few keys, so that they are rewritten, and alike at the beginning, so that their ends decide.
fn key() -> impl Strategy<Value = Vec<u8>> {
    let rest = prop::collection::vec(prop::sample::select(&[0_u8, 1, 0xff]), 0..4);
    let start = prop::sample::select(&[0_usize, 1, 14, 16, 22, 30]);
    (start, rest).prop_map(|(start, rest)| [vec![7; start], rest].concat())
}

fn value() -> impl Strategy<Value = Bytes> {
    let bytes = prop::sample::select(&[0_usize, 5, 22, 23, 300, 1_500]);
    (any::<u8>(), bytes).prop_map(|(byte, bytes)| Bytes::from(vec![byte; bytes]))
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (key(), value()).prop_map(|(key, value)| {
            Step::Write(Write::Put { family: Data, key: key.into(), value })
        }),
        6 => (key(), value()).prop_map(|(key, value)| Step::Exchange(key.into(), value)),
        3 => key().prop_map(|key| Step::Write(Write::Delete { family: Data, key: key.into() })),
        1 => (key(), key()).prop_map(|(from, to)| {
            Step::Write(Write::DeleteRange { family: Data, from: from.into(), to: to.into() })
        }),
        1 => Just(Step::Snapshot),
        1 => Just(Step::Mark),
        1 => (1..5_000_usize).prop_map(Step::Refresh),
        2 => (key(), key(), 0..6_usize).prop_map(|(from, to, max)| Step::Slice(from, to, max)),
    ]
}

/// What a table must say.
#[derive(Clone, Default)]
struct Model {
    entries: BTreeMap<Bytes, Option<Bytes>>,
    /// What deleted ranges take.
    erased_bytes: usize,
    stale: BTreeSet<Bytes>,
}

fn entry_bytes(key: &Bytes, value: Option<&Bytes>) -> usize {
    key_bytes(&Key::new(&Sought::new(key)))
        + value.map_or(0, |value| Value::new(value).block_bytes())
}

impl Model {
    fn apply(&mut self, write: &Write) {
        match write {
            Write::Put { key, .. } | Write::Delete { key, .. } => drop(self.stale.remove(key)),
            Write::DeleteRange { from, to, .. } => {
                self.stale.retain(|key| key < from || key >= to);
            }
        }
        match write.clone() {
            Write::Put { key, value, .. } => drop(self.entries.insert(key, Some(value))),
            Write::Delete { key, .. } => drop(self.entries.insert(key, None)),
            Write::DeleteRange { from, to, .. } if from < to => {
                self.entries.retain(|key, _| *key < from || *key >= to);
                self.erased_bytes += size_of::<Entry>();
                self.erased_bytes += block_bytes(from.len()) + block_bytes(to.len());
            }
            Write::DeleteRange { .. } => {}
        }
    }

    /// All that it takes, and how much of that is shared.
    fn bytes(&self) -> (usize, usize) {
        let (mut all, mut shared) = (self.erased_bytes, 0);
        for (key, value) in &self.entries {
            all += entry_bytes(key, value.as_ref());
            shared += value.as_ref().map_or(0, |value| Value::new(value).block_bytes());
        }
        (all, shared)
    }

    fn check_stale(&self, table: &Memtable) {
        let mut stale = BTreeSet::new();
        let mut from = Cursor::default();
        while let Some(page) = table.stale(from, 2_000) {
            assert!(!page.batch.is_empty(), "a page that does not get on");
            for write in page.batch {
                let (key, value) = match write {
                    Write::Put { family: Data, key, value } => (key, Some(value)),
                    Write::Delete { family: Data, key } => (key, None),
                    other => panic!("{other:?}"),
                };
                assert_eq!(self.entries.get(&key), Some(&value));
                assert!(stale.insert(key), "it comes twice");
            }
            from = page.next;
        }
        assert_eq!(stale, self.stale);
        let bytes = stale.iter().map(|key| entry_bytes(key, self.entries[key].as_ref())).sum();
        assert_eq!(table.stale_bytes(), bytes);
    }

    fn check(&self, table: &Memtable) {
        let all: Vec<_> = table.entries(Data).collect();
        let expected: Vec<_> =
            self.entries.iter().map(|(key, value)| (key.clone(), value.as_deref())).collect();
        assert_eq!(all, expected);
        assert_eq!(table.len(Data), self.entries.len());
        assert_eq!((table.bytes(), table.shared_bytes()), self.bytes());
        self.check_stale(table);
        for (key, value) in &self.entries {
            assert_eq!(table.get(Data, key), Found::Known(value.clone()));
        }
        let top = Bytes::from(vec![0xff; 40]);
        let slice = table.slice(Data, &(Bytes::new()..top), WHOLE);
        assert!(slice.entries.iter().map(|(key, value)| (key, value)).eq(&self.entries));
    }

    fn check_slice(&self, table: &Memtable, range: &Range<Bytes>, entries_max: usize) {
        let slice = table.slice(Data, range, PageLimit { entries_max, ..WHOLE });
        assert!(slice.until <= range.end || range.is_empty());
        let known = |key: &Bytes| *key >= range.start && *key < slice.until;
        let expected = self.entries.iter().filter(|(key, _)| known(key));
        assert!(slice.entries.iter().map(|(key, value)| (key, value)).eq(expected));
        let values = slice.entries.iter().filter(|(_, value)| value.is_some()).count();
        assert!(values > entries_max || slice.until == range.end, "it ended too early");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_table_says_what_was_written(steps in prop::collection::vec(step(), 1..120)) {
        let (mut table, mut model) = (Memtable::new(0), Model::default());
        let mut snapshots = Vec::new();
        for step in steps {
            match step {
                Step::Write(write) => {
                    table.warm(&[vec![write.clone()]]);
                    table.apply(&write);
                    model.apply(&write);
                }
                Step::Exchange(key, value) => {
                    let mut write = Write::Put { family: Data, key: key.clone(), value };
                    let old = model.entries.get(&key).cloned().flatten();
                    model.apply(&write);
                    table.exchange(&mut write);
                    let Write::Put { value: left, .. } = write else { unreachable!() };
                    let is_long = |value: &Bytes| Value::new(value).is_shared().is_some();
                    match old {
                        Some(old) if is_long(&old) => assert_eq!(left, old),
                        // A value that was long has gone into the table, another was copied.
                        _ => assert!(!is_long(&left)),
                    }
                }
                Step::Snapshot => snapshots.push((table.clone(), model.clone())),
                Step::Mark => {
                    table.mark();
                    model.stale = model.entries.keys().cloned().collect();
                }
                Step::Refresh(bytes_max) => {
                    let Some(page) = table.stale(Cursor::default(), bytes_max) else { continue };
                    table.refresh(&page);
                    for write in &page.batch {
                        let (Write::Put { key, .. } | Write::Delete { key, .. }) = write else {
                            unreachable!()
                        };
                        model.stale.remove(key);
                    }
                }
                Step::Slice(from, to, max) => {
                    let range = Bytes::from(from)..Bytes::from(to);
                    model.check_slice(&table, &range, max);
                }
            }
        }
        snapshots.push((table, model));
        for (table, model) in snapshots {
            model.check(&table);
        }
    }
}
