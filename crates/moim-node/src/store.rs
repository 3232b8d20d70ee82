//! Objects in memory, writes on their way to the disk, and reads on their way from it.
//!
//! Invariants: an object written here is found here until its batch is durable; while a key is being read from disk,
//! everything that needs it queues behind in order, and what arrives from disk never replaces something newer; memory
//! is bounded by `cache_bytes` and what is not yet durable; every batch carries the Merkle trees' cells that its objects
//! changed, so that trees and objects on disk are always of one moment. Left out: which writes are right (the replica's business).

use std::collections::BTreeMap;
use std::collections::VecDeque;

use bytes::Bytes;
use foldhash::fast::FixedState;
use moim_core::clock::Hlc;
use moim_core::codec::DecodeError;
use moim_core::merkle::{Slice, Trees};
use moim_core::object::{OBJECT_BYTES_MAX, Object};
use moim_storage::{Batch, Family, Write};

use crate::api::{BatchId, Effect, ReadId};
use crate::cache::Cache;
use crate::foresight::Foreseen;
use crate::kept::Kept;
use crate::keyspace::{self, META_BATCH};
use crate::replica::Work;
use crate::views::Figures;

/// Entries looked at for eviction in one insertion, so that a turn stays short.
const EVICTION_STEPS_MAX: usize = 64;

/// An object and its bytes; they share one allocation. A last-writer-wins object may be an outline, whose value is in the
/// bytes alone, where nothing but times and identity is wanted of it: [`Self::whole`] has the value.
#[derive(Clone, Debug)]
pub(crate) struct Stored {
    pub(crate) object: Object,
    pub(crate) encoded: Bytes,
}

impl Stored {
    pub(crate) fn new(object: Object) -> Self {
        let encoded = object.encode();
        // Decoding anew makes the value a slice of the encoded bytes, so that memory holds it once.
        let object = Object::decode(encoded.clone()).unwrap_or(object);
        Self { object, encoded }
    }

    pub(crate) fn decode(encoded: Bytes) -> Result<Self, DecodeError> {
        Object::decode(encoded.clone()).map(|object| Self { object, encoded })
    }

    /// In outline, if the last writer wins: to be joined and kept as it is, which needs no value at hand.
    pub(crate) fn outlined(encoded: Bytes) -> Result<Self, DecodeError> {
        match Object::outline(&encoded).filter(|_| encoded.len() <= OBJECT_BYTES_MAX) {
            Some(object) => Ok(Self { object, encoded }),
            None => Self::decode(encoded),
        }
    }

    /// The object with its value.
    pub(crate) fn whole(&self) -> Object {
        match &self.object {
            Object::Lww(_) => Object::decode(self.encoded.clone())
                .expect("its bytes were made of an object, or one was made of them"),
            Object::Siblings(_) => self.object.clone(),
        }
    }
}

/// What is known of a key.
#[derive(Debug)]
pub(crate) enum Looked {
    /// The object, and the batch that an answer reveals.
    Ready(Option<Stored>, BatchId),
    /// It must be read from disk first.
    Absent,
}

/// What a read from disk brought.
#[derive(Debug)]
pub(crate) enum Found {
    /// The object, or that there is none.
    Read(Option<Stored>),
    /// Nothing that can be trusted.
    Unreadable,
}

#[expect(
    clippy::disallowed_types,
    reason = "the hasher is seeded by an argument and the map is never iterated"
)]
type Map<V> = std::collections::HashMap<Bytes, V, FixedState>;

/// Memory of one node's replica.
#[derive(Debug)]
pub(crate) struct Store {
    cache: Cache,
    bytes: u64,
    bytes_max: u64,
    loading: Map<Loading>,
    /// The key that each reads, and when it began.
    reads: BTreeMap<ReadId, (Bytes, Hlc)>,
    next_read: u64,
    batch: Batch,
    batch_bytes: u64,
    next_batch: BatchId,
    unsynced: VecDeque<Unsynced>,
    unsynced_bytes: u64,
    /// Work that waits for reads, over all keys.
    waiting: usize,
    trees: Trees,
}

/// A key that is being read.
#[derive(Debug, Default)]
struct Loading {
    waiting: VecDeque<Work>,
    /// Memory did not answer.
    from_disk: bool,
}

/// A batch on its way to the disk.
#[derive(Debug)]
struct Unsynced {
    id: BatchId,
    bytes: u64,
    since_mono_ms: u64,
}

impl Store {
    /// Batches are counted on from `stored`, the last that the disk kept.
    pub(crate) fn new(seed: u64, bytes_max: u64, stored: BatchId) -> Self {
        let hasher = FixedState::with_seed(seed);
        Self {
            cache: Cache::new(seed),
            bytes: 0,
            bytes_max,
            loading: Map::with_hasher(hasher),
            reads: BTreeMap::new(),
            next_read: 1,
            batch: Batch::new(),
            batch_bytes: 0,
            next_batch: BatchId(stored.0 + 1),
            unsynced: VecDeque::new(),
            unsynced_bytes: 0,
            waiting: 0,
            trees: Trees::default(),
        }
    }

    /// What is known of `key` without the disk. `Absent` also while it is being read.
    pub(crate) fn look(&mut self, key: &Bytes, figures: &mut Figures) -> Looked {
        let Some(at) = self.cache.find(key) else { return Looked::Absent };
        figures.cache_hits += 1;
        let entry = self.cache.get_mut(at);
        entry.used = true;
        Looked::Ready(entry.kept.stored(), entry.batch)
    }

    /// What is known of `key` without the disk, and the batch that an answer reveals; of a last-writer-wins object all
    /// but its value. `None` also while it is being read.
    pub(crate) fn outline(
        &mut self,
        key: &Bytes,
        figures: &mut Figures,
    ) -> Option<(Option<Object>, BatchId)> {
        let at = self.cache.find(key)?;
        figures.cache_hits += 1;
        let entry = self.cache.get_mut(at);
        entry.used = true;
        Some((entry.kept.outline(), entry.batch))
    }

    /// What is in memory of `key`, without counting as use.
    pub(crate) fn peek(&self, key: &Bytes) -> Option<Stored> {
        self.cache.find(key).and_then(|at| self.cache.get(at).kept.stored())
    }

    /// The same without the value, if the last writer wins.
    pub(crate) fn peek_outline(&self, key: &Bytes) -> Option<Object> {
        self.cache.find(key).and_then(|at| self.cache.get(at).kept.outline())
    }

    /// Queues work until `key` has been read; begins to read it if nobody has.
    pub(crate) fn wait(&mut self, key: &Bytes, work: Work, now: Hlc, effects: &mut Vec<Effect>) {
        self.waiting += 1;
        if let Some(loading) = self.loading.get_mut(key) {
            loading.waiting.push_back(work);
            return;
        }
        let id = self.next_read();
        self.reads.insert(id, (key.clone(), now));
        let loading = Loading { waiting: VecDeque::from([work]), from_disk: false };
        self.loading.insert(key.clone(), loading);
        effects.push(Effect::Load(id, Family::Data, key.clone()));
    }

    /// Since when something may wait for a key to be read. Reads are named in the order in which they begin.
    pub(crate) fn oldest_read(&self) -> Option<Hlc> {
        self.reads.first_key_value().map(|(_, &(_, begun))| begun)
    }

    /// Names a read that is not a load of a key.
    pub(crate) fn next_read(&mut self) -> ReadId {
        let id = ReadId(self.next_read);
        self.next_read += 1;
        id
    }

    /// A read waits for the disk.
    pub(crate) fn note_disk(&mut self, id: ReadId) {
        let key = self.reads.get(&id).map(|(key, _)| key);
        if let Some(loading) = key.and_then(|key| self.loading.get_mut(key)) {
            loading.from_disk = true;
        }
    }

    /// A read has ended: keeps what it brought and returns what waited for it.
    pub(crate) fn loaded(&mut self, id: ReadId, found: Found) -> VecDeque<Work> {
        let Some((key, _)) = self.reads.remove(&id) else { return VecDeque::new() };
        let Loading { mut waiting, from_disk } = self.loading.remove(&key).unwrap_or_default();
        self.waiting -= waiting.len();
        if from_disk {
            waiting.iter_mut().for_each(Work::note_disk);
        }
        if let Found::Read(stored) = found {
            assert!(self.cache.find(&key).is_none(), "a key was written while it was being read");
            // Before, so that what was waited for is still there when it is asked for.
            self.evict();
            self.insert(&key, Kept::of(stored), BatchId(0));
        }
        waiting
    }

    /// Writes an object, whose key must have been looked up in this turn: it is in memory at once and in this turn's
    /// batch. Returns the batch.
    pub(crate) fn put(&mut self, key: Bytes, stored: Stored) -> BatchId {
        let value = stored.encoded.clone();
        self.replace(&key, Some(stored));
        self.write(Write::Put { family: Family::Data, key, value });
        self.evict();
        self.next_batch
    }

    /// Removes a key, which must have been looked up in this turn, from memory and with this turn's batch. Returns the
    /// batch.
    pub(crate) fn remove(&mut self, key: &Bytes) -> BatchId {
        self.write(Write::Delete { family: Family::Data, key: key.clone() });
        self.replace(key, None);
        self.next_batch
    }

    /// Puts what is known of a key from this turn on in the place of what was, and keeps the trees in step.
    fn replace(&mut self, key: &Bytes, stored: Option<Stored>) {
        let at = self.cache.find(key);
        let held = at.and_then(|at| self.cache.get(at).kept.outline());
        if let Some((place, hash, user_key)) = keyspace::place_of(key) {
            let new = stored.as_ref().map(|stored| &stored.object);
            self.trees.change(place, (user_key, hash), held.as_ref(), new);
        }
        let (used, kept, batch) = (stored.is_some(), Kept::of(stored), self.next_batch);
        let Some(at) = at else { return self.insert(key, kept, batch) };
        let entry = self.cache.get_mut(at);
        self.bytes = self.bytes + kept.heap_bytes() - entry.kept.heap_bytes();
        (entry.kept, entry.batch, entry.used) = (kept, batch, used);
    }

    /// Adds to this turn's batch. Returns the batch.
    pub(crate) fn write(&mut self, write: Write) -> BatchId {
        if let Write::Put { key, value, .. } = &write {
            self.batch_bytes += (key.len() + value.len()) as u64;
        }
        self.batch.push(write);
        self.next_batch
    }

    /// Ends the turn: hands over its batch, if there is one.
    pub(crate) fn commit(
        &mut self,
        mono_ms: u64,
        effects: &mut Vec<Effect>,
        figures: &mut Figures,
    ) {
        for write in keyspace::cell_writes(self.trees.take_changes()) {
            self.write(write);
        }
        if self.batch.is_empty() {
            return;
        }
        // Each batch carries its own number, so that after a crash the disk says how far it came.
        let (key, number) = (Bytes::from_static(META_BATCH), self.next_batch.0.to_be_bytes());
        let value = Bytes::copy_from_slice(&number);
        self.batch.push(Write::Put { family: Family::Meta, key, value });
        let batch = std::mem::take(&mut self.batch);
        let bytes = std::mem::take(&mut self.batch_bytes);
        let (id, since_mono_ms) = (self.next_batch, mono_ms);
        self.unsynced.push_back(Unsynced { id, bytes, since_mono_ms });
        self.unsynced_bytes += bytes;
        effects.push(Effect::Commit(self.next_batch, batch));
        figures.commits += 1;
        self.next_batch = BatchId(self.next_batch.0 + 1);
    }

    /// With the trees over what the disk kept.
    pub(crate) fn with_trees(self, trees: Trees) -> Self {
        Self { trees, ..self }
    }

    /// The Merkle trees over all objects, those of this turn included.
    pub(crate) fn trees(&self) -> &Trees {
        &self.trees
    }

    /// Expiry slices that end at `wall_ms` or before fall out of the trees.
    pub(crate) fn pass_slices(&mut self, wall_ms: u64) {
        if self.trees.pass(wall_ms) {
            for write in keyspace::passed_writes(wall_ms) {
                self.write(write);
            }
        }
    }

    /// What a message about everything held here reveals: the last batch that there is.
    pub(crate) fn last_batch(&self) -> BatchId {
        if self.batch.is_empty() { BatchId(self.next_batch.0 - 1) } else { self.next_batch }
    }

    /// Counts batches on from above `batch`: others heard that one called durable by an earlier run.
    pub(crate) fn continue_above(&mut self, batch: BatchId) {
        assert!(self.batch.is_empty(), "the batch of a turn has one number");
        self.next_batch = self.next_batch.max(BatchId(batch.0.saturating_add(1)));
        // A batch of this number has to follow: a question reveals the last one there is, and would wait for ever for
        // one that was counted and never committed.
        let (key, number) = (Bytes::from_static(META_BATCH), self.next_batch.0.to_be_bytes());
        self.write(Write::Put {
            family: Family::Meta,
            key,
            value: Bytes::copy_from_slice(&number),
        });
    }

    /// Everything up to `batch` is durable: it may be evicted.
    pub(crate) fn durable_up_to(&mut self, batch: BatchId) {
        while self.unsynced.front().is_some_and(|oldest| oldest.id <= batch)
            && let Some(oldest) = self.unsynced.pop_front()
        {
            self.unsynced_bytes -= oldest.bytes;
        }
        self.evict();
    }

    /// Bytes of writes that wait for their sync.
    pub(crate) fn unsynced_bytes(&self) -> u64 {
        self.unsynced_bytes + self.batch_bytes
    }

    /// How long the oldest batch has waited for its sync, in milliseconds.
    pub(crate) fn sync_behind_ms(&self, mono_ms: u64) -> u64 {
        self.unsynced.front().map_or(0, |oldest| mono_ms.saturating_sub(oldest.since_mono_ms))
    }

    /// How much work waits for reads from disk.
    pub(crate) fn waiting(&self) -> usize {
        self.waiting
    }

    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    pub(crate) fn objects(&self) -> u64 {
        self.cache.len() as u64
    }

    fn insert(&mut self, key: &Bytes, kept: Kept, batch: BatchId) {
        self.bytes += self.cache.insert(key, kept, batch);
    }

    fn evict(&mut self) {
        let durable = self.unsynced.front().map_or(self.next_batch, |oldest| oldest.id);
        for _ in 0..EVICTION_STEPS_MAX {
            if self.bytes <= self.bytes_max {
                return;
            }
            let Some(bytes) = self.cache.step(durable) else { return };
            self.bytes -= bytes;
        }
    }

    /// What follows will read or write these keys: brings what memory knows of them close to the processor.
    pub(crate) fn foresee<'turn>(&self, keys: impl Iterator<Item = &'turn Foreseen>) {
        let foreseen: Vec<_> = keys.collect();
        let keys = foreseen.iter().map(|foreseen| &foreseen.target.data_key);
        let mut written = Vec::new();
        self.cache.foresee(keys, |number, (written_ms, expires_ms)| {
            let Foreseen { target, writes } = foreseen[number];
            if *writes {
                written.push((&target.data_key, Slice::of_life(written_ms, expires_ms)));
            }
        });
        let cell_of = |(key, slice): (&Bytes, Slice)| {
            let (place, hash, _) = keyspace::place_of(key)?;
            Some((place, slice, hash))
        };
        self.trees.foresee(written.into_iter().filter_map(cell_of));
    }
}

#[cfg(test)]
mod tests {
    use moim_core::NamespaceId;
    use moim_core::ring::{PartitionCount, Slot};

    use super::*;
    use crate::replica::Target;

    const BYTES_MAX: u64 = 4 << 20;
    /// Beyond it, because the hand looks at a few entries each time, and has to go round once when all were used.
    const BEYOND_BYTES_MAX: u64 = BYTES_MAX / 16;

    fn target(number: u32) -> Target {
        let key = number.to_be_bytes();
        let partition = PartitionCount::DEFAULT.of(Slot::of_key(&key));
        Target::new(NamespaceId(0), &key, partition)
    }

    #[test]
    fn an_outline_has_the_times_at_hand_and_the_value_in_its_bytes() {
        let stored = cost::stored(7, true);
        let outlined = Stored::outlined(stored.encoded.clone()).unwrap();
        assert_ne!(outlined.object, stored.object, "it has a value at hand");
        assert_eq!(outlined.object.digest(), stored.object.digest());
        assert!(stored.object.covers(&outlined.object) && outlined.object.covers(&stored.object));
        assert_eq!(outlined.whole(), stored.object);
        assert!(Stored::outlined(stored.encoded.slice(..20)).is_err());
        let mut long = stored.encoded.to_vec();
        long.resize(OBJECT_BYTES_MAX + 1, 7);
        assert!(Stored::outlined(long.into()).is_err(), "longer than what may be read back");
    }

    #[test]
    fn what_reads_bring_takes_no_more_than_it_may() {
        let mut store = Store::new(1, BYTES_MAX, BatchId(0));
        let mut effects = Vec::new();
        for number in 0..5_000 {
            let target = target(number);
            let key = target.data_key.clone();
            let stored = cost::stored(u64::from(number), false);
            store.wait(&key, Work::Release { target }, Hlc::default(), &mut effects);
            let Some(Effect::Load(id, ..)) = effects.pop() else { panic!("nothing is read") };
            assert_eq!(store.loaded(id, Found::Read(Some(stored))).len(), 1);
            assert!(store.peek(&key).is_some(), "what was waited for is not there");
            assert!(store.bytes() <= BYTES_MAX + BEYOND_BYTES_MAX, "{}", store.bytes());
        }
        assert!(store.bytes() > BYTES_MAX / 2, "what fits stays");
    }
}

#[cfg(test)]
mod cost {
    //! What the trees cost: `cargo test --release -p moim-node --lib cost -- --ignored --nocapture`.

    use std::hint::black_box;

    use moim_core::NodeId;
    use moim_core::clock::{Actor, Dot, Epoch, Hlc};
    use moim_core::object::{Content, Version};
    use moim_storage::memory::MemoryEngine;
    use moim_storage::{Durability, Engine};

    use super::*;

    const KEYS: u64 = 50_000;
    const ROUNDS: u64 = 8;
    const PER_TURN: u64 = 32;
    const TTL_MS: u64 = 28 * 60_000;

    pub(super) fn stored(at: u64, expires: bool) -> Stored {
        let written_ms = 1_700_000_000_000 + at * 5;
        let actor = Actor { node: NodeId(7), epoch: Epoch { run: 9, serial: 0 } };
        Stored::new(Object::Lww(Version {
            written: Hlc::from_millis(written_ms),
            dot: Dot { actor, counter: at + 1 },
            created_ms: written_ms,
            expires_ms: if expires { written_ms + TTL_MS } else { 0 },
            content: Content::Value(Bytes::from(vec![7; 2_048])),
        }))
    }

    /// Keys spread over 4096 partitions, or over a number that no partition has, so that no tree counts them.
    fn keys(count: bool) -> Vec<Bytes> {
        let key = |number: u64| {
            let key = format!("session:{number}");
            let slot = moim_core::ring::Slot::of_key(key.as_bytes());
            let partition = moim_core::ring::PartitionCount::DEFAULT.of(slot);
            let persisted =
                keyspace::data_key(partition, moim_core::NamespaceId(0), key.as_bytes());
            if count { persisted } else { [&[0xff, 0xff], &persisted[2..]].concat().into() }
        };
        (0..KEYS).map(key).collect()
    }

    /// Time that this thread was on a processor, in nanoseconds: what else the machine does is left out.
    fn processor_ns() -> u64 {
        let text = std::fs::read_to_string("/proc/thread-self/schedstat").expect("Linux");
        text.split(' ').next().and_then(|field| field.parse().ok()).expect("a number")
    }

    fn nanoseconds_per_set(keys: &[Bytes], expires: bool) -> u64 {
        let engine = MemoryEngine::new(None);
        let mut store = Store::new(1, u64::MAX, BatchId(0));
        let (mut figures, mut effects) = (Figures::default(), Vec::new());
        for (at, key) in keys.iter().enumerate() {
            store.insert(key, Kept::Nothing, BatchId(0));
            store.put(key.clone(), stored(at as u64, expires));
        }
        store.commit(0, &mut effects, &mut figures);
        effects.clear();
        let objects: Vec<_> = (0..KEYS).map(|at| stored(KEYS + at, expires)).collect();
        let began = processor_ns();
        for at in 0..KEYS * ROUNDS {
            // A stride, so that neighbours in time are none in the map.
            let key = &keys[usize::try_from(at * 7_919 % KEYS).expect("small")];
            black_box(
                store.put(key.clone(), objects[usize::try_from(at % KEYS).expect("small")].clone()),
            );
            if at % PER_TURN == PER_TURN - 1 {
                store.commit(0, &mut effects, &mut figures);
                for effect in effects.drain(..) {
                    let Effect::Commit(id, batch) = effect else { continue };
                    engine.apply(&[batch], Durability::Written).expect("memory does not fail");
                    store.durable_up_to(id);
                }
            }
        }
        (processor_ns() - began) / (KEYS * ROUNDS)
    }

    #[test]
    #[ignore = "a measurement"]
    #[expect(clippy::print_stderr, reason = "its result")]
    fn of_the_trees_per_set() {
        let (counted, uncounted) = (keys(true), keys(false));
        for expires in [false, true] {
            let with = (0..3).map(|_| nanoseconds_per_set(&counted, expires)).min();
            let without = (0..3).map(|_| nanoseconds_per_set(&uncounted, expires)).min();
            eprintln!("expires {expires}: {with:?} ns a SET with trees, {without:?} ns without");
        }
    }
}
