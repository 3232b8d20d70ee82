//! The disk of one node: commits and reads asked for as effects, done beside the loop, answered as inputs.
//!
//! A committer thread makes groups durable, as [`Syncing`] says; whatever arrives meanwhile is the next group. Reads
//! that the engine can answer from memory are answered in the same pass, others by reader threads. An engine that
//! keeps everything in memory needs no threads: all is done in the pass that asks for it.
//!
//! Invariants: batches reach the engine in the order of their ids; after a failure nothing more is applied; a read sees
//! every batch committed before it was asked for, as far as it concerns what is read (see [`barrier`]). Only while a
//! batch waits for room on a full disk, reads do not wait for it: what it writes is in the node's memory, where the node
//! looks first, until it is durable, and not acknowledged.

mod barrier;
mod committer;
mod compaction;
mod company;
mod faults;
mod readers;
mod room;
mod slowness;

#[cfg(test)]
mod tests;

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use moim_node::Input;
use moim_node::api::{BatchId, ListedPage, ReadId};
use moim_storage::{Batch, Cached, Durability, Engine, Family, PageLimit, StorageError};

use self::barrier::Barrier;
use self::committer::{Committer, Witnesses};
pub(crate) use self::compaction::CompactionPace;
pub(crate) use self::faults::{Damage, Faults};
use self::readers::{Readers, Witness as ReadWitness};
pub(crate) use self::room::Room;
pub(crate) use self::slowness::Slowness;
use crate::figures::DiskFigures;
use crate::inbox::Inbox;

/// Bytes of one page of a list, so that a partition of large values does not fill the memory.
const LIST_BYTES_MAX: usize = 4 << 20;

/// When what is written is synced, and so survives the machine and not only the process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Syncing {
    /// With each group, before it counts as durable.
    EveryGroup,
    /// This often; a group counts once the operating system has it.
    Interval(Duration),
    /// When the operating system sees fit; a group counts once it has it.
    LeftToSystem,
}

/// Where a node's effects on its disk go.
pub(crate) struct Disk {
    engine: Arc<dyn Engine>,
    inbox: Rc<Inbox>,
    threads: Option<Threads>,
    room: Arc<Room>,
    faults: Arc<Faults>,
    figures: Arc<DiskFigures>,
    slowness: Arc<Slowness>,
    compaction: Arc<CompactionPace>,
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
    List { id: ReadId, family: Family, from: Bytes, to: Bytes, limit: usize },
}

impl std::fmt::Debug for Disk {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Disk").field("threads", &self.threads.is_some()).finish_non_exhaustive()
    }
}

impl Disk {
    /// For an engine that never waits.
    pub(crate) fn inline(engine: Arc<dyn Engine>, inbox: Rc<Inbox>) -> Self {
        let room = Arc::new(Room::new(inbox.mailbox()));
        let (faults, figures, slowness) = (Arc::default(), Arc::default(), Arc::default());
        let compaction = Arc::default();
        Self { engine, inbox, threads: None, room, faults, figures, slowness, compaction }
    }

    /// For an engine that does. Starts the threads; dropping the disk commits what is queued and ends them.
    pub(crate) fn threaded(
        engine: Arc<dyn Engine>,
        inbox: Rc<Inbox>,
        syncing: Syncing,
    ) -> std::io::Result<Self> {
        let figures = Arc::<DiskFigures>::default();
        let room = Arc::new(Room::new(inbox.mailbox()));
        let faults = Arc::<Faults>::default();
        let slowness = Arc::<Slowness>::default();
        let witness = ReadWitness { faults: Arc::clone(&faults), slowness: Arc::clone(&slowness) };
        let witnesses = Witnesses {
            room: Arc::clone(&room),
            faults: Arc::clone(&faults),
            figures: Arc::clone(&figures),
            slowness: Arc::clone(&slowness),
        };
        let threads = Threads {
            committer: Committer::start(Arc::clone(&engine), inbox.mailbox(), witnesses, syncing)?,
            readers: Readers::start(&engine, &inbox.mailbox(), &witness)?,
            barrier: Barrier::default(),
            held: Vec::new(),
        };
        let (threads, compaction) = (Some(threads), Arc::default());
        Ok(Self { engine, inbox, threads, room, faults, figures, slowness, compaction })
    }

    /// From now on the engine's compactions yield to clients.
    pub(crate) fn pace_compactions(&self) {
        let compaction = Arc::clone(&self.compaction);
        self.engine.pace_compactions(Arc::new(move |bytes| compaction.pause(bytes)));
    }

    /// How fast compactions go; outlives the disk.
    pub(crate) fn compaction(&self) -> Arc<CompactionPace> {
        Arc::clone(&self.compaction)
    }

    /// Counters that outlive the disk.
    pub(crate) fn figures(&self) -> Arc<DiskFigures> {
        Arc::clone(&self.figures)
    }

    /// What goes wrong with it; outlives the disk.
    pub(crate) fn faults(&self) -> Arc<Faults> {
        Arc::clone(&self.faults)
    }

    /// How slow it is made to be; outlives the disk.
    pub(crate) fn slowness(&self) -> Arc<Slowness> {
        Arc::clone(&self.slowness)
    }

    /// What is known of the room on it; outlives the disk.
    pub(crate) fn room(&self) -> Arc<Room> {
        Arc::clone(&self.room)
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
        family: Family,
        (from, to): (Bytes, Bytes),
        limit: usize,
    ) {
        self.read(Read::List { id, family, from, to, limit });
    }

    /// Takes note of how many connections a turn had something of.
    pub(crate) fn turned(&mut self, connections: usize) {
        if let Some(threads) = &mut self.threads {
            threads.committer.turned(connections);
        }
    }

    /// Hands commits of this turn to the committer as one, and lets reads go whose barrier has fallen.
    pub(crate) fn flush(&mut self) {
        let Some(threads) = &mut self.threads else { return };
        threads.committer.flush();
        if threads.held.is_empty() {
            return;
        }
        let (applied, stuck) = (threads.committer.applied(), self.room.is_stuck());
        for (_, read) in threads.held.extract_if(.., |(after, _)| stuck || *after <= applied) {
            let answered = at_once(&*self.engine, &self.faults, read);
            deliver(&self.inbox, &threads.readers, answered);
        }
    }

    fn read(&mut self, read: Read) {
        let Some(threads) = &mut self.threads else {
            return self.inbox.push(read.run(&*self.engine, &self.faults));
        };
        let after = threads.barrier.before(&read);
        if after > threads.committer.applied() && !self.room.is_stuck() {
            threads.held.push((after, read));
        } else {
            let answered = at_once(&*self.engine, &self.faults, read);
            deliver(&self.inbox, &threads.readers, answered);
        }
    }
}

/// Answers from memory if that can be done; otherwise the read is for a thread.
fn at_once(engine: &dyn Engine, faults: &Faults, read: Read) -> Result<Input, Read> {
    let Read::Load { id, family, key } = read else { return Err(read) };
    match engine.get_cached(family, &key) {
        Ok(Cached::Known(value)) => Ok(Input::Loaded(id, Ok(value))),
        Ok(Cached::NeedsDisk) => Err(Read::Load { id, family, key }),
        Err(error) => Ok(Input::Loaded(id, Err(told(&error, faults)))),
    }
}

fn deliver(inbox: &Inbox, readers: &Readers, answered: Result<Input, Read>) {
    match answered {
        Ok(input) => inbox.push(input),
        Err(read) => {
            if let Read::Load { id, .. } = read {
                inbox.push(Input::Reading(id));
            }
            readers.push(read);
        }
    }
}

/// Takes note of a failed read, and says it in words.
fn told(error: &StorageError, faults: &Faults) -> String {
    faults.read(error);
    error.to_string()
}

impl Read {
    /// May block.
    fn run(&self, engine: &dyn Engine, faults: &Faults) -> Input {
        let told = |error: StorageError| told(&error, faults);
        match self {
            Self::Load { id, family, key } => {
                Input::Loaded(*id, engine.get(*family, key).map_err(told))
            }
            Self::List { id, family, from, to, limit } => {
                Input::Listed(*id, page(engine, (*family, from, to), *limit).map_err(told))
            }
        }
    }
}

fn page(
    engine: &dyn Engine,
    (family, from, to): (Family, &[u8], &[u8]),
    limit: usize,
) -> Result<ListedPage, StorageError> {
    let limit = PageLimit { entries_max: limit, bytes_max: LIST_BYTES_MAX };
    let page = engine.scan(family, from..to, limit)?;
    Ok(ListedPage { entries: page.entries, more: page.more })
}
