//! What a node begins from: who it is, chance, and what its disk kept.

use bytes::Bytes;
use moim_core::ring::PartitionCount;

use crate::api::BatchId;
use crate::keyspace::StoredTrees;
use crate::membership::{MemberInfo, Record};
use crate::namespace::Namespaces;
use crate::options::Options;
use crate::wire;

/// Everything a node needs to begin: identity, chance, and what the disk kept.
#[derive(Clone, Debug)]
pub struct Boot {
    /// Who this node is and where it listens.
    pub info: MemberInfo,
    /// 64 random bits, fresh at every start: names the epochs of this run (INV-3).
    pub run: u64,
    /// Seeds everything else that chance decides: retry jitter, hash maps.
    pub seed: u64,
    /// The value of [`crate::keyspace::META_RECORD`] on disk.
    pub stored_record: Option<Bytes>,
    /// The value of [`crate::keyspace::META_CLOCK_BOUND`] on disk.
    pub stored_clock_bound: Option<Bytes>,
    /// The value of [`crate::keyspace::META_FILLING`] on disk.
    pub stored_filling: Option<Bytes>,
    /// All of [`moim_storage::Family::Trees`] on disk.
    pub stored_trees: StoredTrees,
    /// The value of [`crate::keyspace::META_GENERATION`] on disk.
    pub stored_generation: Option<Bytes>,
    /// The value of [`crate::keyspace::META_BATCH`] on disk.
    pub stored_batch: Option<Bytes>,
    /// How many members found the cluster, this one included, when there is no record.
    pub founding_members: usize,
    /// Partitions of a cluster to be founded.
    pub partitions: PartitionCount,
    /// Policies.
    pub namespaces: Namespaces,
    /// Limits.
    pub options: Options,
}

/// Why a node cannot begin with what its disk kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BootError(pub String);

impl std::fmt::Display for BootError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for BootError {}

impl Boot {
    /// The cluster that this node was adopted into.
    pub(crate) fn record(&self) -> Result<Option<Record>, BootError> {
        let Some(bytes) = self.stored_record.clone() else { return Ok(None) };
        let record = wire::decode_record(bytes).map_err(|error| {
            BootError(format!("the stored cluster record cannot be read: {error}"))
        })?;
        let own = self.info.member.node;
        if record.member(own).is_none() {
            return Err(BootError(format!(
                "node {own} is no member of the stored cluster record: the data directory and the identity file belong to different nodes"
            )));
        }
        Ok(Some(record))
    }

    /// How far this node's clock may have run, in Unix milliseconds; 0 if it never did.
    pub(crate) fn clock_bound_ms(&self) -> Result<u64, BootError> {
        stored_number(self.stored_clock_bound.as_ref(), "clock bound")
    }

    /// The generation of the last run, 0 if there was none.
    pub(crate) fn generation(&self) -> Result<u64, BootError> {
        stored_number(self.stored_generation.as_ref(), "generation")
    }

    /// The last batch that the disk kept.
    pub(crate) fn batch(&self) -> Result<BatchId, BootError> {
        stored_number(self.stored_batch.as_ref(), "batch number").map(BatchId)
    }
}

fn stored_number(stored: Option<&Bytes>, what: &str) -> Result<u64, BootError> {
    let Some(bytes) = stored else { return Ok(0) };
    <[u8; 8]>::try_from(bytes.as_ref()).map(u64::from_be_bytes).map_err(|_length| {
        BootError(format!("the stored {what} has {} bytes instead of 8", bytes.len()))
    })
}
