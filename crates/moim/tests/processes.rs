//! Three servers as processes of their own, on this machine: one is killed and started again, one is stopped gently,
//! while clients write. `cargo xtask show` does the same and worse in network namespaces, for longer.
//!
//! What is judged depends on no timing: no acknowledged write is lost, a gentle stop fails no command, and everything
//! goes on afterwards.

#![cfg(feature = "rocksdb")]
#![expect(clippy::unwrap_used, reason = "helpers of tests fail the test")]

use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

/// How long anything may take before the test gives up.
const PATIENCE: Duration = Duration::from_mins(1);
/// Longer than a node lets a request take.
const REPLY: Duration = Duration::from_secs(10);
const NODES: usize = 3;
const CLIENTS: usize = 3;
/// Writes of each client before something else happens to the cluster.
const WRITES: usize = 60;
const VALUE_BYTES: usize = 2_048;
const PORTS: [(&str, u16); 4] =
    [("redis", 16_379), ("cluster", 16_479), ("http", 17_379), ("peer", 18_379)];

/// A cluster that ends with the test. Every node has a loopback address of its own, so ports need no search.
struct Cluster {
    network: [u8; 2],
    /// Nodes in each server.
    shards: u8,
    data: tempfile::TempDir,
    running: [Option<Child>; NODES],
}

impl Drop for Cluster {
    fn drop(&mut self) {
        for child in self.running.iter_mut().flatten() {
            child.kill().ok();
            child.wait().ok();
        }
    }
}

impl Cluster {
    fn start(shards: u8) -> Self {
        let pid = std::process::id().to_be_bytes();
        let data = tempfile::tempdir().unwrap();
        // Process and shards tell clusters that run at once apart; 127.0.x.x is where others may listen.
        let network = [pid[3] | 1, pid[2] ^ (shards << 6)];
        let mut cluster = Self { network, shards, data, running: Default::default() };
        for node in 0..NODES {
            cluster.launch(node);
        }
        for node in 0..NODES {
            cluster.await_ready(node);
        }
        cluster
    }

    fn at(&self, node: usize, what: &str) -> SocketAddr {
        let [second, third] = self.network;
        let address = Ipv4Addr::new(127, second, third, u8::try_from(node).unwrap() + 1);
        let port = PORTS.iter().find(|(name, _)| *name == what).unwrap().1;
        SocketAddr::from((address, port))
    }

    fn launch(&mut self, node: usize) {
        for (what, _) in PORTS {
            drop(TcpListener::bind(self.at(node, what)).unwrap());
        }
        let directory = self.data.path().join(node.to_string());
        std::fs::create_dir_all(&directory).unwrap();
        let log = self.data.path().join(format!("{node}.log"));
        let log = std::fs::File::options().create(true).append(true).open(log).unwrap();
        let found: Vec<_> = (0..NODES).map(|other| self.at(other, "peer").to_string()).collect();
        let mut command = Command::new(env!("CARGO_BIN_EXE_moim"));
        for (name, _) in
            std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("MOIM_"))
        {
            command.env_remove(name);
        }
        command.arg("server").arg("--data").arg(&directory).args(["--found", &found.join(",")]);
        command.args(["--shards", &self.shards.to_string()]);
        for (what, _) in PORTS {
            command.args([format!("--listen-{what}"), self.at(node, what).to_string()]);
        }
        // Modest: it shares the machine with other tests.
        for setting in ["node.block_cache_bytes=33554432", "node.memtable_bytes=4194304"] {
            command.args(["--set", setting]);
        }
        command.current_dir(&directory).stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        let before = self.running[node].replace(command.spawn().unwrap());
        assert!(before.is_none(), "a node is started once");
    }

    fn await_ready(&mut self, node: usize) {
        let http = self.at(node, "http");
        let began = Instant::now();
        while !is_ready(http) {
            let ended = self.running[node].as_mut().unwrap().try_wait().unwrap();
            assert!(ended.is_none(), "node {node} ended: {ended:?}\n{}", self.log(node));
            assert!(began.elapsed() < PATIENCE, "node {node} is not ready\n{}", self.log(node));
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn log(&self, node: usize) -> String {
        std::fs::read_to_string(self.data.path().join(format!("{node}.log"))).unwrap()
    }

    /// Sends a signal and waits for the end.
    fn end(&mut self, node: usize, signal: Signal) -> ExitStatus {
        let mut child = self.running[node].take().unwrap();
        let pid = Pid::from_raw(i32::try_from(child.id()).unwrap()).unwrap();
        kill_process(pid, signal).unwrap();
        let began = Instant::now();
        loop {
            if let Some(status) = child.try_wait().unwrap() {
                return status;
            }
            assert!(began.elapsed() < PATIENCE, "node {node} does not end\n{}", self.log(node));
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

fn is_ready(http: SocketAddr) -> bool {
    let ask = || -> io::Result<String> {
        let mut stream = TcpStream::connect_timeout(&http, REPLY)?;
        stream.set_read_timeout(Some(REPLY))?;
        stream
            .write_all(b"GET /readyz HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer)
    };
    ask().is_ok_and(|answer| answer.starts_with("HTTP/1.1 200"))
}

/// One connection of a client.
struct Connection(BufReader<TcpStream>);

impl Connection {
    fn open(place: SocketAddr) -> io::Result<Self> {
        let stream = TcpStream::connect_timeout(&place, REPLY)?;
        stream.set_read_timeout(Some(REPLY))?;
        stream.set_nodelay(true)?;
        Ok(Self(BufReader::new(stream)))
    }

    /// Whether the node has ended the connection while nothing was asked.
    fn has_ended(&mut self) -> bool {
        let stream = self.0.get_mut();
        stream.set_nonblocking(true).unwrap();
        let looked = stream.peek(&mut [0]);
        stream.set_nonblocking(false).unwrap();
        !matches!(looked, Err(error) if error.kind() == io::ErrorKind::WouldBlock)
    }

    /// The first line of a reply, and the value behind it.
    fn call(&mut self, words: &[&str]) -> io::Result<(String, Vec<u8>)> {
        let mut request = format!("*{}\r\n", words.len());
        for word in words {
            request.extend([&format!("${}\r\n", word.len()), *word, "\r\n"]);
        }
        self.0.get_mut().write_all(request.as_bytes())?;
        let mut line = String::new();
        self.0.read_line(&mut line)?;
        let Some(line) = line.strip_suffix("\r\n") else {
            return Err(io::ErrorKind::UnexpectedEof.into());
        };
        let length = line.strip_prefix('$').and_then(|length| length.parse().ok());
        let mut value = vec![0; length.map_or(0, |length: usize| length + 2)];
        self.0.read_exact(&mut value)?;
        value.truncate(value.len().saturating_sub(2));
        Ok((line.to_owned(), value))
    }
}

/// What all clients know.
#[derive(Default)]
struct Clients {
    acknowledged: Mutex<Vec<String>>,
    /// Writes of each client.
    written: [AtomicUsize; CLIENTS],
    /// Commands that were sent and failed.
    failed: Mutex<Vec<String>>,
    enough: AtomicBool,
}

impl Clients {
    /// Writes keys of its own, each until it is acknowledged; on a failure, through the next node.
    fn run(&self, client: usize, nodes: &[SocketAddr]) {
        let (mut node, mut connection) = (client, None::<Connection>);
        for number in 0.. {
            let key = format!("{client}:{number}");
            let mut is_written = false;
            while !is_written {
                if self.enough.load(Ordering::Relaxed) {
                    return;
                }
                let open = connection.take().map_or_else(
                    || Connection::open(nodes[node % NODES]),
                    |mut open| {
                        if open.has_ended() {
                            Err(io::ErrorKind::NotConnected.into())
                        } else {
                            Ok(open)
                        }
                    },
                );
                let Ok(mut open) = open else {
                    // Nothing was sent: the next one.
                    node += 1;
                    std::thread::sleep(Duration::from_millis(5));
                    continue;
                };
                match open.call(&["SET", &key, &value(&key)]) {
                    Ok((line, _)) if line == "+OK" => {
                        is_written = true;
                        connection = Some(open);
                    }
                    other => {
                        self.failed.lock().unwrap().push(format!("{key}: {other:?}"));
                        node += 1;
                    }
                }
            }
            self.acknowledged.lock().unwrap().push(key);
            self.written[client].fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Waits until every client has written some more.
    fn go_on(&self) {
        let counts = || self.written.each_ref().map(|written| written.load(Ordering::Relaxed));
        let (before, began) = (counts(), Instant::now());
        while counts().iter().zip(before).any(|(now, before)| *now < before + WRITES) {
            let failed = self.failed.lock().unwrap();
            assert!(began.elapsed() < PATIENCE, "clients stand still; {:?}", failed.last());
            drop(failed);
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

fn value(key: &str) -> String {
    let mut value = format!("{key};").repeat(VALUE_BYTES / key.len());
    value.truncate(VALUE_BYTES);
    value
}

/// Kills one node and stops another gently; returns what failed around the gentle stop.
fn disturb(cluster: &mut Cluster, clients: &Clients) -> Vec<String> {
    clients.go_on();
    cluster.end(0, Signal::KILL);
    clients.go_on();
    cluster.launch(0);
    cluster.await_ready(0);
    clients.go_on();
    clients.failed.lock().unwrap().clear();
    let status = cluster.end(1, Signal::TERM);
    assert!(status.success(), "{status}\n{}", cluster.log(1));
    clients.go_on();
    cluster.launch(1);
    cluster.await_ready(1);
    clients.go_on();
    std::mem::take(&mut clients.failed.lock().unwrap())
}

#[test]
fn a_kill_loses_nothing_and_a_gentle_stop_fails_nothing() {
    play(Cluster::start(1));
}

#[test]
fn so_it_is_with_servers_of_two_nodes() {
    play(Cluster::start(2));
}

fn play(mut cluster: Cluster) {
    let nodes: Vec<_> = (0..NODES).map(|node| cluster.at(node, "redis")).collect();
    let clients = Clients::default();
    let failed = std::thread::scope(|scope| {
        for client in 0..CLIENTS {
            let (clients, nodes) = (&clients, &nodes);
            scope.spawn(move || clients.run(client, nodes));
        }
        let disturbed = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            disturb(&mut cluster, &clients)
        }));
        clients.enough.store(true, Ordering::Relaxed);
        disturbed.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    });
    assert_eq!(failed, Vec::<String>::new(), "commands failed around a gentle stop");
    let acknowledged = clients.acknowledged.into_inner().unwrap();
    for place in nodes {
        let mut connection = Connection::open(place).unwrap();
        assert_eq!(connection.call(&["MOIM.LEVEL", "READ", "2"]).unwrap().0, "+OK");
        for key in &acknowledged {
            let (line, found) = connection.call(&["GET", key]).unwrap();
            assert_eq!(
                (line.as_str(), found),
                ("$2048", value(key).into_bytes()),
                "{key} at {place}"
            );
        }
    }
}
