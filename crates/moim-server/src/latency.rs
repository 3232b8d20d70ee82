//! How long reads took that memory answered, and how long those that waited for a disk: on one average nobody sees
//! either.
//!
//! A read is one of the second kind if any replica that its answer needed said that it had to wait, or one was so late that
//! another answered in its place. Time counts from the
//! moment a request is handed to the node, queueing included, until its outcome is known.

use std::cell::Cell;
use std::time::Duration;

use crate::http::metrics::{Metric, MetricKind, Sample, count};

/// Buckets to a doubling: quantiles are at most a fifth too high.
const PER_DOUBLING: u32 = 4;
const PER_DOUBLING_LOG: u32 = PER_DOUBLING.ilog2();

/// 2^27 µs are two minutes, longer than any request.
const DOUBLINGS: u32 = 27;

const BUCKETS: usize = (PER_DOUBLING * DOUBLINGS) as usize;

/// Every second doubling has a bucket in `/metrics`, from 64 µs on.
const SHOWN: std::ops::RangeInclusive<u32> = 3..=12;

/// Latencies of one kind, on one thread.
#[derive(Debug)]
pub(crate) struct Latencies {
    buckets: [Cell<u64>; BUCKETS],
    sum_us: Cell<u64>,
}

impl Default for Latencies {
    fn default() -> Self {
        Self { buckets: [const { Cell::new(0) }; BUCKETS], sum_us: Cell::default() }
    }
}

impl Latencies {
    pub(crate) fn observe(&self, took: Duration) {
        let us = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        let bucket = &self.buckets[bucket_of(us)];
        bucket.set(bucket.get() + 1);
        self.sum_us.set(self.sum_us.get().saturating_add(us));
    }

    pub(crate) fn count(&self) -> u64 {
        self.buckets.iter().map(Cell::get).sum()
    }

    /// The buckets that hold something: their upper bounds in microseconds, and how many.
    pub(crate) fn filled(&self) -> impl Iterator<Item = (u64, u64)> {
        let filled = self.buckets.iter().enumerate().filter(|(_, bucket)| bucket.get() > 0);
        filled.map(|(at, bucket)| (bound_us(at), bucket.get()))
    }

    /// How many took at most so many microseconds, which is the bound of a bucket.
    fn within(&self, us: u64) -> u64 {
        self.filled().take_while(|&(bound, _)| bound <= us).map(|(_, count)| count).sum()
    }

    fn samples(&self, from: &'static str) -> Vec<Sample> {
        let sample = |suffix, value| Sample { suffix, ..Sample::new(value).label("from", from) };
        let mut samples: Vec<_> = SHOWN
            .map(|half| {
                let us = 1_u64 << (2 * half);
                let seconds = Duration::from_micros(us).as_secs_f64();
                sample("_bucket", count(self.within(us))).label("le", seconds.to_string())
            })
            .collect();
        samples.push(sample("_bucket", count(self.count())).label("le", "+Inf"));
        samples.push(sample("_sum", count(self.sum_us.get()) / 1e6));
        samples.push(sample("_count", count(self.count())));
        samples
    }
}

/// Reads by where their answer came from.
#[derive(Debug, Default)]
pub(crate) struct Reads {
    /// No replica had to wait.
    pub(crate) memory: Latencies,
    /// One had to.
    pub(crate) disk: Latencies,
}

impl Reads {
    pub(crate) fn observe(&self, from_disk: bool, took: Duration) {
        if from_disk { self.disk.observe(took) } else { self.memory.observe(took) }
    }

    pub(crate) fn metric(&self) -> Metric {
        let samples = [self.memory.samples("memory"), self.disk.samples("disk")].concat();
        Metric {
            name: "moim_read_seconds",
            help: "Time of reads of one key that this node coordinated, by whether a replica waited for its disk.",
            kind: MetricKind::Histogram,
            samples,
        }
    }
}

/// The first bucket whose bound is not below: bounds are four to a doubling, and whole microseconds.
fn bucket_of(us: u64) -> usize {
    let above = us.max(1) - 1;
    if above < u64::from(PER_DOUBLING) {
        return usize::try_from(above).unwrap_or(0);
    }
    let doubling = above.ilog2();
    let step = above >> (doubling - PER_DOUBLING_LOG) & u64::from(PER_DOUBLING - 1);
    let at = u64::from((doubling - PER_DOUBLING_LOG + 1) * PER_DOUBLING) + step;
    usize::try_from(at).unwrap_or(usize::MAX).min(BUCKETS - 1)
}

/// The most that a value in this bucket can be.
fn bound_us(at: usize) -> u64 {
    let at = at as u64;
    let per = u64::from(PER_DOUBLING);
    if at < per {
        return at + 1;
    }
    (per + at % per + 1) << (at / per - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_in_the_first_bucket_that_takes_it() {
        for us in (0..5_000).chain([1 << 20, (1 << 20) + 1, 30_000_000]) {
            let at = bucket_of(us);
            assert!(us <= bound_us(at), "{us} in {at}, up to {}", bound_us(at));
            assert!(at == 0 || us > bound_us(at - 1), "{us} in {at}");
            assert!(us < 8 || bound_us(at) <= us + us / 4 + 1, "{us} in {at}");
        }
        assert_eq!(bucket_of(u64::MAX), BUCKETS - 1);
        for half in SHOWN {
            let us = 1 << (2 * half);
            assert_eq!(bound_us(bucket_of(us)), us, "a bucket of the metric ends where one ends");
        }
    }

    #[test]
    fn kinds_are_counted_apart() {
        let reads = Reads::default();
        reads.observe(false, Duration::from_micros(40));
        reads.observe(true, Duration::from_millis(3));
        reads.observe(true, Duration::from_millis(300));
        assert_eq!((reads.memory.count(), reads.disk.count()), (1, 2));
        assert_eq!(reads.disk.within(4_096), 1);
        assert_eq!(reads.disk.filled().count(), 2);
        assert_eq!(reads.metric().samples.len(), 2 * (SHOWN.count() + 3));
    }
}
