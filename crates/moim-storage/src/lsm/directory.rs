//! The engine on disk: a commit log in a directory, above RocksDB in the same one.
//!
//! A directory of RocksDB alone is taken over as it is. The tables are marked then, so that neither RocksDB alone opens
//! them without the log, nor the log's loss looks like a fresh start.

use std::path::Path;

use super::{LsmEngine, LsmOptions};
use crate::files::disk::{DiskFiles, LOG_DIRECTORY};
use crate::log;
use crate::rocks::{RocksEngine, RocksOptions};
use crate::{ReclaimRule, StorageError};

/// The engine that servers run.
pub type DiskLsm = LsmEngine<DiskFiles, RocksEngine>;

impl DiskLsm {
    /// Opens the engine in `directory`, which is made if it is not there, and starts its flusher. Replays the log: about
    /// a second for each 500 MB of it. Flushes and compactions apply `rule`.
    pub fn open_directory(
        directory: &Path,
        rocks: &RocksOptions,
        options: LsmOptions,
        rule: Option<ReclaimRule>,
    ) -> Result<Self, StorageError> {
        let rocks = RocksOptions { run_bytes: options.whole_bytes() as u64, ..rocks.clone() };
        let tables = RocksEngine::open_tables(directory, &rocks, rule.clone())?;
        let log_directory = directory.join(LOG_DIRECTORY);
        let is_marked = tables.has_log()?;
        let control = log_directory.join(log::CONTROL_NAME);
        if is_marked && !control.is_file() {
            return Err(StorageError::Corruption(format!("{} is gone", control.display())));
        }
        tables.prepare_aside()?;
        let files = DiskFiles::open(&log_directory)?;
        let mut engine = Self::open(files, tables, options, rule)?;
        if !is_marked {
            engine.tables().note_log()?;
        }
        engine.start_flusher()?;
        Ok(engine)
    }
}
