//! Chance from the node's seed: whom to tell next. `SplitMix64` (Steele, Lea and Flood, 2014).

/// A stream of numbers that depends on its seed alone.
#[derive(Clone, Debug)]
pub(super) struct Chance(u64);

impl Chance {
    pub(super) fn new(seed: u64) -> Self {
        Self(seed)
    }

    fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `bound`, which is not 0. The bias of the remainder is far below what gossip could notice.
    pub(super) fn below(&mut self, bound: usize) -> usize {
        assert!(bound > 0, "nothing to choose from");
        usize::try_from(self.bits() % bound as u64).expect("below a usize")
    }

    /// Takes up to `count` of these out, at random.
    pub(super) fn draw<T>(&mut self, among: &mut Vec<T>, count: usize) -> Vec<T> {
        let count = count.min(among.len());
        (0..count)
            .map(|_| {
                let at = self.below(among.len());
                among.swap_remove(at)
            })
            .collect()
    }
}
