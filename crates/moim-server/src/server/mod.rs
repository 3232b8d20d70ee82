//! A server from start to stop: configuration in, its nodes running on a thread each, everything closed in order at the
//! end.
//!
//! Order of starting: ports, data directory, identity, engine, node, peers, clients. Order of stopping: readiness is
//! denied, no new clients, those who are there are parted from, no new requests, those in progress end, links are written out, the committer ends, the engine closes.

pub(crate) mod accept;
mod clients;
mod directory;
mod engine;
mod error;
mod home;
mod listeners;
mod node;
mod session;
mod space;
mod stopping;

use std::future::Future;
use std::thread::JoinHandle;

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::oneshot;
use tracing::{error, info, warn};
use tracing_subscriber::EnvFilter;

pub use self::directory::DISK_FORMAT;
pub use self::error::ServerError;
use self::home::Home;
pub use self::listeners::{Addresses, Listeners};
use self::node::ShardServer;
pub use self::stopping::Stop;
use self::stopping::{Bond, Stopping};
use crate::config::Config;
use crate::shards::Shards;

/// The variable that says how fine the log is.
const LOG_VARIABLE: &str = "MOIM_LOG";

/// Budgets from here on get memory in pages of 2 MiB, which save a read 5 to 15 % of its time. Many of them are used in
/// part: that takes 30 to 45 MB whatever the budget, and a smaller one would not be kept.
const LARGE_PAGES_FROM_BYTES: u64 = 512 << 20;

/// A server whose ports and data are open, and which does not serve yet.
pub struct Server {
    nodes: Vec<ShardServer>,
    // Dropped last: it holds the lock of what they lie in.
    _home: Option<std::fs::File>,
}

impl std::fmt::Debug for Server {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Server").field("addresses", &self.addresses()).finish_non_exhaustive()
    }
}

/// Runs a server on this thread until SIGTERM or SIGINT. Logs to stderr.
pub fn run(config: Config) -> Result<(), ServerError> {
    start_log();
    if config.node.memory_bytes < LARGE_PAGES_FROM_BYTES {
        do_without_large_pages();
    }
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

/// Holds for the whole process, from the next page on.
fn do_without_large_pages() {
    if let Err(error) = rustix::thread::disable_transparent_huge_pages(true) {
        warn!(%error, "large pages stay: this process may take a few dozen MB more than its budget");
    }
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
    pub fn with_listeners(config: Config, listeners: Listeners) -> Result<Self, ServerError> {
        let Config { cluster, node } = config;
        let home = Home::open(&node)?;
        let (mut shared, own, addresses) = listeners.into_parts();
        let mut nodes = Vec::new();
        for ((directory, own), (shard, addresses)) in
            home.directories.into_iter().zip(own).zip((0..).zip(addresses))
        {
            let config = Config { cluster: cluster.clone(), node: node.of_shard(shard) };
            nodes.push(ShardServer::open(config, directory, (shared.take(), own), addresses)?);
        }
        Ok(Self { nodes, _home: home.lock })
    }

    /// Where its first node listens.
    pub fn addresses(&self) -> Addresses {
        self.nodes[0].addresses
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

    /// Serves until `stop` is ready, with the first node on this thread and each of the others on one of its own. When
    /// one of them ends, all do.
    pub fn serve(self, stop: impl Future<Output = Stop>) -> Result<(), ServerError> {
        let shards = Shards::new(self.nodes.iter().map(ShardServer::id).collect());
        let stopping = Stopping::new();
        let ended = std::thread::scope(|scope| {
            // Whatever goes wrong here, those that run do not wait for ever.
            let bond = Bond(&stopping);
            let mut nodes = self.nodes.into_iter().enumerate();
            let first = nodes.next();
            let mut threads = Vec::new();
            for (number, node) in nodes {
                let (shard, stopping) = (shards.shard(number), &stopping);
                let serve = move || {
                    let _bond = Bond(stopping);
                    node.serve(&shard, stopping, stopping.clone().told())
                };
                let thread = std::thread::Builder::new().name(format!("moim-node-{number}"));
                let thread = thread.spawn_scoped(scope, serve);
                threads.push(
                    thread
                        .map_err(|error| ServerError::System { what: "start a thread", error })?,
                );
            }
            let told = stopping.clone().told();
            let stop = async {
                tokio::select! {
                    how = stop => how,
                    how = told => how,
                }
            };
            let first =
                first.map(|(number, node)| node.serve(&shards.shard(number), &stopping, stop));
            drop(bond);
            let crashed = || ServerError::Crashed("its thread panicked".to_owned());
            let others = threads
                .into_iter()
                .map(|thread| thread.join().unwrap_or_else(|_panic| Err(crashed())));
            Ok::<Vec<_>, ServerError>(first.into_iter().chain(others).collect())
        })?;
        info!("stopped");
        outcome(ended)
    }
}

/// The first error stands for all; the others are said.
fn outcome(ended: Vec<Result<(), ServerError>>) -> Result<(), ServerError> {
    let mut errors = ended.into_iter().filter_map(Result::err);
    let first = errors.next();
    errors.for_each(|other| error!("another node of this server ended badly: {other}"));
    first.map_or(Ok(()), Err)
}
