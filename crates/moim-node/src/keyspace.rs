//! Persisted keys: built and taken apart here and nowhere else. `docs/disk-format.md` describes them.
//!
//! Data keys are `partition (u16) | namespace (u32) | hash of the key (u32) | key`, big endian. The hash makes the
//! order within a partition uniform, whatever users' keys look like: a cursor of a scan is a partition and a hash and
//! needs no memory in the server, a random key is a seek, and a Merkle bucket will be one contiguous range.

use bytes::{BufMut, Bytes, BytesMut};
use moim_core::NamespaceId;
use moim_core::codec::{DecodeError, Reader};
use moim_core::merkle::{Cell, CellId, Place, Slice, Trees};
use moim_core::object::{Object, expiry_of};
use moim_core::ring::{Partition, PartitionCount, SLOTS};
use moim_storage::{Family, Reclaim, Write};

/// Bytes before the user's key.
pub const PREFIX_BYTES: usize = 2 + 4 + 4;

/// The cluster record, in the meta family.
pub const META_RECORD: &[u8] = b"record";

/// The bound below which this node's clock may have stamped, in the meta family.
pub const META_CLOCK_BOUND: &[u8] = b"clock-bound";

/// Partitions that this node has lost and not yet got back, in the meta family.
pub const META_FILLING: &[u8] = b"filling";

/// Up to when expiry slices have fallen out, in the trees family, whose other keys are longer.
const TREES_PASSED: &[u8] = b"passed";

/// After every key of the trees family.
pub const TREES_END: [u8; 17] = [0xff; 17];
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
    let mut room = BytesMut::with_capacity(PREFIX_BYTES + key.len());
    data_key_in(&mut room, (partition, namespace), key)
}

/// The same in `room`, which is empty before and afterwards: keys of one turn share an allocation while it has room left.
pub(crate) fn data_key_in(
    room: &mut BytesMut,
    (partition, namespace): (Partition, NamespaceId),
    key: &[u8],
) -> Bytes {
    put_prefix(room, partition, namespace, key_hash(key));
    room.put_slice(key);
    room.split().freeze()
}

/// The persisted keys of one partition and namespace from a hash on: first key, and end (excluded).
pub fn data_range(partition: Partition, namespace: NamespaceId, from_hash: u32) -> (Bytes, Bytes) {
    let mut from = BytesMut::with_capacity(PREFIX_BYTES);
    put_prefix(&mut from, partition, namespace, from_hash);
    let after = (u64::from(partition.get()) << 32 | u64::from(namespace.0)) + 1;
    let [_, _, to @ ..] = after.to_be_bytes();
    (from.freeze(), Bytes::copy_from_slice(&to))
}

/// The persisted keys of a run of partitions: before the first key, and end (excluded).
pub(crate) fn partitions_range(first: Partition, last: Partition) -> (Bytes, Bytes) {
    let key = |number: u16| Bytes::copy_from_slice(&number.to_be_bytes());
    (key(first.get()), key(last.get() + 1))
}

/// The end (excluded) of all persisted keys of objects.
pub fn data_end() -> Bytes {
    // No cluster has this many partitions.
    Bytes::from_static(&[0xff, 0xff])
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
    let (namespace, hash) = split_prefix(persisted)?;
    Some((namespace, hash, persisted.slice(PREFIX_BYTES..)))
}

/// Where a persisted key counts: its tree, hash and user's key; `None` if it is none.
pub(crate) fn place_of(persisted: &[u8]) -> Option<(Place, u32, &[u8])> {
    let number = persisted.get(..2)?.try_into().ok().map(u16::from_be_bytes)?;
    let (namespace, hash) = split_prefix(persisted)?;
    Some((Place { partition: partition(number)?, namespace }, hash, &persisted[PREFIX_BYTES..]))
}

/// The namespace and hash of a persisted key; `None` if it is none.
fn split_prefix(persisted: &[u8]) -> Option<(NamespaceId, u32)> {
    let namespace = persisted.get(2..6)?.try_into().ok().map(u32::from_be_bytes)?;
    let hash = persisted.get(6..PREFIX_BYTES)?.try_into().ok().map(u32::from_be_bytes)?;
    Some((NamespaceId(namespace), hash))
}

/// A partition by its number, of a cluster with however many: whoever uses it looks it up in a ring.
pub(crate) fn partition(number: u16) -> Option<Partition> {
    PartitionCount::new(u64::from(SLOTS)).ok()?.partition(number)
}

/// Partitions as they are kept: one bit each.
pub(crate) fn encode_partitions(partitions: impl Iterator<Item = Partition>) -> Bytes {
    let mut bits = vec![0_u8; usize::from(SLOTS) / 8];
    for partition in partitions {
        bits[usize::from(partition.get() / 8)] |= 1 << (partition.get() % 8);
    }
    let length = bits.iter().rposition(|&byte| byte != 0).map_or(0, |last| last + 1);
    bits.truncate(length);
    bits.into()
}

/// The counterpart of [`encode_partitions`].
pub(crate) fn decode_partitions(bits: &[u8]) -> impl Iterator<Item = Partition> {
    (0..SLOTS).filter_map(partition).filter(|partition| {
        let byte = bits.get(usize::from(partition.get() / 8));
        byte.is_some_and(|byte| byte & (1 << (partition.get() % 8)) != 0)
    })
}

/// The Merkle trees as the disk kept them, put together entry by entry before the node begins.
#[derive(Clone, Debug, Default)]
pub struct StoredTrees(Trees);

impl StoredTrees {
    /// Takes a page of [`Family::Trees`].
    pub fn add(&mut self, entries: &[(Bytes, Bytes)]) -> Result<(), DecodeError> {
        for (key, value) in entries {
            if key == TREES_PASSED {
                let mut reader = Reader::new(value.clone());
                self.0.pass(reader.u64("passed slices")?);
            } else {
                let (id, cell) = decode_cell(key, value)?;
                self.0.restore(id, cell);
            }
        }
        Ok(())
    }

    pub(crate) fn into_trees(self) -> Trees {
        self.0
    }
}

/// What keeps these cells on disk in step. Their keys and values share one allocation.
pub(crate) fn cell_writes(cells: Vec<(CellId, Cell)>) -> impl Iterator<Item = Write> {
    const KEY_BYTES: usize = 8 + 1 + 2 + 4 + 1;
    const VALUE_BYTES: usize = 8 + 8;
    let mut bytes = BytesMut::with_capacity(cells.len() * (KEY_BYTES + VALUE_BYTES));
    cells.into_iter().map(move |(id, cell)| {
        bytes.put_u64(id.slice.end_ms());
        bytes.put_u8(id.slice.class());
        bytes.put_u16(id.place.partition.get());
        bytes.put_u32(id.place.namespace.0);
        bytes.put_u8(id.leaf);
        let key = bytes.split().freeze();
        if cell.is_empty() {
            return Write::Delete { family: Family::Trees, key };
        }
        bytes.put_u64(cell.sum);
        bytes.put_u64(cell.count);
        Write::Put { family: Family::Trees, key, value: bytes.split().freeze() }
    })
}

/// What drops the cells of all slices that have passed: one range, because slices are ordered by their ends.
pub(crate) fn passed_writes(passed_ms: u64) -> [Write; 2] {
    let (family, bound) = (Family::Trees, passed_ms.saturating_add(1).to_be_bytes());
    let to = Bytes::copy_from_slice(&bound);
    let value = Bytes::copy_from_slice(&passed_ms.to_be_bytes());
    [
        Write::DeleteRange { family, from: Bytes::from_static(&[0]), to },
        Write::Put { family, key: Bytes::from_static(TREES_PASSED), value },
    ]
}

fn decode_cell(key: &Bytes, value: &Bytes) -> Result<(CellId, Cell), DecodeError> {
    let mut reader = Reader::new(key.clone());
    let (end_ms, class) = (reader.u64("slice end")?, reader.u8("slice class")?);
    let slice = Slice::from_parts(end_ms, class).ok_or(DecodeError::Invalid("slice"))?;
    let number = reader.u16("partition")?;
    let partition = partition(number).ok_or(DecodeError::Invalid("partition"))?;
    let namespace = NamespaceId(reader.u32("namespace")?);
    let id = CellId { slice, place: Place { partition, namespace }, leaf: reader.u8("leaf")? };
    reader.finish()?;
    let mut reader = Reader::new(value.clone());
    let cell = Cell { sum: reader.u64("sum")?, count: reader.u64("count")? };
    reader.finish().map(|()| (id, cell))
}

/// What compaction may give back of a stored object: values whose expiry slice has passed by more than `grace_ms` (the
/// largest clock error, so that no replica drops what another still serves or compares). The header stays (INV-7).
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
