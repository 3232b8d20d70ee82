//! The coordinator: the node that serves a client's request. Any node coordinates any key; it treats its own replica
//! like the others and counts answers in a [`moim_core::quorum::Tally`].
//!
//! Invariants: an operation answers its origin once; it ends when all replicas have answered or its deadline passes,
//! whichever is first, and what a replica then lacks becomes an owed copy; every round of a write has an id of its
//! own, so that a late answer to an earlier round counts for nothing.
//!
//! | file | what |
//! |---|---|
//! | `write` | send to all owners, acknowledge at W, stamp anew when outranked |
//! | `slots`, `stand_in` | who has voted; who stands in for owners |
//! | `read` | value from one, digests from the rest, join, write back, repair |
//! | `holders` | who may hold what is read, what they have said, what to do next |
//! | `operations` | what is under way, by id |
//! | `hedge` | when a read asks one more replica, and how often reads may |
//! | `freshness` | how stale reads are: a few are looked at again |
//! | `mint` | a new version of a `siblings` object, at a replica |
//! | `serial` | updates, one after the other per key |
//! | `forward` | requests that another node must coordinate |
//! | `listing` | pages of keys, and every replica's copy for people |

mod forward;
mod freshness;
mod hedge;
mod holders;
mod listing;
mod mint;
mod operations;
mod read;
mod serial;
mod slots;
mod stand_in;
mod write;

pub(crate) use forward::Forwarded;
pub(crate) use freshness::Freshness;
pub use freshness::{FreshnessView, LAG_BOUNDS_MS};
pub(crate) use hedge::Hedging;
pub(crate) use listing::{Listing, last_whole_hash};
pub(crate) use mint::Mint;
pub(crate) use operations::{Operation, Operations};
pub(crate) use serial::Serial;

use bytes::Bytes;
use moim_core::NodeId;
use moim_core::clock::Hlc;
use moim_core::object::{Content, Context, Object};
use moim_core::quorum::Level;
use smallvec::SmallVec;

use crate::api::{
    Action, DiskRoom, Effect, Expiry, Failure, Found, Intent, NotReady, Outcome, Queue, Request,
    RequestId, Why,
};
use crate::message::{Message, OpId};
use crate::namespace::{Conflict, Namespace};
use crate::node::Node;
use crate::replica::Target;
use crate::timer::Timer;

/// Who gets the outcome of an operation.
#[derive(Debug)]
pub(crate) enum Origin {
    /// A client of this node.
    Client(RequestId),
    /// A node that forwarded its client's request.
    Forwarded(NodeId, OpId),
    /// The update that runs for this persisted key.
    Serial(Bytes),
    /// A deletion that had to read first what it deletes.
    DeleteOfRead(Box<Mint>),
    /// Nobody: repair.
    Nobody,
}

/// The owners of a key, in the order of preference: most namespaces have no more than fit here without an allocation.
pub(crate) type Owners = SmallVec<[NodeId; 4]>;

/// A request that was let in: its place, policy, levels and deadline.
#[derive(Clone, Debug)]
pub(crate) struct Admitted {
    pub(crate) target: Target,
    pub(crate) owners: Owners,
    pub(crate) conflict: Conflict,
    /// Whether others may stand in for owners.
    pub(crate) sloppy: bool,
    pub(crate) r: Level,
    pub(crate) w: Level,
    /// Copies that must hold what a read returned before it answers, so that no later read goes back; 1 where levels
    /// promise nothing of the kind.
    pub(crate) write_back: u8,
    pub(crate) deadline_mono_ms: u64,
    pub(crate) started_mono_ms: u64,
    /// When it began in hybrid time: whatever it sends was stamped or read later (see [`Node::pending_floor`]).
    pub(crate) begun: Hlc,
}

/// An admitted request and who waits for it.
#[derive(Debug)]
pub(crate) struct Job {
    pub(crate) origin: Origin,
    pub(crate) admitted: Admitted,
}

/// What a new version holds.
#[derive(Debug)]
pub(crate) struct Fresh {
    pub(crate) content: Content,
    /// Unix milliseconds, 0 for never.
    pub(crate) expires_ms: u64,
}

impl Fresh {
    pub(crate) fn deletion() -> Self {
        Self { content: Content::Deleted, expires_ms: 0 }
    }
}

impl Admitted {
    pub(crate) fn copies(&self) -> u8 {
        u8::try_from(self.owners.len()).expect("owners are at most COPIES_MAX")
    }

    pub(crate) fn needs_r(&self) -> u8 {
        self.r.resolve(self.copies())
    }

    pub(crate) fn needs_w(&self) -> u8 {
        self.w.resolve(self.copies())
    }
}

impl Node {
    /// A client asks.
    pub(crate) fn on_request(&mut self, id: RequestId, request: Request) {
        if self.shedding.refuses() {
            let limit = u64::from(self.options.turn_delay_target_ms);
            let failure = Failure::Overloaded { queue: Queue::TurnDelay, limit };
            return self.finish(Origin::Client(id), Outcome::Failed(failure));
        }
        self.coordinate(Origin::Client(id), request);
    }

    /// Serves a request for its origin: here, or where it must be served.
    pub(crate) fn coordinate(&mut self, origin: Origin, request: Request) {
        let admitted = match self.admission() {
            // What peers forward is refused in its place: behind what was taken before.
            Err(Failure::NotReady(NotReady::Stopping))
                if matches!(origin, Origin::Forwarded(..)) =>
            {
                self.admit(&request)
            }
            Err(failure) => Err(failure),
            Ok(()) => self.admit(&request),
        };
        match admitted {
            Ok(admitted) => self.dispatch(Job { origin, admitted }, request),
            Err(failure) => self.finish(origin, Outcome::Failed(failure)),
        }
    }

    fn dispatch(&mut self, job: Job, request: Request) {
        if let Action::Get | Action::Inspect | Action::Keys { .. } = request.action {
            self.figures.reads += 1;
            return self.serve(job, request.action);
        }
        self.figures.writes += 1;
        self.place(job, request);
    }

    /// Does here what a request asks.
    fn serve(&mut self, job: Job, action: Action) {
        match action {
            Action::Get => self.begin_read(job),
            Action::Put { value, expiry, context } => self.begin_put(job, value, expiry, context),
            Action::Delete { context } => self.begin_delete(job, context),
            Action::Update(update) => self.begin_update(job, update),
            Action::Inspect => self.begin_inspect(job),
            Action::Keys { partition, from_hash, limit } => {
                self.begin_listing(job, partition, from_hash, limit);
            }
        }
    }

    fn admit(&mut self, request: &Request) -> Result<Admitted, Failure> {
        if self.operations.len() + self.serial.waiting() >= self.options.operations_max {
            let limit = self.options.operations_max as u64;
            return Err(Failure::Overloaded { queue: Queue::Operations, limit });
        }
        let policy = self.namespaces.get(request.namespace).ok_or(Failure::NoSuchNamespace)?;
        check_size(policy, request)?;
        let started_mono_ms = self.now.mono_ms.saturating_sub(u64::from(self.queued_ms));
        let timeout_ms = request.timeout_ms.unwrap_or(self.options.request_timeout_ms);
        let timeout_ms = timeout_ms.min(self.options.request_timeout_max_ms);
        let deadline_mono_ms = started_mono_ms + u64::from(timeout_ms);
        if timeout_ms > 0 && deadline_mono_ms <= self.now.mono_ms {
            let limit = u64::from(timeout_ms);
            return Err(Failure::Overloaded { queue: Queue::TurnDelay, limit });
        }
        if !matches!(request.action, Action::Get | Action::Inspect | Action::Keys { .. }) {
            self.admit_change(deadline_mono_ms)?;
        }
        let (namespace, key) = (request.namespace, &request.key);
        let target = match request.action {
            Action::Keys { partition, .. } => Some(Target::new(namespace, key, partition)),
            _ => self.foresight.take(namespace, key).or_else(|| self.new_target(namespace, key)),
        };
        let unfounded = Failure::NotReady(NotReady::Stopping);
        let (Some(record), Some(target)) = (&self.record, target) else { return Err(unfounded) };
        let owners: Owners = record.ring.owners_of(target.partition, policy.n).collect();
        let (r, w) = (request.r.unwrap_or(policy.r), request.w.unwrap_or(policy.w));
        Ok(Admitted {
            write_back: write_back(policy, r, owners.len()),
            target,
            owners,
            conflict: policy.conflict,
            sloppy: policy.sloppy,
            r,
            w,
            deadline_mono_ms,
            started_mono_ms,
            begun: self.clock.last(),
        })
    }

    /// Refuses what would have to wait too long for the disk. One that is full is no overload: then another node
    /// coordinates, or a refusal of its own says why (see `dispatch`).
    fn admit_change(&self, deadline_mono_ms: u64) -> Result<(), Failure> {
        if self.disk_room == DiskRoom::Exhausted {
            return Ok(());
        }
        if self.store.unsynced_bytes() >= self.options.unsynced_bytes_max {
            let limit = self.options.unsynced_bytes_max;
            return Err(Failure::Overloaded { queue: Queue::UnsyncedBytes, limit });
        }
        if self.sync_outlasts(deadline_mono_ms) {
            let limit = deadline_mono_ms.saturating_sub(self.now.mono_ms);
            return Err(Failure::Overloaded { queue: Queue::SyncDelay, limit });
        }
        Ok(())
    }

    /// Gives an operation its outcome.
    pub(crate) fn finish(&mut self, origin: Origin, outcome: Outcome) {
        match &outcome {
            Outcome::Failed(Failure::Unavailable { .. }) => self.figures.unavailable += 1,
            Outcome::Failed(Failure::Timeout { .. }) => self.figures.timeouts += 1,
            Outcome::Failed(Failure::Overloaded { .. }) => self.figures.overloaded += 1,
            _ => {}
        }
        match origin {
            Origin::Client(id) => self.effects.push(Effect::Reply(id, outcome)),
            Origin::Forwarded(node, op) => {
                self.send_plain(node, Message::ForwardReply { op, outcome });
            }
            Origin::Serial(key) => self.serial_written(&key, outcome),
            Origin::DeleteOfRead(mint) => self.finish(mint.origin, outcome),
            Origin::Nobody => {}
        }
    }

    /// Gives a read its result: the object, for those that go on from it.
    pub(crate) fn finish_read(&mut self, origin: Origin, object: Option<&Object>, from_disk: bool) {
        match origin {
            Origin::Serial(key) => self.serial_read(&key, object),
            Origin::DeleteOfRead(mint) => self.delete_what_was_read(*mint, object),
            origin => {
                let context = object.map(Object::context);
                let live = object.into_iter().flat_map(|object| object.live(self.now.wall_ms));
                let found = Found { context, versions: live.cloned().collect(), from_disk };
                self.finish(origin, Outcome::Found(found));
            }
        }
    }

    /// Something was answered that this node coordinated: what background work watches. Repairs wait for nobody.
    pub(crate) fn observe_latency(&mut self, origin: &Origin, started_mono_ms: u64) {
        if !matches!(origin, Origin::Nobody) {
            let latency_ms = self.now.mono_ms.saturating_sub(started_mono_ms);
            self.pace.observe(self.now.mono_ms, latency_ms);
        }
    }

    /// An operation's time is over.
    pub(crate) fn on_deadline(&mut self, id: OpId) {
        match self.operations.remove(id) {
            Some(Operation::Write(write)) => self.write_deadline(write),
            Some(Operation::Read(read)) => self.read_deadline(*read),
            Some(Operation::Forward(forward)) => self.forward_deadline(*forward),
            Some(Operation::Listing(listing)) => self.listing_deadline(*listing),
            Some(Operation::Inspect(inspect)) => self.inspect_deadline(*inspect),
            Some(Operation::Freshness(check)) => self.end_freshness(&check),
            Some(Operation::Task(node, task)) => self.task_failed(node, task),
            Some(Operation::Exchange(question)) => self.question_failed(&question, "no answer"),
            Some(Operation::Handoff(handoff)) => self.handoff_failed(&handoff),
            None => {}
        }
    }

    /// Nothing more will come from `node`: operations that wait for it must not.
    pub(crate) fn give_up_on(&mut self, node: NodeId) {
        for id in self.operations.ids() {
            let why = Why::Unreachable;
            match self.operations.get_mut(id) {
                Some(Operation::Write(write)) if write.waits_for(node) => {
                    self.write_refused(id, node, why);
                }
                Some(Operation::Read(read)) if read.waits_for(node) => {
                    self.read_refused(id, node, why);
                }
                Some(Operation::Forward(forward)) if forward.node == node => self.on_deadline(id),
                Some(Operation::Listing(listing)) if listing.waits_for(node) => {
                    self.on_keys_reply(node, id, Err(why));
                }
                Some(Operation::Inspect(inspect)) if inspect.waits_for(node) => {
                    self.inspect_refused(id, node, why);
                }
                Some(Operation::Freshness(check)) if check.waits_for(node) => {
                    self.freshness_refused(id, node);
                }
                Some(Operation::Task(target, _)) if *target == node => self.on_deadline(id),
                Some(Operation::Exchange(question)) if question.waits_for(node) => {
                    self.on_deadline(id);
                }
                Some(Operation::Handoff(handoff)) if handoff.owner == node => self.on_deadline(id),
                _ => {}
            }
        }
    }

    /// Milliseconds left until a deadline, for peers.
    pub(crate) fn budget_ms(&self, deadline_mono_ms: u64) -> u32 {
        u32::try_from(deadline_mono_ms.saturating_sub(self.now.mono_ms)).unwrap_or(u32::MAX)
    }

    /// Begins an operation that ends at `deadline_mono_ms` at the latest.
    pub(crate) fn register(&mut self, deadline_mono_ms: u64, operation: Operation) -> OpId {
        let id = self.operations.next_id();
        self.register_as(id, deadline_mono_ms, operation);
        id
    }

    /// The same under an id that was drawn before.
    pub(crate) fn register_as(&mut self, id: OpId, deadline_mono_ms: u64, operation: Operation) {
        self.operations.insert(id, operation);
        self.timers.set(deadline_mono_ms, Timer::Deadline(id));
    }

    /// Turns an expiry into Unix milliseconds by the namespace's rules; 0 for never.
    pub(crate) fn deadline_of(&self, namespace: moim_core::NamespaceId, expiry: Expiry) -> u64 {
        let now_ms = self.now.wall_ms;
        let policy = self.namespaces.get(namespace);
        let wanted = match expiry {
            Expiry::Never => 0,
            Expiry::Default => {
                policy.and_then(|policy| policy.ttl_ms).map_or(0, |ttl_ms| now_ms + ttl_ms)
            }
            Expiry::At(at_ms) => at_ms.max(1),
        };
        match policy.and_then(|policy| policy.max_ttl_ms) {
            Some(max_ms) if wanted == 0 => now_ms.saturating_add(max_ms),
            Some(max_ms) => wanted.min(now_ms.saturating_add(max_ms)),
            None => wanted,
        }
    }
}

/// Copies that must hold a joined version before a read returns it: enough to meet every later read at the
/// namespace's own level. Only where the namespace's levels promise strong reads at all.
fn write_back(policy: &Namespace, r: Level, owners: usize) -> u8 {
    let copies = u8::try_from(owners).expect("owners are at most COPIES_MAX");
    let (usual_r, usual_w) = (policy.r.resolve(copies), policy.w.resolve(copies));
    if usual_r.saturating_add(usual_w) <= copies {
        return 1;
    }
    let least_r = usual_r.min(r.resolve(copies));
    copies.saturating_sub(least_r) + 1
}

/// The seen part of a context, if it fits the namespace's kind.
pub(crate) fn seen_by(
    context: Option<Context>,
) -> Result<moim_core::clock::VersionVector, Failure> {
    match context {
        None => Ok(moim_core::clock::VersionVector::new()),
        Some(Context::Siblings(vector)) => Ok(vector),
        Some(Context::Lww(_)) => Err(Failure::BadContext),
    }
}

pub(crate) fn check_pair(policy: &Namespace, key: &[u8], value_bytes: u64) -> Result<(), Failure> {
    let pair_bytes = key.len() as u64 + value_bytes;
    let limit_bytes = policy.max_pair_bytes;
    if pair_bytes > limit_bytes {
        Err(Failure::TooLarge { pair_bytes, limit_bytes })
    } else {
        Ok(())
    }
}

fn check_size(policy: &Namespace, request: &Request) -> Result<(), Failure> {
    let value_bytes = match &request.action {
        Action::Put { value, .. } => value.value().len() as u64,
        Action::Update(update) => update.bytes_at_least(),
        Action::Get | Action::Delete { .. } | Action::Inspect | Action::Keys { .. } => 0,
    };
    check_pair(policy, &request.key, value_bytes)
}

/// The failure of an operation that heard from too few.
pub(crate) fn unavailable(
    intent: Intent,
    level: Level,
    (needed, got): (u8, u8),
    missing: impl Iterator<Item = (NodeId, Why)>,
) -> Outcome {
    Outcome::Failed(Failure::Unavailable { intent, level, needed, got, missing: missing.collect() })
}
