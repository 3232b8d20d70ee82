//! Keys and values.

use serde::{Deserialize, Serialize};

use super::Problem;

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
