//! What a node shows of itself: to status pages, metrics and the simulator's checkers. Reading changes nothing.

use bytes::Bytes;
use moim_core::clock::Hlc;
use moim_core::{NamespaceId, NodeId};

use crate::api::{BatchId, DiskRoom};
pub use crate::coordinator::{FreshnessView, LAG_BOUNDS_MS};
use crate::membership::MemberInfo;
use crate::namespace::Namespaces;
use crate::node::Node;
use crate::options::Options;
use crate::pace::PaceView;
use crate::peers::Peer;

/// How a peer looks from here. Local and quick; nothing moves because of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PeerState {
    /// Connected and talking.
    Up,
    /// Connected, but a ping has gone unanswered for `silence_ms`: skipped until it speaks.
    Silent,
    /// Connected, but several requests in a row had no answer: skipped until it speaks.
    Skipped,
    /// Not connected.
    Unreachable,
}

/// A peer as seen from here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerView {
    /// Who.
    pub info: MemberInfo,
    /// How it looks.
    pub state: PeerState,
    /// Since when it looks so, on the monotonic clock of [`crate::Now`], in milliseconds.
    pub since_mono_ms: u64,
    /// Copies owed to it.
    pub tasks: u64,
    /// Objects kept for it as long as it is away.
    pub hints: u64,
}

/// How members agree that a member is. Agreed by gossip, so slower than [`PeerState`], and shown to people and in slot
/// tables; ownership never moves because of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MemberState {
    /// Nothing was heard of it since this node started.
    Unknown,
    /// Its heartbeats come.
    Alive,
    /// It said that it takes no new requests and will be gone soon.
    Stopping,
    /// Somebody who lives suspects its latest heartbeat.
    Suspect,
    /// Two live reporters suspect its latest heartbeat; one, where no other could.
    Down,
}

/// A member as gossip knows it.
#[derive(Clone, Debug, PartialEq)]
pub struct MemberView {
    /// Who, with its latest addresses and attributes.
    pub info: MemberInfo,
    /// It is this node.
    pub own: bool,
    /// How it is.
    pub state: MemberState,
    /// Since when, on the monotonic clock of [`crate::Now`], in milliseconds.
    pub since_mono_ms: u64,
    /// How suspicious its silence is here: -log10 of the chance that a heartbeat comes even later; 0 to 99.
    pub phi: f64,
    /// Live members that suspect its latest heartbeat.
    pub reporters: Vec<NodeId>,
    /// Grows with each of its starts; 0 if nothing was heard of it.
    pub generation: u64,
    /// Its heartbeat counter.
    pub heartbeat: u64,
    /// How long ago that last grew here, in milliseconds.
    pub heartbeat_age_ms: u64,
    /// Requests that it coordinated when it said so.
    pub load: u32,
    /// It sends nothing stamped earlier than this.
    pub floor: Hlc,
    /// The highest batch that it ever called durable.
    pub durable: Option<BatchId>,
}

/// A copy that is still owed to an owner (REQ-13).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TaskView {
    /// Names the task on this node.
    pub id: u64,
    /// Where the key lives.
    pub namespace: NamespaceId,
    /// The key.
    pub key: Bytes,
    /// The owner that lacks it.
    pub target: NodeId,
    /// When it was missed, in Unix milliseconds.
    pub created_ms: u64,
    /// How often it was offered since.
    pub attempts: u32,
}

/// How far a node may forget deletions, expired values and old pairs of clocks (INV-7).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SettledView {
    /// Settled up to here, in Unix milliseconds, in every partition that this node owns; `None` before the first time.
    pub until_ms: Option<u64>,
    /// How far behind now that is, in milliseconds; since the start of the node if nothing has settled yet. A minute or
    /// two is usual; more means that a member is away, and that tombstones pile up meanwhile.
    pub lag_ms: u64,
    /// The member that everything waits for, if one does.
    pub held_back_by: Option<NodeId>,
}

/// Counters since the start, and levels now. Names follow the metrics (`moim_…`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Figures {
    /// Reads coordinated here.
    pub reads: u64,
    /// Writes coordinated here, deletes and updates included.
    pub writes: u64,
    /// Requests that ended as unavailable.
    pub unavailable: u64,
    /// Requests that ended as timeout.
    pub timeouts: u64,
    /// Requests refused as overload.
    pub overloaded: u64,
    /// Share of requests that is refused now because others keep the node busy, in thousandths.
    pub shed_per_mille: u64,
    /// Requests, and work for peers, dropped because nobody waited for it any more.
    pub expired: u64,
    /// Acknowledged `lww` writes that a concurrent write outranked.
    pub lww_discarded: u64,
    /// Writes that were stamped anew above a version they met.
    pub restamped: u64,
    /// Reads whose replicas did not agree.
    pub read_mismatches: u64,
    /// Copies brought up to date by reads.
    pub read_repairs: u64,
    /// Reads that asked one more replica because another was late.
    pub read_retries: u64,
    /// Of those, the ones in which the additional replica answered before the late one.
    pub read_hedges_won: u64,
    /// Objects in memory that a request found there.
    pub cache_hits: u64,
    /// Objects that had to be read from disk.
    pub cache_misses: u64,
    /// Bytes of objects in memory now.
    pub cache_bytes: u64,
    /// Objects in memory now.
    pub cache_objects: u64,
    /// Batches handed to the disk.
    pub commits: u64,
    /// Bytes of writes that wait for their sync now.
    pub unsynced_bytes: u64,
    /// Requests in progress now.
    pub operations: u64,
    /// Copies owed to owners now.
    pub tasks: u64,
    /// Bytes of those copies now.
    pub tasks_bytes: u64,
    /// Copies owed that were given up for lack of room; read repair brings them.
    pub tasks_dropped: u64,
    /// Copies owed that arrived, or that the owner needs no more because they have expired.
    pub tasks_done: u64,
    /// Copies owed that were given up because this node's own replica holds a newer version.
    pub tasks_outranked: u64,
    /// Comparisons with other owners that this node asked in and that came to an end.
    pub exchanges: u64,
    /// Comparisons that ended early; they are tried again.
    pub exchanges_failed: u64,
    /// Keys that comparisons found different.
    pub exchanged_keys: u64,
    /// Cells of the Merkle trees in memory now.
    pub tree_cells: u64,
    /// Bytes of memory that they take, roughly.
    pub tree_bytes: u64,
    /// Times that this node had lost its disk, since the start.
    pub fillings: u64,
    /// Partitions that are still to be filled now.
    pub unfilled_partitions: u64,
    /// Objects kept for owners that are away now.
    pub hints: u64,
    /// Bytes of those objects now, and what is kept beside them.
    pub hints_bytes: u64,
    /// How long the oldest of them has been kept, in milliseconds.
    pub hints_oldest_ms: u64,
    /// Objects that were taken to be kept for owners.
    pub hints_stored: u64,
    /// Objects that every owner has got.
    pub hints_delivered: u64,
    /// Objects that were not taken, because there was no room.
    pub hints_refused: u64,
    /// Writes that were acknowledged with the help of stand-ins.
    pub sloppy_writes: u64,
    /// Reads that were answered with the help of stand-ins.
    pub sloppy_reads: u64,
    /// Messages refused because their stamp was too far ahead.
    pub clock_skew_refused: u64,
    /// Objects without a value that were forgotten, because nothing that they replaced can come back.
    pub forgotten: u64,
    /// How far behind now everything is settled, in milliseconds.
    pub settled_lag_ms: u64,
    /// Versions refused because they were replaced and forgotten long ago.
    pub forgotten_refused: u64,
    /// Pairs removed from clocks beyond `clock_pairs_max`.
    pub clock_pairs_pruned: u64,
    /// Times a clock stayed beyond `clock_pairs_max`, because its oldest pairs were not settled.
    pub clocks_above_max: u64,
    /// Stored objects that could not be decoded.
    pub undecodable: u64,
    /// Reads that the disk could not answer.
    pub disk_reads_failed: u64,
    /// Values refused because the disk is full, as replica or coordinator.
    pub disk_full_refused: u64,
    /// Gossip lists sent.
    pub gossip_sent: u64,
    /// Gossip lists received.
    pub gossip_received: u64,
    /// Members that this node began to suspect.
    pub suspicions: u64,
    /// Times that this node stood still for so long that it takes the gap out of others' silence.
    pub pauses: u64,
    /// Times that another process spoke under this node's id.
    pub rival_words: u64,
}

/// Why two nodes compare what they hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExchangeReason {
    /// It was time.
    Schedule,
    /// Somebody asked for this repair.
    Demand(u64),
    /// This node lost its disk.
    Fill,
}

/// A comparison that this node asks in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ExchangeView {
    /// With whom.
    pub peer: NodeId,
    /// Why.
    pub reason: ExchangeReason,
    /// When it began, on the monotonic clock of [`crate::Now`], in milliseconds.
    pub began_mono_ms: u64,
    /// Partitions that both own.
    pub partitions: u64,
    /// Those that are equal by now.
    pub partitions_done: u64,
    /// Keys that were different so far.
    pub keys: u64,
    /// Bytes sent and received so far, about.
    pub bytes: u64,
}

impl ExchangeView {
    pub(crate) fn new(reason: ExchangeReason, began_mono_ms: u64) -> Self {
        let (peer, partitions, partitions_done) = (NodeId(0), 0, 0);
        Self { peer, reason, began_mono_ms, partitions, partitions_done, keys: 0, bytes: 0 }
    }
}

/// A repair on demand: comparisons with every other owner.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RepairView {
    /// Names it on this node.
    pub id: u64,
    /// What is compared.
    pub repair: crate::anti_entropy::Repair,
    /// When it was asked for, on the monotonic clock of [`crate::Now`], in milliseconds.
    pub began_mono_ms: u64,
    /// When all was done.
    pub ended_mono_ms: Option<u64>,
    /// Other owners.
    pub peers: u64,
    /// Those that hold the same by now.
    pub peers_done: u64,
    /// Partitions shared with them, counted for each.
    pub partitions: u64,
    /// Those that are equal by now.
    pub partitions_done: u64,
    /// Keys that were different so far.
    pub keys: u64,
    /// Bytes sent and received so far, about.
    pub bytes: u64,
    /// Comparisons that ended early and are tried again.
    pub attempts_failed: u64,
    /// The last of them: with whom, and why.
    pub last_failure: Option<(NodeId, String)>,
}

/// Why something is brought to somebody.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum TransferReason {
    /// This node lost its disk.
    Refill,
    /// Somebody asked for this repair.
    Repair(u64),
    /// Copies that were kept for an owner that was away.
    Hints,
}

impl TransferReason {
    /// As metrics and status pages name it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Refill => "refill",
            Self::Repair(_) => "repair",
            Self::Hints => "hint",
        }
    }
}

/// Something that is being brought to somebody.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TransferView {
    /// Why.
    pub reason: TransferReason,
    /// To whom, if to another node.
    pub peer: Option<NodeId>,
    /// When it was seen first, on the monotonic clock of [`crate::Now`], in milliseconds.
    pub began_mono_ms: u64,
    /// When it was last seen to have got on, on the same clock.
    pub moved_mono_ms: u64,
    /// Partitions that are left, of hints objects.
    pub left: u64,
    /// The most of them that there were.
    pub total: u64,
    /// Bytes sent and received so far, about; 0 for hints.
    pub bytes: u64,
}

impl TransferView {
    /// Whether it has not got on for so long that somebody should know.
    pub fn is_stalled(&self, mono_ms: u64) -> bool {
        mono_ms.saturating_sub(self.moved_mono_ms) >= crate::transfers::STALLED_MS
    }
}

/// How far a node is that lost its disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FillingView {
    /// Partitions that were lost.
    pub partitions: u64,
    /// Those that are served again.
    pub filled: u64,
}

impl Node {
    /// How much room its disk has, as it was told last.
    pub fn disk_room(&self) -> DiskRoom {
        self.disk_room
    }

    /// Policies.
    pub fn namespaces(&self) -> &Namespaces {
        &self.namespaces
    }

    /// Limits.
    pub fn options(&self) -> &Options {
        &self.options
    }

    /// Peers as seen from here.
    pub fn peers(&self) -> Vec<PeerView> {
        let view = |(node, peer): (NodeId, &Peer)| PeerView {
            info: peer.info.clone(),
            state: peer.state(),
            since_mono_ms: peer.since_mono_ms,
            tasks: self.tasks.count_for(node),
            hints: self.hints.count_for(node),
        };
        self.peers.iter().map(view).collect()
    }

    /// Copies owed to owners: the first `limit`, oldest first.
    pub fn tasks(&self, limit: usize) -> Vec<TaskView> {
        self.tasks.views(limit)
    }

    /// How background work yields to clients.
    pub fn pace(&self) -> PaceView {
        self.pace.view()
    }

    /// How stale reads were.
    pub fn freshness(&self) -> FreshnessView {
        self.freshness.view
    }

    /// Counters and levels.
    pub fn figures(&self) -> Figures {
        Figures {
            cache_bytes: self.store.bytes(),
            cache_objects: self.store.objects(),
            shed_per_mille: u64::from(self.shedding.share()),
            unsynced_bytes: self.store.unsynced_bytes(),
            operations: self.operations.len() as u64,
            settled_lag_ms: self.settled_view().lag_ms,
            tasks: self.tasks.count(),
            tasks_bytes: self.tasks.bytes(),
            tree_cells: self.store.trees().cells() as u64,
            tree_bytes: self.store.trees().bytes() as u64,
            unfilled_partitions: self.filling.as_ref().map_or(0, |filling| {
                let view = filling.view();
                view.partitions - view.filled
            }),
            hints: self.hints.count(),
            hints_bytes: self.hints.bytes(),
            hints_oldest_ms: self
                .hints
                .oldest_ms()
                .map_or(0, |created_ms| self.now.wall_ms.saturating_sub(created_ms)),
            ..self.figures
        }
    }
}
