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
        // Decoders and joins come in order.
        if self.entries.last().is_none_or(|&(last, _)| last < dot.actor) {
            return self.entries.push((dot.actor, dot.counter));
        }
        match self.position(dot.actor) {
            Ok(at) => self.entries[at].1 = self.entries[at].1.max(dot.counter),
            Err(at) => self.entries.insert(at, (dot.actor, dot.counter)),
        }
    }

    /// Adds all that `other` has seen.
    pub fn merge(&mut self, other: &Self) {
        if self.descends(other) {
            return;
        }
        let mut both = Self { entries: Vec::with_capacity(self.len() + other.len()) };
        let (mut ours, mut theirs) =
            (self.entries.iter().peekable(), other.entries.iter().peekable());
        while let (Some(&&(mine, _)), Some(&&(yours, _))) = (ours.peek(), theirs.peek()) {
            let next = if mine <= yours { ours.next() } else { theirs.next() };
            both.extend(next);
        }
        both.extend(ours);
        both.extend(theirs);
        *self = both;
        debug_assert!(self.descends(other), "a merged vector lost history");
    }

    /// Forgets actors altogether. Only whoever knows that nobody holds a write of theirs any more may do so.
    pub fn retain(&mut self, mut keep: impl FnMut(Actor) -> bool) {
        self.entries.retain(|&(actor, _)| keep(actor));
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

    fn extend<'a>(&mut self, entries: impl IntoIterator<Item = &'a (Actor, u64)>) {
        entries.into_iter().for_each(|&(actor, counter)| self.insert(Dot { actor, counter }));
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::NodeId;
    use crate::clock::Epoch;

    fn vector() -> impl Strategy<Value = VersionVector> {
        let dot = (0_u64..4, 0_u32..2, 1_u64..5).prop_map(|(node, serial, counter)| {
            let epoch = Epoch { run: node, serial };
            Dot { actor: Actor { node: NodeId(node), epoch }, counter }
        });
        prop::collection::vec(dot, 0..8).prop_map(|dots| dots.into_iter().collect())
    }

    fn merged(a: &VersionVector, b: &VersionVector) -> VersionVector {
        let mut both = a.clone();
        both.merge(b);
        both
    }

    proptest! {
        #[test]
        fn merge_is_the_least_upper_bound(a in vector(), b in vector(), c in vector()) {
            prop_assert_eq!(merged(&a, &a), a.clone());
            prop_assert_eq!(merged(&a, &b), merged(&b, &a));
            prop_assert_eq!(merged(&merged(&a, &b), &c), merged(&a, &merged(&b, &c)));
            prop_assert!(merged(&a, &b).descends(&a));
            if c.descends(&a) && c.descends(&b) {
                prop_assert!(c.descends(&merged(&a, &b)), "nothing beyond both was added");
            }
        }

        #[test]
        fn comparison_is_a_partial_order(a in vector(), b in vector(), c in vector()) {
            let expected = match a.compare(&b) {
                Causality::Equal => Causality::Equal,
                Causality::Ancestor => Causality::Descendant,
                Causality::Descendant => Causality::Ancestor,
                Causality::Concurrent => Causality::Concurrent,
            };
            prop_assert_eq!(b.compare(&a), expected);
            prop_assert_eq!(a.compare(&b) == Causality::Equal, a == b);
            if a.descends(&b) && b.descends(&c) {
                prop_assert!(a.descends(&c));
            }
        }

        #[test]
        fn a_dot_is_contained_exactly_up_to_its_counter(a in vector(), node in 0_u64..4, counter in 1_u64..6) {
            let dot = Dot { actor: Actor { node: NodeId(node), epoch: Epoch { run: node, serial: 0 } }, counter };
            prop_assert_eq!(a.contains(dot), a.get(dot.actor) >= counter);
            let mut with = a.clone();
            with.insert(dot);
            prop_assert!(with.contains(dot) && with.descends(&a));
        }
    }
}
