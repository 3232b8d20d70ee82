//! What the engine has that keeps a log of its own above RocksDB: taking over a directory of RocksDB alone, refusing one
//! without its log, checkpoints, a lock, and what reaches tables at all.

#![cfg(feature = "rocksdb")]
#![expect(clippy::unwrap_used, reason = "a step that fails fails its test")]

mod disk;

use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use moim_storage::lsm::{DiskLsm, LsmOptions};
use moim_storage::rocks::RocksOptions;
use moim_storage::{
    Batch, Durability, Engine, Family, PageLimit, Reclaim, ReclaimRule, StorageError, Write,
};

use disk::{files, open, open_lsm, put};

use Family::{Data, Meta, Trees};

const WHOLE: PageLimit = PageLimit { entries_max: usize::MAX, bytes_max: usize::MAX };

fn get(engine: &dyn Engine, family: Family, key: &str) -> Option<String> {
    let value = engine.get(family, key.as_bytes()).unwrap();
    value.map(|value| String::from_utf8(value.to_vec()).unwrap())
}

#[test]
fn a_directory_of_rocksdb_is_taken_over_and_not_given_back() {
    let home = tempfile::tempdir().unwrap();
    let rocks = open(home.path()).unwrap();
    rocks.apply(&[vec![put(Data, "in a table", "1")]], Durability::Synced).unwrap();
    rocks.compact().unwrap();
    rocks.apply(&[vec![put(Data, "in its log", "2")]], Durability::Synced).unwrap();
    drop(rocks);

    let engine = open_lsm(home.path()).unwrap();
    engine.apply(&[vec![put(Data, "in ours", "3")]], Durability::Synced).unwrap();
    drop(engine);
    let refusal = open(home.path()).err().unwrap();
    assert!(
        matches!(&refusal, StorageError::Io(why) if why.contains("lsm") && why.contains("commit-log")),
        "{refusal}"
    );

    let engine = open_lsm(home.path()).unwrap();
    for (key, value) in [("in a table", "1"), ("in its log", "2"), ("in ours", "3")] {
        assert_eq!(get(&engine, Data, key).unwrap(), value);
    }
    let page = engine.scan(Data, b"in"..b"io", WHOLE).unwrap();
    assert_eq!(page.entries.len(), 3);
}

#[test]
fn tables_without_their_log_are_damaged() {
    for lost in ["commit-log", "commit-log/control", "commit-log/segment-000001"] {
        let home = tempfile::tempdir().unwrap();
        let engine = open_lsm(home.path()).unwrap();
        engine.apply(&[vec![put(Data, "k", "v")]], Durability::Synced).unwrap();
        drop(engine);
        let lost = home.path().join(lost);
        if lost.is_dir() {
            fs::remove_dir_all(lost).unwrap();
        } else {
            fs::remove_file(lost).unwrap();
        }
        let refusal = open_lsm(home.path()).err().unwrap();
        assert!(matches!(refusal, StorageError::Corruption(_)), "{refusal}");
    }
}

#[test]
fn a_directory_serves_one_engine() {
    let home = tempfile::tempdir().unwrap();
    let first = open_lsm(home.path()).unwrap();
    let second = open_lsm(home.path()).err().unwrap();
    assert!(matches!(second, StorageError::Locked(_)), "{second}");
    drop(first);
    open_lsm(home.path()).unwrap();
}

#[test]
fn a_checkpoint_is_an_engine_of_its_own() {
    let home = tempfile::tempdir().unwrap();
    let original = open_lsm(&home.path().join("original")).unwrap();
    let write = |batch: Batch| original.apply(&[batch], Durability::Written).unwrap();
    write(vec![put(Data, "in a table", "1")]);
    original.compact().unwrap();
    write(vec![put(Data, "in the log", "2"), put(Meta, "k", "3")]);
    let directory = home.path().join("copy");
    original.checkpoint(&directory).unwrap();
    write(vec![put(Data, "later", "4")]);
    original.drop_range(Data, b"in"..b"io").unwrap();

    let copy = open_lsm(&directory).unwrap();
    assert_eq!(get(&copy, Data, "in a table").unwrap(), "1");
    assert_eq!(get(&copy, Data, "in the log").unwrap(), "2");
    assert_eq!(get(&copy, Meta, "k").unwrap(), "3");
    assert_eq!(get(&copy, Data, "later"), None);
    copy.apply(&[vec![put(Data, "of the copy", "5")]], Durability::Synced).unwrap();
    assert_eq!(get(&original, Data, "of the copy"), None);
    let again = original.checkpoint(&directory).unwrap_err();
    assert!(matches!(again, StorageError::Io(_)), "{again}: the directory is not fresh");
}

/// Cells that are rewritten with every object, and what expires soon, cost their place in the log and nothing more.
#[test]
fn what_is_rewritten_or_expires_never_reaches_tables() {
    const ROUNDS: u64 = 2_000;
    let home = tempfile::tempdir().unwrap();
    let rule = |_: &[u8], value: &[u8]| match value.first() {
        Some(b'x') => Reclaim::Remove,
        _ => Reclaim::Keep,
    };
    let options = LsmOptions::for_memtable(16 << 20);
    let rocks = RocksOptions::for_memory(16 << 20);
    let engine =
        DiskLsm::open_directory(home.path(), &rocks, options, Some(Arc::new(rule))).unwrap();
    for round in 0..ROUNDS {
        let expired = [&b"x"[..], &[7; 500]].concat();
        let batch = vec![
            put(Trees, "cell", round.to_be_bytes()),
            put(Data, round.to_be_bytes(), expired),
            put(Data, "kept", round.to_be_bytes()),
        ];
        engine.apply(&[batch], Durability::Written).unwrap();
    }
    engine.flush().unwrap();
    let bytes: u64 =
        files(home.path(), "sst").iter().map(|path| fs::metadata(path).unwrap().len()).sum();
    assert!(bytes < ROUNDS * 40, "{bytes} bytes: what has expired leaves a deletion each");
    assert_eq!(engine.get(Trees, b"cell").unwrap().unwrap(), (ROUNDS - 1).to_be_bytes()[..]);
    assert_eq!(engine.get(Data, b"kept").unwrap().unwrap(), (ROUNDS - 1).to_be_bytes()[..]);
    assert_eq!(engine.scan(Data, b""..b"\xff", WHOLE).unwrap().entries.len(), 1);
}

/// Whoever sets the pace hears of what compactions go through, but for the last step of each.
#[test]
fn compactions_ask_how_long_to_rest() {
    const BYTES: u64 = 4_000 * 2_000;
    let home = tempfile::tempdir().unwrap();
    let (options, rocks) = (LsmOptions::for_memtable(1 << 20), RocksOptions::for_memory(16 << 20));
    let rule: ReclaimRule = Arc::new(|_: &[u8], _: &[u8]| Reclaim::Keep);
    let engine = DiskLsm::open_directory(home.path(), &rocks, options, Some(rule)).unwrap();
    let seen = Arc::new(AtomicU64::new(0));
    let counter = Arc::clone(&seen);
    engine.pace_compactions(Arc::new(move |bytes| {
        counter.fetch_add(bytes, Ordering::Relaxed);
        Duration::from_micros(1)
    }));
    for number in 0..4_000_u64 {
        let write = put(Data, number.to_be_bytes(), vec![7; 2_000]);
        engine.apply(&[vec![write]], Durability::Written).unwrap();
    }
    engine.compact().unwrap();
    let seen = seen.load(Ordering::Relaxed);
    assert!(seen > BYTES / 2, "{seen} bytes");
    assert_eq!(engine.scan(Data, b""..b"\xff", WHOLE).unwrap().entries.len(), 4_000);
}

/// Segments are reused: the log takes no more than its bound, however much is written.
#[test]
fn the_log_stays_within_its_bound() {
    let home = tempfile::tempdir().unwrap();
    let options = LsmOptions::for_memtable(1 << 20);
    let rocks = RocksOptions::for_memory(16 << 20);
    let engine = DiskLsm::open_directory(home.path(), &rocks, options.clone(), None).unwrap();
    for number in 0..8_000_u64 {
        let put = |key: u64| Write::Put {
            family: Data,
            key: key.to_be_bytes().to_vec().into(),
            value: vec![7; 2_000].into(),
        };
        engine.apply(&[vec![put(number)], vec![put(7)]], Durability::Written).unwrap();
    }
    let log = home.path().join("commit-log");
    let sizes = fs::read_dir(log).unwrap().map(|entry| entry.unwrap().metadata().unwrap().len());
    let bytes: u64 = sizes.sum();
    assert!(bytes <= options.log_bytes_max + (8 << 10), "{bytes} bytes");
    let figures = engine.figures();
    assert!(figures.log_bytes > 8_000 * 4_000, "{figures:?}");
    assert!(figures.memtable_bytes < 3 << 20, "{figures:?}");
    assert!(figures.compaction_written_bytes > 0 && figures.background_errors == 0, "{figures:?}");
}

/// Whoever writes much finds the next segment ready; closing while one is prepared, and opening again, loses nothing.
#[test]
#[expect(clippy::disallowed_methods, reason = "it waits for a thread of the engine's")]
fn the_next_segment_is_made_before_it_is_needed() {
    const VALUES: u64 = 5 << 10;
    let home = tempfile::tempdir().unwrap();
    let options = LsmOptions {
        memtable_bytes: 256 << 20,
        segment_bytes: 16 << 20,
        log_bytes_max: 256 << 20,
        hash_seed: 0,
        rest: Duration::MAX,
    };
    let rocks = RocksOptions::for_memory(16 << 20);
    let open = || DiskLsm::open_directory(home.path(), &rocks, options.clone(), None).unwrap();
    let put = |number: u64| vec![put(Data, number.to_be_bytes(), [7; 1_000])];
    let segments = || {
        let files = fs::read_dir(home.path().join("commit-log")).unwrap();
        let names = files.map(|file| file.unwrap().file_name());
        names.filter(|name| name.to_string_lossy().starts_with("segment")).count()
    };
    let engine = open();
    engine.apply(&[put(0)], Durability::Synced).unwrap();
    assert_eq!(segments(), 1, "most nodes need no more");
    for number in 0..VALUES {
        engine.apply(&[put(number)], Durability::Written).unwrap();
    }
    let is_there = (0..1_000).any(|_| {
        std::thread::sleep(Duration::from_millis(10));
        segments() == 2
    });
    assert!(is_there, "5 MB of 16 are used");
    drop(engine);
    let engine = open();
    for number in VALUES..5 * VALUES {
        engine.apply(&[put(number)], Durability::Written).unwrap();
    }
    drop(engine);
    let engine = open();
    for number in 0..5 * VALUES {
        assert!(engine.get(Data, &number.to_be_bytes()).unwrap().is_some(), "{number}");
    }
}

/// What rests takes little of the disk: in compressed tables, with hardly a log, and found there again.
#[test]
#[expect(clippy::disallowed_methods, reason = "it waits for a thread of the engine's")]
fn what_rests_is_compressed_and_its_log_goes() {
    const VALUES: u64 = 6_000;
    let home = tempfile::tempdir().unwrap();
    let options = LsmOptions { rest: Duration::ZERO, ..LsmOptions::for_memtable(4 << 20) };
    let rocks = RocksOptions::for_memory(16 << 20);
    let engine = DiskLsm::open_directory(home.path(), &rocks, options, None).unwrap();
    // Scattered, as keys of data are, which begin with a hash: tables then overlap, and are not just moved.
    let key = |number: u64| number.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes();
    for number in 0..VALUES {
        let write = put(Data, key(number), [7; 2_000]);
        engine.apply(&[vec![write]], Durability::Written).unwrap();
    }
    let bytes = |directory: &std::path::Path| -> u64 {
        let files = fs::read_dir(directory).unwrap().flatten();
        files.filter_map(|file| Some(file.metadata().ok()?.len())).sum()
    };
    let is_small = || {
        let all = bytes(home.path()) + bytes(&home.path().join("commit-log"));
        all < VALUES * 2_000 / 4
    };
    let becomes_small = (0..3_000).any(|_| {
        std::thread::sleep(Duration::from_millis(10));
        is_small()
    });
    assert!(becomes_small, "{} bytes of tables", bytes(home.path()));
    for number in 0..VALUES {
        assert!(engine.get(Data, &key(number)).unwrap().is_some(), "{number}");
    }
}
