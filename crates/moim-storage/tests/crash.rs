//! What survives a kill, a torn log and a flipped byte.
//!
//! A kill is a real one: the test starts itself as a child that writes as fast as it can and says which batch was
//! acknowledged last, and kills it in the middle. Damage is done to copies of closed directories.

#![cfg(feature = "rocksdb")]
#![expect(clippy::unwrap_used, reason = "a step that fails fails its test")]

mod disk;

use std::fs;
use std::io::{BufRead, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use moim_storage::{Batch, Durability, Engine, Family, StorageError};

use disk::{Kind, files, open, put};

use Family::{Data, Hints, Meta};

/// Tells the child where to write; without it, its test is empty.
const DIRECTORY: &str = "MOIM_CRASH_TEST_DIRECTORY";
/// Tells it to write through the engine with a log of our own.
const LSM: &str = "MOIM_CRASH_TEST_LSM";
/// Acknowledged batches before each kill. Enough of them to meet flushes and compactions too.
const KILLS: [u64; 6] = [1, 40, 250, 7, 500, 120];

const PARTS: u64 = 4;
/// Four of these a batch fill a memory table of 4 MiB every 130 batches.
const PART_BYTES: usize = 8 << 10;

#[test]
fn a_kill_loses_no_acknowledged_batch_and_tears_none() {
    kill_again_and_again(Kind::Rocks);
}

#[test]
fn a_kill_of_the_lsm_engine_loses_none_either() {
    kill_again_and_again(Kind::Lsm);
}

fn kill_again_and_again(kind: Kind) {
    let home = tempfile::tempdir().unwrap();
    let mut written = 0;
    for acknowledgements in KILLS {
        let acknowledged = kill_a_writer(kind, home.path(), acknowledgements);
        assert!(acknowledged >= written + acknowledgements, "the child did not get far enough");
        let engine = kind.open(home.path()).unwrap();
        written = whole_batches(&*engine, part_of_the_child);
        assert!(written >= acknowledged, "lost {} acknowledged batches", acknowledged - written);
    }
}

/// The child of the test above.
#[test]
fn child_that_writes_until_it_is_killed() {
    let Some(directory) = std::env::var_os(DIRECTORY) else { return };
    let kind = if std::env::var_os(LSM).is_some() { Kind::Lsm } else { Kind::Rocks };
    let engine = kind.open(Path::new(&directory)).unwrap();
    let mut out = std::io::stdout();
    for number in whole_batches(&*engine, part_of_the_child) + 1.. {
        let batch = numbered(number, part_of_the_child);
        engine.apply(&[batch], Durability::Synced).unwrap();
        writeln!(out, "acknowledged {number}").unwrap();
    }
}

/// Starts a writer, kills it after some acknowledgements, and answers the last one that it gave.
fn kill_a_writer(kind: Kind, directory: &Path, acknowledgements: u64) -> u64 {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .envs((kind == Kind::Lsm).then_some((LSM, "1")))
        .args(["--exact", "child_that_writes_until_it_is_killed", "--nocapture"])
        .env(DIRECTORY, directory)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let output = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut last = 0;
    for (count, line) in (0..).zip(output) {
        // The first line shares its row with the test runner's own words.
        let line = line.unwrap();
        if let Some((_, number)) = line.split_once("acknowledged ") {
            last = number.parse().unwrap();
        }
        if count == acknowledgements + 2 {
            child.kill().unwrap();
        }
    }
    child.wait().unwrap();
    last
}

#[test]
fn a_torn_log_keeps_all_that_came_before() {
    let log = Log::written(60);
    let end = log.ends[59];
    for kept in [end - 1, end - 100, log.ends[58], log.ends[58] - 1, log.ends[30] + 3, 5, 0] {
        let damaged = log.copy_with(|bytes| bytes.truncate(usize::try_from(kept).unwrap()));
        let engine = open(damaged.path()).unwrap();
        let before = log.ends.iter().filter(|end| **end <= kept).count() as u64;
        assert_eq!(whole_batches(&engine, part_of_the_log), before, "cut at {kept} of {end}");
        engine.apply(&[numbered(before + 1, part_of_the_log)], Durability::Synced).unwrap();
        drop(engine);
        let again = open(damaged.path()).unwrap();
        assert_eq!(whole_batches(&again, part_of_the_log), before + 1);
    }
}

#[test]
fn a_damaged_log_is_refused() {
    let log = Log::written(60);
    let middle = log.ends[20];
    // Checksum, length and type of a record, the head of its batch, and its contents.
    let near_the_end = log.ends[58];
    let heads = (middle..middle + 30).chain(near_the_end..near_the_end + 7);
    for position in heads.chain([middle + 500, log.ends[40] - 1]) {
        let damaged = log.copy_with(|bytes| bytes[usize::try_from(position).unwrap()] ^= 0x10);
        match open(damaged.path()) {
            Err(StorageError::Corruption(_)) => {}
            Err(other) => panic!("byte {position}: {other}"),
            Ok(engine) => {
                let kept = whole_batches(&engine, part_of_the_log);
                panic!("byte {position} of the log is damaged, and {kept} batches are served")
            }
        }
    }
}

#[test]
fn a_damaged_table_fails_its_reads_and_no_others() {
    [Kind::Rocks, Kind::Lsm].into_iter().for_each(read_a_damaged_table);
}

fn read_a_damaged_table(kind: Kind) {
    const KEYS: u64 = 400;
    let value = |number: u64| format!("{number:_>1000}");
    let home = tempfile::tempdir().unwrap();
    let engine = kind.open(home.path()).unwrap();
    let batch = (0..KEYS).map(|number| put(Data, number.to_be_bytes(), value(number))).collect();
    engine.apply(&[batch], Durability::Synced).unwrap();
    engine.compact();
    drop(engine);
    let tables = files(home.path(), "sst");
    assert_eq!(tables.len(), 1);
    damage(&tables[0], |bytes| {
        let middle = bytes.len() / 2;
        bytes[middle] ^= 0x10;
    });

    let engine = kind.open(home.path()).unwrap();
    let mut failed = 0;
    for number in 0..KEYS {
        match engine.get(Data, &number.to_be_bytes()) {
            Ok(read) => assert_eq!(read.unwrap(), value(number), "a wrong value was served"),
            Err(StorageError::Corruption(_)) => failed += 1,
            Err(other) => panic!("{other}"),
        }
    }
    assert!((1..KEYS / 4).contains(&failed), "{failed} of {KEYS} reads failed");
    let whole = moim_storage::PageLimit { entries_max: usize::MAX, bytes_max: usize::MAX };
    let scan = engine.scan(Data, b""..&[0xff], whole);
    assert!(matches!(scan, Err(StorageError::Corruption(_))), "a scan must not end early instead");
}

/// A batch that spans the families: parts in one, an entry in the second, its number in the third.
fn numbered(number: u64, part: fn(u64) -> Vec<u8>) -> Batch {
    let mut batch: Batch =
        (0..PARTS).map(|index| put(Data, key(number, index), part(number))).collect();
    batch.push(put(Hints, number.to_be_bytes(), number.to_be_bytes()));
    batch.push(put(Meta, "last", number.to_be_bytes()));
    batch
}

fn key(number: u64, index: u64) -> Vec<u8> {
    [number.to_be_bytes(), index.to_be_bytes()].concat()
}

fn part_of_the_child(number: u64) -> Vec<u8> {
    number.to_be_bytes().repeat(PART_BYTES / 8)
}

/// Of changing length, so that records begin and end everywhere within the log's blocks.
fn part_of_the_log(number: u64) -> Vec<u8> {
    number.to_be_bytes().repeat(usize::try_from(100 + number * 7 % 91).unwrap())
}

/// How many batches there are. Each must be whole, and none may be missing before the last.
fn whole_batches(engine: &dyn Engine, part: fn(u64) -> Vec<u8>) -> u64 {
    let get = |family, key: &[u8]| engine.get(family, key).unwrap();
    let last =
        get(Meta, b"last").map_or(0, |number| u64::from_be_bytes(number[..].try_into().unwrap()));
    for number in 1..=last {
        let whole = (0..PARTS).all(|index| {
            get(Data, &key(number, index)).is_some_and(|stored| stored == part(number))
        });
        assert!(whole, "batch {number} of {last} is torn");
        assert!(get(Hints, &number.to_be_bytes()).is_some(), "batch {number} of {last} is torn");
    }
    for index in 0..PARTS {
        assert_eq!(get(Data, &key(last + 1, index)), None, "batch {} is torn", last + 1);
    }
    assert_eq!(get(Hints, &(last + 1).to_be_bytes()), None, "batch {} is torn", last + 1);
    last
}

/// A closed engine with all its batches in one log.
struct Log {
    home: tempfile::TempDir,
    path: PathBuf,
    /// Where each batch ends in the log.
    ends: Vec<u64>,
}

impl Log {
    fn written(batches: u64) -> Self {
        let home = tempfile::tempdir().unwrap();
        let engine = open(home.path()).unwrap();
        let path = files(home.path(), "log").pop().unwrap();
        let mut ends = Vec::new();
        for number in 1..=batches {
            let batch = numbered(number, part_of_the_log);
            engine.apply(&[batch], Durability::Synced).unwrap();
            ends.push(fs::metadata(&path).unwrap().len());
        }
        assert_eq!(files(home.path(), "log").len(), 1, "more than one log");
        Self { home, path, ends }
    }

    /// A copy of the directory whose log has suffered.
    fn copy_with(&self, harm: impl FnOnce(&mut Vec<u8>)) -> tempfile::TempDir {
        let copy = disk::copy(self.home.path());
        damage(&copy.path().join(self.path.file_name().unwrap()), harm);
        copy
    }
}

fn damage(path: &Path, harm: impl FnOnce(&mut Vec<u8>)) {
    let mut bytes = fs::read(path).unwrap();
    harm(&mut bytes);
    fs::write(path, bytes).unwrap();
}
