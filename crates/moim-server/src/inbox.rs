//! Where inputs wait for the next turn: those of this thread in a plain vector, those of other threads (the disk's)
//! behind a lock. The first input of a pass wakes the turn; the others find it woken.
//!
//! Bounded without a limit of its own: a connection hands in what one read gave it and waits, the disk answers what
//! was asked of it, and the node refuses requests beyond `operations_max`.

use std::cell::{Cell, RefCell};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use moim_node::Input;
use tokio::sync::Notify;

/// Inputs for one node.
#[derive(Debug, Default)]
pub(crate) struct Inbox {
    local: RefCell<Vec<Input>>,
    woken: Cell<bool>,
    mailbox: Arc<Mailbox>,
}

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
            self.mailbox.arrived.notify_one();
        }
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
