//! How long reads took within the servers, those that memory answered and those that waited for a disk apart: nodes of
//! Moim say so in `INFO stats`, and what was added to it during a run is the run's.
//!
//! Only bounds of buckets are known, so a quantile may be a fifth too high. Other servers say nothing of the kind.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use serde::Serialize;

use super::slots::fetch;

/// By the upper bound of a bucket in microseconds: how many reads it holds.
type Buckets = BTreeMap<u64, u64>;

/// What all nodes together have said.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    memory: Buckets,
    disk: Buckets,
}

/// Asks all nodes; `None` if one does not say.
pub(crate) fn ask(addresses: &[SocketAddr], password: Option<&str>) -> Option<Counts> {
    let mut all = Counts::default();
    for &address in addresses {
        let text = fetch(address, password, &[b"INFO", b"stats"]).ok()?;
        add(&mut all.memory, buckets(&text, "moim_reads_from_memory_us:")?);
        add(&mut all.disk, buckets(&text, "moim_reads_from_disk_us:")?);
    }
    Some(all)
}

fn buckets(text: &str, field: &str) -> Option<Buckets> {
    let value = text.lines().find_map(|line| line.strip_prefix(field))?;
    let pairs = value.split(',').filter(|pair| !pair.is_empty());
    pairs
        .map(|pair| {
            let (bound, count) = pair.split_once('=')?;
            Some((bound.parse().ok()?, count.parse().ok()?))
        })
        .collect()
}

fn add(all: &mut Buckets, more: Buckets) {
    for (bound, count) in more {
        *all.entry(bound).or_default() += count;
    }
}

/// Reads during a run, as the servers saw them.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Served {
    /// No replica that the answer needed had to wait for its disk.
    pub(crate) from_memory: Quantiles,
    /// One had to.
    pub(crate) from_disk: Quantiles,
}

/// Upper bounds of latencies, in milliseconds.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Quantiles {
    pub(crate) count: u64,
    p50_ms: f64,
    p99_ms: f64,
    p999_ms: f64,
    max_ms: f64,
}

impl Served {
    pub(crate) fn between(before: &Counts, after: &Counts) -> Self {
        Self {
            from_memory: Quantiles::between(&before.memory, &after.memory),
            from_disk: Quantiles::between(&before.disk, &after.disk),
        }
    }
}

impl Quantiles {
    fn between(before: &Buckets, after: &Buckets) -> Self {
        let added = after.iter().map(|(bound, count)| {
            (*bound, count.saturating_sub(before.get(bound).copied().unwrap_or(0)))
        });
        let added: Vec<_> = added.filter(|(_, count)| *count > 0).collect();
        let count: u64 = added.iter().map(|(_, count)| count).sum();
        let at = |per_mille: u64| {
            // The rank rounded up: the p99 of ten is the tenth.
            let rank = count.saturating_mul(per_mille).div_ceil(1_000);
            let mut below = 0;
            let reached = added.iter().find(|(_, count)| {
                below += count;
                below >= rank
            });
            reached.map_or(0.0, |&(bound_us, _)| milliseconds(bound_us))
        };
        let (p50_ms, p99_ms, p999_ms, max_ms) = (at(500), at(990), at(999), at(1_000));
        Self { count, p50_ms, p99_ms, p999_ms, max_ms }
    }

    pub(crate) fn row(&self, name: &str) -> Vec<String> {
        let ms = |ms: f64| format!("{ms:.2}");
        let (mean, p90) = (String::new(), String::new());
        let (p50, p99, p999) = (ms(self.p50_ms), ms(self.p99_ms), ms(self.p999_ms));
        vec![name.to_owned(), self.count.to_string(), mean, p50, p90, p99, p999, ms(self.max_ms)]
    }
}

#[expect(clippy::cast_precision_loss, reason = "microseconds are far below 2^53")]
fn milliseconds(us: u64) -> f64 {
    us as f64 / 1_000.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_added_is_the_runs() {
        let text =
            "moim_reads:7\r\nmoim_reads_from_memory_us:64=5,80=2\r\nmoim_reads_from_disk_us:\r\n";
        let before = Counts {
            memory: buckets(text, "moim_reads_from_memory_us:").unwrap(),
            disk: buckets(text, "moim_reads_from_disk_us:").unwrap(),
        };
        assert_eq!(before.memory, Buckets::from([(64, 5), (80, 2)]));
        assert_eq!(buckets(text, "keyspace:"), None);
        let mut after = before.clone();
        add(&mut after.memory, Buckets::from([(64, 98), (80, 1), (1_024, 1)]));
        add(&mut after.disk, Buckets::from([(4_096, 3)]));
        let served = Served::between(&before, &after);
        assert_eq!((served.from_memory.count, served.from_disk.count), (100, 3));
        let ms = |quantiles: &Quantiles| {
            [quantiles.p50_ms, quantiles.p99_ms, quantiles.max_ms].map(|ms| format!("{ms:.3}"))
        };
        assert_eq!(ms(&served.from_memory), ["0.064", "0.080", "1.024"]);
        assert_eq!(ms(&served.from_disk), ["4.096"; 3]);
        assert_eq!(Served::between(&after, &after).from_disk.count, 0);
    }
}
