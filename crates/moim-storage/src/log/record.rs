//! Records: how a group of batches lies in a segment.
//!
//! A record begins at a multiple of [`ALIGN_BYTES`] with a head of [`HEAD_BYTES`]:
//!
//! | offset | bytes | field |
//! |---|---|---|
//! | 0 | 4 | CRC-32 of the segment's life (u64) and the rest of the head |
//! | 4 | 4 | CRC-32 of the payload |
//! | 8 | 4 | length of the payload |
//! | 12 | 4 | kind: 1 group, 2 close mark |
//! | 16 | 8 | sequence number |
//! | 24 | 8 | synced: all records below this number were durable when this one was written |
//!
//! The life is in the checksum, so that what a segment holds from a former life never passes for a record. The head has
//! a checksum of its own, so that a damaged payload can be stepped over and what follows it bears witness.
//!
//! The payload of a group is its writes one after the other: operation u8 (0 put, 1 delete, 2 delete range), family u8,
//! length of key u32, length of value u32 (of the range's end; 0 for a deletion), key, value. All integers big endian.

use bytes::{BufMut as _, Bytes};

use crate::{Batch, Family, StorageError, Write};

pub(crate) const HEAD_BYTES: usize = 32;
/// Records begin at its multiples: what is looked for in a damaged segment is looked for at fewer places.
pub(crate) const ALIGN_BYTES: usize = 32;
/// Payload bytes of one record: far above any group, far below what its length can say.
pub(crate) const PAYLOAD_BYTES_MAX: usize = 1 << 30;

const WRITE_HEAD_BYTES: usize = 10;
const PUT: u8 = 0;
const DELETE: u8 = 1;
const DELETE_RANGE: u8 = 2;

/// What a record is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Batches that were applied together.
    Group,
    /// The log was closed in order: there was nothing after it, and all before it is durable.
    Closed,
}

/// A record's head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Head {
    pub(crate) kind: Kind,
    pub(crate) sequence: u64,
    pub(crate) synced: u64,
    payload_crc: u32,
    pub(crate) payload_bytes: usize,
}

impl Head {
    /// The head that begins here, if one of this `life` does.
    pub(crate) fn parse(life: u64, bytes: &[u8]) -> Option<Self> {
        let head: &[u8; HEAD_BYTES] = bytes.first_chunk()?;
        let u32_at =
            |at: usize| u32::from_be_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]]);
        let u64_at = |at: usize| u64::from(u32_at(at)) << 32 | u64::from(u32_at(at + 4));
        if u32_at(0) != head_crc(life, head) {
            return None;
        }
        let kind = match u32_at(12) {
            1 => Kind::Group,
            2 => Kind::Closed,
            _ => return None,
        };
        let payload_bytes = usize::try_from(u32_at(8)).ok()?;
        let (sequence, synced) = (u64_at(16), u64_at(24));
        Some(Self { kind, sequence, synced, payload_crc: u32_at(4), payload_bytes })
    }

    /// The payload that follows the head which begins here, if it is whole.
    pub(crate) fn payload<'bytes>(&self, bytes: &'bytes [u8]) -> Option<&'bytes [u8]> {
        let payload = bytes.get(HEAD_BYTES..HEAD_BYTES + self.payload_bytes)?;
        (crc32fast::hash(payload) == self.payload_crc).then_some(payload)
    }

    /// What the record takes in its segment.
    pub(crate) fn record_bytes(&self) -> usize {
        (HEAD_BYTES + self.payload_bytes).next_multiple_of(ALIGN_BYTES)
    }
}

/// Makes a record of what is in `bytes` from `start` on: room for a head, and the payload.
pub(crate) fn seal(
    (bytes, start): (&mut Vec<u8>, usize),
    life: u64,
    kind: Kind,
    (sequence, synced): (u64, u64),
) {
    let payload = &bytes[start + HEAD_BYTES..];
    assert!(payload.len() <= PAYLOAD_BYTES_MAX, "whoever appends has checked the length");
    let length = u32::try_from(payload.len()).expect("it is below the bound of a payload");
    let kind: u32 = match kind {
        Kind::Group => 1,
        Kind::Closed => 2,
    };
    let mut head = [0; HEAD_BYTES];
    let mut rest = &mut head[4..];
    rest.put_u32(crc32fast::hash(payload));
    rest.put_u32(length);
    rest.put_u32(kind);
    rest.put_u64(sequence);
    rest.put_u64(synced);
    let crc = head_crc(life, &head).to_be_bytes();
    head[..4].copy_from_slice(&crc);
    bytes[start..start + HEAD_BYTES].copy_from_slice(&head);
    let record_bytes = (bytes.len() - start).next_multiple_of(ALIGN_BYTES);
    bytes.resize(start + record_bytes, 0);
}

fn head_crc(life: u64, head: &[u8; HEAD_BYTES]) -> u32 {
    let mut crc = crc32fast::Hasher::new();
    crc.update(&life.to_be_bytes());
    crc.update(&head[4..]);
    crc.finalize()
}

/// Bytes that the payload of these batches takes.
pub(crate) fn payload_bytes(batches: &[Batch]) -> usize {
    let entry = |write: &Write| match write {
        Write::Put { key, value, .. } => key.len() + value.len(),
        Write::Delete { key, .. } => key.len(),
        Write::DeleteRange { from, to, .. } => from.len() + to.len(),
    };
    batches.iter().flatten().map(|write| WRITE_HEAD_BYTES + entry(write)).sum()
}

/// Adds room for a head and the payload of `batches` to `record`.
pub(crate) fn encode(record: &mut Vec<u8>, batches: &[Batch]) {
    record.resize(record.len() + HEAD_BYTES, 0);
    for write in batches.iter().flatten() {
        let (operation, family, key, value): (u8, Family, &[u8], &[u8]) = match write {
            Write::Put { family, key, value } => (PUT, *family, key, value),
            Write::Delete { family, key } => (DELETE, *family, key, &[]),
            Write::DeleteRange { family, from, to } => (DELETE_RANGE, *family, from, to),
        };
        record.put_u8(operation);
        record.put_u8(family_code(family));
        put_length(record, key);
        put_length(record, value);
        record.put_slice(key);
        record.put_slice(value);
    }
}

fn put_length(record: &mut Vec<u8>, bytes: &[u8]) {
    record.put_u32(u32::try_from(bytes.len()).expect("a payload's bound is below that of a u32"));
}

/// Never to be changed: it is on disk.
const fn family_code(family: Family) -> u8 {
    match family {
        Family::Data => 0,
        Family::Hints => 1,
        Family::Meta => 2,
        Family::Trees => 3,
    }
}

/// The writes of a group. That its checksum holds and its form does not is damage as well.
pub(crate) fn decode(payload: &[u8]) -> Result<Batch, StorageError> {
    let mut writes = Batch::new();
    let mut rest = payload;
    while !rest.is_empty() {
        let write = decode_write(&mut rest).ok_or_else(|| {
            StorageError::Corruption("a record of the commit log has no known form".to_owned())
        })?;
        writes.push(write);
    }
    Ok(writes)
}

fn decode_write(rest: &mut &[u8]) -> Option<Write> {
    let (head, after) = rest.split_first_chunk::<WRITE_HEAD_BYTES>()?;
    let [operation, family, k0, k1, k2, k3, v0, v1, v2, v3] = *head;
    let length = |bytes| usize::try_from(u32::from_be_bytes(bytes)).ok();
    let (key, after) = after.split_at_checked(length([k0, k1, k2, k3])?)?;
    let (value, after) = after.split_at_checked(length([v0, v1, v2, v3])?)?;
    *rest = after;
    let family = Family::ALL.into_iter().find(|it| family_code(*it) == family)?;
    let (key, value) = (Bytes::copy_from_slice(key), Bytes::copy_from_slice(value));
    match operation {
        PUT => Some(Write::Put { family, key, value }),
        DELETE if value.is_empty() => Some(Write::Delete { family, key }),
        DELETE_RANGE => Some(Write::DeleteRange { family, from: key, to: value }),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn batch() -> Batch {
        vec![
            Write::Put { family: Family::Data, key: "k".into(), value: "value".into() },
            Write::Delete { family: Family::Hints, key: "".into() },
            Write::DeleteRange { family: Family::Trees, from: "a".into(), to: "b".into() },
        ]
    }

    fn record() -> Vec<u8> {
        let mut record = Vec::new();
        encode(&mut record, &[batch(), batch()]);
        assert_eq!(record.len(), HEAD_BYTES + payload_bytes(&[batch(), batch()]));
        seal((&mut record, 0), 7, Kind::Group, (12, 11));
        record
    }

    #[test]
    fn a_record_says_what_was_put_in() {
        let record = record();
        let head = Head::parse(7, &record).unwrap();
        assert_eq!((head.kind, head.sequence, head.synced), (Kind::Group, 12, 11));
        assert_eq!(head.record_bytes(), record.len());
        let writes = decode(head.payload(&record).unwrap()).unwrap();
        assert_eq!(writes, [batch(), batch()].concat());
    }

    #[test]
    fn a_record_of_another_life_is_none() {
        assert_eq!(Head::parse(8, &record()), None);
    }

    #[test]
    fn every_flipped_bit_is_noticed() {
        let whole = record();
        let used = HEAD_BYTES + Head::parse(7, &whole).unwrap().payload_bytes;
        for bit in 0..used * 8 {
            let mut record = whole.clone();
            record[bit / 8] ^= 1 << (bit % 8);
            let payload = Head::parse(7, &record).and_then(|head| head.payload(&record));
            assert_eq!(payload, None, "bit {bit}");
        }
    }

    #[test]
    fn a_payload_cut_off_anywhere_is_refused_not_believed() {
        let record = record();
        let payload = Head::parse(7, &record).unwrap().payload(&record).unwrap();
        let writes = batch().len() * 2;
        for end in 0..payload.len() {
            if let Ok(decoded) = decode(&payload[..end]) {
                assert!(decoded.len() < writes, "cut at {end}");
            }
        }
    }
}
