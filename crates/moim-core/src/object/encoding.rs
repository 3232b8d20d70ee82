//! The bytes of an object: the same on disk and between nodes, described in `docs/disk-format.md`.
//!
//! Format, kind, expiry and time stand at fixed places at the front, so that a compaction filter reads 18 bytes and
//! decodes nothing. A value is the tail of its bytes and is sliced, never copied.

use bytes::{BufMut, Bytes};

use super::{Content, Object, SIBLINGS_MAX, Siblings, Version};
use crate::NodeId;
use crate::clock::{Actor, Dot, Epoch, Hlc, VersionVector};
use crate::codec::{DecodeError, Put, Reader};

/// Bounds what a peer or a disk can make a node hold for one key.
pub const OBJECT_BYTES_MAX: usize = 64 * 1024 * 1024;

/// Actors in one context: far above `clock_pairs_max`, below what could exhaust memory.
const ACTORS_MAX: usize = 65_536;
/// No node issues this many dots; a larger counter is damage or malice and must not push a real one over the edge.
const COUNTER_MAX: u64 = 1 << 53;

const FORMAT: u8 = 1;
const KIND_VALUE: u8 = 1;
const KIND_DELETED: u8 = 2;
const KIND_DROPPED: u8 = 3;
/// Siblings without the ages of pairs, as the first version wrote them; read, no longer written.
const KIND_SIBLINGS_AGELESS: u8 = 16;
const KIND_SIBLINGS: u8 = 17;

pub(super) const LWW_HEADER_BYTES: usize = 54;

/// When the last value of an encoded object expires, in Unix milliseconds: 0 for never (or nothing left to expire).
/// Reads the fixed place only.
pub fn expiry_of(encoded: &[u8]) -> u64 {
    fixed_u64(encoded, 2)
}

/// The time of the newest write of an encoded object. Reads the fixed place only.
pub fn hlc_of(encoded: &[u8]) -> Hlc {
    Hlc::from_u64(fixed_u64(encoded, 10))
}

/// Whether an encoded object is one value and nothing else: no tombstone, header or siblings. Reads the fixed place only.
pub fn is_plain_value(encoded: &[u8]) -> bool {
    encoded.get(1) == Some(&KIND_VALUE)
}

fn fixed_u64(encoded: &[u8], at: usize) -> u64 {
    let field = encoded.get(at..at + 8).and_then(|bytes| <[u8; 8]>::try_from(bytes).ok());
    field.map_or(0, u64::from_be_bytes)
}

impl Object {
    /// Encodes into one fresh allocation.
    pub fn encode(&self) -> Bytes {
        match self {
            Self::Lww(version) => encode_lww(version),
            Self::Siblings(siblings) => encode_siblings(siblings),
        }
    }

    /// The counterpart of [`Self::encode`]; values share the allocation of `bytes`.
    pub fn decode(bytes: Bytes) -> Result<Self, DecodeError> {
        if bytes.len() > OBJECT_BYTES_MAX {
            return Err(DecodeError::Invalid("object length"));
        }
        if let Some(header) = LwwHeader::of(&bytes) {
            return header.parse(|| bytes.slice(LWW_HEADER_BYTES..), bytes.len());
        }
        let mut reader = Reader::new(bytes);
        if reader.u8("object format")? != FORMAT {
            return Err(DecodeError::Invalid("object format"));
        }
        let kind = reader.u8("object kind")?;
        let _expires_ms = reader.u64("object expiry")?;
        let written = Hlc::from_u64(reader.u64("object time")?);
        match kind {
            KIND_VALUE | KIND_DELETED | KIND_DROPPED => {
                Err(DecodeError::Truncated("object header"))
            }
            KIND_SIBLINGS | KIND_SIBLINGS_AGELESS => decode_siblings(reader, kind, written),
            _ => Err(DecodeError::Invalid("object kind")),
        }
    }

    /// What an encoded last-writer-wins object says without its value, which is empty: whatever needs only times and
    /// identity is spared counting another holder of the value. `None` if it is another kind, or damaged.
    pub fn outline(encoded: &[u8]) -> Option<Self> {
        LwwHeader::of(encoded)?.parse(Bytes::new, encoded.len()).ok()
    }
}

/// The front of an encoded last-writer-wins object: fields at the places where [`encode_lww`] puts them.
struct LwwHeader<'encoded>(&'encoded [u8; LWW_HEADER_BYTES]);

impl<'encoded> LwwHeader<'encoded> {
    fn of(encoded: &'encoded [u8]) -> Option<Self> {
        let header: &[u8; LWW_HEADER_BYTES] = encoded.first_chunk()?;
        let is_lww = matches!(header[1], KIND_VALUE | KIND_DELETED | KIND_DROPPED);
        (header[0] == FORMAT && is_lww).then_some(Self(header))
    }

    fn u64(&self, at: usize) -> u64 {
        fixed_u64(self.0, at)
    }

    /// The object, with this value if it has one; `bytes` are those of the whole.
    fn parse(self, value: impl FnOnce() -> Bytes, bytes: usize) -> Result<Object, DecodeError> {
        let content = match self.0[1] {
            KIND_VALUE => Content::Value(value()),
            _ if bytes > LWW_HEADER_BYTES => {
                return Err(DecodeError::Trailing(bytes - LWW_HEADER_BYTES));
            }
            KIND_DELETED => Content::Deleted,
            _ => Content::Dropped,
        };
        let [.., a, b, c, d] = self.u64(30).to_be_bytes();
        let epoch = Epoch { run: self.u64(26), serial: u32::from_be_bytes([a, b, c, d]) };
        let actor = Actor { node: NodeId(self.u64(18)), epoch };
        Ok(Object::Lww(Version {
            written: Hlc::from_u64(self.u64(10)),
            dot: Dot { actor, counter: counter(self.u64(38))? },
            created_ms: self.u64(46),
            expires_ms: self.u64(2),
            content,
        }))
    }
}

fn encode_lww(version: &Version) -> Bytes {
    let value = version.value().map_or(&[][..], |value| value);
    let mut bytes = Vec::with_capacity(LWW_HEADER_BYTES + value.len());
    put_lww_header(&mut bytes, version);
    assert_eq!(bytes.len(), LWW_HEADER_BYTES, "the header's length is part of the format");
    bytes.put_slice(value);
    bytes.into()
}

/// What stands before the value, if there is one.
pub(super) fn put_lww_header(bytes: &mut impl BufMut, version: &Version) {
    bytes.put_u8(FORMAT);
    bytes.put_u8(match version.content {
        Content::Value(_) => KIND_VALUE,
        Content::Deleted => KIND_DELETED,
        Content::Dropped => KIND_DROPPED,
    });
    bytes.put_u64(version.expires_ms);
    bytes.put_u64(version.written.as_u64());
    put_actor(bytes, version.dot.actor);
    bytes.put_u64(version.dot.counter);
    bytes.put_u64(version.created_ms);
}

fn encode_siblings(siblings: &Siblings) -> Bytes {
    let values: usize = siblings.versions().iter().filter_map(Version::value).map(Bytes::len).sum();
    let mut bytes = Vec::with_capacity(64 + 64 * siblings.versions().len() + values);
    bytes.put_u8(FORMAT);
    bytes.put_u8(KIND_SIBLINGS);
    bytes.put_u64(first_expiry(siblings));
    bytes.put_u64(siblings.written().as_u64());
    put_vector(&mut bytes, siblings.context());
    for age in siblings.ages() {
        bytes.put_u64(age.as_u64());
    }
    bytes.put_varint(siblings.versions().len() as u64);
    for version in siblings.versions() {
        put_identity(&mut bytes, version);
        bytes.put_u64(version.created_ms);
        bytes.put_u64(version.expires_ms);
        bytes.put_length_prefixed(version.value().map_or(&[], |value| value));
    }
    bytes.into()
}

/// When there is first something to reclaim.
fn first_expiry(siblings: &Siblings) -> u64 {
    siblings
        .versions()
        .iter()
        .map(|version| version.expires_ms)
        .filter(|&ms| ms != 0)
        .min()
        .unwrap_or(0)
}

fn decode_siblings(mut reader: Reader, kind: u8, written: Hlc) -> Result<Object, DecodeError> {
    let context = vector(&mut reader)?;
    let ages = if kind == KIND_SIBLINGS { Some(ages(&mut reader, context.len())?) } else { None };
    let count = reader.count("sibling count", SIBLINGS_MAX * ACTORS_MAX)?;
    let mut versions = Vec::with_capacity(count.min(SIBLINGS_MAX));
    for _ in 0..count {
        let written = Hlc::from_u64(reader.u64("sibling time")?);
        let actor = actor(&mut reader)?;
        let counter = counter(reader.u64("dot counter")?)?;
        let created_ms = reader.u64("creation time")?;
        let expires_ms = reader.u64("expiry")?;
        let content = Content::Value(reader.slice("value")?);
        versions.push(Version {
            written,
            dot: Dot { actor, counter },
            created_ms,
            expires_ms,
            content,
        });
    }
    reader.finish()?;
    let siblings = Siblings::from_parts(context, ages, versions, written);
    siblings
        .map(Object::Siblings)
        .ok_or(DecodeError::Invalid("siblings (a dot outside the context)"))
}

fn ages(reader: &mut Reader, pairs: usize) -> Result<Vec<Hlc>, DecodeError> {
    (0..pairs).map(|_| reader.u64("age of a pair").map(Hlc::from_u64)).collect()
}

/// Time and dot: what tells one version from every other.
/// Bytes of a version's identity.
pub(super) const IDENTITY_BYTES: usize = 8 + ACTOR_BYTES + 8;

const ACTOR_BYTES: usize = 8 + 8 + 4;

pub(super) fn put_identity(bytes: &mut impl BufMut, version: &Version) {
    bytes.put_u64(version.written.as_u64());
    put_actor(bytes, version.dot.actor);
    bytes.put_u64(version.dot.counter);
}

fn put_actor(bytes: &mut impl BufMut, actor: Actor) {
    bytes.put_u64(actor.node.0);
    bytes.put_u64(actor.epoch.run);
    bytes.put_u32(actor.epoch.serial);
}

fn actor(reader: &mut Reader) -> Result<Actor, DecodeError> {
    let node = NodeId(reader.u64("dot node")?);
    let epoch = Epoch { run: reader.u64("dot epoch")?, serial: reader.u32("dot epoch serial")? };
    Ok(Actor { node, epoch })
}

fn counter(counter: u64) -> Result<u64, DecodeError> {
    if counter == 0 || counter > COUNTER_MAX {
        Err(DecodeError::Invalid("dot counter"))
    } else {
        Ok(counter)
    }
}

pub(super) fn put_vector(bytes: &mut Vec<u8>, vector: &VersionVector) {
    bytes.put_varint(vector.len() as u64);
    for &(actor, counter) in vector.entries() {
        put_actor(bytes, actor);
        bytes.put_varint(counter);
    }
}

pub(super) fn vector(reader: &mut Reader) -> Result<VersionVector, DecodeError> {
    let count = reader.count("context length", ACTORS_MAX)?;
    let mut vector = VersionVector::new();
    for _ in 0..count {
        let actor = actor(reader)?;
        let counter = counter(reader.varint("context counter")?)?;
        vector.insert(Dot { actor, counter });
    }
    if vector.len() != count {
        return Err(DecodeError::Invalid("context (an actor twice)"));
    }
    Ok(vector)
}
