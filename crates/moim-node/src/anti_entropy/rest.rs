//! What trees do not count: deletions, headers of expired values, and what the contexts of siblings say of them.
//!
//! Comparing trees brings what lives. That is enough for a replica that missed something, because W others hold what it
//! missed; it is not for one that lost its disk, because it was one of those W. Where it had a deletion that another
//! owner never got, that owner would bring the deleted value back into it, and the two would be a quorum. So whoever
//! fills takes the rest first, and a comparison counts only with a peer whose rest it has (INV-7).
//!
//! Live values of `lww` namespaces are left to the trees. Objects with siblings come whole, live ones too: a context
//! without the values that it covers would delete them.

use std::collections::VecDeque;

use bytes::{BufMut, Bytes, BytesMut};
use moim_core::NodeId;
use moim_core::object::Object;
use moim_storage::Family;

use super::entries::Errand;
use super::{Answer, Ask, OBJECTS_IN_FLIGHT_FILL_MAX, PAGE_BYTES_MAX, PAGE_ENTRIES_MAX, Terms};
use crate::api::{Effect, ListedPage, Why};
use crate::coordinator::Listing;
use crate::keyspace;
use crate::node::Node;
use crate::replica::Asker;

/// What is still to be taken of a peer's rest.
#[derive(Debug, Default)]
pub(super) struct Rest {
    /// The persisted key from which on to ask; `None` when all has been asked for.
    from: Option<Bytes>,
    todo: VecDeque<(Errand, Bytes)>,
    in_flight: usize,
}

impl Rest {
    /// All of it.
    pub(super) fn new() -> Self {
        Self { from: Some(Bytes::new()), ..Self::default() }
    }
}

impl Node {
    /// Asks for the next page of a peer's rest, or goes on to the trees after the last.
    pub(super) fn ask_rest(&mut self, peer: NodeId) {
        let Some(exchange) = self.exchanges.get_mut(peer) else { return };
        let Some(rest) = &mut exchange.rest else { return };
        if let Some(from) = rest.from.take() {
            return self.question(peer, Ask::Rest(from));
        }
        exchange.rest = None;
        self.has_rest_of(peer);
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
        rest.from = next;
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

    /// A peer that fills its disk wants this node's rest.
    pub(super) fn begin_asked_rest(&mut self, asker: Asker, terms: Terms, from: Bytes) {
        if self.listings.len() >= self.options.listings_max {
            return self.answer_exchange(asker, Err(Why::Overloaded), crate::gate::NOTHING);
        }
        let id = self.store.next_read();
        self.listings.insert(id, Listing::Rest { asker, terms: Box::new(terms) });
        let to = Bytes::from_static(&keyspace::DATA_END);
        let (family, limit) = (Family::Data, PAGE_ENTRIES_MAX);
        self.effects.push(Effect::List { id, family, from, to, limit });
    }

    /// A page of this node's data has been read for a peer that wants the rest.
    pub(crate) fn on_asked_rest(
        &mut self,
        asker: Asker,
        terms: &Terms,
        page: Result<ListedPage, String>,
    ) {
        let result = match page {
            Ok(page) => Ok(self.rest_of(asker.node, terms, page)),
            Err(_) => Err(Why::Disk),
        };
        let reveals = self.store.last_batch();
        self.answer_exchange(asker, result, reveals);
    }

    fn rest_of(&self, peer: NodeId, terms: &Terms, page: ListedPage) -> Answer {
        let (mut objects, mut bytes) = (Vec::new(), 0);
        let mut next = page.entries.last().filter(|_| page.more).map(|(last, _)| after(last));
        for (persisted, encoded) in page.entries {
            let place = keyspace::place_of(&persisted).map(|(place, ..)| place);
            if !place.is_some_and(|place| self.is_compared(peer, terms, place))
                || !is_rest(&encoded)
            {
                continue;
            }
            bytes += persisted.len() + encoded.len();
            let last = after(&persisted);
            objects.push((persisted, encoded));
            if bytes >= PAGE_BYTES_MAX {
                next = Some(last);
                break;
            }
        }
        Answer::Rest { objects, next }
    }
}

/// Whether trees say too little of an object. What cannot be read is not held; reads report it.
fn is_rest(encoded: &Bytes) -> bool {
    match Object::decode(encoded.clone()) {
        Ok(Object::Lww(version)) => version.value().is_none(),
        Ok(Object::Siblings(_)) => true,
        Err(_) => false,
    }
}

/// The first key after this one.
fn after(persisted: &[u8]) -> Bytes {
    let mut next = BytesMut::with_capacity(persisted.len() + 1);
    next.put_slice(persisted);
    next.put_u8(0);
    next.freeze()
}
