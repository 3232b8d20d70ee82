//! What may be forgotten. Tombstones, headers of expired values and old pairs of clocks exist for the sake of older
//! versions that may still be somewhere. They go once nothing older can be anywhere, and not before (INV-7): there is
//! no grace period, no operator's deadline, and nothing is sent for an expiry.
//!
//! Two marks, each a hybrid time, each growing while a node runs and zero again when it restarts:
//!
//! - **Complete** up to T, at one owner of a partition: it holds every version stamped up to T that any owner held
//!   live, or something newer. So it refuses a version up to T that it does not know: that one was overwritten or
//!   deleted, and then forgotten.
//! - **Settled** up to T: no owner holds, or will ever again take, a version that something stamped up to T replaced.
//!   So what is stamped up to T and holds no live value may be forgotten.
//!
//! How a node comes to know (`S`, `C`, `E` are moments on its own hybrid clock; [`progress`] does the sums):
//!
//! 1. Every ring member reports its *floor* ([`Node::pending_floor`]): whatever it may still send was begun no earlier.
//!    At `S` the least of them, the dead included, is T. A write is stamped after it was begun, so from `S` on no write
//!    stamped up to T is on its way for the first time: all there is of them lies at owners, or travels as a copy that
//!    somebody read from an owner.
//! 2. A comparison with each other owner that began after `S` has ended with both holding the same. Whatever was live
//!    up to T is here: this node is complete up to T. **It never refuses a legitimate late write**: one that begins now
//!    is stamped above the floor of its coordinator, which is at least T; a copy on its way is of a version that an
//!    owner held, which the comparison has brought here too.
//! 3. Owners tell each other how far they are complete. At `C` all owners of the partition are, up to T: none of them
//!    takes a version up to T that it does not know, whoever sends it. So such a version is only where it was.
//! 4. A comparison with each other owner that began after `C` has ended at `E`: what this node holds as removed, no other
//!    owner holds as live any more.
//! 5. Every member's floor has passed `E`: no copy that was read before is on its way either. T is settled.
//!
//! **A restart** sets both marks to zero. That only makes a node accept and keep more. An owner that restarts is no longer
//! complete, so what others knew of it is void as soon as its connection closes. **A repair** sends old versions; it
//! counts in its sender's floor by when it *read* them, not by their stamps, which is what step 5 needs. **A client's
//! context** may name pruned pairs and bring them back; they count as young as the write that brought them.
//! **A version in a slice that is about to expire** may be left out of comparisons and then be refused to a replica
//! that lacks it, for its last seconds.
//!
//! Where a namespace bounds the life of its values (`max_ttl_ms`), a header is not needed longer than an older version
//! could live: see [`forget`]. With one fixed life for all values, headers live no longer than the values.
//!
//! Left out: ring changes (a new owner of a partition must be filled before it counts as complete); what a message
//! may do that outlives its connection and two rounds of comparisons.

mod floor;
mod forget;
mod progress;
mod refusal;
mod show;
mod sweep;

use std::collections::BTreeMap;

use moim_core::clock::Hlc;
use moim_core::ring::Partition;
use moim_core::{NamespaceId, NodeId};

pub(crate) use refusal::Admission;

use crate::message::Message;
use crate::node::Node;
use crate::timer::Timer;
use progress::{Progress, Track};
use sweep::Sweep;

/// Partitions looked at in one tick, so that a turn stays short.
const PARTITIONS_PER_TICK: usize = 1_024;

/// What a node knows of what may be forgotten.
#[derive(Debug, Default)]
pub(crate) struct Settling {
    /// The least floor of all members, as it grew.
    floors: Track,
    /// How far co-owners said that they are complete, as it grew, on the present connection.
    complete: BTreeMap<NodeId, Track>,
    partitions: BTreeMap<Partition, Progress>,
    /// The next partition to look at, and the least that this pass over all has found complete.
    next: u16,
    least: Option<Hlc>,
    /// When this node began to look, in Unix milliseconds.
    started_ms: u64,
    /// Complete up to here in every partition that this node owns.
    own_complete: Hlc,
    sweep: Sweep,
}

impl Node {
    /// Up to when nothing that was replaced in this partition can come back (see the module).
    pub(crate) fn settled(&self, partition: Partition, _namespace: NamespaceId) -> Hlc {
        self.settling.partitions.get(&partition).map_or(Hlc::ZERO, |progress| progress.settled)
    }

    /// Up to when this node holds everything of a partition.
    pub(crate) fn complete(&self, partition: Partition) -> Hlc {
        self.settling.partitions.get(&partition).map_or(Hlc::ZERO, |progress| progress.complete)
    }

    /// A co-owner is complete up to here in every partition that it owns.
    pub(crate) fn on_complete(&mut self, from: NodeId, until: Hlc) {
        let at = self.clock.last();
        if !self.settling.complete.entry(from).or_default().grow(at, until) {
            // It had to begin again: it restarted, or has something to refill.
            self.forget_completeness_of(from);
        }
    }

    /// A peer may restart, and then knows nothing of having been complete.
    pub(crate) fn forget_completeness_of(&mut self, node: NodeId) {
        self.settling.complete.remove(&node);
        for progress in self.settling.partitions.values_mut() {
            progress.begin_again();
        }
    }

    /// Looks how far things have settled, tells co-owners, and forgets a little.
    pub(crate) fn on_settle_tick(&mut self) {
        let next = self.now.mono_ms + u64::from(self.options.settle_tick_ms);
        self.timers.set(next, Timer::Settle);
        if self.readiness().is_err() {
            return;
        }
        if self.settling.started_ms == 0 {
            self.settling.started_ms = self.now.wall_ms;
        }
        // Floors, and with them everything here, go on in a cluster where nobody writes.
        if self.clock.last().millis() < self.now.wall_ms {
            self.stamp();
        }
        let pending = self.pending_floor();
        let floor = self.members_floor(pending);
        self.settling.floors.grow(self.clock.last(), floor);
        self.advance_partitions(floor);
        self.tell_completeness();
        self.sweep_on();
    }

    fn advance_partitions(&mut self, floor: Hlc) {
        let Some(record) = &self.record else { return };
        let (own, count) = (self.info.member.node, record.ring.partitions());
        let copies = self.namespaces.all().map(|policy| policy.n).max().unwrap_or(1);
        for _ in 0..PARTITIONS_PER_TICK.min(usize::from(count.get())) {
            let Some(partition) = count.partition(self.settling.next) else {
                self.end_pass();
                continue;
            };
            self.settling.next += 1;
            let Some(record) = &self.record else { return };
            let owners: Vec<_> = record.ring.owners_of(partition, copies).collect();
            if !owners.contains(&own) {
                continue;
            }
            let others: Vec<_> = owners.into_iter().filter(|&owner| owner != own).collect();
            let complete = self.advance(partition, &others, floor);
            let least = self.settling.least.unwrap_or(complete).min(complete);
            self.settling.least = Some(least);
        }
    }

    /// Advances one partition and returns how far it is complete here.
    fn advance(&mut self, partition: Partition, others: &[NodeId], floor: Hlc) -> Hlc {
        if !self.is_filled(partition) {
            self.settling.partitions.remove(&partition);
            return Hlc::ZERO;
        }
        let now = self.clock.last();
        let equal = others.iter().map(|&other| self.equal_since(other, partition)).min();
        let compared = equal.unwrap_or(now);
        let settling = &mut self.settling;
        let everywhere = |at: Hlc| {
            let track = |other| settling.complete.get(other);
            let others =
                others.iter().map(|other| track(other).map_or(Hlc::ZERO, |t| t.before(at)));
            others.min().unwrap_or(now)
        };
        let progress = settling.partitions.entry(partition).or_default();
        progress.advance((now, floor), settling.floors.before(compared), everywhere(compared));
        progress.complete
    }

    /// All partitions have been looked at: what all of them have reached is what co-owners are told.
    fn end_pass(&mut self) {
        self.settling.next = 0;
        if let Some(least) = self.settling.least.take() {
            self.settling.own_complete = least;
        }
    }

    fn tell_completeness(&mut self) {
        let until = self.settling.own_complete;
        for node in self.co_owners() {
            if self.peers.is_connected(node) {
                self.send_plain(node, Message::Complete { until });
            }
        }
    }
}
