//! The entries of a family, each in a line of the processor's caches, at positions that do not change.
//!
//! They lie in pieces, so that a table which grows is never copied.
//!
//! A bit beside each says whether it is *stale*: nothing was said of its key since the last mark. All bits of a table lie
//! together, a few kilobytes, so that a write does not wait for its own, and what is stale is found without a look at
//! what is not.

use super::key::Key;
use super::value::Value;

/// Bytes of a piece: what the allocator has blocks of, with room for an entry's alignment.
const PIECE_BYTES: usize = 64 << 10;

/// Entries in one piece.
const PIECE_ENTRIES: usize = PIECE_BYTES / size_of::<Entry>() - 1;

/// One key and what is said of it.
#[derive(Clone, Debug)]
#[repr(align(64))]
pub(super) struct Entry {
    pub(super) key: Key,
    pub(super) value: Value,
}

/// See the module's documentation.
#[derive(Clone, Debug, Default)]
pub(super) struct Entries {
    pieces: Vec<Vec<Entry>>,
    /// Positions that were given back.
    free: Vec<u32>,
    /// Positions ever given.
    given: usize,
    /// A bit for each position that was given before the mark.
    stale: Vec<u64>,
}

/// Bits of a word of [`Entries::stale`].
const WORD_BITS: usize = u64::BITS as usize;

impl Entries {
    pub(super) fn len(&self) -> usize {
        self.given - self.free.len()
    }

    /// Positions ever given.
    pub(super) fn given(&self) -> usize {
        self.given
    }

    /// What lies at each so many-th position.
    pub(super) fn every(&self, step: usize) -> impl Iterator<Item = &Entry> {
        let of_piece = |at: usize| self.pieces[at / PIECE_ENTRIES].get(at % PIECE_ENTRIES);
        (0..self.given).step_by(step).filter_map(of_piece)
    }

    pub(super) fn get(&self, position: u32) -> &Entry {
        let position = position as usize;
        &self.pieces[position / PIECE_ENTRIES][position % PIECE_ENTRIES]
    }

    fn get_mut(&mut self, position: u32) -> &mut Entry {
        let position = position as usize;
        &mut self.pieces[position / PIECE_ENTRIES][position % PIECE_ENTRIES]
    }

    /// Gives an entry this value. Answers what it had, and whether it was stale.
    pub(super) fn replace(&mut self, position: u32, value: Value) -> (Value, bool) {
        let was_stale = self.refresh(position);
        (std::mem::replace(&mut self.get_mut(position).value, value), was_stale)
    }

    /// From now on this one is not stale. Answers whether it was.
    pub(super) fn refresh(&mut self, position: u32) -> bool {
        let (word, bit) = (position as usize / WORD_BITS, 1 << (position as usize % WORD_BITS));
        let Some(word) = self.stale.get_mut(word) else { return false };
        let was_stale = *word & bit != 0;
        *word &= !bit;
        was_stale
    }

    /// From now on all that are here are stale.
    pub(super) fn mark(&mut self) {
        self.stale.clear();
        self.stale.resize(self.given / WORD_BITS, u64::MAX);
        self.stale.push((1 << (self.given % WORD_BITS)) - 1);
        for at in 0..self.free.len() {
            self.refresh(self.free[at]);
        }
    }

    /// The first stale one from this position on.
    pub(super) fn next_stale(&self, from: u32) -> Option<u32> {
        let (first, bit) = (from as usize / WORD_BITS, from as usize % WORD_BITS);
        let rest = self.stale.get(first..)?.iter().enumerate();
        let mut words = rest.map(|(at, word)| match at {
            0 => (first, *word & (u64::MAX << bit)),
            _ => (first + at, *word),
        });
        let (at, word) = words.find(|(_, word)| *word != 0)?;
        u32::try_from(at * WORD_BITS + word.trailing_zeros() as usize).ok()
    }

    /// Keeps an entry and answers where.
    pub(super) fn add(&mut self, entry: Entry) -> u32 {
        if let Some(position) = self.free.pop() {
            *self.get_mut(position) = entry;
            return position;
        }
        match self.pieces.last_mut() {
            Some(piece) if piece.len() < PIECE_ENTRIES => piece.push(entry),
            // Most tables of a family that is hardly used are small.
            None => self.pieces.push(vec![entry]),
            Some(_) => {
                let mut piece = Vec::with_capacity(PIECE_ENTRIES);
                piece.push(entry);
                self.pieces.push(piece);
            }
        }
        self.given += 1;
        u32::try_from(self.given - 1).expect("memory ends long before")
    }

    /// Gives a position back, and what was there. Answers as well whether that was stale.
    pub(super) fn remove(&mut self, position: u32) -> (Entry, bool) {
        self.free.push(position);
        let was_stale = self.refresh(position);
        (std::mem::replace(self.get_mut(position), Entry::nothing()), was_stale)
    }
}

impl Entry {
    /// What lies at a position that nobody asks for.
    fn nothing() -> Self {
        Self { key: Key::new(&super::key::Sought::new(&[])), value: Value::NONE }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_stale_is_what_was_there_and_not_touched_since() {
        for count in [0, 1, 63, 64, 65, 200_u32] {
            let mut entries = Entries::default();
            (0..count).for_each(|at| assert_eq!(entries.add(Entry::nothing()), at));
            let stale = |entries: &Entries| {
                let next = |from: &u32| entries.next_stale(from + 1);
                std::iter::successors(entries.next_stale(0), next).collect::<Vec<_>>()
            };
            assert_eq!(stale(&entries), [0; 0], "nothing was marked yet");
            if count > 2 {
                entries.remove(2);
            }
            entries.mark();
            let all: Vec<_> = (0..count).filter(|at| *at != 2).collect();
            assert_eq!(stale(&entries), all);
            entries.add(Entry::nothing());
            entries.add(Entry::nothing());
            assert_eq!(stale(&entries), all, "what is new is not stale");
            for at in all.iter().step_by(2) {
                assert!(entries.refresh(*at));
                assert!(!entries.refresh(*at));
            }
            let left: Vec<_> = all.into_iter().skip(1).step_by(2).collect();
            assert_eq!(stale(&entries), left);
        }
    }

    #[test]
    fn an_entry_fits_in_a_line() {
        assert_eq!(size_of::<Entry>(), 64);
    }
}
