use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use moim_node::api::DiskRoom;
use moim_node::keyspace::{META_BATCH, META_CLOCK_BOUND};
use moim_storage::faulty::FaultyEngine;
use moim_storage::memory::MemoryEngine;
use moim_storage::{Figures, Snapshot, Write};
use std::ops::Range;
use std::path::Path;

use super::*;

/// A memory engine whose syncs take time, and which counts them.
struct SlowEngine {
    inner: MemoryEngine,
    sync_time: Duration,
    applies: AtomicUsize,
    batches: AtomicUsize,
    /// Applies that were synced.
    synced: AtomicUsize,
    /// Syncs beside those.
    syncs: AtomicUsize,
    sync_fails: AtomicBool,
}

impl SlowEngine {
    fn new(sync_ms: u64) -> Arc<Self> {
        Arc::new(Self {
            inner: MemoryEngine::new(None),
            sync_time: Duration::from_millis(sync_ms),
            applies: AtomicUsize::new(0),
            batches: AtomicUsize::new(0),
            synced: AtomicUsize::new(0),
            syncs: AtomicUsize::new(0),
            sync_fails: AtomicBool::new(false),
        })
    }
}

impl Engine for SlowEngine {
    fn get(&self, family: Family, key: &[u8]) -> Result<Option<Bytes>, StorageError> {
        self.inner.get(family, key)
    }

    fn get_cached(&self, _: Family, _: &[u8]) -> Result<Cached, StorageError> {
        Ok(Cached::NeedsDisk)
    }

    fn apply(&self, batches: &[Batch], durability: Durability) -> Result<(), StorageError> {
        self.applies.fetch_add(1, Ordering::SeqCst);
        std::thread::sleep(self.sync_time);
        self.batches.fetch_add(batches.len(), Ordering::SeqCst);
        self.synced.fetch_add(usize::from(durability == Durability::Synced), Ordering::SeqCst);
        self.inner.apply(batches, durability)
    }

    fn sync(&self) -> Result<(), StorageError> {
        self.syncs.fetch_add(1, Ordering::SeqCst);
        if self.sync_fails.load(Ordering::SeqCst) {
            return Err(StorageError::Io("fdatasync: Input/output error".to_owned()));
        }
        self.inner.sync()
    }

    fn snapshot(&self) -> Box<dyn Snapshot + '_> {
        self.inner.snapshot()
    }

    fn drop_range(&self, family: Family, range: Range<&[u8]>) -> Result<(), StorageError> {
        self.inner.drop_range(family, range)
    }

    fn checkpoint(&self, directory: &Path) -> Result<(), StorageError> {
        self.inner.checkpoint(directory)
    }

    fn reclaim(&self, entries_max: usize) -> Result<(), StorageError> {
        self.inner.reclaim(entries_max)
    }

    fn figures(&self) -> Figures {
        self.inner.figures()
    }
}

fn put(key: &str, value: &str) -> Batch {
    let (key, value) =
        (Bytes::copy_from_slice(key.as_bytes()), Bytes::copy_from_slice(value.as_bytes()));
    vec![Write::Put { family: Family::Data, key, value }]
}

struct Fixture {
    disk: Disk,
    inbox: Rc<Inbox>,
    /// Reads that memory did not answer.
    readings: usize,
}

impl Fixture {
    fn new<E: Engine + 'static>(engine: &Arc<E>) -> Self {
        Self::with(engine, Syncing::EveryGroup)
    }

    fn with<E: Engine + 'static>(engine: &Arc<E>, syncing: Syncing) -> Self {
        let inbox = Rc::<Inbox>::default();
        let engine: Arc<dyn Engine> = Arc::<E>::clone(engine);
        let disk = Disk::threaded(engine, Rc::clone(&inbox), syncing).unwrap();
        Self { disk, inbox, readings: 0 }
    }

    /// Lets the loop's part run until `done` holds of all inputs so far.
    fn until(&mut self, done: impl Fn(&[Input]) -> bool) -> Vec<Input> {
        let mut inputs = Vec::new();
        for _ in 0..5_000 {
            self.inbox.take(&mut inputs);
            let arrived = inputs.len();
            inputs.retain(|input| !matches!(input, Input::Reading(_)));
            self.readings += arrived - inputs.len();
            if done(&inputs) {
                return inputs;
            }
            self.disk.flush();
            std::thread::sleep(Duration::from_millis(1));
        }
        panic!("only {inputs:?} arrived");
    }
}

fn durable(inputs: &[Input]) -> Option<BatchId> {
    inputs
        .iter()
        .rev()
        .find_map(|input| if let Input::Durable(id) = input { Some(*id) } else { None })
}

#[test]
fn what_arrives_during_a_sync_is_the_next_group() {
    let engine = SlowEngine::new(50);
    let mut fixture = Fixture::new(&engine);
    for number in 1..=40 {
        fixture.disk.commit(BatchId(number), put(&format!("k{number}"), "v"));
        fixture.disk.flush();
        // The first sync has begun before the others arrive.
        while engine.applies.load(Ordering::SeqCst) == 0 {
            std::thread::yield_now();
        }
    }
    fixture.until(|inputs| durable(inputs) == Some(BatchId(40)));
    assert_eq!(
        engine.applies.load(Ordering::SeqCst),
        2,
        "one sync for the first, one for all others"
    );
    assert_eq!(engine.batches.load(Ordering::SeqCst), 40);
}

#[test]
fn a_read_waits_for_the_batch_that_wrote_its_key_but_not_for_others() {
    let engine = SlowEngine::new(100);
    let mut fixture = Fixture::new(&engine);
    fixture.disk.commit(BatchId(1), put("written", "new"));
    fixture.disk.load(ReadId(1), Family::Data, Bytes::from_static(b"written"));
    fixture.disk.load(ReadId(2), Family::Data, Bytes::from_static(b"other"));
    fixture.disk.list(ReadId(3), Family::Data, (Bytes::new(), Bytes::from_static(&[0xff])), 10);
    let inputs = fixture.until(|inputs| inputs.len() == 4);
    assert!(matches!(&inputs[0], Input::Loaded(ReadId(2), Ok(None))), "{inputs:?}");
    assert!(matches!(&inputs[1], Input::Durable(BatchId(1))), "{inputs:?}");
    let rest = format!("{:?}", &inputs[2..]);
    assert!(rest.contains(r#"Loaded(ReadId(1), Ok(Some(b"new")))"#), "{rest}");
    assert!(rest.contains(r#"entries: [(b"written", b"new")]"#), "{rest}");
}

#[test]
fn after_a_failure_nothing_is_applied_and_reads_go_on() {
    let engine = Arc::new(FaultyEngine::new(MemoryEngine::new(None)));
    let mut fixture = Fixture::new(&engine);
    fixture.disk.commit(BatchId(1), put("a", "1"));
    fixture.until(|inputs| durable(inputs) == Some(BatchId(1)));
    // As a failed fsync: to try it again would succeed without the pages that the kernel has dropped.
    engine.fail_writes(Some(StorageError::Io("fdatasync: Input/output error".to_owned())));
    fixture.disk.commit(BatchId(2), put("a", "2"));
    let inputs = fixture.until(|inputs| !inputs.is_empty());
    let [Input::DiskFailed(why)] = &inputs[..] else { panic!("{inputs:?}") };
    assert_eq!(why, "the disk failed: fdatasync: Input/output error");
    engine.fail_writes(None);
    fixture.disk.commit(BatchId(3), put("a", "3"));
    fixture.disk.load(ReadId(1), Family::Data, Bytes::from_static(b"a"));
    let inputs = fixture.until(|inputs| !inputs.is_empty());
    assert!(
        matches!(&inputs[..], [Input::Loaded(_, Ok(Some(value)))] if value == "1"),
        "{inputs:?}"
    );
    assert_eq!(engine.applies(), 2, "nothing is tried after the failure");
    assert_eq!(fixture.readings, 1, "this engine answers nothing from memory");
}

fn full() -> StorageError {
    StorageError::Full("no space left".to_owned())
}

#[test]
fn what_does_not_fit_waits_for_room_in_its_order() {
    let engine = Arc::new(FaultyEngine::new(MemoryEngine::new(None)));
    let mut fixture = Fixture::new(&engine);
    fixture.disk.commit(BatchId(1), put("a", "1"));
    fixture.until(|inputs| durable(inputs) == Some(BatchId(1)));
    engine.fail_writes(Some(full()));
    fixture.disk.commit(BatchId(2), put("a", "2"));
    let told = fixture.until(|inputs| !inputs.is_empty());
    assert!(matches!(&told[..], [Input::DiskRoom(DiskRoom::Exhausted)]), "{told:?}");
    for number in 3..=9 {
        fixture.disk.commit(BatchId(number), put("a", &number.to_string()));
    }
    // Reads go on, of keys that wait as well: the node knows what it has written to them.
    fixture.disk.load(ReadId(1), Family::Data, Bytes::from_static(b"a"));
    fixture.disk.list(ReadId(2), Family::Data, (Bytes::new(), Bytes::from_static(&[0xff])), 10);
    let read = fixture.until(|inputs| inputs.len() == 2);
    assert!(read.iter().all(|input| !matches!(input, Input::Durable(_))), "{read:?}");
    let offered = engine.applies();
    fixture.until(|_| engine.applies() > offered + 2);
    assert_eq!(engine.batches(), 1, "nothing was applied out of order");
    engine.fail_writes(None);
    let freed = fixture.until(|inputs| durable(inputs) == Some(BatchId(9)));
    assert!(matches!(&freed[0], Input::DiskRoom(DiskRoom::Enough)), "{freed:?}");
    assert_eq!(engine.batches(), 9);
    assert_eq!(engine.get(Family::Data, b"a").unwrap().unwrap(), "9");
}

#[test]
fn a_full_disk_that_fails_altogether_is_a_failure() {
    let engine = Arc::new(FaultyEngine::new(MemoryEngine::new(None)));
    let mut fixture = Fixture::new(&engine);
    engine.fail_writes(Some(full()));
    fixture.disk.commit(BatchId(1), put("a", "1"));
    fixture.until(|inputs| !inputs.is_empty());
    engine.fail_writes(Some(StorageError::Io("gone".to_owned())));
    let inputs = fixture.until(|inputs| matches!(inputs.last(), Some(Input::DiskFailed(_))));
    assert!(durable(&inputs).is_none(), "{inputs:?}");
}

#[test]
fn a_disk_that_is_full_can_be_closed() {
    let engine = Arc::new(FaultyEngine::new(MemoryEngine::new(None)));
    let mut fixture = Fixture::new(&engine);
    engine.fail_writes(Some(full()));
    fixture.disk.commit(BatchId(1), put("a", "1"));
    fixture.until(|inputs| !inputs.is_empty());
    drop(fixture.disk);
    assert_eq!(engine.batches(), 0);
}

#[test]
fn low_and_exhausted_are_told_as_one_word() {
    let engine = Arc::new(FaultyEngine::new(MemoryEngine::new(None)));
    let mut fixture = Fixture::new(&engine);
    let room = fixture.disk.room();
    room.set_low(true);
    engine.fail_writes(Some(full()));
    fixture.disk.commit(BatchId(1), put("a", "1"));
    fixture.until(|inputs| inputs.len() == 2);
    engine.fail_writes(None);
    let inputs = fixture.until(|inputs| durable(inputs).is_some());
    assert!(matches!(&inputs[0], Input::DiskRoom(DiskRoom::Low)), "{inputs:?}");
    room.set_low(false);
    let inputs = fixture.until(|inputs| !inputs.is_empty());
    assert!(matches!(&inputs[..], [Input::DiskRoom(DiskRoom::Enough)]), "{inputs:?}");
}

#[test]
fn dropping_the_disk_commits_what_is_queued() {
    let engine = SlowEngine::new(5);
    let mut fixture = Fixture::new(&engine);
    for number in 1..=600 {
        fixture.disk.commit(BatchId(number), put(&format!("k{number}"), "v"));
    }
    drop(fixture.disk);
    assert_eq!(engine.batches.load(Ordering::SeqCst), 600);
    assert_eq!(engine.applies.load(Ordering::SeqCst), 3, "at most 256 batches a group");
}

fn put_meta(key: &[u8]) -> Batch {
    let (key, value) = (Bytes::copy_from_slice(key), Bytes::from_static(b"1"));
    vec![Write::Put { family: Family::Meta, key, value }]
}

#[test]
fn at_intervals_what_is_written_counts_and_is_synced_later() {
    let engine = SlowEngine::new(0);
    let mut fixture = Fixture::with(&engine, Syncing::Interval(Duration::from_millis(20)));
    let mut batch = put("a", "1");
    batch.extend(put_meta(META_BATCH));
    fixture.disk.commit(BatchId(1), batch);
    fixture.until(|inputs| durable(inputs) == Some(BatchId(1)));
    assert_eq!(engine.synced.load(Ordering::SeqCst), 0, "acknowledged once written");
    fixture.until(|_| engine.syncs.load(Ordering::SeqCst) == 1);
    std::thread::sleep(Duration::from_millis(100));
    assert_eq!(engine.syncs.load(Ordering::SeqCst), 1, "nothing was written since");
}

#[test]
fn much_that_is_written_is_synced_before_the_interval_has_passed() {
    for syncing in [Syncing::Interval(Duration::from_mins(1)), Syncing::LeftToSystem] {
        let engine = SlowEngine::new(0);
        let mut fixture = Fixture::with(&engine, syncing);
        let value = "v".repeat(100 << 10);
        for number in 1..=10 {
            fixture.disk.commit(BatchId(number), put("a", &value));
        }
        fixture.until(|inputs| durable(inputs) == Some(BatchId(10)));
        std::thread::sleep(Duration::from_millis(50));
        assert_eq!(engine.syncs.load(Ordering::SeqCst), 0, "not a MiB yet");
        for more in 1..=3 {
            for number in 1..=11 {
                let id = u64::try_from(20 * more + number).unwrap();
                fixture.disk.commit(BatchId(id), put("a", &value));
            }
            fixture.until(|_| engine.syncs.load(Ordering::SeqCst) == more);
        }
    }
}

#[test]
fn what_says_who_a_node_is_is_synced_before_it_counts() {
    for (number, syncing) in
        [Syncing::Interval(Duration::from_mins(1)), Syncing::LeftToSystem].into_iter().enumerate()
    {
        let engine = SlowEngine::new(0);
        let mut fixture = Fixture::with(&engine, syncing);
        fixture.disk.commit(BatchId(1), put("a", "1"));
        fixture.until(|inputs| durable(inputs) == Some(BatchId(1)));
        assert_eq!(engine.synced.load(Ordering::SeqCst), 0, "{number}");
        fixture.disk.commit(BatchId(2), put_meta(META_CLOCK_BOUND));
        fixture.until(|inputs| durable(inputs) == Some(BatchId(2)));
        assert_eq!(engine.synced.load(Ordering::SeqCst), 1, "{number}");
        drop(fixture.disk);
        assert_eq!(engine.syncs.load(Ordering::SeqCst), 1, "who stops in order loses nothing");
    }
}

#[test]
fn a_sync_that_fails_in_the_background_stops_the_node() {
    let engine = SlowEngine::new(0);
    let mut fixture = Fixture::with(&engine, Syncing::Interval(Duration::from_millis(20)));
    engine.sync_fails.store(true, Ordering::SeqCst);
    fixture.disk.commit(BatchId(1), put("a", "1"));
    let failed = |inputs: &[Input]| matches!(inputs.last(), Some(Input::DiskFailed(why)) if why.contains("fdatasync"));
    fixture.until(failed);
    engine.sync_fails.store(false, Ordering::SeqCst);
    fixture.disk.commit(BatchId(2), put("a", "2"));
    fixture.disk.commit(BatchId(3), put_meta(META_CLOCK_BOUND));
    let syncs = engine.syncs.load(Ordering::SeqCst);
    drop(fixture.disk);
    assert_eq!(engine.applies.load(Ordering::SeqCst), 1, "nothing is written after it");
    assert_eq!(engine.syncs.load(Ordering::SeqCst), syncs, "and nothing synced");
    let mut inputs = Vec::new();
    fixture.inbox.take(&mut inputs);
    assert!(inputs.is_empty(), "once is enough: {inputs:?}");
}

#[test]
fn a_slow_disk_is_slow_for_reads_of_it_and_commits_alone() {
    let engine = Arc::new(FaultyEngine::new(MemoryEngine::new(None)));
    let mut fixture = Fixture::new(&engine);
    let slowness = fixture.disk.slowness();
    for (number, read_ms, commit_ms) in [(1, 40, 0), (2, 0, 40)] {
        slowness.set(read_ms, commit_ms);
        let begun = std::time::Instant::now();
        fixture.disk.commit(BatchId(number), put("a", "1"));
        fixture.disk.load(ReadId(number), Family::Data, Bytes::from_static(b"b"));
        let inputs = fixture.until(|inputs| inputs.len() == 2);
        let is_commit_first = matches!(inputs[..], [Input::Durable(_), Input::Loaded(..)]);
        assert_eq!(is_commit_first, read_ms > 0, "{inputs:?}");
        assert!(begun.elapsed() >= Duration::from_millis(40));
    }
    assert_eq!(fixture.readings, 2);
}

#[test]
fn an_engine_in_memory_answers_at_once() {
    let inbox = Rc::<Inbox>::default();
    let mut disk = Disk::inline(SlowEngine::new(0), Rc::clone(&inbox));
    disk.commit(BatchId(1), put("a", "1"));
    disk.load(ReadId(1), Family::Data, Bytes::from_static(b"a"));
    let mut inputs = Vec::new();
    inbox.take(&mut inputs);
    assert!(
        matches!(&inputs[..], [Input::Durable(_), Input::Loaded(_, Ok(Some(value)))] if value == "1"),
        "{inputs:?}"
    );
}
