//! The phi accrual failure detector (Hayashibara et al., 2004): silence is measured against the intervals at which
//! heartbeats came before, instead of against a fixed time.
//!
//! Phi of a silence is -log10 of the chance that a heartbeat comes even later. The moment at which a given phi is
//! reached is computed when a heartbeat arrives, in whole numbers, so that watching a thousand members costs a
//! comparison each; phi itself is computed only for people. Floors keep a quiet network from making the detector
//! nervous: a smallest deviation, a larger one while few intervals are known, and an interval is never counted as longer
//! than it took to become suspicious, so that an outage does not teach patience.

use std::collections::VecDeque;

/// Intervals that are remembered.
const WINDOW: usize = 64;

/// Below this many intervals the period itself is the smallest deviation.
const TRUSTED: usize = 16;

/// No interval is counted as longer than this, in milliseconds (about four hours), so that squares can be added up.
const INTERVAL_MS_MAX: u64 = 1 << 24;

/// Phi is not shown larger than this; the logistic approximation says nothing beyond.
const PHI_MAX: f64 = 99.0;

/// When silence becomes suspicious. In units of the deviation, in thousandths, above the mean.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Thresholds {
    /// The expected interval, in milliseconds; also the smallest deviation until enough intervals are known.
    pub period_ms: u32,
    /// The smallest deviation, in milliseconds.
    pub deviation_min_ms: u32,
    /// Is added to the smallest deviation, in milliseconds: what relaying heartbeats adds to it.
    pub spread_ms: u32,
    suspect_milli: u64,
    lost_milli: u64,
}

impl Thresholds {
    /// `suspect`: the phi at which a member is suspected; `lost`: the phi for members whose connection is gone.
    pub fn new(period_ms: u32, deviation_min_ms: u32, suspect: u32, lost: u32) -> Self {
        Self {
            period_ms,
            deviation_min_ms,
            spread_ms: 0,
            suspect_milli: deviations_milli(suspect),
            lost_milli: deviations_milli(lost.min(suspect)),
        }
    }
}

/// Intervals between the heartbeats of one member, as they came here.
#[derive(Clone, Debug, Default)]
pub struct Intervals {
    ms: VecDeque<u32>,
    /// Of those.
    sum: u64,
    /// Of their squares.
    squares: u64,
}

impl Intervals {
    /// A heartbeat came after so many milliseconds.
    pub fn add(&mut self, interval_ms: u64, thresholds: &Thresholds) {
        // Two words in quick succession (a report is sent at once) say nothing about the usual interval.
        if interval_ms < u64::from(thresholds.period_ms / 4) {
            return;
        }
        let interval_ms = interval_ms.min(self.suspect_after_ms(thresholds)).min(INTERVAL_MS_MAX);
        if self.ms.len() == WINDOW
            && let Some(oldest_ms) = self.ms.pop_front().map(u64::from)
        {
            self.sum -= oldest_ms;
            self.squares -= oldest_ms * oldest_ms;
        }
        self.ms.push_back(u32::try_from(interval_ms).expect("INTERVAL_MS_MAX fits into 32 bits"));
        self.sum += interval_ms;
        self.squares += interval_ms * interval_ms;
    }

    /// The silence, in milliseconds, after which a member is suspected.
    pub fn suspect_after_ms(&self, thresholds: &Thresholds) -> u64 {
        let late_milli = self.deviation_ms(thresholds) * thresholds.suspect_milli;
        self.mean_ms(thresholds) + late_milli.div_ceil(1_000)
    }

    /// The same for a member whose connection is gone: that is evidence, and less silence is needed.
    pub fn lost_after_ms(&self, thresholds: &Thresholds) -> u64 {
        let late_milli = self.deviation_ms(thresholds) * thresholds.lost_milli;
        self.mean_ms(thresholds) + late_milli.div_ceil(1_000)
    }

    /// Phi of a silence, from 0 to 99.
    pub fn phi(&self, silence_ms: u64, thresholds: &Thresholds) -> f64 {
        let mean_ms = self.mean_ms(thresholds);
        let late_ms = float(silence_ms.saturating_sub(mean_ms));
        let early_ms = float(mean_ms.saturating_sub(silence_ms));
        phi((late_ms - early_ms) / float(self.deviation_ms(thresholds)))
    }

    fn mean_ms(&self, thresholds: &Thresholds) -> u64 {
        let count = self.ms.len() as u64;
        self.sum.checked_div(count).unwrap_or_else(|| u64::from(thresholds.period_ms))
    }

    fn deviation_ms(&self, thresholds: &Thresholds) -> u64 {
        let count = self.ms.len() as u64;
        // Exact in whole numbers: the mean of the squares is never below the square of the mean.
        let spread = count * self.squares - self.sum * self.sum;
        let variance = spread.checked_div(count * count).unwrap_or(0);
        let few = self.ms.len() < TRUSTED;
        let floor_ms = if few { thresholds.period_ms } else { thresholds.deviation_min_ms };
        variance.isqrt().max(u64::from(floor_ms + thresholds.spread_ms)).max(1)
    }
}

/// Phi so many deviations after the mean: the logistic approximation of the normal distribution's tail.
fn phi(deviations: f64) -> f64 {
    let tail = (-deviations * (1.5976 + 0.070_566 * deviations * deviations)).exp();
    // For large silences 1 + tail is 1; for small ones tail / (1 + tail) tends to 1 and phi to 0.
    let chance = if tail.is_infinite() { 1.0 } else { tail / (1.0 + tail) };
    // Adding zero makes a negative zero a plain one.
    (-chance.log10()).clamp(0.0, PHI_MAX) + 0.0
}

/// The deviations, in thousandths, at which phi reaches a threshold.
fn deviations_milli(threshold: u32) -> u64 {
    let (mut below, mut above) = (0, 30_000);
    while below < above {
        let middle = u64::midpoint(below, above);
        if phi(float(middle) / 1_000.0) < f64::from(threshold) {
            below = middle + 1;
        } else {
            above = middle;
        }
    }
    above
}

fn float(number: u64) -> f64 {
    f64::from(u32::try_from(number).unwrap_or(u32::MAX))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn thresholds() -> Thresholds {
        Thresholds::new(1_000, 300, 8, 1)
    }

    fn intervals(ms: &[u64]) -> Intervals {
        let mut intervals = Intervals::default();
        for &interval_ms in ms {
            intervals.add(interval_ms, &thresholds());
        }
        intervals
    }

    #[test]
    fn steady_heartbeats_are_suspected_after_a_few_deviations_and_not_before() {
        let steady = intervals(&[1_000; 20]);
        let after_ms = steady.suspect_after_ms(&thresholds());
        assert!((2_400..2_800).contains(&after_ms), "{after_ms}");
        let lost_ms = steady.lost_after_ms(&thresholds());
        assert!((1_200..1_500).contains(&lost_ms), "{lost_ms}");
        assert!(steady.phi(after_ms - 50, &thresholds()) < 8.0);
        assert!(steady.phi(after_ms, &thresholds()) >= 8.0);
    }

    #[test]
    fn little_known_members_are_given_more_time() {
        let unknown = Intervals::default();
        assert!(unknown.suspect_after_ms(&thresholds()) > 5_000);
        let known = intervals(&[1_000; 16]);
        assert!(known.suspect_after_ms(&thresholds()) < 3_000);
    }

    #[test]
    fn unsteady_heartbeats_are_given_more_time() {
        let unsteady: Vec<u64> = (0..40).map(|at| if at % 2 == 0 { 400 } else { 2_000 }).collect();
        let steady = intervals(&[1_000; 40]).suspect_after_ms(&thresholds());
        assert!(intervals(&unsteady).suspect_after_ms(&thresholds()) > steady + 1_000);
    }

    #[test]
    fn an_outage_does_not_teach_patience() {
        let mut steady = intervals(&[1_000; 63]);
        let before_ms = steady.suspect_after_ms(&thresholds());
        steady.add(3_600_000, &thresholds());
        let after_ms = steady.suspect_after_ms(&thresholds());
        assert!(after_ms < before_ms + 200, "{before_ms} then {after_ms}");
    }

    proptest! {
        #[test]
        fn phi_never_falls_in_silence(ms in prop::collection::vec(0_u64..10_000, 0..80),
                                      silence_ms in 0_u64..100_000, more_ms in 0_u64..100_000) {
            let intervals = intervals(&ms);
            let phi = |silence_ms| intervals.phi(silence_ms, &thresholds());
            prop_assert!((0.0..=PHI_MAX).contains(&phi(silence_ms)));
            prop_assert!(phi(silence_ms + more_ms) >= phi(silence_ms));
        }

        #[test]
        fn suspicion_comes_with_the_threshold_and_has_a_floor(
            ms in prop::collection::vec(0_u64..10_000, 0..80),
        ) {
            let (intervals, thresholds) = (intervals(&ms), thresholds());
            let after_ms = intervals.suspect_after_ms(&thresholds);
            prop_assert!(intervals.phi(after_ms + 2, &thresholds) >= 7.99);
            prop_assert!(intervals.phi(after_ms.saturating_sub(5), &thresholds) <= 8.01);
            prop_assert!(after_ms >= intervals.mean_ms(&thresholds) + 5 * 300);
            prop_assert!(intervals.lost_after_ms(&thresholds) < after_ms);
        }
    }
}
