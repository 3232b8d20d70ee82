//! Hybrid logical clock (Kulkarni, Demirbas et al., 2014): wall-clock milliseconds that never go backwards and never
//! repeat, and that run ahead of the wall when a message from the future was seen.

use std::fmt;

/// A point in hybrid time: 48 bits of Unix milliseconds above 16 bits of counter.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Hlc(u64);

impl Hlc {
    const COUNTER_BITS: u32 = 16;
    /// The largest wall time that fits: the year 10889.
    pub const MILLIS_MAX: u64 = (1 << 48) - 1;
    /// Before every write.
    pub const ZERO: Self = Self(0);

    /// The first instant of a millisecond. Later times than [`Self::MILLIS_MAX`] are clamped.
    pub fn from_millis(millis: u64) -> Self {
        Self(millis.min(Self::MILLIS_MAX) << Self::COUNTER_BITS)
    }

    /// From the 64-bit form that users see as a version number.
    pub fn from_u64(bits: u64) -> Self {
        Self(bits)
    }

    /// The 64-bit form; its order is the order of time.
    pub fn as_u64(self) -> u64 {
        self.0
    }

    /// Unix milliseconds.
    pub fn millis(self) -> u64 {
        self.0 >> Self::COUNTER_BITS
    }

    /// The next instant; a full counter carries into the milliseconds.
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }
}

impl fmt::Debug for Hlc {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.millis(), self.0 & 0xffff)
    }
}

/// Hands out [`Hlc`] times, each above all that it handed out or observed before.
#[derive(Clone, Copy, Debug)]
pub struct HlcClock {
    last: Hlc,
}

impl HlcClock {
    /// Starts above `bound`: a time that no earlier run of this node reached.
    pub fn starting_above(bound: Hlc) -> Self {
        Self { last: bound }
    }

    /// A new time, at least `wall_ms` and above every earlier one.
    pub fn tick(&mut self, wall_ms: u64) -> Hlc {
        let issued = Hlc::from_millis(wall_ms).max(self.last.next());
        assert!(issued > self.last, "the hybrid clock repeated a time");
        self.last = issued;
        issued
    }

    /// Makes later times exceed `seen`. The caller has refused times too far ahead of its wall clock.
    pub fn observe(&mut self, seen: Hlc) {
        self.last = self.last.max(seen);
    }

    /// The last time handed out or observed.
    pub fn last(&self) -> Hlc {
        self.last
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn ticks_only_grow(start: u32, walls in prop::collection::vec(0_u64..5_000, 1..200)) {
            let mut clock = HlcClock::starting_above(Hlc::from_millis(u64::from(start)));
            let mut last = clock.last();
            for wall in walls {
                let tick = clock.tick(wall);
                prop_assert!(tick > last);
                prop_assert!(tick.millis() >= wall);
                last = tick;
            }
        }
    }

    #[test]
    fn counter_overflow_carries_into_milliseconds() {
        let mut clock = HlcClock::starting_above(Hlc::from_u64((7 << 16) | 0xffff));
        assert_eq!(clock.tick(3), Hlc::from_millis(8));
    }

    #[test]
    fn observing_the_future_moves_later_ticks() {
        let mut clock = HlcClock::starting_above(Hlc::ZERO);
        clock.observe(Hlc::from_millis(100));
        assert!(clock.tick(50) > Hlc::from_millis(100));
    }
}
