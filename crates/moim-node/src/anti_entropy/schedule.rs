//! When to compare with whom: on a schedule, one of each pair asks; on demand and to fill a lost disk, whoever needs it.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use moim_core::clock::Hlc;
use moim_core::ring::Partition;
use moim_core::{NamespaceId, NodeId};

use super::rest::{Giving, Rest};
use super::{Ask, EXCHANGES_MAX, Exchange, FILLS_MAX, Question, RUN_PARTITIONS, Terms};
use crate::coordinator::Operation;
use crate::keyspace;
use crate::node::Node;
use crate::options::Mutation;
use crate::timer::Timer;
use crate::views::{ExchangeReason, ExchangeView, RepairView};

/// Repairs on demand that are remembered, finished ones included.
const REPAIRS_KEPT_MAX: usize = 16;

/// Between two looks at the schedule, in milliseconds.
const TICK_MS: u64 = 500;

/// While a lost disk is filled, in milliseconds: the next peer begins soon after the last one ended.
const TICK_FILL_MS: u64 = 50;

/// What to compare on demand.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Repair {
    /// One partition, or all that this node owns.
    pub partition: Option<Partition>,
    /// One namespace, or all.
    pub namespace: Option<NamespaceId>,
}

/// A repair on demand.
#[derive(Debug)]
struct Demand {
    id: u64,
    repair: Repair,
    /// Peers still to be compared with.
    waiting: BTreeSet<NodeId>,
    view: RepairView,
}

/// Exchanges that this node asks in, and what leads to them.
#[derive(Debug, Default)]
pub(crate) struct Exchanges {
    running: BTreeMap<NodeId, Exchange>,
    due_mono_ms: BTreeMap<NodeId, u64>,
    /// Up to when slices have passed at a peer whose clock is ahead, in Unix milliseconds.
    passed_there_ms: BTreeMap<NodeId, u64>,
    demands: VecDeque<Demand>,
    /// What peers that fill their disks are given.
    pub(super) giving: Giving,
    drawn: u64,
}

impl Exchanges {
    pub(super) fn get_mut(&mut self, peer: NodeId) -> Option<&mut Exchange> {
        self.running.get_mut(&peer)
    }

    pub(super) fn peer_has_passed(&mut self, peer: NodeId, passed_ms: u64) {
        self.passed_there_ms.insert(peer, passed_ms);
    }

    /// Since when objects that were read for an exchange may still be sent.
    pub(crate) fn oldest(&self) -> Option<Hlc> {
        self.running.values().filter_map(Exchange::oldest).min()
    }

    /// A fresh number: names an exchange, and with the seed makes chance.
    fn draw(&mut self) -> u64 {
        self.drawn += 1;
        self.drawn
    }

    /// Whether this node asks in an exchange with a peer.
    pub(super) fn runs_with(&self, peer: NodeId) -> bool {
        self.running.contains_key(&peer)
    }

    /// Runs of partitions that are being filled.
    pub(super) fn filled_now(&self) -> Vec<u16> {
        let fills = self.running.values().filter(|exchange| exchange.fills());
        fills.map(|exchange| exchange.span.0 / RUN_PARTITIONS).collect()
    }

    /// What is left to do on demand with a peer.
    fn demanded(&self, peer: NodeId) -> Option<(u64, Repair)> {
        let demand = self.demands.iter().find(|demand| demand.waiting.contains(&peer))?;
        Some((demand.id, demand.repair))
    }
}

impl Node {
    /// Looks at the schedule.
    pub(crate) fn on_exchange_tick(&mut self) {
        let grace_ms = self.options.max_clock_skew_ms;
        let passed_ms = self.now.wall_ms.saturating_sub(grace_ms);
        if !self.keeps_passed_slices() {
            self.store.pass_slices(passed_ms);
        }
        self.comparisons.pass(self.store.trees().passed_ms().min(passed_ms));
        self.watch_transfers();
        self.consider_all();
        let wait_ms = if self.filling.is_none() { TICK_MS } else { TICK_FILL_MS };
        self.timers.set(self.now.mono_ms + wait_ms, Timer::ExchangeTick);
    }

    /// Begins what is due.
    fn consider_all(&mut self) {
        if self.admission().is_err() {
            return;
        }
        self.fill_next();
        for peer in self.co_owners() {
            self.consider(peer);
        }
    }

    /// Begins with the next runs of partitions to be filled, as many as may be under way.
    fn fill_next(&mut self) {
        if self.admission().is_err() {
            return;
        }
        while self.exchanges.filled_now().len() < FILLS_MAX
            && let Some((peer, span)) = self.next_to_fill()
        {
            self.begin_exchange(peer, ExchangeReason::Fill, (span, None));
        }
    }

    /// Everybody who owns something that this node owns as well.
    pub(crate) fn co_owners(&self) -> Vec<NodeId> {
        let own = self.info.member.node;
        let Some(record) = &self.record else { return Vec::new() };
        let members = record.members.iter().map(|info| info.member.node);
        members.filter(|&peer| peer != own).collect()
    }

    fn consider(&mut self, peer: NodeId) {
        let running = self.exchanges.running.len();
        if self.exchanges.running.contains_key(&peer) || !self.can_ask(peer) {
            return;
        }
        if running >= EXCHANGES_MAX {
            return;
        }
        let whole = (0, self.partition_count().saturating_sub(1));
        if let Some((id, Repair { partition, namespace })) = self.exchanges.demanded(peer) {
            let span = partition.map_or(whole, |partition| (partition.get(), partition.get()));
            return self.begin_exchange(peer, ExchangeReason::Demand(id), (span, namespace));
        }
        // What is missing comes first: comparing it on schedule would only find it missing.
        if self.has_all() && self.asks_on_schedule(peer) && self.is_due(peer) {
            self.begin_exchange(peer, ExchangeReason::Schedule, (whole, None));
        }
    }

    /// One of each pair asks: a coin that both know, so that no node asks in all its pairs.
    fn asks_on_schedule(&self, peer: NodeId) -> bool {
        let own = self.info.member.node;
        let (low, high) = (own.min(peer), own.max(peer));
        let coin = moim_core::fingerprint(format!("{low}{high}").as_bytes()) & 1;
        (coin == 0) == (own == low)
    }

    /// Whether the time has come; the first is at a random moment of the interval.
    fn is_due(&mut self, peer: NodeId) -> bool {
        let interval_ms = u64::from(self.options.exchange_interval_ms);
        if let Some(&at) = self.exchanges.due_mono_ms.get(&peer) {
            return at <= self.now.mono_ms;
        }
        let jitter_ms = self.jitter(interval_ms);
        self.exchanges.due_mono_ms.insert(peer, self.now.mono_ms + jitter_ms);
        false
    }

    /// A random part of a time.
    fn jitter(&mut self, of_ms: u64) -> u64 {
        let text = format!("{:x} {}", self.run, self.exchanges.draw());
        moim_core::fingerprint(text.as_bytes()) % of_ms.max(1)
    }

    fn begin_exchange(
        &mut self,
        peer: NodeId,
        reason: ExchangeReason,
        ((first, last), namespace): ((u16, u16), Option<NamespaceId>),
    ) {
        let Some(record) = &self.record else { return };
        let terms = Terms {
            ring: record.ring.version(),
            since: self.comparison_start(),
            theirs: Hlc::ZERO,
            horizon_ms: 0,
            namespace,
            filled: self.has_all(),
        };
        let id = self.exchanges.draw();
        let partitions = (first..=last).filter(|&at| self.shares(peer, at)).count();
        let mut exchange = Exchange::new((id, reason), terms, (first, last), self.now.mono_ms);
        if reason == ExchangeReason::Fill
            && let Some((from, to)) = keyspace::partition(first).zip(keyspace::partition(last))
        {
            let empty = Self::empty_of((first, last), self.store.trees());
            exchange.rest = Some(Rest::new(from, to, empty));
        }
        self.exchanges.running.insert(peer, exchange);
        self.progress(peer, |view| view.partitions = partitions as u64);
        self.question(peer, Ask::Begin);
    }

    /// The moment of a comparison that begins now. Not the wall clock's, which hybrid time may be behind: what is learnt
    /// after this must not seem to have been known before.
    pub(super) fn comparison_start(&self) -> Hlc {
        self.clock.last()
    }

    /// Slices that end after this have passed nowhere: not where a clock is ahead by what is allowed, nor, with the
    /// same again, while the answer is under way.
    pub(super) fn horizon_ms(&self, peer: NodeId) -> u64 {
        if self.keeps_passed_slices() {
            return 0;
        }
        let own_ms = self.now.wall_ms.saturating_add(self.options.max_clock_skew_ms);
        let there_ms = self.exchanges.passed_there_ms.get(&peer).copied().unwrap_or(0);
        own_ms.max(there_ms).max(self.store.trees().passed_ms())
    }

    /// Whether the fault is planted that lets expired values count for ever.
    pub(super) fn keeps_passed_slices(&self) -> bool {
        self.options.mutation == Some(Mutation::ExpiryStaysInTrees)
    }

    /// An exchange is over, well or not: what is still to be done with that peer comes with the next.
    pub(super) fn end_exchange(&mut self, peer: NodeId, failed: Option<&str>) {
        let Some(exchange) = self.exchanges.running.remove(&peer) else { return };
        let interval_ms = u64::from(self.options.exchange_interval_ms);
        let wait_ms = if failed.is_none() {
            self.figures.exchanges += 1;
            interval_ms - interval_ms / 4 + self.jitter(interval_ms / 2)
        } else {
            self.figures.exchanges_failed += 1;
            interval_ms / 4 + self.jitter(interval_ms / 2)
        };
        self.exchanges.due_mono_ms.insert(peer, self.now.mono_ms + wait_ms);
        match exchange.reason {
            ExchangeReason::Demand(id) => self.end_demand(id, peer, &exchange.view, failed),
            ExchangeReason::Fill => {
                self.fill_ended(peer, &exchange);
                self.fill_next();
            }
            ExchangeReason::Schedule => {}
        }
    }

    fn end_demand(&mut self, id: u64, peer: NodeId, done: &ExchangeView, failed: Option<&str>) {
        let mono_ms = self.now.mono_ms;
        let demand = self.exchanges.demands.iter_mut().find(|demand| demand.id == id);
        let Some(demand) = demand else { return };
        let view = &mut demand.view;
        view.keys += done.keys;
        view.bytes += done.bytes;
        if let Some(why) = failed {
            view.attempts_failed += 1;
            view.last_failure = Some((peer, why.to_owned()));
            return;
        }
        demand.waiting.remove(&peer);
        view.peers_done += 1;
        view.partitions_done += done.partitions;
        if demand.waiting.is_empty() {
            view.ended_mono_ms = Some(mono_ms);
        }
    }

    /// Compares all (or one partition, or one namespace) with every other owner, soon.
    pub(crate) fn on_repair(&mut self, repair: Repair) {
        let peers: BTreeSet<_> = self.co_owners().into_iter().collect();
        let shared = |peer: NodeId| match repair.partition {
            Some(partition) => usize::from(self.shares(peer, partition.get())),
            None => (0..self.partition_count()).filter(|&at| self.shares(peer, at)).count(),
        };
        let mut waiting = BTreeMap::new();
        for peer in peers {
            let partitions = shared(peer);
            if partitions > 0 {
                waiting.insert(peer, partitions as u64);
            }
        }
        let id = self.exchanges.draw();
        let view = RepairView {
            id,
            repair,
            began_mono_ms: self.now.mono_ms,
            ended_mono_ms: waiting.is_empty().then_some(self.now.mono_ms),
            peers: waiting.len() as u64,
            peers_done: 0,
            partitions: waiting.values().sum(),
            partitions_done: 0,
            keys: 0,
            bytes: 0,
            attempts_failed: 0,
            last_failure: None,
        };
        let waiting = waiting.into_keys().collect();
        self.exchanges.demands.push_back(Demand { id, repair, waiting, view });
        if self.exchanges.demands.len() > REPAIRS_KEPT_MAX {
            self.exchanges.demands.pop_front();
        }
        for peer in self.co_owners() {
            self.consider(peer);
        }
    }

    /// Exchanges that run, and repairs on demand, running or not long ended.
    pub fn repairs(&self) -> (Vec<ExchangeView>, Vec<RepairView>) {
        let running = self.exchanges.running.iter();
        let exchanges: Vec<_> = running.map(|(&peer, exchange)| exchange.shown(peer)).collect();
        let demands = self.exchanges.demands.iter().map(|demand| {
            let reason = ExchangeReason::Demand(demand.id);
            let mut view = demand.view.clone();
            for running in exchanges.iter().filter(|exchange| exchange.reason == reason) {
                view.keys += running.keys;
                view.bytes += running.bytes;
                view.partitions_done += running.partitions_done;
            }
            view
        });
        let demands = demands.collect();
        (exchanges, demands)
    }

    /// The server is stopping: nothing waits for comparisons, and none begins.
    pub(crate) fn stop_exchanges(&mut self) {
        self.exchanges.running.clear();
        for id in self.operations.ids() {
            if matches!(self.operations.get_mut(id), Some(Operation::Exchange(_))) {
                self.operations.remove(id);
            }
        }
    }

    /// The connection is gone, or an answer did not come.
    pub(crate) fn question_failed(&mut self, question: &Question, why: &str) {
        if self.is_asked(question) {
            self.end_exchange(question.peer, Some(why));
        }
    }

    /// Whether the exchange that asked still runs.
    pub(super) fn is_asked(&self, question: &Question) -> bool {
        let running = self.exchanges.running.get(&question.peer);
        running.is_some_and(|exchange| exchange.id == question.exchange)
    }

    /// Takes a question of an exchange out of the operations, if `from` may answer it.
    pub(super) fn take_question(
        &mut self,
        from: NodeId,
        id: crate::message::OpId,
    ) -> Option<Question> {
        match self.operations.get_mut(id) {
            Some(Operation::Exchange(question))
                if question.is_put_to(from, self.info.member.node) => {}
            _ => return None,
        }
        match self.operations.remove(id) {
            Some(Operation::Exchange(question)) => Some(*question),
            _ => None,
        }
    }

    pub(super) fn progress(&mut self, peer: NodeId, change: impl FnOnce(&mut ExchangeView)) {
        if let Some(exchange) = self.exchanges.running.get_mut(&peer) {
            change(&mut exchange.view);
        }
    }

    pub(super) fn partition_count(&self) -> u16 {
        self.record.as_ref().map_or(0, |record| record.ring.partitions().get())
    }
}
