//! What the parts of a node keep in memory, beside what the budget gives them.

use std::fmt;
use std::rc::Rc;
use std::sync::{Arc, Weak};

use moim_storage::Engine;

use crate::config::Memory;
use crate::handle::NodeHandle;
use crate::http::metrics::{self, Metric, MetricKind, Sample, count};
use crate::links::Links;

/// Looks at the parts. Holds none of them back when the server stops.
#[derive(Clone)]
pub(crate) struct Ledger {
    pub(crate) budget: Memory,
    handle: NodeHandle,
    engine: Weak<dyn Engine>,
    links: Rc<Links>,
}

/// Bytes that parts hold now, as blocks of the allocator. What is not here (hints, gossip, buffers of flushes and
/// compactions, what the allocator keeps for later) is the difference to the resident memory of the process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Used {
    /// Objects in memory.
    pub(crate) objects: u64,
    /// The storage engine, without values that are among the objects.
    pub(crate) engine: u64,
    /// Writes that wait for their sync.
    pub(crate) unsynced: u64,
    /// Copies owed to nodes that do not answer.
    pub(crate) owed: u64,
    /// Buffers of Redis clients' connections.
    pub(crate) clients: u64,
    /// What waits for peers to read it.
    pub(crate) peers: u64,
    /// Merkle trees.
    pub(crate) trees: u64,
    /// What is mapped of the program's own file and its libraries.
    pub(crate) program: u64,
}

impl Used {
    /// By name, as in the budget where it names them.
    pub(crate) fn parts(&self) -> [(&'static str, u64); 8] {
        [
            ("objects", self.objects),
            ("engine", self.engine),
            ("unsynced", self.unsynced),
            ("owed", self.owed),
            ("clients", self.clients),
            ("peers", self.peers),
            ("trees", self.trees),
            ("program", self.program),
        ]
    }

    /// All of it.
    pub(crate) fn sum(&self) -> u64 {
        self.parts().iter().map(|(_, bytes)| bytes).sum()
    }
}

impl fmt::Debug for Ledger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ledger").field("budget", &self.budget).finish_non_exhaustive()
    }
}

impl Ledger {
    pub(crate) fn new(
        budget: Memory,
        handle: NodeHandle,
        engine: &Arc<dyn Engine>,
        links: Rc<Links>,
    ) -> Self {
        Self { budget, handle, engine: Arc::downgrade(engine), links }
    }

    /// What is held now; what clients' buffers hold is known to whoever asks.
    pub(crate) fn used(&self, clients: u64) -> Used {
        let figures = self.handle.view(moim_node::Node::figures);
        let objects = figures.cache_bytes;
        let engine = self.engine.upgrade().map_or(0, |engine| {
            // What was written last is among the objects used last, in the same allocations.
            engine.memory_bytes().saturating_sub(engine.shared_bytes().min(objects))
        });
        Used {
            objects,
            engine,
            unsynced: figures.unsynced_bytes,
            owed: figures.tasks_bytes,
            clients,
            peers: self.links.figures().waiting_bytes as u64,
            trees: figures.tree_bytes,
            program: metrics::program_bytes(),
        }
    }

    pub(crate) fn metrics(&self, clients: u64) -> Vec<Metric> {
        let by_part = |name, help, parts: &[(&'static str, u64)]| Metric {
            name,
            help,
            kind: MetricKind::Gauge,
            samples: parts
                .iter()
                .map(|&(part, bytes)| Sample::new(count(bytes)).label("part", part))
                .collect(),
        };
        vec![
            by_part(
                "moim_memory_bytes",
                "Memory that a part of this node holds.",
                &self.used(clients).parts(),
            ),
            by_part(
                "moim_memory_limit_bytes",
                "Memory that a part of this node may hold, together node.memory_bytes.",
                &self.budget.parts(),
            ),
        ]
    }
}
