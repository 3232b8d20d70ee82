//! Ranges of keys that are deleted in all older tables.

use std::collections::BTreeMap;
use std::ops::Bound;

use bytes::Bytes;

/// Ranges of keys, apart from each other: from, to.
#[derive(Clone, Debug, Default)]
pub(crate) struct Ranges(BTreeMap<Bytes, Bytes>);

impl Ranges {
    /// Adds a range that is not empty.
    pub(crate) fn add(&mut self, mut from: Bytes, mut to: Bytes) {
        // Those it touches become one with it: all that begin up to its end, from the last on that begins before it.
        if let Some((start, end)) = self.0.range::<Bytes, _>(..=&from).next_back()
            && *end >= from
        {
            to = to.max(end.clone());
            from = start.clone();
        }
        let touched: Vec<Bytes> =
            self.0.range::<Bytes, _>(&from..=&to).map(|(start, _)| start.clone()).collect();
        for start in touched {
            if let Some(end) = self.0.remove(&start) {
                to = to.max(end);
            }
        }
        self.0.insert(from, to);
    }

    /// All of them, in order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&Bytes, &Bytes)> {
        self.0.iter()
    }

    /// Whether there are none.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether a key is in one of them.
    pub(crate) fn covers(&self, key: &[u8]) -> bool {
        let until_key = (Bound::Unbounded, Bound::Included(key));
        self.0.range::<[u8], _>(until_key).next_back().is_some_and(|(_, end)| key < &end[..])
    }

    /// All of another's too.
    pub(crate) fn extend(&mut self, other: Self) {
        for (from, to) in other.0 {
            self.add(from, to);
        }
    }

    /// Those that reach into a range, whole.
    pub(super) fn within(&self, from: &Bytes, to: &Bytes) -> Self {
        let mut within = Self::default();
        let before = self.0.range::<Bytes, _>(..from).next_back().filter(|(_, end)| *end > from);
        let inside = if from < to { Some(self.0.range::<Bytes, _>(from..to)) } else { None };
        for (start, end) in before.into_iter().chain(inside.into_iter().flatten()) {
            within.0.insert(start.clone(), end.clone());
        }
        within
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_that_touch_become_one() {
        let mut ranges = Ranges::default();
        for (from, to) in [("b", "d"), ("f", "h"), ("x", "z"), ("d", "e"), ("a", "g"), ("c", "d")] {
            ranges.add(from.into(), to.into());
        }
        let all: Vec<_> = ranges.0.iter().map(|(from, to)| (&from[..], &to[..])).collect();
        assert_eq!(all, [(&b"a"[..], &b"h"[..]), (b"x", b"z")]);
        assert!(ranges.covers(b"a") && ranges.covers(b"gz") && !ranges.covers(b"h"));
    }
}
