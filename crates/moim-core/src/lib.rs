//! Values and algorithms of Moim, without IO, clock, randomness or messages (INV-1).
//!
//! | module | concept | where the idea comes from |
//! |---|---|---|
//! | [`clock`] | hybrid logical clock, dot, version vector | Kulkarni et al. 2014; Preguiça et al., dotted version vectors, 2012 |
//! | [`object`] | what a replica holds of one key, and `join` | Riak's siblings and causal context |
//! | [`merkle`] | sums over what a replica holds, by expiry slice | Dynamo 2007, section 4.7; `AdHash`, 1997 |
//! | [`quorum`] | N/R/W, levels, three-valued tally | Gifford 1979; etcd's `quorum` package |
//! | [`codec`] | bytes of the above | – |
//!
//! Start reading at [`object::Object::join`]: everything else exists so that this one function is enough.

pub mod clock;
pub mod codec;
mod id;
pub mod merkle;
pub mod object;
pub mod quorum;
pub mod ring;

/// 64 bits of a hash that is the same on every machine and in every version of Moim. Not for secrets.
pub fn fingerprint(bytes: &[u8]) -> u64 {
    xxhash_rust::xxh3::xxh3_64(bytes)
}

pub use id::{MachineId, NamespaceId, NodeId};
