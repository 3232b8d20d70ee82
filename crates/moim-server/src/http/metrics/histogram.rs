//! Durations, counted in buckets.

use std::cell::Cell;
use std::time::Duration;

use super::{Metric, MetricKind, Sample, count};

/// Upper bounds of the buckets in microseconds and as Prometheus' label, in steps of 1, 2.5, 5: fine enough around the
/// 10 ms that a request may take.
const BOUNDS: [(u64, &str); 15] = [
    (100, "0.0001"),
    (250, "0.00025"),
    (500, "0.0005"),
    (1_000, "0.001"),
    (2_500, "0.0025"),
    (5_000, "0.005"),
    (10_000, "0.01"),
    (25_000, "0.025"),
    (50_000, "0.05"),
    (100_000, "0.1"),
    (250_000, "0.25"),
    (500_000, "0.5"),
    (1_000_000, "1"),
    (2_500_000, "2.5"),
    (10_000_000, "10"),
];

/// Durations of one kind of work, on one thread.
#[derive(Debug, Default)]
pub struct Histogram {
    buckets: [Cell<u64>; BOUNDS.len()],
    longer: Cell<u64>,
    sum_us: Cell<u64>,
}

impl Histogram {
    /// Counts one duration.
    pub fn observe(&self, duration: Duration) {
        let us = u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
        let bucket = BOUNDS.iter().position(|&(bound_us, _)| us <= bound_us);
        let counter = bucket.map_or(&self.longer, |at| &self.buckets[at]);
        counter.set(counter.get() + 1);
        self.sum_us.set(self.sum_us.get().saturating_add(us));
    }

    /// Its values under these labels.
    pub fn samples(&self, labels: &[(&'static str, &str)]) -> Vec<Sample> {
        let sample = |suffix, value| {
            let labels = labels.iter().map(|&(name, value)| (name, value.to_owned())).collect();
            Sample { suffix, labels, value }
        };
        let mut below = 0;
        let mut samples = Vec::with_capacity(BOUNDS.len() + 3);
        for (counter, (_, bound)) in self.buckets.iter().zip(BOUNDS) {
            below += counter.get();
            samples.push(sample("_bucket", count(below)).label("le", bound));
        }
        let all = below + self.longer.get();
        samples.push(sample("_bucket", count(all)).label("le", "+Inf"));
        samples.push(sample("_sum", count(self.sum_us.get()) / 1e6));
        samples.push(sample("_count", count(all)));
        samples
    }

    /// A metric of this histogram alone.
    pub fn metric(&self, name: &'static str, help: &'static str) -> Metric {
        Metric { name, help, kind: MetricKind::Histogram, samples: self.samples(&[]) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_count_up() {
        let histogram = Histogram::default();
        for us in [100, 101, 9_999, 60_000_000] {
            histogram.observe(Duration::from_micros(us));
        }
        let samples = histogram.samples(&[("op", "get")]);
        let at = |le: &str| {
            samples
                .iter()
                .find(|sample| sample.labels.contains(&("le", le.to_owned())))
                .unwrap()
                .value
        };
        assert_eq!(at("0.0001").to_bits(), 1_f64.to_bits());
        assert_eq!(at("0.00025").to_bits(), 2_f64.to_bits());
        assert_eq!(at("0.01").to_bits(), 3_f64.to_bits());
        assert_eq!(at("10").to_bits(), 3_f64.to_bits());
        assert_eq!(at("+Inf").to_bits(), 4_f64.to_bits());
        assert!(samples.iter().all(|sample| sample.labels[0] == ("op", "get".to_owned())));
    }
}
