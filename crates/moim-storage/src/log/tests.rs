//! Replay against random histories: groups, syncs, reuse of segments, crashes that lose, tear and reorder, flipped bits.
//! What is recovered is a prefix of what was appended and has everything that was synced; or the log says that it is
//! damaged; nothing else.

use std::collections::VecDeque;

use bytes::Bytes;
use proptest::prelude::*;

use super::*;
use crate::files::memory::{Fate, Fault, MemoryFiles};
use crate::{Family, Write};

const OPTIONS: LogOptions = LogOptions { segment_bytes: 8 << 10, log_bytes_max: 48 << 10 };

/// A group that can be told from all others.
fn group(number: u64, bytes: usize) -> Vec<Batch> {
    let value = [&number.to_be_bytes()[..], &vec![number.to_be_bytes()[7]; bytes]].concat();
    vec![vec![Write::Put { family: Family::Data, key: Bytes::from("k"), value: value.into() }]]
}

fn number(batch: &Batch) -> u64 {
    match &batch[..] {
        [Write::Put { value, .. }] => u64::from_be_bytes(value[..8].try_into().unwrap()),
        other => panic!("nobody wrote {other:?}"),
    }
}

type Opened = Result<(CommitLog<MemoryFiles>, Vec<u64>), StorageError>;

fn open(files: &MemoryFiles) -> Opened {
    let mut numbers = Vec::new();
    let log = CommitLog::open(files.clone(), OPTIONS, |batch| numbers.push(number(&batch)))?;
    Ok((log, numbers))
}

/// xorshift*: what a crash does must be the same when it is looked at again.
fn chance(seed: u64) -> impl FnMut(u64) -> u64 {
    let mut state = seed | 1;
    move |bound| {
        state ^= state >> 12;
        state ^= state << 25;
        state ^= state >> 27;
        state.wrapping_mul(0x2545_f491_4f6c_dd1d) % bound
    }
}

/// A log, and what must be in it.
struct History {
    files: MemoryFiles,
    log: Option<CommitLog<MemoryFiles>>,
    /// Numbers of groups that are not in tables.
    groups: VecDeque<u64>,
    /// Numbers of groups that went to tables last.
    released: Vec<u64>,
    synced: usize,
    appended: u64,
    /// How many groups the record before the last, and the last, said to have been synced.
    witnessed: [usize; 2],
}

impl History {
    fn new() -> Self {
        let files = MemoryFiles::default();
        let log = open(&files).unwrap().0;
        let (groups, log) = (VecDeque::new(), Some(log));
        let released = Vec::new();
        Self { files, log, groups, released, synced: 0, appended: 0, witnessed: [0; 2] }
    }

    fn log(&mut self) -> &mut CommitLog<MemoryFiles> {
        self.log.as_mut().unwrap()
    }

    fn append(&mut self, bytes: usize) {
        let group = group(self.appended + 1, bytes);
        while self.log().make_room(&group).unwrap() == Room::Capped {
            self.release();
        }
        self.log().append(&group).unwrap();
        self.appended += 1;
        self.groups.push_back(self.appended);
        self.witnessed = [self.witnessed[1], self.synced];
    }

    fn append_synced(&mut self, bytes: usize) {
        self.try_append_synced(bytes, None).unwrap();
        self.synced = self.groups.len();
    }

    /// A crash while a group is written through to the disk. Its first block holds others, which are durable.
    fn crash_in_append(&mut self, bytes: usize, fate: Fate, seed: u64) {
        self.try_append_synced(bytes, Some(Fault::Syncs)).unwrap_err();
        self.crash(fate, seed);
    }

    fn try_append_synced(
        &mut self,
        bytes: usize,
        fault: Option<Fault>,
    ) -> Result<(), StorageError> {
        let group = group(self.appended + 1, bytes);
        while self.log().make_room(&group).unwrap() == Room::Capped {
            self.release();
        }
        self.appended += 1;
        self.groups.push_back(self.appended);
        self.witnessed = [self.witnessed[1], self.synced];
        self.files.fail(fault);
        self.log().append_synced(&group)
    }

    fn sync(&mut self) {
        self.log().sync().unwrap();
        self.synced = self.groups.len();
    }

    /// A flush: all is in tables.
    fn release(&mut self) {
        self.sync();
        let life = self.log().seal();
        self.log().release(life).unwrap();
        self.released = self.groups.drain(..).collect();
        self.synced = 0;
        self.witnessed = [0; 2];
    }

    /// As after a while without a write.
    fn trim(&mut self) {
        while self.log().trim(Spare::Any).unwrap() {}
    }

    /// A segment is filled in so many steps at the most, while others are appended to if that takes more than one.
    fn prepare(&mut self, steps: usize, bytes: usize) {
        let Some(mut preparation) = self.log().begin_preparing().unwrap() else { return };
        for _ in 0..steps {
            if preparation.step().unwrap() == Prepared::Whole {
                break;
            }
            self.append(bytes);
        }
        self.log().end_preparing(preparation, Ok(())).unwrap();
    }

    /// A crash while a segment is prepared.
    fn crash_preparing(&mut self, steps: usize, fate: Fate, seed: u64) {
        if let Some(mut preparation) = self.log().begin_preparing().unwrap() {
            (0..steps).any(|_| preparation.step().unwrap() == Prepared::Whole);
        }
        self.crash(fate, seed);
    }

    fn crash(&mut self, fate: Fate, seed: u64) {
        self.log = None;
        self.files.crash(fate, chance(seed));
        let (log, recovered) = open(&self.files).unwrap();
        self.log = Some(log);
        let before: Vec<u64> = self.groups.iter().copied().collect();
        assert!(before.starts_with(&recovered), "{recovered:?} is not the beginning of {before:?}");
        assert!(recovered.len() >= self.synced, "{recovered:?} of {before:?}, {}", self.synced);
        self.groups.truncate(recovered.len());
        // What is served from now on must not go away either.
        self.synced = recovered.len();
        self.witnessed = [recovered.len(); 2];
    }

    fn close_and_open(&mut self) {
        self.log().close().unwrap();
        self.synced = self.groups.len();
        self.crash(Fate::Lost, 0);
    }

    /// All ways in which one bit can flip, on copies: `at_least` groups are there, or damage is reported.
    fn flip(&self, file: usize, bit: usize, at_least: usize) {
        let files = self.files.contents_clone();
        let contents = files.contents();
        let (name, content) = &contents[file % contents.len()];
        // Most of a segment is not yet written: the beginning is where the bits are that matter.
        let used = content.iter().rposition(|byte| *byte != 0).unwrap_or(0) + 1;
        files.flip(name, bit % (used * 8));
        match open(&files) {
            Err(StorageError::Corruption(_)) => {}
            Err(other) => panic!("{other}"),
            Ok((_, recovered)) => {
                let all: Vec<u64> = self.groups.iter().copied().collect();
                // Until something follows, what is in tables may be replayed over them, to its end.
                let is_replayed = all.is_empty() && self.released.ends_with(&recovered);
                assert!(is_replayed || all.starts_with(&recovered), "{recovered:?} of {all:?}");
                assert!(recovered.len() >= at_least, "{} of {at_least}: {name}", recovered.len());
            }
        }
    }
}

#[derive(Clone, Debug)]
enum Step {
    Append(usize),
    AppendSynced(usize),
    CrashInAppend(usize, Fate, u64),
    Sync,
    Release,
    Trim,
    Prepare(usize, usize),
    CrashPreparing(usize, Fate, u64),
    Crash(Fate, u64),
    Reopen,
}

fn step() -> impl Strategy<Value = Step> {
    let fate = || prop_oneof![1 => Just(Fate::Lost), 1 => Just(Fate::Kept), 3 => Just(Fate::Torn)];
    let bytes = || prop_oneof![4 => 0..700_usize, 1 => 700..3_000_usize, 1 => 9_000..12_000_usize];
    prop_oneof![
        12 => bytes().prop_map(Step::Append),
        6 => bytes().prop_map(Step::AppendSynced),
        1 => (bytes(), fate(), any::<u64>())
            .prop_map(|(bytes, fate, seed)| Step::CrashInAppend(bytes, fate, seed)),
        4 => Just(Step::Sync),
        1 => Just(Step::Release),
        1 => Just(Step::Trim),
        2 => (0..6_usize, 0..2_000_usize).prop_map(|(steps, bytes)| Step::Prepare(steps, bytes)),
        1 => (0..6_usize, fate(), any::<u64>())
            .prop_map(|(steps, fate, seed)| Step::CrashPreparing(steps, fate, seed)),
        2 => (fate(), any::<u64>()).prop_map(|(fate, seed)| Step::Crash(fate, seed)),
        1 => Just(Step::Reopen),
    ]
}

fn play(steps: &[Step]) -> History {
    let mut history = History::new();
    for step in steps {
        match *step {
            Step::Append(bytes) => history.append(bytes),
            Step::AppendSynced(bytes) => history.append_synced(bytes),
            Step::CrashInAppend(bytes, fate, seed) => history.crash_in_append(bytes, fate, seed),
            Step::Sync => history.sync(),
            Step::Release => history.release(),
            Step::Trim => history.trim(),
            Step::Prepare(steps, bytes) => history.prepare(steps, bytes),
            Step::CrashPreparing(steps, fate, seed) => history.crash_preparing(steps, fate, seed),
            Step::Crash(fate, seed) => history.crash(fate, seed),
            Step::Reopen => history.close_and_open(),
        }
    }
    history
}

fn config(cases: u32) -> ProptestConfig {
    ProptestConfig { cases, failure_persistence: None, ..ProptestConfig::default() }
}

proptest! {
    #![proptest_config(config(1_500))]

    #[test]
    fn a_crash_leaves_a_prefix_with_all_that_was_synced(
        steps in prop::collection::vec(step(), 1..60),
        fate in prop_oneof![1 => Just(Fate::Lost), 1 => Just(Fate::Kept), 3 => Just(Fate::Torn)],
        seed in any::<u64>(),
    ) {
        let mut history = play(&steps);
        history.crash(fate, seed);
        history.append(100);
        history.crash(Fate::Kept, seed);
    }
}

proptest! {
    #![proptest_config(config(150))]

    #[test]
    fn a_flipped_bit_is_noticed_where_anything_bears_witness(
        steps in prop::collection::vec(step(), 1..40),
        flips in prop::collection::vec((any::<usize>(), any::<usize>()), 40),
    ) {
        let history = play(&steps);
        // The flip may hit the last record, and with it what it says of those before.
        let at_least = history.witnessed[0];
        for (file, bit) in flips {
            history.flip(file, bit, at_least);
        }
    }

    #[test]
    fn a_flipped_bit_in_a_closed_log_is_harmless_or_noticed(
        steps in prop::collection::vec(step(), 1..40),
        flips in prop::collection::vec((any::<usize>(), any::<usize>()), 40),
    ) {
        let mut history = play(&steps);
        history.append(50);
        history.log().close().unwrap();
        for (file, bit) in flips {
            history.flip(file, bit, history.groups.len());
        }
    }
}

#[test]
fn every_bit_of_a_small_log_matters_or_is_noticed() {
    let mut history = History::new();
    for bytes in [10, 300, 0, 50] {
        history.append(bytes);
        history.sync();
    }
    history.log().close().unwrap();
    let files = history.files.contents();
    for (file, (_, content)) in files.iter().enumerate() {
        let used = content.iter().rposition(|byte| *byte != 0).unwrap() + 1;
        for bit in 0..used * 8 {
            history.flip(file, bit, 4);
        }
    }
}

#[test]
fn damage_in_the_middle_is_told_from_a_torn_end() {
    let mut history = History::new();
    for _ in 0..3 {
        history.append(500);
    }
    history.sync();
    history.append(500);
    let second = HEADER_BLOCK_BYTES + 600;
    // The fourth record says that the others were synced.
    let witnessed = history.files.contents_clone();
    witnessed.flip("segment-000001", second * 8);
    assert!(matches!(open(&witnessed), Err(StorageError::Corruption(_))));
    // Without it, the second might as well have been torn.
    history.files.crash(Fate::Lost, chance(1));
    history.files.flip("segment-000001", second * 8);
    assert_eq!(open(&history.files).unwrap().1, [1]);
}

#[test]
fn records_of_a_former_life_are_not_replayed() {
    let mut history = History::new();
    for _ in 0..40 {
        history.append(700);
    }
    history.release();
    // Groups of the same size in the same files, so that old records lie exactly where new ones would.
    history.append(700);
    history.crash(Fate::Kept, 1);
    assert_eq!(history.groups, [41]);
}

#[test]
fn what_a_crash_dropped_does_not_come_back() {
    let mut history = History::new();
    history.append(100);
    history.sync();
    history.append(100);
    history.append(100);
    // The second is gone and the third is whole: both are dropped.
    let second = HEADER_BLOCK_BYTES + 160;
    history.files.flip("segment-000001", second * 8);
    history.log = None;
    let (log, recovered) = open(&history.files).unwrap();
    assert_eq!(recovered, [1]);
    history.log = Some(log);
    history.groups.truncate(1);
    history.appended = 9;
    history.append(100);
    // The same bit back again: the second would be whole, and the third follows.
    history.files.flip("segment-000001", second * 8);
    history.log = None;
    assert_eq!(open(&history.files).unwrap().1, [1, 10]);
}

#[test]
fn a_segment_that_is_gone_is_missed() {
    let mut history = History::new();
    for _ in 0..30 {
        history.append(700);
    }
    history.sync();
    history.log().close().unwrap();
    for (name, _) in history.files.contents() {
        let files = history.files.contents_clone();
        files.remove(&name).unwrap();
        let refused = open(&files);
        assert!(matches!(refused, Err(StorageError::Corruption(_))), "{name}");
    }
}

#[test]
fn segments_are_reused_and_never_exceed_their_bound() {
    let mut history = History::new();
    for round in 0..500 {
        history.append(600);
        if round % 7 == 0 {
            history.sync();
        }
        if round % 40 < 2 {
            history.prepare(round % 5, 600);
        }
        let files = history.files.contents();
        let bytes: usize = files.iter().map(|(_, content)| content.len()).sum();
        let control_bytes = 8 << 10;
        assert!(bytes as u64 <= OPTIONS.log_bytes_max + control_bytes, "{bytes} bytes");
    }
}

#[test]
fn a_segment_that_was_prepared_is_taken_before_others() {
    let mut history = History::new();
    (0..40).for_each(|_| history.append(100));
    history.prepare(usize::MAX, 0);
    let prepared = history.files.contents().pop().unwrap().0;
    let used = |history: &History, name: &str| {
        let contents = history.files.contents();
        let (_, content) = contents.iter().find(|(known, _)| known == name).unwrap();
        content.starts_with(b"MoimLog1")
    };
    assert!(!used(&history, &prepared), "it has no life yet");
    let segments = history.files.contents().len();
    while !used(&history, &prepared) {
        history.append(700);
        assert_eq!(history.files.contents().len(), segments, "no other is made");
    }
    history.crash(Fate::Lost, 1);
}

#[test]
fn segments_that_are_not_needed_go_back_to_the_disk() {
    let mut history = History::new();
    (0..40).for_each(|_| history.append(700));
    history.release();
    let segments = |history: &History| history.files.contents().len() - 1;
    let before = segments(&history);
    assert!(history.log().take_has_begun(), "all were begun since the start");
    assert!(!history.log().take_has_begun());
    assert_eq!(history.log().spare(Spare::Any), before);
    assert_eq!(history.log().spare(Spare::Blank), 0, "all were used");
    assert!(!history.log().trim(Spare::Blank).unwrap());
    history.trim();
    assert_eq!((before > 3, segments(&history)), (true, 1));
    history.append(700);
    assert!(history.log().take_has_begun());
    history.close_and_open();
    assert_eq!(history.groups, [41]);
}

#[test]
fn a_segment_that_was_prepared_in_vain_goes_first() {
    let mut history = History::new();
    (0..8).for_each(|_| history.append(700));
    let mut preparation = history.log().begin_preparing().unwrap().unwrap();
    while preparation.step().unwrap() == Prepared::InPart {}
    history.log().end_preparing(preparation, Ok(())).unwrap();
    history.release();
    let used = history.log().spare(Spare::Any) - 1;
    assert_eq!(history.log().spare(Spare::Blank), 1);
    assert!(history.log().trim(Spare::Blank).unwrap());
    assert!(!history.log().trim(Spare::Blank).unwrap());
    assert_eq!(history.log().spare(Spare::Any), used);
    history.append(700);
    history.crash(Fate::Lost, 1);
}

#[test]
fn a_full_disk_refuses_a_segment_and_nothing_else() {
    let mut history = History::new();
    history.append(600);
    history.files.bound(Some(20 << 10));
    let group = group(1, 600);
    let full = loop {
        match history.log().make_room(&group) {
            Ok(room) => assert_eq!(room, Room::Ready),
            Err(error) => break error,
        }
        history.append(600);
    };
    assert!(matches!(full, StorageError::Full(_)), "{full}");
    // What is in tables makes room.
    history.release();
    history.append(600);
    history.crash(Fate::Lost, 1);
    history.files.bound(None);
    history.append(600);
}

#[test]
fn after_a_failed_sync_nothing_is_written() {
    let mut history = History::new();
    history.append(10);
    history.files.fail(Some(Fault::Syncs));
    assert!(history.log().sync().is_err());
    history.files.fail(None);
    let group = group(2, 10);
    assert!(
        history.log().sync().is_err(),
        "the pages may be gone, and a second sync would not tell"
    );
    assert!(history.log().make_room(&group).is_err());
    assert!(history.log().close().is_err());
}
