//! What clients notice while a node that lost its disk is filled: the p99.9 of requests at a fixed rate, in windows by
//! turns in which the node is filled and in which it is as empty and not filled, and how fast filling is alone.
//!
//! In both kinds of windows one of three copies is away: only what the repair itself does differs. Whatever else runs on
//! the machine falls on both kinds, in pairs whose order alternates, and the median of each kind is compared; how far
//! windows of one kind are apart is shown beside it, and where that is so far that a tenth cannot be told from chance, nothing
//! is said to be shown.

use std::fs;
use std::process::Child;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use super::Verdict;
use super::cluster::{Cluster, NODES, await_true};
use super::http;
use super::idle_cpu::processor_seconds;
use super::stage::Stage;

/// Keys of 2 KB: enough that filling outlasts a window.
const KEYS: &str = "60000";
/// Bytes of one copy of all of them.
const COPY_BYTES: f64 = 60_000.0 * 2_048.0;
const WINDOW: &str = "4s";
const PAIRS: u32 = 12;
/// Connections stand again after this, and the node is known not to be ready.
const SETTLED: Duration = Duration::from_secs(1);
/// The part of what the cluster can do that clients ask for.
const LOAD: f64 = 0.3;
/// By how much the median of p99.9 may grow.
const GROWTH_MAX: f64 = 1.1;
/// Between the quartiles of the windows in which nothing is filled: beyond it the machine decides, not the repair.
const SPREAD_MAX: f64 = 1.5;
const WIPED: u16 = 3;
/// How long filling may take.
const FILL: Duration = Duration::from_mins(3);
/// With these a node asks for next to nothing.
const PAUSED: [(&str, &str); 3] = [
    ("MOIM_NODE_BACKGROUND_BYTES_PER_SECOND_MIN", "1"),
    ("MOIM_NODE_BACKGROUND_BYTES_PER_SECOND_MAX", "1"),
    ("MOIM_NODE_REFILL_BYTES_PER_SECOND_MIN", "1"),
];

pub(super) fn play(stage: &Stage) -> Result<Verdict> {
    if !Stage::keeps() {
        return Ok(Verdict::NotBuilt("an engine that keeps".to_owned()));
    }
    let cluster = Cluster::start(stage)?;
    let capacity = bench(&cluster, &["--fill", "--duration", WINDOW])?.per_second;
    let rate = format!("{:.0}", (capacity * LOAD).max(1.0));
    println!("  {capacity:.0} requests/s at the most; clients ask for {rate}");
    let window = ["--rate", rate.as_str(), "--duration", WINDOW];
    let (mut paused, mut filling) = (Windows::default(), Windows::default());
    let mut filled_bytes = 0.0;
    for pair in 0..PAIRS {
        // In the order of Thue and Morse, so that nothing that comes back every few windows falls on one kind.
        let is_first = pair.count_ones() % 2 == 0;
        for is_paused in [is_first, !is_first] {
            let (_, mut starting) = wipe(&cluster, if is_paused { &PAUSED } else { &[] })?;
            thread::sleep(SETTLED);
            let before = given(&cluster)?;
            let seen = bench(&cluster, &window)?;
            let bytes = given(&cluster)? - before;
            let kind = if is_paused { "paused " } else { "filling" };
            println!("    {kind}: {seen}, {:.1} MB filled", bytes / 1e6);
            ensure!(is_paused || bytes > 0.0, "nothing was filled in the window");
            filled_bytes += if is_paused { 0.0 } else { bytes };
            if is_paused { &mut paused } else { &mut filling }.0.push(seen);
            // It waits for a node that is taken away again.
            starting.kill()?;
            starting.wait()?;
        }
    }
    alone(&cluster)?;
    println!("  paused:  {paused}");
    println!("  filling: {filling}; {:.1} MB a window", filled_bytes / 1e6 / f64::from(PAIRS));
    let growth = filling.median(|window| window.p999) / paused.median(|window| window.p999);
    println!("  median p99.9 while a node is filled: {growth:.2} times that while it is not");
    let [low, high] = paused.quartiles(|window| window.p999);
    if high > low * SPREAD_MAX {
        return Ok(Verdict::NotBuilt(format!(
            "a quieter machine: p99.9 is {low:.0} to {high:.0} ms in half of the windows where nothing is filled, so \
             {growth:.2} says nothing"
        )));
    }
    ensure!(growth <= GROWTH_MAX, "clients notice: p99.9 grows {growth:.2} times");
    Ok(Verdict::Shown)
}

/// How fast filling is when nobody asks for anything.
fn alone(cluster: &Cluster<'_>) -> Result<()> {
    let (began, mut starting) = wipe(cluster, &[])?;
    let before = processor_seconds(cluster)?;
    await_true(FILL, "the node is not filled", || Ok(unfilled(cluster)? < 1.0))?;
    starting.wait()?;
    let processor = processor_seconds(cluster)? - before;
    let seconds = began.elapsed().as_secs_f64();
    println!(
        "  without clients {:.0} MB are filled in {seconds:.1} s: {:.1} MB/s, {:.1} ms of processor time a MB at all three \
         nodes together",
        COPY_BYTES / 1e6,
        COPY_BYTES / seconds / 1e6,
        processor * 1e9 / COPY_BYTES
    );
    Ok(())
}

/// What a window showed, in milliseconds.
struct Window {
    per_second: f64,
    p50: f64,
    p99: f64,
    p999: f64,
}

impl std::fmt::Display for Window {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { p50, p99, p999, .. } = self;
        write!(f, "p50 {p50:.2} ms, p99 {p99:.2} ms, p99.9 {p999:.2} ms")
    }
}

/// All windows of a kind.
#[derive(Default)]
struct Windows(Vec<Window>);

impl Windows {
    /// The median of a figure; of an even number the lower one in the middle.
    fn median(&self, figure: impl Fn(&Window) -> f64) -> f64 {
        self.ranked(figure, |count| (count - 1) / 2)
    }

    /// Half of the windows lie between these.
    fn quartiles(&self, figure: impl Fn(&Window) -> f64) -> [f64; 2] {
        [
            self.ranked(&figure, |count| count / 4),
            self.ranked(&figure, |count| count - 1 - count / 4),
        ]
    }

    /// A figure of the window at a rank among its likes.
    fn ranked(&self, figure: impl Fn(&Window) -> f64, rank: impl Fn(usize) -> usize) -> f64 {
        let mut figures: Vec<f64> = self.0.iter().map(figure).collect();
        figures.sort_unstable_by(f64::total_cmp);
        figures[rank(figures.len())]
    }
}

impl std::fmt::Display for Windows {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let p999 = |window: &Window| window.p999;
        let [low, high] = self.quartiles(p999);
        write!(
            f,
            "median p50 {:.2} ms, p99 {:.2} ms, p99.9 {:.2} ms (half of the windows {low:.2} to {high:.2})",
            self.median(|window| window.p50),
            self.median(|window| window.p99),
            self.median(p999),
        )
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

/// Takes a node's data away and starts it with these variables; returns when it begins to be filled, and the program that
/// waits until it is.
fn wipe(cluster: &Cluster<'_>, variables: &[(&str, &str)]) -> Result<(Instant, Child)> {
    cluster.kill(&[WIPED])?;
    fs::remove_dir_all(cluster.data(WIPED))?;
    let starting = cluster.begin(WIPED, variables)?;
    let began = Instant::now();
    await_true(FILL, "the wiped node does not begin to be filled", || {
        Ok(unfilled(cluster).is_ok_and(|left| left > 0.0))
    })?;
    Ok((began, starting))
}

/// Partitions that the node that was wiped still lacks.
fn unfilled(cluster: &Cluster<'_>) -> Result<f64> {
    figure(cluster, WIPED, "moim_unfilled_partitions ")
}

/// Bytes that the others have given to it.
fn given(cluster: &Cluster<'_>) -> Result<f64> {
    let of = |node| figure(cluster, node, "moim_background_bytes_total{reason=\"refill\"} ");
    (1..=NODES).filter(|node| *node != WIPED).map(of).sum()
}

/// One figure of a node's metrics.
fn figure(cluster: &Cluster<'_>, node: u16, name: &str) -> Result<f64> {
    let metrics = http::get(cluster.http_port(node), "/metrics")?.body;
    let metrics = String::from_utf8_lossy(&metrics);
    let figure = metrics.lines().find_map(|line| line.strip_prefix(name));
    figure
        .and_then(|figure| figure.trim().parse().ok())
        .with_context(|| format!("no metric {name}"))
}
