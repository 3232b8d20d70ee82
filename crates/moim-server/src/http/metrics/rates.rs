//! What happened lately, a second: counters sampled once a second.

use std::collections::VecDeque;

use super::count;

/// Over how many seconds rates are taken.
const WINDOW: usize = 10;

/// Counters at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Totals {
    pub(crate) mono_ms: u64,
    pub(crate) reads: u64,
    pub(crate) writes: u64,
    pub(crate) failures: u64,
}

/// The counters of the last seconds, oldest first.
#[derive(Debug, Default)]
pub(crate) struct Rates {
    samples: VecDeque<Totals>,
}

impl Rates {
    /// Keeps the counters of this moment.
    pub(crate) fn sample(&mut self, totals: Totals) {
        self.samples.push_back(totals);
        if self.samples.len() > WINDOW + 1 {
            self.samples.pop_front();
        }
    }

    /// Reads, writes and failures a second.
    pub(crate) fn per_second(&self) -> (f64, f64, f64) {
        let (Some(first), Some(last)) = (self.samples.front(), self.samples.back()) else {
            return (0.0, 0.0, 0.0);
        };
        let seconds = count(last.mono_ms.saturating_sub(first.mono_ms)) / 1_000.0;
        let rate = |from: u64, to: u64| {
            if seconds > 0.0 { count(to.saturating_sub(from)) / seconds } else { 0.0 }
        };
        (
            rate(first.reads, last.reads),
            rate(first.writes, last.writes),
            rate(first.failures, last.failures),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_forget_what_is_long_ago() {
        let mut rates = Rates::default();
        assert_eq!(rates.per_second(), (0.0, 0.0, 0.0));
        for second in 0..100 {
            let reads = if second < 50 { second * 1_000 } else { 50_000 + second * 10 };
            rates.sample(Totals { mono_ms: second * 1_000, reads, writes: second, failures: 0 });
        }
        assert_eq!(rates.per_second(), (10.0, 1.0, 0.0));
    }
}
