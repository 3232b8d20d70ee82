//! What only the engine on disk has: checkpoints, a lock, tables with filters, and files that can go missing.

#![cfg(feature = "rocksdb")]
#![expect(clippy::unwrap_used, reason = "a step that fails fails its test")]

mod disk;

use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use moim_storage::rocks::{RocksEngine, RocksOptions};
use moim_storage::{Batch, Durability, Engine, Family, Reclaim, StorageError};

use disk::{files, open, put};

use Family::{Data, Meta};

#[test]
fn a_checkpoint_is_an_engine_of_its_own() {
    let home = tempfile::tempdir().unwrap();
    let original = open(&home.path().join("original")).unwrap();
    let write = |batch: Batch| original.apply(&[batch], Durability::Written).unwrap();
    write(vec![put(Data, "in a table", "1")]);
    original.compact().unwrap();
    write(vec![put(Data, "in the log", "2"), put(Meta, "k", "3")]);
    let directory = home.path().join("copy");
    original.checkpoint(&directory).unwrap();
    write(vec![put(Data, "later", "4")]);
    original.drop_range(Data, b"in"..b"io").unwrap();

    let copy = open(&directory).unwrap();
    let get = |family, key: &str| copy.get(family, key.as_bytes()).unwrap();
    assert_eq!(get(Data, "in a table").unwrap(), "1");
    assert_eq!(get(Data, "in the log").unwrap(), "2");
    assert_eq!(get(Meta, "k").unwrap(), "3");
    assert_eq!(get(Data, "later"), None);
    copy.apply(&[vec![put(Data, "of the copy", "5")]], Durability::Synced).unwrap();
    assert_eq!(original.get(Data, b"of the copy").unwrap(), None);

    let again = original.checkpoint(&directory).unwrap_err();
    assert!(matches!(again, StorageError::Io(_)), "{again}: the directory is not fresh");
}

#[test]
fn a_directory_serves_one_engine() {
    let home = tempfile::tempdir().unwrap();
    let first = open(home.path()).unwrap();
    let second = open(home.path()).err().unwrap();
    assert!(matches!(second, StorageError::Locked(_)), "{second}");
    drop(first);
    open(home.path()).unwrap();
}

#[test]
fn data_without_their_head_are_damaged_not_absent() {
    let home = tempfile::tempdir().unwrap();
    let engine = open(home.path()).unwrap();
    engine.apply(&[vec![put(Data, "a", "1")]], Durability::Synced).unwrap();
    drop(engine);
    fs::remove_file(home.path().join("CURRENT")).unwrap();
    let refusal = open(home.path()).err().unwrap();
    assert!(matches!(refusal, StorageError::Corruption(_)), "{refusal}");
}

#[test]
fn a_missing_table_is_damage() {
    let home = tempfile::tempdir().unwrap();
    let engine = open(home.path()).unwrap();
    engine.apply(&[vec![put(Data, "a", "1")]], Durability::Synced).unwrap();
    engine.compact().unwrap();
    drop(engine);
    let table = files(home.path(), "sst").pop().unwrap();
    fs::remove_file(table).unwrap();
    let refusal = open(home.path()).err().unwrap();
    assert!(matches!(refusal, StorageError::Corruption(_)), "{refusal}");
}

#[test]
fn figures_tell_of_tables_filters_and_space() {
    const KEYS: u64 = 5_000;
    let home = tempfile::tempdir().unwrap();
    let engine = open(home.path()).unwrap();
    let batch = |numbers: std::ops::Range<u64>| -> Batch {
        numbers.map(|number| put(Data, number.to_be_bytes(), [b'v'; 200])).collect()
    };
    // RocksDB moves the first table of all down as it is, uncompressed; the second joins it.
    engine.apply(&[batch(0..1)], Durability::Written).unwrap();
    engine.compact().unwrap();
    engine.apply(&[batch(0..KEYS)], Durability::Written).unwrap();
    let fresh = engine.figures();
    assert!(fresh.memtable_bytes > KEYS * 200 && fresh.log_bytes > KEYS * 200, "{fresh:?}");
    assert_eq!(fresh.tables, 1);

    engine.compact().unwrap();
    for number in 0..KEYS {
        // Between the keys that are there, so that the range of the table does not give the answer.
        let absent = [&number.to_be_bytes()[..], b"absent"].concat();
        assert_eq!(engine.get(Data, &absent).unwrap(), None);
        assert!(engine.get(Data, &number.to_be_bytes()).unwrap().is_some());
    }
    let settled = engine.figures();
    assert_eq!((settled.tables, settled.keys_estimate), (1, KEYS));
    assert!(settled.tables_bytes < KEYS * 100, "not compressed: {settled:?}");
    assert!(settled.filter_hits > KEYS * 9 / 10, "{settled:?}");
    assert!(settled.filter_false_hits < KEYS / 10, "{settled:?}");
    assert!(settled.cache_bytes > 0 && settled.background_errors == 0, "{settled:?}");
}

/// What expiry gives back leaves the disk, not only the eyes of readers.
#[test]
fn what_the_rule_takes_leaves_the_disk() {
    const KEYS: u64 = 4_000;
    let home = tempfile::tempdir().unwrap();
    let expired = Arc::new(AtomicBool::new(false));
    let is_expired = Arc::clone(&expired);
    // Every fourth value lives on; of the others a header stays, or nothing.
    let rule = move |key: &[u8], value: &[u8]| match (
        is_expired.load(Ordering::SeqCst),
        key[7] % 4,
        value.len() > 10,
    ) {
        (true, 1, _) => Reclaim::Remove,
        (true, 2 | 3, true) => Reclaim::Replace(b"header".to_vec()),
        _ => Reclaim::Keep,
    };
    let options = RocksOptions::for_memory(16 << 20);
    let engine = RocksEngine::open(home.path(), &options, Some(Arc::new(rule))).unwrap();
    let value = |number: u64| -> Vec<u8> {
        let mut state = number + 1;
        let mut step = || {
            state =
                state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963);
            state.to_be_bytes()
        };
        (0..128).flat_map(|_| step()).collect()
    };
    let batch = (0..KEYS).map(|number| put(Data, number.to_be_bytes(), value(number))).collect();
    engine.apply(&[batch], Durability::Written).unwrap();
    engine.compact().unwrap();
    let full = tables_bytes(home.path());
    assert!(full > KEYS * 1_000, "{full} bytes");

    expired.store(true, Ordering::SeqCst);
    engine.compact().unwrap();
    engine.reclaim(usize::MAX).unwrap();
    engine.compact().unwrap();
    let left = tables_bytes(home.path());
    assert!(left < full * 3 / 10, "{left} of {full} bytes are left; a quarter lives on");
    let figures = engine.figures();
    assert!(
        figures.files_bytes <= left && figures.live_bytes <= figures.files_bytes,
        "{figures:?}"
    );
    assert!(figures.compaction_written_bytes > full, "{figures:?}");
    let whole = engine.get(Data, &0_u64.to_be_bytes()).unwrap().unwrap();
    assert_eq!(whole, value(0));
}

fn tables_bytes(directory: &std::path::Path) -> u64 {
    files(directory, "sst").iter().map(|path| fs::metadata(path).unwrap().len()).sum()
}
