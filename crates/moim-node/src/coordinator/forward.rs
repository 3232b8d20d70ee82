//! Requests that another node must coordinate. A forwarded write that may have arrived is never tried elsewhere: a
//! second dot would be a false sibling, a second INCR would count twice. The client is told that nobody knows. Only one
//! that was refused because that node's disk is full goes on to the next owner.

use std::collections::{BTreeSet, VecDeque};

use moim_core::NodeId;

use super::{Job, Operation, Origin};
use crate::api::{Failure, Outcome, Request};
use crate::message::{Message, OpId};
use crate::node::Node;

/// A request on its way to the node that coordinates it.
#[derive(Debug)]
pub(crate) struct ForwardOp {
    job: Job,
    pub(crate) node: NodeId,
    /// Kept for another node, should this one refuse.
    request: Request,
    /// Nodes that have no room for it.
    full: Vec<NodeId>,
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
    pub(crate) fn forward(&mut self, job: Job, node: NodeId, request: Request) {
        self.forward_past(job, node, request, Vec::new());
    }

    /// Forwards to `node` what the nodes in `full` have refused.
    fn forward_past(&mut self, job: Job, node: NodeId, mut request: Request, full: Vec<NodeId>) {
        let deadline_mono_ms = job.admitted.deadline_mono_ms;
        let budget_ms = self.budget_ms(deadline_mono_ms);
        request.timeout_ms = Some(budget_ms.saturating_sub(RETURN_MS).max(1));
        let started_mono_ms = self.now.mono_ms;
        let op = ForwardOp { job, node, request: request.clone(), full, started_mono_ms };
        let id = self.register(deadline_mono_ms, Operation::Forward(op));
        self.send_plain(node, Message::Forward { op: id, request, budget_ms });
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
        let Some(Operation::Forward(mut op)) = self.operations.remove(id) else { return };
        // Refused for want of room is surely not done, so another owner may be asked.
        if let Outcome::Failed(Failure::DiskFull { .. }) = outcome {
            op.full.push(from);
            if let Some(next) = self.with_room(&op) {
                return self.forward_past(op.job, next, op.request, op.full);
            }
        }
        self.finish(op.job.origin, outcome);
    }

    /// Another owner that may have room.
    fn with_room(&self, op: &ForwardOp) -> Option<NodeId> {
        let may = |node: &&NodeId| !op.full.contains(node) && self.peers.is_reachable(**node);
        op.job.admitted.owners.iter().find(may).copied()
    }

    pub(crate) fn forward_deadline(&mut self, op: ForwardOp) {
        self.missed_deadline(op.node);
        let waited_ms = self.now.mono_ms.saturating_sub(op.started_mono_ms);
        let waited_ms = u32::try_from(waited_ms).unwrap_or(u32::MAX);
        self.finish(op.job.origin, Outcome::Failed(Failure::Timeout { node: op.node, waited_ms }));
    }
}
