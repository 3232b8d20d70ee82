//! A server to send bytes to.

use std::cell::Cell;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use moim_core::ring::{Member, PartitionCount};
use moim_core::{MachineId, NodeId};
use moim_node::Boot;
use moim_node::keyspace::StoredTrees;
use moim_node::membership::MemberInfo;
use moim_node::namespace::{Conflict, Namespace, Namespaces};
use moim_node::options::Options;
use moim_storage::memory::MemoryEngine;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, oneshot};
use tokio::task::{JoinHandle, LocalSet, spawn_local};
use tokio::time::timeout;

use crate::http::{Context, Experiments, Requests, Settings, serve};
use crate::shards::Shard;
use crate::{NodeHandle, alone};

/// Nothing in these tests takes longer.
const PATIENCE: Duration = Duration::from_secs(20);

/// How a server is started.
pub(super) struct Setup {
    pub(super) settings: Settings,
    pub(super) founding_members: usize,
    pub(super) faults: bool,
}

impl Default for Setup {
    fn default() -> Self {
        Self { settings: Settings::default(), founding_members: 1, faults: false }
    }
}

/// A running server.
pub(super) struct Server {
    pub(super) address: SocketAddr,
    pub(super) handle: NodeHandle,
    pub(super) is_cut: Rc<Cell<bool>>,
    pub(super) slow_disk: Rc<Cell<(u64, u64)>>,
    pub(super) stop: Option<oneshot::Sender<()>>,
    pub(super) serving: JoinHandle<()>,
}

/// A reply, taken apart.
#[derive(Debug)]
pub(super) struct Reply {
    pub(super) status: u16,
    headers: String,
    pub(super) body: Vec<u8>,
}

/// Runs a test against a server with the usual settings.
pub(super) fn with_server<F: Future<Output = ()>>(test: impl FnOnce(Server) -> F) {
    with(Setup::default(), test);
}

/// Runs a test against a server.
pub(super) fn with<F: Future<Output = ()>>(setup: Setup, test: impl FnOnce(Server) -> F) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    LocalSet::new().block_on(&runtime, async {
        let server = Server::start(setup).await;
        timeout(PATIENCE, test(server)).await.expect("the test took too long");
    });
}

impl Server {
    async fn start(setup: Setup) -> Self {
        let engine = Arc::new(MemoryEngine::new(None));
        let (handle, task) = alone(boot(setup.founding_members), Arc::clone(&engine) as _).unwrap();
        drop(spawn_local(task));
        while setup.founding_members == 1 && handle.view(|node| node.readiness().is_err()) {
            tokio::task::yield_now().await;
        }
        let is_cut = Rc::new(Cell::new(false));
        let hook = Rc::clone(&is_cut);
        let slow_disk = Rc::new(Cell::new((0, 0)));
        let delays = Rc::clone(&slow_disk);
        let experiments = Experiments {
            cut: Rc::new(move |away| hook.set(away)),
            slow_disk: Rc::new(move |read_ms, commit_ms| delays.set((read_ms, commit_ms))),
        };
        let context = Context {
            handle: handle.clone(),
            engine,
            front_figures: Rc::new(Vec::new),
            disk_space: Rc::new(|| (1, 2)),
            set_aside_s: Vec::new(),
            started: Instant::now(),
            settings: setup.settings,
            experiments: setup.faults.then_some(experiments),
            shard: Shard::alone(),
        };
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, stopped) = oneshot::channel();
        let (_, errands) = mpsc::channel(1);
        let requests = Requests { listener: Some(listener), errands };
        let serving =
            spawn_local(serve(requests, Rc::new(context), async move { drop(stopped.await) }));
        Self { address, handle, is_cut, slow_disk, stop: Some(stop), serving }
    }

    /// A connection.
    pub(super) async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).await.unwrap()
    }

    /// Sends bytes on a fresh connection and reads one reply.
    pub(super) async fn send(&self, bytes: impl AsRef<[u8]>) -> Reply {
        let mut stream = self.connect().await;
        // The server may have answered and closed before it read everything.
        drop(stream.write_all(bytes.as_ref()).await);
        read_reply(&mut stream, bytes.as_ref().starts_with(b"HEAD")).await
    }

    /// Sends a request with these headers (lines) and this body.
    pub(super) async fn ask(&self, line: &str, headers: &str, body: impl AsRef<[u8]>) -> Reply {
        let body = body.as_ref();
        let head = format!(
            "{line} HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\n{headers}\r\n",
            body.len()
        );
        self.send([head.as_bytes(), body].concat()).await
    }

    /// Sends a request without body or headers of its own.
    pub(super) async fn get(&self, path: &str) -> Reply {
        self.ask(&format!("GET {path}"), "", "").await
    }
}

/// Reads one reply; waits for the end of the connection where the reply has no length.
pub(super) async fn read_reply(stream: &mut TcpStream, head_only: bool) -> Reply {
    let mut bytes = Vec::new();
    loop {
        let read = stream.read_buf(&mut bytes).await.unwrap_or(0);
        if let Some(reply) = Reply::parse(&bytes, head_only, read == 0) {
            return reply;
        }
        assert!(read > 0, "the connection ended: {:?}", String::from_utf8_lossy(&bytes));
    }
}

impl Reply {
    fn parse(bytes: &[u8], head_only: bool, ended: bool) -> Option<Self> {
        let end = bytes.windows(4).position(|window| window == b"\r\n\r\n")?;
        let headers = String::from_utf8(bytes[..end].to_vec()).unwrap();
        let status = headers.split(' ').nth(1)?.parse().unwrap();
        let body = bytes[end + 4..].to_vec();
        let reply = Self { status, headers, body };
        let length = reply.header("content-length").map(|length| length.parse::<usize>().unwrap());
        let expected = if head_only || status == 204 || status == 304 { Some(0) } else { length };
        (ended || expected == Some(reply.body.len())).then_some(reply)
    }

    /// A header's value.
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.headers.lines().skip(1).find_map(|line| {
            let (known, value) = line.split_once(':')?;
            known.eq_ignore_ascii_case(name).then_some(value.trim())
        })
    }

    /// The body as text.
    pub(super) fn text(&self) -> &str {
        str::from_utf8(&self.body).unwrap()
    }

    /// The body as JSON.
    pub(super) fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|error| panic!("{error}: {}", self.text()))
    }

    /// Checks that this is a problem document of this status and kind; gives it back.
    pub(super) fn problem(&self, status: u16, kind: &str) -> serde_json::Value {
        assert_eq!(self.status, status, "{}", String::from_utf8_lossy(&self.body));
        assert_eq!(self.header("content-type"), Some("application/problem+json"));
        let problem = self.json();
        assert_eq!(problem["status"], status);
        assert_eq!(problem["type"], format!("urn:moim:problem:{kind}"));
        problem
    }
}

fn boot(founding_members: usize) -> Boot {
    let member = Member {
        node: NodeId(0xa11),
        machine: MachineId(1),
        zone: "z1".to_owned(),
        dc: "d1".to_owned(),
        weight: 1,
    };
    let info = MemberInfo {
        member,
        peer_address: "127.0.0.1:9001".to_owned(),
        redis_address: "127.0.0.1:7001".to_owned(),
        cluster_address: "127.0.0.1:7101".to_owned(),
        http_address: "127.0.0.1:8001".to_owned(),
    };
    let carts = Namespace { conflict: Conflict::Siblings, ..Namespace::new("carts") };
    Boot {
        info,
        run: 1,
        seed: 1,
        stored_record: None,
        stored_clock_bound: None,
        stored_filling: None,
        stored_trees: StoredTrees::default(),
        stored_generation: None,
        stored_batch: None,
        founding_members,
        partitions: PartitionCount::new(256).unwrap(),
        namespaces: Namespaces::new(&Namespace::new("0"), vec![carts]).unwrap(),
        options: Options::default(),
    }
}
