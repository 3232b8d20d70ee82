//! The disk of one node: commits and reads asked for as effects, done beside the loop, answered as inputs.
//!
//! A committer thread makes groups durable, one sync a group; whatever arrives during a sync is the next group. Reads
//! that the engine can answer from memory are answered in the same pass, others by reader threads. An engine that
//! keeps everything in memory needs no threads: all is done in the pass that asks for it.
//!
//! Invariants: batches reach the engine in the order of their ids; after a failure nothing more is applied; a read sees
//! every batch committed before it was asked for, as far as it concerns what is read (see [`barrier`]).

mod barrier;
mod committer;
mod readers;

#[cfg(test)]
mod tests;

use std::ops::Range;
use std::rc::Rc;
use std::sync::Arc;

use bytes::Bytes;
use moim_node::Input;
use moim_node::api::{BatchId, ListedPage, ReadId};
use moim_storage::{Batch, Cached, Durability, Engine, Family, PageLimit, StorageError};

use self::barrier::Barrier;
use self::committer::Committer;
use self::readers::Readers;
use crate::figures::DiskFigures;
use crate::inbox::Inbox;

/// Bytes of one page of a list, so that a partition of large values does not fill the memory.
const LIST_BYTES_MAX: usize = 4 << 20;

/// Where a node's effects on its disk go.
pub(crate) struct Disk {
    engine: Arc<dyn Engine>,
    inbox: Rc<Inbox>,
    threads: Option<Threads>,
    figures: Arc<DiskFigures>,
}

/// What an engine that may block needs.
struct Threads {
    committer: Committer,
    readers: Readers,
    barrier: Barrier,
    /// Reads that wait until a batch is applied.
    held: Vec<(BatchId, Read)>,
}

/// One read.
#[derive(Debug)]
enum Read {
    Load { id: ReadId, family: Family, key: Bytes },
    List { id: ReadId, family: Family, range: Range<Bytes>, limit: usize },
}

impl std::fmt::Debug for Disk {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Disk").field("threads", &self.threads.is_some()).finish_non_exhaustive()
    }
}

impl Disk {
    /// For an engine that never waits.
    pub(crate) fn inline(engine: Arc<dyn Engine>, inbox: Rc<Inbox>) -> Self {
        Self { engine, inbox, threads: None, figures: Arc::default() }
    }

    /// For an engine that does. Starts the threads; dropping the disk commits what is queued and ends them.
    pub(crate) fn threaded(engine: Arc<dyn Engine>, inbox: Rc<Inbox>) -> std::io::Result<Self> {
        let figures = Arc::<DiskFigures>::default();
        let threads = Threads {
            committer: Committer::start(
                Arc::clone(&engine),
                inbox.mailbox(),
                Arc::clone(&figures),
            )?,
            readers: Readers::start(&engine, &inbox.mailbox())?,
            barrier: Barrier::default(),
            held: Vec::new(),
        };
        Ok(Self { engine, inbox, threads: Some(threads), figures })
    }

    /// Counters that outlive the disk.
    pub(crate) fn figures(&self) -> Arc<DiskFigures> {
        Arc::clone(&self.figures)
    }

    /// Applies a batch after all earlier ones; answers [`Input::Durable`] or [`Input::DiskFailed`]. Takes effect with
    /// [`Self::flush`] at the latest.
    pub(crate) fn commit(&mut self, id: BatchId, batch: Batch) {
        match &mut self.threads {
            Some(threads) => {
                threads.barrier.committed(id, &batch);
                threads.committer.push(id, batch);
            }
            None => self.inbox.push(match self.engine.apply(&[batch], Durability::Synced) {
                Ok(()) => Input::Durable(id),
                Err(error) => Input::DiskFailed(error.to_string()),
            }),
        }
    }

    /// Reads one key; answers [`Input::Loaded`].
    pub(crate) fn load(&mut self, id: ReadId, family: Family, key: Bytes) {
        self.read(Read::Load { id, family, key });
    }

    /// Reads a page of keys; answers [`Input::Listed`].
    pub(crate) fn list(
        &mut self,
        id: ReadId,
        (family, range): (Family, Range<Bytes>),
        limit: usize,
    ) {
        self.read(Read::List { id, family, range, limit });
    }

    /// Hands commits of this turn to the committer as one, and lets reads go whose barrier has fallen.
    pub(crate) fn flush(&mut self) {
        let Some(threads) = &mut self.threads else { return };
        threads.committer.flush();
        if threads.held.is_empty() {
            return;
        }
        let applied = threads.committer.applied();
        for (_, read) in threads.held.extract_if(.., |(after, _)| *after <= applied) {
            start(&*self.engine, &self.inbox, &threads.readers, read);
        }
    }

    fn read(&mut self, read: Read) {
        let Some(threads) = &mut self.threads else {
            return self.inbox.push(read.run(&*self.engine));
        };
        let after = threads.barrier.before(&read);
        if after > threads.committer.applied() {
            threads.held.push((after, read));
        } else {
            start(&*self.engine, &self.inbox, &threads.readers, read);
        }
    }
}

/// Answers from memory if that can be done, otherwise asks a thread.
fn start(engine: &dyn Engine, inbox: &Inbox, readers: &Readers, read: Read) {
    match read {
        Read::Load { id, family, key } => match engine.get_cached(family, &key) {
            Ok(Cached::Known(value)) => inbox.push(Input::Loaded(id, Ok(value))),
            Ok(Cached::NeedsDisk) => readers.push(Read::Load { id, family, key }),
            Err(error) => inbox.push(Input::Loaded(id, Err(error.to_string()))),
        },
        Read::List { .. } => readers.push(read),
    }
}

impl Read {
    /// May block.
    fn run(&self, engine: &dyn Engine) -> Input {
        match self {
            Self::Load { id, family, key } => {
                Input::Loaded(*id, engine.get(*family, key).map_err(|error| error.to_string()))
            }
            Self::List { id, family, range, limit } => Input::Listed(
                *id,
                page(engine, (*family, range), *limit).map_err(|error| error.to_string()),
            ),
        }
    }
}

fn page(
    engine: &dyn Engine,
    (family, range): (Family, &Range<Bytes>),
    limit: usize,
) -> Result<ListedPage, StorageError> {
    let limit = PageLimit { entries_max: limit, bytes_max: LIST_BYTES_MAX };
    let page = engine.scan(family, &range.start[..]..&range.end[..], limit)?;
    Ok(ListedPage { entries: page.entries, more: page.more })
}
