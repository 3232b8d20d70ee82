//! Where inputs wait for the next turn: those of this thread in a plain vector, those of other threads (the disk's)
//! behind a lock. The first input of a pass wakes the turn; the others find it woken.
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
    inputs: Mutex<Vec<Input>>,
    arrived: Notify,
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
        let Some(began) = self.began.get() else { return Duration::ZERO };
        let rested = self.ended.get().is_none_or(|ended| began.duration_since(ended) > IDLE);
        let since = if rested { began } else { self.began_before.get().unwrap_or(began) };
        now.duration_since(since)
    }

    /// Moves everything that has arrived behind `inputs`.
    pub(crate) fn take(&self, inputs: &mut Vec<Input>) {
        inputs.append(&mut self.local.borrow_mut());
        inputs.append(&mut self.mailbox.lock());
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
        self.lock().push(input);
        self.arrived.notify_one();
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Input>> {
        // A vector of inputs is whole whatever happened to the thread that held it.
        self.inputs.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
