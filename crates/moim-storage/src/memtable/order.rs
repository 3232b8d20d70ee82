//! The order of a family's keys. A new key is put down as it comes, and sorted in when that makes many, all at once: what
//! is moved then lies side by side. Whoever reads a range meanwhile sorts the few that are in it.
//!
//! Invariant: every key is in one of the two, once.

use std::cmp::Ordering;
use std::iter::Peekable;

use super::entries::{Entries, Entry};
use super::key::Sought;

/// Keys that are sorted in at once, at the least. Tests sort often.
const RECENT_MIN: usize = if cfg!(test) { 4 } else { 4 << 10 };

/// Of a large table, so that each key is moved a bounded number of times.
const RECENT_SHARE: usize = 16;

/// A key: enough of it to tell it from nearly all others, and where all of it lies. There are as many of them as entries:
/// aligned as `u128` wants it a third would be nothing.
#[derive(Clone, Copy, Debug)]
#[repr(Rust, packed(4))]
struct Place {
    prefix: u128,
    position: u32,
}

/// A large table's order grows by this part of it: each key is copied a few times, and little lies idle.
const GROWTH_SHARE: usize = 8;

/// What a key costs here, at the most but for small tables.
pub(super) const PLACE_BYTES: usize = size_of::<Place>() + size_of::<Place>() / GROWTH_SHARE;

/// See the module's documentation.
#[derive(Clone, Debug, Default)]
pub(super) struct Order {
    sorted: Vec<Place>,
    recent: Vec<Place>,
}

impl Order {
    /// Adds a key that is not there.
    pub(super) fn add(&mut self, prefix: u128, position: u32, entries: &Entries) {
        self.recent.push(Place { prefix, position });
        if self.recent.len() >= RECENT_MIN.max(self.sorted.len() / RECENT_SHARE) {
            self.sort_in(entries);
        }
    }

    /// Takes out all keys from `from` up to but not including `to`, and answers their positions, in no order.
    pub(super) fn remove(
        &mut self,
        (from, to): (&Sought<'_>, &Sought<'_>),
        entries: &Entries,
    ) -> Vec<u32> {
        let is_within = |place: &mut Place| place.is_within(from, to, entries);
        let recent = self.recent.extract_if(.., is_within).map(|place| place.position);
        let mut gone: Vec<u32> = recent.collect();
        let range = self.sorted_range(from, to, entries);
        gone.extend(self.sorted.drain(range).map(|place| place.position));
        gone
    }

    /// All entries, in order.
    pub(super) fn all<'a>(&'a self, entries: &'a Entries) -> impl Iterator<Item = &'a Entry> {
        let mut recent = self.recent.clone();
        sort(&mut recent, entries);
        merged(&self.sorted, recent, entries)
    }

    /// The entries from `from` up to but not including `to`, in order; perhaps not those beyond the first `at_most`.
    pub(super) fn within<'a>(
        &'a self,
        (from, to): (&Sought<'_>, &Sought<'_>),
        at_most: usize,
        entries: &'a Entries,
    ) -> impl Iterator<Item = &'a Entry> {
        let recent = self.recent.iter().filter(|place| place.is_within(from, to, entries));
        let mut recent: Vec<Place> = recent.copied().collect();
        if recent.len() > at_most {
            recent.select_nth_unstable_by(at_most, |a, b| a.compare(b, entries));
            recent.truncate(at_most);
        }
        sort(&mut recent, entries);
        merged(&self.sorted[self.sorted_range(from, to, entries)], recent, entries)
    }

    fn sorted_range(
        &self,
        from: &Sought<'_>,
        to: &Sought<'_>,
        entries: &Entries,
    ) -> std::ops::Range<usize> {
        let below = |key| move |place: &Place| place.compare_key(key, entries).is_lt();
        let start = self.sorted.partition_point(below(from));
        start..start + self.sorted[start..].partition_point(below(to))
    }

    /// From the end on, so that nothing is moved before there is room for it.
    fn sort_in(&mut self, entries: &Entries) {
        sort(&mut self.recent, entries);
        let mut left = self.sorted.len();
        if self.sorted.capacity() - left < self.recent.len() {
            self.sorted.reserve_exact(self.recent.len().max(left / GROWTH_SHARE));
        }
        self.sorted.extend_from_slice(&self.recent);
        let mut at = self.sorted.len();
        for place in self.recent.drain(..).rev() {
            while left > 0 && self.sorted[left - 1].compare(&place, entries).is_gt() {
                left -= 1;
                at -= 1;
                self.sorted[at] = self.sorted[left];
            }
            at -= 1;
            self.sorted[at] = place;
        }
    }
}

impl Place {
    fn compare(&self, other: &Self, entries: &Entries) -> Ordering {
        let key = |place: &Self| entries.get(place.position).key.parts();
        { self.prefix }.cmp(&{ other.prefix }).then_with(|| key(self).cmp(&key(other)))
    }

    fn compare_key(&self, key: &Sought<'_>, entries: &Entries) -> Ordering {
        let own = || entries.get(self.position).key.parts();
        { self.prefix }.cmp(&key.prefix()).then_with(|| own().cmp(key))
    }

    fn is_within(&self, from: &Sought<'_>, to: &Sought<'_>, entries: &Entries) -> bool {
        self.compare_key(from, entries).is_ge() && self.compare_key(to, entries).is_lt()
    }
}

fn sort(places: &mut [Place], entries: &Entries) {
    places.sort_unstable_by(|a, b| a.compare(b, entries));
}

/// Two parts that are in order as one.
fn merged<'a>(
    sorted: &'a [Place],
    recent: Vec<Place>,
    entries: &'a Entries,
) -> impl Iterator<Item = &'a Entry> {
    let (mut sorted, mut recent) =
        (sorted.iter().copied().peekable(), recent.into_iter().peekable());
    std::iter::from_fn(move || {
        let place = next_of(&mut sorted, &mut recent, entries)?;
        Some(entries.get(place.position))
    })
}

fn next_of(
    sorted: &mut Peekable<impl Iterator<Item = Place>>,
    recent: &mut Peekable<impl Iterator<Item = Place>>,
    entries: &Entries,
) -> Option<Place> {
    match (sorted.peek(), recent.peek()) {
        (Some(a), Some(b)) if a.compare(b, entries).is_gt() => recent.next(),
        (Some(_), _) => sorted.next(),
        (None, _) => recent.next(),
    }
}
