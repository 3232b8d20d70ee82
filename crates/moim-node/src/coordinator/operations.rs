//! What is under way and waits for other replicas, by id. Late answers find nothing here and count for nothing.

use foldhash::fast::FixedState;
use moim_core::NodeId;
use moim_core::clock::Hlc;

use super::{forward, freshness, holders, listing, write};
use crate::anti_entropy::Question;
use crate::hint::Handoff;
use crate::message::OpId;
use crate::replica::Target;
use crate::replication::TaskId;
use crate::store::Stored;

/// Something under way that waits for other replicas. All are boxed: the table of operations is met at every step of each,
/// and stays close to the processor only while its places are small.
#[derive(Debug)]
pub(crate) enum Operation {
    Write(Box<write::WriteOp>),
    Read(Box<holders::ReadOp>),
    Forward(Box<forward::ForwardOp>),
    Listing(Box<listing::ListingOp>),
    Inspect(Box<listing::InspectOp>),
    Freshness(Box<freshness::FreshnessOp>),
    /// An owed copy on its way.
    Task(NodeId, TaskId),
    /// A comparison with another owner.
    Exchange(Box<Question>),
    /// Something that was kept for an owner, on its way to it.
    Handoff(Box<Handoff>),
}

impl Operation {
    /// What it writes, and where, if it is a write.
    pub(crate) fn written(&self) -> Option<(&Target, &Stored)> {
        match self {
            Self::Write(write) => Some((&write.admitted.target, &write.stored)),
            _ => None,
        }
    }

    /// Where the key lies that it reads, if it is a read.
    pub(crate) fn read(&self) -> Option<&Target> {
        match self {
            Self::Read(read) => Some(&read.admitted().target),
            _ => None,
        }
    }

    /// When it began, if it may send objects. Owed copies and hints are counted where they are kept.
    fn begun(&self) -> Option<Hlc> {
        match self {
            Self::Write(write) => Some(write.begun()),
            Self::Read(read) => Some(read.begun()),
            Self::Exchange(question) => question.begun,
            Self::Forward(_)
            | Self::Listing(_)
            | Self::Inspect(_)
            | Self::Freshness(_)
            | Self::Task(..)
            | Self::Handoff(_) => None,
        }
    }
}

#[expect(
    clippy::disallowed_types,
    reason = "the hasher is seeded by an argument; whoever iterates sorts"
)]
type Map = std::collections::HashMap<OpId, Operation, FixedState>;

/// Operations under way, by id.
#[derive(Debug)]
pub(crate) struct Operations {
    by_id: Map,
    next: u64,
}

impl Operations {
    pub(crate) fn new(seed: u64, first: u64) -> Self {
        Self { by_id: Map::with_hasher(FixedState::with_seed(seed)), next: first }
    }

    pub(crate) fn next_id(&mut self) -> OpId {
        self.next = self.next.wrapping_add(1);
        OpId(self.next)
    }

    pub(crate) fn insert(&mut self, id: OpId, operation: Operation) {
        let replaced = self.by_id.insert(id, operation);
        assert!(replaced.is_none(), "an operation id was used twice");
    }

    pub(crate) fn remove(&mut self, id: OpId) -> Option<Operation> {
        self.by_id.remove(&id)
    }

    pub(crate) fn get(&self, id: OpId) -> Option<&Operation> {
        self.by_id.get(&id)
    }

    pub(crate) fn get_mut(&mut self, id: OpId) -> Option<&mut Operation> {
        self.by_id.get_mut(&id)
    }

    /// An answer to this one is about to come: brings what it changes close to the processor. What is read is returned, so
    /// that it is read.
    pub(crate) fn foresee(&self, id: OpId) -> usize {
        match self.by_id.get(&id) {
            Some(Operation::Write(write)) => write.touch(),
            _ => 0,
        }
    }

    /// When the oldest request began that may still send objects.
    pub(crate) fn oldest(&self) -> Option<Hlc> {
        self.by_id.values().filter_map(Operation::begun).min()
    }

    pub(crate) fn len(&self) -> usize {
        self.by_id.len()
    }

    /// All ids, in order.
    pub(crate) fn ids(&self) -> Vec<OpId> {
        let mut ids: Vec<_> = self.by_id.keys().copied().collect();
        ids.sort_unstable();
        ids
    }
}
