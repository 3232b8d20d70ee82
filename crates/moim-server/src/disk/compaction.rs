//! The pace of compactions, which yield to clients and always get on (REQ-46).
//!
//! A node judges twice a second whether its clients wait longer than usual (`moim_node::pace`). As long as they do,
//! compactions are made to go half as fast each time, down to [`RATE_MIN`]; otherwise they go faster by a quarter. What
//! clients were found to bear is remembered while nobody asks for anything, when compactions go as fast as they can.
//! They do, too, once so much waits for them that writers would soon have to wait: the engine sees to that.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use moim_node::pace::PaceView;

use crate::http::metrics::{Metric, count};

/// Bytes a second that one compaction may always go through: enough for some 5 MB a second of new data, each rewritten
/// three times on its way down.
const RATE_MIN: u64 = 16 << 20;

/// Without pauses it would be about as fast.
const RATE_MAX: u64 = 256 << 20;

/// The part by which the rate rises.
const RISE: u64 = 4;

/// After a large value, too, a compaction soon looks up again: at whether writers wait for it, and whether it is to end.
const PAUSE_MAX: Duration = Duration::from_millis(100);

/// See the module's documentation.
#[derive(Debug)]
pub(crate) struct CompactionPace {
    /// What clients bear, as far as is known.
    borne: AtomicU64,
    /// Nobody asks for anything.
    is_free: AtomicBool,
    /// Something was compacted since the last judgement.
    is_at_work: AtomicBool,
}

impl Default for CompactionPace {
    fn default() -> Self {
        Self {
            borne: AtomicU64::new(RATE_MIN),
            is_free: AtomicBool::new(true),
            is_at_work: AtomicBool::new(false),
        }
    }
}

impl CompactionPace {
    /// How long a compaction that has gone through so many bytes is to rest.
    pub(crate) fn pause(&self, bytes: u64) -> Duration {
        self.is_at_work.store(true, Ordering::Relaxed);
        if self.is_free.load(Ordering::Relaxed) {
            return Duration::ZERO;
        }
        let micros = bytes.saturating_mul(1_000_000) / self.borne.load(Ordering::Relaxed);
        Duration::from_micros(micros).min(PAUSE_MAX)
    }

    /// Looks at how clients fare.
    pub(crate) fn judge(&self, pace: &PaceView) {
        let was_at_work = self.is_at_work.swap(false, Ordering::Relaxed);
        let was_free = self.is_free.load(Ordering::Relaxed);
        let suffers = pace.is_suffered_by_clients();
        self.is_free.store(suffers.is_none(), Ordering::Relaxed);
        let Some(suffers) = suffers else { return };
        // What was done while nobody asked says nothing of what clients bear.
        if !was_at_work || was_free {
            return;
        }
        let borne = self.borne.load(Ordering::Relaxed);
        let rate = if suffers { borne / 2 } else { borne + borne / RISE };
        self.borne.store(rate.clamp(RATE_MIN, RATE_MAX), Ordering::Relaxed);
    }

    pub(crate) fn metric(&self) -> Metric {
        Metric::gauge(
            "moim_compaction_rate_bytes",
            "Bytes a second that a compaction may go through now.",
            count(self.rate()),
        )
    }

    fn rate(&self) -> u64 {
        if self.is_free.load(Ordering::Relaxed) {
            RATE_MAX
        } else {
            self.borne.load(Ordering::Relaxed)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn view(p99_ms: Option<u32>) -> PaceView {
        PaceView {
            rate_bytes_per_second: 0,
            p99_ms,
            quiet_p99_ms: Some(5),
            lanes: Default::default(),
        }
    }

    /// Compacts without end for so many judgements, in each of which clients fare like this.
    fn run(pace: &CompactionPace, judgements: usize, p99_ms: Option<u32>) {
        for _ in 0..judgements {
            let _pause = pace.pause(1);
            pace.judge(&view(p99_ms));
        }
    }

    #[test]
    fn it_rises_while_clients_are_well_and_yields_when_they_suffer() {
        let pace = CompactionPace::default();
        assert_eq!(pace.pause(1 << 20), Duration::ZERO, "nobody asks");
        run(&pace, 2, Some(5));
        assert_eq!(
            pace.pause(RATE_MIN / 64).as_micros(),
            12_500,
            "a quarter faster than the floor"
        );
        run(&pace, 20, Some(5));
        assert_eq!(pace.rate(), RATE_MAX);
        run(&pace, 1, Some(9));
        assert_eq!(pace.rate(), RATE_MAX / 2);
        run(&pace, 20, Some(9));
        assert_eq!(pace.pause(RATE_MIN / 64).as_micros(), 15_625, "never below the floor");
        assert_eq!(pace.pause(RATE_MIN), PAUSE_MAX, "a large value");
    }

    #[test]
    fn what_clients_bear_is_remembered_while_nobody_asks() {
        let pace = CompactionPace::default();
        run(&pace, 3, Some(5));
        let borne = pace.rate();
        run(&pace, 30, None);
        assert_eq!(pace.rate(), RATE_MAX);
        // The window in which they came back, and one that was begun before.
        run(&pace, 1, Some(50));
        assert_eq!(pace.rate(), borne);
    }

    #[test]
    fn who_rests_is_not_judged() {
        let pace = CompactionPace::default();
        run(&pace, 3, Some(5));
        let borne = pace.rate();
        for p99_ms in [5, 50, 50, 5] {
            pace.judge(&view(Some(p99_ms)));
        }
        assert_eq!(pace.rate(), borne);
    }
}
