//! The only reader of clocks: a node gets its [`Now`] from here, once a turn.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use moim_node::Now;
use tokio::time::Instant;

/// Both clocks of a node. The monotonic one counts from the server's start.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock {
    origin: Instant,
}

impl Clock {
    /// Starts the monotonic clock.
    pub(crate) fn start() -> Self {
        Self { origin: Instant::now() }
    }

    /// Reads both clocks.
    pub(crate) fn now(self) -> Now {
        Now { mono_ms: millis(self.origin.elapsed()), wall_ms: wall_ms() }
    }

    /// The runtime's name for a moment of the monotonic clock.
    pub(crate) fn instant(self, mono_ms: u64) -> Instant {
        self.origin + Duration::from_millis(mono_ms)
    }
}

/// Unix milliseconds by the machine's clock; 0 for a clock set before 1970, which the node then refuses to trust.
pub(crate) fn wall_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, millis)
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
