//! Group commit: one thread, one sync for all batches that arrived while the last sync ran, or in the short while that
//! the thread waits after a group of several writes (`company`).
//!
//! A group that does not fit on the disk is kept and offered again, unchanged and before all others, until it does:
//! the engine has applied nothing of it, so nothing is lost, doubled or put out of order, and nobody is told that it is
//! durable meanwhile (INV-2). Any other failure is final. In particular a failed fsync is never tried again: the kernel
//! may have dropped the dirty pages and marked them clean, and the second would succeed without them.
//!
//! With durability `interval` or `os` a group counts once the operating system has it, except one that says who the node
//! is or how far its clock may have run (the meta family): those are synced, and everything before them with them. A
//! thread of its own syncs at intervals, and in between what has come to [`UNSYNCED_BYTES`]: the groups that are synced
//! sync everything before them, and those behind them wait. No two syncs run at once: a failure is reported to one of
//! them, and the other would seem to have succeeded.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use moim_node::Input;
use moim_node::api::BatchId;
use moim_node::keyspace::META_BATCH;
use moim_storage::{Batch, Durability, Engine, Family, StorageError, Write};
use tracing::{error, info, warn};

use super::company::{self, Crowd};
use super::{Faults, Room, Slowness, Syncing};
use crate::figures::DiskFigures;
use crate::inbox::Mailbox;
use crate::recycled;

/// Batches in one group: enough to make the sync cheap, few enough that the first does not wait long for the last.
const GROUP_BATCHES_MAX: usize = 256;

/// Bytes in one group, for the same reason; a larger batch is a group of its own.
const GROUP_BYTES_MAX: usize = 1 << 20;

/// Written and not synced, this much is synced in the background, however soon after the last time.
const UNSYNCED_BYTES: usize = 1 << 20;

/// First wait before a group that did not fit is offered again; doubles up to [`RETRY_MAX`].
const RETRY_FIRST: Duration = Duration::from_millis(50);

/// Longest wait: what clients notice of a disk that has room again.
const RETRY_MAX: Duration = Duration::from_secs(1);

/// Whom the committer tells how it goes.
pub(super) struct Witnesses {
    pub(super) room: Arc<Room>,
    pub(super) faults: Arc<Faults>,
    pub(super) figures: Arc<DiskFigures>,
    pub(super) slowness: Arc<Slowness>,
}

/// The loop's side. The queue needs no bound of its own: the node stops writing at `unsynced_bytes_max`.
pub(super) struct Committer {
    shared: Arc<Shared>,
    /// Batches of this turn, not yet handed over.
    turn: Vec<(BatchId, Batch)>,
    crowd: Crowd,
    threads: Vec<JoinHandle<()>>,
}

#[derive(Default)]
struct Shared {
    queue: Mutex<Queue>,
    arrived: Condvar,
    closed: Condvar,
    sync_is_due: Condvar,
    /// The last applied batch; all of them after a failure, when waiting for one would never end.
    applied: AtomicU64,
    /// What is left of groups that were applied, for the loop to free: it has allocated most of it, and memory is freed
    /// fastest where it comes from. Bounded by what the loop has handed over and not been told of.
    spent: Mutex<Vec<Vec<Batch>>>,
    has_spent: AtomicBool,
    /// The loop finds many each time that it looks.
    is_crowded: AtomicBool,
}

#[derive(Default)]
struct Queue {
    batches: VecDeque<(BatchId, Batch)>,
    /// The thread has nothing to do and must be woken.
    idle: bool,
    /// Much was written that is not synced.
    sync_is_due: bool,
    closing: bool,
}

impl Committer {
    pub(super) fn start(
        engine: Arc<dyn Engine>,
        mailbox: Arc<Mailbox>,
        witnesses: Witnesses,
        syncing: Syncing,
    ) -> std::io::Result<Self> {
        let shared = Arc::<Shared>::default();
        let worker = Arc::new(Worker {
            engine,
            mailbox,
            witnesses,
            syncing,
            syncs: Mutex::default(),
            has_sync_failed: AtomicBool::new(false),
            is_told: AtomicBool::new(false),
            unsynced_bytes: AtomicUsize::new(0),
            shared: Arc::clone(&shared),
        });
        let crowd = Crowd::default();
        let mut committer = Self { shared, turn: Vec::new(), crowd, threads: Vec::new() };
        let commits = Arc::clone(&worker);
        committer.spawn("moim-commit", move || commits.guarded(Worker::run))?;
        let every = match syncing {
            Syncing::EveryGroup => return Ok(committer),
            Syncing::Interval(every) => every,
            Syncing::LeftToSystem => Duration::MAX,
        };
        let sync = move || worker.guarded(|worker| worker.sync_regularly(every));
        committer.spawn("moim-sync", sync)?;
        Ok(committer)
    }

    fn spawn(&mut self, name: &str, work: impl FnOnce() + Send + 'static) -> std::io::Result<()> {
        self.threads.push(std::thread::Builder::new().name(name.into()).spawn(work)?);
        Ok(())
    }

    pub(super) fn push(&mut self, id: BatchId, batch: Batch) {
        self.turn.push((id, batch));
    }

    /// Takes note of how many connections a turn of the loop had something of.
    pub(super) fn turned(&mut self, connections: usize) {
        let is_crowded = self.crowd.turned(connections);
        self.shared.is_crowded.store(is_crowded, Ordering::Relaxed);
    }

    /// Hands over what was pushed, and frees what was done.
    pub(super) fn flush(&mut self) {
        self.shared.free_spent();
        if self.turn.is_empty() {
            return;
        }
        let mut queue = self.shared.lock();
        queue.batches.extend(self.turn.drain(..));
        let idle = std::mem::take(&mut queue.idle);
        drop(queue);
        if idle {
            self.shared.arrived.notify_one();
        }
    }

    /// Reads see every batch up to this one.
    pub(super) fn applied(&self) -> BatchId {
        BatchId(self.shared.applied.load(Ordering::Acquire))
    }
}

impl Drop for Committer {
    fn drop(&mut self) {
        self.flush();
        self.shared.lock().closing = true;
        self.shared.arrived.notify_one();
        self.shared.closed.notify_all();
        self.shared.sync_is_due.notify_one();
        for thread in self.threads.drain(..) {
            let name = thread.thread().name().unwrap_or_default().to_owned();
            if thread.join().is_err() {
                error!("the thread {name} had died");
            }
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Queue> {
        // Whoever died with the lock was not in the middle of anything: each use is one change.
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Leaves the rest of a group to the loop.
    fn leave(&self, group: Vec<Batch>) {
        self.spent.lock().unwrap_or_else(PoisonError::into_inner).push(group);
        self.has_spent.store(true, Ordering::Release);
    }

    /// Frees what groups have left, on the thread that allocated it and will need as much again.
    fn free_spent(&self) {
        if self.has_spent.load(Ordering::Relaxed) && self.has_spent.swap(false, Ordering::Acquire) {
            let spent =
                std::mem::take(&mut *self.spent.lock().unwrap_or_else(PoisonError::into_inner));
            // After the lock. Who shares them stands in memory that was last used long ago: seen first, all at once.
            let is_unique =
                |write: &&Write| matches!(write, Write::Put { value, .. } if value.is_unique());
            std::hint::black_box(spent.iter().flatten().flatten().filter(is_unique).count());
            for write in spent.into_iter().flatten().flatten() {
                if let Write::Put { value, .. } = write {
                    recycled::give_back(value);
                }
            }
        }
    }

    /// Waits this long, less if the disk is closed meanwhile. Returns whether it is.
    fn pause(&self, wait: Duration) -> bool {
        let begun = Instant::now();
        let mut queue = self.lock();
        while !queue.closing {
            let Some(left) = wait.checked_sub(begun.elapsed()) else { break };
            let woken = self.closed.wait_timeout(queue, left);
            queue = woken.unwrap_or_else(PoisonError::into_inner).0;
        }
        queue.closing
    }

    /// Waits this long, less if a sync is due before or the disk is closed. Returns whether it is.
    fn until_sync_is_due(&self, every: Duration) -> bool {
        let wait = |queue: &mut Queue| !queue.closing && !queue.sync_is_due;
        let waited = self.sync_is_due.wait_timeout_while(self.lock(), every, wait);
        let mut queue = waited.unwrap_or_else(PoisonError::into_inner).0;
        queue.sync_is_due = false;
        queue.closing
    }

    /// Waits for the next group; `None` when there will be none.
    fn next_group(&self) -> Option<(BatchId, Vec<Batch>)> {
        let mut queue = self.lock();
        while queue.batches.is_empty() {
            if queue.closing {
                return None;
            }
            queue.idle = true;
            queue = self.arrived.wait(queue).unwrap_or_else(PoisonError::into_inner);
        }
        Some(take_group(&mut queue.batches))
    }
}

/// The first batches of a queue that is not empty, up to the bounds of a group, and the id of the last of them.
fn take_group(queue: &mut VecDeque<(BatchId, Batch)>) -> (BatchId, Vec<Batch>) {
    let mut last = BatchId::default();
    let mut group = Vec::new();
    let mut bytes = 0;
    while let Some((_, batch)) = queue.front() {
        bytes += batch_bytes(batch);
        let full = group.len() == GROUP_BATCHES_MAX || bytes > GROUP_BYTES_MAX;
        if full && !group.is_empty() {
            break;
        }
        if let Some((id, batch)) = queue.pop_front() {
            assert!(id > last, "batches are committed in the order of their ids");
            last = id;
            group.push(batch);
        }
    }
    (last, group)
}

fn batch_bytes(batch: &Batch) -> usize {
    let write_bytes = |write: &Write| match write {
        Write::Put { key, value, .. } => key.len() + value.len(),
        Write::Delete { key, .. } => key.len(),
        Write::DeleteRange { from, to, .. } => from.len() + to.len(),
    };
    batch.iter().map(write_bytes).sum()
}

/// Whether a write must survive the machine before it counts, however durable others are: identity, records, the
/// generation and the clock's bound. The batch's number is no promise, it says how much has survived.
fn is_vital(write: &Write) -> bool {
    match write {
        Write::Put { family, key, .. } | Write::Delete { family, key } => {
            *family == Family::Meta && key != META_BATCH
        }
        Write::DeleteRange { family, .. } => *family == Family::Meta,
    }
}

/// The threads' side.
struct Worker {
    engine: Arc<dyn Engine>,
    mailbox: Arc<Mailbox>,
    witnesses: Witnesses,
    syncing: Syncing,
    /// Held during a sync.
    syncs: Mutex<()>,
    /// None is tried after one that has.
    has_sync_failed: AtomicBool,
    /// The node knows that its disk has failed.
    is_told: AtomicBool,
    /// What was written that no sync has begun for.
    unsynced_bytes: AtomicUsize,
    shared: Arc<Shared>,
}

impl Worker {
    /// Runs one of the threads; should it panic, the node stops.
    fn guarded(&self, run: impl FnOnce(&Self)) {
        let _alarm = Alarm(self);
        run(self);
    }

    fn run(&self) {
        while let Some((last, mut group)) = self.shared.next_group() {
            let begun = Instant::now();
            self.witnesses.slowness.before_commit();
            let mut applied = self.apply(&mut group);
            if let Err(StorageError::Full(why)) = &applied {
                warn!(why, "the disk is full: writes wait for room");
                self.witnesses.room.set_stuck(true);
                applied = self.insist(&mut group);
                // Also when it failed: reads must not be let past a barrier that has fallen for good.
                self.witnesses.room.set_stuck(false);
            }
            match applied {
                Ok(()) => {
                    let company = self.company(&group);
                    self.witnesses.figures.committed(group.len(), begun.elapsed());
                    self.shared.applied.store(last.0, Ordering::Release);
                    self.shared.leave(group);
                    self.mailbox.push(Input::Durable(last));
                    if let Some(wait) = company {
                        std::thread::sleep(wait);
                    }
                }
                Err(StorageError::Full(why)) => {
                    return warn!(
                        why,
                        "stopping with writes that had no room and were never acknowledged"
                    );
                }
                Err(error) => return self.fail(&error),
            }
        }
        // Who stops in order loses nothing.
        self.sync_the_rest();
    }

    /// How long the next group waits for company after this one.
    fn company(&self, group: &[Batch]) -> Option<Duration> {
        let is_crowded = self.shared.is_crowded.load(Ordering::Relaxed);
        let syncs = self.syncing == Syncing::EveryGroup;
        syncs.then(|| company::after(group, is_crowded)).flatten()
    }

    fn apply(&self, group: &mut [Batch]) -> Result<(), StorageError> {
        if self.syncing == Syncing::EveryGroup {
            return self.engine.exchange(group, Durability::Synced);
        }
        if group.iter().flatten().any(is_vital) {
            return self.alone(|engine| engine.exchange(group, Durability::Synced));
        }
        self.check_syncs()?;
        // Afterwards the group is what it has replaced.
        let bytes: usize = group.iter().map(batch_bytes).sum();
        self.engine.exchange(group, Durability::Written)?;
        let before = self.unsynced_bytes.fetch_add(bytes, Ordering::AcqRel);
        if (before..before + bytes).contains(&UNSYNCED_BYTES) {
            self.shared.lock().sync_is_due = true;
            self.shared.sync_is_due.notify_one();
        }
        Ok(())
    }

    /// Does what syncs, while nothing else does, and nothing at all once that has failed.
    fn alone(
        &self,
        sync: impl FnOnce(&dyn Engine) -> Result<(), StorageError>,
    ) -> Result<(), StorageError> {
        let _alone = self.syncs.lock().unwrap_or_else(PoisonError::into_inner);
        self.check_syncs()?;
        let synced = sync(&*self.engine);
        // A group that did not fit is offered again as a whole.
        if synced.as_ref().is_err_and(|error| !matches!(error, StorageError::Full(_))) {
            self.has_sync_failed.store(true, Ordering::Release);
        }
        synced
    }

    fn check_syncs(&self) -> Result<(), StorageError> {
        if self.has_sync_failed.load(Ordering::Acquire) {
            return Err(StorageError::Io("an earlier sync failed".to_owned()));
        }
        Ok(())
    }

    /// Offers a group that did not fit until it does, or something else is wrong, or the disk is closed.
    fn insist(&self, group: &mut [Batch]) -> Result<(), StorageError> {
        let begun = Instant::now();
        let mut wait = RETRY_FIRST;
        loop {
            let closing = self.shared.pause(wait);
            self.witnesses.figures.retried();
            match self.apply(group) {
                Err(StorageError::Full(_)) if !closing => wait = (2 * wait).min(RETRY_MAX),
                Ok(()) => {
                    info!(
                        seconds = begun.elapsed().as_secs(),
                        "the disk has room again: writes go on"
                    );
                    return Ok(());
                }
                outcome => return outcome,
            }
        }
    }

    fn sync_regularly(&self, every: Duration) {
        while !self.shared.until_sync_is_due(every) && self.sync_the_rest() {}
    }

    /// Syncs what is not; returns whether all is well.
    fn sync_the_rest(&self) -> bool {
        if self.unsynced_bytes.swap(0, Ordering::AcqRel) == 0 {
            return true;
        }
        let begun = Instant::now();
        match self.alone(|engine| engine.sync().map_err(finally)) {
            Ok(()) => self.witnesses.figures.synced(begun.elapsed()),
            Err(error) => {
                self.fail(&error);
                return false;
            }
        }
        true
    }

    fn fail(&self, error: &StorageError) {
        // The other thread was first, and what this one met is the consequence.
        if !self.is_told.load(Ordering::Acquire) {
            self.witnesses.faults.write(error);
        }
        self.stop(&error.to_string());
    }

    /// Nothing after a failed sync may count as durable (INV-2), so nothing after it is tried.
    fn stop(&self, why: &str) {
        if self.is_told.swap(true, Ordering::AcqRel) {
            return;
        }
        error!(why, "the disk failed: nothing more is written");
        self.shared.applied.store(u64::MAX, Ordering::Release);
        self.mailbox.push(Input::DiskFailed(why.to_owned()));
    }
}

/// Unlike a group that has no room, writes that a sync has no room for cannot be offered again.
fn finally(error: StorageError) -> StorageError {
    match error {
        StorageError::Full(what) => StorageError::Io(format!("no room to sync: {what}")),
        error => error,
    }
}

struct Alarm<'worker>(&'worker Worker);

impl Drop for Alarm<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.stop("the storage engine panicked");
        }
    }
}
