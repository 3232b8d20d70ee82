//! What every handler sees: the context that the server gave, and what the HTTP server itself remembers.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use moim_core::NodeId;
use moim_node::api::{Failure, Intent};
use moim_storage::Engine;

use super::failure;
use super::metrics::{Histogram, Metric, Rates, Totals};
use super::problem::{Kind, Refusal};
use super::settings::Settings;
use crate::NodeHandle;
use crate::shards::Shard;

/// What the HTTP server works on.
pub struct Context {
    /// The node of this thread.
    pub handle: NodeHandle,
    /// Its disk, for figures only.
    pub engine: Arc<dyn Engine>,
    /// Figures of the other parts of the server, for `/metrics`.
    pub front_figures: Rc<dyn Fn() -> Vec<Metric>>,
    /// Bytes left on the file system of the data directory, and its size.
    pub disk_space: Rc<dyn Fn() -> (u64, u64)>,
    /// When damaged data was set aside that is still there, in Unix seconds.
    pub set_aside_s: Vec<u64>,
    /// When the process started.
    pub started: Instant,
    /// Limits.
    pub settings: Settings,
    /// Only servers started for experiments have them; without them the paths `/v1/dev/…` do not exist.
    pub experiments: Option<Experiments>,
    /// Where the other nodes of this server are found.
    pub(crate) shard: Shard,
}

/// What goes wrong on request.
#[derive(Clone)]
pub struct Experiments {
    /// Cuts this node's links to its peers (`true`) and heals them.
    pub cut: Rc<dyn Fn(bool)>,
    /// Makes each read of the disk, and each commit, take so many milliseconds longer.
    pub slow_disk: Rc<dyn Fn(u64, u64)>,
}

impl std::fmt::Debug for Context {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Context").field("started", &self.started).finish_non_exhaustive()
    }
}

/// The context, and what the HTTP server remembers.
pub(crate) struct Site {
    pub(super) context: Rc<Context>,
    pub(super) traffic: Traffic,
    pub(super) rates: RefCell<Rates>,
    gatherings: Cell<usize>,
}

/// Figures of the HTTP server.
#[derive(Debug, Default)]
pub(super) struct Traffic {
    /// By the first digit of the status, from 1.
    pub(super) replies: [Cell<u64>; 5],
    pub(super) durations: Histogram,
    pub(super) connections: Cell<usize>,
    pub(super) connections_refused: Cell<u64>,
}

/// Room for one request that gathers much; given back when dropped.
#[derive(Debug)]
pub(super) struct Gathering<'a>(&'a Cell<usize>);

impl Drop for Gathering<'_> {
    fn drop(&mut self) {
        self.0.set(self.0.get() - 1);
    }
}

impl Site {
    pub(super) fn new(context: Rc<Context>) -> Self {
        Self {
            context,
            traffic: Traffic::default(),
            rates: RefCell::default(),
            gatherings: Cell::default(),
        }
    }

    /// Keeps the node's counters of this moment, to say later what happened a second.
    pub(super) fn sample(&self) {
        let handle = &self.context.handle;
        let figures = handle.view(moim_node::Node::figures);
        self.rates.borrow_mut().sample(Totals {
            mono_ms: handle.now().mono_ms,
            reads: figures.reads,
            writes: figures.writes,
            failures: figures.unavailable + figures.timeouts + figures.overloaded,
        });
    }

    /// Room for a request that gathers much, if there is any.
    pub(super) fn gather(&self) -> Result<Gathering<'_>, Refusal> {
        let limit = self.context.settings.gatherings_max;
        if self.gatherings.get() >= limit {
            let mut problem = Kind::Overloaded.because(format!(
                "{limit} lists, batches and reports are being made already: try again later"
            ));
            problem.retry_after_s = Some(1);
            return Err(problem);
        }
        self.gatherings.set(self.gatherings.get() + 1);
        Ok(Gathering(&self.gatherings))
    }

    /// The problem that a failure is.
    pub(super) fn refuse(&self, failed: &Failure, intent: Intent) -> Refusal {
        failure::problem(failed, intent, |node| self.peer_address(node))
    }

    /// Where peers reach a member, if it is known.
    pub(super) fn peer_address(&self, node: NodeId) -> Option<String> {
        self.context.handle.view(|own| {
            let info = own.record().and_then(|record| record.member(node));
            info.map(|member| member.peer_address.clone())
        })
    }

    /// HTTP addresses of all members, this one included; nodes of one server have the same.
    pub(super) fn http_addresses(&self) -> Vec<String> {
        let mut addresses: Vec<String> = self.context.handle.view(|node| {
            let members = node.record().map(|record| record.members.as_slice()).unwrap_or_default();
            let others = members.iter().map(|member| member.http_address.clone());
            others.chain([node.info().http_address.clone()]).collect()
        });
        addresses.sort_unstable();
        addresses.dedup();
        addresses
    }
}
