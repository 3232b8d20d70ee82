//! Version vectors: how much of each actor's writes somebody has seen (Parker et al., 1983).

use crate::clock::{Actor, Dot};

/// How two vectors relate. The four cases are exact: nothing is guessed from wall clocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Causality {
    /// The same history.
    Equal,
    /// Everything here is known there, and more.
    Ancestor,
    /// Everything there is known here, and more.
    Descendant,
    /// Each knows something that the other does not.
    Concurrent,
}

/// For each actor the highest counter seen; all lower ones are seen as well.
///
/// Kept sorted by actor in one small vector: contexts have a handful of entries, and a sorted list merges in one pass.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct VersionVector {
    entries: Vec<(Actor, u64)>,
}

impl VersionVector {
    /// Has seen nothing.
    pub fn new() -> Self {
        Self::default()
    }

    /// The highest counter seen of `actor`, 0 for none.
    pub fn get(&self, actor: Actor) -> u64 {
        self.position(actor).map_or(0, |at| self.entries[at].1)
    }

    /// Whether the write named by `dot` has been seen.
    pub fn contains(&self, dot: Dot) -> bool {
        self.get(dot.actor) >= dot.counter
    }

    /// Adds `dot` and all writes of its actor before it.
    pub fn insert(&mut self, dot: Dot) {
        match self.position(dot.actor) {
            Ok(at) => self.entries[at].1 = self.entries[at].1.max(dot.counter),
            Err(at) => self.entries.insert(at, (dot.actor, dot.counter)),
        }
    }

    /// Adds all that `other` has seen.
    pub fn merge(&mut self, other: &Self) {
        for &(actor, counter) in &other.entries {
            self.insert(Dot { actor, counter });
        }
        debug_assert!(self.descends(other), "a merged vector lost history");
    }

    /// Whether everything `other` has seen is seen here.
    pub fn descends(&self, other: &Self) -> bool {
        other.entries.iter().all(|&(actor, counter)| self.get(actor) >= counter)
    }

    /// How this vector stands to `other`.
    pub fn compare(&self, other: &Self) -> Causality {
        match (self.descends(other), other.descends(self)) {
            (true, true) => Causality::Equal,
            (true, false) => Causality::Descendant,
            (false, true) => Causality::Ancestor,
            (false, false) => Causality::Concurrent,
        }
    }

    /// Actors and their counters, in the order of actors.
    pub fn entries(&self) -> &[(Actor, u64)] {
        &self.entries
    }

    /// How many actors are known.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether nothing has been seen.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    fn position(&self, actor: Actor) -> Result<usize, usize> {
        self.entries.binary_search_by_key(&actor, |&(known, _)| known)
    }
}

impl FromIterator<Dot> for VersionVector {
    fn from_iter<I: IntoIterator<Item = Dot>>(dots: I) -> Self {
        let mut vector = Self::new();
        dots.into_iter().for_each(|dot| vector.insert(dot));
        vector
    }
}
