//! An obligation as it is kept on disk, under the same key as the object that it is about. `docs/disk-format.md`.

use bytes::{BufMut, Bytes};
use moim_core::NodeId;
use moim_core::clock::Hlc;
use moim_core::codec::{DecodeError, Put, Reader};
use moim_core::object::Object;
use moim_core::quorum::COPIES_MAX;

const FORMAT: u8 = 1;

/// What a stand-in owes: that every owner gets the object it keeps.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Record {
    /// When the obligation arose, in Unix milliseconds.
    pub(crate) created_ms: u64,
    /// The oldest stamp in the object.
    pub(crate) oldest: Hlc,
    /// Bytes of the encoded object.
    pub(crate) object_bytes: u32,
    /// The owners that could not be reached. They get it first, the other owners after them.
    pub(crate) targets: Vec<NodeId>,
}

impl Record {
    pub(crate) fn encode(&self) -> Bytes {
        let mut out = Vec::with_capacity(32 + 8 * self.targets.len());
        out.put_u8(FORMAT);
        out.put_u64(self.created_ms);
        out.put_u64(self.oldest.as_u64());
        out.put_u32(self.object_bytes);
        out.put_varint(self.targets.len() as u64);
        for target in &self.targets {
            out.put_u64(target.0);
        }
        out.into()
    }

    pub(crate) fn decode(bytes: Bytes) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(bytes);
        if reader.u8("format")? != FORMAT {
            return Err(DecodeError::Invalid("format"));
        }
        let (created_ms, oldest) = (reader.u64("creation")?, Hlc::from_u64(reader.u64("stamp")?));
        let object_bytes = reader.u32("size")?;
        let count = reader.count("number of owners", usize::from(COPIES_MAX))?;
        let mut targets = Vec::with_capacity(count);
        for _ in 0..count {
            targets.push(NodeId(reader.u64("owner")?));
        }
        Ok(Self { created_ms, oldest, object_bytes, targets })
    }

    /// Adds an owner to stand in for; there are never more than copies.
    pub(crate) fn stand_for(&mut self, owner: NodeId) {
        if !self.targets.contains(&owner) && self.targets.len() < usize::from(COPIES_MAX) {
            self.targets.push(owner);
        }
    }
}

/// The oldest stamp that whoever sends this object sends.
pub(crate) fn oldest_stamp(object: &Object) -> Hlc {
    let versions = object.versions().iter().map(|version| version.written);
    versions.fold(object.written(), Hlc::min)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_record_round_trips() {
        let mut record = Record {
            created_ms: 7,
            oldest: Hlc::from_millis(5),
            object_bytes: 9,
            targets: vec![NodeId(1)],
        };
        record.stand_for(NodeId(3));
        record.stand_for(NodeId(1));
        assert_eq!(record.targets, [NodeId(1), NodeId(3)]);
        assert_eq!(Record::decode(record.encode()), Ok(record));
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(bytes: Vec<u8>) {
            drop(Record::decode(bytes.into()));
        }
    }
}
