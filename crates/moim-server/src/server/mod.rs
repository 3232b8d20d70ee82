//! A server from start to stop: configuration in, one node running on this thread, everything closed in order at the
//! end.
//!
//! Order of starting: ports, data directory, identity, engine, node, peers, clients. Order of stopping: readiness is
//! denied, no new clients, those who are there are parted from, no new requests, those in progress end, links are written out, the committer ends, the engine closes.

pub(crate) mod accept;
mod clients;
mod directory;
mod engine;
mod error;
mod listeners;
mod session;
mod space;

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::thread::JoinHandle;

use bytes::Bytes;
use moim_core::MachineId;
use moim_core::ring::Member;
use moim_node::keyspace::StoredTrees;
use moim_node::membership::MemberInfo;
use moim_node::options::Options;
use moim_node::{Boot, keyspace};
use moim_storage::{Engine, Family, PageLimit, StorageError};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::oneshot;
use tokio::task::LocalSet;
use tracing::{info, warn};
use tracing_subscriber::EnvFilter;

pub use self::directory::DISK_FORMAT;
use self::directory::Directory;
pub use self::error::ServerError;
pub use self::listeners::{Addresses, Listeners};
use crate::config::{Config, Memory, NodeConfig};

/// The variable that says how fine the log is.
const LOG_VARIABLE: &str = "MOIM_LOG";

/// Sums read at once when the node begins: a megabyte or so.
const TREES_PAGE_ENTRIES: usize = 16_384;

/// A server whose ports and data are open, and which does not serve yet.
pub struct Server {
    config: Config,
    listeners: Listeners,
    engine: Arc<dyn Engine>,
    // Dropped last: the lock is held until the engine is closed.
    directory: Directory,
}

/// How a server is to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stop {
    /// Clients are parted from, for `node.stop_linger_ms`; requests in progress may end, for `node.stop_timeout_ms`.
    Gently,
    /// At once, as if the process had been killed (but what was committed is synced).
    AtOnce,
}

impl std::fmt::Debug for Server {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Server")
            .field("directory", &self.directory)
            .field("listeners", &self.listeners)
            .finish_non_exhaustive()
    }
}

/// Runs a server on this thread until SIGTERM or SIGINT. Logs to stderr.
pub fn run(config: Config) -> Result<(), ServerError> {
    start_log();
    let server = Server::open(config)?;
    server.serve(async {
        let signals = (signal(SignalKind::terminate()), signal(SignalKind::interrupt()));
        let (Ok(mut terminate), Ok(mut interrupt)) = signals else {
            warn!("signals cannot be caught: this server stops without waiting for requests in progress");
            return std::future::pending().await;
        };
        tokio::select! {
            _ = terminate.recv() => info!("SIGTERM: stopping"),
            _ = interrupt.recv() => info!("SIGINT: stopping"),
        }
        Stop::Gently
    })
}

/// Sends the log to stderr, as fine as `MOIM_LOG` says (`info` by default). Does nothing when there is a log already.
pub fn start_log() {
    let wanted = std::env::var(LOG_VARIABLE).unwrap_or_else(|_unset| "info".to_owned());
    let filter = EnvFilter::try_new(&wanted);
    let wrong = filter.as_ref().err().map(ToString::to_string);
    let filter = filter.unwrap_or_else(|_wrong| EnvFilter::new("info"));
    let log = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_target(false);
    // Whoever embeds a server has set up a log of their own.
    log.try_init().ok();
    if let Some(wrong) = wrong {
        warn!(
            "{LOG_VARIABLE}={wanted} is not understood ({wrong}); use error, warn, info, debug or trace"
        );
    }
}

/// A server on a thread of its own; stops gently when dropped.
#[derive(Debug)]
pub struct Running {
    addresses: Addresses,
    stop: Option<oneshot::Sender<Stop>>,
    thread: Option<JoinHandle<Result<(), ServerError>>>,
}

impl Running {
    /// Where it listens.
    pub fn addresses(&self) -> Addresses {
        self.addresses
    }

    /// Stops it and waits for its end.
    pub fn stop(mut self, how: Stop) -> Result<(), ServerError> {
        self.end(how)
    }

    fn end(&mut self, how: Stop) -> Result<(), ServerError> {
        let Some(thread) = self.thread.take() else { return Ok(()) };
        if let Some(stop) = self.stop.take() {
            // If it has ended by itself, joining says how.
            stop.send(how).ok();
        }
        thread
            .join()
            .unwrap_or_else(|_panic| Err(ServerError::Crashed("its thread panicked".to_owned())))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Err(error) = self.end(Stop::Gently) {
            warn!("a server ended badly: {error}");
        }
    }
}

impl Server {
    /// Opens the ports and the data that a configuration names.
    pub fn open(config: Config) -> Result<Self, ServerError> {
        let listeners = Listeners::open(&config.node)?;
        Self::with_listeners(config, listeners)
    }

    /// As [`Self::open`], with ports that are open already.
    pub fn with_listeners(mut config: Config, listeners: Listeners) -> Result<Self, ServerError> {
        let mut directory = Directory::open(&config.node.data_dir)?;
        config.node.engine = directory.engine_kind(config.node.engine)?;
        let engine = engine::open(&config, &mut directory)?;
        directory.note_engine(config.node.engine)?;
        Ok(Self { config, listeners, engine, directory })
    }

    /// Where it listens.
    pub fn addresses(&self) -> Addresses {
        self.listeners.addresses()
    }

    /// Serves on a thread of its own.
    pub fn spawn(self) -> Result<Running, ServerError> {
        let addresses = self.addresses();
        let (stop, stopped) = oneshot::channel();
        let serve = move || self.serve(async { stopped.await.unwrap_or(Stop::Gently) });
        let thread = std::thread::Builder::new().name("moim-node".to_owned()).spawn(serve);
        let thread =
            thread.map_err(|error| ServerError::System { what: "start a thread", error })?;
        Ok(Running { addresses, stop: Some(stop), thread: Some(thread) })
    }

    /// Serves on this thread until `stop` is ready. When its data turns out to be damaged, the node ends and begins
    /// again with none, at the same addresses and under the same identity.
    pub fn serve(self, stop: impl Future<Output = Stop>) -> Result<(), ServerError> {
        let Self { config, listeners, mut engine, mut directory } = self;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime =
            runtime.map_err(|error| ServerError::System { what: "start the event loop", error })?;
        let mut stop = pin!(stop);
        let ended = loop {
            let parts = parts(&config, &listeners, &directory, &engine);
            let ended = parts.and_then(|parts| {
                // Tasks hold the disk, whose end waits for the last commit, and then nobody holds the engine.
                LocalSet::new().block_on(&runtime, session::serve(parts, stop.as_mut()))
            });
            let Err(ServerError::Storage(StorageError::Corruption(what))) = ended else {
                break ended;
            };
            if !engine::close(engine) {
                return Err(ServerError::Crashed("a damaged engine stays in use".to_owned()));
            }
            engine = engine::renew(&config, &mut directory, what)?;
        };
        drop(runtime);
        if !engine::close(engine) {
            warn!("the storage engine is still in use and is closed by the end of the process");
        }
        drop(directory);
        info!("stopped");
        ended
    }
}

/// What a session works on.
fn parts(
    config: &Config,
    listeners: &Listeners,
    directory: &Directory,
    engine: &Arc<dyn Engine>,
) -> Result<session::Parts, ServerError> {
    Ok(session::Parts {
        boot: boot(config, &listeners.addresses(), directory, &**engine)?,
        listeners: listeners.duplicate()?,
        set_aside: directory.set_aside(),
        config: config.clone(),
        engine: Arc::clone(engine),
    })
}

/// What the node begins with.
fn boot(
    config: &Config,
    addresses: &Addresses,
    directory: &Directory,
    engine: &dyn Engine,
) -> Result<Boot, ServerError> {
    let random = || {
        getrandom::u64().map_err(|error| ServerError::System {
            what: "draw random numbers",
            error: std::io::Error::other(error.to_string()),
        })
    };
    let namespaces = config.cluster.namespaces();
    Ok(Boot {
        info: info(&config.node, addresses, directory),
        run: random()?,
        seed: random()?,
        stored_record: engine.get(Family::Meta, keyspace::META_RECORD)?,
        stored_clock_bound: engine.get(Family::Meta, keyspace::META_CLOCK_BOUND)?,
        stored_filling: engine.get(Family::Meta, keyspace::META_FILLING)?,
        stored_trees: trees(engine)?,
        stored_generation: engine.get(Family::Meta, keyspace::META_GENERATION)?,
        stored_batch: engine.get(Family::Meta, keyspace::META_BATCH)?,
        founding_members: config.node.found.len().max(1),
        partitions: config.cluster.partitions,
        namespaces: namespaces.expect("checked when the configuration was read"),
        options: options(config),
    })
}

/// The Merkle trees as the disk kept them, page by page.
fn trees(engine: &dyn Engine) -> Result<StoredTrees, ServerError> {
    let limit = PageLimit { entries_max: TREES_PAGE_ENTRIES, bytes_max: usize::MAX };
    let mut trees = StoredTrees::default();
    let mut from = Bytes::new();
    loop {
        let page = engine.scan(Family::Trees, &from..&keyspace::TREES_END, limit)?;
        trees.add(&page.entries).map_err(|error| {
            StorageError::Corruption(format!("the sums of what is stored cannot be read: {error}"))
        })?;
        let Some((last, _)) = page.entries.last().filter(|_| page.more) else { return Ok(trees) };
        from = [&last[..], &[0]].concat().into();
    }
}

fn info(node: &NodeConfig, addresses: &Addresses, directory: &Directory) -> MemberInfo {
    let machine =
        u64::from_str_radix(&node.machine_id, 16).map_or(directory.identity.machine, MachineId);
    let member = Member {
        node: directory.identity.node,
        machine,
        zone: node.zone.clone(),
        dc: node.dc.clone(),
        weight: node.weight,
    };
    let mut info = MemberInfo {
        member,
        peer_address: String::new(),
        redis_address: String::new(),
        cluster_address: String::new(),
        http_address: String::new(),
    };
    addresses.announce(node, &mut info);
    info
}

fn options(config: &Config) -> Options {
    let node = &config.node;
    let memory = Memory::of(node);
    Options {
        request_timeout_ms: node.request_timeout_ms,
        read_retry_ms: node.read_retry_ms,
        ping_interval_ms: node.ping_interval_ms,
        silence_ms: node.silence_ms,
        max_clock_skew_ms: config.cluster.max_clock_skew_ms,
        cache_bytes: memory.objects_bytes,
        disk_used_percent_max: node.disk_used_percent_max,
        unsynced_bytes_max: memory.unsynced_bytes,
        operations_max: usize::try_from(node.operations_max).unwrap_or(usize::MAX),
        tasks_bytes_max: memory.owed_bytes,
        hints_bytes_max: node.hints_bytes_max,
        background_bytes_per_second_min: node.background_bytes_per_second_min,
        background_bytes_per_second_max: node.background_bytes_per_second_max,
        refill_bytes_per_second_min: node.refill_bytes_per_second_min,
        stand_in_after_ms: node.stand_in_after_ms,
        ..Options::default()
    }
}
