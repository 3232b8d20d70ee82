//! From a key's hash to its place: eight bytes an entry and one cache line a look, by open addressing with linear
//! probing (Knuth, *The Art of Computer Programming* 6.4). What is found is a candidate: different keys may share a hash, and
//! whoever looks compares.
//!
//! A table that has become too small moves into one of twice the size a few cells at each insertion, as in Redis: at once
//! it would keep everybody waiting for as long as the processor waits for that many lines of memory, a second for six
//! million entries. Until all have moved, looks go to both.

/// Part of a key's hash: where the search begins, and what tells entries apart without looking at their keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Tag(pub(super) u32);

/// Places of entries, by the tags of their keys.
#[derive(Debug)]
pub(super) struct Index {
    table: Table,
    /// The table that was too small, and how many of its cells have been looked through.
    before: Option<(Table, usize)>,
    /// Entries in both.
    len: usize,
}

/// Tags, and places plus one; the length is a power of two. Never full, so that a search ends.
#[derive(Debug)]
struct Table(Vec<(u32, u32)>);

/// What a cell holds that nothing was ever in. Zero, so that a large table costs nothing until it is used.
const VACANT: u32 = 0;

/// What a cell of the table before holds when its entry has gone: searches go on behind it.
const GONE: u32 = u32::MAX;

const CELLS_MIN: usize = 16;

/// Cells that an insertion looks through in the table before. Two would be enough: a table has doubled when as many have
/// been inserted as were there, and that is three quarters of the cells before.
const STEP_CELLS: usize = 16;

impl Table {
    fn new(cells: usize) -> Self {
        Self(vec![(0, VACANT); cells])
    }

    fn home(&self, tag: Tag) -> usize {
        tag.0 as usize & (self.0.len() - 1)
    }

    fn next(&self, cell: usize) -> usize {
        (cell + 1) & (self.0.len() - 1)
    }

    /// The cell of an entry with this tag for which `is_it` holds, or else the vacant one where it would be.
    fn cell(&self, tag: Tag, is_it: impl Fn(u32) -> bool) -> usize {
        let mut cell = self.home(tag);
        loop {
            match self.0[cell] {
                (_, VACANT) => return cell,
                (known, held) if known == tag.0 && held != GONE && is_it(held - 1) => return cell,
                _ => cell = self.next(cell),
            }
        }
    }

    fn find(&self, tag: Tag, is_it: impl Fn(u32) -> bool) -> Option<u32> {
        self.0[self.cell(tag, is_it)].1.checked_sub(1)
    }

    fn insert(&mut self, tag: Tag, place: u32) {
        let cell = self.cell(tag, |other| other == place);
        assert!(self.0[cell].1 == VACANT, "a place is added once");
        self.0[cell] = (tag.0, place + 1);
    }

    /// Removes what is in a cell of a table in which nothing has `GONE`.
    fn vacate(&mut self, cell: usize) {
        let mut gap = cell;
        // Those behind the gap that it would hide from their searches move up (Knuth, volume 3, algorithm 6.4 R).
        let mut cell = self.next(gap);
        while self.0[cell].1 != VACANT {
            let home = self.home(Tag(self.0[cell].0));
            let mask = self.0.len() - 1;
            if cell.wrapping_sub(home) & mask >= cell.wrapping_sub(gap) & mask {
                self.0[gap] = self.0[cell];
                gap = cell;
            }
            cell = self.next(cell);
        }
        self.0[gap] = (0, VACANT);
    }
}

impl Default for Index {
    fn default() -> Self {
        Self { table: Table::new(CELLS_MIN), before: None, len: 0 }
    }
}

impl Index {
    /// Bytes an entry takes on average: cells are between three eighths and three quarters full.
    pub(super) const ENTRY_BYTES: usize = 2 * size_of::<(u32, u32)>();

    /// The place with this tag for which `is_it` holds.
    pub(super) fn find(&self, tag: Tag, is_it: impl Fn(u32) -> bool) -> Option<u32> {
        let found = self.table.find(tag, &is_it);
        found.or_else(|| self.before.as_ref()?.0.find(tag, is_it))
    }

    /// Adds a place that is not there.
    pub(super) fn insert(&mut self, tag: Tag, place: u32) {
        assert!(place < GONE - 1, "an entry has a place");
        if 4 * (self.len + 1) > 3 * self.table.0.len() {
            assert!(self.before.is_none(), "all have moved by the time that as many have come");
            let wider = Table::new(2 * self.table.0.len());
            self.before = Some((std::mem::replace(&mut self.table, wider), 0));
        }
        self.move_some();
        self.table.insert(tag, place);
        self.len += 1;
    }

    /// Removes a place that is there.
    pub(super) fn remove(&mut self, tag: Tag, place: u32) {
        self.len -= 1;
        let cell = self.table.cell(tag, |other| other == place);
        if self.table.0[cell].1 != VACANT {
            return self.table.vacate(cell);
        }
        let (before, _) = self.before.as_mut().expect("what is removed is there");
        let cell = before.cell(tag, |other| other == place);
        assert!(before.0[cell].1 != VACANT, "what is removed is there");
        before.0[cell].1 = GONE;
    }

    /// Moves what the next cells of the table before hold.
    fn move_some(&mut self) {
        let Some((before, looked)) = &mut self.before else { return };
        let end = before.0.len().min(*looked + STEP_CELLS);
        for (tag, held) in &mut before.0[*looked..end] {
            if !matches!(*held, VACANT | GONE) {
                self.table.insert(Tag(*tag), *held - 1);
                *held = GONE;
            }
        }
        *looked = end;
        if end == before.0.len() {
            self.before = None;
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
            begun in 0_u32..200,
        ) {
            let mut index = Index::default();
            let mut there = std::collections::BTreeMap::new();
            // Others, so that tables of many sizes are on the move.
            for place in 1_000..1_000 + begun {
                index.insert(Tag(place.wrapping_mul(0x9e37_79b9)), place);
                there.insert(place, Tag(place.wrapping_mul(0x9e37_79b9)));
            }
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

    #[test]
    fn it_grows_a_few_cells_at_a_time() {
        let mut index = Index::default();
        let tag = |place: u32| Tag(place.wrapping_mul(0x9e37_79b9));
        let mut moving = 0;
        for place in 0..10_000 {
            index.insert(tag(place), place);
            moving += usize::from(index.before.is_some());
            if place % 3 == 0 {
                index.remove(tag(place / 2), place / 2);
                index.insert(tag(place / 2), place / 2);
            }
        }
        assert!((0..10_000).all(|place| index.find(tag(place), |at| at == place) == Some(place)));
        assert!(moving > 500, "{moving} insertions met two tables");
        assert!(4 * index.len <= 3 * index.table.0.len());
    }
}
