//! The read path: the value from one replica, digests from the others; on a mismatch the objects, joined; written back
//! before the answer where levels promise strong reads; the rest repaired afterwards (REQ-18). In sloppy namespaces nodes
//! that may keep the key for owners are asked where too few owners can be (`stand_in`).

use std::borrow::Cow;

use moim_core::NodeId;
use moim_core::object::{Object, Version};
use smallvec::SmallVec;

use super::holders::{Copy, Held, Holder, Question, ReadOp, State, Step, agreed_object, copy_of};
use super::{Job, Operation, Origin, Owners, unavailable};
use crate::api::{Intent, Why};
use crate::message::{Message, OpId, ReadResult, Want};
use crate::node::Node;
use crate::options::Mutation;
use crate::store::Stored;
use crate::timer::Timer;
use crate::views::PeerState;

impl Node {
    /// Reads a key at its level.
    pub(crate) fn begin_read(&mut self, job: Job) {
        let owners = self.read_order(&job.admitted.owners);
        let deadline = job.admitted.deadline_mono_ms;
        let watched = self.may_seek_stand_ins(&job.admitted);
        let sampled_wall_ms = self.sample_freshness(&job.origin);
        let mut read = Box::new(ReadOp::new(job, &owners, sampled_wall_ms));
        let id = self.operations.next_id();
        self.ask_first(id, &mut read);
        self.register_as(id, deadline, Operation::Read(read));
        if watched {
            self.watch_owners(id);
        }
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

    /// This node first, then one of its machine, which costs no network, then others that talk, then the silent, then those
    /// that have been slow of late. Who cannot be reached is not asked. Of those that talk first whom something is said to in
    /// this turn anyway: what goes to one peer goes in one piece, and pieces are what a small message costs.
    fn read_order(&self, owners: &[NodeId]) -> Owners {
        let own = self.info.member.node;
        let distance = |node: NodeId| match self.peers.state(node) {
            _ if self.hedging.is_slow(node, self.now.mono_ms, &self.options) => 5,
            _ if node == own => 0,
            PeerState::Up if self.peers.is_on(node, self.info.member.machine) => 1,
            PeerState::Up if self.addressed.has(node) => 2,
            PeerState::Up => 3,
            PeerState::Silent => 4,
            PeerState::Skipped => 6,
            PeerState::Unreachable => 7,
        };
        let mut order: SmallVec<[(u8, NodeId); 4]> =
            owners.iter().map(|&node| (distance(node), node)).collect();
        order.sort_by_key(|&(distance, _)| distance);
        order.into_iter().map(|(_, node)| node).collect()
    }

    /// Asks as many as have to agree, before anybody else hears of the read.
    fn ask_first(&mut self, id: OpId, read: &mut ReadOp) {
        let mut missing = read.admitted().needs_r();
        for at in 0..read.holders.len() {
            if missing == 0 {
                return;
            }
            let node = read.holders[at].node;
            if self.can_ask(node) {
                let want = read.wanted();
                let question = read.ask(node, want, self.now.mono_ms);
                self.send_question(id, node, question);
                missing -= 1;
            } else {
                read.set(node, Copy::Failed(self.why_not(node)));
            }
        }
    }

    /// A replica has answered a read.
    pub(crate) fn on_read_reply(
        &mut self,
        from: NodeId,
        id: OpId,
        result: ReadResult,
        from_disk: bool,
    ) {
        match self.operations.get_mut(id) {
            Some(Operation::Read(read)) if read.waits_for(from) => {
                read.from_disk |= from_disk;
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
            // Who was left is not there, and not hoped for any more.
            return self.drive_read(id);
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
        let question = read.ask(node, want, self.now.mono_ms);
        self.send_question(id, node, question);
    }

    fn send_question(&mut self, op: OpId, node: NodeId, question: Question) {
        let Question { namespace, key, want, deadline_mono_ms } = question;
        let budget_ms = self.budget_ms(deadline_mono_ms);
        self.send_plain(node, Message::Read { op, namespace, key, want, budget_ms });
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
        // What held up the one that is still silent nobody knows; memory does not.
        let from_disk = read.from_disk || read.hedge_won();
        self.observe_late(&read);
        let joined = match self.options.mutation {
            Some(Mutation::RepairResurrects) => {
                self.resurrected(&read).map(Cow::Owned).or_else(|| read.joined())
            }
            _ => read.joined(),
        };
        let joined = joined.as_deref();
        if let Some(began_wall_ms) = read.sampled_wall_ms {
            let answer = joined.map(|held| held.stored.object.clone());
            let unknown =
                |holder: &&Holder| !holder.stands_in && holder.copy.state() == State::Unknown;
            let others = read.holders.iter().filter(unknown).map(|holder| holder.node).collect();
            self.check_freshness(&read.job.admitted, began_wall_ms, answer, others);
        }
        let state = State::of(joined);
        let holds = |copy: &Copy| copy.state() == state;
        let is_sloppy = read.is_sloppy();
        self.figures.sloppy_reads += u64::from(is_sloppy);
        let agrees = |holder: &Holder| {
            holder.copy.state() == State::Unknown || holder.is_empty_handed() || holds(&holder.copy)
        };
        let Some(Held { stored, .. }) = joined.filter(|_| !read.holders.iter().all(agrees)) else {
            return self.finish_read(read.job.origin, agreed_object(&read.holders), from_disk);
        };
        let stored = stored.clone();
        let holders = u8::try_from(read.count(holds)).expect("at most twice COPIES_MAX");
        // What stand-ins keep they hand over themselves.
        let owners = read.holders.iter().filter(|holder| !holder.stands_in);
        let stale: Owners =
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
        self.finish_read(read.job.origin, Some(&stored.object), from_disk);
        self.begin_write_back(repair, stored, stale, 1);
    }

    /// The planted fault: of copies that differ, one with a value wins, as if it were written now.
    fn resurrected(&mut self, read: &ReadOp) -> Option<Held> {
        let wall_ms = self.now.wall_ms;
        let known = read.holders.iter().filter(|holder| holder.copy.state() != State::Unknown);
        let states: Vec<_> = known.map(|holder| holder.copy.state()).collect();
        let live = read.holders.iter().find_map(|holder| match &holder.copy {
            Copy::Object(Some(held)) => match &held.stored.object {
                Object::Lww(version) if version.is_live(wall_ms) => Some(version.clone()),
                _ => None,
            },
            _ => None,
        })?;
        if states.windows(2).all(|pair| pair[0] == pair[1]) {
            return None;
        }
        let written = self.stamp();
        Some(Held::new(Stored::new(Object::Lww(Version { written, ..live }))))
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
            self.answer_unread(*read, 0);
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
