//! What a cluster costs that nobody uses.

use std::fs;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use super::Verdict;
use super::cluster::{Cluster, NODES};
use super::stage::Stage;

/// Until what comes with a start is over.
const SETTLING: Duration = Duration::from_secs(10);
const WATCHING: Duration = Duration::from_secs(30);
/// Share of a core that a node may take at the most, in percent.
const PERCENT_MAX: f64 = 1.0;
/// The kernel counts time to user space in hundredths of a second, whatever its own clock is.
const TICKS_PER_SECOND: f64 = 100.0;

pub(super) fn play(stage: &Stage) -> Result<Verdict> {
    let cluster = Cluster::start(stage)?;
    thread::sleep(SETTLING);
    let before = figures(&cluster)?;
    let began = Instant::now();
    thread::sleep(WATCHING);
    let seconds = began.elapsed().as_secs_f64();
    let mut most = 0.0_f64;
    for (node, (before, after)) in (1..).zip(before.iter().zip(figures(&cluster)?)) {
        let percent = (after.ticks - before.ticks) / TICKS_PER_SECOND / seconds * 100.0;
        let switches = (after.switches - before.switches) / seconds;
        println!("  node {node}: {percent:.2} % of a core, {switches:.0} wakeups a second");
        most = most.max(percent);
    }
    if most >= PERCENT_MAX {
        bail!("a node that nobody asks anything takes {most:.2} % of a core");
    }
    Ok(Verdict::Shown)
}

struct Figures {
    ticks: f64,
    switches: f64,
}

/// Processor seconds that all nodes have taken since they were started.
pub(super) fn processor_seconds(cluster: &Cluster<'_>) -> Result<f64> {
    Ok(figures(cluster)?.iter().map(|figures| figures.ticks).sum::<f64>() / TICKS_PER_SECOND)
}

fn figures(cluster: &Cluster<'_>) -> Result<Vec<Figures>> {
    (1..=NODES).map(|node| of_process(cluster.pid(node)?)).collect()
}

/// What the kernel says of a process and all its threads.
fn of_process(pid: u64) -> Result<Figures> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).context("read /proc")?;
    // The name in parentheses may hold anything; what follows it is numbers.
    let fields = stat.rsplit(')').next().unwrap_or_default().split_whitespace();
    let numbers: Vec<f64> = fields.skip(11).take(2).filter_map(|text| text.parse().ok()).collect();
    let mut switches = 0.0;
    for thread in fs::read_dir(format!("/proc/{pid}/task"))? {
        let status = fs::read_to_string(thread?.path().join("status")).unwrap_or_default();
        let line = status.lines().find(|line| line.starts_with("voluntary_ctxt_switches"));
        let count = line.and_then(|line| line.split_whitespace().last()?.parse::<f64>().ok());
        switches += count.unwrap_or(0.0);
    }
    Ok(Figures { ticks: numbers.iter().sum(), switches })
}
