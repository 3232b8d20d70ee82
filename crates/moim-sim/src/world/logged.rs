//! The storage engine with a commit log, run beside a simulated disk on files that a crash tears.
//!
//! The disk decides how many batches a crash leaves; the log is given all of them, and its files then lose the first
//! sector of the first record that must be lost, and of what follows whatever chance takes. What the engine recovers from
//! that must be the disk's state, batch for batch. So a run is the same with and without, but for the time it takes.
//!
//! Left out: flipped bits, which end in damage rather than in a state (the engine's own tests have them).

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use moim_node::keyspace;
use moim_storage::files::memory::{Fate, MemoryFiles};
use moim_storage::lsm::{LsmEngine, LsmOptions};
use moim_storage::memory::MemoryEngine;
use moim_storage::{
    Batch, Durability, Engine, Family, PageLimit, Reclaim, ReclaimRule, StorageError, Write,
};

use super::disk::State;
use crate::random::Random;

/// So small that a run fills, flushes and reuses everything many times.
const OPTIONS: LsmOptions = LsmOptions {
    memtable_bytes: 12 << 10,
    segment_bytes: 16 << 10,
    log_bytes_max: 128 << 10,
    hash_seed: 0,
    rest: Duration::MAX,
};

const WHOLE: PageLimit = PageLimit { entries_max: usize::MAX, bytes_max: usize::MAX };
/// Above every key.
const TOP: &[u8] = &[0xff; 64];

/// Wall clock and grace of the latest compaction, in milliseconds.
type Reclaimed = Arc<Mutex<Option<(u64, u64)>>>;

/// The engine of one simulated disk.
pub(crate) struct Logged {
    files: MemoryFiles,
    engine: LsmEngine<MemoryFiles, MemoryEngine>,
    reclaimed: Reclaimed,
    random: Random,
}

impl fmt::Debug for Logged {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Logged").field("figures", &self.engine.figures()).finish_non_exhaustive()
    }
}

impl Logged {
    /// An engine that holds this.
    pub(crate) fn new(state: &State, random: Random) -> Self {
        let (files, reclaimed) = (MemoryFiles::default(), Reclaimed::default());
        let engine = expect(open(&files, MemoryEngine::new(None), &reclaimed));
        let put = |((family, key), value): (&(Family, _), &_)| Write::Put {
            family: *family,
            key: bytes::Bytes::clone(key),
            value: bytes::Bytes::clone(value),
        };
        let batch: Batch = state.iter().map(put).collect();
        expect(engine.apply(&[batch], Durability::Synced));
        Self { files, engine, reclaimed, random }
    }

    /// The same on another disk that holds this.
    pub(crate) fn replaced(self, state: &State) -> Self {
        Self::new(state, self.random)
    }

    /// A sync is over that covered these.
    pub(crate) fn synced(&mut self, batches: &[&Batch]) {
        // In groups of any size, as a committer makes them.
        let mut rest = batches;
        while !rest.is_empty() {
            let (group, others) = rest.split_at(1 + self.random.index(rest.len()));
            let mut group: Vec<Batch> = group.iter().copied().cloned().collect();
            expect(self.engine.exchange(&mut group, Durability::Written));
            rest = others;
        }
        expect(self.engine.sync());
    }

    /// A crash that leaves `kept` of what was not synced, and that state.
    pub(crate) fn crash(self, kept: &[&Batch], lost: &[&Batch], state: &State) -> Self {
        let apply = |batch: &&Batch| {
            expect(self.engine.apply(&[Batch::clone(batch)], Durability::Written));
        };
        kept.iter().for_each(apply);
        let (first_lost, syncs) = (self.files.writes(), self.files.syncs());
        // The process is gone with the machine: nobody closes the log.
        let left = || (self.engine.tables().contents_clone(), self.files.contents_clone());
        let (mut tables, mut files) = left();
        for batch in lost {
            apply(batch);
            // The log begins a new segment, or a table is full and flushed: then this batch would survive.
            if self.files.syncs() > syncs {
                break;
            }
            (tables, files) = left();
        }
        let mut random = self.random;
        files.crash(Fate::TornFrom(first_lost), |below| random.between(0, below - 1));
        let engine = expect(open(&files, tables, &self.reclaimed));
        let recovered = Self { files, engine, reclaimed: self.reclaimed, random };
        recovered.check(state);
        recovered
    }

    /// Gives back what may be given back.
    pub(crate) fn compact(&mut self, wall_ms: u64, grace_ms: u64) {
        let latest = self.latest().map_or(wall_ms, |(latest_ms, _)| latest_ms.max(wall_ms));
        *self.reclaimed.lock().unwrap_or_else(PoisonError::into_inner) = Some((latest, grace_ms));
        expect(self.engine.flush());
        expect(self.engine.reclaim(usize::MAX));
    }

    fn latest(&self) -> Option<(u64, u64)> {
        *self.reclaimed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What may be given back may be there or not: that is the engine's affair, and it differs from the disk's.
    fn check(&self, state: &State) {
        let mut held = State::new();
        for family in Family::ALL {
            let page = expect(self.engine.scan(family, b""..TOP, WHOLE));
            held.extend(page.entries.into_iter().map(|(key, value)| ((family, key), value)));
        }
        let mut wanted = state.clone();
        if let Some((wall_ms, grace_ms)) = self.latest() {
            super::disk::compact(&mut held, wall_ms, grace_ms);
            super::disk::compact(&mut wanted, wall_ms, grace_ms);
        }
        let differs = held.iter().find(|(key, value)| wanted.get(*key) != Some(value));
        assert!(differs.is_none(), "the log brings back {differs:?}");
        let missing = wanted.keys().find(|key| !held.contains_key(*key));
        assert!(missing.is_none(), "the log does not bring back {missing:?}");
    }
}

fn open(
    files: &MemoryFiles,
    tables: MemoryEngine,
    reclaimed: &Reclaimed,
) -> Result<LsmEngine<MemoryFiles, MemoryEngine>, StorageError> {
    let reclaimed = Arc::clone(reclaimed);
    let rule: ReclaimRule = Arc::new(move |_, value| {
        let latest = *reclaimed.lock().unwrap_or_else(PoisonError::into_inner);
        latest.map_or(Reclaim::Keep, |(wall_ms, grace_ms)| {
            keyspace::reclaim(value, wall_ms, grace_ms)
        })
    });
    LsmEngine::open(files.clone(), tables, OPTIONS, Some(rule))
}

fn expect<O>(outcome: Result<O, StorageError>) -> O {
    outcome.unwrap_or_else(|error| panic!("files that only crash, and yet: {error}"))
}
