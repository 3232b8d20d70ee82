//! Scripts of requests and replies, in `tests/resp/*.txt`: whole conversations over a real socket, against the fake node.
//!
//! A case begins with `## its name` and a store of its own. A line is `request → reply`; several requests that are sent
//! in one write are separated by ` ;; `, and so are their replies. Replies are shown as `+simple`, `-error`, `:integer`,
//! `"bulk"`, `nil` (`nil*` for the null array of RESP2, `_` for null of RESP3), `[array]`, `~[set]`, `{map}`, `>[push]`,
//! `,double`, `#boolean`, `=verbatim`, `<silence>` and `<closed>`; `…` stands for anything. Lines that begin with `@`
//! steer the runner (see [`Runner::steer`]), those with `raw` send bytes as they are.
//!
//! Cases without `@` lines or `moim` in their name are about Redis alone. They also run against a real node, and, in an
//! ignored test that is told `REDIS=127.0.0.1:6379`, against a real Redis, whose data it deletes.
//!
//! `UPDATE=1 cargo test` writes what was answered into the files, to be read before it is committed.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use moim_core::ring::{Member, PartitionCount};
use moim_core::{MachineId, NodeId};
use moim_node::Boot;
use moim_node::membership::MemberInfo;
use moim_node::namespace::Namespaces;
use moim_node::options::Options;
use moim_node::views::PeerState;
use moim_storage::memory::MemoryEngine;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::LocalSet;

use super::fake::FakeNode;
use super::parse::{ParseLimits, Parser, Progress};
use super::store::Store;
use super::{Front, PasswordDigest, Port, RespSettings};
use crate::{NodeHandle, alone};

const SEPARATOR: &str = " ;; ";
const ARROW: &str = " → ";
const ANYTHING: char = '…';

/// How long a reply is awaited.
const PATIENCE: Duration = Duration::from_secs(5);

/// Runs what needs the runtime of a server.
fn on_loop<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    LocalSet::new().block_on(&runtime, future)
}

/// What a case runs against.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Against {
    Fake,
    Node,
    Redis(SocketAddr),
}

/// The server under test.
enum Server {
    Fake(Rc<FakeNode>, RespSettings),
    Node,
    Redis(SocketAddr),
}

/// One case at work.
struct Runner {
    server: Server,
    addresses: BTreeMap<&'static str, SocketAddr>,
    clients: BTreeMap<String, Client>,
    current: String,
    port: &'static str,
}

#[derive(Debug)]
struct Client {
    stream: TcpStream,
    unread: Vec<u8>,
}

impl Runner {
    fn new(against: Against) -> Self {
        let settings = RespSettings { login_delay_ms: 1, ..RespSettings::default() };
        let server = match against {
            Against::Fake => Server::Fake(FakeNode::new(), settings),
            Against::Node => Server::Node,
            Against::Redis(address) => Server::Redis(address),
        };
        let (addresses, clients) = (BTreeMap::new(), BTreeMap::new());
        Self { server, addresses, clients, current: "a".to_owned(), port: "plain" }
    }

    /// `@as NAME`, `@port plain|cluster` (of new connections), `@advance MS`, `@peer 2|3 up|silent|down`,
    /// `@ring VERSION`, `@founding`, `@setting NAME=VALUE` (before the first request).
    fn steer(&mut self, words: &[&str]) {
        let Server::Fake(fake, settings) = &mut self.server else { return };
        match words {
            ["as", name] => (*name).clone_into(&mut self.current),
            ["port", "plain"] => self.port = "plain",
            ["port", "cluster"] => self.port = "cluster",
            ["advance", ms] => fake.advance(ms.parse().unwrap()),
            ["peer", number, state] => {
                let state = match *state {
                    "up" => PeerState::Up,
                    "silent" => PeerState::Silent,
                    _ => PeerState::Unreachable,
                };
                fake.set_peer(number.parse().unwrap(), state);
            }
            ["ring", version] => fake.set_ring_version(version.parse().unwrap()),
            ["founding"] => fake.set_ready(false),
            ["setting", setting] => set(settings, setting),
            other => panic!("no such line: @{}", other.join(" ")),
        }
    }

    async fn listen(&mut self) {
        if !self.addresses.is_empty() {
            return;
        }
        let front = match &self.server {
            Server::Redis(address) => {
                self.addresses.insert("plain", *address);
                return;
            }
            Server::Node => Front::new(lone_node().await, RespSettings::default()),
            Server::Fake(fake, settings) => {
                tokio::task::spawn_local(Rc::clone(fake).run());
                Front::over(Store::Fake(Rc::clone(fake)), settings.clone())
            }
        };
        for (name, port) in [("plain", Port::Plain), ("cluster", Port::Cluster)] {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            self.addresses.insert(name, listener.local_addr().unwrap());
            let front = Rc::clone(&front);
            tokio::task::spawn_local(async move {
                loop {
                    let (stream, _) = listener.accept().await.unwrap();
                    let front = Rc::clone(&front);
                    tokio::task::spawn_local(async move { front.serve(stream, port).await });
                }
            });
        }
    }

    async fn client(&mut self) -> &mut Client {
        self.listen().await;
        let address = self.addresses[self.port];
        if !self.clients.contains_key(&self.current) {
            let stream = TcpStream::connect(address).await.unwrap();
            let mut client = Client { stream, unread: Vec::new() };
            if matches!(self.server, Server::Redis(_)) {
                client.say(b"FLUSHALL\r\n", 1).await;
            }
            self.clients.insert(self.current.clone(), client);
        }
        self.clients.get_mut(&self.current).unwrap()
    }

    /// Sends the requests of a line and gives what was answered.
    async fn ask(&mut self, requests: &str, replies: &str) -> String {
        let bytes = match requests.strip_prefix("raw ") {
            Some(text) => words(text).concat(),
            None => requests.split(SEPARATOR).flat_map(encode).collect(),
        };
        let parts = replies.split(SEPARATOR).filter(|part| *part != "<silence>").count();
        let wanted = if replies.is_empty() { requests.split(SEPARATOR).count() } else { parts };
        let mut answers = self.client().await.say(&bytes, wanted).await;
        if answers.is_empty() {
            answers.push("<silence>".to_owned());
        }
        answers.join(SEPARATOR)
    }
}

/// A node that is a cluster by itself, and keeps everything in memory.
async fn lone_node() -> NodeHandle {
    let member = Member {
        node: NodeId(1),
        machine: MachineId(1),
        zone: "z".to_owned(),
        dc: "d".to_owned(),
        weight: 1,
    };
    let address = String::new;
    let info = MemberInfo {
        member,
        peer_address: address(),
        redis_address: address(),
        cluster_address: address(),
        http_address: address(),
    };
    let boot = Boot {
        info,
        run: 1,
        seed: 1,
        stored_record: None,
        stored_clock_bound: None,
        founding_members: 1,
        partitions: PartitionCount::new(256).unwrap(),
        namespaces: Namespaces::default(),
        options: Options::default(),
    };
    let (handle, turns) = alone(boot, Arc::new(MemoryEngine::new(None))).unwrap();
    tokio::task::spawn_local(turns);
    while handle.view(|node| node.readiness().is_err()) {
        tokio::task::yield_now().await;
    }
    handle
}

fn set(settings: &mut RespSettings, setting: &str) {
    let (name, value) = setting.split_once('=').unwrap();
    let number = || value.parse().unwrap();
    match name {
        "password" => settings.password = Some(PasswordDigest::of(value.as_bytes())),
        "clients_max" => settings.clients_max = number(),
        "pipeline_max" => settings.pipeline_max = number(),
        "bulk_bytes_max" => settings.bulk_bytes_max = number(),
        "query_bytes_max" => settings.query_bytes_max = number(),
        "output_bytes_max" => settings.output_bytes_max = number(),
        "output_bytes_soft" => settings.output_bytes_soft = number(),
        "transaction_bytes_max" => settings.transaction_bytes_max = number(),
        "unfinished_timeout_ms" => settings.unfinished_timeout_ms = value.parse().unwrap(),
        "login_timeout_ms" => settings.login_timeout_ms = value.parse().unwrap(),
        _ => panic!("no such setting: {name}"),
    }
}

/// The words of an inline command, quotes undone. `«n»` stands for n bytes of `x`.
fn words(line: &str) -> Vec<Vec<u8>> {
    let mut line = format!("{line}\n");
    while let Some((before, rest)) = line.split_once('«') {
        let (count, after) = rest.split_once('»').unwrap();
        line = format!("{before}{}{after}", "x".repeat(count.parse().unwrap()));
    }
    let limits = ParseLimits {
        bulk_bytes_max: usize::MAX,
        line_bytes_max: usize::MAX,
        arguments_max: usize::MAX,
        stranger: false,
    };
    // A word in front keeps the parser from seeing an array.
    let line = format!("x {line}");
    let mut parser = Parser::default();
    assert_eq!(parser.advance(line.as_bytes(), &limits), Ok(Progress::Command), "{line}");
    parser.arguments(line.as_bytes()).skip(1).map(<[u8]>::to_vec).collect()
}

fn encode(request: &str) -> Vec<u8> {
    let words = words(request);
    let mut bytes = format!("*{}\r\n", words.len()).into_bytes();
    for word in words {
        bytes.extend(format!("${}\r\n", word.len()).bytes());
        bytes.extend(word);
        bytes.extend(b"\r\n");
    }
    bytes
}

impl Client {
    async fn say(&mut self, bytes: &[u8], replies: usize) -> Vec<String> {
        // The server may have closed already, which reading tells.
        drop(self.stream.write_all(bytes).await);
        let mut answers = Vec::new();
        while answers.len() < replies {
            let mut rest = self.unread.as_slice();
            if let Some(answer) = show(&mut rest) {
                self.unread = rest.to_vec();
                answers.push(answer);
                continue;
            }
            let mut more = Vec::with_capacity(64 << 10);
            match tokio::time::timeout(PATIENCE, self.stream.read_buf(&mut more)).await {
                Ok(Ok(0) | Err(_)) => {
                    answers.push("<closed>".to_owned());
                    break;
                }
                Ok(Ok(_)) => self.unread.extend(more),
                Err(_) => {
                    answers.push("<nothing>".to_owned());
                    break;
                }
            }
        }
        answers
    }
}

fn line<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    let end = rest.windows(2).position(|pair| pair == b"\r\n")?;
    let line = &rest[..end];
    *rest = &rest[end + 2..];
    Some(line)
}

/// The first reply of these bytes as a script shows it, if it is whole.
fn show(rest: &mut &[u8]) -> Option<String> {
    let header = line(rest)?;
    let (kind, text) = header.split_first()?;
    let text = String::from_utf8_lossy(text).into_owned();
    let count = || text.parse::<usize>().ok();
    Some(match kind {
        b'+' | b'-' | b':' | b',' | b'#' => format!("{}{text}", char::from(*kind)),
        b'_' => "_".to_owned(),
        b'$' if text == "-1" => "nil".to_owned(),
        b'*' if text == "-1" => "nil*".to_owned(),
        b'$' | b'=' => {
            let length = count()?;
            let bytes = rest.get(..length)?;
            rest.get(length..length + 2)?;
            *rest = &rest[length + 2..];
            let mark = if *kind == b'=' { "=" } else { "" };
            format!("{mark}\"{}\"", bytes.escape_ascii())
        }
        b'*' | b'~' | b'>' => {
            let items = (0..count()?).map(|_| show(rest)).collect::<Option<Vec<_>>>()?;
            let mark = if *kind == b'*' { String::new() } else { char::from(*kind).to_string() };
            format!("{mark}[{}]", items.join(" "))
        }
        b'%' => {
            let pair = |_| Some(format!("{}={}", show(rest)?, show(rest)?));
            let pairs = (0..count()?).map(pair).collect::<Option<Vec<_>>>()?;
            format!("{{{}}}", pairs.join(" "))
        }
        other => panic!("no such reply: {}", char::from(*other)),
    })
}

/// Whether a reply is what was expected, where `…` stands for anything.
fn fits(expected: &str, answer: &str) -> bool {
    let Some((first, mut parts)) = expected.split_once(ANYTHING) else { return expected == answer };
    let Some(mut rest) = answer.strip_prefix(first) else { return false };
    while let Some((part, others)) = parts.split_once(ANYTHING) {
        let Some(at) = rest.find(part) else { return false };
        (rest, parts) = (&rest[at + part.len()..], others);
    }
    rest.ends_with(parts)
}

/// Runs the lines of one case; gives the lines as they should have been.
async fn run_case(name: &str, lines: &[&str], against: Against) -> (Vec<String>, Vec<String>) {
    let mut runner = Runner::new(against);
    let (mut actual, mut wrong) = (Vec::new(), Vec::new());
    for text in lines {
        if text.is_empty() || text.starts_with("# ") {
            actual.push((*text).to_owned());
        } else if let Some(words) = text.strip_prefix('@') {
            runner.steer(&words.split(' ').collect::<Vec<_>>());
            actual.push((*text).to_owned());
        } else {
            let (request, expected) =
                text.split_once(ARROW).unwrap_or_else(|| (text.trim_end_matches(" →"), ""));
            let answer = runner.ask(request, expected).await;
            if fits(expected, &answer) {
                actual.push((*text).to_owned());
            } else {
                wrong.push(format!(
                    "{name}\n  {request}\n    expected {expected}\n    answered {answer}"
                ));
                actual.push(format!("{request}{ARROW}{answer}"));
            }
        }
    }
    (actual, wrong)
}

/// The cases of a file: what stands before the first, then name and lines of each.
fn cases(text: &str) -> (Vec<&str>, Vec<(&str, Vec<&str>)>) {
    let (mut head, mut cases) = (Vec::new(), Vec::<(&str, Vec<&str>)>::new());
    for line in text.lines() {
        match (line.strip_prefix("## "), cases.last_mut()) {
            (Some(name), _) => cases.push((name, Vec::new())),
            (None, Some((_, lines))) => lines.push(line),
            (None, None) => head.push(line),
        }
    }
    (head, cases)
}

fn files() -> Vec<PathBuf> {
    let directory = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/resp");
    let mut files: Vec<_> =
        std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files
}

#[test]
fn scripts_are_answered_as_written() {
    let update = std::env::var_os("UPDATE").is_some();
    let mut failures = Vec::new();
    for file in files() {
        let text = std::fs::read_to_string(&file).unwrap();
        let (head, cases) = cases(&text);
        let mut written = head.iter().map(|line| (*line).to_owned()).collect::<Vec<_>>();
        for (name, lines) in cases {
            let (actual, wrong) = on_loop(run_case(name, &lines, Against::Fake));
            written.push(format!("## {name}"));
            written.extend(actual);
            let file = file.file_name().unwrap().to_string_lossy().into_owned();
            failures.extend(wrong.into_iter().map(|wrong| format!("{file}: {wrong}")));
        }
        if update {
            std::fs::write(&file, written.join("\n") + "\n").unwrap();
        }
    }
    assert!(
        update || failures.is_empty(),
        "{} lines differ:\n{}",
        failures.len(),
        failures.join("\n")
    );
}

/// Runs the cases that are about Redis alone.
fn compare(against: Against) {
    let mut failures = Vec::new();
    for file in files() {
        let text = std::fs::read_to_string(&file).unwrap();
        for (name, lines) in cases(&text).1 {
            if !name.contains("moim") && lines.iter().all(|line| !line.starts_with('@')) {
                failures.extend(on_loop(run_case(name, &lines, against)).1);
            }
        }
    }
    assert!(failures.is_empty(), "{} lines differ:\n{}", failures.len(), failures.join("\n"));
}

#[test]
fn a_real_node_answers_the_same() {
    compare(Against::Node);
}

#[test]
#[ignore = "needs a Redis to compare with, whose data it deletes: set REDIS"]
fn redis_answers_the_same() {
    compare(Against::Redis(std::env::var("REDIS").unwrap().parse().unwrap()));
}
