//! What the Redis ports count: for `/metrics`, `INFO` and the dashboard. Counting never decides anything.

use std::time::Duration;

/// Upper bounds of the latency buckets, in microseconds; one more bucket holds what is above the last.
pub const LATENCY_BOUNDS_MICROS: [u64; 16] = [
    50, 100, 200, 400, 800, 1_500, 3_000, 5_000, 10_000, 20_000, 50_000, 100_000, 250_000, 500_000,
    1_000_000, 5_000_000,
];

/// Figures of the Redis ports. Names follow the metrics; everything but levels counts from the start.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RespFigures {
    /// Connections now.
    pub connections: u64,
    /// Connections let in.
    pub connections_accepted: u64,
    /// Connections refused: too many, or not protected by a password.
    pub connections_refused: u64,
    /// Connections closed because they left their replies unread, or because all buffers together were full.
    pub connections_overfull: u64,
    /// Connections closed because they were silent too long.
    pub connections_timed_out: u64,
    /// What clients sent was no request.
    pub protocol_errors: u64,
    /// Wrong passwords.
    pub login_failures: u64,
    /// Bytes read.
    pub input_bytes: u64,
    /// Bytes written.
    pub output_bytes: u64,
    /// Bytes that buffers beyond a connection's share hold now.
    pub buffers_bytes: u64,
    /// Hints at a changed ring (`-MOVED`).
    pub moved: u64,
    /// Replies that were errors.
    pub errors: u64,
    /// Reads of one key that found a value.
    pub hits: u64,
    /// Reads of one key that found none.
    pub misses: u64,
    /// Each command that was called.
    pub commands: Vec<CommandFigures>,
}

impl RespFigures {
    /// Commands executed.
    pub fn calls(&self) -> u64 {
        self.commands.iter().map(|command| command.calls).sum()
    }
}

/// Figures of one command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommandFigures {
    /// Its name, lower case; with a subcommand as `client|list`.
    pub name: &'static str,
    /// How often it ended, errors included.
    pub calls: u64,
    /// How often it ended as an error.
    pub failed: u64,
    /// Time from its arrival until its reply could be sent, in microseconds, over all calls.
    pub micros: u64,
    /// How often that time fell between a bound of [`LATENCY_BOUNDS_MICROS`] and the one before; the last counts what
    /// is above all of them.
    pub buckets: [u64; LATENCY_BOUNDS_MICROS.len() + 1],
}

impl CommandFigures {
    pub(crate) fn new(name: &'static str) -> Self {
        Self { name, calls: 0, failed: 0, micros: 0, buckets: [0; LATENCY_BOUNDS_MICROS.len() + 1] }
    }

    pub(crate) fn add(&mut self, took: Duration, failed: bool) {
        let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        self.calls += 1;
        self.failed += u64::from(failed);
        self.micros = self.micros.saturating_add(micros);
        // Nearly every command falls into one of the first buckets, so a walk beats a search.
        let above = |bound: &u64| micros <= *bound;
        let bucket = LATENCY_BOUNDS_MICROS.iter().position(above);
        self.buckets[bucket.unwrap_or(LATENCY_BOUNDS_MICROS.len())] += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_latency_falls_into_the_first_bucket_that_holds_it() {
        let mut get = CommandFigures::new("get");
        for micros in [0, 50, 51, 5_000_000, 5_000_001] {
            get.add(Duration::from_micros(micros), micros == 51);
        }
        assert_eq!((get.calls, get.failed), (5, 1));
        let filled: Vec<usize> = (0..get.buckets.len()).filter(|at| get.buckets[*at] > 0).collect();
        assert_eq!(filled, [0, 1, LATENCY_BOUNDS_MICROS.len() - 1, LATENCY_BOUNDS_MICROS.len()]);
        assert_eq!(get.buckets[0], 2);
    }
}
