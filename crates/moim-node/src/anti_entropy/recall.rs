//! A node that starts asks its memory's keepers first: does its disk hold what they heard it call durable?
//!
//! A disk may be an old copy (a restored backup, a snapshot of the machine). The node itself cannot tell; the others
//! remember its highest durable batch and say so in the first gossip on a connection. Until all of them have spoken it
//! says *not ready* of its own copies: what it would say otherwise, or vote, could contradict what was acknowledged
//! (INV-6). It coordinates meanwhile, except that it serialises no updates, and joins what comes. Members that cannot be
//! reached are waited for [`RECALL_MS`], so that a lone survivor serves; where all start together they connect at once and
//! nobody remembers anything. Left out: a cluster whose every disk is old, which is what was wanted.

use std::collections::BTreeSet;

use moim_core::NodeId;

use crate::membership::Record;
use crate::node::Node;

/// How long members are waited for that say nothing, in milliseconds.
const RECALL_MS: u64 = 1_000;

/// Members that have not said what they remember.
#[derive(Debug)]
pub(crate) struct Recall {
    awaited: BTreeSet<NodeId>,
    until_mono_ms: u64,
}

impl Recall {
    /// At the start of a member; `None` if it is alone.
    pub(crate) fn new(own: NodeId, record: Option<&Record>, mono_ms: u64) -> Option<Self> {
        let members = record?.members.iter().map(|info| info.member.node);
        let awaited: BTreeSet<_> = members.filter(|&node| node != own).collect();
        (!awaited.is_empty()).then_some(Self { awaited, until_mono_ms: mono_ms + RECALL_MS })
    }

    /// Members that have not said what they remember.
    pub(crate) fn awaited(&self) -> usize {
        self.awaited.len()
    }
}

impl Node {
    /// A member has told what it remembers of this node, as of every other.
    pub(crate) fn recalled(&mut self, from: NodeId) {
        if let Some(recall) = &mut self.recall {
            recall.awaited.remove(&from);
        }
    }

    /// Ends the wait when all have spoken or its time is over. Called when a turn begins, after lost batches have been
    /// noticed.
    pub(crate) fn end_recall(&mut self) {
        let is_over =
            |recall: &Recall| recall.awaited.is_empty() || recall.until_mono_ms <= self.now.mono_ms;
        if self.recall.as_ref().is_some_and(is_over) {
            self.recall = None;
        }
    }

    /// Whether this node has just started and waits for what the others remember of it: for a second at the most.
    pub fn is_recalling(&self) -> bool {
        self.recall.is_some()
    }

    /// Whether this node has everything that was acknowledged of its partitions, as far as it knows.
    pub(crate) fn has_all(&self) -> bool {
        self.filling.is_none() && self.recall.is_none()
    }
}
