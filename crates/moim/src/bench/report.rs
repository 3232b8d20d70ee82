//! What was measured, for people and for programs.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use hdrhistogram::Histogram;
use serde::Serialize;

use super::connection::Plan;
use super::served::Served;
use crate::ending::Trouble;
use crate::print;

/// What a request does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Read,
    Write,
}

/// The longest latency that is told apart, in microseconds: ten minutes.
const LATENCY_US_MAX: u64 = 600_000_000;

/// Kinds of errors told apart at the most; the rest are counted together.
const ERRORS_MAX: usize = 32;

/// What was measured so far.
#[derive(Debug)]
pub(crate) struct Tally {
    reads: Histogram<u64>,
    writes: Histogram<u64>,
    /// Reads that found nothing.
    misses: u64,
    /// Requests answered before it was measured.
    warm_up: u64,
    errors: BTreeMap<String, u64>,
    first_error: Option<FirstError>,
    /// How long it was measured.
    pub(crate) elapsed: Duration,
}

impl Tally {
    pub(crate) fn new() -> Self {
        let latencies =
            || Histogram::new_with_bounds(1, LATENCY_US_MAX, 3).expect("these bounds are sound");
        Self {
            reads: latencies(),
            writes: latencies(),
            misses: 0,
            warm_up: 0,
            errors: BTreeMap::new(),
            first_error: None,
            elapsed: Duration::ZERO,
        }
    }

    /// A request was answered.
    pub(crate) fn took(&mut self, kind: Kind, nothing: bool, took: Duration) {
        let us = u64::try_from(took.as_micros()).unwrap_or(LATENCY_US_MAX).max(1);
        match kind {
            Kind::Read => self.reads.saturating_record(us),
            Kind::Write => self.writes.saturating_record(us),
        }
        self.misses += u64::from(nothing && kind == Kind::Read);
    }

    /// A request was answered that is not to be measured.
    pub(crate) fn warmed_up(&mut self) {
        self.warm_up += 1;
    }

    /// A request failed: with an error of this kind, in these words, so long after the load began.
    pub(crate) fn error(&mut self, kind: &str, words: &str, after: Duration) {
        let known = self.errors.len() < ERRORS_MAX || self.errors.contains_key(kind);
        let kind = if known { kind } else { "others" };
        *self.errors.entry(kind.to_owned()).or_default() += 1;
        self.first_error.get_or_insert_with(|| FirstError {
            after_seconds: after.as_secs_f64(),
            words: words.to_owned(),
        });
    }

    pub(crate) fn answered(&self) -> u64 {
        self.reads.len() + self.writes.len() + self.warm_up
    }

    pub(crate) fn add(&mut self, other: &Self) {
        self.reads.add(&other.reads).expect("same bounds");
        self.writes.add(&other.writes).expect("same bounds");
        self.misses += other.misses;
        self.warm_up += other.warm_up;
        self.elapsed = self.elapsed.max(other.elapsed);
        for (kind, count) in &other.errors {
            *self.errors.entry(kind.clone()).or_default() += count;
        }
        let first_errors = self.first_error.iter().chain(&other.first_error);
        self.first_error =
            first_errors.min_by(|a, b| a.after_seconds.total_cmp(&b.after_seconds)).cloned();
    }
}

/// What failed first, and how long after the load began: with it one can look for what happened then.
#[derive(Clone, Debug, Serialize)]
struct FirstError {
    after_seconds: f64,
    words: String,
}

/// The figures of a run. The names are for programs that read them: they stay.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    seconds: f64,
    requests_per_second: f64,
    /// Requests answered in all, those before it was measured included: what a server's CPU time was spent on.
    requests_answered: u64,
    /// What was asked for, 0 if as many as go.
    rate: u64,
    connections: usize,
    pipeline: usize,
    value_bytes: usize,
    keys: u64,
    nodes: usize,
    reads: Latencies,
    writes: Latencies,
    misses: u64,
    wait: u32,
    errors: BTreeMap<String, u64>,
    first_error: Option<FirstError>,
    /// What the servers say of their reads, if they do; those of the warm-up are among them.
    pub(crate) served: Option<Served>,
}

/// Latencies of one kind of request, in milliseconds.
#[derive(Debug, Serialize)]
struct Latencies {
    count: u64,
    mean_ms: f64,
    p50_ms: f64,
    p90_ms: f64,
    p99_ms: f64,
    p999_ms: f64,
    max_ms: f64,
}

#[expect(clippy::cast_precision_loss, reason = "figures for people and plots")]
impl Report {
    pub(crate) fn new(plan: &Plan, tally: &Tally, elapsed: Duration) -> Self {
        let seconds = elapsed.as_secs_f64().max(1e-9);
        Self {
            seconds,
            requests_per_second: (tally.answered() - tally.warm_up) as f64 / seconds,
            requests_answered: tally.answered(),
            rate: plan.rate.unwrap_or(0),
            connections: plan.connections,
            pipeline: plan.pipeline,
            value_bytes: plan.value_bytes,
            keys: plan.chooser.keys(),
            nodes: plan.addresses.len(),
            reads: Latencies::of(&tally.reads),
            writes: Latencies::of(&tally.writes),
            misses: tally.misses,
            wait: plan.wait,
            errors: tally.errors.clone(),
            first_error: tally.first_error.clone(),
            served: None,
        }
    }

    pub(crate) fn answered(&self) -> u64 {
        self.reads.count + self.writes.count
    }

    pub(crate) fn failed(&self) -> u64 {
        self.errors.values().sum()
    }

    /// How often what went wrong and what was first, and nothing if nothing did.
    pub(crate) fn errors_in_words(&self) -> String {
        let counts = self.errors.iter().map(|(kind, count)| format!("{count} x {kind}"));
        let counts = counts.collect::<Vec<_>>().join(", ");
        match &self.first_error {
            None => counts,
            Some(FirstError { after_seconds, words }) => {
                format!("{counts}; first after {after_seconds:.1} s: {words}")
            }
        }
    }

    pub(crate) fn table(&self) -> String {
        let heading = ["", "requests", "mean ms", "p50", "p90", "p99", "p99.9", "max"];
        let mut rows = vec![heading.map(str::to_owned).to_vec()];
        for (name, latencies) in [("reads", &self.reads), ("writes", &self.writes)] {
            if latencies.count > 0 {
                rows.push(latencies.row(name));
            }
        }
        if let Some(served) = &self.served {
            let kinds = [(" from memory", &served.from_memory), (" from disk", &served.from_disk)];
            rows.extend(kinds.map(|(name, quantiles)| quantiles.row(name)));
        }
        let totals = format!(
            "{:.0} requests/s over {:.1} s, {} connections to {} nodes, pipeline {}, values of {} bytes, {} reads found \
             nothing\n",
            self.requests_per_second,
            self.seconds,
            self.connections,
            self.nodes,
            self.pipeline,
            self.value_bytes,
            self.misses,
        );
        let failed = match self.failed() {
            0 => String::new(),
            _ => format!("failed: {}\n", self.errors_in_words()),
        };
        print::table(&rows) + &totals + &failed
    }

    pub(crate) fn write_to(&self, path: &Path) -> Result<(), Trouble> {
        let text = serde_json::to_string_pretty(self).expect("figures are a document");
        std::fs::write(path, text + "\n")
            .map_err(|error| Trouble::failed(format!("--json {}: {error}", path.display())))
    }
}

#[expect(clippy::cast_precision_loss, reason = "microseconds are far below 2^53")]
impl Latencies {
    fn of(histogram: &Histogram<u64>) -> Self {
        let at = |quantile: f64| histogram.value_at_quantile(quantile) as f64 / 1_000.0;
        Self {
            count: histogram.len(),
            mean_ms: histogram.mean() / 1_000.0,
            p50_ms: at(0.5),
            p90_ms: at(0.9),
            p99_ms: at(0.99),
            p999_ms: at(0.999),
            max_ms: histogram.max() as f64 / 1_000.0,
        }
    }

    fn row(&self, name: &str) -> Vec<String> {
        let figures =
            [self.mean_ms, self.p50_ms, self.p90_ms, self.p99_ms, self.p999_ms, self.max_ms];
        let mut row = vec![name.to_owned(), self.count.to_string()];
        row.extend(figures.map(|ms| format!("{ms:.2}")));
        row
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_several_connections_the_first_error_is_the_earliest() {
        let mut all = Tally::new();
        for (after_ms, words) in [(900, "OVERLOADED b"), (300, "UNAVAILABLE a"), (301, "TIMEOUT")] {
            let mut tally = Tally::new();
            let kind = words.split(' ').next().unwrap();
            tally.error(kind, words, Duration::from_millis(after_ms));
            tally.error(kind, "later", Duration::from_secs(5));
            all.add(&tally);
        }
        assert_eq!(
            all.errors
                .into_iter()
                .map(|(kind, count)| format!("{count} {kind}"))
                .collect::<Vec<_>>(),
            ["2 OVERLOADED", "2 TIMEOUT", "2 UNAVAILABLE"]
        );
        let first = all.first_error.unwrap();
        assert_eq!((first.after_seconds, &first.words[..]), (0.3, "UNAVAILABLE a"));
    }
}
