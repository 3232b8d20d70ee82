//! The read path: the value from one replica, digests from the others; on a mismatch the objects, joined; written back
//! before the answer where levels promise strong reads; the rest repaired afterwards (REQ-18). In sloppy namespaces nodes
//! that may keep the key for owners are asked where too few owners can be (`stand_in`).

use moim_core::NodeId;
use moim_core::clock::Hlc;
use moim_core::object::{Joined, Object, Version};

use super::{Admitted, Job, Operation, Origin, unavailable};
use crate::api::{Intent, Why};
use crate::message::{Message, OpId, ReadResult, Want};
use crate::node::Node;
use crate::options::Mutation;
use crate::store::Stored;
use crate::timer::Timer;
use crate::views::PeerState;

/// Somebody who may hold the key.
#[derive(Debug)]
struct Holder {
    node: NodeId,
    /// It is no owner, but may keep the key for one.
    stands_in: bool,
    copy: Copy,
}

impl Holder {
    /// Whether it knows of the key: as an owner, or because it keeps it for one.
    fn knows(&self) -> bool {
        match self.copy.state() {
            State::Unknown => false,
            State::Known(version) => !self.stands_in || version.is_some(),
        }
    }

    /// Whether it stands in and keeps nothing.
    fn is_empty_handed(&self) -> bool {
        self.stands_in && self.copy.state() == State::Known(None)
    }
}

/// What a holder has said so far.
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
    holders: Vec<Holder>,
    /// Who was asked, and when last, on the monotonic clock.
    asked: Vec<(NodeId, u64)>,
    /// Who was asked because another was late.
    hedge: Option<NodeId>,
    /// When it began, in Unix milliseconds, if it is one of those that are looked at again.
    sampled_wall_ms: Option<u64>,
    mismatch: bool,
    /// Owners that have not answered until now are not counted upon.
    late: bool,
    /// Nobody else may stand in.
    alone: bool,
}

/// What to do next.
enum Step {
    Wait,
    /// Ask one more owner for this much.
    AskMore(Want),
    /// Ask somebody who may keep the key for an owner.
    StandIn,
    /// Ask owners that gave a digest for their objects.
    Fetch(Vec<NodeId>),
    /// All that answered agree, or everything they hold is at hand.
    Done,
    Impossible,
}

impl ReadOp {
    fn new(job: Job, holders: Vec<Holder>) -> Self {
        let alone = !job.admitted.sloppy;
        let (asked, hedge, mismatch, late) = (Vec::new(), None, false, false);
        let sampled_wall_ms = None;
        Self { job, holders, asked, hedge, sampled_wall_ms, mismatch, late, alone }
    }

    pub(super) fn begun(&self) -> Hlc {
        self.job.admitted.begun
    }

    pub(crate) fn waits_for(&self, node: NodeId) -> bool {
        let is_asked = |copy: &Copy| matches!(copy, Copy::Asked(_));
        self.holders.iter().any(|holder| holder.node == node && is_asked(&holder.copy))
    }

    pub(super) fn admitted(&self) -> &Admitted {
        &self.job.admitted
    }

    pub(super) fn has_asked(&self, node: NodeId) -> bool {
        self.holders.iter().any(|holder| holder.node == node)
    }

    pub(super) fn add_stand_in(&mut self, node: NodeId) {
        self.holders.push(Holder { node, stands_in: true, copy: Copy::Unasked });
    }

    /// Owners that have not answered until now are not counted upon.
    pub(super) fn owners_are_late(&mut self) {
        self.late = true;
    }

    fn set(&mut self, node: NodeId, copy: Copy) {
        if let Some(holder) = self.holders.iter_mut().find(|holder| holder.node == node) {
            holder.copy = copy;
        }
    }

    /// When this replica was asked.
    fn asked_mono_ms(&self, node: NodeId) -> Option<u64> {
        self.asked.iter().find(|(asked, _)| *asked == node).map(|(_, at)| *at)
    }

    /// Who was asked and has not answered, and when.
    fn late(&self) -> impl Iterator<Item = (NodeId, u64)> + '_ {
        self.asked.iter().filter(|(node, _)| self.waits_for(*node)).copied()
    }

    /// Whether the replica that was asked in addition answered while another is still awaited.
    fn hedge_won(&self) -> bool {
        self.hedge.is_some_and(|node| !self.waits_for(node)) && self.late().next().is_some()
    }

    fn count(&self, wanted: impl Fn(&Copy) -> bool) -> usize {
        self.holders.iter().filter(|holder| wanted(&holder.copy)).count()
    }

    /// Answers that count: those of all who know of the key, and beside such a one, those of stand-ins without it.
    fn answered(&self) -> u8 {
        let known = self.holders.iter().filter(|holder| holder.knows()).count();
        let empty = self.holders.iter().filter(|holder| holder.is_empty_handed()).count();
        let answered = if known == 0 { 0 } else { known + empty };
        u8::try_from(answered).expect("owners and stand-ins are at most twice COPIES_MAX")
    }

    /// Whether owners alone do not make up the level.
    fn is_sloppy(&self) -> bool {
        let owners = self.holders.iter().filter(|holder| !holder.stands_in && holder.knows());
        owners.count() < usize::from(self.job.admitted.needs_r())
    }

    /// Whether others must be asked: too few owners answer soon.
    fn wants_stand_in(&self, needed: usize) -> bool {
        let is_hopeful = |holder: &&Holder| match holder.copy {
            Copy::Asked(_) => holder.stands_in || !self.late,
            Copy::Unasked => true,
            _ => false,
        };
        let hopeful = self.holders.iter().filter(is_hopeful).count();
        !self.alone && usize::from(self.answered()) + hopeful < needed
    }

    fn step(&self) -> Step {
        let needed = usize::from(self.job.admitted.needs_r());
        let answered = usize::from(self.answered());
        let asked = self.count(|copy| matches!(copy, Copy::Asked(_)));
        let unasked = self.count(|copy| matches!(copy, Copy::Unasked));
        if self.wants_stand_in(needed) {
            return Step::StandIn;
        }
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
        let at_hand = self
            .holders
            .iter()
            .filter(|holder| matches!(holder.copy, Copy::Object(_)) && !holder.is_empty_handed());
        let objects: Vec<_> = at_hand.map(|holder| holder.copy.state()).collect();
        let unknown = self.holders.iter().filter(|holder| match &holder.copy {
            Copy::Digest(_) => !objects.contains(&holder.copy.state()),
            _ => false,
        });
        let mut fetch: Vec<NodeId> = unknown.map(|holder| holder.node).collect();
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
        let held = self.holders.iter().filter_map(|holder| match &holder.copy {
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
        let holder = |node| Holder { node, stands_in: false, copy: Copy::Unasked };
        let holders = owners.into_iter().map(holder).collect();
        let (deadline, admitted) = (job.admitted.deadline_mono_ms, job.admitted.clone());
        let sampled_wall_ms = self.sample_freshness(&job.origin);
        let read = ReadOp { sampled_wall_ms, ..ReadOp::new(job, holders) };
        let id = self.register(deadline, Operation::Read(read));
        self.watch_owners(id, &admitted);
        self.hedging.earn();
        self.drive_read(id);
        self.hedge_later(id);
    }

    /// The time, if a read that begins now is to be looked at again: one that a client made.
    fn sample_freshness(&mut self, origin: &Origin) -> Option<u64> {
        let (one_in, checks_max) =
            (self.options.freshness_one_in, self.options.freshness_checks_max);
        let asked = matches!(origin, Origin::Client(_) | Origin::Forwarded(..));
        let sampled = asked && self.freshness.samples(self.now.mono_ms, one_in, checks_max);
        sampled.then_some(self.now.wall_ms)
    }

    /// Sets the timer at which the slowest of those that were asked is late.
    fn hedge_later(&mut self, id: OpId) {
        let Some(Operation::Read(read)) = self.operations.get_mut(id) else { return };
        let now_ms = self.now.mono_ms;
        let delays =
            read.late().map(|(node, _)| self.hedging.delay_ms(node, now_ms, &self.options));
        let at = now_ms + u64::from(delays.max().unwrap_or(self.options.read_retry_ms));
        if at < read.job.admitted.deadline_mono_ms {
            self.timers.set(at, Timer::ReadRetry(id));
        }
    }

    /// This node first, then those that talk, then the silent, then those that have been slow of late. Who cannot be reached is not asked.
    fn read_order(&self, owners: &[NodeId]) -> Vec<NodeId> {
        let own = self.info.member.node;
        let distance = |node: NodeId| match self.peers.state(node) {
            _ if self.hedging.is_slow(node, self.now.mono_ms, &self.options) => 3,
            _ if node == own => 0,
            PeerState::Up => 1,
            PeerState::Silent => 2,
            PeerState::Skipped => 4,
            PeerState::Unreachable => 5,
        };
        let mut order = owners.to_vec();
        order.sort_by_key(|&node| distance(node));
        order
    }

    /// A replica has answered a read.
    pub(crate) fn on_read_reply(&mut self, from: NodeId, id: OpId, result: ReadResult) {
        match self.operations.get_mut(id) {
            Some(Operation::Read(read)) if read.waits_for(from) => {
                if let Some(asked_ms) = read.asked_mono_ms(from) {
                    let took_ms = self.now.mono_ms.saturating_sub(asked_ms);
                    self.hedging.observe(from, self.now.mono_ms, took_ms);
                }
                match copy_of(result) {
                    Ok(copy) => read.set(from, copy),
                    Err(why) => return self.read_refused(id, from, why),
                }
                self.drive_read(id);
            }
            Some(Operation::Inspect(_)) => self.inspect_reply(from, id, result),
            Some(Operation::Freshness(_)) => self.freshness_reply(from, id, result),
            _ => {}
        }
    }

    pub(crate) fn read_refused(&mut self, id: OpId, node: NodeId, why: Why) {
        if let Some(Operation::Read(read)) = self.operations.get_mut(id) {
            read.set(node, Copy::Failed(why));
            self.drive_read(id);
        }
    }

    /// A read has waited long enough: it asks one more, if it may.
    pub(crate) fn on_read_retry(&mut self, id: OpId) {
        let Some(Operation::Read(read)) = self.operations.get_mut(id) else { return };
        let now_ms = self.now.mono_ms;
        let (started, deadline) =
            (read.job.admitted.started_mono_ms, read.job.admitted.deadline_mono_ms);
        let (retry_at, last_at) =
            (started + u64::from(self.options.read_retry_ms), started.midpoint(deadline));
        let silent = read.late().any(|(node, asked_ms)| self.peers.is_silent_since(node, asked_ms));
        let (allowed, next_at) = match () {
            () if now_ms < retry_at => (self.hedging.take_hedge(), retry_at),
            () if now_ms < last_at => (silent || self.hedging.take_retry(), last_at),
            () => (true, deadline),
        };
        if next_at > now_ms && next_at < deadline {
            self.timers.set(next_at, Timer::ReadRetry(id));
        }
        if allowed {
            self.hedge(id);
        }
    }

    /// Asks one more: for the object, if that has not come yet.
    fn hedge(&mut self, id: OpId) {
        let Some(Operation::Read(read)) = self.operations.get_mut(id) else { return };
        let object_missing = read.count(|copy| matches!(copy, Copy::Object(_))) == 0;
        let want = if object_missing { Want::Object } else { Want::Digest };
        if !self.ask_more(id, want) {
            return;
        }
        self.figures.read_retries += 1;
        if let Some(Operation::Read(read)) = self.operations.get_mut(id) {
            read.hedge = read.asked.last().map(|(node, _)| *node);
        }
    }

    pub(super) fn drive_read(&mut self, id: OpId) {
        loop {
            let Some(Operation::Read(read)) = self.operations.get_mut(id) else { return };
            match read.step() {
                Step::Wait => return,
                Step::AskMore(want) => {
                    self.ask_more(id, want);
                }
                Step::StandIn => {
                    if !self.ask_stand_in(id)
                        && let Some(Operation::Read(read)) = self.operations.get_mut(id)
                    {
                        read.alone = true;
                    }
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
            let mut unasked =
                read.holders.iter().filter(|holder| matches!(holder.copy, Copy::Unasked));
            let Some(node) = unasked.next().map(|holder| holder.node) else { return false };
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

    pub(super) fn ask(&mut self, id: OpId, node: NodeId, want: Want) {
        let Some(Operation::Read(read)) = self.operations.get_mut(id) else { return };
        read.set(node, Copy::Asked(want));
        let now_ms = self.now.mono_ms;
        match read.asked.iter_mut().find(|(asked, _)| *asked == node) {
            Some((_, at_ms)) => *at_ms = now_ms,
            None => read.asked.push((node, now_ms)),
        }
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
        self.figures.read_hedges_won += u64::from(read.hedge_won());
        self.observe_late(&read);
        let joined = match self.options.mutation {
            Some(Mutation::RepairResurrects) => self.resurrected(&read).or_else(|| read.joined()),
            _ => read.joined(),
        };
        if let Some(began_wall_ms) = read.sampled_wall_ms {
            let answer = joined.as_ref().map(|stored| stored.object.clone());
            let unknown =
                |holder: &&Holder| !holder.stands_in && holder.copy.state() == State::Unknown;
            let others = read.holders.iter().filter(unknown).map(|holder| holder.node).collect();
            self.check_freshness(&read.job.admitted, began_wall_ms, answer, others);
        }
        let state = State::of(joined.as_ref());
        let holds = |copy: &Copy| copy.state() == state;
        let is_sloppy = read.is_sloppy();
        self.figures.sloppy_reads += u64::from(is_sloppy);
        let agrees = |holder: &Holder| {
            holder.copy.state() == State::Unknown || holder.is_empty_handed() || holds(&holder.copy)
        };
        let Some(stored) = joined.filter(|_| !read.holders.iter().all(agrees)) else {
            return self.finish_read(read.job.origin, agreed_object(&read.holders));
        };
        let holders = u8::try_from(read.count(holds)).expect("at most twice COPIES_MAX");
        // What stand-ins keep they hand over themselves.
        let owners = read.holders.iter().filter(|holder| !holder.stands_in);
        let stale: Vec<_> =
            owners.filter(|holder| !holds(&holder.copy)).map(|holder| holder.node).collect();
        self.figures.read_repairs += stale.len() as u64;
        let missing = read.job.admitted.write_back.saturating_sub(holders);
        // Where stand-ins count nothing is promised about later reads: the owners that can be are brought up to date.
        let within_reach = stale.iter().filter(|&&owner| self.can_ask(owner)).count();
        let within_reach = u8::try_from(within_reach).unwrap_or(u8::MAX);
        let missing = if is_sloppy { missing.min(within_reach) } else { missing };
        if missing > 0 {
            return self.begin_write_back(read.job, stored, stale, missing);
        }
        let repair = Job { origin: Origin::Nobody, admitted: read.job.admitted.clone() };
        self.finish_read(read.job.origin, Some(stored.object.clone()));
        self.begin_write_back(repair, stored, stale, 1);
    }

    /// The planted fault: of copies that differ, one with a value wins, as if it were written now.
    fn resurrected(&mut self, read: &ReadOp) -> Option<Stored> {
        let wall_ms = self.now.wall_ms;
        let known = read.holders.iter().filter(|holder| holder.copy.state() != State::Unknown);
        let states: Vec<_> = known.map(|holder| holder.copy.state()).collect();
        let live = read.holders.iter().find_map(|holder| match &holder.copy {
            Copy::Object(Some(Stored { object: Object::Lww(version), .. }))
                if version.is_live(wall_ms) =>
            {
                Some(version.clone())
            }
            _ => None,
        })?;
        if states.windows(2).all(|pair| pair[0] == pair[1]) {
            return None;
        }
        let written = self.stamp();
        Some(Stored::new(Object::Lww(Version { written, ..live })))
    }

    /// Who is still awaited takes at least as long as it has taken so far.
    fn observe_late(&mut self, read: &ReadOp) {
        for (node, asked_ms) in read.late() {
            let took_ms = self.now.mono_ms.saturating_sub(asked_ms);
            self.hedging.observe(node, self.now.mono_ms, took_ms);
        }
    }

    fn read_failed(&mut self, id: OpId) {
        if let Some(Operation::Read(read)) = self.operations.remove(id) {
            self.answer_unread(read, 0);
        }
    }

    pub(crate) fn read_deadline(&mut self, read: ReadOp) {
        let waited_ms = self.waited_ms(&read.job.admitted);
        self.observe_late(&read);
        for holder in &read.holders {
            if let Copy::Asked(_) = holder.copy {
                self.missed_deadline(holder.node);
            }
        }
        self.answer_unread(read, waited_ms);
    }

    fn answer_unread(&mut self, read: ReadOp, waited_ms: u32) {
        let counts = (read.job.admitted.needs_r(), read.answered());
        let missing = read.holders.iter().filter_map(|holder| match &holder.copy {
            Copy::Failed(why) => Some((holder.node, why.clone())),
            Copy::Asked(_) => Some((holder.node, Why::NoAnswer(waited_ms))),
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
fn agreed_object(holders: &[Holder]) -> Option<Object> {
    holders.iter().find_map(|holder| match &holder.copy {
        Copy::Object(stored) => stored.as_ref().map(|stored| stored.object.clone()),
        _ => None,
    })
}
