//! A laboratory: servers that each have a network namespace of their own, so that links between them can be cut and
//! slowed, and clients that others wrote, in a namespace that reaches all of them. Needs root.
//!
//! Servers are started as operators start them (`moim server`), one process each, with its own address and directory.

mod check;
mod clients;
mod diary;
mod judge;
mod network;
mod proxy;

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::net::{IpAddr, SocketAddr};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

pub(super) use self::check::{await_equal_replicas, await_equal_roots, verify_acknowledged};
pub(super) use self::clients::{Clients, Tools};
pub(super) use self::diary::{Diary, Event, Kind, now_ms};
pub(super) use self::judge::{Span, failures_end, failures_end_unless_strict, no_failures};
use self::network::Network;
pub(super) use self::proxy::Weather;
use self::proxy::{Link, Proxies};
use super::Verdict;
use super::cluster::await_true;
use super::http::{self, Answer};
use super::process::signal;
use super::redis::{Connection, Reply};
use super::scratch::Scratch;
use super::stage::Stage;

const REDIS: u16 = 6_379;
const CLUSTER: u16 = 6_479;
const HTTP: u16 = 7_379;
const PEER: u16 = 8_379;
/// Readiness takes a second or two; a busy machine, longer.
const READY: Duration = Duration::from_secs(40);
/// A server that is told to stop gently has ten seconds of its own for that.
const STOP: Duration = Duration::from_secs(20);
const POLL: Duration = Duration::from_millis(20);
/// Memory of each node, modest: they share one machine.
const MODEST: [&str; 3] =
    ["node.cache_bytes=33554432", "node.block_cache_bytes=67108864", "node.memtable_bytes=8388608"];
/// A namespace in which nobody stands in for an owner.
pub(super) const STRICT: &str = "strict";
/// Lines of each node's log that are shown when something fails.
const LOG_LINES: usize = 12;

/// What a laboratory is like.
#[derive(Clone, Copy)]
pub(super) struct Plan {
    pub(super) nodes: u16,
    /// Whether what nodes say to each other goes through proxies, which can slow it down.
    pub(super) proxied: bool,
}

/// Servers and their network; ended and removed when dropped, and also when this process is.
pub(super) struct Lab<'a> {
    moim: &'a Path,
    pub(super) plan: Plan,
    // Dropped in this order: nobody may be at work in what is removed next.
    running: RefCell<BTreeMap<u16, Child>>,
    proxies: Option<Proxies>,
    network: Network,
    data: Scratch,
}

/// Plays a scenario in a laboratory, if there can be one here.
pub(super) fn play(
    stage: &Stage,
    plan: Plan,
    scenario: impl FnOnce(&Lab<'_>) -> Result<Verdict>,
) -> Result<Verdict> {
    if let Some(missing) = Network::missing() {
        return Ok(Verdict::NotBuilt(missing));
    }
    if !Stage::keeps() {
        return Ok(Verdict::NotBuilt("an engine that keeps".to_owned()));
    }
    let lab = Lab::start(stage, plan)?;
    let outcome = scenario(&lab);
    if outcome.is_err() {
        lab.tell_logs();
    }
    outcome
}

impl<'a> Lab<'a> {
    fn start(stage: &'a Stage, plan: Plan) -> Result<Self> {
        let moim = stage.moim()?;
        let data = Scratch::new("lab")?;
        let network = Network::lay(plan.nodes, format!("rm -rf {}", data.path().display()))?;
        let began = Instant::now();
        let proxies = plan.proxied.then(|| Proxies::start(&network, plan.nodes)).transpose()?;
        let lab = Self { moim, plan, running: RefCell::default(), proxies, network, data };
        for node in lab.all() {
            lab.start_node(node)?;
        }
        for node in lab.all() {
            lab.await_ready(node)?;
        }
        println!(
            "  {} servers in network namespaces of their own are ready after {:.1} s",
            plan.nodes,
            began.elapsed().as_secs_f64()
        );
        Ok(lab)
    }

    /// The numbers of its nodes.
    pub(super) fn all(&self) -> std::ops::RangeInclusive<u16> {
        1..=self.plan.nodes
    }

    /// Where a node serves Redis clients.
    pub(super) fn redis(&self, node: u16) -> SocketAddr {
        self.at(node, REDIS)
    }

    fn at(&self, node: u16, port: u16) -> SocketAddr {
        SocketAddr::new(IpAddr::V4(self.network.address(node)), port)
    }

    /// Starts a node that does not run.
    pub(super) fn start_node(&self, node: u16) -> Result<()> {
        let directory = self.directory(node);
        fs::create_dir_all(&directory)?;
        let log = File::options().create(true).append(true).open(self.log(node))?;
        let mut command = self.network.beside(node, &self.moim.display().to_string());
        // A moim.toml where this task runs is meant for another server.
        command.args(self.arguments(node)).current_dir(&directory);
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        // Ctrl-C is for this process; the guard ends the others.
        let child =
            command.process_group(0).spawn().with_context(|| format!("start node {node}"))?;
        let before = self.running.borrow_mut().insert(node, child);
        assert!(before.is_none(), "a node is started once");
        Ok(())
    }

    fn arguments(&self, node: u16) -> Vec<String> {
        let mut words = vec!["server".to_owned()];
        let mut add = |flag: &str, value: String| words.extend([flag.to_owned(), value]);
        add("--data", self.directory(node).display().to_string());
        add("--engine", Stage::engine());
        for (what, port) in [("redis", REDIS), ("cluster", CLUSTER), ("http", HTTP), ("peer", PEER)]
        {
            add(&format!("--listen-{what}"), self.at(node, port).to_string());
        }
        let founders = self.all().map(|other| format!("{}:{PEER}", self.peer_host(other)));
        add("--found", founders.collect::<Vec<_>>().join(","));
        add("--set", format!("node.advertise_peer={}", self.peer_host(node)));
        add("--set", "node.allow_insecure=true".to_owned());
        add("--namespace", format!("{STRICT}:sloppy=false"));
        add("--namespace", "carts:conflict=siblings".to_owned());
        for setting in MODEST {
            add("--set", setting.to_owned());
        }
        words
    }

    /// What other nodes are told to dial.
    fn peer_host(&self, node: u16) -> String {
        let address = if self.plan.proxied {
            self.network.proxy_address(node)
        } else {
            self.network.address(node)
        };
        address.to_string()
    }

    /// Where a node keeps everything.
    pub(super) fn directory(&self, node: u16) -> PathBuf {
        self.data.path().join(node.to_string())
    }

    fn log(&self, node: u16) -> PathBuf {
        self.data.path().join(format!("{node}.log"))
    }

    /// Where the scenario may keep something of its own.
    fn scratch(&self) -> &Path {
        self.data.path()
    }

    /// With -9.
    pub(super) fn kill(&self, node: u16) -> Result<()> {
        let mut child = self.take(node)?;
        child.kill()?;
        child.wait()?;
        println!("  node {node} is killed with -9");
        Ok(())
    }

    /// With SIGTERM; waits for its end, which must be a good one.
    pub(super) fn stop(&self, node: u16) -> Result<Duration> {
        let mut child = self.take(node)?;
        let began = Instant::now();
        signal("TERM", &child.id().to_string())?;
        let status = loop {
            if let Some(status) = child.try_wait()? {
                break status;
            }
            if began.elapsed() > STOP {
                child.kill()?;
                child.wait()?;
                bail!("node {node} did not stop within {} s of SIGTERM", STOP.as_secs());
            }
            thread::sleep(POLL);
        };
        ensure!(status.success(), "node {node} stopped with {status}");
        Ok(began.elapsed())
    }

    fn take(&self, node: u16) -> Result<Child> {
        self.running.borrow_mut().remove(&node).with_context(|| format!("node {node} does not run"))
    }

    /// Freezes a node (SIGSTOP).
    pub(super) fn pause(&self, node: u16) -> Result<()> {
        println!("  node {node} is frozen (SIGSTOP)");
        self.signal(node, "STOP")
    }

    /// Lets a frozen node go on (SIGCONT).
    pub(super) fn resume(&self, node: u16) -> Result<()> {
        println!("  node {node} goes on (SIGCONT)");
        self.signal(node, "CONT")
    }

    fn signal(&self, node: u16, name: &str) -> Result<()> {
        let running = self.running.borrow();
        let child = running.get(&node).with_context(|| format!("node {node} does not run"))?;
        ensure!(signal(name, &child.id().to_string())?, "node {node} is gone");
        Ok(())
    }

    /// Whether a node has ended by itself; how, if so.
    pub(super) fn ended(&self, node: u16) -> Result<Option<String>> {
        let mut running = self.running.borrow_mut();
        let Some(child) = running.get_mut(&node) else { return Ok(Some("stopped".to_owned())) };
        let status = child.try_wait()?;
        if status.is_some() {
            running.remove(&node);
        }
        Ok(status.map(|status| status.to_string()))
    }

    /// Starts a node again and waits until it serves.
    pub(super) fn restart(&self, node: u16) -> Result<()> {
        let began = Instant::now();
        self.start_node(node)?;
        self.await_ready(node)?;
        println!("  node {node} serves again after {:.1} s", began.elapsed().as_secs_f64());
        Ok(())
    }

    /// Removes what the storage engine of a node that does not run had; its identity stays.
    pub(super) fn wipe_engine(&self, node: u16) -> Result<()> {
        fs::remove_dir_all(self.directory(node).join("data"))?;
        println!("  the data of node {node} is wiped; its identity stays");
        Ok(())
    }

    /// Removes everything of a node that does not run.
    pub(super) fn wipe(&self, node: u16) -> Result<()> {
        fs::remove_dir_all(self.directory(node))?;
        println!("  everything of node {node} is wiped");
        Ok(())
    }

    /// From now on, nothing that one node sends reaches the other; the other way is open.
    pub(super) fn cut_one_way(&self, from: u16, to: u16) -> Result<()> {
        self.network.cut(from, to)
    }

    /// From now on, nodes of different groups do not reach each other.
    pub(super) fn cut(&self, one: &[u16], other: &[u16]) -> Result<()> {
        for (a, b) in one.iter().flat_map(|a| other.iter().map(move |b| (*a, *b))) {
            self.network.cut(a, b)?;
            self.network.cut(b, a)?;
        }
        println!("  nodes {one:?} and {other:?} do not reach each other any more");
        Ok(())
    }

    /// Ends all cuts.
    pub(super) fn heal(&self) -> Result<()> {
        self.network.heal()?;
        println!("  all links are whole again");
        Ok(())
    }

    /// Changes how links behave from now on, by sender and receiver.
    pub(super) fn set_weather(&self, weather: impl Fn(u16, u16) -> Weather) {
        let proxies = self.proxies.as_ref().expect("this laboratory has proxies");
        for from in self.all() {
            for to in self.all().filter(|to| *to != from) {
                proxies.set(Link { from, to }, weather(from, to));
            }
        }
    }

    /// One command on a connection of its own to a node.
    pub(super) fn call(&self, node: u16, words: &[&str]) -> Result<Reply> {
        let mut connection = Connection::open(self.redis(node))
            .with_context(|| format!("connect to node {node}"))?;
        connection.call(words).with_context(|| format!("{words:?} on node {node}"))
    }

    /// One document of a node's.
    pub(super) fn get(&self, node: u16, path: &str) -> Result<Answer> {
        http::get(self.at(node, HTTP), path).with_context(|| format!("node {node}"))
    }

    /// Stores a value through a node's HTTP port; the status and the body.
    pub(super) fn put(&self, node: u16, path: &str, value: &str) -> Result<Answer> {
        http::put(self.at(node, HTTP), path, &[], value).with_context(|| format!("node {node}"))
    }

    /// Has a node do something through its HTTP port.
    pub(super) fn post(&self, node: u16, path: &str) -> Result<Answer> {
        http::post(self.at(node, HTTP), path).with_context(|| format!("node {node}"))
    }

    /// Waits until a node serves.
    pub(super) fn await_ready(&self, node: u16) -> Result<()> {
        let otherwise = format!("node {node} is not ready");
        await_true(READY, &otherwise, || {
            if let Some(how) = self.ended(node)? {
                bail!("node {node} has ended: {how}");
            }
            Ok(self.get(node, "/readyz").is_ok_and(|answer| answer.status == 200))
        })
    }

    /// Waits until every node of these is connected to so many, itself included.
    pub(super) fn await_connected(&self, among: &[u16], nodes_up: u16) -> Result<()> {
        await_true(READY, &format!("nodes {among:?} do not see {nodes_up} nodes up"), || {
            for node in among {
                if self.get(*node, "/v1/status")?.json()?["nodes_up"] != nodes_up {
                    return Ok(false);
                }
            }
            Ok(true)
        })
    }

    /// What a node knows of the members.
    pub(super) fn members(&self, node: u16) -> Result<Vec<Value>> {
        let document = self.get(node, "/v1/nodes")?.json()?;
        document["nodes"].as_array().cloned().with_context(|| format!("no nodes in {document}"))
    }

    /// What the nodes have complained about and said last, and how often they stood still.
    fn tell_logs(&self) {
        for node in self.all() {
            let log = fs::read(self.log(node)).unwrap_or_default();
            let log = String::from_utf8_lossy(&log);
            let bad = ["WARN", "ERROR", "panicked"];
            let (complaints, others): (Vec<&str>, Vec<&str>) =
                log.lines().partition(|line| bad.iter().any(|word| line.contains(word)));
            for lines in [complaints, others] {
                for line in &lines[lines.len().saturating_sub(LOG_LINES)..] {
                    println!("  log of node {node}: {line}");
                }
            }
            if let Ok(metrics) = self.get(node, "/metrics") {
                let metrics = String::from_utf8_lossy(&metrics.body);
                let stood = metrics.lines().filter(|line| line.starts_with("moim_pauses_total"));
                stood.for_each(|line| println!("  node {node}: {line}"));
            }
        }
    }
}

impl Drop for Lab<'_> {
    fn drop(&mut self) {
        for child in self.running.get_mut().values_mut() {
            // Whatever cannot be ended here is ended with its namespace.
            drop(child.kill());
            drop(child.wait());
        }
    }
}
