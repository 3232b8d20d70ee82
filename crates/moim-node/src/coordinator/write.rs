//! The write path: send to all owners, acknowledge at W, go on until all have it or owe it to them.
//!
//! In `lww` an owner that holds a later version answers *superseded*. Without W plain acknowledgements the write is
//! stamped anew above what it met and sent again, before it is acknowledged: so with strict quorums and 2W > N a write
//! that begins after another's acknowledgement outranks it, whatever the clocks say. In sloppy namespaces others stand
//! in for owners that cannot be reached (`stand_in`).

use moim_core::NodeId;
use moim_core::clock::{Actor, Dot, Epoch, Hlc};
use moim_core::object::{Content, Context, Draft, Object, Version};
use moim_core::quorum::Verdict;

use super::slots::{Slots, Standing, Vote};
use super::{Admitted, Fresh, Job, Operation, Origin, Owners, unavailable};
use crate::api::{BatchId, Expiry, Failure, Intent, Outcome, Queue, Why};
use crate::gate::{NOTHING, Outgoing};
use crate::message::{Message, OpId, WriteResult};
use crate::namespace::Conflict;
use crate::node::Node;
use crate::options::Mutation;
use crate::replica::Target;
use crate::store::Stored;
use crate::timer::Timer;
use crate::views::PeerState;

/// A write under way.
#[derive(Debug)]
pub(crate) struct WriteOp {
    /// Taken when it is answered.
    origin: Option<Origin>,
    pub(super) admitted: Admitted,
    pub(super) stored: Stored,
    /// What the client gets back to replace just this.
    context: Context,
    pub(super) slots: Slots,
    intent: Intent,
}

/// What a write has come to, for whoever waits for it.
struct Answer {
    origin: Origin,
    outcome: Outcome,
    started_mono_ms: u64,
    /// What a read wrote back, and returns.
    read: Option<Object>,
}

impl WriteOp {
    fn new(job: Job, stored: Stored, context: Context, needed: u8) -> Self {
        let Job { origin, admitted } = job;
        let slots = Slots::new(&admitted.owners, needed);
        Self { origin: Some(origin), admitted, stored, context, slots, intent: Intent::Write }
    }

    pub(super) fn begun(&self) -> Hlc {
        self.admitted.begun
    }

    /// Reads what a vote will need.
    pub(super) fn touch(&self) -> usize {
        usize::from(self.origin.is_some()) + self.slots.touch()
    }

    pub(crate) fn waits_for(&self, node: NodeId) -> bool {
        self.slots.waits_for(node)
    }

    /// Whether somebody waits for its outcome.
    pub(super) fn is_open(&self) -> bool {
        self.origin.is_some()
    }

    /// What whoever waits for it is told, once.
    fn take_answer(&mut self, outcome: fn(&Self) -> Outcome) -> Option<Answer> {
        let origin = self.origin.take()?;
        let outcome = outcome(self);
        let read = self.intent == Intent::Read && matches!(outcome, Outcome::Written { .. });
        let read = read.then(|| self.stored.whole());
        Some(Answer { origin, outcome, started_mono_ms: self.admitted.started_mono_ms, read })
    }

    fn outcome(&self) -> Outcome {
        Outcome::Written { context: self.context.clone(), version: self.stored.object.written() }
    }

    fn failure(&self) -> Outcome {
        if let Some(limit) = self.slots.hints_full() {
            return Outcome::Failed(Failure::Overloaded { queue: Queue::HintStore, limit });
        }
        let level = if self.intent == Intent::Read { self.admitted.r } else { self.admitted.w };
        let counts = (self.slots.needed(), self.slots.got());
        unavailable(self.intent, level, counts, self.slots.missing())
    }
}

impl Node {
    /// Writes a value whatever was there.
    pub(crate) fn begin_put(
        &mut self,
        job: Job,
        value: Draft,
        expiry: Expiry,
        context: Option<Context>,
    ) {
        let expires_ms = self.deadline_of(job.admitted.target.namespace, expiry);
        let dead = expires_ms != 0 && expires_ms <= self.now.wall_ms;
        match job.admitted.conflict {
            _ if dead => self.begin_delete_of(job, context),
            Conflict::Siblings => {
                let fresh = Fresh { content: Content::Value(value.into_value()), expires_ms };
                self.begin_mint(job, fresh, context);
            }
            Conflict::Lww => match self.observe_context(context.as_ref()) {
                Ok(()) => self.begin_lww_draft(job, value, expires_ms),
                Err(failure) => self.finish(job.origin, Outcome::Failed(failure)),
            },
        }
    }

    /// Writes a value that has expired already: what was there is gone.
    fn begin_delete_of(&mut self, job: Job, context: Option<Context>) {
        match job.admitted.conflict {
            Conflict::Siblings => self.begin_mint(job, Fresh::deletion(), context),
            Conflict::Lww => self.begin_lww_after(job, context.as_ref()),
        }
    }

    /// Deletes whatever was there.
    pub(crate) fn begin_delete(&mut self, job: Job, context: Option<Context>) {
        match job.admitted.conflict {
            Conflict::Siblings => self.begin_mint_of_deletion(job, context),
            Conflict::Lww => self.begin_lww_after(job, context.as_ref()),
        }
    }

    /// Deletes what its writer had read, and what was before it.
    fn begin_lww_after(&mut self, job: Job, context: Option<&Context>) {
        match self.observe_context(context) {
            Ok(()) => self.begin_lww(job, Fresh::deletion()),
            Err(failure) => self.finish(job.origin, Outcome::Failed(failure)),
        }
    }

    /// A write that carries an `lww` context ends above what its writer had read.
    fn observe_context(&mut self, context: Option<&Context>) -> Result<(), Failure> {
        match context {
            None => Ok(()),
            Some(Context::Lww(seen)) if self.is_plausible(*seen) => {
                self.clock.observe(*seen);
                Ok(())
            }
            Some(_) => Err(Failure::BadContext),
        }
    }

    /// Whether a time is not so far ahead that following it would get this node's stamps refused.
    pub(crate) fn is_plausible(&self, time: Hlc) -> bool {
        time.millis() <= self.now.wall_ms.saturating_add(self.options.max_clock_skew_ms)
    }

    /// Stamps an `lww` version and sends it to all owners.
    pub(crate) fn begin_lww(&mut self, job: Job, fresh: Fresh) {
        let Fresh { content, expires_ms } = fresh;
        let version = self.new_version(&job.admitted, content, expires_ms);
        self.send_version(job, Stored::new(Object::Lww(version)));
    }

    /// The same for a value that came with room for its header.
    fn begin_lww_draft(&mut self, job: Job, value: Draft, expires_ms: u64) {
        let version = self.new_version(&job.admitted, Content::Deleted, expires_ms);
        let (object, encoded) = value.into_outlined(version);
        self.send_version(job, Stored { object, encoded });
    }

    fn send_version(&mut self, job: Job, stored: Stored) {
        let context = stored.object.context();
        self.begin_write(job, stored, context, None);
    }

    /// Stamps an `lww` version.
    fn new_version(&mut self, admitted: &Admitted, content: Content, expires_ms: u64) -> Version {
        let written = self.stamp();
        self.lww_counter += 1;
        let epoch = Epoch { run: self.run, serial: 0 };
        let dot =
            Dot { actor: Actor { node: self.info.member.node, epoch }, counter: self.lww_counter };
        let created_ms = self.created_ms(admitted).unwrap_or_else(|| written.millis());
        Version { written, dot, created_ms, expires_ms, content }
    }

    /// When the live value at hand was created, as far as memory knows.
    fn created_ms(&self, admitted: &Admitted) -> Option<u64> {
        let held = self.store.peek_outline(&admitted.target.data_key)?;
        held.live(self.now.wall_ms).next().map(|version| version.created_ms)
    }

    /// Sends an object to all owners; `context` goes back to the writer. An object that was `minted` is already in that
    /// batch of this node's own replica, which votes when the batch is durable.
    pub(crate) fn begin_write(
        &mut self,
        job: Job,
        stored: Stored,
        context: Context,
        minted: Option<BatchId>,
    ) {
        let needed = match self.options.mutation {
            Some(Mutation::WriteQuorumShort) => job.admitted.needs_w().max(2) - 1,
            _ => job.admitted.needs_w(),
        };
        self.send_round(Box::new(WriteOp::new(job, stored, context, needed)), minted);
    }

    /// Brings a joined object to `stale` owners, and answers a read once `needed` of them have it.
    pub(crate) fn begin_write_back(
        &mut self,
        mut job: Job,
        stored: Stored,
        stale: Owners,
        needed: u8,
    ) {
        job.admitted.owners = stale;
        job.admitted.sloppy = false;
        let context = stored.object.context();
        let op = WriteOp { intent: Intent::Read, ..WriteOp::new(job, stored, context, needed) };
        self.send_round(Box::new(op), None);
    }

    /// Sends the object of `op` to every owner under a fresh id.
    fn send_round(&mut self, mut op: Box<WriteOp>, minted: Option<BatchId>) {
        if minted.is_some() {
            let away = op.admitted.owners.iter().copied().find(|&owner| !self.can_ask(owner));
            op.slots.is_kept_by(self.info.member.node, away);
        }
        let owners = op.admitted.owners.clone();
        let own = self.info.member.node;
        // What a read brings elsewhere was told by replicas that have it durable; there is no stamp of ours to cover.
        let reveals = match op.intent {
            Intent::Read => NOTHING,
            Intent::Write => self.lease_batch(op.stored.object.written()),
        };
        let Target { namespace, partition, .. } = op.admitted.target;
        // One of each for every owner, without one that is left over.
        let parts = (op.admitted.target.shared_key(), op.stored.encoded.clone());
        let parts = std::iter::repeat_n(parts, owners.len());
        let budget_ms = self.budget_ms(op.admitted.deadline_mono_ms);
        let watched = self.may_seek_stand_ins(&op.admitted);
        let id = self.register(op.admitted.deadline_mono_ms, Operation::Write(op));
        if watched {
            self.watch_owners(id);
        }
        for (&owner, (key, object)) in owners.iter().zip(parts) {
            match minted {
                Some(_) if owner == own && !self.is_filled(partition) => {
                    self.answer_write(own, id, WriteResult::Refused(Why::NotReady), NOTHING);
                }
                Some(batch) if owner == own => {
                    self.answer_write(own, id, WriteResult::Stored, batch);
                }
                _ if self.can_ask(owner) => {
                    let message = Message::Write { op: id, namespace, key, object, budget_ms };
                    self.send(reveals, Outgoing::Peer(owner, message));
                }
                _ => self.write_skipped(id, owner),
            }
        }
        if let Some(batch) = minted.filter(|_| !owners.contains(&own)) {
            self.answer_write(own, id, WriteResult::Stored, batch);
        }
        // Levels beyond the copies there are, and nobody to ask, are known to be impossible at once.
        self.judge_write(id);
    }

    /// An owner or a stand-in has answered a write.
    pub(crate) fn on_write_reply(&mut self, from: NodeId, id: OpId, result: WriteResult) {
        match (self.operations.get_mut(id), result) {
            (Some(Operation::Write(op)), WriteResult::Stored) => {
                let counts = op.slots.vote(from, Vote::Stored);
                if counts {
                    self.judge_write(id);
                }
            }
            (Some(Operation::Write(_)), WriteResult::Superseded(by)) => {
                self.write_superseded(id, from, by);
            }
            (Some(Operation::Write(_)), WriteResult::Refused(why)) => {
                self.write_refused(id, from, why);
            }
            (Some(Operation::Handoff(handoff)), result) if handoff.owner == from => {
                let handoff = handoff.clone();
                self.operations.remove(id);
                self.on_handoff_reply(&handoff, &result);
            }
            (Some(Operation::Task(node, task)), result) if *node == from => {
                let task = *task;
                self.operations.remove(id);
                match result {
                    WriteResult::Stored
                    | WriteResult::Superseded(_)
                    | WriteResult::Refused(Why::Forgotten) => {
                        self.task_delivered(from, task);
                    }
                    WriteResult::Refused(_) => self.task_failed(from, task),
                }
            }
            // Late, repeated, or for an earlier run.
            _ => {}
        }
    }

    /// An owner is not asked: it cannot be reached.
    fn write_skipped(&mut self, id: OpId, owner: NodeId) {
        let why = self.why_not(owner);
        if let Some(Operation::Write(op)) = self.operations.get_mut(id) {
            op.slots.skip(owner, why);
            self.judge_write(id);
        }
    }

    pub(crate) fn write_refused(&mut self, id: OpId, node: NodeId, why: Why) {
        // What a read was about to return is gone, and forgotten: it returns nothing.
        if why == Why::Forgotten
            && let Some(Operation::Write(op)) = self.operations.get_mut(id)
            && op.intent == Intent::Read
            && let Some(origin) = op.origin.take()
        {
            self.finish_read(origin, None, false);
        }
        self.write_vote(id, node, Vote::Failed(why));
    }

    fn write_superseded(&mut self, id: OpId, node: NodeId, by: Hlc) {
        if !self.is_plausible(by) {
            let ahead_ms = by.millis().saturating_sub(self.now.wall_ms);
            return self.write_refused(id, node, Why::ClockSkew(ahead_ms));
        }
        self.clock.observe(by);
        // A read that writes back is content: the owner holds something newer than what is returned.
        let reading = matches!(self.operations.get_mut(id), Some(Operation::Write(op)) if op.intent == Intent::Read);
        self.write_vote(id, node, if reading { Vote::Stored } else { Vote::Superseded });
        if !reading {
            let retry_at = self.now.mono_ms + u64::from(self.options.read_retry_ms);
            self.timers.set(retry_at, Timer::Restamp(id));
        }
    }

    /// A write that met a later version has waited long enough for plain acknowledgements of the others.
    pub(crate) fn on_restamp(&mut self, id: OpId) {
        if matches!(self.operations.get_mut(id), Some(Operation::Write(op)) if op.origin.is_some())
        {
            self.outranked(id);
        }
    }

    fn write_vote(&mut self, id: OpId, node: NodeId, vote: Vote) {
        if let Some(Operation::Write(op)) = self.operations.get_mut(id)
            && op.slots.vote(node, vote)
        {
            self.judge_write(id);
        }
    }

    /// Answers if the verdict is known, and ends the operation when everybody has voted.
    fn judge_write(&mut self, id: OpId) {
        let Some(Operation::Write(op)) = self.operations.get_mut(id) else { return };
        let mut standing = op.slots.standing();
        let mut op = op;
        if standing.shortage > 0 && op.is_open() && !standing.outranked {
            self.seek_stand_ins(id);
            let Some(Operation::Write(again)) = self.operations.get_mut(id) else { return };
            standing = again.slots.standing();
            op = again;
        }
        let Standing { verdict, complete, outranked, .. } = standing;
        let answer = match verdict {
            Verdict::Pending => None,
            Verdict::Reached => op.take_answer(WriteOp::outcome),
            Verdict::Impossible if op.is_open() && outranked => return self.outranked(id),
            // The others are still heard, so that the error can say how many hold the write.
            Verdict::Impossible if !complete => None,
            Verdict::Impossible => op.take_answer(WriteOp::failure),
        };
        if verdict == Verdict::Reached && answer.is_some() {
            self.figures.sloppy_writes += u64::from(op.slots.is_sloppy());
        }
        // Before the answer, which may lead to other operations.
        let ended = if complete { self.operations.remove(id) } else { None };
        if let Some(answer) = answer {
            self.give_answer(answer);
        }
        if let Some(Operation::Write(op)) = ended {
            self.write_complete(&op);
        }
    }

    fn give_answer(&mut self, answer: Answer) {
        let Answer { origin, outcome, started_mono_ms, read } = answer;
        self.observe_latency(&origin, started_mono_ms);
        match read {
            Some(object) => self.finish_read(origin, Some(&object), false),
            None => self.finish(origin, outcome),
        }
    }

    /// Too few took it because they hold later versions: stamp above those and send again. An update computes its
    /// value anew instead.
    fn outranked(&mut self, id: OpId) {
        let Some(Operation::Write(mut op)) = self.operations.remove(id) else { return };
        if let Some(Origin::Serial(key)) = op.origin {
            return self.serial_outranked(&key);
        }
        let Object::Lww(version) = op.stored.whole() else {
            unreachable!("only lww owners answer superseded")
        };
        self.figures.restamped += 1;
        let written = self.stamp();
        let object = Object::Lww(Version { written, ..version });
        op.context = object.context();
        op.stored = Stored::new(object);
        op.slots = op.slots.again(&op.admitted.owners);
        self.send_round(op, None);
    }

    /// Everybody has voted, or time is over: what is still missing somewhere is owed.
    fn write_complete(&mut self, op: &WriteOp) {
        if op.origin.is_none()
            && matches!(
                op.slots.standing(),
                Standing { verdict: Verdict::Reached, outranked: true, .. }
            )
        {
            self.figures.lww_discarded += 1;
        }
        // What was refused for want of room is not written after all.
        if op.slots.hints_full().is_some() {
            return;
        }
        for owner in op.slots.lacking() {
            self.owe(owner, &op.admitted.target, op.stored.clone(), op.admitted.begun);
        }
    }

    pub(crate) fn write_deadline(&mut self, mut op: Box<WriteOp>) {
        let waited_ms = self.waited_ms(&op.admitted);
        for node in op.slots.close(&Why::NoAnswer(waited_ms)) {
            self.missed_deadline(node);
        }
        if let Some(answer) = op.take_answer(WriteOp::failure) {
            self.give_answer(answer);
        }
        self.write_complete(&op);
    }

    /// Whether a request to this node is worth sending: it is this one, or it can be reached.
    pub(crate) fn can_ask(&self, node: NodeId) -> bool {
        node == self.info.member.node || self.peers.is_reachable(node)
    }

    pub(crate) fn why_not(&self, node: NodeId) -> Why {
        match self.peers.state(node) {
            PeerState::Silent => Why::NoAnswer(self.options.silence_ms),
            PeerState::Skipped => Why::NoAnswer(self.options.request_timeout_ms),
            _ => Why::Unreachable,
        }
    }

    pub(crate) fn waited_ms(&self, admitted: &Admitted) -> u32 {
        u32::try_from(self.now.mono_ms.saturating_sub(admitted.started_mono_ms)).unwrap_or(u32::MAX)
    }

    pub(crate) fn missed_deadline(&mut self, node: NodeId) {
        if node != self.info.member.node {
            self.peers.missed(node, self.now.mono_ms, &self.options);
        }
    }
}
