//! The disk of one node: commits and reads as effects, their completions as inputs.

use std::rc::Rc;
use std::sync::Arc;

use bytes::Bytes;
use moim_node::Input;
use moim_node::api::{BatchId, ListedPage, ReadId};
use moim_storage::{Batch, Durability, Engine, Family, PageLimit, StorageError};

use crate::inbox::Inbox;

/// Bytes of one page of a list, so that a partition of large values does not fill the memory.
const LIST_BYTES_MAX: usize = 4 << 20;

/// An engine that never waits: everything is done in the pass that asks for it.
pub(crate) struct Disk {
    engine: Arc<dyn Engine>,
    inbox: Rc<Inbox>,
}

impl std::fmt::Debug for Disk {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Disk").finish_non_exhaustive()
    }
}

impl Disk {
    /// For an engine in memory.
    pub(crate) fn inline(engine: Arc<dyn Engine>, inbox: Rc<Inbox>) -> Self {
        Self { engine, inbox }
    }

    pub(crate) fn commit(&mut self, id: BatchId, batch: Batch) {
        self.inbox.push(match self.engine.apply(&[batch], Durability::Synced) {
            Ok(()) => Input::Durable(id),
            Err(error) => Input::DiskFailed(error.to_string()),
        });
    }

    pub(crate) fn load(&mut self, id: ReadId, family: Family, key: Bytes) {
        let value = self.engine.get(family, &key).map_err(|error| error.to_string());
        self.inbox.push(Input::Loaded(id, value));
    }

    pub(crate) fn list(&mut self, id: ReadId, from: Bytes, to: Bytes, limit: usize) {
        let page = list(&*self.engine, &from, &to, limit).map_err(|error| error.to_string());
        self.inbox.push(Input::Listed(id, page));
    }
}

fn list(
    engine: &dyn Engine,
    from: &[u8],
    to: &[u8],
    limit: usize,
) -> Result<ListedPage, StorageError> {
    let limit = PageLimit { entries_max: limit, bytes_max: LIST_BYTES_MAX };
    let page = engine.scan(Family::Data, from..to, limit)?;
    Ok(ListedPage { entries: page.entries, more: page.more })
}
