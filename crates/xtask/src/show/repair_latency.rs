//! What clients notice while a node that lost its disk is filled: the p99.9 of requests at a fixed rate, in windows by
//! turns with and without a refill, and how fast the refill is, with clients and alone.

use std::fs;
use std::process::Child;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use super::Verdict;
use super::cluster::{Cluster, await_true};
use super::http;
use super::idle_cpu::processor_seconds;
use super::stage::Stage;

/// Keys of 2 KB: enough that filling outlasts a window.
const KEYS: &str = "60000";
/// Bytes of one copy of all of them.
const COPY_BYTES: f64 = 60_000.0 * 2_048.0;
const WINDOW: &str = "5s";
const PAIRS: usize = 4;
/// The part of what the cluster can do that clients ask for.
const LOAD: f64 = 0.3;
/// By how much the sum of p99.9 may grow.
const GROWTH_MAX: f64 = 1.1;
const WIPED: u16 = 3;
/// How long filling may take.
const FILL: Duration = Duration::from_mins(3);

pub(super) fn play(stage: &Stage) -> Result<Verdict> {
    if !Stage::keeps() {
        return Ok(Verdict::NotBuilt("an engine that keeps (ENGINE=rocksdb)".to_owned()));
    }
    let cluster = Cluster::start(stage)?;
    let capacity = bench(&cluster, &["--fill", "--duration", WINDOW])?.per_second;
    let rate = format!("{:.0}", (capacity * LOAD).max(1.0));
    println!("  {capacity:.0} requests/s at the most; clients ask for {rate}");
    let window = ["--rate", rate.as_str(), "--duration", WINDOW];
    let (mut quiet, mut filling) = (Sums::default(), Sums::default());
    for _ in 0..PAIRS {
        quiet.add(&bench(&cluster, &window)?);
        let (began, mut starting) = wipe(&cluster)?;
        filling.add(&bench(&cluster, &window)?);
        let seen = began.elapsed();
        let left = unfilled(&cluster)?;
        cluster.await_ready(WIPED)?;
        starting.wait()?;
        let took = if left > 0.0 { began.elapsed() } else { seen };
        println!(
            "    filled within {:.1} s, {left:.0} partitions were left after the window",
            took.as_secs_f64()
        );
    }
    let (began, mut starting) = wipe(&cluster)?;
    let before = processor_seconds(&cluster)?;
    cluster.await_ready(WIPED)?;
    starting.wait()?;
    let processor = processor_seconds(&cluster)? - before;
    let seconds = began.elapsed().as_secs_f64();
    let rate = COPY_BYTES / seconds / 1e6;
    println!(
        "  without clients {:.0} MB are filled in {seconds:.1} s: {rate:.1} MB/s, {:.1} ms of processor time a MB at all \
         three nodes together",
        COPY_BYTES / 1e6,
        processor * 1e9 / COPY_BYTES
    );
    println!("  quiet:   {quiet}");
    println!("  filling: {filling}");
    let growth = filling.p999 / quiet.p999;
    println!("  sum of p99.9 while a node is filled: {growth:.2} times that of the quiet windows");
    ensure!(growth <= GROWTH_MAX, "clients notice: p99.9 grows {growth:.2} times");
    Ok(Verdict::Shown)
}

/// What a window showed, in milliseconds.
struct Window {
    per_second: f64,
    p50: f64,
    p99: f64,
    p999: f64,
}

/// Over all windows of a kind.
#[derive(Default)]
struct Sums {
    p50: f64,
    p99: f64,
    p999: f64,
}

impl Sums {
    fn add(&mut self, window: &Window) {
        let Window { p50, p99, p999, .. } = window;
        println!("    p50 {p50:.2} ms, p99 {p99:.2} ms, p99.9 {p999:.2} ms");
        self.p50 += p50;
        self.p99 += p99;
        self.p999 += p999;
    }
}

impl std::fmt::Display for Sums {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { p50, p99, p999 } = self;
        write!(f, "sums of p50 {p50:.1} ms, of p99 {p99:.1} ms, of p99.9 {p999:.1} ms")
    }
}

/// Half reads, half writes of 2 KB, uniform over all keys.
fn bench(cluster: &Cluster<'_>, more: &[&str]) -> Result<Window> {
    let node = format!("127.0.0.1:{}", cluster.http_port(1));
    let usual = [
        "bench",
        "--addr",
        &node,
        "--json",
        "-",
        "--keys",
        KEYS,
        "--zipf",
        "0",
        "--reads",
        "1",
        "--writes",
        "1",
        "--connections",
        "24",
    ];
    let words = [&usual[..], more].concat();
    let report: Value = serde_json::from_str(&cluster.moim(&words)?.successful()?.stdout)?;
    let figure = |kind: &str, name: &str| {
        let figure = report[kind][name].as_f64();
        figure.with_context(|| format!("no {name} of {kind} in {report}"))
    };
    // The slower of both kinds is what an application waits for.
    let worst =
        |name| Ok::<f64, anyhow::Error>(figure("reads", name)?.max(figure("writes", name)?));
    let per_second = report["requests_per_second"].as_f64().context("no rate")?;
    Ok(Window { per_second, p50: worst("p50_ms")?, p99: worst("p99_ms")?, p999: worst("p999_ms")? })
}

/// Takes a node's data away; returns when it serves again, empty, and the program that waits until it is filled.
fn wipe(cluster: &Cluster<'_>) -> Result<(Instant, Child)> {
    cluster.kill(&[WIPED])?;
    fs::remove_dir_all(cluster.data(WIPED))?;
    let starting = cluster.begin(WIPED)?;
    let began = Instant::now();
    await_true(FILL, "the wiped node does not begin to be filled", || {
        Ok(unfilled(cluster).is_ok_and(|left| left > 0.0))
    })?;
    Ok((began, starting))
}

/// Partitions that the node that was wiped still lacks.
fn unfilled(cluster: &Cluster<'_>) -> Result<f64> {
    let metrics = http::get(cluster.http_port(WIPED), "/metrics")?.body;
    let metrics = String::from_utf8_lossy(&metrics);
    let line = metrics.lines().find_map(|line| line.strip_prefix("moim_unfilled_partitions "));
    line.and_then(|figure| figure.trim().parse().ok()).context("no metric moim_unfilled_partitions")
}
