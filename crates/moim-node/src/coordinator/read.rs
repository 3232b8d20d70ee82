//! The read path: the value from one replica, digests from the others; on a mismatch the objects, joined; written back
//! before the answer where levels promise strong reads; the rest repaired afterwards (REQ-18).

use moim_core::NodeId;
use moim_core::object::{Joined, Object};

use super::{Job, Operation, unavailable};
use crate::api::{Intent, Why};
use crate::message::{Message, OpId, ReadResult, Want};
use crate::node::Node;
use crate::store::Stored;
use crate::timer::Timer;
use crate::views::PeerState;

/// What an owner has said so far.
#[derive(Clone, Debug)]
enum Copy {
    Unasked,
    Asked(Want),
    Digest(Option<u128>),
    Object(Option<Stored>),
    Failed(Why),
}

impl Copy {
    fn state(&self) -> State {
        match self {
            Self::Digest(digest) => State::Known(*digest),
            Self::Object(stored) => State::of(stored.as_ref()),
            Self::Unasked | Self::Asked(_) | Self::Failed(_) => State::Unknown,
        }
    }
}

/// What is known of an owner's version: it may be known that there is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Unknown,
    Known(Option<u128>),
}

impl State {
    fn of(stored: Option<&Stored>) -> Self {
        Self::Known(stored.map(|stored| stored.object.digest()))
    }
}

/// A read under way.
#[derive(Debug)]
pub(crate) struct ReadOp {
    job: Job,
    /// In the order in which they are asked.
    copies: Vec<(NodeId, Copy)>,
    mismatch: bool,
}

/// What to do next.
enum Step {
    Wait,
    /// Ask one more owner for this much.
    AskMore(Want),
    /// Ask owners that gave a digest for their objects.
    Fetch(Vec<NodeId>),
    /// All that answered agree, or everything they hold is at hand.
    Done,
    Impossible,
}

impl ReadOp {
    pub(crate) fn waits_for(&self, node: NodeId) -> bool {
        self.copies.iter().any(|(owner, copy)| *owner == node && matches!(copy, Copy::Asked(_)))
    }

    fn set(&mut self, node: NodeId, copy: Copy) {
        if let Some(slot) = self.copies.iter_mut().find(|(owner, _)| *owner == node) {
            slot.1 = copy;
        }
    }

    fn count(&self, wanted: impl Fn(&Copy) -> bool) -> usize {
        self.copies.iter().filter(|(_, copy)| wanted(copy)).count()
    }

    fn answered(&self) -> u8 {
        u8::try_from(self.count(|copy| copy.state() != State::Unknown))
            .expect("owners are at most COPIES_MAX")
    }

    fn step(&self) -> Step {
        let needed = usize::from(self.job.admitted.needs_r());
        let answered = usize::from(self.answered());
        let asked = self.count(|copy| matches!(copy, Copy::Asked(_)));
        let unasked = self.count(|copy| matches!(copy, Copy::Unasked));
        if answered + asked + unasked < needed {
            // Those that were asked are still heard, so that the error can say how many answered.
            return if asked > 0 { Step::Wait } else { Step::Impossible };
        }
        if answered + asked < needed {
            return Step::AskMore(self.wanted());
        }
        if answered < needed {
            return Step::Wait;
        }
        self.reconcile()
    }

    /// Somebody must be asked for the object; digests do from the others.
    fn wanted(&self) -> Want {
        let object = |copy: &Copy| matches!(copy, Copy::Object(_) | Copy::Asked(Want::Object));
        if self.count(object) == 0 { Want::Object } else { Want::Digest }
    }

    /// Enough have answered: is everything they hold at hand?
    fn reconcile(&self) -> Step {
        let at_hand = self.copies.iter().filter(|(_, copy)| matches!(copy, Copy::Object(_)));
        let objects: Vec<_> = at_hand.map(|(_, copy)| copy.state()).collect();
        let unknown = self.copies.iter().filter(|(_, copy)| match copy {
            Copy::Digest(_) => !objects.contains(&copy.state()),
            _ => false,
        });
        let mut fetch: Vec<NodeId> = unknown.map(|(node, _)| *node).collect();
        let awaits_object = self.count(|copy| matches!(copy, Copy::Asked(Want::Object))) > 0;
        match () {
            () if fetch.is_empty() => Step::Done,
            // The value is on its way from the one that was asked for it: wait for that before asking all.
            () if objects.is_empty() && awaits_object => Step::Wait,
            () if objects.is_empty() => {
                fetch.truncate(1);
                Step::Fetch(fetch)
            }
            () => Step::Fetch(fetch),
        }
    }

    /// Everything at hand, joined.
    fn joined(&self) -> Option<Stored> {
        let held = self.copies.iter().filter_map(|(_, copy)| match copy {
            Copy::Object(Some(stored)) => Some(stored.clone()),
            _ => None,
        });
        held.reduce(|a, b| match a.object.join(&b.object) {
            Ok(Joined::Incoming) => b,
            Ok(Joined::Merged(object)) => Stored::new(object),
            Ok(Joined::Unchanged) | Err(_) => a,
        })
    }
}

impl Node {
    /// Reads a key at its level.
    pub(crate) fn begin_read(&mut self, job: Job) {
        let owners = self.read_order(&job.admitted.owners);
        let copies = owners.into_iter().map(|owner| (owner, Copy::Unasked)).collect();
        let (deadline, started) = (job.admitted.deadline_mono_ms, job.admitted.started_mono_ms);
        let id = self.register(deadline, Operation::Read(ReadOp { job, copies, mismatch: false }));
        let retry_at = started + u64::from(self.options.read_retry_ms);
        if retry_at < deadline {
            self.timers.set(retry_at, Timer::ReadRetry(id));
        }
        self.drive_read(id);
    }

    /// This node first, then those that talk, then the silent. Who cannot be reached is not asked.
    fn read_order(&self, owners: &[NodeId]) -> Vec<NodeId> {
        let own = self.info.member.node;
        let distance = |node: NodeId| match self.peers.state(node) {
            _ if node == own => 0,
            PeerState::Up => 1,
            PeerState::Silent => 2,
            PeerState::Skipped => 3,
            PeerState::Unreachable => 4,
        };
        let mut order = owners.to_vec();
        order.sort_by_key(|&node| distance(node));
        order
    }

    /// A replica has answered a read.
    pub(crate) fn on_read_reply(&mut self, from: NodeId, id: OpId, result: ReadResult) {
        match self.operations.get_mut(id) {
            Some(Operation::Read(read)) if read.waits_for(from) => {
                match copy_of(result) {
                    Ok(copy) => read.set(from, copy),
                    Err(why) => return self.read_refused(id, from, why),
                }
                self.drive_read(id);
            }
            Some(Operation::Inspect(_)) => self.inspect_reply(from, id, result),
            _ => {}
        }
    }

    pub(crate) fn read_refused(&mut self, id: OpId, node: NodeId, why: Why) {
        if let Some(Operation::Read(read)) = self.operations.get_mut(id) {
            read.set(node, Copy::Failed(why));
            self.drive_read(id);
        }
    }

    /// A read has waited long enough: it asks one more.
    pub(crate) fn on_read_retry(&mut self, id: OpId) {
        let Some(Operation::Read(read)) = self.operations.get_mut(id) else { return };
        let object_missing = read.count(|copy| matches!(copy, Copy::Object(_))) == 0;
        let want = if object_missing { Want::Object } else { Want::Digest };
        if self.ask_more(id, want) {
            self.figures.read_retries += 1;
        }
    }

    fn drive_read(&mut self, id: OpId) {
        loop {
            let Some(Operation::Read(read)) = self.operations.get_mut(id) else { return };
            match read.step() {
                Step::Wait => return,
                Step::AskMore(want) => {
                    self.ask_more(id, want);
                }
                Step::Fetch(nodes) => return self.fetch(id, &nodes),
                Step::Done => return self.read_done(id),
                Step::Impossible => return self.read_failed(id),
            }
        }
    }

    /// Asks the next owner that has not been asked; those that cannot be are passed over. Returns whether one was.
    fn ask_more(&mut self, id: OpId, want: Want) -> bool {
        loop {
            let Some(Operation::Read(read)) = self.operations.get_mut(id) else { return false };
            let next = read.copies.iter().find(|(_, copy)| matches!(copy, Copy::Unasked));
            let Some(node) = next.map(|(node, _)| *node) else { return false };
            if self.can_ask(node) {
                self.ask(id, node, want);
                return true;
            }
            let why = self.why_not(node);
            if let Some(Operation::Read(read)) = self.operations.get_mut(id) {
                read.set(node, Copy::Failed(why));
            }
        }
    }

    fn ask(&mut self, id: OpId, node: NodeId, want: Want) {
        let Some(Operation::Read(read)) = self.operations.get_mut(id) else { return };
        read.set(node, Copy::Asked(want));
        let (namespace, key) =
            (read.job.admitted.target.namespace, read.job.admitted.target.key.clone());
        let deadline = read.job.admitted.deadline_mono_ms;
        let budget_ms = self.budget_ms(deadline);
        self.send_plain(node, Message::Read { op: id, namespace, key, want, budget_ms });
    }

    fn fetch(&mut self, id: OpId, nodes: &[NodeId]) {
        if let Some(Operation::Read(read)) = self.operations.get_mut(id)
            && !std::mem::replace(&mut read.mismatch, true)
        {
            self.figures.read_mismatches += 1;
        }
        for &node in nodes {
            if self.can_ask(node) {
                self.ask(id, node, Want::Object);
            } else {
                return self.read_refused(id, node, self.why_not(node));
            }
        }
    }

    /// Everything that R replicas hold is at hand: answer, after writing back where that is promised.
    fn read_done(&mut self, id: OpId) {
        let Some(Operation::Read(read)) = self.operations.remove(id) else { return };
        self.observe_latency(&read.job.origin, read.job.admitted.started_mono_ms);
        let joined = read.joined();
        let state = State::of(joined.as_ref());
        let holds = |copy: &Copy| copy.state() == state;
        let agreed =
            read.copies.iter().all(|(_, copy)| copy.state() == State::Unknown || holds(copy));
        let Some(stored) = joined.filter(|_| !agreed) else {
            return self.finish_read(read.job.origin, agreed_object(&read.copies));
        };
        let holders = u8::try_from(read.count(holds)).expect("owners are at most COPIES_MAX");
        let stale = read
            .copies
            .iter()
            .filter(|(_, copy)| !holds(copy))
            .map(|(node, _)| *node)
            .collect::<Vec<_>>();
        self.figures.read_repairs += stale.len() as u64;
        let missing = read.job.admitted.write_back.saturating_sub(holders);
        if missing > 0 {
            return self.begin_write_back(read.job, stored, stale, missing);
        }
        let repair = Job { origin: super::Origin::Nobody, admitted: read.job.admitted.clone() };
        self.finish_read(read.job.origin, Some(stored.object.clone()));
        self.begin_write_back(repair, stored, stale, 1);
    }

    fn read_failed(&mut self, id: OpId) {
        if let Some(Operation::Read(read)) = self.operations.remove(id) {
            self.answer_unread(read, 0);
        }
    }

    pub(crate) fn read_deadline(&mut self, read: ReadOp) {
        let waited_ms = self.waited_ms(&read.job.admitted);
        for (node, copy) in &read.copies {
            if let Copy::Asked(_) = copy {
                self.missed_deadline(*node);
            }
        }
        self.answer_unread(read, waited_ms);
    }

    fn answer_unread(&mut self, read: ReadOp, waited_ms: u32) {
        let counts = (read.job.admitted.needs_r(), read.answered());
        let missing = read.copies.iter().filter_map(|(node, copy)| match copy {
            Copy::Failed(why) => Some((*node, why.clone())),
            Copy::Asked(_) => Some((*node, Why::NoAnswer(waited_ms))),
            _ => None,
        });
        let outcome = unavailable(Intent::Read, read.job.admitted.r, counts, missing);
        self.finish(read.job.origin, outcome);
    }
}

fn copy_of(result: ReadResult) -> Result<Copy, Why> {
    match result {
        ReadResult::Object(None) => Ok(Copy::Object(None)),
        ReadResult::Object(Some(encoded)) => Stored::decode(encoded)
            .map(|stored| Copy::Object(Some(stored)))
            .map_err(|_damaged| Why::Unsupported),
        ReadResult::Digest(digest) => Ok(Copy::Digest(digest)),
        ReadResult::Refused(why) => Err(why),
    }
}

/// The object of any replica, when all that answered hold the same.
fn agreed_object(copies: &[(NodeId, Copy)]) -> Option<Object> {
    copies.iter().find_map(|(_, copy)| match copy {
        Copy::Object(stored) => stored.as_ref().map(|stored| stored.object.clone()),
        _ => None,
    })
}
