//! The time during which a node serves: everything that runs on its thread.

use std::future::Future;
use std::net::TcpListener;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use moim_node::views::PeerState;
use moim_node::{Boot, Input, Node};
use moim_storage::{Engine, StorageError};
use tokio::task::{JoinError, JoinHandle, spawn_local};
use tokio::time::sleep;
use tracing::{error, info, warn};

use super::accept::{self, accept_forever};
use super::clients::{Clients, Desk};
use super::engine;
use super::error::ServerError;
use super::listeners::{Own, Shared};
use super::space::{self, Watched};
use super::stopping::{Stop, Stopping};
use crate::clock::Clock;
use crate::config::{Config, DurabilityKind, EngineKind, Memory};
use crate::disk::{CompactionPace, Damage, Disk, Faults, Room, Slowness, Syncing};
use crate::figures::DiskFigures;
use crate::handle::NodeHandle;
use crate::inbox::Inbox;
use crate::links::Links;
use crate::shards::Shard;
use crate::turn::TurnTask;

/// How often it is looked whether the node has become ready, or has nothing more to do.
const LOOK: Duration = Duration::from_millis(10);

/// How often a memory engine is asked to give expired values back.
const RECLAIM_EVERY: Duration = Duration::from_secs(1);

/// Entries that it looks at each time.
const RECLAIM_ENTRIES_MAX: usize = 1_000;

/// How often compactions learn how clients fare: as often as the node judges it.
const JUDGE_EVERY: Duration = Duration::from_millis(500);

/// How long peers are waited for that do not say that they have heard this node's goodbye: they may be away themselves.
const FAREWELLS: Duration = Duration::from_secs(1);

/// Time for the last answers to leave through the clients' sockets.
const LAST_WORDS: Duration = Duration::from_millis(50);

/// What a node works on.
pub(super) struct Parts {
    pub(super) config: Config,
    /// The first node has the ports of all.
    pub(super) shared: Option<Shared>,
    pub(super) own: Own,
    pub(super) engine: Arc<dyn Engine>,
    pub(super) boot: Boot,
    /// When data was set aside that is still there, in Unix seconds.
    pub(super) set_aside: Vec<u64>,
    pub(super) shard: Shard,
    pub(super) stopping: Stopping,
}

/// The running node and its surroundings.
pub(super) struct Session {
    pub(super) config: Config,
    pub(super) engine: Arc<dyn Engine>,
    pub(super) handle: NodeHandle,
    pub(super) links: Rc<Links>,
    pub(super) disk: Arc<DiskFigures>,
    pub(super) space: Watched,
    pub(super) slowness: Arc<Slowness>,
    pub(super) compaction: Arc<CompactionPace>,
    faults: Arc<Faults>,
    pub(super) set_aside: Vec<u64>,
    room: Arc<Room>,
    pub(super) shard: Shard,
    stopping: Stopping,
}

/// Serves until `stop` is ready, the node's loop dies, or the engine is so damaged that it must be replaced.
pub(super) async fn serve(
    parts: Parts,
    stop: impl Future<Output = Stop>,
) -> Result<(), ServerError> {
    let Parts { config, shared, own, engine, boot, set_aside, shard, stopping } = parts;
    let (mut session, mut turning) = Session::begin((config, engine), boot, (shard, stopping))?;
    session.set_aside = set_aside;
    session.open_peers(own.peer)?;
    session.meet();
    let (desk, seat) = Desk::new(session.handle.view(Node::hello), session.handle.mailbox());
    let clients = Clients::open(&session, (shared, own.cluster), desk)?;
    let _present = session.shard.enter(seat);
    session.start_chores();
    let ended = tokio::select! {
        how = stop => {
            match how {
                Stop::Gently => session.part(&clients).await,
                Stop::AtOnce => {
                    clients.close();
                    session.stopping.tell(how);
                }
            }
            Ok(())
        }
        error = session.ruin() => Err(ServerError::Storage(error)),
        ended = &mut turning => Err(ServerError::Crashed(describe(ended))),
    };
    turning.abort();
    // Requests that have not ended hold their connections, which hold the handle.
    session.handle.shared().waiting.take();
    ended
}

fn describe(ended: Result<(), JoinError>) -> String {
    let Err(error) = ended else { return "its loop ended".to_owned() };
    let Ok(panic) = error.try_into_panic() else { return "its loop was cancelled".to_owned() };
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "a panic without words".to_owned())
}

impl Session {
    /// Starts the node, its disk and its loop; nobody can reach it yet.
    fn begin(
        (config, engine): (Config, Arc<dyn Engine>),
        boot: Boot,
        (shard, stopping): (Shard, Stopping),
    ) -> Result<(Self, JoinHandle<()>), ServerError> {
        let (clock, seed) = (Clock::start(), boot.seed);
        let node = Node::new(clock.now(), boot)?;
        let inbox = Rc::<Inbox>::default();
        let handle = NodeHandle::new(node, clock, Rc::clone(&inbox));
        let links = handle.links(seed);
        links.share(shard.clone());
        let disk = match config.node.engine {
            EngineKind::Memory => Disk::inline(Arc::clone(&engine), inbox),
            EngineKind::Auto | EngineKind::Lsm | EngineKind::RocksDb => {
                Disk::threaded(Arc::clone(&engine), inbox, syncing(&config)).map_err(|error| {
                    ServerError::System { what: "start the disk's threads", error }
                })?
            }
        };
        let (figures, room, faults) = (disk.figures(), disk.room(), disk.faults());
        let (slowness, compaction) = (disk.slowness(), disk.compaction());
        // RocksDB on its own does not say when its compactions must not rest.
        if matches!(config.node.engine, EngineKind::Auto | EngineKind::Lsm) {
            disk.pace_compactions();
        }
        let turning = spawn_local(TurnTask::new(handle.clone(), disk, Rc::clone(&links)).run());
        let space = Watched::default();
        let session = Self {
            config,
            engine,
            handle,
            links,
            disk: figures,
            space,
            slowness,
            compaction,
            faults,
            set_aside: Vec::new(),
            room,
            shard,
            stopping,
        };
        Ok((session, turning))
    }

    fn open_peers(&self, listener: TcpListener) -> Result<(), ServerError> {
        let address = self.config.node.listen_peer;
        if !address.ip().is_loopback() {
            warn!("the peer port {address} knows no password: keep it inside a private network");
        }
        let (listener, links) = (accept::adopt(listener)?, Rc::clone(&self.links));
        spawn_local(accept_forever(listener, "peer", move |stream| {
            spawn_local(Rc::clone(&links).welcome(stream));
        }));
        spawn_local(Rc::clone(&self.links).watch());
        spawn_local(Rc::clone(&self.links).meet_neighbours());
        Ok(())
    }

    /// Begins to dial whoever is known: the members of the record, or those who found the cluster.
    fn meet(&self) {
        if let Some(record) = self.handle.view(|node| node.record().cloned()) {
            return self.links.adopt(&record);
        }
        let found = self.config.node.founders().expect("checked when the configuration was read");
        let own = self.handle.view(|node| node.info().peer_address.clone());
        let others = found.iter().filter(|&address| *address != own);
        self.links.dial(&others.map(|address| (address.clone(), None)).collect::<Vec<_>>());
        if !found.is_empty() && !found.contains(&own) {
            warn!(
                "node.found does not name this node as {own}; it must be in there under some name"
            );
        }
        if self.config.node.has_others() {
            info!(nodes = found.len(), "waiting for all nodes that found the cluster");
        }
    }

    fn start_chores(&self) {
        let node = &self.config.node;
        let memory = Memory::of(node);
        let mib = |bytes: u64| bytes >> 20;
        info!(
            memory_mib = mib(memory.total_bytes),
            objects = mib(memory.objects_bytes),
            engine = mib(memory.engine_bytes),
            unsynced = mib(memory.unsynced_bytes),
            owed = mib(memory.owed_bytes),
            clients = mib(memory.clients_bytes),
            rest = mib(memory.rest_bytes),
            "memory budget"
        );
        match node.engine {
            EngineKind::Memory => drop(spawn_local(reclaim(Arc::clone(&self.engine)))),
            EngineKind::Auto | EngineKind::Lsm | EngineKind::RocksDb => {
                let (room, watched) = (Arc::clone(&self.room), self.space.clone());
                let watch =
                    space::watch(node.data_dir.clone(), node.disk_used_percent_max, room, watched);
                drop(spawn_local(watch));
            }
        }
        spawn_local(judge_compactions(self.handle.clone(), Arc::clone(&self.compaction)));
        spawn_local(announce(self.config.cluster.name.clone(), self.handle.clone()));
    }

    /// Parts from clients, then from peers.
    async fn part(&self, clients: &Clients) {
        self.handle.shared().leaving.set(true);
        clients.close_doors();
        // Only now that nobody else can be handed over to them.
        self.stopping.tell(Stop::Gently);
        clients.part(Duration::from_millis(self.config.node.stop_linger_ms.into())).await;
        self.finish().await;
    }

    /// Waits until the engine is found damaged and is better replaced. While it can still be written to, that waits for
    /// all other members: what is not damaged is served meanwhile, and they may lack what this node still has.
    async fn ruin(&self) -> StorageError {
        loop {
            let Damage { error, is_final } = self.faults.next_damage().await;
            if !engine::may_be_filled(&self.config) {
                error!(
                    "{error}; this node has no others to be filled from: reads of what is damaged fail"
                );
                continue;
            }
            if is_final {
                return error;
            }
            warn!("{error}; this node begins anew, empty, as soon as all others are connected");
            tokio::select! {
                () = self.all_connected() => return error,
                damage = self.faults.next_damage() => return damage.error,
            }
        }
    }

    /// Waits until all other members are connected and talking.
    async fn all_connected(&self) {
        let connected = |node: &Node| {
            let others = node.record().map_or(usize::MAX, |record| record.members.len() - 1);
            let up = node.peers().iter().filter(|peer| peer.state == PeerState::Up).count();
            up >= others
        };
        while !self.handle.view(connected) {
            sleep(LOOK).await;
        }
    }

    /// Lets what runs come to its end, within a deadline.
    async fn finish(&self) {
        self.handle.input(Input::Stop);
        let patience = Duration::from_millis(self.config.node.stop_timeout_ms.into());
        let begun = Instant::now();
        // The node must have taken the stop before having nothing to do means anything.
        sleep(LOOK).await;
        while !self.is_idle() || !(self.has_parted() || begun.elapsed() > FAREWELLS) {
            if begun.elapsed() > patience {
                let requests = self.handle.shared().waiting.borrow().len();
                warn!(requests, "stopping although requests are in progress: their time is over");
                break;
            }
            sleep(LOOK).await;
        }
        sleep(LAST_WORDS).await;
    }

    /// Whether all peers have heard that this node goes.
    fn has_parted(&self) -> bool {
        self.handle.view(Node::has_parted)
    }

    fn is_idle(&self) -> bool {
        let figures = self.handle.view(Node::figures);
        let waiting = self.handle.shared().waiting.borrow().len();
        figures.operations == 0
            && figures.unsynced_bytes == 0
            && waiting == 0
            && self.links.is_flushed()
    }
}

fn syncing(config: &Config) -> Syncing {
    match config.node.durability {
        DurabilityKind::Sync => Syncing::EveryGroup,
        DurabilityKind::Interval => {
            Syncing::Interval(Duration::from_millis(config.node.durability_interval_ms.into()))
        }
        DurabilityKind::Os => Syncing::LeftToSystem,
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

/// Lets compactions yield to clients. Runs for ever.
async fn judge_compactions(handle: NodeHandle, compaction: Arc<CompactionPace>) {
    loop {
        sleep(JUDGE_EVERY).await;
        compaction.judge(&handle.view(Node::pace));
    }
}

/// Says once that the node serves.
async fn announce(name: String, handle: NodeHandle) {
    while handle.view(|node| node.readiness().is_err()) {
        sleep(LOOK).await;
    }
    let info = handle.view(|node| node.info().clone());
    let members = handle.view(|node| node.record().map_or(0, |record| record.members.len()));
    info!(
        node = %info.member.node,
        cluster = name,
        members,
        redis = info.redis_address,
        redis_cluster = info.cluster_address,
        http = info.http_address,
        peer = info.peer_address,
        "serving"
    );
}
