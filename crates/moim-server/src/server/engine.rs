//! Opens the storage engine that the configuration names.

use std::sync::Arc;

use moim_node::keyspace;
use moim_storage::memory::MemoryEngine;
use moim_storage::{Engine, ReclaimRule};
use tracing::warn;

use super::directory::Directory;
use super::error::ServerError;
use crate::clock;
use crate::config::{Config, EngineKind};

/// Opens the engine. Damaged data is set aside, not opened.
pub(super) fn open(config: &Config, directory: &Directory) -> Result<Arc<dyn Engine>, ServerError> {
    let grace_ms = config.cluster.max_clock_skew_ms;
    let rule: ReclaimRule = Arc::new(move |_key: &[u8], value: &[u8]| {
        keyspace::reclaim(value, clock::wall_ms(), grace_ms)
    });
    match config.node.engine {
        EngineKind::Memory => {
            warn!("engine = \"memory\": nothing is kept when this server stops");
            Ok(Arc::new(MemoryEngine::new(Some(rule))))
        }
        EngineKind::RocksDb => {
            if directory.is_emptied {
                warn!("this node has lived before, and its data is gone: it begins empty");
            }
            open_rocksdb(config, directory, rule)
        }
    }
}

#[cfg(feature = "rocksdb")]
fn open_rocksdb(
    config: &Config,
    directory: &Directory,
    rule: ReclaimRule,
) -> Result<Arc<dyn Engine>, ServerError> {
    use moim_storage::StorageError;
    use moim_storage::rocks::{RocksEngine, RocksOptions};

    let bytes = |bytes: u64| usize::try_from(bytes).unwrap_or(usize::MAX);
    let options = RocksOptions {
        cache_bytes: bytes(config.node.block_cache_bytes),
        memtable_bytes: bytes(config.node.memtable_bytes),
        ..RocksOptions::default()
    };
    match RocksEngine::open(&directory.engine(), &options, Some(rule)) {
        Ok(engine) => Ok(Arc::new(engine)),
        Err(StorageError::Corruption(what)) => {
            let aside = directory.set_engine_aside()?;
            let error = StorageError::Corruption(what).to_string();
            tracing::error!("{error}; it was set aside as {}", aside.display());
            Err(ServerError::Damaged { error, aside })
        }
        Err(error) => Err(error.into()),
    }
}

#[cfg(not(feature = "rocksdb"))]
fn open_rocksdb(_: &Config, _: &Directory, _: ReclaimRule) -> Result<Arc<dyn Engine>, ServerError> {
    Err(ServerError::NoSuchEngine)
}
