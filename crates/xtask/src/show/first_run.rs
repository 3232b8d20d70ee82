//! What somebody sees who starts a cluster for the first time, with the tools that they have anyway.

use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};

use super::Verdict;
use super::cluster::{Cluster, NODES};
use super::process::run;
use super::stage::Stage;

const TOOL: Duration = Duration::from_mins(5);
/// Lines of the greeting that can be tried at once.
const TO_TRY: usize = 3;

pub(super) fn play(stage: &Stage) -> Result<Verdict> {
    for tool in ["redis-cli", "redis-benchmark"] {
        if run(Command::new(tool).arg("--version"), TOOL).is_err() {
            return Ok(Verdict::NotBuilt(format!("{tool} (Debian: apt-get install redis-tools)")));
        }
    }
    let cluster = Cluster::start(stage)?;
    greeting(&cluster)?;
    cli(&cluster)?;
    // The first is what everybody types: one key. The second is nearer to life.
    benchmark(&cluster, &[])?;
    benchmark(&cluster, &["-r", "100000"])?;
    Ok(Verdict::Shown)
}

fn greeting(cluster: &Cluster<'_>) -> Result<()> {
    cluster.greeting.lines().for_each(|line| println!("  | {line}"));
    for node in 1..=NODES {
        for port in [cluster.redis_port(node), cluster.http_port(node)] {
            ensure!(cluster.greeting.contains(&port.to_string()), "port {port} is not announced");
        }
    }
    let starts = ["redis-cli", "moim dev kill", "http://127.0.0.1:"];
    let to_try = starts.iter().filter(|start| cluster.greeting.contains(**start)).count();
    ensure!(to_try == TO_TRY, "{to_try} of {TO_TRY} things to try are announced: {starts:?}");
    Ok(())
}

fn cli(cluster: &Cluster<'_>) -> Result<()> {
    for (node, words, expected) in [(1, &["SET", "a", "1"][..], "OK"), (3, &["GET", "a"], "1")] {
        let port = cluster.redis_port(node).to_string();
        let mut command = Command::new("redis-cli");
        let said = run(command.args(["-p", &port]).args(words), TOOL)?.successful()?.stdout;
        println!("  redis-cli -p {port} {}  ->  {}", words.join(" "), said.trim());
        ensure!(said.trim() == expected, "{words:?} on node {node} gave '{}'", said.trim());
    }
    Ok(())
}

fn benchmark(cluster: &Cluster<'_>, keys: &[&str]) -> Result<()> {
    let port = cluster.redis_port(1).to_string();
    let load = ["-t", "set,get", "-d", "2048", "-n", "200000", "-c", "50", "-P", "16"];
    let mut command = Command::new("redis-benchmark");
    command.args(["-p", &port, "--csv"]).args(load).args(keys);
    println!("  redis-benchmark -p {port} {} {}", load.join(" "), keys.join(" "));
    let finished = run(&mut command, TOOL)?.successful().context("redis-benchmark")?;
    for said in [&finished.stdout, &finished.stderr] {
        let words = said.to_ascii_lowercase();
        if let Some(bad) = ["error", "warning", "closed"].iter().find(|bad| words.contains(**bad)) {
            bail!("redis-benchmark says '{bad}': {}", said.trim());
        }
    }
    let mut figures = 0;
    for row in finished.stdout.lines().filter(|line| !line.starts_with("\"test\"")) {
        let fields: Vec<&str> = row.split(',').map(|field| field.trim_matches('"')).collect();
        let &[test, rate, _average, _least, median, _p95, p99, most] = &fields[..] else {
            bail!("another form of figures than this task knows: {row}");
        };
        println!("    {test}: {rate} requests/s; median {median} ms, p99 {p99} ms, most {most} ms");
        figures += 1;
    }
    ensure!(figures == 2, "figures of SET and GET were expected: {}", finished.stdout);
    println!("    clean, in {:.1} s", finished.took.as_secs_f64());
    Ok(())
}
