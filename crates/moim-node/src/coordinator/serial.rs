//! Updates: commands that read and write in one, one after the other per key.
//!
//! Each reads at R, decides, and writes at W. When its write is outranked by a concurrent one it begins again from
//! what stands now, so that two updates never both build on the same value. On a node that stops, updates that it has
//! taken are done; those that peers forward after that are refused once they are, so that at no time two nodes serialise
//! one key. A plain put that runs at another
//! coordinator at the same moment is ordered before or after by its stamp alone (see `docs/consistency.md`).

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use moim_core::clock::Dot;
use moim_core::object::{Object, Version};

use super::{Admitted, Fresh, Job, Origin, check_pair};
use crate::api::{Failure, NotReady, Outcome, Queue};
use crate::namespace::Conflict;
use crate::node::Node;
use crate::update::{Change, Reply, Update, apply};

/// Attempts of one update before it gives up: each failure means that somebody else's write went through.
const ATTEMPTS_MAX: u32 = 16;

/// An update that runs or waits.
#[derive(Debug)]
struct Pending {
    origin: Origin,
    admitted: Admitted,
    update: Update,
    attempts: u32,
    /// Came when this node was stopping already.
    late: bool,
    /// What to answer when the write is done.
    reply: Option<Reply>,
    /// The version that the last attempt wrote: found again, it is written anew, not built upon.
    written: Option<Dot>,
}

/// Updates per persisted key; the first of each queue runs.
#[derive(Debug, Default)]
pub(crate) struct Serial {
    by_key: BTreeMap<Bytes, VecDeque<Pending>>,
    count: usize,
}

impl Serial {
    /// Updates over all keys that wait behind others; the first of each key is an operation.
    pub(crate) fn waiting(&self) -> usize {
        self.count - self.by_key.len()
    }

    /// Whether an update of this persisted key runs.
    pub(crate) fn has(&self, key: &Bytes) -> bool {
        self.by_key.contains_key(key)
    }

    /// Whether none runs.
    pub(crate) fn is_empty(&self) -> bool {
        self.by_key.is_empty()
    }
}

impl Node {
    /// Queues an update behind those of the same key.
    pub(crate) fn begin_update(&mut self, job: Job, update: Update) {
        let Job { origin, admitted } = job;
        let (key, late) = (admitted.target.data_key.clone(), self.is_stopping());
        let queue = self.serial.by_key.entry(key.clone()).or_default();
        if queue.len() >= self.options.updates_per_key_max {
            let limit = self.options.updates_per_key_max as u64;
            let failure = Failure::Overloaded { queue: Queue::UpdatesPerKey, limit };
            return self.finish(origin, Outcome::Failed(failure));
        }
        self.serial.count += 1;
        queue.push_back(Pending {
            origin,
            admitted,
            update,
            attempts: 0,
            late,
            reply: None,
            written: None,
        });
        if queue.len() == 1 {
            self.run_serial(&key);
        }
    }

    /// Begins (again) with the first update of the key.
    fn run_serial(&mut self, key: &Bytes) {
        let Some(pending) = self.serial.by_key.get_mut(key).and_then(VecDeque::front_mut) else {
            return;
        };
        if pending.late {
            let refusal = Failure::NotReady(NotReady::Stopping);
            return self.end_serial(key, Outcome::Failed(refusal));
        }
        pending.attempts += 1;
        let admitted = pending.admitted.clone();
        // Its turn may come after its time: an operation that cannot end is not begun.
        if admitted.deadline_mono_ms <= self.now.mono_ms || pending.attempts > ATTEMPTS_MAX {
            self.figures.expired += u64::from(admitted.deadline_mono_ms <= self.now.mono_ms);
            let waited_ms = self.waited_ms(&admitted);
            let node = self.info.member.node;
            return self.end_serial(key, Outcome::Failed(Failure::Timeout { node, waited_ms }));
        }
        self.begin_read(Job { origin: Origin::Serial(key.clone()), admitted });
    }

    /// The value at hand is known: decide and write.
    pub(crate) fn serial_read(&mut self, key: &Bytes, object: Option<&Object>) {
        let Some(pending) = self.serial.by_key.get_mut(key).and_then(VecDeque::front_mut) else {
            return;
        };
        let (admitted, update) = (pending.admitted.clone(), pending.update.clone());
        let own_write = pending.written.filter(|&dot| holds_only(object, dot));
        let live: Vec<Version> = match object {
            Some(object) => object.live(self.now.wall_ms).cloned().collect(),
            None => Vec::new(),
        };
        if live.len() > 1 {
            let siblings = u32::try_from(live.len()).unwrap_or(u32::MAX);
            return self.end_serial(key, Outcome::Failed(Failure::Conflict { siblings }));
        }
        if own_write.is_some() {
            return self.rewrite_own(key, admitted, live.into_iter().next());
        }
        let namespace = admitted.target.namespace;
        let decided = apply(&update, live.first(), self.now.wall_ms, |expiry| {
            self.deadline_of(namespace, expiry)
        });
        match decided {
            Err(error) => self.end_serial(key, Outcome::Failed(Failure::Update(error))),
            Ok(decision) => self.write_serial(key, admitted, object, decision),
        }
    }

    fn write_serial(
        &mut self,
        key: &Bytes,
        admitted: Admitted,
        base: Option<&Object>,
        (change, reply): (Change, Reply),
    ) {
        let fresh = match change {
            Change::None => return self.end_serial(key, Outcome::Updated(reply)),
            Change::Delete => Fresh::deletion(),
            Change::Put { value, expires_ms } => {
                let policy = self.namespaces.get(admitted.target.namespace);
                let fits = policy
                    .map(|policy| check_pair(policy, admitted.target.key(), value.len() as u64));
                if let Some(Err(failure)) = fits {
                    return self.end_serial(key, Outcome::Failed(failure));
                }
                Fresh { content: moim_core::object::Content::Value(value), expires_ms }
            }
        };
        if let Some(base) = base {
            self.clock.observe(base.written());
        }
        let next_counter = self.lww_counter + 1;
        let own = self.own_actor();
        if let Some(pending) = self.serial.by_key.get_mut(key).and_then(VecDeque::front_mut) {
            pending.reply = Some(reply);
            pending.written = Some(Dot { actor: own, counter: next_counter });
        }
        let job = Job { origin: Origin::Serial(key.clone()), admitted };
        match job.admitted.conflict {
            Conflict::Lww => self.begin_lww(job, fresh),
            Conflict::Siblings => {
                let context = base.map(Object::context);
                self.begin_mint(job, fresh, context);
            }
        }
    }

    /// The last attempt's version is what stands, without a quorum: it is stamped anew as it is.
    fn rewrite_own(&mut self, key: &Bytes, admitted: Admitted, standing: Option<Version>) {
        let fresh = match standing {
            None => Fresh::deletion(),
            Some(version) => Fresh { content: version.content, expires_ms: version.expires_ms },
        };
        self.begin_lww(Job { origin: Origin::Serial(key.clone()), admitted }, fresh);
    }

    /// The write of the running update has ended.
    pub(crate) fn serial_written(&mut self, key: &Bytes, outcome: Outcome) {
        let Some(pending) = self.serial.by_key.get_mut(key).and_then(VecDeque::front_mut) else {
            return;
        };
        let (reply, attempts) = (pending.reply.take(), pending.attempts);
        let admitted = pending.admitted.clone();
        match (outcome, reply) {
            (Outcome::Written { .. }, Some(reply)) => self.end_serial(key, Outcome::Updated(reply)),
            // An earlier attempt may be held somewhere: nobody knows whether it was done.
            (Outcome::Failed(Failure::Overloaded { .. }), _) if attempts > 1 => {
                let (node, waited_ms) = (self.info.member.node, self.waited_ms(&admitted));
                self.end_serial(key, Outcome::Failed(Failure::Timeout { node, waited_ms }));
            }
            (outcome, _) => self.end_serial(key, outcome),
        }
    }

    /// Somebody else's write went through first: begin again from what stands now.
    pub(crate) fn serial_outranked(&mut self, key: &Bytes) {
        self.run_serial(key);
    }

    /// Answers the running update and begins the next.
    fn end_serial(&mut self, key: &Bytes, outcome: Outcome) {
        let Some(queue) = self.serial.by_key.get_mut(key) else { return };
        let ended = queue.pop_front();
        self.serial.count -= usize::from(ended.is_some());
        if queue.is_empty() {
            self.serial.by_key.remove(key);
        }
        if let Some(pending) = ended {
            self.finish(pending.origin, outcome);
        }
        self.run_serial(key);
    }

    fn own_actor(&self) -> moim_core::clock::Actor {
        let epoch = moim_core::clock::Epoch { run: self.run, serial: 0 };
        moim_core::clock::Actor { node: self.info.member.node, epoch }
    }
}

/// Whether an `lww` object is just this write.
fn holds_only(object: Option<&Object>, dot: Dot) -> bool {
    matches!(object, Some(Object::Lww(version)) if version.dot == dot)
}
