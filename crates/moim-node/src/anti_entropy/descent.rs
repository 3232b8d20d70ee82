//! The side that asks: from the sum of everything down to the leaves that differ.

use std::collections::{BTreeMap, VecDeque};

use moim_core::clock::Hlc;
use moim_core::merkle::{GROUPS, Place, Slice};
use moim_core::ring::Partition;
use moim_core::{NamespaceId, NodeId};

use super::entries::{HashRange, Page};
use super::rest::Rest;
use super::{
    Answer, Ask, Question, SLICES_MAX, SMALL_TREE_ENTRIES, SPAN_PARTS, SPANS_MAX, SliceGroups,
    SliceSum, Span, Terms,
};
use crate::api::Why;
use crate::coordinator::Operation;
use crate::gate::{NOTHING, Outgoing};
use crate::keyspace;
use crate::message::{Message, OpId};
use crate::node::Node;
use crate::views::{ExchangeReason, ExchangeView};

/// One exchange that this node asks in.
#[derive(Debug)]
pub(crate) struct Exchange {
    pub(super) id: u64,
    pub(super) reason: ExchangeReason,
    pub(super) terms: Terms,
    /// The partitions that it is about: first and last.
    pub(super) span: (u16, u16),
    /// Runs of partitions still to be compared: first and last.
    frontier: VecDeque<(u16, u16)>,
    /// Those asked about now.
    asked: Vec<(u16, u16)>,
    differing: VecDeque<Partition>,
    pub(super) work: Option<Work>,
    /// What is to be taken before trees are compared, by a node that fills its disk.
    pub(super) rest: Option<Rest>,
    /// The peer has all its partitions.
    pub(super) peer_filled: bool,
    pub(super) view: ExchangeView,
    /// Bytes of it that the pace has granted.
    pub(super) paid_bytes: u64,
}

/// The partition that is being repaired.
#[derive(Debug)]
pub(super) struct Work {
    partition: Partition,
    /// Namespaces whose groups of lasting values differ, with the groups: their leaves are still to be compared.
    leaves: BTreeMap<NamespaceId, Vec<u8>>,
    pub(super) ranges: VecDeque<HashRange>,
    pub(super) page: Option<Page>,
    /// Since when a page is being read or sent.
    pub(super) reading_since: Option<Hlc>,
    /// Whose leaves are being asked about.
    asking: Option<NamespaceId>,
    /// There were more slices than one message names: the next exchange goes on.
    partial: bool,
    done: bool,
}

impl Work {
    fn new(partition: Partition) -> Self {
        let (leaves, ranges) = (BTreeMap::new(), VecDeque::new());
        Self {
            partition,
            leaves,
            ranges,
            page: None,
            reading_since: None,
            asking: None,
            partial: false,
            done: false,
        }
    }
}

impl Exchange {
    pub(super) fn new(
        (id, reason): (u64, ExchangeReason),
        terms: Terms,
        span: (u16, u16),
        mono_ms: u64,
    ) -> Self {
        Self {
            id,
            reason,
            terms,
            span,
            frontier: match reason {
                // What its peer has was taken just before, so that all but a few partitions are equal.
                ExchangeReason::Fill => (span.0..=span.1).map(|at| (at, at)).collect(),
                _ => VecDeque::from([span]),
            },
            asked: Vec::new(),
            differing: VecDeque::new(),
            work: None,
            rest: None,
            peer_filled: false,
            view: ExchangeView::new(reason, mono_ms),
            paid_bytes: 0,
        }
    }

    /// Since when objects that were read for this may still be sent.
    pub(super) fn oldest(&self) -> Option<Hlc> {
        self.work.as_ref()?.reading_since
    }

    pub(super) fn shown(&self, peer: NodeId) -> ExchangeView {
        ExchangeView { peer, ..self.view }
    }
}

/// What to do next.
enum Step {
    Rest,
    Spans,
    Slices(Partition),
    Leaves(NamespaceId),
    Range,
    Done(Partition),
    End,
}

impl Exchange {
    fn next_step(&mut self) -> Step {
        if self.rest.is_some() {
            return Step::Rest;
        }
        match &mut self.work {
            Some(work) => match work.leaves.keys().next() {
                Some(&namespace) => Step::Leaves(namespace),
                None if !work.ranges.is_empty() => Step::Range,
                None if work.done || work.partial => {
                    self.work = None;
                    self.next_step()
                }
                None => Step::Done(work.partition),
            },
            None if !self.frontier.is_empty() => Step::Spans,
            None => self.differing.pop_front().map_or(Step::End, Step::Slices),
        }
    }
}

impl Node {
    /// Asks the next question, or ends.
    pub(super) fn go_on(&mut self, peer: NodeId) {
        let horizon_ms = self.horizon_ms(peer);
        let Some(exchange) = self.exchanges.get_mut(peer) else { return };
        exchange.terms.horizon_ms = horizon_ms;
        match exchange.next_step() {
            Step::Rest | Step::Range => self.begin_page(peer),
            Step::Spans => self.ask_spans(peer),
            Step::Slices(partition) => self.ask_slices(peer, partition),
            Step::Leaves(namespace) => self.ask_leaves(peer, namespace),
            Step::Done(partition) => self.question(peer, Ask::Done(partition)),
            Step::End => self.end_exchange(peer, None),
        }
    }

    /// Puts a question to the peer. It reveals everything held here, so it leaves when that is durable.
    pub(super) fn question(&mut self, peer: NodeId, ask: Ask) {
        self.put_question(peer, ask, None);
    }

    pub(super) fn put_question(&mut self, peer: NodeId, ask: Ask, errand: Option<super::Errand>) {
        let Some(exchange) = self.exchanges.get_mut(peer) else { return };
        let (terms, begun, exchange) = (exchange.terms, exchange.oldest(), exchange.id);
        let is_here = errand.as_ref().is_some_and(|errand| errand.is_here);
        let to = if is_here { self.info.member.node } else { peer };
        let reveals = match ask {
            // That a comparison begins, and that nothing is held, tells nothing of what is.
            Ask::Begin | Ask::Rest(_) => NOTHING,
            // What goes to this node's own replica tells nobody anything.
            _ if is_here => NOTHING,
            _ => self.store.last_batch(),
        };
        if !is_here {
            self.progress(peer, |view| view.bytes += ask.bytes());
        }
        let deadline = self.now.mono_ms + u64::from(self.options.exchange_answer_ms);
        let begun = begun.filter(|_| errand.is_some());
        let question = Question { peer, exchange, begun, errand };
        let op = self.register(deadline, Operation::Exchange(Box::new(question)));
        self.send(reveals, Outgoing::Peer(to, Message::Exchange { op, terms, ask: Box::new(ask) }));
    }

    fn ask_spans(&mut self, peer: NodeId) {
        let Some(exchange) = self.exchanges.get_mut(peer) else { return };
        let count = exchange.frontier.len().min(SPANS_MAX);
        let asked: Vec<_> = exchange.frontier.drain(..count).collect();
        exchange.asked.clone_from(&asked);
        let terms = exchange.terms;
        let span = |&(first, last): &(u16, u16)| {
            let (first, last) = (keyspace::partition(first)?, keyspace::partition(last)?);
            Some(Span { first, last, sum: self.span_sum(peer, &terms, (first, last)) })
        };
        let spans = asked.iter().filter_map(span).collect();
        self.question(peer, Ask::Spans(spans));
    }

    fn on_spans(&mut self, peer: NodeId, differ: &[u16], filled: bool) {
        let Some(exchange) = self.exchanges.get_mut(peer) else { return };
        exchange.peer_filled = filled;
        let terms = exchange.terms;
        let mut equal = Vec::new();
        for (at, (first, last)) in (0_u16..).zip(std::mem::take(&mut exchange.asked)) {
            if !differ.contains(&at) {
                equal.push((first, last));
            } else if first < last {
                let width = (last - first) / SPAN_PARTS + 1;
                let firsts = (first..=last).step_by(usize::from(width));
                exchange.frontier.extend(firsts.map(|from| (from, last.min(from + (width - 1)))));
            } else if let Some(partition) = keyspace::partition(first) {
                exchange.differing.push_back(partition);
            }
        }
        for (first, last) in equal {
            for at in (first..=last).filter_map(keyspace::partition) {
                self.found_equal(peer, at, &terms, filled);
            }
        }
        self.go_on(peer);
    }

    /// All that either of the two held of a partition when the comparison began is at both.
    fn found_equal(&mut self, peer: NodeId, partition: Partition, terms: &Terms, filled: bool) {
        if self.shares(peer, partition.get()) {
            self.progress(peer, |view| view.partitions_done += 1);
            self.note_equal((peer, filled), partition, terms, terms.since);
        }
    }

    fn ask_slices(&mut self, peer: NodeId, partition: Partition) {
        let Some(exchange) = self.exchanges.get_mut(peer) else { return };
        let terms = exchange.terms;
        exchange.work = Some(Work::new(partition));
        let mut slices = self.slice_sums(peer, &terms, partition);
        if slices.len() > SLICES_MAX {
            slices.truncate(SLICES_MAX);
            self.is_partial(peer);
        }
        self.question(peer, Ask::Slices(partition, slices));
    }

    fn is_partial(&mut self, peer: NodeId) {
        if let Some(work) = self.exchanges.get_mut(peer).and_then(|exchange| exchange.work.as_mut())
        {
            work.partial = true;
        }
    }

    /// The slices of all shared trees of a partition.
    pub(super) fn slice_sums(
        &self,
        peer: NodeId,
        terms: &Terms,
        partition: Partition,
    ) -> Vec<SliceSum> {
        let trees = self.store.trees();
        let mut sums = Vec::new();
        for place in trees.places(partition..=partition) {
            if self.is_compared(peer, terms, place) {
                let namespace = place.namespace;
                let slices = trees.slices(place, terms.horizon_ms);
                sums.extend(slices.map(|(slice, cell)| SliceSum {
                    namespace,
                    slice,
                    sum: cell.sum,
                }));
            }
        }
        sums
    }

    /// What differs, by namespace: small trees are looked at as they are; of others the groups in which only lasting
    /// values differ have their leaves compared.
    fn on_slices(&mut self, peer: NodeId, theirs: &[SliceGroups]) {
        let Some(work) = self.exchanges.get_mut(peer).and_then(|exchange| exchange.work.as_mut())
        else {
            return;
        };
        let partition = work.partition;
        let mut differing: BTreeMap<(NamespaceId, u8), Vec<Slice>> = BTreeMap::new();
        let mut small: BTreeMap<NamespaceId, Vec<Slice>> = BTreeMap::new();
        for SliceGroups { namespace, slice, groups } in theirs.iter().take(SLICES_MAX) {
            let place = Place { partition, namespace: *namespace };
            if self.store.trees().root(place, 0).count <= SMALL_TREE_ENTRIES {
                small.entry(*namespace).or_default().push(*slice);
                continue;
            }
            let own = self.store.trees().groups(place, *slice);
            for (group, (own, theirs)) in (0_u8..).zip(own.iter().zip(groups)) {
                if own != theirs {
                    differing.entry((*namespace, group)).or_default().push(*slice);
                }
            }
        }
        let Some(work) = self.exchanges.get_mut(peer).and_then(|exchange| exchange.work.as_mut())
        else {
            return;
        };
        work.partial |= theirs.len() >= SLICES_MAX;
        for (namespace, slices) in small {
            let place = Place { partition, namespace };
            work.ranges.push_back(HashRange::of_tree(place, slices));
        }
        for ((namespace, group), slices) in differing {
            let place = Place { partition, namespace };
            if slices == [Slice::NEVER] {
                work.leaves.entry(namespace).or_default().push(group);
            } else {
                work.ranges.push_back(HashRange::of_group(place, group, slices));
            }
        }
        self.go_on(peer);
    }

    fn ask_leaves(&mut self, peer: NodeId, namespace: NamespaceId) {
        let Some(exchange) = self.exchanges.get_mut(peer) else { return };
        let Some(work) = &mut exchange.work else { return };
        let Some(groups) = work.leaves.remove(&namespace) else { return };
        let place = Place { partition: work.partition, namespace };
        work.asking = Some(namespace);
        let trees = self.store.trees();
        let groups = groups.into_iter().map(|group| (group, trees.leaves(place, group))).collect();
        self.question(peer, Ask::Leaves(place, groups));
    }

    fn on_leaves(&mut self, peer: NodeId, differ: &[(u8, u16)]) {
        let Some(exchange) = self.exchanges.get_mut(peer) else { return };
        let Some(work) = &mut exchange.work else { return };
        let Some(namespace) = work.asking.take() else { return };
        let place = Place { partition: work.partition, namespace };
        for &(group, leaves) in differ.iter().take(GROUPS) {
            work.ranges.extend(HashRange::of_leaves(place, group, leaves));
        }
        self.go_on(peer);
    }

    fn on_done(&mut self, peer: NodeId) {
        let Some(exchange) = self.exchanges.get_mut(peer) else { return };
        let (terms, filled) = (exchange.terms, exchange.peer_filled);
        let Some(work) = &mut exchange.work else { return };
        work.done = true;
        let partition = work.partition;
        self.found_equal(peer, partition, &terms, filled);
        self.go_on(peer);
    }

    /// The peer (or for objects this node's own replica) has answered.
    pub(crate) fn on_exchange_reply(
        &mut self,
        from: NodeId,
        id: OpId,
        result: Result<Answer, Why>,
    ) {
        let Some(question) = self.take_question(from, id) else { return };
        if !self.is_asked(&question) {
            return;
        }
        let peer = question.peer;
        if let Ok(answer) = &result
            && from == peer
        {
            self.progress(peer, |view| view.bytes += answer.bytes());
        }
        match (result, question.errand) {
            // One of the two knows that it is gone; the other will hear of it another way.
            (Err(Why::Forgotten), Some(errand)) => {
                self.is_partial(peer);
                self.on_object(peer, errand, None);
            }
            (Err(why), _) => self.end_exchange(peer, Some(&why.to_string())),
            (Ok(Answer::Begun(at)), None) => {
                if let Some(exchange) = self.exchanges.get_mut(peer) {
                    exchange.terms.theirs = at;
                }
                self.go_on(peer);
            }
            (Ok(Answer::Passed(passed_ms)), _) => {
                self.exchanges.peer_has_passed(peer, passed_ms);
                self.end_exchange(peer, Some("its clock is ahead"));
            }
            (Ok(Answer::Object(more)), Some(errand)) => self.on_object(peer, errand, more),
            (Ok(Answer::Spans(differ, filled)), None) => self.on_spans(peer, &differ, filled),
            (Ok(Answer::Slices(slices)), None) => self.on_slices(peer, &slices),
            (Ok(Answer::Leaves(groups)), None) => self.on_leaves(peer, &groups),
            (Ok(Answer::Entries { present, objects, complete_below }), None) => {
                self.on_entries(peer, &present, objects, complete_below);
            }
            (Ok(Answer::Done), None) => self.on_done(peer),
            (Ok(Answer::Rest { objects, next }), None) => self.on_rest(peer, objects, next),
            (Ok(_), _) => self.end_exchange(peer, Some("it answered another question")),
        }
    }
}
