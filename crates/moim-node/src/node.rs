//! The node: state, and [`Node::turn`].

use bytes::Bytes;
use moim_core::ring::PartitionCount;

use crate::api::{Effect, Failure, Input, NotReady, Now};
use crate::membership::{Hello, MemberInfo, Record};
use crate::namespace::Namespaces;
use crate::options::Options;
use crate::views::{Figures, PeerView, TaskView};

/// Everything a node needs to begin: identity, chance, and what the disk kept.
#[derive(Clone, Debug)]
pub struct Boot {
    /// Who this node is and where it listens.
    pub info: MemberInfo,
    /// 64 random bits, fresh at every start: names the epochs of this run (INV-3).
    pub run: u64,
    /// Seeds everything else that chance decides: retry jitter, hash maps.
    pub seed: u64,
    /// The value of [`crate::keyspace::META_RECORD`] on disk.
    pub stored_record: Option<Bytes>,
    /// The value of [`crate::keyspace::META_CLOCK_BOUND`] on disk.
    pub stored_clock_bound: Option<Bytes>,
    /// How many members found the cluster, this one included, when there is no record.
    pub founding_members: usize,
    /// Partitions of a cluster to be founded.
    pub partitions: PartitionCount,
    /// Policies.
    pub namespaces: Namespaces,
    /// Limits.
    pub options: Options,
}

/// Why a node cannot begin with what its disk kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BootError(pub String);

impl std::fmt::Display for BootError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for BootError {}

/// One node: one loop, one member of the ring.
#[derive(Debug)]
pub struct Node {
    boot: Boot,
}

impl Node {
    /// Begins from what the disk kept.
    pub fn new(now: Now, boot: Boot) -> Result<Self, BootError> {
        let _ = now;
        Ok(Self { boot })
    }

    /// Takes everything that has arrived (drains `inputs`) and appends what to do to `effects`.
    pub fn turn(&mut self, _now: Now, inputs: &mut Vec<Input>, _effects: &mut Vec<Effect>) {
        inputs.clear();
    }

    /// When, on the monotonic clock, the next turn is due even if nothing arrives; `None` for never.
    pub fn wake_mono_ms(&self) -> Option<u64> {
        None
    }

    /// Who this node is.
    pub fn info(&self) -> &MemberInfo {
        &self.boot.info
    }

    /// The hello for connections to peers.
    pub fn hello(&self) -> Hello {
        todo!()
    }

    /// The adopted cluster record.
    pub fn record(&self) -> Option<&Record> {
        None
    }

    /// Whether this node serves, and if not, what it waits for.
    pub fn readiness(&self) -> Result<(), Failure> {
        Err(Failure::NotReady(NotReady::Stopping))
    }

    /// Policies.
    pub fn namespaces(&self) -> &Namespaces {
        &self.boot.namespaces
    }

    /// Limits.
    pub fn options(&self) -> &Options {
        &self.boot.options
    }

    /// Peers as seen from here.
    pub fn peers(&self) -> Vec<PeerView> {
        Vec::new()
    }

    /// Copies owed to owners: the first `limit`, oldest first.
    pub fn tasks(&self, limit: usize) -> Vec<TaskView> {
        let _ = limit;
        Vec::new()
    }

    /// Counters and levels.
    pub fn figures(&self) -> Figures {
        Figures::default()
    }
}
