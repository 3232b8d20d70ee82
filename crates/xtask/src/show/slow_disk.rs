//! A slow disk stalls what needs it and nothing else. All nodes' disks are made slow on request; the nodes tell how long
//! reads took that memory answered, and those that waited for a disk. Windows by turns with and without.
//!
//! Clients read more keys than memory holds, a few of them often; others write, to keys that nobody reads.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use super::Verdict;
use super::cluster::{Cluster, NODES};
use super::http;
use super::stage::Stage;

const KEYS: u64 = 60_000;
/// Of each node: a fifth of its copies fits.
const MEMORY_BYTES: u64 = 96 << 20;
const PAIRS: usize = 3;
const READS: &[&str] =
    &["--rate", "400", "--connections", "64", "--duration", "6s", "--writes", "0"];
const WRITES: &[&str] = &[
    "--rate",
    "100",
    "--connections",
    "16",
    "--duration",
    "8s",
    "--reads",
    "0",
    "--namespace",
    "1",
];
const DELAY_MS: f64 = 20.0;
/// By how much the p99 of reads from memory may grow: by a half, which two buckets of its histogram are, and a little
/// that one busy moment of the machine takes.
const GROWTH_MAX: f64 = 1.5;
const GROWTH_MS_MAX: f64 = 1.0;
const LIMIT: Duration = Duration::from_mins(3);

pub(super) fn play(stage: &Stage) -> Result<Verdict> {
    if !Stage::keeps() {
        return Ok(Verdict::NotBuilt("an engine that keeps".to_owned()));
    }
    let memory = ("MOIM_NODE_MEMORY_BYTES", MEMORY_BYTES.to_string());
    let cluster = Cluster::start_as(stage, vec![memory])?;
    cluster.bench(KEYS, &["--fill", "--duration", "0s", "--connections", "8"], LIMIT)?;
    window(&cluster)?;
    println!("  {KEYS} keys of 2 KB are filled, {} MiB of memory each node", MEMORY_BYTES >> 20);
    let (mut quick, mut slow) = (Figures::default(), Figures::default());
    for _ in 0..PAIRS {
        quick.add("quick disks", &window(&cluster)?)?;
        set_delay(&cluster, &format!("read={DELAY_MS}ms&commit={DELAY_MS}ms"))?;
        slow.add("slow disks ", &window(&cluster)?)?;
        set_delay(&cluster, "")?;
    }
    let (before, after) = (median(&mut quick.hit_p99), median(&mut slow.hit_p99));
    println!("  median p99 of reads from memory: {before:.2} ms, with slow disks {after:.2} ms");
    let misses = median(&mut slow.miss_p50);
    ensure!(misses >= DELAY_MS, "half of the reads from slow disks took less than {misses:.1} ms");
    let most = GROWTH_MAX * before + GROWTH_MS_MAX;
    ensure!(after <= most, "reads from memory wait for the disk: {after:.2} ms, {most:.2} allowed");
    Ok(Verdict::Shown)
}

/// Of an odd number of windows: one in which the machine was busy with something else says nothing.
fn median(figures: &mut [f64]) -> f64 {
    figures.sort_by(f64::total_cmp);
    figures.get(figures.len() / 2).copied().unwrap_or(f64::NAN)
}

/// Of the windows of a kind, in milliseconds.
#[derive(Default)]
struct Figures {
    hit_p99: Vec<f64>,
    miss_p50: Vec<f64>,
}

impl Figures {
    fn add(&mut self, name: &str, report: &Value) -> Result<()> {
        let figure = |kind: &str, name: &str| {
            let figure = report["served"][kind][name].as_f64();
            figure.with_context(|| format!("no {name} of served.{kind} in {report}"))
        };
        let (hits, hit_p99) = (figure("from_memory", "count")?, figure("from_memory", "p99_ms")?);
        let (misses, miss_p50) = (figure("from_disk", "count")?, figure("from_disk", "p50_ms")?);
        println!(
            "    {name}: {hits:.0} reads from memory, p50 {:.2} ms, p99 {hit_p99:.2} ms; {misses:.0} from disk, p50 \
             {miss_p50:.2} ms, p99 {:.2} ms",
            figure("from_memory", "p50_ms")?,
            figure("from_disk", "p99_ms")?,
        );
        ensure!(report["errors"].as_object().is_some_and(serde_json::Map::is_empty), "{report}");
        ensure!(hits > 0.0 && misses > 0.0, "there are no reads of both kinds: {report}");
        self.hit_p99.push(hit_p99);
        self.miss_p50.push(miss_p50);
        Ok(())
    }
}

/// Readers at a fixed rate while others write.
fn window(cluster: &Cluster<'_>) -> Result<Value> {
    let mut writers = cluster.begin_bench(KEYS, WRITES)?;
    let report = cluster.bench(KEYS, READS, LIMIT);
    writers.wait()?;
    report
}

fn set_delay(cluster: &Cluster<'_>, delays: &str) -> Result<()> {
    for node in 1..=NODES {
        let answer = http::post(cluster.http_port(node), &format!("/v1/dev/slow-disk?{delays}"))?;
        ensure!(answer.status == 204, "node {node} answers {} to slow-disk", answer.status);
    }
    Ok(())
}
