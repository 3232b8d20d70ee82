//! How long to wait before dialing again.

use std::time::Duration;

/// The first wait.
const FIRST: Duration = Duration::from_millis(50);

/// The longest wait: a node that comes back is found within it.
const LONGEST: Duration = Duration::from_secs(1);

/// Doubles from attempt to attempt; half of each wait is left to chance, so that nodes that lost each other at one
/// moment do not dial at one moment.
#[derive(Debug)]
pub(super) struct Backoff {
    next: Duration,
}

impl Backoff {
    pub(super) fn new() -> Self {
        Self { next: FIRST }
    }

    /// The wait before the next attempt.
    pub(super) fn next(&mut self, random: &mut Random) -> Duration {
        let wait = self.next;
        self.next = (wait * 2).min(LONGEST);
        wait.mul_f64(0.5 + random.fraction() / 2.0)
    }
}

/// `SplitMix64`: chance enough to spread waits.
#[derive(Debug)]
pub(super) struct Random(u64);

impl Random {
    pub(super) fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// From 0 up to but not including 1.
    #[expect(clippy::cast_precision_loss, reason = "53 bits fit exactly")]
    fn fraction(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((mixed ^ (mixed >> 31)) >> 11) as f64 / (1_u64 << 53) as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_a_second_and_are_spread() {
        let mut random = Random::new(7);
        let mut backoff = Backoff::new();
        let mut expected = FIRST;
        for _ in 0..10 {
            let wait = backoff.next(&mut random);
            assert!(wait >= expected / 2 && wait < expected, "{wait:?} for {expected:?}");
            expected = (expected * 2).min(LONGEST);
        }
        assert_ne!(Backoff::new().next(&mut random), Backoff::new().next(&mut random));
    }
}
