//! Delivery: what is kept for an owner is offered when it can be reached again, oldest first, a few at a time and at the
//! pace of background work; again with back-off if it is refused.

use moim_core::NodeId;
use moim_storage::{Family, Write};

use crate::api::{BatchId, Why};
use crate::coordinator::Operation;
use crate::gate::Outgoing;
use crate::message::{Message, WriteResult};
use crate::node::Node;
use crate::options::Mutation;
use crate::pace::{Grant, Reason};
use crate::replica::{Target, Work};
use crate::store::Stored;
use crate::timer::Timer;

/// An object on its way to an owner.
#[derive(Clone, Debug)]
pub(crate) struct Handoff {
    pub(crate) owner: NodeId,
    pub(crate) target: Target,
    generation: u64,
}

impl Node {
    pub(crate) fn hand_off_later(&mut self, owner: NodeId, wait_ms: u32) {
        let at = self.now.mono_ms + u64::from(wait_ms);
        if self.hints.arm(owner, at) {
            self.timers.set(at, Timer::HandOff(owner));
        }
    }

    /// Offers what is kept for `owner`, if it can be reached.
    pub(crate) fn hand_off(&mut self, owner: NodeId) {
        if self.hints.count_for(owner) == 0 {
            return;
        }
        if !self.can_ask(owner) {
            return self.hand_off_later(owner, self.options.task_retry_max_ms);
        }
        loop {
            let Some(next) = self.hints.next(owner, self.options.hints_in_flight_max) else {
                return;
            };
            let Some(target) = self.target_of(&next.key) else { return };
            let granted = self.pace.grant(self.now.mono_ms, Reason::Hint, next.bytes);
            if let Grant::Wait(wait_ms) = granted {
                return self.hand_off_later(owner, wait_ms);
            }
            self.hints.take_off(owner);
            let handoff = Handoff { owner, target, generation: next.generation };
            if self.options.mutation == Some(Mutation::DropHints) {
                // The planted fault forgets what it has promised to keep.
                self.hints.land(owner);
                self.work(Work::Release { target: handoff.target });
                continue;
            }
            self.work(Work::HandOff(handoff));
        }
    }

    /// The object is at hand: off it goes, when it is durable here.
    pub(crate) fn send_hint(
        &mut self,
        mut handoff: Handoff,
        stored: Option<Stored>,
        batch: BatchId,
    ) {
        let key = handoff.target.data_key.clone();
        let (Some(stored), Some(generation)) = (stored, self.hints.generation(&key)) else {
            // It has ended meanwhile.
            return self.handed_over(&handoff);
        };
        handoff.generation = generation;
        let (owner, budget_ms) = (handoff.owner, self.options.request_timeout_ms);
        let (namespace, user_key) = (handoff.target.namespace, handoff.target.shared_key());
        let deadline = self.now.mono_ms + u64::from(budget_ms);
        let op = self.register(deadline, Operation::Handoff(Box::new(handoff)));
        let object = stored.encoded;
        let message = Message::Write { op, namespace, key: user_key, object, budget_ms };
        self.send(batch, Outgoing::Peer(owner, message));
    }

    /// An owner has answered what was handed to it.
    pub(crate) fn on_handoff_reply(&mut self, handoff: &Handoff, result: &WriteResult) {
        match result {
            // One that refuses a forgotten version knows better.
            WriteResult::Stored
            | WriteResult::Superseded(_)
            | WriteResult::Refused(Why::Forgotten) => self.handed_over(handoff),
            WriteResult::Refused(_) => self.handoff_failed(handoff),
        }
    }

    fn handed_over(&mut self, handoff: &Handoff) {
        let Handoff { owner, target, generation } = handoff;
        let owners = self.heirs(target);
        let next = self.hints.acknowledge((*owner, &target.data_key), *generation, &owners);
        if next.is_empty() {
            self.work(Work::Release { target: target.clone() });
        }
        for owner in next {
            self.hand_off(owner);
        }
        self.hand_off(*owner);
    }

    /// The owner did not take it, or did not answer.
    pub(crate) fn handoff_failed(&mut self, handoff: &Handoff) {
        let wall_ms = self.now.wall_ms;
        let failures = self.hints.fail(handoff.owner, &handoff.target.data_key, wall_ms);
        let doublings = failures.clamp(1, 10) - 1;
        let wait_ms = self.options.task_retry_ms.saturating_mul(1 << doublings);
        self.hand_off_later(handoff.owner, wait_ms.min(self.options.task_retry_max_ms));
    }

    /// The object could not be read, though every owner has it: they are offered it once more.
    pub(crate) fn release_failed(&mut self, target: &Target) {
        let owners = self.heirs(target);
        self.hints.reopen(&target.data_key, &owners);
        for owner in owners {
            self.hand_off_later(owner, self.options.task_retry_max_ms);
        }
    }

    /// Ends an obligation if every current owner has the object as it is now, and with it the object, if this node is
    /// none of them.
    pub(crate) fn release(&mut self, target: &Target) {
        let (key, owners, heirs) = (&target.data_key, self.owners_of(target), self.heirs(target));
        let dropped = self.options.mutation == Some(Mutation::DropHints);
        // A namespace that is not defined any more has no owners: what it kept stays.
        if owners.is_empty() || !(dropped || self.hints.is_discharged(key, &heirs)) {
            return;
        }
        self.hints.forget(key);
        self.figures.hints_delivered += 1;
        self.store.write(Write::Delete { family: Family::Hints, key: key.clone() });
        if !owners.contains(&self.info.member.node) {
            self.store.remove(key);
        }
    }
}
