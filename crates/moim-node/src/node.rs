//! The node: its state, and [`Node::turn`], which everything enters and leaves by.
//!
//! A turn drains what has arrived, rings the timers that are due, and ends with one batch for the disk. Messages to the
//! node's own replica go through a queue of the turn, after they have passed the gate like any other.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use moim_core::NodeId;
use moim_core::clock::{Hlc, HlcClock};
use moim_core::ring::PartitionCount;

use crate::anti_entropy::{Comparisons, Exchanges, Filling, Recall};
use crate::api::{BatchId, DiskRoom, Effect, Failure, Input, NotReady, Now, ReadId, Why};
use crate::boot::{Boot, BootError};
use crate::coordinator::{Forwarded, Freshness, Hedging, Listing, Operation, Operations, Serial};
use crate::foresight::Foresight;
use crate::gate::Gate;
use crate::gossip::{Gossip, first_generation};
use crate::hint::{Ledger, Wish};
use crate::lease::Lease;
use crate::membership::{Founding, Hello, MemberInfo, PROTOCOL, Record};
use crate::message::{Message, OpId};
use crate::namespace::Namespaces;
use crate::options::{Mutation, Options};
use crate::overload::Shedding;
use crate::pace::Pace;
use crate::parting::Parting;
use crate::peers::{Addressed, Peers};
use crate::replica::Asker;
use crate::replication::Tasks;
use crate::settled::Settling;
use crate::store::{Found, Store, Stored};
use crate::timer::{Timer, Timers};
use crate::transfers::Transfers;
use crate::views::Figures;

/// One node: one loop, one member of the ring.
#[derive(Debug)]
pub struct Node {
    pub(crate) info: MemberInfo,
    pub(crate) run: u64,
    pub(crate) namespaces: Namespaces,
    pub(crate) options: Options,
    pub(crate) partitions: PartitionCount,

    pub(crate) now: Now,
    pub(crate) record: Option<Record>,
    /// The record is durable: this node serves.
    pub(crate) adopted: bool,
    pub(crate) founding: Option<Founding>,
    pub(crate) clock: HlcClock,
    /// Bounds still in use, in order.
    pub(crate) leases: Vec<Lease>,
    pub(crate) lww_counter: u64,
    pub(crate) epoch_serial: u32,

    pub(crate) store: Store,
    pub(crate) gate: Gate,
    pub(crate) gossip: Gossip,
    /// The batch that persists the generation.
    pub(crate) generation_batch: BatchId,
    pub(crate) timers: Timers,
    pub(crate) peers: Peers,
    pub(crate) tasks: Tasks,
    pub(crate) hints: Ledger,
    pub(crate) pace: Pace,
    pub(crate) shedding: Shedding,
    /// How long the oldest input of this turn had waited for it, in milliseconds.
    pub(crate) queued_ms: u32,
    pub(crate) operations: Operations,
    pub(crate) serial: Serial,
    pub(crate) forwarded: Forwarded,
    pub(crate) hedging: Hedging,
    pub(crate) freshness: Freshness,
    pub(crate) listings: BTreeMap<ReadId, Listing>,
    pub(crate) exchanges: Exchanges,
    pub(crate) comparisons: Comparisons,
    pub(crate) transfers: Transfers,
    /// Who is to say whether this node's disk is an old one; `None` when all have.
    pub(crate) recall: Option<Recall>,
    /// What is missing after a disk was lost; `None` when nothing is.
    pub(crate) filling: Option<Filling>,
    /// A peer was already a member when this node had no record: it was one before, and its disk is lost.
    pub(crate) was_member: bool,
    /// The largest N of any namespace.
    pub(crate) copies_max: u8,
    pub(crate) settling: Settling,
    pub(crate) figures: Figures,

    pub(crate) foresight: Foresight,
    /// Messages to this node's own replica and coordinator, within a turn.
    pub(crate) local: VecDeque<Message>,
    /// Peers that something is said to in this turn.
    pub(crate) addressed: Addressed,
    pub(crate) effects: Vec<Effect>,
    pub(crate) parting: Parting,
    pub(crate) halted: Option<String>,
    pub(crate) disk_room: DiskRoom,
}

impl Node {
    /// Begins from what the disk kept.
    pub fn new(now: Now, boot: Boot) -> Result<Self, BootError> {
        let mut record = boot.record()?;
        // It may have been started at other addresses than those that the record was made with.
        for member in record.iter_mut().flat_map(|record| &mut record.members) {
            if member.member.node == boot.info.member.node {
                member.take_addresses(&boot.info);
            }
        }
        let (bound_ms, stored_batch) = (boot.clock_bound_ms()?, boot.batch()?);
        let generation = first_generation(boot.generation()?, now.wall_ms);
        let gossip = Gossip::new(boot.info.clone(), generation, boot.run, boot.seed, &boot.options)
            .with_durable(stored_batch);
        let copies = boot.namespaces.all().map(|namespace| namespace.n).max().unwrap_or(1);
        let founding = record.is_none().then(|| {
            Founding::new(boot.info.clone(), boot.founding_members.max(1), boot.partitions, copies)
        });
        let recall = Recall::new(boot.info.member.node, record.as_ref(), now.mono_ms);
        let mut node = Self {
            recall,
            clock: HlcClock::starting_above(Hlc::from_millis(bound_ms)),
            leases: vec![Lease::stored(bound_ms)],
            lww_counter: 0,
            epoch_serial: 0,
            store: Store::new(boot.seed, boot.options.cache_bytes, stored_batch)
                .with_trees(boot.stored_trees.into_trees()),
            gate: Gate::new(speaks_early(&boot.options), stored_batch),
            gossip,
            generation_batch: BatchId::default(),
            timers: Timers::default(),
            peers: Peers::default(),
            tasks: Tasks::default(),
            hints: Ledger::new(),
            pace: Pace::new(now.mono_ms, &boot.options),
            shedding: Shedding::default(),
            queued_ms: 0,
            operations: Operations::new(boot.seed, boot.run),
            serial: Serial::default(),
            forwarded: Forwarded::default(),
            hedging: Hedging::default(),
            freshness: Freshness::new(boot.seed),
            listings: BTreeMap::new(),
            exchanges: Exchanges::default(),
            comparisons: Comparisons::default(),
            transfers: Transfers::default(),
            filling: Filling::stored(boot.stored_filling.as_ref()),
            was_member: false,
            copies_max: copies,
            settling: Settling::default(),
            figures: Figures::default(),
            foresight: Foresight::default(),
            local: VecDeque::new(),
            addressed: Addressed::default(),
            effects: Vec::new(),
            parting: Parting::default(),
            halted: None,
            disk_room: DiskRoom::Enough,
            adopted: record.is_some(),
            now,
            record,
            founding,
            info: boot.info,
            run: boot.run,
            namespaces: boot.namespaces,
            options: boot.options,
            partitions: boot.partitions,
        };
        node.keep_generation();
        node.know_members();
        node.read_hints();
        node.set_clocks(boot.seed);
        Ok(node)
    }

    /// Sets the timers that go on for as long as the node runs.
    fn set_clocks(&mut self, seed: u64) {
        let mono_ms = self.now.mono_ms;
        for timer in [Timer::PeerTick, Timer::ExchangeTick, Timer::Settle] {
            self.timers.set(mono_ms, timer);
        }
        // Spread over the period, so that nodes that started together do not all talk at once.
        let period_ms = u64::from(self.options.gossip_period_ms.max(1));
        self.timers.set(mono_ms + seed % period_ms, Timer::Gossip);
    }

    /// Takes everything that has arrived (drains `inputs`) and appends what to do to `effects`, in order.
    pub fn turn(&mut self, now: Now, inputs: &mut Vec<Input>, effects: &mut Vec<Effect>) {
        self.now = now;
        let late_ms = self.wake_mono_ms().map_or(0, |due| now.mono_ms.saturating_sub(due));
        if late_ms > u64::from(self.options.pause_ms) {
            self.paused(late_ms);
        }
        self.queued_ms = match inputs.first() {
            Some(Input::Queued(oldest_ms)) => *oldest_ms,
            _ => 0,
        };
        self.addressed.clear();
        self.shedding.observe(now.mono_ms, self.queued_ms, &self.options);
        self.pace.pass(now.mono_ms);
        self.notice_lost_batches();
        self.end_recall();
        self.foresee(inputs);
        for input in inputs.drain(..) {
            self.foresee_next();
            self.on_input(input);
            self.run_local();
        }
        for timer in self.timers.due(now.mono_ms) {
            self.on_timer(timer);
            self.run_local();
        }
        self.part();
        self.keep_filling();
        self.store.commit(now.mono_ms, &mut self.effects, &mut self.figures);
        effects.append(&mut self.effects);
        assert!(self.local.is_empty(), "a turn ended with work left over");
    }

    /// When, on the monotonic clock, the next turn is due even if nothing arrives; `None` for never.
    pub fn wake_mono_ms(&self) -> Option<u64> {
        self.timers.next_mono_ms()
    }

    /// Who this node is.
    pub fn info(&self) -> &MemberInfo {
        &self.info
    }

    /// The hello for connections to peers.
    pub fn hello(&self) -> Hello {
        Hello {
            protocol: PROTOCOL,
            cluster: self.record.as_ref().filter(|_| self.adopted).map(|record| record.cluster),
            settings: self.settings(),
            run: self.run,
            info: self.info.clone(),
        }
    }

    /// The adopted cluster record.
    pub fn record(&self) -> Option<&Record> {
        self.record.as_ref().filter(|_| self.adopted)
    }

    /// Whether this node serves all that it owns, and if not, what it waits for.
    pub fn readiness(&self) -> Result<(), Failure> {
        self.admission()?;
        if let Some(recall) = &self.recall {
            let awaited = u32::try_from(recall.awaited()).unwrap_or(u32::MAX);
            return Err(Failure::NotReady(NotReady::Recalling { awaited }));
        }
        match &self.filling {
            None => Ok(()),
            Some(filling) => {
                let count = |count: u64| u32::try_from(count).unwrap_or(u32::MAX);
                let view = filling.view();
                let (filled, partitions) = (count(view.filled), count(view.partitions));
                Err(Failure::NotReady(NotReady::Filling { filled, partitions }))
            }
        }
    }

    /// Whether this node coordinates requests. While it is filled, it does so for other owners.
    pub(crate) fn admission(&self) -> Result<(), Failure> {
        if let Some(reason) = &self.halted {
            return Err(Failure::Stopped(reason.clone()));
        }
        if self.is_stopping() {
            return Err(Failure::NotReady(NotReady::Stopping));
        }
        match &self.founding {
            None if self.adopted => Ok(()),
            founding => {
                let count = |of: fn(&Founding) -> usize| {
                    founding
                        .as_ref()
                        .map_or(0, |founding| u32::try_from(of(founding)).unwrap_or(u32::MAX))
                };
                let (met, expected) = (count(Founding::met), count(Founding::expected));
                Err(Failure::NotReady(NotReady::Founding { met, expected }))
            }
        }
    }

    fn on_input(&mut self, input: Input) {
        match input {
            Input::Request(id, request) => self.on_request(id, request),
            Input::Peer(from, message) => self.on_peer(from, message),
            Input::PeerUp(hello) => self.on_peer_up(&hello),
            Input::PeerDown(node) => self.on_peer_down(node),
            Input::Durable(batch) => self.on_durable(batch),
            Input::Reading(id) => self.store.note_disk(id),
            Input::Loaded(id, result) => self.on_loaded(id, result),
            Input::Listed(id, page) => self.on_listed(id, page),
            Input::DiskFailed(reason) => self.halt(reason),
            Input::DiskRoom(room) => self.disk_room = room,
            Input::Repair(repair) => self.on_repair(repair),
            Input::Stop => {
                self.on_stop();
                self.stop_exchanges();
            }
            // Taken when the turn began.
            Input::Queued(_) => {}
        }
    }

    fn on_timer(&mut self, timer: Timer) {
        match timer {
            Timer::Deadline(id) => self.on_deadline(id),
            Timer::ReadRetry(id) => self.on_read_retry(id),
            Timer::Restamp(id) => self.on_restamp(id),
            Timer::PeerTick => self.on_peer_tick(),
            Timer::ExchangeTick => self.on_exchange_tick(),
            Timer::ExchangePage(peer, exchange) => self.on_page_due(peer, exchange),
            Timer::Give(number) => self.on_give_due(number),
            Timer::Gossip => self.on_gossip_tick(),
            Timer::Settle => self.on_settle_tick(),
            Timer::TaskRetry(node) => {
                self.tasks.disarm(node, self.now.mono_ms);
                self.offer_tasks(node);
            }
            Timer::HandOff(node) => {
                self.hints.disarm(node, self.now.mono_ms);
                self.hand_off(node);
            }
            Timer::StandIn(id) => self.on_owners_late(id),
        }
    }

    /// Messages to this node's own replica and coordinator.
    fn run_local(&mut self) {
        let own = self.info.member.node;
        while let Some(message) = self.local.pop_front() {
            self.on_message(own, message);
        }
    }

    fn on_peer(&mut self, from: NodeId, message: Message) {
        let skipped = self.peers.heard(from, self.now.mono_ms, &self.options);
        if skipped {
            self.offer_tasks(from);
            self.hand_off(from);
        }
        self.on_message(from, message);
    }

    fn on_message(&mut self, from: NodeId, message: Message) {
        match message {
            Message::Ping => self.send_plain(from, Message::Pong),
            Message::Write { op, namespace, key, object, budget_ms } => {
                let asker = self.asker(from, op, budget_ms);
                self.on_write(asker, namespace, &key, object);
            }
            Message::Hint { op, namespace, key, owner, object, budget_ms } => {
                let asker = self.asker(from, op, budget_ms);
                self.on_hint(asker, Wish { namespace, key, owner, object });
            }
            Message::WriteReply { op, result } => self.on_write_reply(from, op, result),
            Message::Read { op, namespace, key, want, budget_ms } => {
                self.on_read(self.asker(from, op, budget_ms), namespace, &key, want);
            }
            Message::ReadReply { op, result, from_disk } => {
                self.on_read_reply(from, op, result, from_disk);
            }
            Message::Forward { op, request, .. } => self.on_forward(from, op, *request),
            Message::ForwardReply { op, outcome } => self.on_forward_reply(from, op, outcome),
            Message::Keys { op, namespace, partition, from_hash, limit, budget_ms } => {
                let asker = self.asker(from, op, budget_ms);
                self.on_keys(asker, namespace, (partition, from_hash, limit));
            }
            Message::KeysReply { op, result } => self.on_keys_reply(from, op, result),
            Message::Exchange { op, terms, ask } => {
                let asker = self.asker(from, op, self.options.exchange_answer_ms);
                self.on_exchange(asker, &terms, *ask);
            }
            Message::ExchangeReply { op, result } => self.on_exchange_reply(from, op, result),
            Message::Founding { digest } => self.on_founding(from, digest),
            Message::Record(record) => self.on_record(*record),
            Message::Gossip(lines) => self.on_gossip(from, &lines),
            Message::Unsupported { op } => self.on_unsupported(from, op),
            Message::Unknown { op: Some(op) } => self.send_plain(from, Message::Unsupported { op }),
            Message::Complete { until } => self.on_complete(from, until),
            Message::Goodbye => self.on_goodbye(from),
            Message::Farewell => self.on_farewell(from),
            Message::Pong | Message::Unknown { op: None } => {}
        }
    }

    /// Who asks, and until when it waits: what it gave less the time that its message waited here for its turn.
    fn asker(&self, node: NodeId, op: OpId, budget_ms: u32) -> Asker {
        let queued_ms = if node == self.info.member.node { 0 } else { self.queued_ms };
        let left_ms = budget_ms.saturating_sub(queued_ms);
        Asker { node, op, until_mono_ms: self.now.mono_ms + u64::from(left_ms) }
    }

    /// A peer runs an older version and does not know the message of this operation.
    fn on_unsupported(&mut self, from: NodeId, id: OpId) {
        let why = Why::Unsupported;
        match self.operations.get_mut(id) {
            Some(Operation::Write(_)) => self.write_refused(id, from, why),
            Some(Operation::Read(_)) => self.read_refused(id, from, why),
            Some(Operation::Listing(_)) => self.on_keys_reply(from, id, Err(why)),
            Some(Operation::Inspect(_)) => self.inspect_refused(id, from, why),
            Some(Operation::Freshness(_)) => self.freshness_refused(id, from),
            Some(
                Operation::Forward(_)
                | Operation::Task(..)
                | Operation::Handoff(_)
                | Operation::Exchange(_),
            ) => {
                self.on_deadline(id);
            }
            None => {}
        }
    }

    fn on_loaded(&mut self, id: ReadId, result: Result<Option<Bytes>, String>) {
        let found = match result.map(|found| found.map(Stored::decode).transpose()) {
            Ok(Ok(stored)) => Found::Read(stored),
            Ok(Err(_)) => {
                self.figures.undecodable += 1;
                Found::Unreadable
            }
            Err(_) => {
                self.figures.disk_reads_failed += 1;
                Found::Unreadable
            }
        };
        let unreadable = matches!(found, Found::Unreadable);
        for work in self.store.loaded(id, found) {
            if unreadable {
                self.refuse(work, Why::Disk);
            } else {
                self.work(work);
            }
            self.run_local();
        }
    }

    /// The disk failed: what was held back will never be true, and nothing more is served.
    pub(crate) fn halt(&mut self, reason: String) {
        if self.halted.is_some() {
            return;
        }
        self.gate.drop_held();
        self.halted = Some(reason.clone());
        for id in self.operations.ids() {
            self.on_deadline(id);
        }
        self.effects.push(Effect::Halted(reason));
    }
}

/// Whether the fault is planted that tells what is not yet durable.
fn speaks_early(options: &Options) -> bool {
    let planted = options.mutation;
    matches!(planted, Some(Mutation::AckBeforeSync | Mutation::FsyncSkippedOnOneNode))
}
