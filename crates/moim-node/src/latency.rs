//! Recent latencies in milliseconds, and their quantiles: what hedged reads and the pace of background work steer by.
//!
//! Buckets are exact up to 15 ms and then four to the doubling, so a quantile is at most a quarter too high; memory is
//! fixed. Old observations fade: whenever [`FADE_AT`] have come together, all counts are halved, so that the last few
//! hundred dominate. Left out: anything below a millisecond, which the node's clock does not tell apart.

/// Latencies up to this have a bucket each, in milliseconds.
const EXACT_MS: u32 = 16;

/// Buckets to each doubling beyond.
const STEPS: u32 = 4;

/// Buckets in all: the last begins at 57 seconds and holds everything above as well.
const BUCKETS: usize = 64;

/// Observations after which all counts are halved.
const FADE_AT: u32 = 1_024;

/// A fading histogram.
#[derive(Clone, Debug)]
pub(crate) struct Latencies {
    buckets: [u32; BUCKETS],
    count: u32,
}

impl Default for Latencies {
    fn default() -> Self {
        Self { buckets: [0; BUCKETS], count: 0 }
    }
}

impl Latencies {
    /// Counts one latency.
    pub(crate) fn record(&mut self, ms: u64) {
        self.buckets[bucket_of(ms)] += 1;
        self.count += 1;
        if self.count >= FADE_AT {
            self.fade();
        }
    }

    /// Halves what has been seen, so that what comes weighs more.
    pub(crate) fn fade(&mut self) {
        for bucket in &mut self.buckets {
            *bucket /= 2;
        }
        self.count = self.buckets.iter().sum();
    }

    /// Forgets everything.
    pub(crate) fn clear(&mut self) {
        *self = Self::default();
    }

    /// How many are remembered; a faded one counts as half.
    pub(crate) fn count(&self) -> u32 {
        self.count
    }

    /// The latency that at least `per_mille` thousandths do not exceed, in milliseconds; `None` before the first.
    pub(crate) fn quantile_ms(&self, per_mille: u32) -> Option<u32> {
        assert!(per_mille <= 1_000, "a quantile is a share");
        if self.count == 0 {
            return None;
        }
        let rank = (u64::from(self.count) * u64::from(per_mille)).div_ceil(1_000).max(1);
        let mut below = 0;
        let at = self.buckets.iter().position(|&bucket| {
            below += u64::from(bucket);
            below >= rank
        });
        at.map(upper_ms)
    }
}

fn bucket_of(ms: u64) -> usize {
    let ms = u32::try_from(ms).unwrap_or(u32::MAX);
    if ms < EXACT_MS {
        return ms as usize;
    }
    let octave = ms.ilog2() - EXACT_MS.ilog2();
    let step = (ms >> (ms.ilog2() - STEPS.ilog2())) - STEPS;
    ((EXACT_MS + octave * STEPS + step) as usize).min(BUCKETS - 1)
}

/// The highest latency of a bucket, in milliseconds.
fn upper_ms(bucket: usize) -> u32 {
    let bucket = u32::try_from(bucket).expect("there are few buckets");
    if bucket < EXACT_MS {
        return bucket;
    }
    let (octave, step) = ((bucket - EXACT_MS) / STEPS, (bucket - EXACT_MS) % STEPS);
    let width = (EXACT_MS << octave) / STEPS;
    (EXACT_MS << octave) + (step + 1) * width - 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_latency_lies_at_or_below_the_end_of_its_bucket_and_near_it() {
        for ms in (0..50_000).step_by(7) {
            let upper = u64::from(upper_ms(bucket_of(ms)));
            assert!(ms <= upper && upper <= ms + ms / 4, "{ms} ms ends up at {upper}");
        }
        assert_eq!(bucket_of(u64::MAX), BUCKETS - 1);
    }

    #[test]
    fn quantiles_count_and_old_ones_fade() {
        let mut latencies = Latencies::default();
        assert_eq!(latencies.quantile_ms(950), None);
        for ms in 1..=10 {
            latencies.record(ms);
        }
        assert_eq!(latencies.quantile_ms(0), Some(1));
        assert_eq!(latencies.quantile_ms(500), Some(5));
        assert_eq!(latencies.quantile_ms(950), Some(10));
        for _ in 0..3_000 {
            latencies.record(2);
        }
        assert!(latencies.count() < FADE_AT);
        assert_eq!(latencies.quantile_ms(999), Some(2), "what was slow long ago is forgotten");
        latencies.clear();
        assert_eq!(latencies.count(), 0);
    }
}
