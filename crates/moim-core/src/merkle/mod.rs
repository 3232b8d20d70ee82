//! Sums over what a replica holds, so that two replicas find what they hold differently without sending it: the Merkle
//! trees of anti-entropy (Dynamo, section 4.7), one per partition and namespace.
//!
//! A tree has expiry slices ([`Slice`]), a slice has leaves by the leading bits of the keys' hashes, and a leaf (a
//! [`Cell`]) is the wrapping *sum* of the hashes of what is in it. Sums instead of hashes of hashes (Bellare and
//! Micciancio's AdHash): adding and taking away one entry needs neither the rest of the leaf nor an order, so every
//! write keeps its tree up to date, and any set of cells sums up to one number. All levels above the cells are sums.
//!
//! What counts: every version that has a value, expired or not, by its identity (namespace, key, time, dot).
//! Tombstones and headers do not count: they answer when a key that another replica holds differently is looked at. A
//! slice that has passed falls out whole, at each replica's own moment, and what belongs to it is ignored from then on:
//! expiry neither sends nor compares anything. For that, values stay on disk until their *slice* has passed.
//!
//! 64 bits are enough because the adversary is chance: an entry's hash contains the dot with its 64 random bits of the
//! coordinator's run, which no client knows when it chooses keys, so two different sets have equal sums with
//! probability 2⁻⁶⁴; a thousand comparisons a second that all meet a difference would miss one in half a billion years.
//!
//! Invariants, each with a property test in `laws.rs`: sums kept up to date equal sums built anew; the order of changes
//! does not matter; where the same slices have passed, equal contents have equal sums.

mod slice;
mod tree;

#[cfg(test)]
mod laws;

pub use slice::Slice;
pub use tree::{Cell, CellId, GROUPS, Place, Trees};

use bytes::BufMut;

use crate::NamespaceId;
use crate::object::Version;

/// What a version adds to its cell.
pub fn entry_hash(namespace: NamespaceId, key: &[u8], version: &Version) -> u64 {
    const IDENTITY_BYTES: usize = 4 + 8 + 8 + 8 + 4 + 8;
    let mut identity = [0_u8; IDENTITY_BYTES];
    let mut fields = &mut identity[..];
    fields.put_u32(namespace.0);
    fields.put_u64(version.written.as_u64());
    fields.put_u64(version.dot.actor.node.0);
    fields.put_u64(version.dot.actor.epoch.run);
    fields.put_u32(version.dot.actor.epoch.serial);
    fields.put_u64(version.dot.counter);
    let seed = xxhash_rust::xxh3::xxh3_64(&identity);
    xxhash_rust::xxh3::xxh3_64_with_seed(key, seed)
}
