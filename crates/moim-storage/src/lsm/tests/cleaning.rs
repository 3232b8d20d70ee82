//! The log is cleaned, or the table flushed where that is better, and nothing is lost by it; what rests is written out.

use super::*;

/// Writes some keys over and over, and others once, so that the log goes round many times.
fn rewrite(engine: &Subject, rounds: u64) {
    for number in 0..rounds {
        let key = if number % 250 == 0 { 1_000 + number } else { number % 10 };
        engine.apply(&put(key, 200), Durability::Synced).unwrap();
    }
    let cell = Write::Delete { family: Family::Trees, key: "cell".into() };
    engine.apply(&[vec![cell]], Durability::Synced).unwrap();
}

fn rewritten(engine: &Subject, rounds: u64) {
    for number in 0..rounds {
        let key = if number % 250 == 0 { 1_000 + number } else { number % 10 };
        let held = engine.get(Family::Data, &key.to_be_bytes()).unwrap();
        assert_eq!(held.map(|value| value.len()), Some(200), "{key}");
    }
    assert_eq!(engine.inner.find(Family::Trees, b"cell"), Found::Known(None));
}

#[test]
fn the_log_is_cleaned_and_what_is_not_rewritten_is_in_it_again() {
    const ROUNDS: u64 = 700;
    let files = MemoryFiles::default();
    let engine = open(&files, MemoryEngine::new(None));
    rewrite(&engine, ROUNDS);
    let figures = engine.figures();
    assert!(figures.log_bytes > 2 * (64 << 10), "it went round: {figures:?}");
    assert_eq!(figures.compaction_written_bytes, 0, "{figures:?}");
    let in_use_bytes = lock(&engine.inner.writer).log.in_use_bytes();
    assert!(in_use_bytes <= 48 << 10, "{in_use_bytes}");
    rewritten(&engine, ROUNDS);
    assert!(state(engine.tables(), WHOLE).iter().all(Vec::is_empty), "nothing went to the tables");
    // As after a crash: nobody closes the log.
    let files = files.contents_clone();
    drop(engine);
    rewritten(&open(&files, MemoryEngine::new(None)), ROUNDS);
}

#[test]
fn a_thread_cleans_the_log_beside_writers() {
    const ROUNDS: u64 = 3_000;
    let files = MemoryFiles::default();
    let mut engine = open(&files, MemoryEngine::new(None));
    engine.start_flusher().unwrap();
    rewrite(&engine, ROUNDS);
    rewritten(&engine, ROUNDS);
    // Writers may have outrun it, and had the table flushed. A flush may end between these two.
    let (files, tables) = (files.contents_clone(), engine.tables().inner.contents_clone());
    drop(engine);
    rewritten(&open(&files, tables), ROUNDS);
}

/// Segments are released only when what is wanted of them is durable elsewhere, even if nobody asks for a sync.
#[test]
fn a_crash_after_cleaning_loses_nothing_that_was_durable() {
    let files = MemoryFiles::default();
    let engine = open(&files, MemoryEngine::new(None));
    engine.apply(&put(1_000, 200), Durability::Synced).unwrap();
    for number in 0..700 {
        engine.apply(&put(number % 10, 200), Durability::Written).unwrap();
        let files = files.contents_clone();
        files.crash(Fate::Lost, |_| 0);
        let left = open(&files, MemoryEngine::new(None));
        let held = left.get(Family::Data, &1_000_u64.to_be_bytes()).unwrap();
        assert!(held.is_some(), "after {number} writes");
    }
    let figures = engine.figures();
    assert!(figures.log_bytes > 2 * (64 << 10), "it went round: {figures:?}");
    assert_eq!(figures.compaction_written_bytes, 0, "{figures:?}");
}

/// Without a flusher writers clean, several at a time: none may release what it has not looked at.
#[test]
fn writers_that_clean_at_once_lose_nothing() {
    let files = MemoryFiles::default();
    let engine = open(&files, MemoryEngine::new(None));
    engine.apply(&put(1_000, 200), Durability::Synced).unwrap();
    std::thread::scope(|scope| {
        for writer in 0..4 {
            let engine = &engine;
            scope.spawn(move || {
                for number in 0..1_000 {
                    engine.apply(&put(10 * writer + number % 3, 200), Durability::Written).unwrap();
                }
            });
        }
        for look in 0..300 {
            // What a process that dies leaves. A flush may end between the two.
            let (left, tables) = (files.contents_clone(), engine.tables().inner.contents_clone());
            let left = open(&left, tables);
            let held = left.get(Family::Data, &1_000_u64.to_be_bytes()).unwrap();
            assert!(held.is_some(), "look {look}");
        }
    });
}

#[test]
fn where_much_is_not_rewritten_the_table_is_flushed() {
    let files = MemoryFiles::default();
    let engine = open(&files, MemoryEngine::new(None));
    let cold: Vec<_> = (0..80).flat_map(|key| put(1_000 + key, 10)).collect();
    engine.apply(&cold, Durability::Synced).unwrap();
    for number in 0..400 {
        engine.apply(&put(number % 5, 200), Durability::Synced).unwrap();
    }
    for key in 1_000..1_080_u64 {
        let held = engine.tables().get(Family::Data, &key.to_be_bytes()).unwrap();
        assert!(held.is_some(), "{key} would be written again and again");
    }
}

#[test]
fn a_deleted_range_goes_to_the_tables() {
    let files = MemoryFiles::default();
    let engine = open(&files, MemoryEngine::new(None));
    engine.apply(&put(7, 10), Durability::Synced).unwrap();
    engine.flush().unwrap();
    let (from, to) = (Bytes::from_static(b""), Bytes::from_static(TOP));
    let erase = Write::DeleteRange { family: Family::Data, from, to };
    engine.apply(&[vec![erase]], Durability::Synced).unwrap();
    for number in 0..400 {
        engine.apply(&put(number % 5, 200), Durability::Synced).unwrap();
    }
    assert_eq!(engine.tables().get(Family::Data, &7_u64.to_be_bytes()).unwrap(), None);
    assert_eq!(engine.get(Family::Data, &7_u64.to_be_bytes()).unwrap(), None);
}

/// What rests is written out by the thread, and the log's segments go.
#[test]
fn what_rests_goes_to_the_tables() {
    let files = MemoryFiles::default();
    let options = LsmOptions { rest: Duration::ZERO, ..open_options() };
    let tables = TornTables::new(MemoryEngine::new(None));
    let mut engine = LsmEngine::open(files, tables, options, None).unwrap();
    engine.start_flusher().unwrap();
    // Little in the table, and much in the log.
    for _ in 0..200 {
        engine.apply(&put(1, 100), Durability::Written).unwrap();
    }
    assert!(engine.inner.read().active.bytes() < open_options().memtable_bytes / 16);
    let is_out = (0..1_000).any(|_| {
        let writer = lock(&engine.inner.writer);
        let (writer, _) =
            engine.inner.turned.wait_timeout(writer, Duration::from_millis(10)).unwrap();
        let is_free = writer.log.in_use_bytes() == 0;
        drop(writer);
        is_free && engine.tables().get(Family::Data, &1_u64.to_be_bytes()).unwrap().is_some()
    });
    assert!(is_out, "it rested for seconds");
    assert!(engine.get(Family::Data, &1_u64.to_be_bytes()).unwrap().is_some());
}
