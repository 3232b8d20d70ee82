//! The cluster, its members, and what each of them holds and does.

use serde::{Deserialize, Serialize};

/// A namespace and its policy.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Namespace {
    /// Its name.
    pub name: String,
    /// Copies wanted.
    pub n: u8,
    /// Default read level.
    pub r: String,
    /// Default write level.
    pub w: String,
    /// `lww` or `siblings`.
    pub conflict: String,
    /// `available`.
    pub mode: String,
    /// Whether fallbacks count in quorums.
    pub sloppy: bool,
    /// Life of values written without an expiry.
    pub ttl_ms: Option<u64>,
    /// The longest life a value may be given.
    pub max_ttl_ms: Option<u64>,
    /// Key and value together.
    pub max_pair_bytes: u64,
}

/// All namespaces.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Namespaces {
    /// In the order of their ids: the numbered ones first.
    pub namespaces: Vec<Namespace>,
}

/// The cluster at a glance, as this node sees it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Status {
    /// Version of the program.
    pub version: String,
    /// This node's id.
    pub node: String,
    /// The cluster's id, once it is founded.
    pub cluster: Option<String>,
    /// Whether this node serves.
    pub ready: bool,
    /// Why it does not.
    pub reason: Option<String>,
    /// Milliseconds since the process started.
    pub uptime_ms: u64,
    /// Version of the ring.
    pub ring_version: Option<u64>,
    /// Partitions of the ring.
    pub partitions: Option<u16>,
    /// Members of the ring.
    pub nodes: usize,
    /// Members that this node is connected to, itself included.
    pub nodes_up: usize,
    /// Members that are agreed to be down.
    pub nodes_down: usize,
    /// Distinct machines among them.
    pub machines: usize,
    /// Copies wanted by the default namespace.
    pub copies_wanted: u8,
    /// Copies that there can be with these machines.
    pub copies: u8,
    /// Named and numbered namespaces.
    pub namespaces: usize,
    /// What this node alone holds and does.
    pub local: Local,
    /// All nodes of this server, this one included. Those that do not run are missing.
    pub shards: Vec<Shard>,
}

/// A node of a server, and what it alone holds and does.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Shard {
    /// Its number on its server, from 0.
    pub shard: usize,
    /// Its id.
    pub node: String,
    /// Whether it serves.
    pub ready: bool,
    /// Why it does not.
    pub reason: Option<String>,
    /// What it holds and does.
    pub local: Local,
}

/// What one node holds and does.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Local {
    /// Keys on its disk, roughly, deleted ones included until they are reclaimed.
    pub keys_estimate: u64,
    /// Bytes of its tables on disk.
    pub disk_bytes: u64,
    /// Room on its disk: `enough`, `low` (no new values are taken) or `exhausted` (writes wait).
    pub disk_room: String,
    /// What is left on the file system of its data directory; 0 with an engine that keeps nothing.
    pub disk_available_bytes: u64,
    /// The size of that file system.
    pub disk_size_bytes: u64,
    /// When damaged data was set aside that nobody has removed since, in Unix seconds.
    pub set_aside_s: Vec<u64>,
    /// Bytes of objects in memory.
    pub cache_bytes: u64,
    /// Reads coordinated here a second, over the last ten seconds.
    pub reads_per_second: f64,
    /// Writes coordinated here a second, over the last ten seconds.
    pub writes_per_second: f64,
    /// Requests refused, timed out or unavailable a second, over the last ten seconds.
    pub failures_per_second: f64,
    /// The 99th percentile of how long requests coordinated here took lately, in milliseconds; nothing if there were few.
    pub p99_ms: Option<u32>,
    /// Requests in progress.
    pub operations: u64,
    /// Copies still owed to owners.
    pub tasks: u64,
    /// How far behind now deletions and expired values are forgotten, in milliseconds. A minute or two is usual.
    pub settled_lag_ms: u64,
    /// The member that they wait for, if one holds them back.
    pub settled_held_back_by: Option<String>,
    /// Objects kept for owners that are away.
    pub hints: u64,
    /// Bytes of those.
    pub hints_bytes: u64,
    /// How long the oldest of them has been kept, in milliseconds.
    pub hints_oldest_ms: u64,
    /// What is being brought to somebody: a lost disk filled, repairs, copies handed over to owners that are back.
    #[serde(default)]
    pub transfers: Vec<Transfer>,
    /// Resident memory of the process.
    pub memory_bytes: u64,
}

/// Something that is being brought to somebody.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Transfer {
    /// Why: `refill` (of this node), `repair` or `hint`.
    pub reason: String,
    /// To which node, if to another.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub peer: Option<String>,
    /// Partitions that are left, of hints objects.
    pub left: u64,
    /// The most of them that there were.
    pub total: u64,
    /// Bytes sent and received so far, about; 0 for hints.
    pub bytes: u64,
    /// How long it has been under way, in milliseconds.
    pub running_ms: u64,
    /// How long it has not got on, in milliseconds.
    pub idle_ms: u64,
    /// Whether that is so long that somebody should know.
    pub stalled: bool,
}

/// Members of the cluster, as one of them sees them.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Nodes {
    /// In the order of the ring.
    pub nodes: Vec<Node>,
}

/// A member of the cluster.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Node {
    /// Its id.
    pub node: String,
    /// Whether it is the node that answers.
    #[serde(rename = "self")]
    pub own: bool,
    /// `up`, `silent`, `skipped` or `unreachable`, seen from the node that answers.
    pub state: String,
    /// For how long, in milliseconds.
    pub state_for_ms: u64,
    /// `alive`, `suspect`, `down`, `stopping` or `unknown`: what members agree on, slower than `state`. Ownership never
    /// moves because of it.
    pub agreed: String,
    /// For how long, in milliseconds.
    pub agreed_for_ms: u64,
    /// How suspicious its silence is here: -log10 of the chance that a heartbeat comes even later.
    pub phi: f64,
    /// Live members that report its latest heartbeat as the last.
    pub reporters: Vec<String>,
    /// Grows with each of its starts; 0 if nothing was heard of it.
    pub generation: u64,
    /// Its heartbeat counter.
    pub heartbeat: u64,
    /// How long ago its heartbeat last grew here, in milliseconds.
    pub heartbeat_age_ms: u64,
    /// Requests that it coordinated when it said so last.
    pub load: u32,
    /// Its failure domain.
    pub machine: String,
    /// Its data centre.
    pub dc: String,
    /// Its zone.
    pub zone: String,
    /// Its capacity relative to the others.
    pub weight: u32,
    /// Partitions that it is the first owner of.
    pub partitions: u32,
    /// Its part of all copies, from 0 to 1.
    pub share: f64,
    /// Copies that the answering node owes it.
    pub tasks: u64,
    /// Objects that the answering node keeps for it as long as it is away.
    pub hints: u64,
    /// Where clients and peers reach it.
    pub addresses: Addresses,
}

/// Where a member is reached.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Addresses {
    /// By Redis clients.
    pub redis: String,
    /// By Redis Cluster clients.
    pub cluster: String,
    /// By HTTP clients.
    pub http: String,
    /// By peers.
    pub peer: String,
}
