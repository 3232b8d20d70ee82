//! The name of one write.

use std::fmt;

use crate::NodeId;

/// A stretch of counting that cannot have been counted before: 64 random bits drawn when the node started, and a
/// serial for each time that run began to count afresh.
///
/// The rule (INV-3): a counter goes on only under an epoch that was minted in this run, that the object at hand
/// contains, and that the writer has seen all of; otherwise a new epoch begins. A lost disk, a restored backup, a copy that was sent before the local sync,
/// or a hint that was handed over and deleted would each lead a plain counter to name two writes alike, and `join`
/// would swallow one of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Epoch {
    /// Drawn once per start of the node.
    pub run: u64,
    /// Counts the epochs of that run.
    pub serial: u32,
}

/// Who counts: a node in one epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Actor {
    /// The coordinating node.
    pub node: NodeId,
    /// Its epoch.
    pub epoch: Epoch,
}

/// One write of one key: the `counter`-th under its actor, counting from 1.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Dot {
    /// Who issued it.
    pub actor: Actor,
    /// Which of the actor's writes, from 1.
    pub counter: u64,
}

impl fmt::Debug for Dot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { actor: Actor { node, epoch }, counter } = self;
        write!(f, "{node}-{:x}.{}-{counter}", epoch.run, epoch.serial)
    }
}

impl fmt::Display for Dot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self:?}")
    }
}
