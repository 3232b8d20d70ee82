//! The engine against a model that does one group after the other: with flushes that fail half-way, crashes at any moment,
//! and snapshots that outlive both tables they look at.

mod cleaning;
mod fullness;

use std::ops::Range;
use std::path::Path;
use std::sync::atomic::AtomicUsize;
use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::files::memory::{Fate, MemoryFiles};
use crate::memory::MemoryEngine;

const WHOLE: PageLimit = PageLimit { entries_max: usize::MAX, bytes_max: usize::MAX };
const TOP: &[u8] = &[0xff; 8];

/// Tables that take some families of a run only, and then have no room, as often as they are told to.
struct TornTables {
    inner: MemoryEngine,
    torn: AtomicUsize,
    taken: AtomicUsize,
}

impl TornTables {
    fn new(inner: MemoryEngine) -> Self {
        Self { inner, torn: AtomicUsize::new(0), taken: AtomicUsize::new(0) }
    }
}

impl Tables for TornTables {
    fn ingest(&self, run: &Run<'_>) -> Result<u64, StorageError> {
        if self.torn.load(Ordering::SeqCst) == 0 {
            return self.inner.ingest(run);
        }
        self.torn.fetch_sub(1, Ordering::SeqCst);
        let mut part = Memtable::new(0);
        for family in Family::ALL.into_iter().take(self.taken.load(Ordering::SeqCst)) {
            for (key, value) in run.table.entries(family) {
                part.apply(&match value {
                    None => Write::Delete { family, key },
                    Some(value) => {
                        let value = Bytes::copy_from_slice(value);
                        Write::Put { family, key, value }
                    }
                });
            }
        }
        self.inner.ingest(&Run { table: &part, rule: None, ..*run })?;
        Err(StorageError::Full("half of it fitted".to_owned()))
    }

    fn compact(&self) -> Result<(), StorageError> {
        self.inner.compact()
    }
}

impl Engine for TornTables {
    fn get(&self, family: Family, key: &[u8]) -> Result<Option<Bytes>, StorageError> {
        self.inner.get(family, key)
    }

    fn get_cached(&self, family: Family, key: &[u8]) -> Result<Cached, StorageError> {
        self.inner.get_cached(family, key)
    }

    fn apply(&self, batches: &[Batch], durability: Durability) -> Result<(), StorageError> {
        self.inner.apply(batches, durability)
    }

    fn sync(&self) -> Result<(), StorageError> {
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

type Subject = LsmEngine<MemoryFiles, TornTables>;

fn open_options() -> LsmOptions {
    LsmOptions {
        memtable_bytes: 6 << 10,
        segment_bytes: 8 << 10,
        log_bytes_max: 64 << 10,
        hash_seed: 0,
        rest: Duration::MAX,
    }
}

fn open(files: &MemoryFiles, tables: MemoryEngine) -> Subject {
    LsmEngine::open(files.clone(), TornTables::new(tables), open_options(), None).unwrap()
}

#[derive(Clone, Debug)]
enum Step {
    Apply(Vec<Batch>, Durability),
    Sync,
    Flush,
    /// A flush of which so many families get into the tables.
    Tear(usize),
    DropRange(Family, Vec<u8>, Vec<u8>),
    Crash(Fate, u64),
    Reopen,
}

fn step() -> impl Strategy<Value = Step> {
    let batches = prop::collection::vec(prop::collection::vec(write(), 0..6), 1..4);
    let durability = prop_oneof![2 => Just(Durability::Written), 1 => Just(Durability::Synced)];
    let fate = prop_oneof![1 => Just(Fate::Lost), 1 => Just(Fate::Kept), 3 => Just(Fate::Torn)];
    prop_oneof![
        12 => (batches, durability).prop_map(|(batches, how)| Step::Apply(batches, how)),
        1 => Just(Step::Sync),
        2 => Just(Step::Flush),
        2 => (0..4_usize).prop_map(Step::Tear),
        1 => (family(), key(), key()).prop_map(|(family, a, b)| Step::DropRange(family, a, b)),
        2 => (fate, any::<u64>()).prop_map(|(fate, seed)| Step::Crash(fate, seed)),
        1 => Just(Step::Reopen),
    ]
}

fn write() -> impl Strategy<Value = Write> {
    let value = prop_oneof![6 => 0..40_usize, 1 => 1_000..1_100_usize]
        .prop_flat_map(|bytes| prop::collection::vec(any::<u8>(), bytes));
    prop_oneof![
        6 => (family(), key(), value).prop_map(|(family, key, value)| {
            Write::Put { family, key: key.into(), value: value.into() }
        }),
        2 => (family(), key()).prop_map(|(family, key)| Write::Delete { family, key: key.into() }),
        1 => (family(), key(), key()).prop_map(|(family, from, to)| {
            Write::DeleteRange { family, from: from.into(), to: to.into() }
        }),
    ]
}

fn family() -> impl Strategy<Value = Family> {
    prop::sample::select(&Family::ALL)
}

fn key() -> impl Strategy<Value = Vec<u8>> {
    prop::collection::vec(prop::sample::select(&[0_u8, 1, b'a', 0xff]), 0..4)
}

type State = Vec<Vec<(Bytes, Bytes)>>;

fn state(engine: &dyn Engine, limit: PageLimit) -> State {
    let family = |family| {
        let (mut all, mut from) = (Vec::new(), Vec::new());
        loop {
            let page = engine.scan(family, &from..TOP, limit).unwrap();
            assert!(!page.more || !page.entries.is_empty(), "a page that does not get on");
            all.extend(page.entries);
            if !page.more {
                return all;
            }
            from = [&all.last().unwrap().0[..], &[0]].concat();
        }
    };
    Family::ALL.into_iter().map(family).collect()
}

/// The engine, what it must hold, and what it may have held since the last sync.
struct Play {
    files: MemoryFiles,
    engine: Option<Subject>,
    model: MemoryEngine,
    /// The states after each group since the last sync, that one first.
    possible: Vec<State>,
    limit: PageLimit,
}

impl Play {
    fn new(limit: PageLimit) -> Self {
        let files = MemoryFiles::default();
        let engine = Some(open(&files, MemoryEngine::new(None)));
        let model = MemoryEngine::new(None);
        let possible = vec![state(&model, WHOLE)];
        Self { files, engine, model, possible, limit }
    }

    fn engine(&self) -> &Subject {
        self.engine.as_ref().unwrap()
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::Apply(batches, durability) => self.apply(&batches, durability),
            Step::Sync => {
                self.engine().sync().unwrap();
                self.synced();
            }
            Step::Flush => {
                self.engine().flush().unwrap();
                self.synced();
            }
            Step::Tear(families) => {
                let tables = self.engine().tables();
                tables.taken.store(families, Ordering::SeqCst);
                tables.torn.store(1, Ordering::SeqCst);
                let torn = self.engine().flush();
                if tables.torn.swap(0, Ordering::SeqCst) == 0 {
                    assert!(matches!(torn, Err(StorageError::Full(_))), "{torn:?}");
                    self.synced();
                }
            }
            Step::DropRange(family, from, to) => {
                self.engine().drop_range(family, &from..&to).unwrap();
                self.model.drop_range(family, &from..&to).unwrap();
                self.possible.push(state(&self.model, WHOLE));
                if from < to {
                    self.synced();
                }
            }
            Step::Crash(fate, seed) => self.crash(fate, seed),
            Step::Reopen => {
                let tables = self.engine().tables().inner.contents_clone();
                self.engine = None;
                self.engine = Some(open(&self.files, tables));
                self.synced();
            }
        }
    }

    fn apply(&mut self, batches: &[Batch], durability: Durability) {
        self.engine().apply(batches, durability).unwrap();
        self.model.apply(batches, durability).unwrap();
        self.possible.push(state(&self.model, WHOLE));
        if durability == Durability::Synced {
            self.synced();
        }
    }

    fn synced(&mut self) {
        self.possible.drain(..self.possible.len() - 1);
    }

    /// The machine dies: what comes back is one of the states since the last sync.
    fn crash(&mut self, fate: Fate, mut seed: u64) {
        let tables = self.engine().tables().inner.contents_clone();
        // Closing writes a mark, which no crash does: it goes to a copy.
        let files = self.files.contents_clone();
        self.engine = None;
        self.files = files;
        self.files.crash(fate, |bound| {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963);
            (seed >> 33) % bound
        });
        self.engine = Some(open(&self.files, tables));
        let now = state(self.engine(), WHOLE);
        assert!(self.possible.contains(&now), "none of the states since the last sync is back");
        self.possible = vec![now.clone()];
        self.model = MemoryEngine::new(None);
        for (family, entries) in Family::ALL.into_iter().zip(now) {
            let put = |(key, value)| Write::Put { family, key, value };
            let batch = entries.into_iter().map(put).collect();
            self.model.apply(&[batch], Durability::Synced).unwrap();
        }
    }

    fn compare(&self) {
        let expected = state(&self.model, WHOLE);
        assert_eq!(state(self.engine(), self.limit), expected);
        for (family, entries) in Family::ALL.into_iter().zip(&expected) {
            for (key, value) in entries {
                assert_eq!(self.engine().get(family, key).unwrap().as_ref(), Some(value));
            }
            for key in [&b""[..], b"a", b"\0", b"a\xff"] {
                let held = self.model.get(family, key).unwrap();
                assert_eq!(self.engine().get(family, key).unwrap(), held);
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_engine_is_what_its_groups_make_it(
        steps in prop::collection::vec(step(), 1..40),
        entries_max in 1..9_usize,
        bytes_max in 1..200_usize,
    ) {
        let mut play = Play::new(PageLimit { entries_max, bytes_max });
        for step in steps {
            play.step(step);
            play.compare();
        }
    }

    #[test]
    fn a_snapshot_outlives_the_tables_it_looks_at(
        before in prop::collection::vec(step(), 1..12),
        after in prop::collection::vec(step(), 1..12),
    ) {
        let mut play = Play::new(WHOLE);
        for step in before {
            play.step(step);
        }
        let expected = state(&play.model, WHOLE);
        let engine = play.engine.take().unwrap();
        let snapshot = engine.snapshot();
        for step in after {
            match step {
                Step::Apply(batches, durability) => engine.apply(&batches, durability).unwrap(),
                Step::DropRange(..) | Step::Crash(..) | Step::Reopen => {}
                _ => engine.flush().unwrap(),
            }
            for (family, entries) in Family::ALL.into_iter().zip(&expected) {
                let page = snapshot.scan(family, b""..TOP, WHOLE).unwrap();
                prop_assert_eq!(&page.entries, entries);
            }
        }
    }
}

fn put(number: u64, bytes: usize) -> Vec<Batch> {
    let (key, value) = (number.to_be_bytes().to_vec().into(), vec![7; bytes].into());
    vec![vec![Write::Put { family: Family::Data, key, value }]]
}

#[test]
fn a_full_disk_refuses_at_the_bound_and_forgets_nothing() {
    let files = MemoryFiles::default();
    let engine = open(&files, MemoryEngine::new(None));
    engine.tables().torn.store(usize::MAX, Ordering::SeqCst);
    let mut written = 0;
    let refused = loop {
        match engine.apply(&put(written, 100), Durability::Synced) {
            Ok(()) => written += 1,
            Err(error) => break error,
        }
    };
    assert!(matches!(refused, StorageError::Full(_)), "{refused}");
    assert_eq!(engine.get(Family::Data, &written.to_be_bytes()).unwrap(), None);
    engine.tables().torn.store(0, Ordering::SeqCst);
    engine.apply(&put(written, 100), Durability::Synced).unwrap();
    for number in 0..=written {
        assert!(engine.get(Family::Data, &number.to_be_bytes()).unwrap().is_some(), "{number}");
    }
}

#[test]
fn what_is_rewritten_all_the_time_stays_in_memory() {
    let files = MemoryFiles::default();
    let engine = open(&files, MemoryEngine::new(None));
    for _ in 0..100 {
        engine.apply(&put(1, 20), Durability::Written).unwrap();
    }
    assert_eq!(engine.tables().get(Family::Data, &1_u64.to_be_bytes()).unwrap(), None);
    assert!(engine.get(Family::Data, &1_u64.to_be_bytes()).unwrap().is_some());
}

#[test]
fn a_thread_flushes_and_writers_wait_for_it_at_the_bound() {
    let files = MemoryFiles::default();
    let mut engine = open(&files, MemoryEngine::new(None));
    engine.start_flusher().unwrap();
    for number in 0..2_000 {
        engine.apply(&put(number, 300), Durability::Written).unwrap();
    }
    engine.flush().unwrap();
    let figures = engine.figures();
    assert_eq!((figures.background_errors, figures.writes_stopped), (0, 0), "{figures:?}");
    assert_eq!(figures.keys_estimate, 2_000);
    for number in 0..2_000_u64 {
        let held = engine.tables().get(Family::Data, &number.to_be_bytes()).unwrap();
        assert!(held.is_some(), "{number}");
    }
}
