//! One flipped bit anywhere in what the engine keeps: it is harmless, or it is reported as corruption. It never makes a
//! wrong value, a value that is missing without a word, or a panic.

#![cfg(feature = "rocksdb")]
#![expect(clippy::unwrap_used, reason = "a step that fails fails its test")]
#![expect(clippy::print_stdout, reason = "how many flips did what is worth a look")]

mod disk;

use std::fs;
use std::path::{Path, PathBuf};

use moim_storage::{Durability, Engine, Family, PageLimit, StorageError};

use disk::{Disk, Kind, copy, files, open, put};

use Family::{Data, Meta};

/// In tables, and as many again in the log.
const KEYS: u64 = 60;
/// Flips in one file.
const FLIPS: usize = 90;
/// Before the payload of a record in a log.
const HEADER_BYTES: usize = 7;

const WHOLE: PageLimit = PageLimit { entries_max: usize::MAX, bytes_max: usize::MAX };

#[test]
fn in_a_table() {
    for kind in [Kind::Rocks, Kind::Lsm] {
        let home = filled(kind);
        // The largest is that of the data.
        let table = files(home.path(), "sst").into_iter().max_by_key(|path| size(path)).unwrap();
        let seen = flip_all(&home, &table, kind, |seen, _position, engine| match engine {
            Err(_) => seen.refused += 1,
            Ok(engine) => {
                let kept = judge_reads(seen, &*engine);
                assert_eq!(kept, 2 * KEYS, "a key is gone without a word");
            }
        });
        assert!(seen.failed_reads > FLIPS / 2, "{seen:?}: most of a table is data");
    }
}

#[test]
fn in_the_log() {
    let home = filled(Kind::Rocks);
    let log = files(home.path(), "log").pop().unwrap();
    let seen = flip_all(&home, &log, Kind::Rocks, refused_or_whole);
    assert!(seen.refused > FLIPS / 2, "{seen:?}: most of the log is values");
}

/// The log of the `lsm` engine: its used part, which begins with every head, and its control file.
#[test]
fn in_the_log_of_our_own() {
    let home = filled(Kind::Lsm);
    let log = home.path().join("commit-log");
    let written = |name: &str| {
        let used = |path: &PathBuf| fs::read(path).unwrap().iter().rposition(|byte| *byte != 0);
        let mut all: Vec<PathBuf> =
            fs::read_dir(&log).unwrap().map(|entry| entry.unwrap().path()).collect();
        all.retain(|path| path.file_name().unwrap().to_str().unwrap().starts_with(name));
        let longest = all.into_iter().max_by_key(used).unwrap();
        let end = used(&longest).unwrap() + 1;
        (longest, end)
    };
    let (segment, end) = written("segment");
    let bits = (0..FLIPS).map(|flip| (flip * (end - 1) / (FLIPS - 1), 1 << (flip % 8)));
    let heads = (4096..4096 + 32).chain(end - 32..end).map(|at| (at, 1 << (at % 8)));
    let bits = bits.chain(heads);
    let seen = flip_each(&home, &segment, Kind::Lsm, bits, refused_or_whole);
    assert!(seen.refused > seen.flips / 2, "{seen:?}: most of the log is values");
    let (control, end) = written("control");
    let bits = (0..52).chain(4096..end.max(4096)).map(|position| (position, 1 << (position % 8)));
    flip_each(&home, &control, Kind::Lsm, bits, refused_or_whole);
}

/// A wrong length near the end must not pass for a write that a crash cut off.
#[test]
fn in_the_heads_of_the_last_records() {
    let home = filled(Kind::Rocks);
    let log = files(home.path(), "log").pop().unwrap();
    // All batches are of one size, and the last few lie in one block: their sizes are that of the last.
    let (end, record) = (size(&log), record_bytes());
    let starts = (1..=3).map(|back| end - back * record);
    let bits = starts.flat_map(|start| (start..start + HEADER_BYTES).flat_map(bits_of));
    let seen = flip_each(&home, &log, Kind::Rocks, bits, refused_or_whole);
    assert!(seen.refused > HEADER_BYTES * 2 * 8, "{seen:?}");
}

/// What one batch takes in the log.
fn record_bytes() -> usize {
    let home = tempfile::tempdir().unwrap();
    let engine = open(home.path()).unwrap();
    let write = |number: u64| {
        let batch = vec![put(Data, number.to_be_bytes(), value(number))];
        engine.apply(&[batch], Durability::Synced).unwrap();
        size(&files(home.path(), "log").pop().unwrap())
    };
    let first = write(0);
    write(1) - first
}

fn bits_of(position: usize) -> impl Iterator<Item = (usize, u8)> {
    (0..8).map(move |bit| (position, 1 << bit))
}

fn refused_or_whole(seen: &mut Seen, position: usize, engine: Opened) {
    match engine {
        Err(_) => seen.refused += 1,
        Ok(engine) => {
            let kept = judge_reads(seen, &*engine);
            assert_eq!(kept, 2 * KEYS, "byte {position}: keys are gone, and nothing is said");
        }
    }
}

#[test]
fn in_the_files_that_name_the_others() {
    [Kind::Rocks, Kind::Lsm].into_iter().for_each(flip_what_names_others);
}

fn flip_what_names_others(kind: Kind) {
    let home = filled(kind);
    let named = |start: &str| -> PathBuf {
        let mut entries = fs::read_dir(home.path()).unwrap().map(|entry| entry.unwrap().path());
        entries.find(|path| path.file_name().unwrap().to_str().unwrap().starts_with(start)).unwrap()
    };
    for file in [named("MANIFEST"), named("CURRENT")] {
        // They are small: every byte.
        let bits = (0..size(&file)).map(|position| (position, 1 << (position % 8)));
        flip_each(&home, &file, kind, bits, refused_or_whole);
    }
}

type Opened = Result<Disk, StorageError>;

/// What came of the flips in one file.
#[derive(Debug, Default)]
struct Seen {
    flips: usize,
    /// Opening reported corruption.
    refused: usize,
    /// A read did.
    failed_reads: usize,
}

/// Flips all over a file, its very ends included.
fn flip_all(
    home: &tempfile::TempDir,
    file: &Path,
    kind: Kind,
    judge: impl FnMut(&mut Seen, usize, Opened),
) -> Seen {
    let bytes = size(file);
    let bits = (0..FLIPS).map(|flip| (flip * (bytes - 1) / (FLIPS - 1), 1 << (flip % 8)));
    flip_each(home, file, kind, bits, judge)
}

/// Flips one bit after the other, each in a copy of its own, and judges what opening says.
fn flip_each(
    home: &tempfile::TempDir,
    file: &Path,
    kind: Kind,
    bits: impl Iterator<Item = (usize, u8)>,
    mut judge: impl FnMut(&mut Seen, usize, Opened),
) -> Seen {
    let mut seen = Seen::default();
    for (position, bit) in bits {
        let copy = copy(home.path());
        let path = copy.path().join(file.strip_prefix(home.path()).unwrap());
        let mut content = fs::read(&path).unwrap();
        content[position] ^= bit;
        fs::write(&path, content).unwrap();
        let engine = kind.open(copy.path());
        if let Err(error) = &engine {
            assert!(matches!(error, StorageError::Corruption(_)), "byte {position}: {error}");
        }
        seen.flips += 1;
        judge(&mut seen, position, engine);
    }
    println!("{}: {} bytes, {seen:?}", file.display(), size(file));
    seen
}

/// Reads everything, key by key and as a whole. Answers how many keys are there or reported as unreadable.
fn judge_reads(seen: &mut Seen, engine: &dyn Engine) -> u64 {
    let (mut kept, mut failed) = (0, false);
    for number in 0..2 * KEYS {
        match engine.get(Data, &number.to_be_bytes()) {
            Ok(None) => {}
            Ok(Some(read)) => {
                assert_eq!(read, value(number), "a wrong value is served");
                kept += 1;
            }
            Err(StorageError::Corruption(_)) => {
                kept += 1;
                failed = true;
            }
            Err(other) => panic!("{other}"),
        }
    }
    match engine.scan(Data, b""..&[0xff], WHOLE) {
        Ok(page) => {
            assert_eq!(page.entries.len() as u64, kept, "a scan sees fewer than reads do");
            for (key, read) in page.entries {
                let number = u64::from_be_bytes(key[..].try_into().unwrap());
                assert_eq!(read, value(number), "a scan serves a wrong value");
            }
        }
        Err(StorageError::Corruption(_)) => failed = true,
        Err(other) => panic!("{other}"),
    }
    match engine.get(Meta, b"k") {
        Ok(read) => assert_eq!(read.unwrap(), "v"),
        Err(StorageError::Corruption(_)) => failed = true,
        Err(other) => panic!("{other}"),
    }
    seen.failed_reads += usize::from(failed);
    kept
}

/// A closed engine with keys in tables and in the log.
fn filled(kind: Kind) -> tempfile::TempDir {
    let home = tempfile::tempdir().unwrap();
    let engine = kind.open(home.path()).unwrap();
    let write = |number: u64| {
        let batch = vec![put(Data, number.to_be_bytes(), value(number))];
        engine.apply(&[batch], Durability::Synced).unwrap();
    };
    engine.apply(&[vec![put(Meta, "k", "v")]], Durability::Synced).unwrap();
    (0..KEYS).for_each(write);
    engine.compact();
    (KEYS..2 * KEYS).for_each(write);
    drop(engine);
    home
}

/// Of about 2 KB that compression cannot shrink to nothing.
fn value(number: u64) -> Vec<u8> {
    let mut state = number + 1;
    let mut step = || {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        state.to_be_bytes()
    };
    (0..250).flat_map(|_| step()).collect()
}

fn size(path: &Path) -> usize {
    usize::try_from(fs::metadata(path).unwrap().len()).unwrap()
}
