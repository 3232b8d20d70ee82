//! What the Redis ports count: for `/metrics`, `INFO` and the dashboard. Counting never decides anything.

use std::time::Duration;

use crate::http::metrics::{Metric, MetricKind, Sample, count};

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

impl RespFigures {
    /// The same for Prometheus.
    pub fn metrics(&self) -> Vec<Metric> {
        let counter = Metric::counter;
        let gauge = |name, help, value| Metric::gauge(name, help, count(value));
        let mut metrics = vec![
            gauge("moim_redis_connections", "Connections of Redis clients.", self.connections),
            counter(
                "moim_redis_connections_total",
                "Connections let in.",
                self.connections_accepted,
            ),
            counter("moim_redis_refused_total", "Connections refused.", self.connections_refused),
            counter(
                "moim_redis_overfull_total",
                "Connections closed because they left their replies unread.",
                self.connections_overfull,
            ),
            counter(
                "moim_redis_timed_out_total",
                "Connections closed because they were silent too long.",
                self.connections_timed_out,
            ),
            counter(
                "moim_redis_protocol_errors_total",
                "Bytes that were no request.",
                self.protocol_errors,
            ),
            counter("moim_redis_login_failures_total", "Wrong passwords.", self.login_failures),
            counter("moim_redis_received_bytes_total", "Bytes from clients.", self.input_bytes),
            counter("moim_redis_sent_bytes_total", "Bytes to clients.", self.output_bytes),
            gauge(
                "moim_redis_buffers_bytes",
                "Bytes that buffers hold beyond a connection's share.",
                self.buffers_bytes,
            ),
            counter("moim_redis_moved_total", "Hints at a changed ring.", self.moved),
            counter("moim_redis_errors_total", "Replies that were errors.", self.errors),
            counter("moim_redis_hits_total", "Reads that found a value.", self.hits),
            counter("moim_redis_misses_total", "Reads that found none.", self.misses),
        ];
        metrics.push(Metric {
            name: "moim_redis_command_seconds",
            help: "Time from a command's arrival until its reply could be sent.",
            kind: MetricKind::Histogram,
            samples: self.commands.iter().flat_map(CommandFigures::samples).collect(),
        });
        metrics.push(Metric {
            name: "moim_redis_command_errors_total",
            help: "Commands that ended as an error.",
            kind: MetricKind::Counter,
            samples: self.commands.iter().map(|of| of.sample("", count(of.failed))).collect(),
        });
        metrics
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

    fn sample(&self, suffix: &'static str, value: f64) -> Sample {
        Sample { suffix, ..Sample::new(value) }.label("command", self.name)
    }

    fn samples(&self) -> Vec<Sample> {
        let mut below = 0;
        let mut samples = Vec::with_capacity(LATENCY_BOUNDS_MICROS.len() + 3);
        for (bound, in_bucket) in LATENCY_BOUNDS_MICROS.iter().zip(self.buckets) {
            below += in_bucket;
            let bound = (count(*bound) / 1e6).to_string();
            samples.push(self.sample("_bucket", count(below)).label("le", bound));
        }
        samples.push(self.sample("_bucket", count(self.calls)).label("le", "+Inf"));
        samples.push(self.sample("_sum", count(self.micros) / 1e6));
        samples.push(self.sample("_count", count(self.calls)));
        samples
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
        let figures = RespFigures { commands: vec![get], ..RespFigures::default() };
        let metrics = figures.metrics();
        let latency =
            metrics.iter().find(|metric| metric.name == "moim_redis_command_seconds").unwrap();
        let values: Vec<_> = latency.samples.iter().map(|sample| sample.value).collect();
        assert_eq!(values.first_chunk(), Some(&[2.0, 3.0]));
        assert_eq!(values.last(), Some(&5.0));
        assert_eq!(latency.samples[0].labels[1], ("le", "0.00005".to_owned()));
    }
}
