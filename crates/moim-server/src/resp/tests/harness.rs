//! Servers to talk to, and a client that shows what they say.

use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use moim_core::ring::{Member, PartitionCount};
use moim_core::{MachineId, NodeId};
use moim_node::Boot;
use moim_node::keyspace::StoredTrees;
use moim_node::membership::MemberInfo;
use moim_node::namespace::Namespaces;
use moim_node::options::Options;
use moim_storage::memory::MemoryEngine;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::LocalSet;

use super::fake::FakeNode;
use crate::resp::parse::{ParseLimits, Parser, Progress};
use crate::resp::store::Store;
use crate::resp::{Front, Port, RespSettings};
use crate::{NodeHandle, alone};

/// How long a reply is awaited.
const PATIENCE: Duration = Duration::from_secs(20);

/// Runs what needs the runtime of a server.
pub(super) fn on_loop<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    LocalSet::new().block_on(&runtime, future)
}

/// Both Redis ports of a node.
pub(super) struct Ports {
    pub(super) front: Rc<Front>,
    pub(super) plain: SocketAddr,
    pub(super) cluster: SocketAddr,
}

impl Ports {
    /// Over a fake node, which is made to run.
    pub(super) async fn of_fake(fake: &Rc<FakeNode>, settings: RespSettings) -> Self {
        tokio::task::spawn_local(Rc::clone(fake).run());
        Self::of(Front::over(Store::Fake(Rc::clone(fake)), settings)).await
    }

    /// Over a fake node of its own.
    pub(super) async fn of_fake_anew(settings: RespSettings) -> Self {
        Self::of_fake(&FakeNode::new(), settings).await
    }

    /// Over a real node.
    pub(super) async fn of_node(settings: RespSettings) -> Self {
        Self::of(Front::new(lone_node().await, settings)).await
    }

    async fn of(front: Rc<Front>) -> Self {
        let plain = listen(&front, Port::Plain).await;
        let cluster = listen(&front, Port::Cluster).await;
        Self { front, plain, cluster }
    }
}

async fn listen(front: &Rc<Front>, port: Port) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let front = Rc::clone(front);
    tokio::task::spawn_local(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let front = Rc::clone(&front);
            tokio::task::spawn_local(async move { front.serve(stream, port).await });
        }
    });
    address
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
        stored_filling: None,
        stored_trees: StoredTrees::default(),
        stored_generation: None,
        stored_batch: None,
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

/// A client. It shows replies as scripts write them.
#[derive(Debug)]
pub(super) struct Client {
    pub(super) stream: TcpStream,
    unread: Vec<u8>,
}

impl Client {
    pub(super) async fn connect(address: SocketAddr) -> Self {
        Self { stream: TcpStream::connect(address).await.unwrap(), unread: Vec::new() }
    }

    /// Sends the words of each request in one write, and gives the replies.
    pub(super) async fn ask(&mut self, requests: &[&str]) -> Vec<String> {
        let bytes: Vec<u8> = requests.iter().flat_map(|request| encode(request)).collect();
        self.say(&bytes, requests.len()).await
    }

    /// Sends bytes and gives so many replies, or fewer if the server closes or says nothing more.
    pub(super) async fn say(&mut self, bytes: &[u8], replies: usize) -> Vec<String> {
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

/// The words of an inline command, quotes undone. `«n»` stands for n bytes of `x`.
pub(super) fn words(line: &str) -> Vec<Vec<u8>> {
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

pub(super) fn encode(request: &str) -> Vec<u8> {
    let words = words(request);
    let mut bytes = format!("*{}\r\n", words.len()).into_bytes();
    for word in words {
        bytes.extend(format!("${}\r\n", word.len()).bytes());
        bytes.extend(word);
        bytes.extend(b"\r\n");
    }
    bytes
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
