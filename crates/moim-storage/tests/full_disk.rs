//! A disk without room: told apart from other faults, nothing acknowledged is lost, nothing refused is half there, and
//! writes go on by themselves when there is room again.
//!
//! Each test mounts a small file system of its own in memory, which only root may do; without that, it says so and
//! shows nothing.

#![cfg(all(feature = "rocksdb", target_os = "linux"))]
#![expect(clippy::unwrap_used, reason = "a step that fails fails its test")]
#![expect(clippy::disallowed_methods, reason = "a real disk takes real time")]
#![expect(clippy::print_stdout, reason = "a test that shows nothing says so")]

mod disk;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use moim_storage::{Durability, Engine, Family, StorageError};

use disk::{Kind, put};

use Family::{Data, Meta};

const MIB: usize = 1 << 20;
const DISK_BYTES: usize = 64 * MIB;
/// RocksDB looks for room every five seconds.
const PATIENCE: Duration = Duration::from_mins(1);

#[test]
fn writes_fail_with_words_and_go_on_by_themselves() {
    [Kind::Rocks, Kind::Lsm].into_iter().for_each(writes_fail_and_go_on);
}

fn writes_fail_and_go_on(kind: Kind) {
    let Some(disk) = SmallDisk::mount() else { return };
    let ballast = disk.ballast(40 * MIB);
    let engine = kind.open(&disk.engine()).unwrap();
    let written = fill(&*engine, 0);
    assert!(written > 100, "only {written} writes fitted");
    check(&*engine, written);
    // Offered again and again, as whoever commits does, before there is room.
    for _ in 0..20 {
        let again = write(&*engine, written).unwrap_err();
        assert!(matches!(again, StorageError::Full(_)), "{again}");
    }
    fs::remove_file(ballast).unwrap();
    insist(&*engine, written);
    check(&*engine, written + 1);
    // Not once only.
    let ballast = disk.ballast_to_the_brim();
    let more = fill(&*engine, written + 1);
    fs::remove_file(ballast).unwrap();
    insist(&*engine, more);
    check(&*engine, more + 1);
    drop(engine);
    check(&*kind.open(&disk.engine()).unwrap(), more + 1);
}

/// What a crash leaves at each moment: while the disk is full, while a refused batch is offered again, after it fitted.
#[test]
fn a_crash_finds_whole_batches_in_their_order() {
    [Kind::Rocks, Kind::Lsm].into_iter().for_each(crash_while_full);
}

fn crash_while_full(kind: Kind) {
    let Some(disk) = SmallDisk::mount() else { return };
    let ballast = disk.ballast(40 * MIB);
    let engine = kind.open(&disk.engine()).unwrap();
    let written = fill(&*engine, 0);
    crash(kind, &disk, written);
    assert!(matches!(write(&*engine, written), Err(StorageError::Full(_))));
    crash(kind, &disk, written);
    fs::remove_file(ballast).unwrap();
    insist(&*engine, written);
    crash(kind, &disk, written + 1);
    for number in written + 1..written + 50 {
        write(&*engine, number).unwrap();
    }
    crash(kind, &disk, written + 50);
}

/// An engine that was closed while the disk was full opens when there is room, and has what it had.
#[test]
fn a_full_disk_can_be_closed_and_opened() {
    [Kind::Rocks, Kind::Lsm].into_iter().for_each(close_while_full);
}

fn close_while_full(kind: Kind) {
    let Some(disk) = SmallDisk::mount() else { return };
    let ballast = disk.ballast(40 * MIB);
    let engine = kind.open(&disk.engine()).unwrap();
    let written = fill(&*engine, 0);
    drop(engine);
    match kind.open(&disk.engine()) {
        Ok(engine) => check(&*engine, written),
        Err(error) => assert!(matches!(error, StorageError::Full(_)), "{error}"),
    }
    fs::remove_file(ballast).unwrap();
    let engine = kind.open(&disk.engine()).unwrap();
    check(&*engine, written);
    insist(&*engine, written);
    check(&*engine, written + 1);
}

/// Writes until the disk is full. Answers the first number that did not fit.
fn fill(engine: &dyn Engine, from: u64) -> u64 {
    for number in from.. {
        match write(engine, number) {
            Ok(()) => {}
            Err(StorageError::Full(_)) => return number,
            Err(other) => panic!("{other}"),
        }
    }
    unreachable!("the disk is small")
}

/// Offers a batch until it fits.
fn insist(engine: &dyn Engine, number: u64) {
    let begun = Instant::now();
    loop {
        match write(engine, number) {
            Ok(()) => return,
            Err(StorageError::Full(_)) if begun.elapsed() < PATIENCE => {
                std::thread::sleep(Duration::from_millis(50));
            }
            Err(other) => panic!("after {:?}: {other}", begun.elapsed()),
        }
    }
}

/// A value, and which is the last.
fn write(engine: &dyn Engine, number: u64) -> Result<(), StorageError> {
    let batch = vec![
        put(Data, number.to_be_bytes(), noise(number)),
        put(Meta, "last", number.to_be_bytes()),
    ];
    engine.apply(&[batch], Durability::Synced)
}

/// The numbers below `count` are there, and none at or above it. Reads go on whatever the disk does.
fn check(engine: &dyn Engine, count: u64) {
    assert_eq!(last(engine), count - 1);
    for number in 0..count {
        let read = engine.get(Data, &number.to_be_bytes()).unwrap();
        assert_eq!(read.unwrap(), noise(number), "{number} of {count}");
    }
    assert_eq!(engine.get(Data, &count.to_be_bytes()).unwrap(), None, "half of a refused batch");
}

fn last(engine: &dyn Engine) -> u64 {
    u64::from_be_bytes(engine.get(Meta, b"last").unwrap().unwrap()[..].try_into().unwrap())
}

/// Opens what a crash would leave now. A batch that was refused may be whole in the log, as one whose
/// acknowledgement was lost.
fn crash(kind: Kind, small: &SmallDisk, acknowledged: u64) {
    let copy = disk::copy(&small.engine());
    let engine = kind.open(copy.path()).unwrap();
    let kept = last(&*engine) + 1;
    assert!((acknowledged..=acknowledged + 1).contains(&kept), "{kept} of {acknowledged}");
    check(&*engine, kept);
}

/// What compression cannot shrink, or compactions would keep making room.
fn noise(number: u64) -> Vec<u8> {
    let mut state = (number << 1) | 1;
    let mut step = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_be_bytes()
    };
    (0..512).flat_map(|_| step()).collect()
}

/// A file system of its own; unmounted when dropped.
struct SmallDisk(tempfile::TempDir);

impl SmallDisk {
    fn mount() -> Option<Self> {
        let directory = tempfile::tempdir().unwrap();
        let size = format!("size={DISK_BYTES}");
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &size, "moim-test"])
            .arg(directory.path())
            .output();
        match mounted {
            Ok(output) if output.status.success() => Some(Self(directory)),
            _ => {
                println!("not shown: a small file system cannot be mounted here (only root may)");
                None
            }
        }
    }

    fn engine(&self) -> PathBuf {
        self.0.path().join("engine")
    }

    fn ballast(&self, bytes: usize) -> PathBuf {
        let path = self.0.path().join("ballast");
        fs::write(&path, vec![1; bytes]).unwrap();
        path
    }

    /// All of what is left.
    fn ballast_to_the_brim(&self) -> PathBuf {
        let path = self.0.path().join("ballast");
        // It ends with an error: that is the point.
        fs::write(&path, vec![1; DISK_BYTES]).unwrap_err();
        path
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        unmount(self.0.path());
    }
}

fn unmount(path: &Path) {
    // Lazily: an engine of a test that failed may still be open.
    let done = Command::new("umount").arg("-l").arg(path).status();
    assert!(done.is_ok_and(|status| status.success()), "{} stays mounted", path.display());
}
