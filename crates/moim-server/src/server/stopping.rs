//! The nodes of a server stop together: when it is told to, and when one of them ends.

use std::sync::Arc;

use tokio::sync::watch;

/// How a server is to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stop {
    /// Clients are parted from, for `node.stop_linger_ms`; requests in progress may end, for `node.stop_timeout_ms`.
    Gently,
    /// At once, as if the process had been killed (but what was committed is synced).
    AtOnce,
}

/// Whether and how all nodes of the server are to end.
#[derive(Clone, Debug)]
pub(super) struct Stopping(Arc<watch::Sender<Option<Stop>>>);

impl Stopping {
    pub(super) fn new() -> Self {
        Self(Arc::new(watch::channel(None).0))
    }

    /// All are to end so; the first word counts.
    pub(super) fn tell(&self, how: Stop) {
        self.0.send_if_modified(|told| {
            let first = told.is_none();
            told.get_or_insert(how);
            first
        });
    }

    /// Waits until they are told to.
    pub(super) async fn told(self) -> Stop {
        let mut heard = self.0.subscribe();
        loop {
            let told = *heard.borrow_and_update();
            match told {
                Some(how) => return how,
                // The sender is held here, so there is one.
                None => drop(heard.changed().await),
            }
        }
    }
}

/// Held by a node's thread: when it ends, however that comes about, all others are to end too.
pub(super) struct Bond<'server>(pub(super) &'server Stopping);

impl Drop for Bond<'_> {
    fn drop(&mut self) {
        self.0.tell(Stop::Gently);
    }
}
