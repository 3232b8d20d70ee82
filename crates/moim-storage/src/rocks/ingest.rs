//! RocksDB as the tables of an engine that has a log and memory tables of its own.
//!
//! A run becomes one table a family, written aside and then taken over: no log, no skip list, no second copy in memory.
//! RocksDB gives it the newest sequence number, which is what the newest run has to have.
//!
//! Invariant: when [`Tables::ingest`] returns, the tables and the file that names them are synced.

use std::borrow::Cow;
use std::fs;
use std::path::PathBuf;
use std::sync::atomic::Ordering;

use rocksdb::properties::num_files_at_level;
use rocksdb::{IngestExternalFileOptions, SstFileWriter};

use super::options::{self, LEVEL_0_RUNS_MAX, LEVEL_0_TABLES, LEVEL_0_TABLES_AT_REST};
use super::{RocksEngine, stall};
use crate::lsm::{Run, Tables};
use crate::{Family, StorageError};

/// Where tables are written before RocksDB takes them over: in its own directory, so that they need only be linked.
const ASIDE: &str = "flush";
/// In the family that RocksDB insists on: that a commit log belongs to these tables.
const HAS_LOG: &[u8] = b"commit-log";

impl Tables for RocksEngine {
    fn ingest(&self, run: &Run<'_>) -> Result<u64, StorageError> {
        self.await_compactions()?;
        let mut bytes = 0;
        for family in Family::ALL {
            for (from, to) in run.erased(family) {
                self.erase(family, &(&from[..]..&to[..]))?;
            }
            bytes += self.ingest_family(run, family)?;
        }
        Ok(bytes)
    }

    fn compact(&self) -> Result<(), StorageError> {
        Self::compact(self)
    }

    fn rest(&self, rests: bool) {
        if self.rests.load(Ordering::Relaxed) == rests {
            return;
        }
        let tables = if rests { LEVEL_0_TABLES_AT_REST } else { LEVEL_0_TABLES };
        let setting = [("level0_file_num_compaction_trigger", &*tables.to_string())];
        // Otherwise it is tried again; meanwhile tables are compacted as before.
        if self.db.set_options_cf(self.family(Family::Data), &setting).is_ok() {
            self.rests.store(rests, Ordering::Relaxed);
        }
    }
}

impl RocksEngine {
    /// Whether a commit log belongs to these tables.
    pub(crate) fn has_log(&self) -> Result<bool, StorageError> {
        let mark = self.db.get(HAS_LOG).map_err(|error| self.faults.note_read("read", error))?;
        Ok(mark.is_some())
    }

    /// Notes that a commit log belongs to these tables, durably.
    pub(crate) fn note_log(&self) -> Result<(), StorageError> {
        self.db
            .put_opt(HAS_LOG, b"1", &self.synced)
            .map_err(|error| self.faults.note("write", error))
    }

    /// Makes room for tables written aside, and clears what an unfinished flush has left.
    pub(crate) fn prepare_aside(&self) -> Result<(), StorageError> {
        let aside = self.directory.join(ASIDE);
        let failed = |error: std::io::Error| {
            StorageError::Io(format!("make {} anew: {error}", aside.display()))
        };
        if aside.exists() {
            fs::remove_dir_all(&aside).map_err(failed)?;
        }
        fs::create_dir(&aside).map_err(failed)
    }

    fn ingest_family(&self, run: &Run<'_>, family: Family) -> Result<u64, StorageError> {
        let mut entries = run.entries(family).peekable();
        if entries.peek().is_none() {
            return Ok(0);
        }
        let number = self.runs.fetch_add(1, Ordering::Relaxed);
        let path = self.directory.join(ASIDE).join(format!("{number}.sst"));
        let taken = self.take_over(&path, family, (run, entries));
        if taken.is_err() {
            // RocksDB removes what it has taken over; what it has not is rubbish that takes room.
            drop(fs::remove_file(&path));
        }
        taken.map_err(|error| self.faults.note("flush", error))
    }

    fn take_over<'a>(
        &self,
        path: &PathBuf,
        family: Family,
        (run, entries): (&Run<'_>, impl Iterator<Item = (bytes::Bytes, Option<Cow<'a, [u8]>>)>),
    ) -> Result<u64, rocksdb::Error> {
        let settings = options::run_table(&self.options, &self.cache, run.stays());
        let mut table = SstFileWriter::create(&settings);
        table.open(path)?;
        let mut step_bytes = 0;
        for (key, value) in entries {
            step_bytes += key.len() + value.as_ref().map_or(0, |value| value.len());
            match value {
                Some(value) => table.put(key, value)?,
                None => table.delete(key)?,
            }
            if step_bytes >= Run::STEP_BYTES {
                step_bytes = 0;
                run.yield_disk();
            }
        }
        table.finish()?;
        let bytes = table.file_size();
        let mut how = IngestExternalFileOptions::default();
        how.set_move_files(true);
        self.db.ingest_external_file_cf_opts(self.family(family), &how, vec![path])?;
        Ok(bytes)
    }

    /// Ingesting is not held up by compactions that lag behind, and every table of level 0 may be asked for every key.
    fn await_compactions(&self) -> Result<(), StorageError> {
        let errors = stall::errors(&self.db);
        let tables = num_files_at_level(0);
        loop {
            let data = self.family(Family::Data);
            let tables = self.db.property_int_value_cf(data, &tables).ok().flatten().unwrap_or(0);
            self.pacing.note_tables(tables);
            if tables < LEVEL_0_RUNS_MAX {
                return Ok(());
            }
            if stall::errors(&self.db) > errors {
                return Err(self.faults.note_stopped());
            }
            self.stall.wait();
        }
    }
}
