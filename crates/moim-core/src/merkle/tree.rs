//! The trees of one replica, kept up to date by every write.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::RangeInclusive;

use foldhash::fast::FixedState;

use super::{Slice, entry_hash};
use crate::NamespaceId;
use crate::object::{Object, Version};
use crate::ring::Partition;

/// Groups of leaves in a slice, and leaves in a group of [`Slice::NEVER`]: what one step of a descent compares.
pub const GROUPS: usize = 16;

/// What a tree covers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Place {
    /// One partition…
    pub partition: Partition,
    /// … of one namespace.
    pub namespace: NamespaceId,
}

/// Names a cell. Ordered by when it falls out, so that those that have passed are one range.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CellId {
    /// The expiry slice.
    pub slice: Slice,
    /// The tree.
    pub place: Place,
    /// The leading bits of its keys' hashes.
    pub leaf: u8,
}

/// The sum of entries' hashes, and how many they are. Both wrap.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cell {
    /// Of [`entry_hash`].
    pub sum: u64,
    /// Entries.
    pub count: u64,
}

impl Cell {
    /// Whether it is as if it had never been.
    pub fn is_empty(self) -> bool {
        self == Self::default()
    }

    fn add(&mut self, other: Self) {
        self.sum = self.sum.wrapping_add(other.sum);
        self.count = self.count.wrapping_add(other.count);
    }

    fn negative(self) -> Self {
        Self { sum: self.sum.wrapping_neg(), count: self.count.wrapping_neg() }
    }
}

/// One slice of a tree: never without a cell.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Leaves {
    total: Cell,
    /// By leaf, in order; at most 256.
    cells: Vec<(u8, Cell)>,
}

impl Leaves {
    fn add(&mut self, leaf: u8, cell: Cell) {
        self.total.add(cell);
        match self.find(leaf) {
            Ok(at) => {
                self.cells[at].1.add(cell);
                if self.cells[at].1.is_empty() {
                    self.cells.remove(at);
                }
            }
            Err(_) if cell.is_empty() => {}
            Err(at) => self.cells.insert(at, (leaf, cell)),
        }
    }

    fn cell(&self, leaf: u8) -> Option<Cell> {
        self.find(leaf).ok().map(|at| self.cells[at].1)
    }

    /// About where a leaf is. Leaves are bits of hashes, so they lie where their share of all says: with many cells that
    /// is one line of memory where halving meets four.
    fn likely(&self, leaf: u8) -> usize {
        (usize::from(leaf) * self.cells.len()) >> u8::BITS
    }

    /// Where a leaf is, or belongs.
    fn find(&self, leaf: u8) -> Result<usize, usize> {
        let mut at = self.likely(leaf);
        at += self.cells[at..].iter().take_while(|(other, _)| *other < leaf).count();
        at -= self.cells[..at].iter().rev().take_while(|(other, _)| *other >= leaf).count();
        match self.cells.get(at) {
            Some((found, _)) if *found == leaf => Ok(at),
            _ => Err(at),
        }
    }
}

#[expect(
    clippy::disallowed_types,
    reason = "the hasher's seed is fixed and the map is never iterated"
)]
type Map = std::collections::HashMap<(Place, Slice), Leaves, FixedState>;

/// All trees of one replica.
///
/// A write goes to its slice of its tree at once, because every write does; who goes through a tree in order finds its
/// slices in the index, which changes only when one begins or ends.
#[derive(Clone, Debug, Default)]
pub struct Trees {
    leaves: Map,
    index: BTreeMap<Place, BTreeSet<Slice>>,
    /// Cells in each slice, so that looking for passed ones costs nothing.
    slices: BTreeMap<Slice, usize>,
    passed_ms: u64,
    changed: Vec<CellId>,
}

impl Trees {
    /// Nothing held, and slices that end at `passed_ms` or before have passed for good.
    pub fn new(passed_ms: u64) -> Self {
        Self { passed_ms, ..Self::default() }
    }

    /// A cell as it was stored.
    pub fn restore(&mut self, id: CellId, cell: Cell) {
        self.add(id, cell);
    }

    /// The object of a key has changed.
    pub fn change(
        &mut self,
        place: Place,
        (key, key_hash): (&[u8], u32),
        old: Option<&Object>,
        new: Option<&Object>,
    ) {
        let (old, new) = (versions(old), versions(new));
        if let ([from], [to]) = (old, new)
            && !counts_in(from, new)
            && !counts_in(to, old)
        {
            // The usual write replaces one version, often within its cell: one walk instead of two.
            let (from_id, from) = entry(place, (key, key_hash), from);
            let (id, mut cell) = entry(place, (key, key_hash), to);
            if from_id == id {
                cell.add(from.negative());
            } else {
                self.note(from_id, from.negative());
            }
            return self.note(id, cell);
        }
        for version in old.iter().filter(|version| !counts_in(version, new)) {
            let (id, cell) = entry(place, (key, key_hash), version);
            self.note(id, cell.negative());
        }
        for version in new.iter().filter(|version| !counts_in(version, old)) {
            let (id, cell) = entry(place, (key, key_hash), version);
            self.note(id, cell);
        }
    }

    /// Slices that end at `wall_ms` or before have passed, for good: a clock that goes back does not bring them back.
    /// Answers whether anything fell out.
    pub fn pass(&mut self, wall_ms: u64) -> bool {
        if wall_ms <= self.passed_ms {
            return false;
        }
        self.passed_ms = wall_ms;
        let is_due = |slice: &Slice| slice.has_passed(wall_ms);
        if !self.slices.keys().next().is_some_and(is_due) {
            return false;
        }
        self.slices.retain(|slice, _| !is_due(slice));
        for (&place, tree) in &mut self.index {
            while let Some(slice) = tree.first().copied().filter(is_due) {
                tree.pop_first();
                self.leaves.remove(&(place, slice));
            }
        }
        self.index.retain(|_, tree| !tree.is_empty());
        true
    }

    /// Slices that end here or before have fallen out, in Unix milliseconds.
    pub fn passed_ms(&self) -> u64 {
        self.passed_ms
    }

    /// Cells changed since the last call, in order, with what they hold now.
    pub fn take_changes(&mut self) -> Vec<(CellId, Cell)> {
        let mut ids = std::mem::take(&mut self.changed);
        ids.sort_unstable();
        ids.dedup();
        ids.into_iter().map(|id| (id, self.cell(id))).collect()
    }

    /// One cell.
    pub fn cell(&self, id: CellId) -> Cell {
        let leaves = self.leaves.get(&(id.place, id.slice));
        leaves.and_then(|leaves| leaves.cell(id.leaf)).unwrap_or_default()
    }

    /// Trees of a run of partitions, in order, empty ones left out.
    pub fn places(&self, partitions: RangeInclusive<Partition>) -> impl Iterator<Item = Place> {
        let first = Place { partition: *partitions.start(), namespace: NamespaceId(0) };
        let last = Place { partition: *partitions.end(), namespace: NamespaceId(u32::MAX) };
        self.index.range(first..=last).map(|(&place, _)| place)
    }

    /// Slices of a tree that end after `horizon_ms`, each with its sum.
    pub fn slices(&self, place: Place, horizon_ms: u64) -> impl Iterator<Item = (Slice, Cell)> {
        let slices = self.index.get(&place).into_iter().flatten().copied();
        slices
            .filter(move |slice| !slice.has_passed(horizon_ms))
            .filter_map(move |slice| Some((slice, self.leaves.get(&(place, slice))?.total)))
    }

    /// The root of a tree: the sum of its slices that end after `horizon_ms`.
    pub fn root(&self, place: Place, horizon_ms: u64) -> Cell {
        let mut root = Cell::default();
        self.slices(place, horizon_ms).for_each(|(_, cell)| root.add(cell));
        root
    }

    /// The sums of a slice's groups: group g holds the keys whose hashes begin with the four bits of g.
    pub fn groups(&self, place: Place, slice: Slice) -> [u64; GROUPS] {
        let mut sums = [0_u64; GROUPS];
        let leaves = self.leaves.get(&(place, slice));
        for &(leaf, cell) in leaves.into_iter().flat_map(|leaves| &leaves.cells) {
            let sum = &mut sums[slice.group(leaf)];
            *sum = sum.wrapping_add(cell.sum);
        }
        sums
    }

    /// The sums of the leaves of a group of [`Slice::NEVER`]: leaf l of group g holds the keys whose hashes begin with
    /// the byte 16g + l.
    pub fn leaves(&self, place: Place, group: u8) -> [u64; GROUPS] {
        let mut sums = [0_u64; GROUPS];
        for (sum, low) in sums.iter_mut().zip(0_u8..) {
            let leaf = (group << 4) | low;
            *sum = self.cell(CellId { slice: Slice::NEVER, place, leaf }).sum;
        }
        sums
    }

    /// How many cells are in use.
    pub fn cells(&self) -> usize {
        self.slices.values().sum()
    }

    /// Bytes that they take, roughly: tables and lists are two thirds full.
    pub fn bytes(&self) -> usize {
        const CELL_BYTES: usize = size_of::<(u8, Cell)>();
        const SLICE_BYTES: usize = size_of::<((Place, Slice), Leaves)>() + 2 * size_of::<Slice>();
        (self.cells() * CELL_BYTES + self.leaves.len() * SLICE_BYTES) * 3 / 2
    }

    /// Brings the cells of keys with these hashes close to the processor, all at once: they are about to change.
    pub fn foresee(&self, keys: impl Iterator<Item = (Place, Slice, u32)>) {
        // Steps that do not depend on each other, so that their waits for memory are one.
        let find = |(place, slice, key_hash): (Place, Slice, u32)| {
            Some((self.leaves.get(&(place, slice))?, slice.leaf(key_hash)))
        };
        let leaves: Vec<_> = keys.filter_map(find).collect();
        let cells =
            leaves.iter().filter_map(|(leaves, leaf)| leaves.cells.get(leaves.likely(*leaf)));
        std::hint::black_box(cells.fold(0, |read, (_, cell)| cell.count.wrapping_add(read)));
    }

    fn note(&mut self, id: CellId, cell: Cell) {
        if self.add(id, cell) {
            self.changed.push(id);
        }
    }

    /// Adds to a cell, unless its slice has passed.
    fn add(&mut self, id: CellId, cell: Cell) -> bool {
        if id.slice.has_passed(self.passed_ms) {
            return false;
        }
        let leaves = self.leaves.entry((id.place, id.slice)).or_default();
        let before = leaves.cells.len();
        leaves.add(id.leaf, cell);
        let after = leaves.cells.len();
        if before == 0 {
            self.index.entry(id.place).or_default().insert(id.slice);
        }
        if after == 0 {
            self.end(id.place, id.slice);
        }
        self.count(id.slice, before, after);
        true
    }

    /// A slice of a tree has no cell left.
    fn end(&mut self, place: Place, slice: Slice) {
        self.leaves.remove(&(place, slice));
        if let Some(tree) = self.index.get_mut(&place) {
            tree.remove(&slice);
            if tree.is_empty() {
                self.index.remove(&place);
            }
        }
    }

    fn count(&mut self, slice: Slice, before: usize, after: usize) {
        if before == after {
            return;
        }
        let cells = self.slices.entry(slice).or_default();
        *cells = (*cells + after).saturating_sub(before);
        if *cells == 0 {
            self.slices.remove(&slice);
        }
    }
}

/// Equal when the same is held; what is still to be written out does not matter.
impl PartialEq for Trees {
    fn eq(&self, other: &Self) -> bool {
        (&self.leaves, self.passed_ms) == (&other.leaves, other.passed_ms)
    }
}

fn versions(object: Option<&Object>) -> &[Version] {
    object.map_or(&[], Object::versions)
}

/// Whether a version adds nothing beyond `others`: it has no value, or is among them with its value.
fn counts_in(version: &Version, others: &[Version]) -> bool {
    let same = |other: &Version| {
        other.dot == version.dot && other.written == version.written && other.value().is_some()
    };
    version.value().is_none() || others.iter().any(same)
}

fn entry(place: Place, (key, key_hash): (&[u8], u32), version: &Version) -> (CellId, Cell) {
    let slice = Slice::of(version);
    let id = CellId { slice, place, leaf: slice.leaf(key_hash) };
    (id, Cell { sum: entry_hash(place.namespace, key, version), count: 1 })
}
