//! What went wrong.

use serde::{Deserialize, Serialize};

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
