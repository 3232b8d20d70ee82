//! The JSON that travels: written by the server, read by the command line and the dashboard, described in
//! `openapi.json`. Fields are added, never renamed. A reader ignores fields it does not know.
//!
//! Version numbers are texts: they have 64 bits, and JavaScript's numbers keep 53.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Several versions of one key (status 300).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Siblings {
    /// Covers them all: send it with the write that resolves them.
    pub context: String,
    /// In the order of their dots.
    pub siblings: Vec<Sibling>,
}

/// One version of a key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sibling {
    /// The value in base64.
    pub value: String,
    /// Names the write.
    pub dot: String,
    /// 64 bits of hybrid time, in decimal.
    pub version: String,
    /// When the key came into being, in Unix milliseconds.
    pub created_ms: u64,
    /// When this version was written, in Unix milliseconds.
    pub written_ms: u64,
    /// When it expires, in Unix milliseconds.
    pub expires_ms: Option<u64>,
}

/// A page of keys.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeysPage {
    /// Keys that are UTF-8 texts.
    pub keys: Vec<String>,
    /// Keys that are not, in base64.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub keys_base64: Vec<String>,
    /// Where the next page begins; absent after the last. A page may hold fewer keys than asked for, or none, and
    /// still have a next one: with a prefix, keys that do not match are looked through.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cursor: Option<String>,
}

/// Many operations in one request.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Batch {
    /// Where operations happen that do not say; `0` unless told otherwise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// They are independent of each other: no order, no transaction.
    pub operations: Vec<Operation>,
}

/// One operation of a batch.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Operation {
    /// `get`, `put` or `delete`.
    pub op: Verb,
    /// Where the key lives.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// The key, if it is UTF-8.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// The key in base64.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key_base64: Option<String>,
    /// The value of a put in base64.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<String>,
    /// The value of a put, if it is UTF-8.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value_text: Option<String>,
    /// What a put or delete replaces.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub context: Option<String>,
    /// Life of a put's value, as `30m`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ttl: Option<String>,
    /// Read level.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub r: Option<String>,
    /// Write level.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub w: Option<String>,
}

/// What an operation of a batch does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Verb {
    /// Reads.
    #[default]
    Get,
    /// Writes.
    Put,
    /// Deletes.
    Delete,
}

/// The answer to a batch: one result an operation, in the same order.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct BatchResults {
    /// The results.
    pub results: Vec<OperationResult>,
}

/// How one operation of a batch ended.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, Eq)]
pub struct OperationResult {
    /// The status that the operation would have had as a request of its own.
    pub status: u16,
    /// The context, as in `X-Moim-Context`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub context: Option<String>,
    /// The version written.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// What a get found: one version with status 200, several with 300.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub siblings: Vec<Sibling>,
    /// Why it failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<Problem>,
}

/// What went wrong (RFC 9457).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Problem {
    /// Names the kind of problem; stable.
    #[serde(rename = "type")]
    pub kind: String,
    /// The kind of problem in words; the same for all problems of the kind.
    pub title: String,
    /// The HTTP status.
    pub status: u16,
    /// This problem in words, and what to do.
    pub detail: String,
    /// For writes: whether the write may have happened all the same.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub maybe_applied: Option<bool>,
    /// The level asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub level: Option<String>,
    /// How many replicas that needs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub needed: Option<u8>,
    /// How many replicas answered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub got: Option<u8>,
    /// Which did not.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub missing: Vec<Missing>,
    /// How many siblings there are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub siblings: Option<u32>,
    /// The limit that was exceeded, in bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit_bytes: Option<u64>,
    /// When to try again, in seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_after_s: Option<u32>,
}

/// A replica that did not do what it was asked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Missing {
    /// Its node id.
    pub node: String,
    /// Where peers reach it, if that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<String>,
    /// Why not.
    pub why: String,
}

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

/// The ring.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Ring {
    /// Counts its changes.
    pub version: u64,
    /// Partitions.
    pub partitions: u16,
    /// Hash slots.
    pub slots: u16,
    /// Members, in the order in which `owner_runs` counts them.
    pub members: Vec<RingMember>,
    /// First owners: `[first partition, last partition, index of the member]`.
    pub owner_runs: Vec<(u16, u16, u16)>,
}

/// A member of the ring.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RingMember {
    /// Its id.
    pub node: String,
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
}

/// What the owners of a key hold.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyOwners {
    /// The key's hash slot.
    pub slot: u16,
    /// Its partition.
    pub partition: u16,
    /// In the order of preference.
    pub replicas: Vec<Replica>,
}

/// One owner's copy of a key.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Replica {
    /// The owner.
    pub node: String,
    /// Where peers reach it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<String>,
    /// `missing`, `held` or `unknown`.
    pub state: String,
    /// Why it is unknown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
    /// What this copy covers, for clients.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub context: Option<String>,
    /// What this copy covers, for people: the newest counter of each `node-epoch`, or the time.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub clock: BTreeMap<String, String>,
    /// Its versions, deleted and expired ones included.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub versions: Vec<ReplicaVersion>,
}

/// A version as one owner holds it, without the value.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReplicaVersion {
    /// Names the write.
    pub dot: String,
    /// 64 bits of hybrid time, in decimal.
    pub version: String,
    /// `value`, `deleted` or `expired`.
    pub state: String,
    /// When the key came into being, in Unix milliseconds.
    pub created_ms: u64,
    /// When it was written, in Unix milliseconds.
    pub written_ms: u64,
    /// When it expires, in Unix milliseconds.
    pub expires_ms: Option<u64>,
}

/// Comparisons of what owners hold.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Repairs {
    /// Partitions that this node does not serve, because it lost its data and the others have not filled it yet.
    pub unfilled_partitions: u64,
    /// Comparisons that run, as far as this node began them.
    pub exchanges: Vec<Exchange>,
    /// Repairs that this node was asked for, the last ones; the newest at the end.
    pub repairs: Vec<Repair>,
}

/// A comparison with one other owner.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exchange {
    /// With which node.
    pub peer: String,
    /// Why: `schedule`, `repair` and its number, or `fill`.
    pub reason: String,
    /// For how long it has run, in milliseconds.
    pub running_ms: u64,
    /// Partitions that both own.
    pub partitions: u64,
    /// Those that are equal by now.
    pub partitions_done: u64,
    /// Keys that were different so far.
    pub keys: u64,
    /// Bytes sent and received so far, about.
    pub bytes: u64,
}

/// A repair that was asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Repair {
    /// Names it on this node.
    pub id: u64,
    /// Only this namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// Only this partition.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub partition: Option<u16>,
    /// Whether this node and all other owners hold the same.
    pub done: bool,
    /// For how long it has run, or ran, in milliseconds.
    pub running_ms: u64,
    /// Other owners.
    pub peers: u64,
    /// Those that were compared with.
    pub peers_done: u64,
    /// Partitions shared with them, counted for each.
    pub partitions: u64,
    /// Those that are equal by now.
    pub partitions_done: u64,
    /// Keys that were different so far.
    pub keys: u64,
    /// Bytes sent and received so far, about.
    pub bytes: u64,
    /// Comparisons that ended early and were tried again.
    pub attempts_failed: u64,
    /// With whom the last of them was, and why it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_failure: Option<String>,
}

/// Copies still owed to owners.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tasks {
    /// How many there are in all.
    pub total: u64,
    /// The oldest ones, at most 1,000.
    pub tasks: Vec<Task>,
}

/// A copy that is still owed to an owner.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Task {
    /// Names the task on this node.
    pub id: u64,
    /// Where the key lives.
    pub namespace: String,
    /// The key, if it is UTF-8.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// The key in base64, if it is not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key_base64: Option<String>,
    /// The owner that lacks it.
    pub target: String,
    /// When it was missed, in Unix milliseconds.
    pub created_ms: u64,
    /// How often it was offered since.
    pub attempts: u32,
}
