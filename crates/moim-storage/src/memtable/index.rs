//! Where the entry of a key lies, by the key's hash: four bytes an entry and no pointers, so that all of it stays in the
//! processor's second cache, and whoever looks for a key waits for the entry alone.
//!
//! Open addressing with linear probing (Knuth, *The Art of Computer Programming* 6.4), at most three quarters full. A slot
//! is a position, and beside it as many bits of the hash as that leaves: entries of other keys are hardly ever looked at.

/// A slot that nothing is in; others hold a position plus one.
const FREE: u32 = 0;

const SLOTS_MIN: usize = 32;

/// See the module's documentation.
#[derive(Clone, Debug, Default)]
pub(super) struct Index {
    /// None, or a power of two.
    slots: Vec<u32>,
    used: usize,
}

impl Index {
    /// The position of the key with this hash; `is_it` tells whether the key there is the one.
    pub(super) fn find(&self, hash: u64, is_it: impl Fn(u32) -> bool) -> Option<u32> {
        let tag = self.tag(hash);
        let mut at = self.home(hash);
        loop {
            let slot = *self.slots.get(at)?;
            if slot == FREE {
                return None;
            }
            if slot & !self.positions() == tag {
                let position = (slot & self.positions()) - 1;
                if is_it(position) {
                    return Some(position);
                }
            }
            at = self.after(at);
        }
    }

    /// The position where the key with this hash lies, or one that is hardly ever another's: for whoever wants to see it
    /// before it is needed.
    pub(super) fn guess(&self, hash: u64) -> Option<u32> {
        self.find(hash, |_| true)
    }

    /// Adds a key that is not there. `hash_of` tells the hash of the key at a position.
    pub(super) fn add(&mut self, hash: u64, position: u32, hash_of: impl Fn(u32) -> u64) {
        if 4 * (self.used + 1) > 3 * self.slots.len() {
            self.grow(hash_of);
        }
        self.put(hash, position);
        self.used += 1;
    }

    /// Takes a key out that is there.
    pub(super) fn remove(&mut self, hash: u64, position: u32, hash_of: impl Fn(u32) -> u64) {
        let sought = self.tag(hash) | (position + 1);
        let mut gap = self.home(hash);
        while self.slots[gap] != sought {
            assert!(self.slots[gap] != FREE, "only what is there is taken out");
            gap = self.after(gap);
        }
        // Whatever was put behind because of it moves up.
        let mask = self.slots.len() - 1;
        let mut at = self.after(gap);
        while self.slots[at] != FREE {
            let home = self.home(hash_of((self.slots[at] & self.positions()) - 1));
            if at.wrapping_sub(home) & mask >= at.wrapping_sub(gap) & mask {
                self.slots[gap] = self.slots[at];
                gap = at;
            }
            at = self.after(at);
        }
        self.slots[gap] = FREE;
        self.used -= 1;
    }

    /// Bits of a slot that are the position. All are below three quarters of the number of slots.
    fn positions(&self) -> u32 {
        u32::try_from(self.slots.len().saturating_sub(1)).expect("memory ends long before")
    }

    fn home(&self, hash: u64) -> usize {
        usize::try_from(hash).unwrap_or(usize::MAX) & self.slots.len().saturating_sub(1)
    }

    fn after(&self, at: usize) -> usize {
        (at + 1) & (self.slots.len() - 1)
    }

    fn tag(&self, hash: u64) -> u32 {
        u32::try_from(hash >> 32).unwrap_or(0) & !self.positions()
    }

    fn put(&mut self, hash: u64, position: u32) {
        assert!(position < self.positions(), "positions that were given back are given again");
        let mut at = self.home(hash);
        while self.slots[at] != FREE {
            at = self.after(at);
        }
        self.slots[at] = self.tag(hash) | (position + 1);
    }

    fn grow(&mut self, hash_of: impl Fn(u32) -> u64) {
        let positions = self.positions();
        let slots = vec![FREE; (2 * self.slots.len()).max(SLOTS_MIN)];
        for slot in std::mem::replace(&mut self.slots, slots) {
            if slot != FREE {
                let position = (slot & positions) - 1;
                self.put(hash_of(position), position);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    use proptest::prelude::*;

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        /// Few homes, so that what is taken out lies before what was put behind it, around the end as well.
        #[test]
        fn what_is_in_is_found_and_what_is_out_is_not(
            steps in prop::collection::vec((any::<bool>(), 0..20_usize, 0..6_u64), 1..300)
        ) {
            let mut index = Index::default();
            let mut hashes: Vec<Option<u64>> = vec![None; 20];
            for (add, at, hash) in steps {
                let position = u32::try_from(at).unwrap();
                let hash = hash << 32 | (30 + hash);
                match (hashes[at], add) {
                    (None, true) => {
                        let before = hashes.clone();
                        index.add(hash, position, |at| before[at as usize].unwrap());
                        hashes[at] = Some(hash);
                    }
                    (Some(hash), false) => {
                        let before = hashes.clone();
                        index.remove(hash, position, |at| before[at as usize].unwrap());
                        hashes[at] = None;
                    }
                    _ => {}
                }
                for (at, hash) in hashes.iter().enumerate() {
                    let at = u32::try_from(at).unwrap();
                    for sought in 0..6 {
                        let sought = sought << 32 | (30 + sought);
                        let is_it = |position| position == at && *hash == Some(sought);
                        let found = index.find(sought, is_it);
                        prop_assert_eq!(found.is_some(), *hash == Some(sought));
                    }
                }
            }
        }
    }
}
