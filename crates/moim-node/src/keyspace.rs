//! Persisted keys: built and taken apart here and nowhere else. `docs/disk-format.md` describes them.
//!
//! Data keys are `partition (u16) | namespace (u32) | hash of the key (u32) | key`, big endian. The hash makes the
//! order within a partition uniform, whatever users' keys look like: a cursor of a scan is a partition and a hash and
//! needs no memory in the server, a random key is a seek, and a Merkle bucket will be one contiguous range.

use bytes::{BufMut, Bytes, BytesMut};
use moim_core::NamespaceId;
use moim_core::object::{Object, expiry_of};
use moim_core::ring::Partition;
use moim_storage::Reclaim;

/// Bytes before the user's key.
pub const PREFIX_BYTES: usize = 2 + 4 + 4;

/// The cluster record, in the meta family.
pub const META_RECORD: &[u8] = b"record";

/// The bound below which this node's clock may have stamped, in the meta family.
pub const META_CLOCK_BOUND: &[u8] = b"clock-bound";

/// The generation of this node's latest start, in the meta family.
pub const META_GENERATION: &[u8] = b"generation";

/// The number of the latest batch, written with each, in the meta family.
pub const META_BATCH: &[u8] = b"batch";

/// The hash that orders keys within a partition and a namespace.
pub fn key_hash(key: &[u8]) -> u32 {
    let [a, b, c, d, ..] = moim_core::fingerprint(key).to_be_bytes();
    u32::from_be_bytes([a, b, c, d])
}

/// The persisted key of a user's key.
pub fn data_key(partition: Partition, namespace: NamespaceId, key: &[u8]) -> Bytes {
    let mut bytes = BytesMut::with_capacity(PREFIX_BYTES + key.len());
    put_prefix(&mut bytes, partition, namespace, key_hash(key));
    bytes.put_slice(key);
    bytes.freeze()
}

/// The persisted keys of one partition and namespace from a hash on: first key, and end (excluded).
pub fn data_range(partition: Partition, namespace: NamespaceId, from_hash: u32) -> (Bytes, Bytes) {
    let mut from = BytesMut::with_capacity(PREFIX_BYTES);
    put_prefix(&mut from, partition, namespace, from_hash);
    let after = (u64::from(partition.get()) << 32 | u64::from(namespace.0)) + 1;
    let [_, _, to @ ..] = after.to_be_bytes();
    (from.freeze(), Bytes::copy_from_slice(&to))
}

/// The first key that can follow a persisted key.
pub fn after(persisted: &Bytes) -> Bytes {
    let mut bytes = BytesMut::with_capacity(persisted.len() + 1);
    bytes.put_slice(persisted);
    bytes.put_u8(0);
    bytes.freeze()
}

/// The namespace, hash and user's key of a persisted key; `None` if it is none.
pub fn split_data_key(persisted: &Bytes) -> Option<(NamespaceId, u32, Bytes)> {
    let namespace = persisted.get(2..6)?.try_into().ok().map(u32::from_be_bytes)?;
    let hash = persisted.get(6..PREFIX_BYTES)?.try_into().ok().map(u32::from_be_bytes)?;
    Some((NamespaceId(namespace), hash, persisted.slice(PREFIX_BYTES..)))
}

/// What compaction may give back of a stored object: values whose deadline has passed by more than `grace_ms` (the
/// largest clock error, so that no replica drops what another still serves). The header stays (INV-7).
pub fn reclaim(encoded: &[u8], wall_ms: u64, grace_ms: u64) -> Reclaim {
    let due_ms = wall_ms.saturating_sub(grace_ms);
    let expires_ms = expiry_of(encoded);
    if expires_ms == 0 || expires_ms > due_ms {
        return Reclaim::Keep;
    }
    match Object::decode(Bytes::copy_from_slice(encoded)).map(|object| object.reclaim(due_ms)) {
        Ok(moim_core::object::Reclaim::Shrink(header)) => {
            Reclaim::Replace(header.encode().to_vec())
        }
        // Nothing to give back, or damage, which reads report and compaction must not hide.
        Ok(moim_core::object::Reclaim::Keep) | Err(_) => Reclaim::Keep,
    }
}

fn put_prefix(bytes: &mut BytesMut, partition: Partition, namespace: NamespaceId, hash: u32) {
    bytes.put_u16(partition.get());
    bytes.put_u32(namespace.0);
    bytes.put_u32(hash);
}
