//! What is being repaired, and what is still owed.

use serde::{Deserialize, Serialize};

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
