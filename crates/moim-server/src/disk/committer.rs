//! Group commit: one thread, one sync for all batches that arrived while the last sync ran.
//!
//! A group that does not fit on the disk is kept and offered again, unchanged and before all others, until it does:
//! the engine has applied nothing of it, so nothing is lost, doubled or put out of order, and nobody is told that it is
//! durable meanwhile (INV-2). Any other failure is final. In particular a failed fsync is never tried again: the kernel
//! may have dropped the dirty pages and marked them clean, and the second would succeed without them.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use moim_node::Input;
use moim_node::api::BatchId;
use moim_storage::{Batch, Durability, Engine, StorageError, Write};
use tracing::{error, info, warn};

use super::{Faults, Room};
use crate::figures::DiskFigures;
use crate::inbox::Mailbox;

/// Batches in one group: enough to make the sync cheap, few enough that the first does not wait long for the last.
const GROUP_BATCHES_MAX: usize = 256;

/// Bytes in one group, for the same reason; a larger batch is a group of its own.
const GROUP_BYTES_MAX: usize = 1 << 20;

/// First wait before a group that did not fit is offered again; doubles up to [`RETRY_MAX`].
const RETRY_FIRST: Duration = Duration::from_millis(50);

/// Longest wait: what clients notice of a disk that has room again.
const RETRY_MAX: Duration = Duration::from_secs(1);

/// Whom the committer tells how it goes.
pub(super) struct Witnesses {
    pub(super) room: Arc<Room>,
    pub(super) faults: Arc<Faults>,
    pub(super) figures: Arc<DiskFigures>,
}

/// The loop's side. The queue needs no bound of its own: the node stops writing at `unsynced_bytes_max`.
pub(super) struct Committer {
    shared: Arc<Shared>,
    /// Batches of this turn, not yet handed over.
    turn: Vec<(BatchId, Batch)>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Shared {
    queue: Mutex<Queue>,
    arrived: Condvar,
    /// The last applied batch; all of them after a failure, when waiting for one would never end.
    applied: AtomicU64,
}

#[derive(Default)]
struct Queue {
    batches: VecDeque<(BatchId, Batch)>,
    /// The thread has nothing to do and must be woken.
    idle: bool,
    closing: bool,
}

impl Committer {
    pub(super) fn start(
        engine: Arc<dyn Engine>,
        mailbox: Arc<Mailbox>,
        witnesses: Witnesses,
    ) -> std::io::Result<Self> {
        let shared = Arc::<Shared>::default();
        let worker = Worker { engine, mailbox, witnesses, shared: Arc::clone(&shared) };
        let thread =
            std::thread::Builder::new().name("moim-commit".into()).spawn(move || worker.run())?;
        Ok(Self { shared, turn: Vec::new(), thread: Some(thread) })
    }

    pub(super) fn push(&mut self, id: BatchId, batch: Batch) {
        self.turn.push((id, batch));
    }

    /// Hands over what was pushed.
    pub(super) fn flush(&mut self) {
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
        if self.thread.take().is_some_and(|thread| thread.join().is_err()) {
            error!("the committer had died");
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Queue> {
        // Whoever died with the lock was not in the middle of anything: each use is one change.
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits this long, less if the disk is closed meanwhile. Returns whether it is.
    fn pause(&self, wait: Duration) -> bool {
        let begun = Instant::now();
        let mut queue = self.lock();
        while !queue.closing {
            let Some(left) = wait.checked_sub(begun.elapsed()) else { break };
            let woken = self.arrived.wait_timeout(queue, left);
            queue = woken.unwrap_or_else(PoisonError::into_inner).0;
        }
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

/// The thread's side.
struct Worker {
    engine: Arc<dyn Engine>,
    mailbox: Arc<Mailbox>,
    witnesses: Witnesses,
    shared: Arc<Shared>,
}

impl Worker {
    fn run(self) {
        while let Some((last, group)) = self.shared.next_group() {
            let begun = Instant::now();
            let mut applied = self.engine.apply(&group, Durability::Synced);
            if let Err(StorageError::Full(why)) = &applied {
                warn!(why, "the disk is full: writes wait for room");
                self.witnesses.room.set_stuck(true);
                applied = self.insist(&group);
                // Also when it failed: reads must not be let past a barrier that has fallen for good.
                self.witnesses.room.set_stuck(false);
            }
            match applied {
                Ok(()) => {
                    self.witnesses.figures.committed(group.len(), begun.elapsed());
                    self.shared.applied.store(last.0, Ordering::Release);
                    self.mailbox.push(Input::Durable(last));
                }
                Err(StorageError::Full(why)) => {
                    return warn!(
                        why,
                        "stopping with writes that had no room and were never acknowledged"
                    );
                }
                Err(error) => {
                    self.witnesses.faults.write(&error);
                    return self.fail(&error.to_string());
                }
            }
        }
    }

    /// Offers a group that did not fit until it does, or something else is wrong, or the disk is closed.
    fn insist(&self, group: &[Batch]) -> Result<(), StorageError> {
        let begun = Instant::now();
        let mut wait = RETRY_FIRST;
        loop {
            let closing = self.shared.pause(wait);
            self.witnesses.figures.retried();
            match self.engine.apply(group, Durability::Synced) {
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

    /// Nothing after a failed sync may count as durable (INV-2), so nothing after it is tried.
    fn fail(&self, why: &str) {
        error!(why, "the disk failed: nothing more is written");
        self.shared.applied.store(u64::MAX, Ordering::Release);
        self.mailbox.push(Input::DiskFailed(why.to_owned()));
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.fail("the storage engine panicked");
        }
    }
}
