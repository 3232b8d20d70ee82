//! One suite for every engine. A check is a function over how to open one; `conformance!` runs it on each.

#![expect(clippy::unwrap_used, reason = "a step that fails fails its test")]

mod mirror;
mod subject;

use std::sync::Arc;
use std::thread;

use moim_storage::{
    Batch, Cached, Durability, Family, PageLimit, Reclaim, ReclaimRule, StorageError, Write,
};

use mirror::engine_equals_a_map;
use subject::{Open, Subject, TOP, WHOLE, delete, delete_range, put};

macro_rules! conformance {
    ($($check:ident),* $(,)?) => {
        mod memory {
            $(#[test] fn $check() { super::$check(super::Subject::memory); })*
        }
        mod lsm {
            $(#[test] fn $check() { super::$check(super::Subject::lsm); })*
        }
        #[cfg(feature = "rocksdb")]
        mod rocks {
            $(#[test] fn $check() { super::$check(super::Subject::rocks); })*
        }
        #[cfg(feature = "rocksdb")]
        mod disk_lsm {
            $(#[test] fn $check() { super::$check(super::Subject::disk_lsm); })*
        }
    };
}

conformance! {
    get_answers_what_was_put_last,
    families_are_apart,
    writes_take_effect_in_order,
    a_deleted_range_is_half_open,
    a_range_that_ends_before_it_starts_is_empty,
    nothing_to_apply_is_fine,
    pages_follow_one_another,
    a_page_has_at_least_one_entry,
    a_snapshot_does_not_change,
    batches_are_seen_whole,
    cached_reads_never_lie,
    the_rule_keeps_removes_and_replaces,
    the_rule_judges_what_is_stored_now,
    replacing_goes_on_beside_writing,
    a_panicking_rule_does_no_harm,
    a_dropped_range_is_gone_and_nothing_else,
    a_dropped_range_can_be_filled_again,
    reopening_keeps_everything,
    syncs_are_counted,
    engine_equals_a_map,
}

use Family::{Data, Hints, Meta};

fn get_answers_what_was_put_last(open: Open) {
    let it = open(None);
    assert_eq!(it.get(Data, b"a"), None);
    it.put(Data, b"a", b"1");
    it.put(Data, b"", b"the empty key");
    it.put(Data, b"b", b"");
    assert_eq!(it.get(Data, b"a").unwrap(), b"1");
    assert_eq!(it.get(Data, b"").unwrap(), b"the empty key");
    assert_eq!(it.get(Data, b"b").unwrap(), b"");
    it.put(Data, b"a", b"2");
    assert_eq!(it.get(Data, b"a").unwrap(), b"2");
    it.write(vec![delete(Data, b"a"), delete(Data, b"never there")]);
    assert_eq!(it.get(Data, b"a"), None);
    assert_eq!(it.keys(Data), [&b""[..], b"b"]);
}

fn families_are_apart(open: Open) {
    let it = open(None);
    it.write(vec![put(Data, b"k", b"d"), put(Hints, b"k", b"h"), put(Meta, b"k", b"m")]);
    it.write(vec![delete(Hints, b"k"), delete_range(Meta, b"a", b"z")]);
    assert_eq!(it.get(Data, b"k").unwrap(), b"d");
    assert_eq!(it.get(Hints, b"k"), None);
    assert_eq!(it.get(Meta, b"k"), None);
}

fn writes_take_effect_in_order(open: Open) {
    let it = open(None);
    let first = vec![
        put(Data, b"put then deleted", b"1"),
        delete(Data, b"put then deleted"),
        delete(Data, b"deleted then put"),
        put(Data, b"deleted then put", b"1"),
        put(Data, b"in the range", b"1"),
        delete_range(Data, b"in", b"io"),
        put(Data, b"in the range again", b"1"),
    ];
    let second = vec![put(Data, b"deleted then put", b"2")];
    it.engine().apply(&[first, second], Durability::Synced).unwrap();
    assert_eq!(it.keys(Data), [&b"deleted then put"[..], b"in the range again"]);
    assert_eq!(it.get(Data, b"deleted then put").unwrap(), b"2");
}

fn a_deleted_range_is_half_open(open: Open) {
    let it = open(None);
    for key in [&b"a"[..], b"b", b"b\0", b"c", b"c\0"] {
        it.put(Data, key, b"1");
    }
    it.write(vec![delete_range(Data, b"b", b"c")]);
    assert_eq!(it.keys(Data), [&b"a"[..], b"c", b"c\0"]);
}

fn a_range_that_ends_before_it_starts_is_empty(open: Open) {
    let it = open(None);
    it.put(Data, b"b", b"1");
    for (from, to) in [(&b"c"[..], &b"a"[..]), (b"b", b"b"), (b"b", b"")] {
        it.write(vec![delete_range(Data, from, to)]);
        it.engine().drop_range(Data, from..to).unwrap();
        assert_eq!(it.engine().scan(Data, from..to, WHOLE).unwrap().entries, []);
    }
    assert_eq!(it.keys(Data), [b"b"]);
}

fn nothing_to_apply_is_fine(open: Open) {
    let it = open(None);
    for durability in [Durability::Written, Durability::Synced] {
        it.engine().apply(&[], durability).unwrap();
        it.engine().apply(&[vec![], vec![]], durability).unwrap();
    }
    it.engine().reclaim(100).unwrap();
}

fn pages_follow_one_another(open: Open) {
    let it = open(None);
    for key in [&b"a"[..], b"b", b"c", b"d", b"e"] {
        it.put(Data, key, b"123");
    }
    let two = PageLimit { entries_max: 2, ..WHOLE };
    let page = it.engine().scan(Data, b"b"..b"e", two).unwrap();
    assert_eq!(page.entries, [("b".into(), "123".into()), ("c".into(), "123".into())]);
    assert!(page.more);
    let page = it.engine().scan(Data, b"c\0"..b"e", two).unwrap();
    assert_eq!(page.entries, [("d".into(), "123".into())]);
    assert!(!page.more, "the end is not part of the range");
    let eight_bytes = PageLimit { bytes_max: 8, ..WHOLE };
    let page = it.engine().scan(Data, b"a"..TOP, eight_bytes).unwrap();
    assert_eq!((page.entries.len(), page.more), (2, true));
}

fn a_page_has_at_least_one_entry(open: Open) {
    let it = open(None);
    let nothing = PageLimit { entries_max: 0, bytes_max: 0 };
    assert!(it.engine().scan(Data, b""..TOP, nothing).unwrap().entries.is_empty());
    it.put(Data, b"a", b"much longer than the limit");
    let page = it.engine().scan(Data, b""..TOP, nothing).unwrap();
    assert_eq!((page.entries.len(), page.more), (1, false));
}

fn a_snapshot_does_not_change(open: Open) {
    let it = open(None);
    it.write(vec![put(Data, b"a", b"1"), put(Data, b"b", b"1"), put(Hints, b"c", b"1")]);
    let snapshot = it.engine().snapshot();
    it.write(vec![put(Data, b"a", b"2"), delete(Data, b"b"), put(Data, b"d", b"2")]);
    it.write(vec![delete_range(Hints, b"a", b"z")]);
    it.show_all_to_rule();
    let page = snapshot.scan(Data, b""..TOP, WHOLE).unwrap();
    assert_eq!(page.entries, [("a".into(), "1".into()), ("b".into(), "1".into())]);
    assert_eq!(snapshot.scan(Hints, b""..TOP, WHOLE).unwrap().entries.len(), 1);
    assert_eq!(it.keys(Data), [b"a", b"d"]);
}

fn batches_are_seen_whole(open: Open) {
    const ROUNDS: u32 = 2_000;
    let it = open(None);
    let batch = |round: u32| -> Batch {
        let value = round.to_be_bytes().to_vec();
        let put = |key: &'static str| Write::Put {
            family: Data,
            key: key.into(),
            value: value.clone().into(),
        };
        vec![put("first"), put("second")]
    };
    it.write(batch(0));
    thread::scope(|scope| {
        scope.spawn(|| (1..=ROUNDS).for_each(|round| it.write(batch(round))));
        let mut seen = 0;
        while seen < ROUNDS {
            let page = it.engine().scan(Data, b""..TOP, WHOLE).unwrap();
            let rounds: Vec<u32> = page
                .entries
                .iter()
                .map(|(_, value)| u32::from_be_bytes(value[..].try_into().unwrap()))
                .collect();
            assert_eq!(rounds.len(), 2);
            assert_eq!(rounds[0], rounds[1], "half a batch was seen");
            assert!(rounds[0] >= seen, "time went backwards");
            seen = rounds[0];
        }
    });
}

fn cached_reads_never_lie(open: Open) {
    let mut it = open(None);
    it.put(Data, b"a", b"1");
    let fresh = it.engine().get_cached(Data, b"a").unwrap();
    assert_eq!(fresh, Cached::Known(Some("1".into())), "what was just written is in memory");
    it.show_all_to_rule();
    it.reopen();
    for (key, value) in [(&b"a"[..], Some("1".into())), (b"never there", None)] {
        match it.engine().get_cached(Data, key).unwrap() {
            Cached::NeedsDisk => {}
            Cached::Known(known) => assert_eq!(known, value),
        }
        assert_eq!(it.engine().get(Data, key).unwrap(), value);
        let again = it.engine().get_cached(Data, key).unwrap();
        assert_eq!(again, Cached::Known(value), "what was just read is in memory");
    }
}

/// Judges by the first byte: `x` goes, `r` becomes `short`, `p` panics.
fn rule() -> ReclaimRule {
    Arc::new(|_, value| match value.first() {
        Some(b'x') => Reclaim::Remove,
        Some(b'r') => Reclaim::Replace(b"short".to_vec()),
        // Without a message, which would look like a failure in the output.
        Some(b'p') => std::panic::resume_unwind(Box::new("expected")),
        _ => Reclaim::Keep,
    })
}

fn the_rule_keeps_removes_and_replaces(open: Open) {
    let mut it = open(Some(rule()));
    for family in Family::ALL {
        let batch = vec![
            put(family, b"kept", b"k"),
            put(family, b"removed", b"x"),
            put(family, b"replaced", b"r and more that is not needed"),
        ];
        it.write(batch);
    }
    it.reclaim_all();
    it.reopen();
    assert_eq!(it.get(Data, b"kept").unwrap(), b"k");
    assert_eq!(it.get(Data, b"removed"), None);
    assert_eq!(it.get(Data, b"replaced").unwrap(), b"short");
    assert_eq!(it.keys(Data), [&b"kept"[..], b"replaced"]);
    for family in [Hints, Meta] {
        assert_eq!(it.keys(family).len(), 3, "the rule is for data only");
    }
}

fn the_rule_judges_what_is_stored_now(open: Open) {
    let it = open(Some(rule()));
    it.write(vec![put(Data, b"a", b"r1"), put(Data, b"b", b"r1"), put(Data, b"c", b"r1")]);
    it.show_all_to_rule();
    it.write(vec![put(Data, b"a", b"new"), delete(Data, b"b"), put(Data, b"c", b"x")]);
    it.engine().reclaim(usize::MAX).unwrap();
    assert_eq!(it.get(Data, b"a").unwrap(), b"new");
    assert_eq!(it.get(Data, b"b"), None);
    match &it {
        Subject::Lsm { .. } => it.reclaim_all(),
        // What is in a memory table of our own is shown to the rule when it is written out.
        #[cfg(feature = "rocksdb")]
        Subject::DiskLsm { .. } => it.reclaim_all(),
        _ => {}
    }
    assert_eq!(it.get(Data, b"c"), None);
}

fn replacing_goes_on_beside_writing(open: Open) {
    const ROUNDS: u32 = 2_000;
    let it = open(Some(rule()));
    thread::scope(|scope| {
        let writer = scope.spawn(|| {
            for round in 0..ROUNDS {
                it.put(Data, b"key", b"r: to be replaced");
                let newest = format!("newest, round {round}");
                let value = newest.clone().into();
                it.write(vec![Write::Put { family: Data, key: "key".into(), value }]);
                assert_eq!(it.get(Data, b"key").unwrap(), newest.as_bytes());
            }
        });
        while !writer.is_finished() {
            it.reclaim_all();
        }
    });
}

/// The moment that the test above would have to be lucky to hit: a write between the judgement and the replacement.
/// (The memory engine judges and replaces under one lock: there is no such moment.)
#[cfg(feature = "rocksdb")]
#[test]
fn replacing_never_overwrites_a_newer_value() {
    use std::sync::Mutex;
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::sync::mpsc::channel;

    let newest = [put(Data, b"key", b"newest"), delete_range(Data, b"k", b"l")];
    for (newest, open) in newest
        .iter()
        .flat_map(|newest| [Subject::rocks as Open, Subject::disk_lsm].map(|open| (newest, open)))
    {
        let (judging, judged) = channel();
        let (writing, written) = channel();
        let written = Mutex::new(written);
        let in_pass = Arc::new(AtomicBool::new(false));
        let passing = Arc::clone(&in_pass);
        let it = open(Some(Arc::new(move |_, _| {
            if passing.load(Ordering::SeqCst) {
                judging.send(()).unwrap();
                written.lock().unwrap().recv().unwrap();
            }
            Reclaim::Replace(b"short".to_vec())
        })));
        it.put(Data, b"key", b"first");
        it.show_all_to_rule();
        in_pass.store(true, Ordering::SeqCst);
        let (subject, write) = (&it, newest.clone());
        thread::scope(|scope| {
            scope.spawn(move || {
                judged.recv().unwrap();
                subject.write(vec![write]);
                writing.send(()).unwrap();
            });
            it.engine().reclaim(usize::MAX).unwrap();
        });
        let stored = it.get(Data, b"key");
        assert_ne!(stored.as_deref(), Some(&b"short"[..]), "{newest:?} was overwritten");
    }
}

fn a_panicking_rule_does_no_harm(open: Open) {
    let it = open(Some(rule()));
    it.write(vec![put(Data, b"a", b"k"), put(Data, b"b", b"p")]);
    match &it {
        // The caller's own thread: the panic is the caller's.
        Subject::Memory(_) => {}
        #[cfg(feature = "rocksdb")]
        Subject::Rocks { .. } => {
            it.reclaim_all();
            assert_eq!(it.engine().figures().background_errors, 1);
        }
        Subject::Lsm { .. } => {
            it.reclaim_all();
            assert_eq!(it.engine().figures().background_errors, 1);
        }
        // Once in the flush and once in the compaction.
        #[cfg(feature = "rocksdb")]
        Subject::DiskLsm { .. } => {
            it.reclaim_all();
            assert_eq!(it.engine().figures().background_errors, 2);
        }
    }
    assert_eq!(it.keys(Data), [b"a", b"b"]);
}

fn a_dropped_range_is_gone_and_nothing_else(open: Open) {
    let mut it = open(None);
    for key in [&b"b"[..], b"b1", b"b\xff\xff", b"c"] {
        it.write(vec![put(Data, key, b"1"), put(Hints, key, b"1")]);
    }
    // One table, and its last key is the first that is to stay.
    it.show_all_to_rule();
    it.put(Data, b"b2", b"in the memory table");
    it.put(Data, b"a", b"1");
    it.engine().drop_range(Data, b"b"..b"c").unwrap();
    assert_eq!(it.keys(Data), [b"a", b"c"]);
    it.reopen();
    it.show_all_to_rule();
    assert_eq!(it.keys(Data), [b"a", b"c"]);
    assert_eq!(it.keys(Hints).len(), 4);
}

fn a_dropped_range_can_be_filled_again(open: Open) {
    let mut it = open(None);
    it.write(vec![put(Data, b"b1", b"old"), put(Data, b"b2", b"old")]);
    it.show_all_to_rule();
    it.engine().drop_range(Data, b"b"..b"c").unwrap();
    it.put(Data, b"b1", b"new");
    it.reopen();
    assert_eq!(it.keys(Data), [b"b1"]);
    assert_eq!(it.get(Data, b"b1").unwrap(), b"new");
}

fn reopening_keeps_everything(open: Open) {
    let mut it = open(None);
    it.put(Data, b"in a table", b"1");
    it.show_all_to_rule();
    it.put(Data, b"in the log", b"2");
    it.put(Meta, b"in the log", b"3");
    it.reopen();
    assert_eq!(it.get(Data, b"in a table").unwrap(), b"1");
    assert_eq!(it.get(Data, b"in the log").unwrap(), b"2");
    assert_eq!(it.get(Meta, b"in the log").unwrap(), b"3");
}

fn syncs_are_counted(open: Open) {
    let it = open(None);
    let syncs = || it.engine().figures().log_syncs;
    let start = syncs();
    it.put(Data, b"a", b"1");
    assert_eq!(syncs(), start, "written is not synced");
    it.engine().sync().unwrap();
    assert_eq!(syncs(), start + 1);
    let batches = [vec![put(Data, b"b", b"1")], vec![put(Data, b"c", b"1")]];
    it.engine().apply(&batches, Durability::Synced).unwrap();
    assert_eq!(syncs(), start + 2, "one sync for the whole group");
    it.engine().apply(&[], Durability::Synced).unwrap();
    assert_eq!(syncs(), start + 3, "what came before is made durable");
    let figures = it.engine().figures();
    assert!(figures.log_bytes > 0 && figures.memtable_bytes > 0);
    assert_eq!((figures.keys_estimate, figures.background_errors), (3, 0));
}

#[test]
fn memory_has_no_checkpoint_and_says_so() {
    let it = Subject::memory(None);
    let refusal = it.engine().checkpoint("anywhere".as_ref()).unwrap_err();
    assert!(matches!(&refusal, StorageError::Io(why) if why.contains("keeps nothing")));
}
