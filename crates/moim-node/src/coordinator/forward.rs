//! Requests that another node must coordinate. A forwarded write that may have arrived is never tried elsewhere: a
//! second dot would be a false sibling, a second INCR would count twice. The client is told that nobody knows. Only one
//! that was refused before anything was done goes on to the next owner: where the disk is full, where a lost disk is not
//! yet filled, and where the node is stopping or has just started.
//!
//! Updates of one key never run at two nodes at once because one of them stops: it refuses those that come late only
//! when those that it had taken are done ([`super::serial`]), and whoever is refused goes to the next owner. Only then
//! does it part from its peers ([`crate::parting`]).

use std::collections::{BTreeSet, VecDeque};

use moim_core::NodeId;

use super::{Admitted, Job, Operation, Origin, unavailable};
use crate::api::{Action, Failure, Intent, NotReady, Outcome, Request, Why};
use crate::message::{Message, OpId};
use crate::namespace::Conflict;
use crate::node::Node;

/// A request on its way to the node that coordinates it.
#[derive(Debug)]
pub(crate) struct ForwardOp {
    job: Job,
    pub(crate) node: NodeId,
    /// Kept for another node, should this one refuse.
    request: Request,
    /// Nodes that refused it.
    refused: Vec<NodeId>,
    started_mono_ms: u64,
}

/// The last forwarded requests that this node took, so that none is done twice.
#[derive(Debug, Default)]
pub(crate) struct Forwarded {
    known: BTreeSet<(NodeId, OpId)>,
    order: VecDeque<(NodeId, OpId)>,
}

/// Forwarded requests remembered: several seconds' worth, and a repeated message follows the first within moments.
const FORWARDED_MAX: usize = 65_536;

impl Forwarded {
    /// Returns whether this is the first time.
    fn insert(&mut self, from: NodeId, id: OpId) -> bool {
        let first = self.known.insert((from, id));
        if first {
            self.order.push_back((from, id));
        }
        if self.order.len() > FORWARDED_MAX
            && let Some(oldest) = self.order.pop_front()
        {
            self.known.remove(&oldest);
        }
        first
    }
}

/// Milliseconds by which a forwarded request must end before its deadline here, so that its answer still arrives.
const RETURN_MS: u32 = 20;

impl Node {
    /// Has a change coordinated where it must be: for updates by the key's first reachable owner, which serialises them;
    /// in `siblings` by any owner that has what was acknowledged, and by this node if it is one; by another one if this
    /// node's disk is full. Where no owner can be reached, by the first that may stand in. Forwarded requests stay where
    /// they are, or are refused.
    pub(super) fn place(&mut self, job: Job, request: Request) {
        if let Origin::Forwarded(..) = job.origin {
            return match self.refusal(&job.admitted, &request.action) {
                Some(failure) => self.finish(job.origin, Outcome::Failed(failure)),
                None => self.serve_change(job, request.action),
            };
        }
        match self.seat(&job.admitted, &request.action, &[]) {
            Some(node) if node != self.info.member.node => {
                self.forward(job, node, request, Vec::new());
            }
            _ => self.serve_change(job, request.action),
        }
    }

    /// Coordinates a change here, if that can be.
    fn serve_change(&mut self, job: Job, action: Action) {
        if !self.has_room_for(job.admitted.conflict, &action) {
            let failure = self.disk_full();
            return self.finish(job.origin, Outcome::Failed(failure));
        }
        if !self.may_serve(&job.admitted, &action) {
            let own = std::iter::once((self.info.member.node, Why::NotReady));
            let (w, needed) = (job.admitted.w, job.admitted.needs_w());
            let outcome = unavailable(Intent::Write, w, (needed, 0), own);
            return self.finish(job.origin, outcome);
        }
        self.serve(job, action);
    }

    /// Why a forwarded change is not coordinated here, if it is not: nothing of it has been done then.
    fn refusal(&self, admitted: &Admitted, action: &Action) -> Option<Failure> {
        let is_queued =
            matches!(action, Action::Update(_)) && self.serial.has(&admitted.target.data_key);
        if self.is_stopping() && !is_queued {
            return Some(Failure::NotReady(NotReady::Stopping));
        }
        if self.may_serve(admitted, action) { None } else { self.readiness().err() }
    }

    /// Who is to coordinate a change, of those that have not refused it; `None` if nobody else than perhaps this node.
    fn seat(&self, admitted: &Admitted, action: &Action, refused: &[NodeId]) -> Option<NodeId> {
        let own = self.info.member.node;
        let is_able = |node: NodeId| {
            let is_able = if node == own {
                self.has_room_for(admitted.conflict, action) && self.may_serve(admitted, action)
            } else {
                self.can_ask(node)
            };
            is_able && !refused.contains(&node)
        };
        let serialised = matches!(action, Action::Update(_));
        let here = admitted.conflict == Conflict::Lww || admitted.owners.contains(&own);
        if !serialised && here && is_able(own) {
            return Some(own);
        }
        let owner = admitted.owners.iter().copied().find(|&node| is_able(node));
        owner.or_else(|| self.next_stand_in(admitted, |node| refused.contains(&node)))
    }

    /// Whether this node may coordinate a change of a key that it owns; others may always.
    ///
    /// It makes no versions of a `siblings` object while it does not have what was acknowledged (INV-6). Its dots would
    /// be as good as any, but it does not count among W, so that the client waits for others while there are owners that
    /// count. It serialises nothing before all members have spoken after its start: its own copies do not count yet, so
    /// what it decided on would depend on having met the others, and those that have not met it serialise elsewhere.
    fn may_serve(&self, admitted: &Admitted, action: &Action) -> bool {
        let is_owner = admitted.owners.contains(&self.info.member.node);
        match admitted.conflict {
            _ if !is_owner => true,
            Conflict::Siblings => self.is_filled(admitted.target.partition),
            Conflict::Lww => !matches!(action, Action::Update(_)) || self.recall.is_none(),
        }
    }

    /// Forwards to `node` what the nodes in `refused` did not take.
    fn forward(&mut self, job: Job, node: NodeId, mut request: Request, refused: Vec<NodeId>) {
        let deadline_mono_ms = job.admitted.deadline_mono_ms;
        let budget_ms = self.budget_ms(deadline_mono_ms);
        request.timeout_ms = Some(budget_ms.saturating_sub(RETURN_MS).max(1));
        let started_mono_ms = self.now.mono_ms;
        let op = ForwardOp { job, node, request: request.clone(), refused, started_mono_ms };
        let id = self.register(deadline_mono_ms, Operation::Forward(Box::new(op)));
        self.send_plain(node, Message::Forward { op: id, request: Box::new(request), budget_ms });
    }

    /// A peer wants its client's request coordinated here. A repeated message is dropped: what it asks is not
    /// idempotent.
    pub(crate) fn on_forward(&mut self, from: NodeId, id: OpId, request: Request) {
        if !self.forwarded.insert(from, id) {
            return;
        }
        self.coordinate(Origin::Forwarded(from, id), request);
    }

    pub(crate) fn on_forward_reply(&mut self, from: NodeId, id: OpId, outcome: Outcome) {
        let awaited =
            matches!(self.operations.get_mut(id), Some(Operation::Forward(op)) if op.node == from);
        if !awaited {
            return;
        }
        let Some(Operation::Forward(op)) = self.operations.remove(id) else { return };
        let mut op = *op;
        if !is_refusal(&outcome) {
            return self.finish(op.job.origin, outcome);
        }
        op.refused.push(from);
        match self.seat(&op.job.admitted, &op.request.action, &op.refused) {
            Some(node) if node == self.info.member.node => {
                self.serve_change(op.job, op.request.action);
            }
            Some(node) => self.forward(op.job, node, op.request, op.refused),
            None => {
                let outcome = nobody(&op, outcome);
                self.finish(op.job.origin, outcome);
            }
        }
    }

    pub(crate) fn forward_deadline(&mut self, op: ForwardOp) {
        self.missed_deadline(op.node);
        let waited_ms = self.now.mono_ms.saturating_sub(op.started_mono_ms);
        let waited_ms = u32::try_from(waited_ms).unwrap_or(u32::MAX);
        self.finish(op.job.origin, Outcome::Failed(Failure::Timeout { node: op.node, waited_ms }));
    }
}

/// Whether the node that says so has done nothing of what it was asked, so that another may be.
fn is_refusal(outcome: &Outcome) -> bool {
    matches!(outcome, Outcome::Failed(Failure::DiskFull { .. } | Failure::NotReady(_)))
}

/// What a client is told whom nobody serves: which owners refused, unless it was for want of room.
fn nobody(op: &ForwardOp, last: Outcome) -> Outcome {
    if matches!(last, Outcome::Failed(Failure::DiskFull { .. })) {
        return last;
    }
    let refused = op.refused.iter().map(|&node| (node, Why::NotReady));
    let admitted = &op.job.admitted;
    unavailable(Intent::Write, admitted.w, (admitted.needs_w(), 0), refused)
}
