//! The rule of reclaiming at work in RocksDB.
//!
//! Every compaction of [`Family::Data`] shows its entries to the rule and drops what the rule removes. Replacements
//! take a longer way: the filter cannot hand RocksDB a value of its own making without leaking it, so it only notes
//! the key; [`Reclaimer::carry_out`] (behind [`crate::Engine::reclaim`]) judges what is stored *then* and writes the
//! replacement like any other write.
//!
//! Invariants:
//! - A replacement never overwrites a value that was written after it was judged. While a pass runs, writers announce
//!   their keys, and the pass leaves those alone.
//! - A writer waits for a pass only while it writes its replacements, a few hundred small values without a sync.
//! - What is noted is bounded; what is not noted is found again by a later compaction.
//! - A panic of the rule stays here: it is counted, its entry is kept, and the compaction goes on without the rule.

use std::collections::BTreeSet;
use std::ffi::CStr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard};

use bytes::Bytes;
use rocksdb::compaction_filter::CompactionFilter;
use rocksdb::compaction_filter_factory::{CompactionFilterContext, CompactionFilterFactory};
use rocksdb::{CompactionDecision, WriteBatch};

use super::RocksEngine;
use super::pacing::{Pacing, Steps};
use crate::{Batch, Durability, Engine, Family, Reclaim, ReclaimRule, StorageError, Write};

/// Bytes of noted keys, about 100,000 of them.
const NOTED_BYTES_MAX: usize = 8 << 20;
/// What a noted key costs besides its bytes.
const NOTED_OVERHEAD_BYTES: usize = 48;
/// Replacements in one write: bounds how long a writer can wait for a pass.
const REPLACEMENTS_PER_WRITE_MAX: usize = 256;

const NAME: &CStr = c"moim-reclaim";

/// The rule, what it has found, and how replacing and writing keep out of each other's way.
pub(super) struct Reclaimer {
    rule: ReclaimRule,
    noted: Mutex<Noted>,
    /// Held through a pass: two passes would not see each other's writes.
    pass: Mutex<()>,
    /// Shared by writers for the length of a write; a pass takes it alone when it begins and when it writes.
    gate: RwLock<()>,
    /// What writers have announced since the pass began; `None` when no pass runs.
    announced: Mutex<Option<Announced>>,
    rule_panics: AtomicU64,
    pacing: Arc<Pacing>,
}

/// Keys that compactions found worth replacing.
#[derive(Default)]
struct Noted {
    keys: BTreeSet<Bytes>,
    bytes: usize,
}

/// What a pass must leave alone.
#[derive(Default)]
struct Announced {
    keys: BTreeSet<Bytes>,
    /// Whether a whole range was written, which spoils the pass: rare, and cheaper than keeping ranges.
    ranges: bool,
}

impl Announced {
    fn add(&mut self, write: &Write) {
        match write {
            Write::Put { family: Family::Data, key, .. }
            | Write::Delete { family: Family::Data, key } => {
                self.keys.insert(key.clone());
            }
            Write::DeleteRange { family: Family::Data, .. } => self.ranges = true,
            _ => {}
        }
    }

    fn allows(&self, key: &[u8]) -> bool {
        !self.ranges && !self.keys.contains(key)
    }
}

impl Reclaimer {
    pub(super) fn new(rule: ReclaimRule, pacing: &Arc<Pacing>) -> Self {
        Self {
            rule,
            noted: Mutex::default(),
            pass: Mutex::default(),
            gate: RwLock::default(),
            announced: Mutex::default(),
            rule_panics: AtomicU64::new(0),
            pacing: Arc::clone(pacing),
        }
    }

    pub(super) fn rule_panics(&self) -> u64 {
        self.rule_panics.load(Ordering::Relaxed)
    }

    /// To be held while `batches` are written.
    pub(super) fn announce(&self, batches: &[Batch]) -> RwLockReadGuard<'_, ()> {
        let gate = self.gate.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(announced) = lock(&self.announced).as_mut() {
            batches.iter().flatten().for_each(|write| announced.add(write));
        }
        gate
    }

    /// To be held while a range is written.
    pub(super) fn announce_range(&self) -> RwLockReadGuard<'_, ()> {
        let gate = self.gate.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(announced) = lock(&self.announced).as_mut() {
            announced.ranges = true;
        }
        gate
    }

    /// Replaces what up to `entries_max` noted keys hold now, as far as the rule still wants it.
    pub(super) fn carry_out(
        &self,
        engine: &RocksEngine,
        entries_max: usize,
    ) -> Result<(), StorageError> {
        let _pass = lock(&self.pass);
        let mut left = entries_max;
        while left > 0 {
            let keys = lock(&self.noted).take(left.min(REPLACEMENTS_PER_WRITE_MAX));
            if keys.is_empty() {
                break;
            }
            left -= keys.len();
            self.begin();
            let judged = self.judge(engine, keys);
            self.finish(engine, judged)?;
        }
        Ok(())
    }

    /// Every write that began before this is visible to the reads that follow; every later one is announced.
    fn begin(&self) {
        let _alone = self.gate.write().unwrap_or_else(PoisonError::into_inner);
        *lock(&self.announced) = Some(Announced::default());
    }

    fn judge(
        &self,
        engine: &RocksEngine,
        keys: Vec<Bytes>,
    ) -> Result<Vec<(Bytes, Reclaim)>, StorageError> {
        let mut judged = Vec::with_capacity(keys.len());
        for key in keys {
            let Some(value) = engine.get(Family::Data, &key)? else { continue };
            match self.verdict(&key, &value).unwrap_or(Reclaim::Keep) {
                Reclaim::Keep => {}
                Reclaim::Replace(with) if with == value => {}
                verdict => judged.push((key, verdict)),
            }
        }
        Ok(judged)
    }

    fn finish(
        &self,
        engine: &RocksEngine,
        judged: Result<Vec<(Bytes, Reclaim)>, StorageError>,
    ) -> Result<(), StorageError> {
        let _alone = self.gate.write().unwrap_or_else(PoisonError::into_inner);
        let announced = lock(&self.announced).take().expect("this pass began");
        let allowed: Vec<_> =
            judged?.into_iter().filter(|(key, _)| announced.allows(key)).collect();
        if allowed.is_empty() {
            return Ok(());
        }
        let data = engine.family(Family::Data);
        let build = || {
            let mut batch = WriteBatch::default();
            for (key, verdict) in &allowed {
                match verdict {
                    Reclaim::Keep => {}
                    Reclaim::Remove => batch.delete_cf(data, key),
                    Reclaim::Replace(value) => batch.put_cf(data, key, value),
                }
            }
            batch
        };
        // No sync: to lose a replacement is to find it again.
        engine.write(build, Durability::Written)
    }

    fn note(&self, key: &[u8]) {
        lock(&self.noted).add(key);
    }

    /// What the rule says, or nothing if it panicked.
    fn verdict(&self, key: &[u8], value: &[u8]) -> Option<Reclaim> {
        let verdict = catch_unwind(AssertUnwindSafe(|| (self.rule)(key, value))).ok();
        if verdict.is_none() {
            self.rule_panics.fetch_add(1, Ordering::Relaxed);
        }
        verdict
    }
}

impl Noted {
    fn add(&mut self, key: &[u8]) {
        let bytes = key.len() + NOTED_OVERHEAD_BYTES;
        if self.bytes + bytes <= NOTED_BYTES_MAX && self.keys.insert(Bytes::copy_from_slice(key)) {
            self.bytes += bytes;
        }
    }

    fn take(&mut self, keys_max: usize) -> Vec<Bytes> {
        let mut taken = Vec::new();
        while taken.len() < keys_max {
            let Some(key) = self.keys.pop_first() else { break };
            self.bytes -= key.len() + NOTED_OVERHEAD_BYTES;
            taken.push(key);
        }
        taken
    }
}

/// Nothing that these locks guard is left half-changed by a panic, so a poisoned one is as good as any.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Gives every compaction a filter of its own: RocksDB runs several at once, and a shared one would have to be locked
/// for each entry.
pub(super) struct ReclaimFactory {
    reclaimer: Arc<Reclaimer>,
}

impl ReclaimFactory {
    pub(super) fn new(reclaimer: &Arc<Reclaimer>) -> Self {
        Self { reclaimer: Arc::clone(reclaimer) }
    }
}

impl CompactionFilterFactory for ReclaimFactory {
    type Filter = ReclaimFilter;

    fn create(&mut self, _context: CompactionFilterContext) -> ReclaimFilter {
        let reclaimer = Arc::clone(&self.reclaimer);
        ReclaimFilter { reclaimer, panicked: false, steps: Steps::default() }
    }

    fn name(&self) -> &CStr {
        NAME
    }
}

/// The rule within one compaction.
pub(super) struct ReclaimFilter {
    reclaimer: Arc<Reclaimer>,
    panicked: bool,
    steps: Steps,
}

impl CompactionFilter for ReclaimFilter {
    fn filter(&mut self, _level: u32, key: &[u8], value: &[u8]) -> CompactionDecision {
        self.steps.add(key.len() + value.len(), &self.reclaimer.pacing);
        if self.panicked {
            return CompactionDecision::Keep;
        }
        match self.reclaimer.verdict(key, value) {
            Some(Reclaim::Keep) => CompactionDecision::Keep,
            Some(Reclaim::Remove) => CompactionDecision::Remove,
            Some(Reclaim::Replace(_)) => {
                self.reclaimer.note(key);
                CompactionDecision::Keep
            }
            None => {
                self.panicked = true;
                CompactionDecision::Keep
            }
        }
    }

    fn name(&self) -> &CStr {
        NAME
    }
}
