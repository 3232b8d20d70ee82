//! One node of a server: its configuration, ports and data, and its thread from start to stop.

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;

use bytes::Bytes;
use moim_core::ring::Member;
use moim_core::{MachineId, NodeId};
use moim_node::keyspace::StoredTrees;
use moim_node::membership::MemberInfo;
use moim_node::options::Options;
use moim_node::{Boot, keyspace};
use moim_storage::{Engine, Family, PageLimit, StorageError};
use tokio::task::LocalSet;
use tracing::warn;

use super::directory::Directory;
use super::engine;
use super::error::ServerError;
use super::listeners::{Addresses, Own, Shared};
use super::session;
use super::stopping::{Stop, Stopping};
use crate::config::{Config, Memory, NodeConfig};
use crate::shards::Shard;

/// Sums read at once when the node begins: a megabyte or so.
const TREES_PAGE_ENTRIES: usize = 16_384;

/// A node whose ports and data are open, and which does not serve yet.
pub(super) struct ShardServer {
    /// Its own, with its share of what the server has.
    pub(super) config: Config,
    pub(super) shared: Option<Shared>,
    pub(super) own: Own,
    pub(super) addresses: Addresses,
    engine: Arc<dyn Engine>,
    // Dropped last: the lock is held until the engine is closed.
    pub(super) directory: Directory,
}

impl ShardServer {
    /// Opens its data. `shared` are the ports of all nodes, if it is the first.
    pub(super) fn open(
        mut config: Config,
        mut directory: Directory,
        (shared, own): (Option<Shared>, Own),
        addresses: Addresses,
    ) -> Result<Self, ServerError> {
        config.node.engine = directory.engine_kind(config.node.engine)?;
        let engine = engine::open(&config, &mut directory)?;
        directory.note_engine(config.node.engine)?;
        Ok(Self { config, shared, own, addresses, engine, directory })
    }

    pub(super) fn id(&self) -> NodeId {
        self.directory.identity.node
    }

    /// Serves on this thread until `stop` is ready. When its data turns out to be damaged, the node ends and begins
    /// again with none, at the same addresses and under the same identity.
    pub(super) fn serve(
        mut self,
        shard: &Shard,
        stopping: &Stopping,
        stop: impl Future<Output = Stop>,
    ) -> Result<(), ServerError> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime =
            runtime.map_err(|error| ServerError::System { what: "start the event loop", error })?;
        let mut stop = pin!(stop);
        let ended = loop {
            let parts = self.parts(shard, stopping);
            let ended = parts.and_then(|parts| {
                // Tasks hold the disk, whose end waits for the last commit, and then nobody holds the engine.
                LocalSet::new().block_on(&runtime, session::serve(parts, stop.as_mut()))
            });
            let Err(ServerError::Storage(StorageError::Corruption(what))) = ended else {
                break ended;
            };
            if !engine::close(self.engine) {
                return Err(ServerError::Crashed("a damaged engine stays in use".to_owned()));
            }
            self.engine = engine::renew(&self.config, &mut self.directory, what)?;
        };
        drop(runtime);
        if !engine::close(self.engine) {
            warn!("the storage engine is still in use and is closed by the end of the process");
        }
        drop(self.directory);
        ended
    }

    /// What a session works on.
    fn parts(&self, shard: &Shard, stopping: &Stopping) -> Result<session::Parts, ServerError> {
        Ok(session::Parts {
            boot: boot(&self.config, &self.addresses, &self.directory, &*self.engine)?,
            shared: self.shared.as_ref().map(Shared::duplicate).transpose()?,
            own: self.own.duplicate()?,
            set_aside: self.directory.set_aside(),
            config: self.config.clone(),
            engine: Arc::clone(&self.engine),
            shard: shard.clone(),
            stopping: stopping.clone(),
        })
    }
}

/// A number that nobody can foresee.
pub(super) fn random() -> Result<u64, ServerError> {
    getrandom::u64().map_err(|error| ServerError::System {
        what: "draw random numbers",
        error: std::io::Error::other(error.to_string()),
    })
}

/// What the node begins with.
fn boot(
    config: &Config,
    addresses: &Addresses,
    directory: &Directory,
    engine: &dyn Engine,
) -> Result<Boot, ServerError> {
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
        founding_members: config.node.founding_members(),
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
