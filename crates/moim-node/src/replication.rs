//! Copies that are still owed to an owner: writes that reached their quorum (or their deadline) without it (REQ-13).
//!
//! Each is a task with an id, a key, a target, its age and its attempts, offered again with back-off until the owner
//! has it. Bounded in bytes: beyond it the oldest are given up and counted, and read repair brings them. Tasks live in
//! memory: a coordinator that restarts forgets them, and again read repair brings them.
//!
//! What nobody needs any more is not sent: a version that this node's own replica has seen outranked (whoever coordinated
//! the newer one owes that), and a version that has fallen out of every replica's Merkle trees because it expired. Should
//! the owner hold an older one that still lives, the trees differ there, and comparing brings it what outranks that; so
//! what may be forgotten (`settled`) does not depend on copies owed.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use moim_core::NodeId;
use moim_core::clock::Hlc;
use moim_core::merkle::Slice;
use moim_core::object::{Joined, Object};
use moim_storage::Reclaim;

use crate::coordinator::Operation;
use crate::keyspace;
use crate::message::Message;
use crate::node::Node;
use crate::options::Options;
use crate::replica::Target;
use crate::store::Stored;
use crate::timer::Timer;
use crate::views::{Figures, TaskView};

/// Bytes that a task costs beside its object.
const TASK_OVERHEAD_BYTES: u64 = 256;

/// Names a task on this node, in the order of creation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct TaskId(pub(crate) u64);

#[derive(Debug)]
struct Task {
    target: Target,
    stored: Stored,
    created_ms: u64,
    /// When the request began that the copy is of.
    begun: Hlc,
    attempts: u32,
    in_flight: bool,
}

/// What is owed to one owner.
#[derive(Debug, Default)]
struct Owed {
    tasks: BTreeMap<TaskId, Task>,
    by_key: BTreeMap<Bytes, TaskId>,
    in_flight: usize,
    failures: u32,
    /// When it is offered again; there is one timer for it.
    retry_mono_ms: Option<u64>,
}

/// All copies owed by this node.
#[derive(Debug, Default)]
pub(crate) struct Tasks {
    owed: BTreeMap<NodeId, Owed>,
    /// All tasks by when their requests began.
    by_begun: BTreeSet<(Hlc, NodeId, TaskId)>,
    bytes: u64,
    count: u64,
    next: u64,
}

/// Looks for copies that are still worth offering, each at `tasks_in_flight_max` of them, in one turn.
const OUTLIVED_ROUNDS_MAX: usize = 32;

/// So many times the grace of compaction must have passed before a copy is offered without its expired value: a header
/// takes the value away from whoever joins it, so a clock that is further ahead than is tolerated must not make one for
/// others whose clocks are right.
const OWED_GRACES: u64 = 3;

/// A copy to offer now.
#[derive(Debug)]
pub(crate) struct Offer {
    pub(crate) id: TaskId,
    pub(crate) target: Target,
    pub(crate) encoded: Bytes,
}

impl Tasks {
    /// Owes `node` this object; joins it with what is already owed of the key.
    fn owe(&mut self, node: NodeId, target: &Target, stored: Stored, (wall_ms, begun): (u64, Hlc)) {
        let owed = self.owed.entry(node).or_default();
        let known = owed.by_key.get(&target.data_key).copied();
        if let Some((id, task)) = known.and_then(|id| Some((id, owed.tasks.get_mut(&id)?))) {
            if begun < task.begun {
                self.by_begun.remove(&(task.begun, node, id));
                self.by_begun.insert((begun, node, id));
                task.begun = begun;
            }
            let joined = match task.stored.object.join(&stored.object) {
                Ok(Joined::Incoming) => stored,
                Ok(Joined::Merged(object)) => Stored::new(object),
                Ok(Joined::Unchanged) | Err(_) => return,
            };
            self.bytes =
                self.bytes + joined.encoded.len() as u64 - task.stored.encoded.len() as u64;
            task.stored = joined;
            // What is in flight is older: its answer must not end the task.
            if std::mem::take(&mut task.in_flight) {
                owed.in_flight -= 1;
            }
            return;
        }
        self.next += 1;
        let id = TaskId(self.next);
        self.bytes += TASK_OVERHEAD_BYTES + stored.encoded.len() as u64;
        self.count += 1;
        let target = target.apart();
        owed.by_key.insert(target.data_key.clone(), id);
        let task =
            Task { target, stored, created_ms: wall_ms, begun, attempts: 0, in_flight: false };
        owed.tasks.insert(id, task);
        self.by_begun.insert((begun, node, id));
    }

    /// This node's own replica holds `object` now: older versions of an `lww` key are owed no more.
    fn outrank(&mut self, data_key: &Bytes, object: &Object, figures: &mut Figures) {
        if self.count == 0 {
            return;
        }
        let Object::Lww(newer) = object else { return };
        let is_older = |task: &Task| match &task.stored.object {
            Object::Lww(owed) => (owed.written, owed.dot) < (newer.written, newer.dot),
            Object::Siblings(_) => false,
        };
        let older = self.owed.iter().filter_map(|(&node, owed)| {
            let id = *owed.by_key.get(data_key)?;
            owed.tasks.get(&id).filter(|task| is_older(task)).map(|_| (node, id))
        });
        for (node, id) in older.collect::<Vec<_>>() {
            self.remove(node, id);
            figures.tasks_outranked += 1;
        }
    }

    /// When the oldest request began of which a copy is owed.
    pub(crate) fn oldest(&self) -> Option<Hlc> {
        self.by_begun.first().map(|&(begun, ..)| begun)
    }

    /// Gives up the oldest tasks until the bound holds.
    pub(crate) fn trim(&mut self, options: &Options, figures: &mut Figures) {
        while self.bytes > options.tasks_bytes_max {
            let oldest = self
                .owed
                .iter()
                .filter_map(|(&node, owed)| Some((*owed.tasks.keys().next()?, node)))
                .min();
            let Some((id, node)) = oldest else { return };
            self.remove(node, id);
            figures.tasks_dropped += 1;
        }
    }

    /// The next copies to offer to `node`, oldest first, as many as may be in flight.
    pub(crate) fn offers(&mut self, node: NodeId, options: &Options) -> Vec<Offer> {
        let Some(owed) = self.owed.get_mut(&node) else { return Vec::new() };
        let room = options.tasks_in_flight_max.saturating_sub(owed.in_flight);
        let mut offers = Vec::new();
        for (&id, task) in owed.tasks.iter_mut().filter(|(_, task)| !task.in_flight).take(room) {
            task.in_flight = true;
            task.attempts += 1;
            offers.push(Offer {
                id,
                target: task.target.clone(),
                encoded: task.stored.encoded.clone(),
            });
        }
        owed.in_flight += offers.len();
        offers
    }

    /// The owner has the offered copy (or something newer). Nothing happens if the task has grown since.
    pub(crate) fn delivered(&mut self, node: NodeId, id: TaskId, figures: &mut Figures) {
        let in_flight = self
            .owed
            .get(&node)
            .and_then(|owed| owed.tasks.get(&id))
            .is_some_and(|task| task.in_flight);
        if in_flight {
            self.remove(node, id);
            figures.tasks_done += 1;
            if let Some(owed) = self.owed.get_mut(&node) {
                owed.failures = 0;
            }
        }
    }

    /// The owner did not take it, or did not answer. Returns how long to wait before the next offer, in milliseconds.
    pub(crate) fn failed(&mut self, node: NodeId, id: TaskId, options: &Options) -> u32 {
        let Some(owed) = self.owed.get_mut(&node) else { return options.task_retry_max_ms };
        if let Some(task) = owed.tasks.get_mut(&id)
            && std::mem::take(&mut task.in_flight)
        {
            owed.in_flight -= 1;
        }
        owed.failures = owed.failures.saturating_add(1);
        let doublings = owed.failures.min(10) - 1;
        options.task_retry_ms.saturating_mul(1 << doublings).min(options.task_retry_max_ms)
    }

    /// Whether a timer is needed to offer again at this moment; an earlier one that is set already will do.
    pub(crate) fn arm(&mut self, node: NodeId, at_mono_ms: u64) -> bool {
        let Some(owed) = self.owed.get_mut(&node) else { return false };
        let needed = owed.retry_mono_ms.is_none_or(|set| at_mono_ms < set);
        if needed {
            owed.retry_mono_ms = Some(at_mono_ms);
        }
        needed
    }

    /// The timer rang.
    pub(crate) fn disarm(&mut self, node: NodeId, mono_ms: u64) {
        if let Some(owed) = self.owed.get_mut(&node)
            && owed.retry_mono_ms.is_some_and(|at| at <= mono_ms)
        {
            owed.retry_mono_ms = None;
        }
    }

    /// Whether anything is owed to `node`.
    pub(crate) fn owes(&self, node: NodeId) -> bool {
        self.count_for(node) > 0
    }

    pub(crate) fn count_for(&self, node: NodeId) -> u64 {
        self.owed.get(&node).map_or(0, |owed| owed.tasks.len() as u64)
    }

    pub(crate) fn count(&self) -> u64 {
        self.count
    }

    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    pub(crate) fn views(&self, limit: usize) -> Vec<TaskView> {
        let all = self
            .owed
            .iter()
            .flat_map(|(&node, owed)| owed.tasks.iter().map(move |task| (node, task)));
        let mut views: Vec<_> = all.map(|(node, (id, task))| view(node, *id, task)).collect();
        views.sort_by_key(|view| view.id);
        views.truncate(limit);
        views
    }

    fn remove(&mut self, node: NodeId, id: TaskId) {
        let Some(owed) = self.owed.get_mut(&node) else { return };
        let Some(task) = owed.tasks.remove(&id) else { return };
        owed.by_key.remove(&task.target.data_key);
        self.by_begun.remove(&(task.begun, node, id));
        owed.in_flight -= usize::from(task.in_flight);
        self.bytes -= TASK_OVERHEAD_BYTES + task.stored.encoded.len() as u64;
        self.count -= 1;
    }
}

fn view(node: NodeId, id: TaskId, task: &Task) -> TaskView {
    TaskView {
        id: id.0,
        namespace: task.target.namespace,
        key: task.target.shared_key(),
        target: node,
        created_ms: task.created_ms,
        attempts: task.attempts,
    }
}

impl Node {
    /// Owes `node` an object of a request that began at `begun`.
    pub(crate) fn owe(&mut self, node: NodeId, target: &Target, stored: Stored, begun: Hlc) {
        self.tasks.owe(node, target, stored, (self.now.wall_ms, begun));
        self.tasks.trim(&self.options, &mut self.figures);
        self.offer_later(node, self.options.task_retry_ms);
    }

    /// The own replica has stored an object.
    pub(crate) fn outrank_owed(&mut self, data_key: &Bytes, object: &Object) {
        self.tasks.outrank(data_key, object, &mut self.figures);
    }

    fn offer_later(&mut self, node: NodeId, wait_ms: u32) {
        let at = self.now.mono_ms + u64::from(wait_ms);
        if self.tasks.arm(node, at) {
            self.timers.set(at, Timer::TaskRetry(node));
        }
    }

    /// Offers what is owed to `node`, if it can be reached.
    pub(crate) fn offer_tasks(&mut self, node: NodeId) {
        if !self.tasks.owes(node) {
            return;
        }
        if !self.can_ask(node) {
            return self.offer_later(node, self.options.task_retry_max_ms);
        }
        let deadline = self.now.mono_ms + u64::from(self.options.request_timeout_ms);
        let budget_ms = self.options.request_timeout_ms;
        for offer in self.offers_that_matter(node) {
            let id = self.register(deadline, Operation::Task(node, offer.id));
            let (namespace, key) = (offer.target.namespace, offer.target.shared_key());
            let object = self.without_given_back(offer.encoded);
            let message = Message::Write { op: id, namespace, key, object, budget_ms };
            self.send_plain(node, message);
        }
    }

    /// Values that compaction gives back need not be sent first.
    fn without_given_back(&self, encoded: Bytes) -> Bytes {
        let grace_ms = self.options.max_clock_skew_ms.saturating_mul(OWED_GRACES);
        match keyspace::reclaim(&encoded, self.now.wall_ms, grace_ms) {
            Reclaim::Replace(header) => header.into(),
            Reclaim::Keep | Reclaim::Remove => encoded,
        }
    }

    /// The next copies to offer. What is in no comparison any more, and what has outlived every value of its namespace, is
    /// owed no more: to an owner that was away for long, most of what is owed has, and sending it would make of each expiry
    /// a message.
    fn offers_that_matter(&mut self, node: NodeId) -> Vec<Offer> {
        let mut offers = Vec::new();
        for _ in 0..OUTLIVED_ROUNDS_MAX {
            let next = self.tasks.offers(node, &self.options);
            let (outlived, kept): (Vec<_>, Vec<_>) = next.into_iter().partition(|offer| {
                let written = moim_core::object::hlc_of(&offer.encoded);
                self.is_outlived(offer.target.namespace, written)
                    || self.is_in_no_tree(&offer.encoded)
            });
            offers.extend(kept);
            if outlived.is_empty() {
                return offers;
            }
            for offer in outlived {
                self.tasks.delivered(node, offer.id, &mut self.figures);
            }
        }
        self.offer_later(node, 1);
        offers
    }

    /// Whether it is a version in `lww` that has expired, in a slice that has passed on every clock.
    fn is_in_no_tree(&self, encoded: &Bytes) -> bool {
        let passed_ms = self.now.wall_ms.saturating_sub(self.options.max_clock_skew_ms);
        match Object::decode(encoded.clone()) {
            Ok(Object::Lww(version)) => Slice::of(&version).has_passed(passed_ms),
            Ok(Object::Siblings(_)) | Err(_) => false,
        }
    }

    pub(crate) fn task_delivered(&mut self, node: NodeId, task: TaskId) {
        self.tasks.delivered(node, task, &mut self.figures);
        self.offer_tasks(node);
    }

    pub(crate) fn task_failed(&mut self, node: NodeId, task: TaskId) {
        let wait_ms = self.tasks.failed(node, task, &self.options);
        self.offer_later(node, wait_ms);
    }
}
