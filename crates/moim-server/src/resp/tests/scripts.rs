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

use moim_node::views::PeerState;

use super::fake::FakeNode;
use super::harness::{Client, Ports, encode, on_loop, words};
use crate::resp::{PasswordDigest, RespSettings};

const SEPARATOR: &str = " ;; ";
const ARROW: &str = " → ";
const ANYTHING: char = '…';

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
        let ports = match &self.server {
            Server::Redis(address) => {
                self.addresses.insert("plain", *address);
                return;
            }
            Server::Node => Ports::of_node(RespSettings::default()).await,
            Server::Fake(fake, settings) => Ports::of_fake(fake, settings.clone()).await,
        };
        self.addresses = BTreeMap::from([("plain", ports.plain), ("cluster", ports.cluster)]);
    }

    async fn client(&mut self) -> &mut Client {
        self.listen().await;
        let address = self.addresses[self.port];
        if !self.clients.contains_key(&self.current) {
            let mut client = Client::connect(address).await;
            if matches!(self.server, Server::Redis(_)) {
                client.ask(&["FLUSHALL"]).await;
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
