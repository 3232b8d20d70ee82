//! Servers of several nodes: they survive what servers of one do, copies lie on distinct machines, and what it costs.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use super::Verdict;
use super::cluster::{Cluster, NODES};
use super::http;
use super::idle_cpu::processor_seconds;
use super::process::{Finished, tail};
use super::redis_py::install;
use super::scratch::Scratch;
use super::sessions::Sessions;
use super::stage::Stage;

const SCRIPT: &str = include_str!("shards.py");
/// Nodes in each server.
const SHARDS: u16 = 2;
const SESSIONS: u32 = 20_000;
const WRITERS: usize = 4;
const VICTIM: u16 = 2;
const AWAY: Duration = Duration::from_secs(4);
const WRITING: Duration = Duration::from_mins(3);
/// For redis-py to end and to read back what it wrote.
const READING: Duration = Duration::from_mins(2);
/// Keys whose owners are looked at.
const KEYS: u32 = 50;
/// Times that filling is tried.
const FILLS: usize = 5;
/// Rounds of the comparison, each with one shard and with several.
const ROUNDS: usize = 2;

pub(super) fn play(stage: &Stage) -> Result<Verdict> {
    let place = Scratch::new("python")?;
    if let Err(why) = install(place.path()) {
        return Ok(Verdict::NotBuilt(format!("redis-py in a virtual environment: {why:#}")));
    }
    survive(stage, place.path())?;
    compare(stage)?;
    Ok(Verdict::Shown)
}

/// A server is killed while clients of both kinds write, and comes back.
fn survive(stage: &Stage, place: &Path) -> Result<()> {
    let cluster = Cluster::start_with_shards(stage, SHARDS)?;
    let all = u64::from(NODES * SHARDS);
    cluster.await_connected(&[1, 2, 3], all)?;
    let python = Python::start(&cluster, place)?;
    let sessions = Sessions::new("session", cluster.redis_ports(), SESSIONS);
    println!(
        "  {WRITERS} plain clients write {SESSIONS} sessions at W=2 beside redis-py's cluster client"
    );
    sessions.write_during(WRITERS, || {
        sessions.await_writes(u64::from(SESSIONS) / 3, WRITING)?;
        println!("  {} writes are acknowledged; now server {VICTIM} is killed", sessions.writes());
        cluster.kill(&[VICTIM])?;
        thread::sleep(AWAY);
        let began = Instant::now();
        cluster.restart(&[VICTIM])?;
        println!("  both of its nodes serve again after {:.1} s", began.elapsed().as_secs_f64());
        sessions.send_home();
        sessions.await_writes(u64::from(SESSIONS), WRITING)
    })?;
    println!(
        "  {} writes acknowledged; the longest pause of a plain client was {} ms, {} commands failed",
        sessions.writes(),
        sessions.pause_ms_max(),
        sessions.seen().len()
    );
    python.finish()?;
    sessions.verify("2")?;
    println!("  every acknowledged write is there, on every server the newest");
    cluster.await_connected(&[1, 2, 3], all)?;
    equal_roots(&cluster, all)?;
    distinct_machines(&cluster)
}

/// redis-py at work.
struct Python {
    child: Child,
    told: std::path::PathBuf,
    complained: std::path::PathBuf,
}

impl Drop for Python {
    fn drop(&mut self) {
        // It may have ended already.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

impl Python {
    fn start(cluster: &Cluster<'_>, place: &Path) -> Result<Self> {
        let script = place.join("shards.py");
        fs::write(&script, SCRIPT)?;
        let (told, complained) = (place.join("out"), place.join("err"));
        let mut command = Command::new(place.join("venv/bin/python"));
        command.arg(script);
        command.args((1..=NODES * SHARDS).map(|at| cluster.cluster_port(at).to_string()));
        command.stdin(Stdio::piped());
        command.stdout(File::create(&told)?).stderr(File::create(&complained)?);
        let mut python =
            Self { child: command.spawn().context("start redis-py")?, told, complained };
        python.await_start()?;
        Ok(python)
    }

    /// Waits until it has found the nodes, or says why it has not when it is finished: a node that is killed before would
    /// not be among them.
    fn await_start(&mut self) -> Result<()> {
        let deadline = Instant::now() + READING;
        while fs::metadata(&self.told)?.len() == 0 && self.child.try_wait()?.is_none() {
            ensure!(Instant::now() < deadline, "redis-py does not start");
            thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }

    /// Has it end, and read back what it wrote.
    fn finish(mut self) -> Result<()> {
        drop(self.child.stdin.take());
        let deadline = Instant::now() + READING;
        let status = loop {
            if let Some(status) = self.child.try_wait()? {
                break status;
            }
            ensure!(Instant::now() < deadline, "redis-py does not end");
            thread::sleep(Duration::from_millis(20));
        };
        fs::read_to_string(&self.told)?.lines().for_each(|line| println!("  redis-py: {line}"));
        let said = fs::read_to_string(&self.complained)?;
        ensure!(status.success(), "redis-py: {status}: {}", tail(&said));
        Ok(())
    }
}

/// What differs is repaired first, and then nothing may differ, on any node.
fn equal_roots(cluster: &Cluster<'_>, nodes: u64) -> Result<()> {
    let mut differed = Vec::new();
    for _ in 0..2 {
        let address = format!("127.0.0.1:{}", cluster.http_port(1));
        let done = cluster.moim(&["repair", "--json", "--addr", &address])?.successful()?.stdout;
        let done: Value = serde_json::from_str(&done).context("moim repair --json")?;
        let done = done.as_array().context("a list of repairs")?;
        ensure!(done.len() as u64 == nodes, "{nodes} nodes were to repair: {done:?}");
        differed.push(done.iter().filter_map(|one| one["keys"].as_u64()).sum::<u64>());
    }
    ensure!(differed[1] == 0, "{} keys differ after a repair", differed[1]);
    println!(
        "  Merkle roots of all {nodes} nodes are equal; {} keys had still differed before",
        differed[0]
    );
    Ok(())
}

fn distinct_machines(cluster: &Cluster<'_>) -> Result<()> {
    let nodes = http::get(cluster.http_port(1), "/v1/nodes")?.json()?;
    let nodes = nodes["nodes"].as_array().context("a list of nodes")?;
    let machine_of = |node: &Value| {
        let known = nodes.iter().find(|one| one["node"] == *node);
        known.and_then(|one| one["machine"].as_str()).map(str::to_owned)
    };
    for key in 0..KEYS {
        let path = format!("/v1/ring/key/0/session:{key}");
        let shown = http::get(cluster.http_port(1), &path)?.json()?;
        let replicas = shown["replicas"].as_array().context("a list of replicas")?;
        let machines: BTreeSet<_> =
            replicas.iter().filter_map(|replica| machine_of(&replica["node"])).collect();
        ensure!(machines.len() == usize::from(NODES), "copies meet on a machine: {shown}");
    }
    let address = format!("127.0.0.1:{}", cluster.http_port(1));
    let shown = cluster.moim(&["ring", "--key", "session:0", "--addr", &address])?.successful()?;
    shown.stdout.lines().for_each(|line| println!("  | {line}"));
    println!("  the copies of {KEYS} keys lie on three distinct machines each");
    let status = cluster.moim(&["status", "--addr", &address])?.successful()?.stdout;
    let named = nodes.iter().filter_map(|one| one["node"].as_str());
    ensure!(named.clone().count() == usize::from(NODES * SHARDS), "nodes are missing: {nodes:?}");
    for node in named {
        let row = status.lines().find(|line| line.starts_with(node));
        ensure!(
            row.is_some_and(|row| !row.contains('–') || row.contains("up")),
            "{node} is not in {status}"
        );
    }
    println!("  moim status names all {} nodes", NODES * SHARDS);
    Ok(())
}

/// What an operation costs all servers, with one node each and with several, in turn. Stated, not judged: more nodes
/// than cores only have each of them find less to do at once.
fn compare(stage: &Stage) -> Result<()> {
    for round in 1..=ROUNDS {
        for shards in [1, SHARDS] {
            let cluster = Cluster::start_with_shards(stage, shards)?;
            cluster.await_connected(&[1, 2, 3], u64::from(NODES * shards))?;
            fill(&cluster)?;
            for (what, parts) in [("SET", ["0", "1"]), ("GET", ["1", "0"])] {
                for (to, flag) in [("any node", None), ("the key's node", Some("--cluster"))] {
                    let words = ["--reads", parts[0], "--writes", parts[1], "--duration", "4s"];
                    let words: Vec<&str> = words.into_iter().chain(flag).collect();
                    let cost = cost(&cluster, &words)?;
                    println!(
                        "  round {round}, {shards} shards a server, {what} of 2 KB through {to}: {cost}"
                    );
                }
            }
        }
    }
    Ok(())
}

/// Writes every key; a busy machine may refuse some at first.
fn fill(cluster: &Cluster<'_>) -> Result<()> {
    let words = ["--fill", "--duration", "0s", "--connections", "12"];
    let mut last = None;
    for _ in 0..FILLS {
        match load(cluster, &words)?.successful() {
            Ok(_) => return Ok(()),
            Err(error) => last = Some(error),
        }
    }
    Err(last.context("nothing was tried")?)
}

/// Processor time of all servers for an operation, in words.
fn cost(cluster: &Cluster<'_>, words: &[&str]) -> Result<String> {
    let before = processor_seconds(cluster)?;
    let report = load(cluster, &[words, &["--connections", "48", "--json", "-"]].concat())?;
    let spent = processor_seconds(cluster)? - before;
    // It fails where requests were refused, and says how many.
    let report: Value = serde_json::from_str(&report.stdout).context("moim bench --json")?;
    let figure = |name: &str| report[name].as_f64().with_context(|| format!("no {name}: {report}"));
    let errors = report["errors"]
        .as_object()
        .map_or(0, |errors| errors.values().filter_map(Value::as_u64).sum());
    Ok(format!(
        "{:.1} us of processor time, {:.0} a second, {errors} refused",
        spent / figure("requests_answered")? * 1e6,
        figure("requests_per_second")?,
    ))
}

fn load(cluster: &Cluster<'_>, words: &[&str]) -> Result<Finished> {
    let address = format!("127.0.0.1:{}", cluster.http_port(1));
    let all = ["bench", "--addr", &address, "--keys", "20000", "--zipf", "0"];
    cluster.moim(&[&all, words].concat())
}
