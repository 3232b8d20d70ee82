//! The table of objects in memory: by key, bounded by whoever uses it, with a hand that chooses what goes.
//!
//! A busy node looks up far more keys than the processor's caches hold, so a look costs what it waits for memory. Hence an
//! entry stands in one place with its key, if that is short; the index is eight bytes an entry, so that a look meets one
//! line of it; and [`Cache::foresee`] looks for many keys at once, so that the waits for all of them are one.
//!
//! Entries stay where they are: a table that has grown is never copied, only its index.

mod index;

use bytes::Bytes;
use foldhash::fast::FixedState;
use moim_core::object::{expiry_of, hlc_of};
use moim_storage::heap::{SHARED_BYTES, block_bytes};

use self::index::Index;
pub(crate) use self::index::Tag;
use crate::api::BatchId;
use crate::kept::Kept;
use std::hash::{BuildHasher as _, Hasher as _};

/// Entries that are allocated together.
const CHUNK_ENTRIES: usize = 512;

/// The longest key that stands in its entry.
const SHORT_BYTES_MAX: usize = 38;

/// A key as an entry keeps it.
#[derive(Debug)]
enum Key {
    Short(u8, [u8; SHORT_BYTES_MAX]),
    Long(Bytes),
}

impl Key {
    fn new(key: &Bytes) -> Self {
        match u8::try_from(key.len()) {
            Ok(length) if key.len() <= SHORT_BYTES_MAX => {
                let mut bytes = [0; SHORT_BYTES_MAX];
                bytes[..key.len()].copy_from_slice(key);
                Self::Short(length, bytes)
            }
            // It stays, and what came with the request does not.
            _ => Self::Long(Bytes::copy_from_slice(key)),
        }
    }

    fn bytes(&self) -> &[u8] {
        match self {
            Self::Short(length, bytes) => &bytes[..usize::from(*length)],
            Self::Long(bytes) => bytes,
        }
    }

    fn heap_bytes(&self) -> usize {
        match self {
            Self::Short(..) => 0,
            Self::Long(bytes) => block_bytes(bytes.len()) + SHARED_BYTES,
        }
    }
}

/// A key's state in memory.
#[derive(Debug)]
pub(crate) struct Entry {
    key: Key,
    tag: Tag,
    pub(crate) kept: Kept,
    /// The last batch that touched it: what an answer about it reveals.
    pub(crate) batch: BatchId,
    /// Used since the hand came by.
    pub(crate) used: bool,
}

impl Entry {
    /// Bytes it takes, its share of the table included.
    pub(crate) fn bytes(&self) -> u64 {
        (ENTRY_BYTES + self.key.heap_bytes()) as u64 + self.kept.heap_bytes()
    }
}

/// Bytes that an entry costs beside what it points to.
const ENTRY_BYTES: usize = size_of::<Option<Entry>>() + Index::ENTRY_BYTES;

/// Where an entry stands, until it is removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct At(u32);

/// See the module's documentation.
#[derive(Debug)]
pub(crate) struct Cache {
    index: Index,
    chunks: Vec<Vec<Option<Entry>>>,
    free: Vec<u32>,
    len: usize,
    hand: u32,
    hasher: FixedState,
}

impl Cache {
    pub(crate) fn new(seed: u64) -> Self {
        Self {
            index: Index::default(),
            chunks: Vec::new(),
            free: Vec::new(),
            len: 0,
            hand: 0,
            hasher: FixedState::with_seed(seed),
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    fn tag(&self, key: &[u8]) -> Tag {
        let mut hasher = self.hasher.build_hasher();
        hasher.write(key);
        let [a, b, c, d, ..] = hasher.finish().to_be_bytes();
        Tag(u32::from_be_bytes([a, b, c, d]))
    }

    fn place(&self, at: u32) -> Option<&Entry> {
        let (chunk, place) = (at as usize / CHUNK_ENTRIES, at as usize % CHUNK_ENTRIES);
        self.chunks.get(chunk)?.get(place)?.as_ref()
    }

    fn place_mut(&mut self, at: u32) -> Option<&mut Option<Entry>> {
        let (chunk, place) = (at as usize / CHUNK_ENTRIES, at as usize % CHUNK_ENTRIES);
        self.chunks.get_mut(chunk)?.get_mut(place)
    }

    /// Where a key is.
    pub(crate) fn find(&self, key: &[u8]) -> Option<At> {
        let is_it = |at| self.place(at).is_some_and(|entry| entry.key.bytes() == key);
        self.index.find(self.tag(key), is_it).map(At)
    }

    pub(crate) fn get(&self, at: At) -> &Entry {
        self.place(at.0).expect("an entry stands where it was found until it is removed")
    }

    pub(crate) fn get_mut(&mut self, at: At) -> &mut Entry {
        let entry = self.place_mut(at.0).and_then(Option::as_mut);
        entry.expect("an entry stands where it was found until it is removed")
    }

    /// Adds a key that is not there; returns the bytes it takes.
    pub(crate) fn insert(&mut self, key: &Bytes, kept: Kept, batch: BatchId) -> u64 {
        assert!(self.find(key).is_none(), "the hand would visit a key twice");
        let tag = self.tag(key);
        let entry = Entry { key: Key::new(key), tag, kept, batch, used: true };
        let bytes = entry.bytes();
        let at = self.take_place();
        *self.place_mut(at).expect("it was just made") = Some(entry);
        self.index.insert(tag, at);
        self.len += 1;
        bytes
    }

    fn take_place(&mut self) -> u32 {
        if let Some(at) = self.free.pop() {
            return at;
        }
        if self.chunks.last().is_none_or(|chunk| chunk.len() == CHUNK_ENTRIES) {
            self.chunks.push(Vec::with_capacity(CHUNK_ENTRIES));
        }
        let chunk = self.chunks.len() - 1;
        let place = self.chunks[chunk].len();
        self.chunks[chunk].push(None);
        u32::try_from(chunk * CHUNK_ENTRIES + place).expect("what memory holds has 32-bit numbers")
    }

    /// Removes what the hand points at; returns the bytes it took.
    fn remove(&mut self, at: At) -> u64 {
        let entry = self.place_mut(at.0).and_then(Option::take);
        let entry = entry.expect("an entry stands where it was found until it is removed");
        self.index.remove(entry.tag, at.0);
        self.free.push(at.0);
        self.len -= 1;
        entry.bytes()
    }

    /// Second chance (CLOCK): moves the hand on by one place. What it meets goes if it is durable and was not used since
    /// the hand came by; returns the bytes that it took. `None` if nothing is there to meet.
    pub(crate) fn step(&mut self, durable: BatchId) -> Option<u64> {
        if self.len == 0 {
            return None;
        }
        let at = self.hand;
        let places = self.chunks.len() * CHUNK_ENTRIES;
        self.hand = if at as usize + 1 >= places { 0 } else { at + 1 };
        let Some(Some(entry)) = self.place_mut(at) else { return Some(0) };
        if entry.batch >= durable || std::mem::take(&mut entry.used) {
            return Some(0);
        }
        Some(self.remove(At(at)))
    }

    /// Brings what is held of these keys close to the processor, all at once: first their lines of the index, then the
    /// entries with the ends of their keys, then the beginnings of what they keep. Changes nothing. `met` is told the times of each write that is
    /// held: when, and its expiry.
    pub(crate) fn foresee<'key>(
        &self,
        keys: impl Iterator<Item = &'key Bytes>,
        mut met: impl FnMut(usize, (u64, u64)),
    ) {
        // Each loop's steps are independent of each other, so that the processor waits for many of them at a time; what
        // they read is summed up, or they would be left out as useless.
        let tags: Vec<Tag> = keys.map(|key| self.tag(key)).collect();
        let places: Vec<Option<u32>> =
            tags.iter().map(|&tag| self.index.find(tag, |_| true)).collect();
        let mut kept = Vec::with_capacity(places.len());
        let mut ends = 0_u8;
        for (number, place) in places.into_iter().enumerate() {
            let Some(entry) = place.and_then(|at| self.place(at)) else { continue };
            ends = ends.wrapping_add(entry.key.bytes().last().copied().unwrap_or_default());
            if let Kept::Encoded(bytes) = &entry.kept {
                kept.push((number, bytes));
            }
        }
        let mut shared = usize::from(ends);
        for (number, bytes) in kept {
            shared += usize::from(bytes.is_unique());
            met(number, (hlc_of(bytes).millis(), expiry_of(bytes)));
        }
        std::hint::black_box(shared);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(number: u32) -> Bytes {
        // Short ones and long ones.
        format!("{number:0width$}", width = if number.is_multiple_of(3) { 60 } else { 8 }).into()
    }

    #[test]
    fn what_was_inserted_is_found_and_what_the_hand_took_is_not() {
        let mut cache = Cache::new(1);
        let mut bytes = 0;
        for number in 0..2_000 {
            let batch = BatchId(u64::from(number % 2) * 9);
            bytes += cache.insert(&key(number), Kept::Nothing, batch);
        }
        assert_eq!(cache.len(), 2_000);
        for number in 0..2_000 {
            let at = cache.find(&key(number)).unwrap();
            assert_eq!(cache.get(at).batch.0, u64::from(number % 2) * 9);
            // The even ones are durable; every other of them has been used.
            cache.get_mut(at).used = number % 4 == 2;
        }
        for _ in 0..4 * CHUNK_ENTRIES {
            bytes -= cache.step(BatchId(9)).unwrap();
        }
        let left: Vec<_> =
            (0..2_000).filter(|&number| cache.find(&key(number)).is_some()).collect();
        assert_eq!(left, (0..2_000).filter(|number| number % 4 != 0).collect::<Vec<_>>());
        cache.foresee(left.iter().map(|&number| key(number)).collect::<Vec<_>>().iter(), |_, _| {
            panic!("nothing is kept")
        });
        // Their places are used again.
        let chunks = cache.chunks.len();
        for number in 2_000..2_500 {
            bytes += cache.insert(&key(number), Kept::Nothing, BatchId(1));
        }
        assert_eq!(cache.chunks.len(), chunks);
        let mut steps = 0;
        while let Some(freed) = cache.step(BatchId(10)) {
            bytes -= freed;
            steps += 1;
        }
        assert_eq!((cache.len(), bytes), (0, 0), "until nothing is left to meet");
        assert!(steps <= 8 * CHUNK_ENTRIES, "two rounds of the hand");
    }
}
