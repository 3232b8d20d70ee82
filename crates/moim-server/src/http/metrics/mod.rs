//! `/metrics`: figures in Prometheus' text format.
//!
//! Names begin with `moim_` and end in their base unit; counters end in `_total`. Other parts of the server hand in
//! theirs as [`Metric`]s.

mod background;
mod catalog;
mod freshness;
mod histogram;
mod process;
mod rates;

pub(super) use background::{of_pace, of_transfers};
pub(super) use catalog::{of_engine, of_node};
pub(super) use freshness::of_freshness;
pub use histogram::Histogram;
pub(crate) use process::program_bytes;
pub(super) use process::{memory_bytes, of_process};
pub(super) use rates::{Rates, Totals};

use std::fmt::Write as _;

/// What kind of figure a metric is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MetricKind {
    /// Only grows, from 0 at the start of the process.
    Counter,
    /// Goes up and down.
    Gauge,
    /// Counts observations by size.
    Histogram,
}

/// A figure with a name, and its values.
#[derive(Clone, Debug, PartialEq)]
pub struct Metric {
    /// `moim_…`, with the base unit.
    pub name: &'static str,
    /// One line that says what it counts.
    pub help: &'static str,
    /// What kind of figure it is.
    pub kind: MetricKind,
    /// Its values, one for each set of labels.
    pub samples: Vec<Sample>,
}

/// One value of a metric.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Sample {
    /// Added to the name: `_bucket`, `_sum` or `_count` in a histogram, otherwise nothing.
    pub suffix: &'static str,
    /// Names and values of its labels.
    pub labels: Vec<(&'static str, String)>,
    /// The value.
    pub value: f64,
}

impl Metric {
    /// A counter with one value.
    pub fn counter(name: &'static str, help: &'static str, value: u64) -> Self {
        Self { name, help, kind: MetricKind::Counter, samples: vec![Sample::new(count(value))] }
    }

    /// A level with one value.
    pub fn gauge(name: &'static str, help: &'static str, value: f64) -> Self {
        Self { name, help, kind: MetricKind::Gauge, samples: vec![Sample::new(value)] }
    }
}

impl Sample {
    /// A value without labels.
    pub fn new(value: f64) -> Self {
        Self { suffix: "", labels: Vec::new(), value }
    }

    /// The same value with one more label.
    #[must_use]
    pub fn label(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.labels.push((name, value.into()));
        self
    }
}

/// A count as a metric's value.
#[expect(clippy::cast_precision_loss, reason = "Prometheus' values are floats, exact up to 2^53")]
pub fn count(value: u64) -> f64 {
    value as f64
}

/// Adds figures, each with these labels, to those that are there: what has one name stays together.
pub(super) fn merge(
    all: &mut Vec<Metric>,
    metrics: Vec<Metric>,
    labels: &[(&'static str, String)],
) {
    for mut metric in metrics {
        metric.samples.iter_mut().for_each(|sample| sample.labels.extend_from_slice(labels));
        match all.iter_mut().find(|known| known.name == metric.name) {
            Some(known) => known.samples.append(&mut metric.samples),
            None => all.push(metric),
        }
    }
}

/// The text that Prometheus reads.
pub(super) fn print(metrics: &[Metric]) -> String {
    let mut text = String::new();
    for metric in metrics {
        print_metric(&mut text, metric).expect("writing to a string does not fail");
    }
    text
}

fn print_metric(text: &mut String, metric: &Metric) -> std::fmt::Result {
    let kind = match metric.kind {
        MetricKind::Counter => "counter",
        MetricKind::Gauge => "gauge",
        MetricKind::Histogram => "histogram",
    };
    writeln!(text, "# HELP {} {}", metric.name, metric.help)?;
    writeln!(text, "# TYPE {} {kind}", metric.name)?;
    for sample in &metric.samples {
        write!(text, "{}{}", metric.name, sample.suffix)?;
        for (at, (name, value)) in sample.labels.iter().enumerate() {
            write!(text, "{}{name}=\"{}\"", if at == 0 { '{' } else { ',' }, escape(value))?;
        }
        let close = if sample.labels.is_empty() { "" } else { "}" };
        writeln!(text, "{close} {}", sample.value)?;
    }
    Ok(())
}

fn escape(value: &str) -> String {
    value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_of_several_nodes_are_told_apart_under_one_name() {
        let mut all = vec![Metric::counter("moim_x_total", "X.", 1)];
        merge(&mut all, vec![Metric::counter("moim_reads_total", "Reads.", 3)], &[]);
        for (shard, reads) in [("0", 4), ("1", 5)] {
            let labels = [("shard", shard.to_owned())];
            merge(&mut all, vec![Metric::counter("moim_reads_total", "Reads.", reads)], &labels);
        }
        let text = print(&all);
        assert_eq!(text.matches("# TYPE moim_reads_total").count(), 1, "{text}");
        let samples = "moim_reads_total 3\nmoim_reads_total{shard=\"0\"} 4\nmoim_reads_total{shard=\"1\"} 5\n";
        assert!(text.ends_with(samples), "{text}");
    }

    #[test]
    fn the_text_is_prometheus_own() {
        let labelled = Metric {
            samples: vec![Sample::new(1.5).label("node", "a\"b").label("zone", "z")],
            ..Metric::gauge("moim_load", "Load.", 0.0)
        };
        assert_eq!(
            print(&[Metric::counter("moim_reads_total", "Reads.", 3), labelled]),
            "# HELP moim_reads_total Reads.\n# TYPE moim_reads_total counter\nmoim_reads_total 3\n\
             # HELP moim_load Load.\n# TYPE moim_load gauge\nmoim_load{node=\"a\\\"b\",zone=\"z\"} 1.5\n"
        );
    }
}
