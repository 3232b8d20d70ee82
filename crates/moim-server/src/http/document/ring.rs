//! Who holds what, and what each owner holds of a key.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

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
