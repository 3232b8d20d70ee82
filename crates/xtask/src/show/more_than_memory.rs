//! More data than memory: keys of 2 KB, half of each compressible, many times the memory of three nodes. Reads at R=2
//! from memory and from disk, their p50 and p99; no request waits longer than a second while tables are compacted; the
//! processes stay within their budgets.
//!
//! `KEYS` and `MEMORY` (bytes, of all nodes together) choose how much. Where three copies do not fit on the disk there are
//! two of each key, which is said.

use std::env;
use std::fs;
use std::io::Read as _;
use std::mem;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::Value;

use super::Verdict;
use super::cluster::{Cluster, NODES};
use super::process::run;
use super::stage::Stage;

const KEYS: u64 = 1_000_000;
const MEMORY_BYTES: u64 = 768 << 20;
/// Of each node, the least that may be configured.
const NODE_MEMORY_BYTES_MIN: u64 = 64 << 20;
/// What a copy of a key takes on disk at the most, while tables are being compacted: twice 1.1 KB, and its log.
const COPY_BYTES: u64 = 2_600;
/// What a process may take beyond a budget of 256 MiB or more. Of less, flushes and compactions take a larger part.
const BEYOND_BYTES_MAX: u64 = 48 << 20;
const STALL_MS_MAX: f64 = 1_000.0;
/// A fill of so many keys a second is slow already.
const FILL_PER_SECOND_MIN: u64 = 1_000;
const PROGRESS: Duration = Duration::from_secs(15);
const LOAD: &[&str] = &["--connections", "24", "--duration", "30s", "--compressible", "50"];
const LIMIT: Duration = Duration::from_mins(3);

pub(super) fn play(stage: &Stage) -> Result<Verdict> {
    if !Stage::keeps() {
        return Ok(Verdict::NotBuilt("an engine that keeps".to_owned()));
    }
    let (keys, memory) = (number("KEYS", KEYS)?, number("MEMORY", MEMORY_BYTES)?);
    let node_memory = (memory / u64::from(NODES)).max(NODE_MEMORY_BYTES_MIN);
    let free = free_bytes()?;
    let copies = (1..=3).rev().find(|copies| keys * COPY_BYTES * copies < free);
    let Some(copies) = copies.filter(|copies| *copies >= 2) else {
        bail!(
            "{keys} keys of 2 KB in two copies may take more than the {free} bytes that are free"
        );
    };
    println!(
        "  {keys} keys of 2 KB in {copies} copies, {} MiB of memory each node, {:.1} GB of disk free",
        node_memory >> 20,
        gigabytes(free)
    );
    let environment = [
        ("MOIM_NODE_MEMORY_BYTES", node_memory.to_string()),
        ("MOIM_CLUSTER_N", copies.to_string()),
    ];
    let cluster = Cluster::start_as(stage, environment.into())?;
    fill(&cluster, keys)?;
    look(&cluster, node_memory)?;
    let mut slowest = 0.0_f64;
    let mut taken = stolen_seconds()?;
    for (name, words) in [
        ("reads, all keys alike", &["--writes", "0", "--zipf", "0"][..]),
        ("reads, some keys more than others", &["--writes", "0", "--zipf", "0.9"]),
        ("as many writes as reads", &["--reads", "1", "--writes", "1", "--zipf", "0"]),
    ] {
        let report = cluster.bench(keys, &[LOAD, words].concat(), LIMIT)?;
        let before = mem::replace(&mut taken, stolen_seconds()?);
        println!("    the host took {:.1} s of CPU from this machine", taken - before);
        slowest = slowest.max(show(name, &report)?);
        look(&cluster, node_memory)?;
    }
    ensure!(slowest <= STALL_MS_MAX, "a request waited for {slowest:.0} ms");
    Ok(Verdict::Shown)
}

fn number(name: &str, default: u64) -> Result<u64> {
    let Some(text) = env::var_os(name) else { return Ok(default) };
    let text = text.to_string_lossy().into_owned();
    text.parse().with_context(|| format!("{name}={text} is no whole number"))
}

/// On the file system that scenarios keep their data on.
fn free_bytes() -> Result<u64> {
    let mut command = Command::new("df");
    command.args(["--output=avail", "-B1"]).arg(env::temp_dir());
    let shown = run(&mut command, LIMIT)?.successful()?.stdout;
    let bytes = shown.lines().last().and_then(|line| line.trim().parse().ok());
    bytes.with_context(|| format!("df says {shown}"))
}

fn fill(cluster: &Cluster<'_>, keys: u64) -> Result<()> {
    let began = Instant::now();
    let words = ["--fill", "--duration", "0s", "--connections", "16", "--compressible", "50"];
    let mut filling = cluster.begin_bench(keys, &words)?;
    let limit = Duration::from_secs(60 + keys / FILL_PER_SECOND_MIN);
    let mut said = Instant::now();
    let status = loop {
        if let Some(status) = filling.try_wait()? {
            break status;
        }
        if began.elapsed() > limit {
            filling.kill()?;
            filling.wait()?;
            bail!("filling took more than {} s", limit.as_secs());
        }
        if said.elapsed() >= PROGRESS {
            said = Instant::now();
            let mib = cluster.resident_kb(1)? >> 10;
            println!("    {} s, node 1 has {mib} MiB of memory", began.elapsed().as_secs());
        }
        thread::sleep(Duration::from_millis(100));
    };
    if !status.success() {
        let mut words = String::new();
        if let Some(mut error) = filling.stderr.take() {
            error.read_to_string(&mut words)?;
        }
        bail!("filling failed: {}", words.trim_end().rsplit('\n').next().unwrap_or_default());
    }
    println!("  filled in {:.0} s", began.elapsed().as_secs_f64());
    Ok(())
}

/// CPU time that a host has taken from this virtual machine since it started: a stall that is not ours.
fn stolen_seconds() -> Result<f64> {
    let stat = fs::read_to_string("/proc/stat")?;
    let hundredths = stat.split_whitespace().nth(8).and_then(|it| it.parse::<f64>().ok());
    Ok(hundredths.with_context(|| format!("/proc/stat says {stat}"))? / 100.0)
}

/// What a run showed; answers what the slowest request took, in milliseconds.
fn show(name: &str, report: &Value) -> Result<f64> {
    let figure = |kind: &Value, name: &str| {
        kind[name].as_f64().with_context(|| format!("no {name} in {report}"))
    };
    println!("  {name}: {:.0} requests/s", figure(report, "requests_per_second")?);
    let mut slowest = 0.0_f64;
    let served = &report["served"];
    for (what, kind) in [
        ("reads", &report["reads"]),
        ("  from memory", &served["from_memory"]),
        ("  from disk", &served["from_disk"]),
        ("writes", &report["writes"]),
    ] {
        let count = figure(kind, "count")?;
        if count > 0.0 {
            let (p50, p99) = (figure(kind, "p50_ms")?, figure(kind, "p99_ms")?);
            let most = figure(kind, "max_ms")?;
            println!(
                "    {what:<13} {count:>8.0}  p50 {p50:.2} ms, p99 {p99:.2} ms, at most {most:.0} ms"
            );
            slowest = slowest.max(most);
        }
    }
    let errors = &report["errors"];
    ensure!(errors.as_object().is_some_and(serde_json::Map::is_empty), "failed: {errors}");
    ensure!(figure(report, "misses")? < 1.0, "reads found nothing");
    Ok(slowest)
}

/// Whether the processes are within their budgets.
fn look(cluster: &Cluster<'_>, node_memory: u64) -> Result<()> {
    for node in 1..=NODES {
        let resident = cluster.resident_kb(node)? << 10;
        println!(
            "    node {node}: {} MiB of memory, the budget is {}",
            resident >> 20,
            node_memory >> 20
        );
        let most = node_memory + BEYOND_BYTES_MAX;
        ensure!(resident <= most, "node {node} has {resident} bytes of memory, {most} allowed");
    }
    Ok(())
}

#[expect(clippy::cast_precision_loss, reason = "shown with one digit")]
fn gigabytes(bytes: u64) -> f64 {
    bytes as f64 / 1e9
}
