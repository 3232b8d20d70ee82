//! From a key's hash to its place: eight bytes an entry and one cache line a look, by open addressing with linear
//! probing (Knuth, *The Art of Computer Programming* 6.4). What is found is a candidate: different keys may share a hash, and
//! whoever looks compares.

/// Part of a key's hash: where the search begins, and what tells entries apart without looking at their keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Tag(pub(super) u32);

/// Places of entries, by the tags of their keys.
#[derive(Debug)]
pub(super) struct Index {
    /// Tag and place; the length is a power of two. Never full, so that a search ends.
    cells: Vec<(u32, u32)>,
    len: usize,
}

/// The place of nothing.
const VACANT: u32 = u32::MAX;

const CELLS_MIN: usize = 16;

impl Default for Index {
    fn default() -> Self {
        Self { cells: vec![(0, VACANT); CELLS_MIN], len: 0 }
    }
}

impl Index {
    /// Bytes an entry takes on average: cells are between three eighths and three quarters full.
    pub(super) const ENTRY_BYTES: usize = 2 * size_of::<(u32, u32)>();

    fn home(&self, tag: Tag) -> usize {
        tag.0 as usize & (self.cells.len() - 1)
    }

    fn next(&self, cell: usize) -> usize {
        (cell + 1) & (self.cells.len() - 1)
    }

    /// The cell of an entry with this tag for which `is_it` holds, or else the vacant one where it would be.
    fn cell(&self, tag: Tag, is_it: impl Fn(u32) -> bool) -> usize {
        let mut cell = self.home(tag);
        loop {
            let (known, place) = self.cells[cell];
            if place == VACANT || (known == tag.0 && is_it(place)) {
                return cell;
            }
            cell = self.next(cell);
        }
    }

    /// The place with this tag for which `is_it` holds.
    pub(super) fn find(&self, tag: Tag, is_it: impl Fn(u32) -> bool) -> Option<u32> {
        let (_, place) = self.cells[self.cell(tag, is_it)];
        (place != VACANT).then_some(place)
    }

    /// Adds a place that is not there.
    pub(super) fn insert(&mut self, tag: Tag, place: u32) {
        assert!(place != VACANT, "an entry has a place");
        if 4 * (self.len + 1) > 3 * self.cells.len() {
            self.grow();
        }
        let cell = self.cell(tag, |other| other == place);
        assert!(self.cells[cell].1 == VACANT, "a place is added once");
        self.cells[cell] = (tag.0, place);
        self.len += 1;
    }

    /// Removes a place that is there.
    pub(super) fn remove(&mut self, tag: Tag, place: u32) {
        let mut gap = self.cell(tag, |other| other == place);
        assert!(self.cells[gap].1 == place, "what is removed is there");
        self.len -= 1;
        // Those behind the gap that it would hide from their searches move up (Knuth, volume 3, algorithm 6.4 R).
        let mut cell = self.next(gap);
        while self.cells[cell].1 != VACANT {
            let home = self.home(Tag(self.cells[cell].0));
            let mask = self.cells.len() - 1;
            if cell.wrapping_sub(home) & mask >= cell.wrapping_sub(gap) & mask {
                self.cells[gap] = self.cells[cell];
                gap = cell;
            }
            cell = self.next(cell);
        }
        self.cells[gap] = (0, VACANT);
    }

    fn grow(&mut self) {
        let wider = vec![(0, VACANT); 2 * self.cells.len()];
        for (tag, place) in std::mem::replace(&mut self.cells, wider) {
            if place != VACANT {
                let cell = self.cell(Tag(tag), |_| false);
                self.cells[cell] = (tag, place);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn it_is_a_map_however_tags_collide(
            steps in proptest::collection::vec((any::<bool>(), 0_u32..60, 0_u32..7), 1..400),
        ) {
            let mut index = Index::default();
            let mut there = std::collections::BTreeMap::new();
            // Few homes, so that runs grow long, wrap around, and close up.
            let tag_of = |place: u32, spread: u32| Tag((place % 5).wrapping_sub(2) << (4 * spread.min(1)));
            for (add, place, spread) in steps {
                let known = there.get(&place).copied();
                match (add, known) {
                    (true, None) => {
                        let tag = tag_of(place, spread);
                        index.insert(tag, place);
                        there.insert(place, tag);
                    }
                    (false, Some(tag)) => {
                        index.remove(tag, place);
                        there.remove(&place);
                    }
                    _ => {}
                }
                for (&place, &tag) in &there {
                    prop_assert_eq!(index.find(tag, |other| other == place), Some(place));
                }
                for absent in (0..60).filter(|place| !there.contains_key(place)) {
                    let found = index.find(tag_of(absent, 0), |other| other == absent);
                    prop_assert_eq!(found, None);
                }
                prop_assert_eq!(index.len, there.len());
            }
        }
    }
}
