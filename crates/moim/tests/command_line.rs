//! The program as users run it: a server in memory and a cluster of `moim dev`, driven by its own commands.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail the test")]

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

/// A server that ends with the test.
struct Server {
    child: Child,
    address: String,
    _data: tempfile::TempDir,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

fn moim(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_moim"));
    for (name, _) in
        std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("MOIM_"))
    {
        command.env_remove(name);
    }
    command.args(arguments).stdin(Stdio::null());
    command
}

fn run(arguments: &[&str]) -> Output {
    moim(arguments).output().unwrap()
}

fn code(output: &Output) -> i32 {
    output.status.code().unwrap()
}

fn out(output: &Output) -> &str {
    str::from_utf8(&output.stdout).unwrap()
}

fn err(output: &Output) -> &str {
    str::from_utf8(&output.stderr).unwrap()
}

/// Runs a command that must succeed; gives its output back.
fn done(arguments: &[&str]) -> String {
    let output = run(arguments);
    assert_eq!(code(&output), 0, "{arguments:?}: {}{}", out(&output), err(&output));
    out(&output).to_owned()
}

fn serve() -> Server {
    let data = tempfile::tempdir().unwrap();
    let free: Vec<_> = (0..4).map(|_| TcpListener::bind("127.0.0.1:0").unwrap()).collect();
    let address = |at: usize| free[at].local_addr().unwrap().to_string();
    let (redis, cluster, http, peer) = (address(0), address(1), address(2), address(3));
    drop(free);
    let child = moim(&["server", "--engine", "memory", "--namespace", "carts:conflict=siblings"])
        .args(["--listen-redis", &redis, "--listen-cluster", &cluster, "--listen-http", &http])
        .args(["--listen-peer", &peer, "--data"])
        .arg(data.path())
        .current_dir(data.path())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let server = Server { child, address: http, _data: data };
    let began = Instant::now();
    while !run(&["status", "--addr", &server.address]).stdout.starts_with(b"state    serving") {
        assert!(began.elapsed() < Duration::from_secs(30), "the server does not become ready");
        std::thread::sleep(Duration::from_millis(20));
    }
    server
}

#[test]
fn a_benchmark_measures_what_was_asked_for() {
    let server = serve();
    let load =
        ["--keys", "100", "--connections", "3", "--value-size", "64", "--fill", "--json", "-"];
    let fixed = ["--rate", "400", "--duration", "500ms"];
    let printed = done(&[&["bench", "--addr", &server.address][..], &load, &fixed].concat());
    let figures: serde_json::Value = serde_json::from_str(&printed).unwrap();
    let count = |kind: &str| figures[kind]["count"].as_u64().unwrap();
    let answered = count("reads") + count("writes");
    assert!(count("reads") > count("writes") && count("writes") > 0, "{printed}");
    assert!(answered <= 210, "more than the rate allows: {printed}");
    assert_eq!((figures["misses"].as_u64(), &figures["errors"]), (Some(0), &serde_json::json!({})));
    assert_eq!(code(&run(&["bench", "--zipf", "1.5"])), 2);
}

#[test]
fn a_benchmark_sends_each_key_to_the_node_of_its_slot() {
    let server = serve();
    let load =
        "--cluster --keys 100 --connections 4 --value-size 64 --compressible 50 --zipf 0 --json -";
    let at = ["bench", "--addr", &server.address];
    let bench = |more: &str| {
        let words: Vec<_> = at.into_iter().chain(load.split(' ')).chain(more.split(' ')).collect();
        done(&words)
    };
    assert_eq!(bench("--fill --duration 0s"), "", "filling alone measures nothing");
    let printed = bench("--warm-up 1s --duration 300ms");
    let figures: serde_json::Value = serde_json::from_str(&printed).unwrap();
    let count = |kind: &str| figures[kind]["count"].as_u64().unwrap();
    assert_eq!((figures["misses"].as_u64(), &figures["errors"]), (Some(0), &serde_json::json!({})));
    let answered = figures["requests_answered"].as_u64().unwrap();
    assert!(answered > count("reads") + count("writes"), "the warm-up counts: {printed}");
    let measured = figures["seconds"].as_f64().unwrap();
    assert!((0.2..2.0).contains(&measured), "only what was measured: {printed}");
}

#[test]
fn values_come_and_go() {
    let server = serve();
    let at = ["--addr", server.address.as_str()];
    let with = |arguments: &[&str]| run(&[arguments, &at].concat());

    let missing = with(&["get", "k"]);
    assert_eq!((code(&missing), out(&missing)), (3, ""));
    assert!(err(&missing).contains("no such key"));
    assert_eq!(code(&with(&["put", "k", "v", "--ttl", "1h", "--w", "one"])), 0);
    assert_eq!(out(&with(&["get", "k", "--r", "QUORUM"])), "v", "nothing is added in a pipe");
    let json: serde_json::Value =
        serde_json::from_str(out(&with(&["get", "k", "--json"]))).unwrap();
    assert_eq!(json["siblings"][0]["value"], "dg==");
    assert!(json["siblings"][0]["expires_ms"].is_u64());
    assert!(json["siblings"][0]["dot"].as_str().unwrap().ends_with("-1"));
    assert_eq!(code(&with(&["del", "k"])), 0);
    assert_eq!(code(&with(&["get", "k"])), 3);

    let mut child = moim(&["put", "binary", "-"])
        .args(at)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(b"\x00\xff\n").unwrap();
    assert!(child.wait().unwrap().success());
    assert_eq!(with(&["get", "binary"]).stdout, b"\x00\xff\n");
    assert_eq!(out(&with(&["keys"])), "binary\n");
    assert_eq!(out(&with(&["keys", "--prefix", "x"])), "");
}

#[test]
fn siblings_and_troubles_have_exit_codes() {
    let server = serve();
    let at = ["--addr", server.address.as_str()];
    let with = |arguments: &[&str]| run(&[arguments, &at].concat());

    for value in ["milk", "eggs"] {
        assert_eq!(code(&with(&["put", "-n", "carts", "7", value])), 0);
    }
    let several = with(&["get", "-n", "carts", "7"]);
    assert_eq!(code(&several), 4);
    assert!(
        out(&several).contains("milk\n") && out(&several).contains("eggs\n"),
        "{}",
        out(&several)
    );
    let context = out(&several).lines().find_map(|line| line.strip_prefix("# context ")).unwrap();
    assert_eq!(code(&with(&["put", "-n", "carts", "7", "both", "--context", context])), 0);
    assert_eq!(out(&with(&["get", "-n", "carts", "7"])), "both");

    let unavailable = with(&["put", "k", "v", "--w", "ALL", "--json"]);
    assert_eq!(code(&unavailable), 0, "one machine holds all the copies there can be");
    let unavailable = with(&["put", "k", "v", "--w", "3", "--json"]);
    assert_eq!(code(&unavailable), 5);
    let problem: serde_json::Value = serde_json::from_str(err(&unavailable)).unwrap();
    assert_eq!((&problem["needed"], &problem["status"]), (&3.into(), &503.into()));
    let large = with(&["put", "k", &"x".repeat(20_000)]);
    assert_eq!(code(&large), 1);
    assert!(err(&large).contains("max_pair_bytes is 10240"), "{}", err(&large));
    assert_eq!(code(&with(&["get", "-n", "nowhere", "k"])), 1);
    assert_eq!(code(&with(&["put", "k", "v", "--w", "most"])), 1);

    let ring = with(&["ring", "--key", "7", "-n", "carts"]);
    assert!(out(&ring).starts_with("key 7 of namespace carts: slot "), "{}", out(&ring));
    assert!(out(&with(&["ring"])).contains("ring version 1"));
    let nodes: serde_json::Value = serde_json::from_str(out(&with(&["nodes", "--json"]))).unwrap();
    assert_eq!(nodes["nodes"][0]["addresses"]["http"], server.address);
}

#[test]
fn mistakes_are_explained() {
    for (arguments, expected, words) in [
        (&["put", "k"][..], 2, "VALUE"),
        (&["put", "k", "v", "--ttl", "5"], 2, "no duration"),
        (&["status", "--addr", "127.0.0.1:1"], 5, "nothing listens at 127.0.0.1:1"),
        (&["status", "--addr", "no address"], 2, "no address"),
        (&["backup", "--all"], 1, "`moim backup --all` is not served yet"),
        (&["node", "add"], 1, "not served yet"),
        (&["server", "--weight", "heavy"], 2, "--weight"),
        (&["server", "--join", "h:1"], 2, "not served yet"),
        (&["dev", "--nodes", "0"], 2, "--nodes"),
        (&["dev", "kill"], 2, "<N>"),
        (&["dev", "--data", "/nonexistent", "status"], 1, "no cluster"),
        (&["fly"], 2, "fly"),
    ] {
        let output = run(arguments);
        assert_eq!(code(&output), expected, "{arguments:?}: {}", err(&output));
        assert!(err(&output).contains(words), "{arguments:?}: {}", err(&output));
        assert_eq!(out(&output), "", "{arguments:?}");
    }
    assert!(done(&["version"]).starts_with("moim "));
    let versions: serde_json::Value = serde_json::from_str(&done(&["version", "--json"])).unwrap();
    assert_eq!(versions["disk_format"], 1);
    let printed = done(&["server", "--zone", "here", "--print-config"]);
    assert!(printed.contains("zone = \"here\"") && printed.contains("[cluster]"), "{printed}");
}

#[test]
fn a_cluster_survives_what_is_done_to_it() {
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path().join("cluster");
    let cluster = Cluster { data: data.to_str().unwrap(), base_port: free_base_port() };
    let port = cluster.base_port.to_string();
    let started = done(&[
        "dev",
        "--data",
        cluster.data,
        "--engine",
        "memory",
        "--base-port",
        &port,
        "--detach",
    ]);
    assert!(started.contains("Try:"), "{started}");
    let http = |number: u16| format!("127.0.0.1:{}", cluster.base_port + 1_000 + number);

    done(&["put", "greeting", "hello", "--addr", &http(1)]);
    assert_eq!(done(&["get", "greeting", "--addr", &http(2)]), "hello");
    let again = run(&["dev", "--data", cluster.data]);
    assert_eq!(code(&again), 1);
    assert!(err(&again).contains("running already"), "{}", err(&again));

    cluster.play("kill", &["2"]);
    assert_eq!(cluster.states(), ["running", "gone", "running"]);
    assert_eq!(
        code(&run(&["dev", "--data", cluster.data, "kill", "2"])),
        1,
        "nobody is there to kill"
    );
    assert_eq!(done(&["get", "greeting", "--addr", &http(1)]), "hello");
    done(&["put", "greeting", "without two", "--addr", &http(3)]);
    cluster.play("start", &["2"]);
    assert_eq!(done(&["get", "greeting", "--addr", &http(2)]), "without two");

    cluster.play("pause", &["3"]);
    assert_eq!(cluster.states(), ["running", "running", "paused"]);
    assert_eq!(done(&["get", "greeting", "--addr", &http(1)]), "without two");
    cluster.play("start", &["3"]);

    cluster.play("cut", &["1"]);
    let alone = run(&["get", "greeting", "--addr", &http(1), "--timeout", "500ms"]);
    assert_eq!(code(&alone), 5, "{}", err(&alone));
    cluster.play("heal", &[]);
    let began = Instant::now();
    while code(&run(&["get", "greeting", "--addr", &http(1)])) != 0 {
        assert!(began.elapsed() < Duration::from_secs(20), "the links do not come back");
        std::thread::sleep(Duration::from_millis(50));
    }
    cluster.play("stop", &[]);
    assert_eq!(cluster.states(), ["gone", "gone", "gone"]);
    let ended = ended_twice_at_once(cluster.data);
    assert!(!ended.contains("killed") && ended.contains("stopped"), "{ended}");
}

/// Starts a cluster in the foreground, ends it as whoever ends a make that runs it, and says what it said after that.
fn ended_twice_at_once(data: &str) -> String {
    let mut child = moim(&["dev", "--data", data])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut said = BufReader::new(child.stdout.take().unwrap()).lines();
    assert!(said.any(|line| line.unwrap().contains("Try:")), "it ended before it was ready");
    let pid = Pid::from_raw(i32::try_from(child.id()).unwrap()).unwrap();
    for _ in 0..2 {
        kill_process(pid, Signal::TERM).unwrap();
        // One that has not been taken is not counted twice.
        std::thread::sleep(Duration::from_millis(20));
    }
    let rest: Vec<_> = said.map(Result::unwrap).collect();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{}", err(&output));
    format!("{}\n{}", rest.join("\n"), err(&output))
}

/// A cluster that is stopped with the test.
struct Cluster<'a> {
    data: &'a str,
    base_port: u16,
}

impl Cluster<'_> {
    fn play(&self, what: &str, nodes: &[&str]) {
        done(&[&["dev", "--data", self.data, what], nodes].concat());
    }

    fn states(&self) -> Vec<String> {
        let printed = done(&["dev", "--data", self.data, "status", "--json"]);
        let nodes: serde_json::Value = serde_json::from_str(&printed).unwrap();
        let states = nodes.as_array().unwrap().iter();
        states.map(|node| node["state"].as_str().unwrap().to_owned()).collect()
    }
}

impl Drop for Cluster<'_> {
    fn drop(&mut self) {
        if Path::new(self.data).join("dev.json").exists() {
            run(&["dev", "--data", self.data, "stop"]);
        }
    }
}

/// Where three nodes find their twelve ports free: probably, which is as good as it gets.
fn free_base_port() -> u16 {
    let is_free = |base: &u16| {
        let ports = [0, 100, 1_000, 2_000]
            .into_iter()
            .flat_map(|distance| (1..=3).map(move |node| distance + node));
        ports.clone().all(|port| TcpListener::bind(("127.0.0.1", base + port)).is_ok())
    };
    let start = 12_000 + u16::try_from(std::process::id() % 100).unwrap() * 100;
    (start..30_000).step_by(10).find(is_free).expect("some ports are free")
}
