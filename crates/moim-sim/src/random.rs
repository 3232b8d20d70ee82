//! Chance, from a seed: every choice that the simulation makes comes out of one of these.
//!
//! One stream per concern (network, disks, clients, faults), forked by name, so that a change to what one of them draws
//! leaves the others as they were. The generator is `SplitMix64` (Steele, Lea and Flood, 2014): three lines, no state to
//! set up wrongly, and good enough to choose delays with.

/// A stream of numbers that looks random and depends on its seed alone.
#[derive(Clone, Debug)]
pub struct Random {
    state: u64,
}

impl Random {
    /// The stream of a seed.
    pub fn new(seed: u64) -> Self {
        Self { state: seed }
    }

    /// An independent stream for one concern.
    #[must_use]
    pub fn fork(&self, concern: &str) -> Self {
        let mut fork = Self::new(self.state ^ moim_core::fingerprint(concern.as_bytes()));
        // Neighbouring seeds differ in a bit or two; one step spreads that over the whole state.
        Self::new(fork.bits())
    }

    /// 64 bits.
    pub fn bits(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number from `low` to `high`, both included.
    pub fn between(&mut self, low: u64, high: u64) -> u64 {
        assert!(low <= high, "an empty range has no member: {low}..={high}");
        let span = u128::from(high - low) + 1;
        // The upper half of a product of 64 bits by the span: below the span, so it fits.
        low + u64::try_from((u128::from(self.bits()) * span) >> 64).unwrap_or(0)
    }

    /// A number from `-reach` to `reach`, both included.
    pub fn around_zero(&mut self, reach: i64) -> i64 {
        let reach = reach.unsigned_abs();
        let drawn = self.between(0, 2 * reach);
        i64::try_from(drawn).unwrap_or(0) - i64::try_from(reach).unwrap_or(0)
    }

    /// An index below `count`.
    pub fn index(&mut self, count: usize) -> usize {
        assert!(count > 0, "nothing to choose from");
        usize::try_from(self.between(0, count as u64 - 1)).unwrap_or(0)
    }

    /// True in so many cases of a thousand.
    pub fn chance(&mut self, per_mille: u32) -> bool {
        self.between(0, 999) < u64::from(per_mille)
    }

    /// One of these.
    pub fn pick<'a, T>(&mut self, among: &'a [T]) -> &'a T {
        &among[self.index(among.len())]
    }

    /// One of these, in proportion to the weights.
    pub fn weighted<T: Copy>(&mut self, among: &[(u32, T)]) -> T {
        let total: u64 = among.iter().map(|&(weight, _)| u64::from(weight)).sum();
        assert!(total > 0, "weights choose nothing");
        let mut at = self.between(0, total - 1);
        for &(weight, choice) in among {
            match at.checked_sub(u64::from(weight)) {
                Some(rest) => at = rest,
                None => return choice,
            }
        }
        unreachable!("the draw is below the sum of the weights")
    }

    /// Mostly near `usual`, sometimes a multiple of it, and now and then up to `longest`: how delays are in practice.
    pub fn delay(&mut self, usual: u64, longest: u64) -> u64 {
        let longest = longest.max(usual).max(1);
        match self.between(0, 99) {
            0..=84 => self.between(usual / 2, usual.max(1)),
            85..=97 => self.between(usual, (usual * 4).clamp(1, longest).max(usual)),
            _ => self.between(usual, longest),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_is_a_stream_and_forks_differ() {
        let draw = |mut random: Random| (0..8).map(|_| random.bits()).collect::<Vec<_>>();
        assert_eq!(draw(Random::new(7)), draw(Random::new(7)));
        assert_ne!(draw(Random::new(7)), draw(Random::new(8)));
        assert_ne!(draw(Random::new(7).fork("disk")), draw(Random::new(7).fork("network")));
        assert_eq!(draw(Random::new(7).fork("disk")), draw(Random::new(7).fork("disk")));
    }

    #[test]
    fn draws_stay_within_their_bounds_and_reach_them() {
        let mut random = Random::new(1);
        let drawn: Vec<u64> = (0..1_000).map(|_| random.between(3, 6)).collect();
        assert_eq!((drawn.iter().min(), drawn.iter().max()), (Some(&3), Some(&6)));
        assert!((0..1_000).all(|_| random.around_zero(5).abs() <= 5));
        assert!((0..1_000).all(|_| (5..=100).contains(&random.delay(10, 100))));
        let heavy = (0..1_000).filter(|_| random.weighted(&[(9, true), (1, false)])).count();
        assert!((800..1_000).contains(&heavy), "{heavy} of 1000 at nine to one");
    }
}
