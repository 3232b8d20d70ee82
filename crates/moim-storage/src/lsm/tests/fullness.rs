//! A table is full when it holds so much alone, or very much whoever else holds it.

use super::*;

/// Writes these keys with a value each that it hands over and keeps.
fn write_shared(engine: &Subject, keys: Range<u64>) -> Vec<Bytes> {
    let value = |key: u64| Bytes::from(vec![u8::try_from(key % 251).unwrap(); 200]);
    let values: Vec<_> = keys.clone().map(value).collect();
    for (key, value) in keys.zip(&values) {
        let key = Bytes::copy_from_slice(&key.to_be_bytes());
        let mut batch = [vec![Write::Put { family: Family::Data, key, value: value.clone() }]];
        engine.exchange(&mut batch, Durability::Synced).unwrap();
    }
    values
}

fn flushed_bytes(engine: &Subject) -> u64 {
    engine.figures().compaction_written_bytes
}

#[test]
fn values_that_others_hold_do_not_fill_a_table_until_they_let_go() {
    let engine = open(&MemoryFiles::default(), MemoryEngine::new(None));
    let held = write_shared(&engine, 0..25);
    let figures = engine.figures();
    assert!(figures.memtable_bytes > 6 << 10, "it holds more than a table may alone: {figures:?}");
    assert_eq!(flushed_bytes(&engine), 0);
    drop(held);
    drop(write_shared(&engine, 0..2));
    assert!(flushed_bytes(&engine) > 25 * 200, "it is the only one to hold them");
    for key in 0..25_u64 {
        let value = engine.get(Family::Data, &key.to_be_bytes()).unwrap().unwrap();
        assert_eq!(value, vec![u8::try_from(key).unwrap(); 200]);
    }
}

#[test]
fn a_table_that_holds_very_much_is_full_whoever_else_holds_it() {
    let engine = open(&MemoryFiles::default(), MemoryEngine::new(None));
    let _held = write_shared(&engine, 0..60);
    assert!(flushed_bytes(&engine) > 0);
    let figures = engine.figures();
    assert!(figures.memtable_bytes < 15 << 10, "{figures:?}");
}
