//! The entries of a family, each in a line of the processor's caches, at positions that do not change.
//!
//! They lie in pieces, so that a table which grows is never copied.

use super::key::Key;
use super::value::Value;

/// Entries in one piece.
const PIECE_ENTRIES: usize = 1 << 10;

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
}

impl Entries {
    pub(super) fn len(&self) -> usize {
        self.given - self.free.len()
    }

    pub(super) fn get(&self, position: u32) -> &Entry {
        let position = position as usize;
        &self.pieces[position / PIECE_ENTRIES][position % PIECE_ENTRIES]
    }

    pub(super) fn get_mut(&mut self, position: u32) -> &mut Entry {
        let position = position as usize;
        &mut self.pieces[position / PIECE_ENTRIES][position % PIECE_ENTRIES]
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

    /// Gives a position back, and what was there.
    pub(super) fn remove(&mut self, position: u32) -> Entry {
        self.free.push(position);
        std::mem::replace(self.get_mut(position), Entry::nothing())
    }
}

impl Entry {
    /// What lies at a position that nobody asks for.
    fn nothing() -> Self {
        Self { key: Key::new(&super::key::Sought::new(&[])), value: Value::new(None) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_fits_in_a_line() {
        assert_eq!(size_of::<Entry>(), 64);
    }
}
