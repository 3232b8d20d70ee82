//! Threads for reads that have to wait for the disk.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use moim_node::Input;
use moim_storage::Engine;
use tracing::error;

use super::{Faults, Read, Slowness};
use crate::inbox::Mailbox;

/// Reads that wait for the disk at once. They sleep in the kernel, so there may be more of them than cores; one long
/// list then leaves the others to single keys.
const READERS: usize = 8;

/// The loop's side. The queue needs no bound of its own: a node asks for one read a request, and bounds requests.
pub(super) struct Readers {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

#[derive(Default)]
struct Shared {
    queue: Mutex<Queue>,
    arrived: Condvar,
}

#[derive(Default)]
struct Queue {
    reads: VecDeque<Read>,
    closing: bool,
}

/// Whom readers tell what goes wrong, and who makes them wait.
#[derive(Clone)]
pub(super) struct Witness {
    pub(super) faults: Arc<Faults>,
    pub(super) slowness: Arc<Slowness>,
}

impl Readers {
    pub(super) fn start(
        engine: &Arc<dyn Engine>,
        mailbox: &Arc<Mailbox>,
        witness: &Witness,
    ) -> std::io::Result<Self> {
        let shared = Arc::<Shared>::default();
        let mut readers = Self { shared: Arc::clone(&shared), threads: Vec::new() };
        for number in 0..READERS {
            let (engine, mailbox) = (Arc::clone(engine), Arc::clone(mailbox));
            let (witness, shared) = (witness.clone(), Arc::clone(&shared));
            let thread = std::thread::Builder::new()
                .name(format!("moim-read-{number}"))
                .spawn(move || run(&*engine, &mailbox, &witness, &shared))?;
            readers.threads.push(thread);
        }
        Ok(readers)
    }

    pub(super) fn push(&self, read: Read) {
        self.shared.lock().reads.push_back(read);
        self.shared.arrived.notify_one();
    }
}

impl Drop for Readers {
    fn drop(&mut self) {
        let mut queue = self.shared.lock();
        queue.closing = true;
        queue.reads.clear();
        drop(queue);
        self.shared.arrived.notify_all();
        for thread in self.threads.drain(..) {
            if thread.join().is_err() {
                error!("a reader had died");
            }
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Queue> {
        // Whoever died with the lock was not in the middle of anything: each use is one change.
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn next(&self) -> Option<Read> {
        let mut queue = self.lock();
        loop {
            if queue.closing {
                return None;
            }
            match queue.reads.pop_front() {
                Some(read) => return Some(read),
                None => queue = self.arrived.wait(queue).unwrap_or_else(PoisonError::into_inner),
            }
        }
    }
}

fn run(engine: &dyn Engine, mailbox: &Mailbox, witness: &Witness, shared: &Shared) {
    let _death = Death(mailbox);
    while let Some(read) = shared.next() {
        witness.slowness.before_read();
        mailbox.push(read.run(engine, &witness.faults));
    }
}

/// A reader that dies would leave its request without an answer and soon the node without readers.
struct Death<'a>(&'a Mailbox);

impl Drop for Death<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.push(Input::DiskFailed("the storage engine panicked in a read".to_owned()));
        }
    }
}
