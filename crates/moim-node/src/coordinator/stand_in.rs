//! Who stands in for owners that cannot be reached (sloppy quorum; Dynamo, section 4.6).
//!
//! Owners are preferred: somebody stands in only when too few of them can be reached, when a round has become
//! impossible, or when an owner has not answered for `stand_in_after_ms`. So what strict quorums promise holds here as
//! well whenever W, or R, owners answer. A node stands in for one owner in a round and is none itself.
//!
//! What R means: a stand-in that keeps the key answers like an owner. One that does not knows nothing: its answer counts
//! only beside that of an owner, or of a stand-in that keeps the key. So a key is never reported as missing because
//! everybody who could know was away.

use moim_core::NodeId;

use super::{Admitted, Operation};
use crate::gate::Outgoing;
use crate::message::{Message, OpId, Want};
use crate::node::Node;
use crate::timer::Timer;

impl Node {
    /// The first node that may stand in for owners of this key and can be asked, of those that `asked` does not know.
    pub(super) fn next_stand_in(
        &self,
        admitted: &Admitted,
        asked: impl Fn(NodeId) -> bool,
    ) -> Option<NodeId> {
        if !admitted.sloppy {
            return None;
        }
        let policy = self.namespaces.get(admitted.target.namespace)?;
        let record = self.record.as_ref()?;
        let mut stand_ins = record.ring.stand_ins_of(admitted.target.partition, policy.n);
        stand_ins.find(|&node| self.can_ask(node) && !asked(node))
    }

    /// Has a request look at late owners when it has waited long enough for them.
    pub(super) fn watch_owners(&mut self, id: OpId) {
        self.timers.set(self.late_mono_ms(), Timer::StandIn(id));
    }

    /// Whether a request that begins now may have others stand in for owners that are late.
    pub(super) fn may_seek_stand_ins(&self, admitted: &Admitted) -> bool {
        admitted.sloppy
            && self.late_mono_ms() < admitted.deadline_mono_ms
            && self.next_stand_in(admitted, |_| false).is_some()
    }

    /// When owners that are asked now are late.
    fn late_mono_ms(&self) -> u64 {
        self.now.mono_ms + u64::from(self.options.stand_in_after_ms)
    }

    /// Owners that have not answered until now are late: others stand in for them.
    pub(crate) fn on_owners_late(&mut self, id: OpId) {
        match self.operations.get_mut(id) {
            Some(Operation::Write(op)) if op.is_open() => {
                op.slots.owners_are_late();
                self.seek_stand_ins(id);
            }
            Some(Operation::Read(read)) => {
                read.owners_are_late();
                self.drive_read(id);
            }
            _ => {}
        }
    }

    /// Asks as many stand-ins as a write is short of.
    pub(super) fn seek_stand_ins(&mut self, id: OpId) {
        loop {
            let Some(Operation::Write(op)) = self.operations.get(id) else { return };
            if op.slots.standing().shortage == 0 {
                return;
            }
            let Some(owner) = op.slots.vacant().next() else { return };
            let asked = |node| op.slots.has_asked(node);
            let Some(node) = self.next_stand_in(&op.admitted, asked) else { return };
            self.ask_to_stand_in(id, node, owner);
        }
    }

    fn ask_to_stand_in(&mut self, id: OpId, node: NodeId, owner: NodeId) {
        let Some(Operation::Write(op)) = self.operations.get_mut(id) else { return };
        op.slots.appoint(node, owner);
        let (target, object) = (op.admitted.target.clone(), op.stored.encoded.clone());
        let (deadline, written) = (op.admitted.deadline_mono_ms, op.stored.object.written());
        let budget_ms = self.budget_ms(deadline);
        let (namespace, key) = (target.namespace, target.shared_key());
        let message = Message::Hint { op: id, namespace, key, owner, object, budget_ms };
        self.send(self.lease_batch(written), Outgoing::Peer(node, message));
    }

    /// Asks one more node that may keep the key of a read. Returns whether there was one.
    pub(super) fn ask_stand_in(&mut self, id: OpId) -> bool {
        let Some(Operation::Read(read)) = self.operations.get(id) else { return false };
        let asked = |node| read.has_asked(node);
        let Some(node) = self.next_stand_in(read.admitted(), asked) else { return false };
        if let Some(Operation::Read(read)) = self.operations.get_mut(id) {
            read.add_stand_in(node);
        }
        self.ask(id, node, Want::Hinted);
        true
    }
}
