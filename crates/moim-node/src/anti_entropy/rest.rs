//! What a node takes that fills its disk, before trees are compared: what they do not count (deletions, headers of
//! expired values, what the contexts of siblings say of them), and of partitions where it holds nothing, all there is.
//!
//! Comparing trees brings what lives. That is enough for a replica that missed something, because W others hold what it
//! missed; it is not for one that lost its disk, because it was one of those W. Where it had a deletion that another
//! owner never got, that owner would bring the deleted value back into it, and the two would be a quorum. So whoever
//! fills takes the rest first, and a comparison counts only with a peer whose rest it has (INV-7).
//!
//! Live values of `lww` namespaces are left to the trees where this node has some, as after a restored backup: only what
//! differs travels. Where it has none, all of them differ, and they come in the order in which they lie on the peer's
//! disk, a page a question; then the trees agree but for what was written meanwhile. Objects with siblings always come
//! whole, live ones too: a context without the values that it covers would delete them.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use moim_core::NodeId;
use moim_core::merkle::Slice;
use moim_core::object::Object;
use moim_core::ring::Partition;
use moim_storage::Family;

use super::entries::Errand;
use super::{
    Answer, Ask, OBJECTS_IN_FLIGHT_FILL_MAX, PAGE_BYTES_MAX, PAGE_ENTRIES_MAX, PageOfRest, Terms,
};
use crate::api::{Effect, ListedPage, Why};
use crate::coordinator::Listing;
use crate::keyspace;
use crate::node::Node;
use crate::pace::{Grant, Reason};
use crate::replica::Asker;
use crate::timer::Timer;

/// Entries read for one answer where most of them are sent: as many as make a page, by the size that objects have here
/// on average, within these bounds.
const WHOLE_ENTRIES_MIN: usize = 16;
const WHOLE_ENTRIES_MAX: usize = 256;

/// Questions of peers that wait until the pace of this node lets them be answered; beyond it they are refused.
const DEFERRED_MAX: usize = 16;

/// What this node gives to peers that fill their disks. It yields to clients as well: the node that is filled serves
/// none, and does not see what they feel.
#[derive(Debug, Default)]
pub(super) struct Giving {
    /// Bytes of answers that the pace has not granted yet: how many they are is known only after reading.
    unpaid_bytes: u64,
    deferred: BTreeMap<u64, (Asker, Box<(Terms, PageOfRest)>)>,
    next: u64,
}

/// What is still to be taken of a peer's rest.
#[derive(Debug)]
pub(super) struct Rest {
    /// The page to ask for next; `None` when all has been asked for.
    next: Option<PageOfRest>,
    todo: VecDeque<(Errand, Bytes)>,
    in_flight: usize,
}

impl Rest {
    /// All of it in a run of partitions, where this node holds nothing of those in `empty`.
    pub(super) fn new(first: Partition, last: Partition, empty: [u64; 4]) -> Self {
        let (from, _) = keyspace::partitions_range(first, last);
        let next = Some(PageOfRest { from, last, empty });
        Self { next, todo: VecDeque::new(), in_flight: 0 }
    }
}

impl Node {
    /// Asks for the next page of a peer's rest, or goes on to the trees after the last.
    pub(super) fn ask_rest(&mut self, peer: NodeId) {
        let Some(exchange) = self.exchanges.get_mut(peer) else { return };
        let Some(rest) = &mut exchange.rest else { return };
        if let Some(page) = rest.next.clone() {
            return self.question(peer, Ask::Rest(page));
        }
        exchange.rest = None;
        let (first, _) = exchange.span;
        self.has_rest_of(peer, first);
        self.go_on(peer);
    }

    /// A page of the rest has come: what is in it is joined like any other object.
    pub(super) fn on_rest(
        &mut self,
        peer: NodeId,
        objects: Vec<(Bytes, Bytes)>,
        next: Option<Bytes>,
    ) {
        let Some(exchange) = self.exchanges.get_mut(peer) else { return };
        let Some(rest) = &mut exchange.rest else { return };
        rest.next = rest.next.take().zip(next).map(|(page, from)| PageOfRest { from, ..page });
        for (persisted, object) in objects {
            if let Some((namespace, _, key)) = keyspace::split_data_key(&persisted) {
                rest.todo.push_back((Errand::here(namespace, key), object));
            }
        }
        self.join_rest(peer);
    }

    /// An object of the rest has been joined.
    pub(super) fn joined_rest(&mut self, peer: NodeId) {
        if let Some(rest) = self.rest(peer) {
            rest.in_flight -= 1;
            self.join_rest(peer);
        }
    }

    fn rest(&mut self, peer: NodeId) -> Option<&mut Rest> {
        self.exchanges.get_mut(peer)?.rest.as_mut()
    }

    fn join_rest(&mut self, peer: NodeId) {
        while let Some(rest) = self.rest(peer) {
            if rest.in_flight >= OBJECTS_IN_FLIGHT_FILL_MAX {
                return;
            }
            let Some((errand, object)) = rest.todo.pop_front() else { break };
            rest.in_flight += 1;
            let (namespace, key) = errand.place();
            self.put_question(peer, Ask::Object { namespace, key, object }, Some(errand));
        }
        if self.rest(peer).is_some_and(|rest| rest.in_flight == 0) {
            self.begin_page(peer);
        }
    }

    /// A peer that fills its disk wants this node's rest: now, or when the pace allows.
    pub(super) fn begin_asked_rest(&mut self, asker: Asker, terms: &Terms, page: PageOfRest) {
        let bytes = self.exchanges.giving.unpaid_bytes;
        let Grant::Wait(wait_ms) = self.pace.grant(self.now.mono_ms, Reason::Refill, bytes) else {
            self.exchanges.giving.unpaid_bytes -= bytes;
            return self.read_asked_rest(asker, terms, page);
        };
        if self.exchanges.giving.deferred.len() >= DEFERRED_MAX {
            return self.answer_exchange(asker, Err(Why::Overloaded), crate::gate::NOTHING);
        }
        let number = self.exchanges.giving.next;
        self.exchanges.giving.next += 1;
        self.exchanges.giving.deferred.insert(number, (asker, Box::new((*terms, page))));
        self.timers.set(self.now.mono_ms + u64::from(wait_ms), Timer::Give(number));
    }

    /// The pace said to wait, and the time is over.
    pub(crate) fn on_give_due(&mut self, number: u64) {
        let Some((asker, question)) = self.exchanges.giving.deferred.remove(&number) else {
            return;
        };
        if asker.until_mono_ms > self.now.mono_ms {
            let (terms, page) = *question;
            self.begin_asked_rest(asker, &terms, page);
        }
    }

    fn read_asked_rest(&mut self, asker: Asker, terms: &Terms, page: PageOfRest) {
        let (_, to) = keyspace::partitions_range(page.last, page.last);
        let from = page.from.clone();
        // What is sent whole soon fills an answer, and what does not fit has been read in vain.
        let limit = if page.empty == [0; 4] { PAGE_ENTRIES_MAX } else { self.whole_entries() };
        if from >= to {
            let answer = Answer::Rest { objects: Vec::new(), next: None };
            return self.answer_exchange(asker, Ok(answer), self.store.last_batch());
        }
        if self.listings.len() >= self.options.listings_max {
            return self.answer_exchange(asker, Err(Why::Overloaded), crate::gate::NOTHING);
        }
        let id = self.store.next_read();
        self.listings.insert(id, Listing::Rest { asker, question: Box::new((*terms, page)) });
        let family = Family::Data;
        self.effects.push(Effect::List { id, family, from, to, limit });
    }

    /// Entries that make a page, if they are like those in memory.
    fn whole_entries(&self) -> usize {
        let each = self.store.bytes().checked_div(self.store.objects()).unwrap_or(0);
        let each = usize::try_from(each).unwrap_or(usize::MAX).max(1);
        (PAGE_BYTES_MAX / each).clamp(WHOLE_ENTRIES_MIN, WHOLE_ENTRIES_MAX)
    }

    /// A page of this node's data has been read for a peer that wants the rest.
    pub(crate) fn on_asked_rest(
        &mut self,
        asker: Asker,
        question: &(Terms, PageOfRest),
        page: Result<ListedPage, String>,
    ) {
        let result = match page {
            Ok(page) => Ok(self.rest_of(asker.node, question, page)),
            Err(_) => Err(Why::Disk),
        };
        self.exchanges.giving.unpaid_bytes += result.as_ref().map_or(0, Answer::bytes);
        let reveals = self.store.last_batch();
        self.answer_exchange(asker, result, reveals);
    }

    fn rest_of(
        &self,
        peer: NodeId,
        (terms, question): &(Terms, PageOfRest),
        page: ListedPage,
    ) -> Answer {
        let (mut objects, mut bytes) = (Vec::new(), 0);
        let last = page.entries.last().filter(|_| page.more);
        let mut next = last.map(|(last, _)| keyspace::after(last));
        for (persisted, encoded) in page.entries {
            let Some((place, ..)) = keyspace::place_of(&persisted) else { continue };
            if !self.is_compared(peer, terms, place)
                || !(question.is_empty(place.partition) || is_rest(&encoded, terms.horizon_ms))
            {
                continue;
            }
            bytes += persisted.len() + encoded.len();
            let last = keyspace::after(&persisted);
            objects.push((persisted, encoded));
            if bytes >= PAGE_BYTES_MAX {
                next = Some(last);
                break;
            }
        }
        Answer::Rest { objects, next }
    }
}

/// What expires within so many milliseconds is sent as well: it may have left the trees before they are compared.
const SOON_MS: u64 = 60_000;

/// Whether trees say too little of an object, or will soon: what has expired and is not yet given back is in no
/// comparison, and still outranks an older version without a deadline. What cannot be read is not held; reads report it.
fn is_rest(encoded: &Bytes, horizon_ms: u64) -> bool {
    let soon_ms = horizon_ms.saturating_add(SOON_MS);
    match Object::decode(encoded.clone()) {
        Ok(Object::Lww(version)) => {
            version.value().is_none() || Slice::of(&version).has_passed(soon_ms)
        }
        Ok(Object::Siblings(_)) => true,
        Err(_) => false,
    }
}
