//! Opens the storage engine that the configuration names, and puts an empty one in the place of one that is damaged.
//!
//! Damaged data is set aside, never repaired or removed: other nodes hold copies, and this one is filled from them
//! again. A node that has no others keeps its data where it is and stops with words.

use std::sync::Arc;
use std::time::Duration;

use moim_node::keyspace;
use moim_storage::memory::MemoryEngine;
use moim_storage::{Engine, ReclaimRule, StorageError};
use tracing::{error, warn};

use super::directory::Directory;
use super::error::ServerError;
use crate::clock;
use crate::config::{Config, EngineKind};

/// How often data may be set aside within [`OFTEN`]: beyond it the machine is at fault, and filling it anew would only
/// load the others.
const SET_ASIDE_MAX: usize = 3;
const OFTEN: Duration = Duration::from_hours(1);

/// Looks at an engine that others may still use, before it is closed.
const CLOSE_LOOKS: u32 = 1_000;
const CLOSE_LOOK: Duration = Duration::from_millis(10);

/// Opens the engine, or an empty one if it is damaged.
pub(super) fn open(
    config: &Config,
    directory: &mut Directory,
) -> Result<Arc<dyn Engine>, ServerError> {
    match config.node.engine {
        EngineKind::Memory => {
            warn!("engine = \"memory\": nothing is kept when this server stops");
            Ok(Arc::new(MemoryEngine::new(Some(rule(config)))))
        }
        EngineKind::Auto | EngineKind::Lsm | EngineKind::RocksDb => {
            if directory.is_emptied {
                warn!("this node has lived before, and its data is gone: it begins empty");
            }
            match open_on_disk(config, directory) {
                Err(ServerError::Storage(StorageError::Corruption(what))) => {
                    renew(config, directory, what)
                }
                opened => opened,
            }
        }
    }
}

/// Sets damaged data aside and opens an empty engine in its place. The damaged one must be closed.
pub(super) fn renew(
    config: &Config,
    directory: &mut Directory,
    what: String,
) -> Result<Arc<dyn Engine>, ServerError> {
    let error = StorageError::Corruption(what).to_string();
    if !may_be_filled(config) {
        return Err(ServerError::Damaged { error, data: directory.engine() });
    }
    let now_s = clock::wall_ms() / 1_000;
    let recently = |second: &&u64| now_s.saturating_sub(**second) < OFTEN.as_secs();
    let times = directory.set_aside().iter().filter(recently).count();
    if times >= SET_ASIDE_MAX {
        return Err(ServerError::DamagedAgain { error, times });
    }
    let aside = directory.set_engine_aside(now_s)?;
    error!(
        "{error}; it was set aside as {}, for you to look at and to remove. This node begins empty and is filled by the \
         others",
        aside.display()
    );
    open_on_disk(config, directory)
}

/// Whether there are other nodes that hold copies of what this one loses.
pub(super) fn may_be_filled(config: &Config) -> bool {
    config.node.has_others()
}

/// Closes an engine once nobody uses it any more; returns whether that is so.
pub(super) fn close(mut engine: Arc<dyn Engine>) -> bool {
    // Figures are gathered by other threads, and take a moment.
    for _ in 0..CLOSE_LOOKS {
        if Arc::get_mut(&mut engine).is_some() {
            drop(engine);
            return true;
        }
        std::thread::sleep(CLOSE_LOOK);
    }
    false
}

fn rule(config: &Config) -> ReclaimRule {
    let grace_ms = config.cluster.max_clock_skew_ms;
    Arc::new(move |_key: &[u8], value: &[u8]| keyspace::reclaim(value, clock::wall_ms(), grace_ms))
}

#[cfg(feature = "rocksdb")]
fn open_on_disk(config: &Config, directory: &Directory) -> Result<Arc<dyn Engine>, ServerError> {
    use std::time::Duration;

    use moim_storage::lsm::{DiskLsm, LsmOptions};
    use moim_storage::rocks::{RocksEngine, RocksOptions};

    use crate::config::Memory;

    let bytes = |bytes: u64| usize::try_from(bytes).unwrap_or(usize::MAX);
    let memory = Memory::of(&config.node);
    let memtable_bytes = bytes(memory.memtable_bytes);
    let (path, rule) = (directory.engine(), Some(rule(config)));
    let all_bytes = bytes(memory.engine_bytes);
    Ok(match config.node.engine {
        EngineKind::Lsm | EngineKind::Auto => {
            // What its memory tables take, one written to and one being written out, is not RocksDB's to use.
            let cache_bytes = all_bytes.saturating_sub(2 * memtable_bytes);
            let rocks = RocksOptions { cache_bytes, ..RocksOptions::default() };
            let hash_seed = super::node::random()?;
            let rest = Duration::from_millis(config.node.log_rest_ms.into());
            let options =
                LsmOptions { hash_seed, rest, ..LsmOptions::for_memtable(memtable_bytes) };
            Arc::new(DiskLsm::open_directory(&path, &rocks, options, rule)?)
        }
        EngineKind::RocksDb | EngineKind::Memory => {
            let options =
                RocksOptions { cache_bytes: all_bytes, memtable_bytes, ..RocksOptions::default() };
            Arc::new(RocksEngine::open(&path, &options, rule)?)
        }
    })
}

#[cfg(not(feature = "rocksdb"))]
fn open_on_disk(_: &Config, _: &Directory) -> Result<Arc<dyn Engine>, ServerError> {
    Err(ServerError::NoSuchEngine)
}
