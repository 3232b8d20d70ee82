//! The time during which a server serves: everything that runs on the node's thread.

use std::cell::Cell;
use std::future::Future;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use moim_node::membership::Record;
use moim_node::{Boot, Input, Node};
use moim_storage::Engine;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;
use tokio::task::{AbortHandle, JoinError, spawn_local};
use tokio::time::sleep;
use tracing::{error, info, warn};

use super::Stop;
use super::accept::accept_forever;
use super::error::ServerError;
use super::listeners::Listeners;
use crate::clock::Clock;
use crate::config::{Config, EngineKind, NodeConfig};
use crate::disk::Disk;
use crate::handle::NodeHandle;
use crate::http;
use crate::inbox::Inbox;
use crate::links::Links;
use crate::resp::{Front, Port, RespSettings};
use crate::turn::TurnTask;

/// How often it is looked whether the node has become ready, or has nothing more to do.
const LOOK: Duration = Duration::from_millis(10);

/// How often a memory engine is asked to give expired values back, and how many entries it looks at.
const RECLAIM_EVERY: Duration = Duration::from_secs(1);
const RECLAIM_ENTRIES_MAX: usize = 1_000;

/// Time for the last answers to leave through the clients' sockets.
const LAST_WORDS: Duration = Duration::from_millis(50);

/// What a server works on.
pub(super) struct Parts {
    pub(super) config: Config,
    pub(super) listeners: Listeners,
    pub(super) engine: Arc<dyn Engine>,
    pub(super) boot: Boot,
}

/// The running server.
struct Session {
    config: Config,
    handle: NodeHandle,
    links: Rc<Links>,
    /// Tasks that take new clients.
    doors: Vec<AbortHandle>,
    close_http: Rc<Notify>,
}

/// Serves until `stop` is ready or the node's loop dies.
pub(super) async fn serve(
    parts: Parts,
    stop: impl Future<Output = Stop>,
) -> Result<(), ServerError> {
    let seed = parts.boot.seed;
    let clock = Clock::start();
    let node = Node::new(clock.now(), parts.boot)?;
    let inbox = Rc::<Inbox>::default();
    let handle = NodeHandle::new(node, clock, Rc::clone(&inbox));
    let links = handle.links(seed);
    let disk = open_disk(&parts.config.node, &parts.engine, inbox)?;
    let mut turning = spawn_local(TurnTask::new(handle.clone(), disk, Rc::clone(&links)).run());
    meet(&parts.config.node, &handle, &links);
    let session = Session::start(parts.config, parts.listeners, parts.engine, handle, links)?;
    let ended = tokio::select! {
        how = stop => {
            session.stop(how).await;
            Ok(())
        }
        ended = &mut turning => Err(ServerError::Crashed(describe(ended))),
    };
    turning.abort();
    ended
}

fn describe(ended: Result<(), JoinError>) -> String {
    let Err(error) = ended else { return "its loop ended".to_owned() };
    let Ok(panic) = error.try_into_panic() else { return "its loop was cancelled".to_owned() };
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "a panic without words".to_owned())
}

fn open_disk(
    node: &NodeConfig,
    engine: &Arc<dyn Engine>,
    inbox: Rc<Inbox>,
) -> Result<Disk, ServerError> {
    match node.engine {
        EngineKind::Memory => Ok(Disk::inline(Arc::clone(engine), inbox)),
        EngineKind::RocksDb => Disk::threaded(Arc::clone(engine), inbox)
            .map_err(|error| ServerError::System { what: "start the disk's threads", error }),
    }
}

/// Begins to dial whoever is known: the members of the record, or those who found the cluster.
fn meet(node: &NodeConfig, handle: &NodeHandle, links: &Rc<Links>) {
    if let Some(record) = handle.view(|node| node.record().cloned()) {
        return links.adopt(&record);
    }
    let own = handle.view(|node| node.info().peer_address.clone());
    let others = node.found.iter().filter(|&address| *address != own);
    links.dial(&others.map(|address| (address.clone(), None)).collect::<Vec<_>>());
    if node.found.len() > 1 {
        info!(nodes = node.found.len(), "waiting for all nodes that found the cluster");
    }
}

impl Session {
    fn start(
        config: Config,
        listeners: Listeners,
        engine: Arc<dyn Engine>,
        handle: NodeHandle,
        links: Rc<Links>,
    ) -> Result<Self, ServerError> {
        let front = Front::new(handle.clone(), RespSettings::from(&config));
        let close_http = Rc::<Notify>::default();
        let closed = Rc::clone(&close_http);
        let peers = Rc::clone(&links);
        let [redis, cluster, http, peer] =
            [listeners.redis, listeners.cluster, listeners.http, listeners.peer].map(adopt);
        spawn_local(Rc::clone(&links).watch());
        spawn_local(accept_forever(peer?, "peer", move |stream| {
            spawn_local(Rc::clone(&peers).welcome(stream));
        }));
        let room = Rc::new(Room { taken: Cell::new(0), max: config.node.redis_connections_max });
        let doors = vec![
            open_door(redis?, Port::Plain, &front, &room),
            open_door(cluster?, Port::Cluster, &front, &room),
        ];
        let context = http_context(&config, &handle, &engine, &links);
        spawn_local(http::serve(http?, Rc::new(context), async move { closed.notified().await }));
        if config.node.engine == EngineKind::Memory {
            spawn_local(reclaim(engine));
        }
        spawn_local(announce(config.clone(), handle.clone()));
        Ok(Self { config, handle, links, doors, close_http })
    }

    /// Lets what runs come to its end, within a deadline.
    async fn stop(self, how: Stop) {
        for door in &self.doors {
            door.abort();
        }
        if how == Stop::Gently {
            self.finish().await;
        }
        // Requests that have not ended hold their connections, which hold the handle.
        self.handle.shared().waiting.take();
    }

    async fn finish(&self) {
        self.close_http.notify_one();
        self.handle.input(Input::Stop);
        let deadline =
            Instant::now() + Duration::from_millis(self.config.node.stop_timeout_ms.into());
        // The node must have taken the stop before having nothing to do means anything.
        sleep(LOOK).await;
        while !is_idle(&self.handle, &self.links) {
            if Instant::now() > deadline {
                let left = self.handle.shared().waiting.borrow().len();
                warn!(
                    requests = left,
                    "stopping although requests are in progress: the time for them is over"
                );
                break;
            }
            sleep(LOOK).await;
        }
        sleep(LAST_WORDS).await;
    }
}

fn is_idle(handle: &NodeHandle, links: &Links) -> bool {
    let figures = handle.view(Node::figures);
    let waiting = handle.shared().waiting.borrow().len();
    figures.operations == 0 && figures.unsynced_bytes == 0 && waiting == 0 && links.is_flushed()
}

fn adopt(listener: std::net::TcpListener) -> Result<TcpListener, ServerError> {
    TcpListener::from_std(listener)
        .map_err(|error| ServerError::System { what: "use an open port", error })
}

/// Room for connections of Redis clients.
struct Room {
    taken: Cell<u32>,
    max: u32,
}

/// A place in a room; given back when dropped.
struct Seat(Rc<Room>);

impl Room {
    fn seat(self: &Rc<Self>) -> Option<Seat> {
        (self.taken.get() < self.max).then(|| {
            self.taken.set(self.taken.get() + 1);
            Seat(Rc::clone(self))
        })
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.0.taken.set(self.0.taken.get() - 1);
    }
}

fn open_door(listener: TcpListener, port: Port, front: &Rc<Front>, room: &Rc<Room>) -> AbortHandle {
    let (front, room) = (Rc::clone(front), Rc::clone(room));
    let name = match port {
        Port::Plain => "redis",
        Port::Cluster => "cluster",
    };
    let serve = move |stream: TcpStream| match room.seat() {
        Some(seat) => {
            let front = Rc::clone(&front);
            spawn_local(async move {
                front.serve(stream, port).await;
                drop(seat);
            });
        }
        // Best effort, in Redis' words: a fresh socket has room for them.
        None => drop(stream.try_write(b"-ERR max number of clients reached\r\n")),
    };
    spawn_local(accept_forever(listener, name, serve)).abort_handle()
}

fn http_context(
    config: &Config,
    handle: &NodeHandle,
    engine: &Arc<dyn Engine>,
    links: &Rc<Links>,
) -> http::Context {
    let password = &config.node.password;
    let links = Rc::clone(links);
    let cut: Rc<dyn Fn(bool)> = Rc::new(move |cut| links.cut(cut));
    http::Context {
        handle: handle.clone(),
        engine: Arc::clone(engine),
        front_figures: Rc::new(Vec::new),
        started: Instant::now(),
        settings: http::Settings {
            password: (!password.is_empty()).then(|| password.clone()),
            connections_max: config.node.http_connections_max as usize,
            ..http::Settings::default()
        },
        cut: config.node.experiments.then_some(cut),
    }
}

/// A memory engine has no threads that would do it.
async fn reclaim(engine: Arc<dyn Engine>) {
    loop {
        sleep(RECLAIM_EVERY).await;
        if let Err(error) = engine.reclaim(RECLAIM_ENTRIES_MAX) {
            error!("expired values are not given back: {error}");
        }
    }
}

/// Says once that the node serves.
async fn announce(config: Config, handle: NodeHandle) {
    while handle.view(|node| node.readiness().is_err()) {
        sleep(LOOK).await;
    }
    let info = handle.view(|node| node.info().clone());
    let (cluster, members) = handle.view(|node| node.record().map_or((0, 0), summary));
    info!(
        node = %info.member.node,
        name = config.cluster.name,
        cluster = format!("{cluster:016x}"),
        members,
        redis = info.redis_address,
        redis_cluster = info.cluster_address,
        http = info.http_address,
        peer = info.peer_address,
        "serving"
    );
}

fn summary(record: &Record) -> (u64, usize) {
    (record.cluster, record.members.len())
}
