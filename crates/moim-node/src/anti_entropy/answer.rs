//! The side that answers. It keeps nothing in mind between questions.

use std::collections::{BTreeMap, BTreeSet};

use moim_core::clock::Hlc;
use moim_core::merkle::{GROUPS, Place, Slice};
use moim_core::ring::Partition;
use moim_core::{NamespaceId, NodeId};
use moim_storage::Family;

use super::entries::{Entry, entries_of};
use super::{
    Answer, Ask, PAGE_BYTES_MAX, PAGE_ENTRIES_MAX, PageOfEntries, SLICES_MAX, SPANS_MAX,
    SliceGroups, SliceSum, Span, Terms,
};
use crate::api::{BatchId, Effect, ListedPage, Why};
use crate::coordinator::Listing;
use crate::gate::{NOTHING, Outgoing};
use crate::keyspace;
use crate::message::Message;
use crate::node::Node;
use crate::replica::{Asker, Work};

impl Node {
    /// A peer compares what it holds with what this node holds.
    pub(crate) fn on_exchange(&mut self, asker: Asker, terms: &Terms, ask: Ask) {
        if let Err(why) = self.check_terms(terms) {
            return self.answer_exchange(asker, Err(why), NOTHING);
        }
        let passed_ms = self.store.trees().passed_ms();
        let answer = match ask {
            Ask::Object { namespace, key, object } => {
                return match self.admit_write(asker.until_mono_ms, (namespace, &key), object) {
                    Ok((target, incoming)) => self.work(Work::Meet { asker, target, incoming }),
                    Err(why) => self.answer_exchange(asker, Err(why), NOTHING),
                };
            }
            Ask::Begin => Answer::Begun(self.comparison_start()),
            _ if terms.horizon_ms < passed_ms => Answer::Passed(passed_ms),
            Ask::Spans(spans) => self.differing_spans(asker.node, terms, &spans),
            Ask::Slices(partition, theirs) => {
                self.differing_slices(asker.node, terms, partition, &theirs)
            }
            Ask::Leaves(place, groups) => self.differing_leaves(asker.node, terms, place, &groups),
            Ask::Entries(page) => return self.begin_asked_page(asker, terms, page),
            Ask::Rest(page) => return self.begin_asked_rest(asker, terms, page),
            Ask::Done(partition) => {
                self.note_equal((asker.node, terms.filled), partition, terms, terms.theirs);
                Answer::Done
            }
        };
        let reveals = self.store.last_batch();
        self.answer_exchange(asker, Ok(answer), reveals);
    }

    pub(crate) fn answer_exchange(
        &mut self,
        to: Asker,
        result: Result<Answer, Why>,
        reveals: BatchId,
    ) {
        let reply = Message::ExchangeReply { op: to.op, result };
        self.send(reveals, Outgoing::Peer(to.node, reply));
    }

    fn check_terms(&self, terms: &Terms) -> Result<(), Why> {
        if self.halted.is_some() {
            return Err(Why::Disk);
        }
        let record = self.record().ok_or(Why::NotReady)?;
        if record.ring.version() != terms.ring {
            return Err(Why::NotReady);
        }
        Ok(())
    }

    fn differing_spans(&mut self, from: NodeId, terms: &Terms, spans: &[Span]) -> Answer {
        let mut differ = Vec::new();
        for (at, span) in (0_u16..).zip(spans.iter().take(SPANS_MAX)) {
            let (first, last) = (span.first, span.last);
            if self.span_sum(from, terms, (first, last)) != span.sum {
                differ.push(at);
                continue;
            }
            for at in (first.get()..=last.get()).filter_map(keyspace::partition) {
                if self.shares(from, at.get()) {
                    self.note_equal((from, terms.filled), at, terms, terms.theirs);
                }
            }
        }
        Answer::Spans(differ, self.has_all())
    }

    fn differing_slices(
        &self,
        from: NodeId,
        terms: &Terms,
        partition: Partition,
        theirs: &[SliceSum],
    ) -> Answer {
        let mut sums: BTreeMap<(NamespaceId, Slice), [Option<u64>; 2]> = BTreeMap::new();
        for own in self.slice_sums(from, terms, partition) {
            sums.entry((own.namespace, own.slice)).or_default()[0] = Some(own.sum);
        }
        for known in theirs.iter().filter(|known| !known.slice.has_passed(terms.horizon_ms)) {
            if self.is_compared(from, terms, Place { partition, namespace: known.namespace }) {
                sums.entry((known.namespace, known.slice)).or_default()[1] = Some(known.sum);
            }
        }
        let differing = sums.into_iter().filter(|(_, [own, theirs])| own != theirs);
        let groups = differing.take(SLICES_MAX).map(|((namespace, slice), _)| {
            let groups = self.store.trees().groups(Place { partition, namespace }, slice);
            SliceGroups { namespace, slice, groups }
        });
        Answer::Slices(groups.collect())
    }

    fn differing_leaves(
        &self,
        from: NodeId,
        terms: &Terms,
        place: Place,
        groups: &[(u8, [u64; GROUPS])],
    ) -> Answer {
        if !self.is_compared(from, terms, place) {
            return Answer::Leaves(Vec::new());
        }
        let leaves = groups.iter().take(GROUPS).map(|&(group, theirs)| {
            let own = self.store.trees().leaves(place, group);
            let differs = |&(_, (own, theirs)): &(u16, (&u64, &u64))| own != theirs;
            let pairs = (0_u16..).zip(own.iter().zip(&theirs));
            (group, pairs.filter(differs).fold(0, |bits, (leaf, _)| bits | (1 << leaf)))
        });
        Answer::Leaves(leaves.collect())
    }

    fn begin_asked_page(&mut self, asker: Asker, terms: &Terms, page: PageOfEntries) {
        let refused = match () {
            () if self.listings.len() >= self.options.listings_max => Some(Why::Overloaded),
            () if !self.is_compared(asker.node, terms, page.place) => Some(Why::NotReady),
            () => None,
        };
        if let Some(why) = refused {
            return self.answer_exchange(asker, Err(why), NOTHING);
        }
        let Place { partition, namespace } = page.place;
        let (from, mut to) = keyspace::data_range(partition, namespace, page.from_hash);
        if let Some(below) = page.below {
            (to, _) = keyspace::data_range(partition, namespace, below);
        }
        let id = self.store.next_read();
        self.listings.insert(id, Listing::Asked { asker, page: Box::new(page) });
        let (family, limit) = (Family::Data, PAGE_ENTRIES_MAX);
        self.effects.push(Effect::List { id, family, from, to, limit });
    }

    /// A page that a peer asked for has been read.
    pub(crate) fn on_asked_page(
        &mut self,
        asker: Asker,
        question: &PageOfEntries,
        page: Result<ListedPage, String>,
    ) {
        let result = match page {
            Ok(page) => Ok(compare_page(question, page)),
            Err(_) => Err(Why::Disk),
        };
        let reveals = self.store.last_batch();
        self.answer_exchange(asker, result, reveals);
    }

    /// The sum of the roots of all trees of a run of partitions that both own.
    pub(super) fn span_sum(
        &self,
        peer: NodeId,
        terms: &Terms,
        (first, last): (Partition, Partition),
    ) -> u64 {
        if first > last {
            return 0;
        }
        let trees = self.store.trees();
        let places =
            trees.places(first..=last).filter(|&place| self.is_compared(peer, terms, place));
        places.fold(0, |sum, place| u64::wrapping_add(sum, trees.root(place, terms.horizon_ms).sum))
    }

    /// The roots of all trees that this node owns, less those that are empty: the sums of what expires after
    /// `horizon_ms` (Unix milliseconds) or never. For checkers: owners that hold the same have the same.
    pub fn tree_roots(&self, horizon_ms: u64) -> BTreeMap<Place, u64> {
        let trees = self.store.trees();
        let horizon_ms = if self.keeps_passed_slices() { 0 } else { horizon_ms };
        let Some(record) = &self.record else { return BTreeMap::new() };
        let is_owned = |place: &Place| {
            let policy = self.namespaces.get(place.namespace);
            policy.is_some_and(|policy| {
                record.ring.owns(self.info.member.node, place.partition, policy.n)
            })
        };
        let last = record.ring.partitions().get() - 1;
        let (Some(first), Some(last)) = (keyspace::partition(0), keyspace::partition(last)) else {
            return BTreeMap::new();
        };
        let roots = trees.places(first..=last).filter(is_owned);
        let roots = roots.map(|place| (place, trees.root(place, horizon_ms)));
        roots.filter(|(_, root)| !root.is_empty()).map(|(place, root)| (place, root.sum)).collect()
    }

    /// Whether a tree is compared: both own it.
    pub(super) fn is_compared(&self, peer: NodeId, terms: &Terms, place: Place) -> bool {
        if terms.namespace.is_some_and(|only| only != place.namespace) {
            return false;
        }
        let (Some(record), Some(policy)) = (&self.record, self.namespaces.get(place.namespace))
        else {
            return false;
        };
        let owns = |node| record.ring.owns(node, place.partition, policy.n);
        place.partition.get() < record.ring.partitions().get()
            && owns(self.info.member.node)
            && owns(peer)
    }

    /// Whether both own anything of a partition.
    pub(super) fn shares(&self, peer: NodeId, partition: u16) -> bool {
        let Some(record) = &self.record else { return false };
        let Some(partition) = record.ring.partitions().partition(partition) else { return false };
        let owns = |node| record.ring.owns(node, partition, self.copies_max);
        owns(self.info.member.node) && owns(peer)
    }

    /// Remembers that both hold the same of a partition, as far as it was compared, `since` a moment of this node's
    /// clock.
    pub(super) fn note_equal(
        &mut self,
        (peer, peer_filled): (NodeId, bool),
        partition: Partition,
        terms: &Terms,
        since: Hlc,
    ) {
        if terms.namespace.is_none() {
            self.comparisons.note(peer, partition, since, terms.horizon_ms);
            self.filled_from(peer, partition, peer_filled);
        }
    }
}

/// What one side named and the other has, and what it has beside that: up to the last key that fits.
fn compare_page(question: &PageOfEntries, page: ListedPage) -> Answer {
    let (entries, mut complete_below) = entries_of(page, question.place, &question.slices);
    let held: BTreeSet<u64> = entries.iter().map(|entry| entry.sum).collect();
    let named: BTreeSet<u64> = question.entries.iter().copied().collect();
    let mut present = vec![0_u8; question.entries.len().div_ceil(8)];
    for (at, sum) in question.entries.iter().enumerate() {
        if held.contains(sum) {
            present[at / 8] |= 1 << (at % 8);
        }
    }
    let mut objects = Vec::new();
    let (mut bytes, mut last_hash) = (0, None);
    for Entry { key_hash, key, encoded, sum } in entries {
        if named.contains(&sum) || objects.last().is_some_and(|(last, _)| *last == key) {
            continue;
        }
        // Keys of one hash go together: a page ends between hashes.
        if bytes >= PAGE_BYTES_MAX && last_hash != Some(key_hash) {
            complete_below = Some(key_hash);
            break;
        }
        bytes += key.len() + encoded.len();
        last_hash = Some(key_hash);
        objects.push((key, encoded));
    }
    Answer::Entries { present, objects, complete_below }
}
