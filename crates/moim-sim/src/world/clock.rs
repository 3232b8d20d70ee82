//! A machine's clock against true time: an offset that may jump, a drift that does not.

/// Unix milliseconds at which every simulation begins.
const BEGIN_MS: i64 = 1_750_000_000_000;

/// What a machine takes the time to be.
#[derive(Clone, Debug)]
pub(crate) struct Clock {
    /// From when on which offset held, in the order of time; the first holds from the beginning.
    offsets: Vec<(u64, i64)>,
    /// Microseconds that this clock gains in a second.
    drift_ppm: i64,
}

impl Clock {
    /// A clock that is `offset_ms` ahead.
    pub(crate) fn new(offset_ms: i64, drift_ppm: i64) -> Self {
        Self { offsets: vec![(0, offset_ms)], drift_ppm }
    }

    /// Sets the clock: from `at_us` on it is `offset_ms` ahead.
    pub(crate) fn set(&mut self, at_us: u64, offset_ms: i64) {
        assert!(
            self.offsets.last().is_some_and(|&(last_us, _)| last_us <= at_us),
            "set in the past"
        );
        self.offsets.push((at_us, offset_ms));
    }

    /// The offset at the end of history.
    pub(crate) fn offset_ms(&self) -> i64 {
        self.offsets.last().map_or(0, |&(_, offset_ms)| offset_ms)
    }

    /// Unix milliseconds that this clock shows at `at_us`.
    pub(crate) fn wall_ms(&self, at_us: u64) -> u64 {
        let known = self.offsets.partition_point(|&(from_us, _)| from_us <= at_us).max(1);
        self.shows(at_us, self.offsets[known - 1].1)
    }

    /// The least and the most that this clock showed from `from_us` to `to_us`.
    pub(crate) fn wall_range_ms(&self, from_us: u64, to_us: u64) -> (u64, u64) {
        let mut shown = vec![self.wall_ms(from_us), self.wall_ms(to_us)];
        for pair in self.offsets.windows(2) {
            let ((_, before_ms), (at_us, after_ms)) = (pair[0], pair[1]);
            if (from_us..=to_us).contains(&at_us) {
                shown.extend([self.shows(at_us, before_ms), self.shows(at_us, after_ms)]);
            }
        }
        let (least, most) = (shown.iter().min(), shown.iter().max());
        (least.copied().unwrap_or(0), most.copied().unwrap_or(0))
    }

    fn shows(&self, at_us: u64, offset_ms: i64) -> u64 {
        let true_us = i64::try_from(at_us).unwrap_or(i64::MAX / 2);
        let gained_us = true_us / 1_000 * self.drift_ppm / 1_000;
        u64::try_from(BEGIN_MS + offset_ms + (true_us + gained_us) / 1_000).unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_is_off_drifts_and_jumps() {
        let mut clock = Clock::new(500, 1_000);
        let begin_ms = u64::try_from(BEGIN_MS).unwrap();
        assert_eq!(clock.wall_ms(0), begin_ms + 500);
        assert_eq!(clock.wall_ms(10_000_000), begin_ms + 10_000 + 10 + 500, "gains 1 ms a second");
        clock.set(20_000_000, -200);
        assert_eq!(clock.wall_ms(19_999_999), begin_ms + 20_019 + 500);
        assert_eq!(clock.wall_ms(20_000_000), begin_ms + 20_020 - 200);
        let (least, most) = clock.wall_range_ms(19_000_000, 20_100_000);
        assert_eq!((least, most), (begin_ms + 19_519, begin_ms + 20_520), "jumps widen the range");
    }
}
