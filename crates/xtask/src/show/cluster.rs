//! A cluster of real processes: started, played with and stopped through `moim dev`, as users do.

use std::fs;
use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{self, Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde_json::Value;

use super::guard::Guard;
use super::http;
use super::process::{Finished, run};
use super::redis::{Connection, Reply};
use super::scratch::Scratch;
use super::small_disk::SmallDisk;
use super::stage::Stage;

pub(super) const NODES: u16 = 3;
/// How far apart the four ports of a node are (docs: `moim dev --help`).
const OFFSETS: [u16; 4] = [0, 100, 1_000, 2_000];
/// Below the ports that systems hand out to clients.
const BASE_PORTS: std::ops::Range<u16> = 12_000..28_000;
/// Readiness takes a second or two; a busy machine, longer.
const READY: Duration = Duration::from_mins(1);
const COMMAND: Duration = Duration::from_mins(1);
const POLL: Duration = Duration::from_millis(20);

/// The most nodes that a scenario starts.
const NODES_MAX: u16 = 7;

/// Nodes on this machine, stopped and removed when dropped.
pub(super) struct Cluster<'a> {
    moim: &'a Path,
    /// Unmounted before the directory is removed.
    disks: Vec<SmallDisk>,
    data: Scratch,
    base_port: u16,
    nodes: u16,
    /// What the nodes' environment says of their configuration.
    environment: Vec<(&'static str, String)>,
    /// What `moim dev` printed.
    pub(super) greeting: String,
    /// Ends the nodes, which are sessions of their own, when this process is gone before it did.
    _guard: Guard,
}

impl<'a> Cluster<'a> {
    /// Three nodes, started and ready.
    pub(super) fn start(stage: &'a Stage) -> Result<Self> {
        Self::start_with(stage, NODES)
    }

    /// Three nodes whose environment says this, started and ready.
    pub(super) fn start_as(
        stage: &'a Stage,
        environment: Vec<(&'static str, String)>,
    ) -> Result<Self> {
        Self::start_on(stage, (Scratch::new("data")?, Vec::new()), (NODES, 1), environment)
    }

    /// So many nodes, started and ready.
    pub(super) fn start_with(stage: &'a Stage, count: u16) -> Result<Self> {
        assert!(count <= NODES_MAX, "ports are looked for no further");
        Self::start_on(stage, (Scratch::new("data")?, Vec::new()), (count, 1), Vec::new())
    }

    /// Three servers, each of so many nodes.
    pub(super) fn start_with_shards(stage: &'a Stage, shards: u16) -> Result<Self> {
        assert!(NODES * shards <= NODES_MAX, "ports are looked for no further");
        Self::start_on(stage, (Scratch::new("data")?, Vec::new()), (NODES, shards), Vec::new())
    }

    /// Each node on a file system of its own, of so many MiB.
    pub(super) fn start_on_small_disks(stage: &'a Stage, mib: u32) -> Result<Self> {
        let data = Scratch::new("data")?;
        let mount = |node| SmallDisk::mount(&directory(data.path(), node), mib);
        let disks = (1..=NODES).map(mount).collect::<Result<Vec<_>>>()?;
        Self::start_on(stage, (data, disks), (NODES, 1), Vec::new())
    }

    fn start_on(
        stage: &'a Stage,
        (data, disks): (Scratch, Vec<SmallDisk>),
        (count, shards): (u16, u16),
        environment: Vec<(&'static str, String)>,
    ) -> Result<Self> {
        let (moim, base_port) = (stage.moim()?, free_base_port()?);
        let greeting = String::new();
        let guard = Guard::new(&[
            format!("'{}' dev stop --data '{}'", moim.display(), data.path().display()),
            format!("umount -l '{}'/*", data.path().display()),
            format!("rm -rf '{}'", data.path().display()),
        ])?;
        let nodes = count;
        let mut cluster =
            Self { moim, disks, data, base_port, nodes, environment, greeting, _guard: guard };
        let began = Instant::now();
        let nodes = count.to_string();
        let port = cluster.base_port.to_string();
        let engine = Stage::engine();
        let shards = shards.to_string();
        let words = ["--nodes", &nodes, "--base-port", &port, "--engine", &engine, "--detach"];
        let words = [&words[..], &["--shards", &shards]].concat();
        // Said first: whoever looks on can play with its nodes.
        println!("  moim dev {} --data {}", words.join(" "), cluster.data.path().display());
        cluster.greeting = cluster.dev(&words)?.stdout;
        for node in 1..=count {
            cluster.await_ready(node)?;
        }
        println!("  {count} nodes are ready after {:.1} s", began.elapsed().as_secs_f64());
        Ok(cluster)
    }

    /// The file system of a node that was started on a small one.
    pub(super) fn disk(&self, node: u16) -> Result<&SmallDisk> {
        self.disks.get(usize::from(node) - 1).context("the cluster has no small disks")
    }

    /// Where the engine of a node keeps its files.
    pub(super) fn data(&self, node: u16) -> PathBuf {
        directory(self.data.path(), node).join("data")
    }

    pub(super) fn redis_port(&self, node: u16) -> u16 {
        self.base_port + node
    }

    pub(super) fn cluster_port(&self, node: u16) -> u16 {
        self.base_port + 100 + node
    }

    pub(super) fn http_port(&self, node: u16) -> u16 {
        self.base_port + 1_000 + node
    }

    pub(super) fn peer_port(&self, node: u16) -> u16 {
        self.base_port + 2_000 + node
    }

    pub(super) fn redis_ports(&self) -> Vec<u16> {
        (1..=self.nodes).map(|node| self.redis_port(node)).collect()
    }

    /// A connection to a node.
    pub(super) fn redis(&self, node: u16) -> Result<Connection> {
        Connection::open(self.redis_port(node)).with_context(|| format!("connect to node {node}"))
    }

    /// One command on a connection of its own, whose reply must be no error.
    pub(super) fn call(&self, node: u16, words: &[&str]) -> Result<Reply> {
        let reply =
            self.redis(node)?.call(words).with_context(|| format!("{words:?} on node {node}"))?;
        match reply.error() {
            None => Ok(reply),
            Some(error) => bail!("{} on node {node}: {error}", words.join(" ")),
        }
    }

    /// With -9.
    pub(super) fn kill(&self, nodes: &[u16]) -> Result<()> {
        self.play("kill", nodes)
    }

    /// Freezes a node.
    pub(super) fn pause(&self, node: u16) -> Result<()> {
        self.play("pause", &[node])
    }

    /// Starts a node that was killed, with these variables, without waiting until it serves.
    pub(super) fn begin(&self, node: u16, variables: &[(&str, &str)]) -> Result<Child> {
        let mut command = Command::new(self.moim);
        command.args(["dev", "start", &node.to_string(), "--data"]).arg(self.data.path());
        command.envs(variables.iter().copied());
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        println!("  moim dev start {node}");
        command.spawn().context("start moim dev")
    }

    /// Starts nodes that were killed, lets paused ones go on, and waits until they serve.
    pub(super) fn restart(&self, nodes: &[u16]) -> Result<()> {
        self.play("start", nodes)?;
        nodes.iter().try_for_each(|node| self.await_ready(*node))
    }

    /// Starts the whole cluster again after all of it was killed.
    pub(super) fn resume(&self) -> Result<()> {
        self.play("--detach", &[])?;
        (1..=self.nodes).try_for_each(|node| self.await_ready(node))
    }

    /// Cuts a node off from the others, not from its clients.
    pub(super) fn cut(&self, node: u16) -> Result<()> {
        self.play("cut", &[node])
    }

    /// Ends all cuts.
    pub(super) fn heal(&self) -> Result<()> {
        self.play("heal", &[])
    }

    fn play(&self, verb: &str, nodes: &[u16]) -> Result<()> {
        let mut words = vec![verb.to_owned()];
        words.extend(nodes.iter().map(u16::to_string));
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        self.dev(&words)?;
        println!("  moim dev {}", words.join(" "));
        Ok(())
    }

    fn dev(&self, words: &[&str]) -> Result<Finished> {
        let mut command = Command::new(self.moim);
        command.arg("dev").args(words).arg("--data").arg(self.data.path());
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        run(&mut command, COMMAND)
            .and_then(Finished::successful)
            .with_context(|| format!("moim dev {}", words.join(" ")))
    }

    /// Runs `moim` with these words.
    pub(super) fn moim(&self, words: &[&str]) -> Result<Finished> {
        run(Command::new(self.moim).args(words), COMMAND)
    }

    /// Runs `moim bench` on all nodes, over so many keys of 2 KB, and takes the document that it ends with.
    pub(super) fn bench(&self, keys: u64, words: &[&str], limit: Duration) -> Result<Value> {
        let node = format!("127.0.0.1:{}", self.http_port(1));
        let keys = keys.to_string();
        let usual = ["bench", "--addr", &node, "--keys", &keys, "--json", "-"];
        let done = run(Command::new(self.moim).args(usual).args(words), limit)?.successful()?;
        if done.stdout.trim().is_empty() {
            return Ok(Value::Null);
        }
        serde_json::from_str(&done.stdout).context("moim bench printed no document")
    }

    /// A program of `moim bench` on all nodes, in the background; what it says is in its standard error.
    pub(super) fn begin_bench(&self, keys: u64, words: &[&str]) -> Result<Child> {
        let node = format!("127.0.0.1:{}", self.http_port(1));
        let mut command = Command::new(self.moim);
        command.args(["bench", "--addr", &node, "--keys", &keys.to_string()]).args(words);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        command.spawn().context("start moim bench")
    }

    /// Resident memory of a node, in kB, as the system counts it.
    pub(super) fn resident_kb(&self, node: u16) -> Result<u64> {
        let pid = self.pid(node)?;
        let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kb = line.and_then(|line| line.split_whitespace().next()?.parse().ok());
        kb.with_context(|| format!("process {pid} does not say how much memory it has"))
    }

    /// The process of a node.
    pub(super) fn pid(&self, node: u16) -> Result<u64> {
        let nodes: Value = serde_json::from_str(&self.dev(&["status", "--json"])?.stdout)?;
        let of_node = nodes.as_array().and_then(|nodes| nodes.iter().find(|it| it["node"] == node));
        let pid = of_node.and_then(|it| it["pid"].as_u64());
        pid.with_context(|| format!("node {node} has no process in {nodes}"))
    }

    /// Waits until a node serves.
    pub(super) fn await_ready(&self, node: u16) -> Result<()> {
        await_true(READY, &format!("node {node} is not ready"), || {
            Ok(http::get(self.http_port(node), "/readyz").is_ok_and(|answer| answer.status == 200))
        })
    }

    /// Waits until every living node is connected to so many, itself included.
    pub(super) fn await_connected(&self, among: &[u16], nodes_up: u64) -> Result<()> {
        await_true(READY, &format!("nodes {among:?} do not see {nodes_up} nodes up"), || {
            for node in among {
                let status = http::get(self.http_port(*node), "/v1/status")?.json()?;
                if status["nodes_up"] != nodes_up {
                    return Ok(false);
                }
            }
            Ok(true)
        })
    }
}

impl Drop for Cluster<'_> {
    fn drop(&mut self) {
        if let Err(error) = self.dev(&["stop"]) {
            println!("  the cluster did not stop by itself: {error:#}");
        }
    }
}

/// Asks again and again until it is true.
pub(super) fn await_true(
    limit: Duration,
    otherwise: &str,
    mut is_true: impl FnMut() -> Result<bool>,
) -> Result<()> {
    let deadline = Instant::now() + limit;
    while !is_true()? {
        if Instant::now() >= deadline {
            bail!("{otherwise} after {} s", limit.as_secs());
        }
        thread::sleep(POLL);
    }
    Ok(())
}

/// Where `moim dev` keeps what belongs to a node.
fn directory(data: &Path, node: u16) -> PathBuf {
    data.join(format!("node-{node}"))
}

/// A base whose ports are all free now. Begins at a place of this process's own, so that two that run at once look at
/// different ports.
pub(super) fn free_base_port() -> Result<u16> {
    let steps = u32::from(BASE_PORTS.end - BASE_PORTS.start) / 10;
    let first = process::id() % steps;
    let candidates = (0..steps).map(|step| (first + step) % steps * 10);
    let mut bases =
        candidates.filter_map(|offset| Some(BASE_PORTS.start + u16::try_from(offset).ok()?));
    bases.find(|base| is_free(*base)).context("no free ports for a cluster")
}

fn is_free(base: u16) -> bool {
    let ports =
        OFFSETS.iter().flat_map(|offset| (1..=NODES_MAX).map(move |node| base + offset + node));
    ports.into_iter().all(|port| TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok())
}
