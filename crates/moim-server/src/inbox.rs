//! Where inputs wait for the next turn: those of this thread in a plain vector, those of other threads (the disk's,
//! and of the other nodes of this server) behind a lock. The first input of a pass wakes the turn; the others find it woken.
//!
//! Bounded without a limit of its own: a connection hands in what one read gave it and waits, the disk answers what
//! was asked of it, and the node refuses requests beyond `operations_max`. What waits longer, waits in the kernel's
//! buffers of connections that are not read while the loop is busy; [`Inbox::waited`] tells how long.

use std::cell::{Cell, RefCell};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use moim_node::Input;
use tokio::sync::Notify;
use tokio::time::Instant;

/// Inputs for one node.
#[derive(Debug, Default)]
pub(crate) struct Inbox {
    local: RefCell<Vec<Input>>,
    woken: Cell<bool>,
    mailbox: Arc<Mailbox>,
    /// Clients' connections that brought something since the last pass.
    heard: Cell<usize>,
    /// When this pass began to fill, and the one before it.
    began: Cell<Option<Instant>>,
    began_before: Cell<Option<Instant>>,
    /// When the last pass ended.
    ended: Cell<Option<Instant>>,
}

/// A pass that begins to fill sooner than this after the last one found its inputs waiting.
const IDLE: Duration = Duration::from_micros(500);

/// The side of an [`Inbox`] that other threads may use.
#[derive(Debug, Default)]
pub(crate) struct Mailbox {
    letters: Mutex<Letters>,
    arrived: Notify,
}

/// What other threads have handed in.
#[derive(Debug, Default)]
struct Letters {
    inputs: Vec<Input>,
    /// What messages of other nodes among them hold, about; the disk's are bounded by what was asked of it.
    message_bytes: usize,
    /// When the first of those messages came.
    since: Option<Instant>,
}

impl Inbox {
    /// Hands in one input from the node's own thread.
    pub(crate) fn push(&self, input: Input) {
        self.local.borrow_mut().push(input);
        self.wake();
    }

    /// Hands in several inputs from the node's own thread with one wake.
    pub(crate) fn append(&self, inputs: &mut Vec<Input>) {
        if !inputs.is_empty() {
            self.local.borrow_mut().append(inputs);
            self.wake();
        }
    }

    /// A client's connection has brought something.
    pub(crate) fn hear(&self) {
        self.heard.set(self.heard.get() + 1);
    }

    /// How many have since this was last asked.
    pub(crate) fn take_heard(&self) -> usize {
        self.heard.take()
    }

    /// Asks for a turn although nothing has arrived.
    pub(crate) fn wake(&self) {
        if !self.woken.replace(true) {
            self.began.set(Some(Instant::now()));
            self.mailbox.arrived.notify_one();
        }
    }

    /// How long the oldest input of this pass may have waited. Connections are not read during a pass: when the loop
    /// did not rest since the last one, something may have arrived as soon as that began to fill.
    pub(crate) fn waited(&self, now: Instant) -> Duration {
        let posted = self
            .mailbox
            .lock()
            .since
            .map_or(Duration::ZERO, |since| now.saturating_duration_since(since));
        let Some(began) = self.began.get() else { return posted };
        let rested = self.ended.get().is_none_or(|ended| began.duration_since(ended) > IDLE);
        let since = if rested { began } else { self.began_before.get().unwrap_or(began) };
        now.duration_since(since).max(posted)
    }

    /// Moves everything that has arrived behind `inputs`.
    pub(crate) fn take(&self, inputs: &mut Vec<Input>) {
        inputs.append(&mut self.local.borrow_mut());
        let mut letters = self.mailbox.lock();
        inputs.append(&mut letters.inputs);
        letters.message_bytes = 0;
        letters.since = None;
    }

    /// Whether nothing of this thread waits.
    pub(crate) fn is_empty(&self) -> bool {
        self.local.borrow().is_empty()
    }

    /// A pass of the loop is over: what it left here, or what came of it, is for the next. Until then nothing wakes
    /// the turn, which is running anyway.
    pub(crate) fn end_pass(&self) {
        self.ended.set(Some(Instant::now()));
        self.began_before.set(self.began.take());
        self.woken.set(false);
        if !self.is_empty() {
            self.wake();
        }
    }

    /// Waits until something arrives; a pass begins.
    pub(crate) async fn arrived(&self) {
        self.mailbox.arrived.notified().await;
        self.woken.set(true);
    }

    /// For other threads.
    pub(crate) fn mailbox(&self) -> Arc<Mailbox> {
        Arc::clone(&self.mailbox)
    }
}

impl Mailbox {
    /// Hands in one input from any thread.
    pub(crate) fn push(&self, input: Input) {
        self.lock().inputs.push(input);
        self.arrived.notify_one();
    }

    /// Hands in messages of another node of this process, which hold so many bytes, with one wake. Says how many bytes
    /// of messages wait with them; the sender bounds it.
    pub(crate) fn deliver(&self, messages: &mut Vec<Input>, bytes: usize) -> usize {
        let mut letters = self.lock();
        letters.inputs.append(messages);
        letters.message_bytes += bytes;
        letters.since.get_or_insert_with(Instant::now);
        let waiting = letters.message_bytes;
        drop(letters);
        self.arrived.notify_one();
        waiting
    }

    fn lock(&self) -> MutexGuard<'_, Letters> {
        // A vector of inputs is whole whatever happened to the thread that held it.
        self.letters.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
