//! Which key comes next.

/// Chooses keys by a Zipf distribution, after Gray et al., "Quickly generating billion-record synthetic databases"
/// (SIGMOD 1994), as YCSB does; with theta 0 all keys are alike. The hot keys are spread by a hash, or they would share
/// partitions.
#[derive(Clone, Debug)]
pub(crate) struct Chooser {
    keys: u64,
    theta: f64,
    alpha: f64,
    zeta: f64,
    eta: f64,
}

#[expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "ranks are approximate by nature, and far below 2^53"
)]
impl Chooser {
    /// Among this many keys. Takes time in proportion to their number, once.
    pub(crate) fn new(keys: u64, theta: f64) -> Self {
        let zeta_of = |count: u64| (1..=count).map(|rank| (rank as f64).powf(-theta)).sum::<f64>();
        let zeta = if theta == 0.0 { keys as f64 } else { zeta_of(keys) };
        let alpha = 1.0 / (1.0 - theta);
        let two = zeta_of(keys.min(2));
        let eta = (1.0 - (2.0 / keys as f64).powf(1.0 - theta)) / (1.0 - two / zeta);
        Self { keys, theta, alpha, zeta, eta }
    }

    /// How many there are.
    pub(crate) fn keys(&self) -> u64 {
        self.keys
    }

    /// The next key's number, below [`Self::keys`].
    pub(crate) fn next(&self, random: &mut fastrand::Rng) -> u64 {
        if self.theta == 0.0 || self.keys <= 2 {
            return random.u64(..self.keys);
        }
        spread(self.rank(random.f64())) % self.keys
    }

    /// The rank, 0 for the hottest, of a number from 0 to 1.
    fn rank(&self, uniform: f64) -> u64 {
        let scaled = uniform * self.zeta;
        if scaled < 1.0 {
            return 0;
        }
        if scaled < 1.0 + 0.5_f64.powf(self.theta) {
            return 1;
        }
        let rank = self.keys as f64 * (self.eta * uniform - self.eta + 1.0).powf(self.alpha);
        (rank as u64).min(self.keys - 1)
    }
}

/// Scatters ranks over all 64-bit numbers (the finaliser of `SplitMix64`).
fn spread(rank: u64) -> u64 {
    let mut bits = rank.wrapping_add(0x9E37_79B9_7F4A_7C15);
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    bits ^ (bits >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hottest_rank_has_its_share() {
        let chooser = Chooser::new(1_000, 0.9);
        let mut random = fastrand::Rng::with_seed(1);
        let draws = 200_000;
        let hottest = (0..draws).filter(|_| chooser.rank(random.f64()) == 0).count();
        let expected = f64::from(draws) / chooser.zeta;
        let share = f64::from(u32::try_from(hottest).unwrap()) / expected;
        assert!((0.97..1.03).contains(&share), "{share}");
    }

    #[test]
    fn every_number_is_a_key() {
        for (keys, theta) in [(1, 0.9), (2, 0.5), (3, 0.99), (1_000, 0.0), (1_000, 0.9)] {
            let chooser = Chooser::new(keys, theta);
            let mut random = fastrand::Rng::with_seed(7);
            assert!((0..10_000).all(|_| chooser.next(&mut random) < keys), "{keys} {theta}");
        }
    }

    #[test]
    fn without_theta_all_are_alike() {
        let chooser = Chooser::new(10, 0.0);
        let mut random = fastrand::Rng::with_seed(3);
        let mut seen = [0_u32; 10];
        for _ in 0..100_000 {
            seen[usize::try_from(chooser.next(&mut random)).unwrap()] += 1;
        }
        assert!(seen.iter().all(|count| (9_500..10_500).contains(count)), "{seen:?}");
    }
}
