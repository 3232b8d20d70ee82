//! One page out of memory tables and the tables below them: what is newer hides what is older.

use std::ops::Range;

use bytes::Bytes;

use crate::memtable::{Ranges, Slice};
use crate::{Family, Page, PageLimit, Snapshot, StorageError};

/// What the memory tables say together about the beginning of a range.
struct Overlay {
    entries: Vec<(Bytes, Option<Bytes>)>,
    erased: Ranges,
    until: Bytes,
}

impl Overlay {
    /// `slices` are of one range, newest first.
    fn of(slices: Vec<Slice>, end: &Bytes) -> Self {
        let until = slices.iter().map(|slice| &slice.until).min().unwrap_or(end).clone();
        let mut slices = slices.into_iter();
        let newest = slices.next().unwrap_or_default();
        let mut overlay = Self { entries: newest.entries, erased: newest.erased, until };
        overlay.entries.retain(|(key, _)| *key < overlay.until);
        for older in slices {
            overlay.add(older);
        }
        overlay
    }

    fn add(&mut self, older: Slice) {
        let mut merged = Vec::with_capacity(self.entries.len() + older.entries.len());
        let mut newer = std::mem::take(&mut self.entries).into_iter().peekable();
        for (key, value) in older.entries {
            while let Some(entry) = newer.next_if(|(newer, _)| *newer < key) {
                merged.push(entry);
            }
            let is_hidden =
                newer.peek().is_some_and(|(newer, _)| *newer == key) || self.erased.covers(&key);
            if !is_hidden && key < self.until {
                merged.push((key, value));
            }
        }
        merged.extend(newer);
        self.entries = merged;
        self.erased.extend(older.erased);
    }
}

/// A page being filled.
struct Filling {
    page: Page,
    bytes: usize,
    limit: PageLimit,
}

impl Filling {
    /// Takes an entry, or says that there was no room for it, and so the page is done.
    fn take(&mut self, key: Bytes, value: Bytes) -> bool {
        let entry_bytes = key.len() + value.len();
        if !self.limit.admits(self.page.entries.len(), self.bytes, entry_bytes) {
            self.page.more = true;
            return false;
        }
        self.bytes += entry_bytes;
        self.page.entries.push((key, value));
        true
    }
}

/// One page of `range`, or as much of it as the slices know about. If that leaves the page empty and `more`, the range
/// goes on at the key that is answered.
pub(super) fn page(
    slices: Vec<Slice>,
    tables: &dyn Snapshot,
    (family, range): (Family, Range<Bytes>),
    limit: PageLimit,
) -> Result<(Page, Bytes), StorageError> {
    let overlay = Overlay::of(slices, &range.end);
    let mut filling = Filling { page: Page::default(), bytes: 0, limit };
    let mut newer = overlay.entries.into_iter().peekable();
    let mut from = range.start;
    loop {
        let older = tables.scan(family, &from[..]..&overlay.until[..], limit)?;
        for (key, value) in older.entries {
            while let Some((key, value)) = newer.next_if(|(newer, _)| *newer < key) {
                if value.is_some_and(|value| !filling.take(key, value)) {
                    return Ok((filling.page, overlay.until));
                }
            }
            from = Bytes::copy_from_slice(&[&key[..], &[0]].concat());
            let is_hidden =
                newer.peek().is_some_and(|(newer, _)| *newer == key) || overlay.erased.covers(&key);
            if !is_hidden && !filling.take(key, value) {
                return Ok((filling.page, overlay.until));
            }
        }
        if !older.more {
            break;
        }
    }
    for (key, value) in newer {
        if value.is_some_and(|value| !filling.take(key, value)) {
            return Ok((filling.page, overlay.until));
        }
    }
    filling.page.more = overlay.until < range.end;
    Ok((filling.page, overlay.until))
}
