//! The side that asks, at the bottom: pages of entries, and objects both ways.
//!
//! An object goes to one of the two replicas, is joined there like any other, and comes back if that one held more;
//! then it goes to the other, until neither has more. So it does not matter who held what: a tombstone that meets an
//! old value ends up at both.

use std::collections::{BTreeSet, VecDeque};

use bytes::Bytes;
use moim_core::NamespaceId;
use moim_core::NodeId;
use moim_core::merkle::{Place, Slice, entry_hash};
use moim_core::object::Object;
use moim_storage::Family;

use super::{
    Ask, OBJECTS_IN_FLIGHT_FILL_MAX, OBJECTS_IN_FLIGHT_MAX, PAGE_ENTRIES_MAX, PageOfEntries,
};
use crate::api::{Effect, ListedPage};
use crate::coordinator::Listing;
use crate::keyspace;
use crate::node::Node;
use crate::pace::{Grant, Reason};
use crate::timer::Timer;

/// A contiguous range of keys of one tree that holds something different.
#[derive(Debug)]
pub(super) struct HashRange {
    place: Place,
    slices: Vec<Slice>,
    from_hash: u32,
    /// `None` for the last.
    below: Option<u32>,
}

impl HashRange {
    /// All keys of a tree.
    pub(super) fn of_tree(place: Place, slices: Vec<Slice>) -> Self {
        Self { place, slices, from_hash: 0, below: None }
    }

    /// All keys whose hashes begin with the four bits of a group.
    pub(super) fn of_group(place: Place, group: u8, slices: Vec<Slice>) -> Self {
        let from_hash = u32::from(group & 0x0f) << 28;
        Self { place, slices, from_hash, below: from_hash.checked_add(1 << 28) }
    }

    /// Runs of leaves of lasting values, one bit each.
    pub(super) fn of_leaves(place: Place, group: u8, leaves: u16) -> Vec<Self> {
        let mut ranges: Vec<Self> = Vec::new();
        for leaf in (0..16_u32).filter(|leaf| leaves & (1 << leaf) != 0) {
            let from_hash = (u32::from(group & 0x0f) << 28) | (leaf << 24);
            let below = from_hash.checked_add(1 << 24);
            match ranges.last_mut() {
                Some(run) if run.below == Some(from_hash) => run.below = below,
                _ => ranges.push(Self { place, slices: vec![Slice::NEVER], from_hash, below }),
            }
        }
        ranges
    }
}

/// A page under way.
#[derive(Debug, Default)]
pub(super) struct Page {
    /// Complete for hashes below this; `None` for the whole range.
    end: Option<u32>,
    entries: Vec<Entry>,
    todo: VecDeque<(Errand, Bytes)>,
    in_flight: usize,
}

/// Something that counts in a tree.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) sum: u64,
    pub(super) key_hash: u32,
    pub(super) key: Bytes,
    pub(super) encoded: Bytes,
}

/// An object on its way to one of the two.
#[derive(Clone, Debug)]
pub(crate) struct Errand {
    /// To this node's own replica.
    pub(super) is_here: bool,
    namespace: NamespaceId,
    key: Bytes,
}

impl Errand {
    /// To this node's own replica.
    pub(super) fn here(namespace: NamespaceId, key: Bytes) -> Self {
        Self { is_here: true, namespace, key }
    }

    pub(super) fn place(&self) -> (NamespaceId, Bytes) {
        (self.namespace, self.key.clone())
    }
}

/// What of a page read from disk counts in some slices, and up to where the page is complete.
pub(super) fn entries_of(
    page: ListedPage,
    place: Place,
    slices: &[Slice],
) -> (Vec<Entry>, Option<u32>) {
    let mut entries = Vec::new();
    let mut hashes = Vec::with_capacity(page.entries.len());
    for (persisted, encoded) in page.entries {
        let Some((_, key_hash, key)) = keyspace::split_data_key(&persisted) else { continue };
        hashes.push((key_hash, ()));
        // What cannot be read is not held; reads report it.
        let Ok(object) = Object::decode(encoded.clone()) else { continue };
        let counts = object.versions().iter().filter(|version| version.value().is_some());
        for version in counts.filter(|version| slices.contains(&Slice::of(version))) {
            let sum = entry_hash(place.namespace, &key, version);
            let (key, encoded) = (key.clone(), encoded.clone());
            entries.push(Entry { sum, key_hash, key, encoded });
        }
    }
    let end = if page.more { crate::coordinator::last_whole_hash(&hashes) } else { None };
    entries.retain(|entry| end.is_none_or(|end| entry.key_hash < end));
    (entries, end)
}

impl Node {
    /// Begins with the next page of the range at hand, as soon as the pace allows.
    pub(super) fn begin_page(&mut self, peer: NodeId) {
        let Some(exchange) = self.exchanges.get_mut(peer) else { return };
        let reason = if exchange.fills() { Reason::Refill } else { Reason::Repair };
        // What the last page brought is paid for before the next begins: only then is it known.
        let bytes = exchange.view.bytes - exchange.paid_bytes;
        let id = exchange.id;
        match self.pace.grant(self.now.mono_ms, reason, bytes) {
            Grant::Go => exchange.paid_bytes += bytes,
            Grant::Wait(wait_ms) => {
                let at = self.now.mono_ms + u64::from(wait_ms);
                return self.timers.set(at, Timer::ExchangePage(peer, id));
            }
        }
        if self.exchanges.get_mut(peer).is_some_and(|exchange| exchange.rest.is_some()) {
            return self.ask_rest(peer);
        }
        let Some(range) = self.range(peer) else { return };
        let place = range.place;
        let (from, mut to) =
            keyspace::data_range(place.partition, place.namespace, range.from_hash);
        if let Some(below) = range.below {
            (to, _) = keyspace::data_range(place.partition, place.namespace, below);
        }
        let since = self.clock.last();
        if let Some(work) = self.exchanges.get_mut(peer).and_then(|running| running.work.as_mut()) {
            work.reading_since = Some(since);
        }
        let read = self.store.next_read();
        self.listings.insert(read, Listing::Page { peer, exchange: id });
        let (family, limit) = (Family::Data, PAGE_ENTRIES_MAX);
        self.effects.push(Effect::List { id: read, family, from, to, limit });
    }

    /// The pace said to wait, and the time is over.
    pub(crate) fn on_page_due(&mut self, peer: NodeId, exchange: u64) {
        if self.exchanges.get_mut(peer).is_some_and(|running| running.id == exchange) {
            self.go_on(peer);
        }
    }

    fn range(&mut self, peer: NodeId) -> Option<&mut HashRange> {
        self.exchanges.get_mut(peer)?.work.as_mut()?.ranges.front_mut()
    }

    fn page(&mut self, peer: NodeId) -> Option<&mut Page> {
        self.exchanges.get_mut(peer)?.work.as_mut()?.page.as_mut()
    }

    /// This node's part of a page has been read: ask for the peer's.
    pub(crate) fn on_own_page(
        &mut self,
        peer: NodeId,
        exchange: u64,
        page: Result<ListedPage, String>,
    ) {
        if self.exchanges.get_mut(peer).is_none_or(|running| running.id != exchange) {
            return;
        }
        let Ok(page) = page else { return self.end_exchange(peer, Some("its disk failed")) };
        let Some(range) = self.range(peer) else { return };
        let (place, slices, from_hash) = (range.place, range.slices.clone(), range.from_hash);
        let (entries, end) = entries_of(page, place, &slices);
        let below = end.or(range.below);
        let sums = entries.iter().map(|entry| entry.sum).collect();
        let question = PageOfEntries { place, slices, from_hash, below, entries: sums };
        if let Some(work) = self.exchanges.get_mut(peer).and_then(|running| running.work.as_mut()) {
            work.page = Some(Page { end, entries, ..Page::default() });
        }
        self.question(peer, Ask::Entries(question));
    }

    /// The peer has told what it lacks and what this node lacks.
    pub(super) fn on_entries(
        &mut self,
        peer: NodeId,
        present: &[u8],
        objects: Vec<(Bytes, Bytes)>,
        complete_below: Option<u32>,
    ) {
        let Some(range) = self.range(peer) else { return };
        let (namespace, from_hash) = (range.place.namespace, range.from_hash);
        if complete_below.is_some_and(|below| below <= from_hash) {
            return self.end_exchange(peer, Some("it does not get on"));
        }
        let Some(page) = self.page(peer) else { return };
        page.end = [page.end, complete_below].into_iter().flatten().min();
        let mut named = BTreeSet::new();
        for (at, entry) in std::mem::take(&mut page.entries).into_iter().enumerate() {
            let is_present = present.get(at / 8).is_some_and(|bits| bits & (1 << (at % 8)) != 0);
            let is_answered = page.end.is_none_or(|end| entry.key_hash < end);
            if is_answered && !is_present && named.insert(entry.key.clone()) {
                let errand = Errand { is_here: false, namespace, key: entry.key };
                page.todo.push_back((errand, entry.encoded));
            }
        }
        for (key, object) in objects {
            // A key that both hold differently needs one way only: each way ends with the join at both.
            if named.insert(key.clone()) {
                page.todo.push_back((Errand { is_here: true, namespace, key }, object));
            }
        }
        let keys = page.todo.len() as u64;
        self.progress(peer, |view| view.keys += keys);
        self.figures.exchanged_keys += keys;
        self.run_errands(peer);
    }

    /// Sends objects, as many as may be on their way, and ends the page after the last.
    fn run_errands(&mut self, peer: NodeId) {
        let fills = self.exchanges.get_mut(peer).is_some_and(|exchange| exchange.fills());
        let most = if fills { OBJECTS_IN_FLIGHT_FILL_MAX } else { OBJECTS_IN_FLIGHT_MAX };
        while let Some(page) = self.page(peer) {
            if page.in_flight >= most {
                return;
            }
            let Some((errand, object)) = page.todo.pop_front() else { break };
            page.in_flight += 1;
            let (namespace, key) = (errand.namespace, errand.key.clone());
            self.put_question(peer, Ask::Object { namespace, key, object }, Some(errand));
        }
        if self.page(peer).is_some_and(|page| page.in_flight == 0) {
            self.end_page(peer);
        }
    }

    /// One of the two has joined an object; if it held more, the other gets that.
    pub(super) fn on_object(&mut self, peer: NodeId, errand: Errand, more: Option<Bytes>) {
        let Some(page) = self.page(peer) else { return self.joined_rest(peer) };
        page.in_flight -= 1;
        if let Some(object) = more {
            page.todo.push_front((Errand { is_here: !errand.is_here, ..errand }, object));
        }
        self.run_errands(peer);
    }

    fn end_page(&mut self, peer: NodeId) {
        let Some(exchange) = self.exchanges.get_mut(peer) else { return };
        let Some(work) = &mut exchange.work else { return };
        work.reading_since = None;
        let end = work.page.take().and_then(|page| page.end);
        match (end, work.ranges.front_mut()) {
            (Some(end), Some(range)) => range.from_hash = end,
            _ => drop(work.ranges.pop_front()),
        }
        self.go_on(peer);
    }
}
