//! A machine's clock against true time: it is off, gains or loses, and may be set.

/// Unix milliseconds at which every simulation begins.
const BEGIN_MS: i64 = 1_750_000_000_000;

/// What a machine takes the time to be.
#[derive(Clone, Debug)]
pub(crate) struct Clock {
    /// How it went since when, in the order of time; the first stretch holds from the beginning.
    stretches: Vec<Stretch>,
}

/// A time during which a clock goes at one speed.
#[derive(Clone, Copy, Debug)]
struct Stretch {
    from_us: u64,
    /// What it shows then, in Unix microseconds.
    shows_us: i64,
    /// Microseconds that it gains in a second.
    drift_ppm: i64,
}

impl Stretch {
    fn wall_ms(self, at_us: u64) -> u64 {
        let went_us = i64::try_from(at_us.saturating_sub(self.from_us)).unwrap_or(i64::MAX / 2);
        let gained_us = went_us / 1_000 * self.drift_ppm / 1_000;
        u64::try_from((self.shows_us + went_us + gained_us) / 1_000).unwrap_or(0)
    }
}

impl Clock {
    /// A clock that is `offset_ms` ahead.
    pub(crate) fn new(offset_ms: i64, drift_ppm: i64) -> Self {
        let shows_us = (BEGIN_MS + offset_ms) * 1_000;
        Self { stretches: vec![Stretch { from_us: 0, shows_us, drift_ppm }] }
    }

    /// Sets the clock: at `at_us` it is `offset_ms` ahead, and drifts from there as before.
    pub(crate) fn set(&mut self, at_us: u64, offset_ms: i64) {
        let shows_us = true_us(at_us) + offset_ms * 1_000;
        self.begin(Stretch { from_us: at_us, shows_us, drift_ppm: self.last().drift_ppm });
    }

    /// From `at_us` on the clock gains so many microseconds in a second.
    pub(crate) fn drift(&mut self, at_us: u64, drift_ppm: i64) {
        let shown_ms = i64::try_from(self.wall_ms(at_us)).unwrap_or(BEGIN_MS);
        self.begin(Stretch { from_us: at_us, shows_us: shown_ms * 1_000, drift_ppm });
    }

    fn begin(&mut self, stretch: Stretch) {
        assert!(self.last().from_us <= stretch.from_us, "set in the past");
        self.stretches.push(stretch);
    }

    fn last(&self) -> Stretch {
        *self.stretches.last().expect("there is a stretch from the beginning")
    }

    /// How far ahead the clock is at `at_us`, in milliseconds.
    pub(crate) fn offset_ms(&self, at_us: u64) -> i64 {
        i64::try_from(self.wall_ms(at_us)).unwrap_or(i64::MAX) - true_us(at_us) / 1_000
    }

    /// Unix milliseconds that this clock shows at `at_us`.
    pub(crate) fn wall_ms(&self, at_us: u64) -> u64 {
        let begun = self.stretches.partition_point(|stretch| stretch.from_us <= at_us).max(1);
        self.stretches[begun - 1].wall_ms(at_us)
    }

    /// The least and the most that this clock showed from `from_us` to `to_us`.
    pub(crate) fn wall_range_ms(&self, from_us: u64, to_us: u64) -> (u64, u64) {
        let (from_ms, to_ms) = (self.wall_ms(from_us), self.wall_ms(to_us));
        let mut range = (from_ms.min(to_ms), from_ms.max(to_ms));
        for pair in self.stretches.windows(2).rev() {
            let at_us = pair[1].from_us;
            if at_us < from_us {
                break;
            }
            if at_us <= to_us {
                for shown_ms in [pair[0].wall_ms(at_us), pair[1].wall_ms(at_us)] {
                    range = (range.0.min(shown_ms), range.1.max(shown_ms));
                }
            }
        }
        range
    }
}

/// Unix microseconds of true time.
fn true_us(at_us: u64) -> i64 {
    BEGIN_MS * 1_000 + i64::try_from(at_us).unwrap_or(i64::MAX / 2)
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
        assert_eq!(clock.wall_ms(20_000_000), begin_ms + 20_000 - 200);
        let (least, most) = clock.wall_range_ms(19_000_000, 20_100_000);
        assert_eq!((least, most), (begin_ms + 19_519, begin_ms + 20_520), "jumps widen the range");
        clock.drift(30_000_000, -20_000);
        assert_eq!(clock.offset_ms(30_000_000), -190, "a new speed is no jump");
        assert_eq!(clock.offset_ms(40_000_000), -390, "loses 20 ms a second");
        assert_eq!(clock.wall_range_ms(30_000_000, 40_000_000).1, begin_ms + 40_000 - 390);
    }
}
