//! Reading ranges of several tables as one.

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;

use super::merge;
use crate::memtable::Memtable;
use crate::{Family, Page, PageLimit, Snapshot, StorageError};

/// The engine at one moment.
pub(super) struct View<'engine> {
    /// Newest first.
    layers: Vec<Arc<Memtable>>,
    tables: Box<dyn Snapshot + 'engine>,
}

impl<'engine> View<'engine> {
    pub(super) fn new(layers: Vec<Arc<Memtable>>, tables: Box<dyn Snapshot + 'engine>) -> Self {
        Self { layers, tables }
    }
}

impl Snapshot for View<'_> {
    fn scan(
        &self,
        family: Family,
        range: Range<&[u8]>,
        limit: PageLimit,
    ) -> Result<Page, StorageError> {
        first_page(range, |range| {
            let slices = self.layers.iter().map(|table| table.slice(family, &range, limit));
            merge::page(slices.collect(), &*self.tables, (family, range), limit)
        })
    }
}

/// Goes on looking until there is an entry or no more range: `look` answers a page and how far it has looked.
pub(super) fn first_page(
    range: Range<&[u8]>,
    mut look: impl FnMut(Range<Bytes>) -> Result<(Page, Bytes), StorageError>,
) -> Result<Page, StorageError> {
    let end = Bytes::copy_from_slice(range.end);
    let mut from = Bytes::copy_from_slice(range.start);
    while from < end {
        let (page, until) = look(from..end.clone())?;
        if !page.more || !page.entries.is_empty() {
            return Ok(page);
        }
        // Nothing but deletions so far.
        from = until;
    }
    Ok(Page::default())
}
