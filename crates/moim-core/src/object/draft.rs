//! A value before there is a version of it.

use std::fmt;

use bytes::{Bytes, BytesMut};

use super::encoding::{LWW_HEADER_BYTES, put_lww_header};
use super::{Content, Object, Version};

/// A value with room in front of it for the header that makes it an encoded last-writer-wins object, so that making one of
/// it copies nothing.
#[derive(Clone, PartialEq, Eq)]
pub struct Draft(BytesMut);

impl Draft {
    /// Copies a value.
    pub fn new(value: &[u8]) -> Self {
        Self::new_in(BytesMut::with_capacity(Self::bytes_for(value)), value)
    }

    /// Copies a value into a buffer, which must be empty, and grows if it has no room for [`Self::bytes_for`] it: so that
    /// whoever makes many can use memory again.
    pub fn new_in(mut buffer: BytesMut, value: &[u8]) -> Self {
        assert!(buffer.is_empty(), "the header begins at the beginning");
        buffer.reserve(Self::bytes_for(value));
        buffer.resize(LWW_HEADER_BYTES, 0);
        buffer.extend_from_slice(value);
        Self(buffer)
    }

    /// Bytes that a value takes with the room in front of it.
    pub fn bytes_for(value: &[u8]) -> usize {
        LWW_HEADER_BYTES + value.len()
    }

    /// The value.
    pub fn value(&self) -> &[u8] {
        &self.0[LWW_HEADER_BYTES..]
    }

    /// The value without a copy; the room in front of it is kept in memory as long.
    pub fn into_value(self) -> Bytes {
        self.0.freeze().slice(LWW_HEADER_BYTES..)
    }

    /// Makes it the value of `version`, whose own content does not count: the object in outline (see
    /// [`Object::outline`]), and its bytes.
    pub fn into_outlined(self, mut version: Version) -> (Object, Bytes) {
        let Self(mut bytes) = self;
        version.content = Content::Value(Bytes::new());
        put_lww_header(&mut &mut bytes[..LWW_HEADER_BYTES], &version);
        (Object::Lww(version), bytes.freeze())
    }
}

impl fmt::Debug for Draft {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.value().fmt(f)
    }
}

impl From<Bytes> for Draft {
    fn from(value: Bytes) -> Self {
        Self::new(&value)
    }
}

impl From<&str> for Draft {
    fn from(value: &str) -> Self {
        Self::new(value.as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::NodeId;
    use crate::clock::{Actor, Dot, Epoch, Hlc};
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_draft_becomes_the_object_that_its_value_would(
            value in proptest::collection::vec(any::<u8>(), 0..100),
            (written, counter, created_ms, expires_ms) in (any::<u64>(), 1_u64..1 << 53, any::<u64>(), any::<u64>()),
        ) {
            let actor = Actor { node: NodeId(written), epoch: Epoch { run: created_ms, serial: 7 } };
            let content = Content::Value(Bytes::copy_from_slice(&value));
            let dot = Dot { actor, counter };
            let version = Version { written: Hlc::from_u64(written), dot, created_ms, expires_ms, content };
            let object = Object::Lww(version.clone());
            let blank = Version { content: Content::Deleted, ..version };
            let (outline, encoded) = Draft::new(&value).into_outlined(blank);
            prop_assert_eq!(Some(outline), Object::outline(&encoded));
            prop_assert_eq!(&encoded, &object.encode());
            prop_assert_eq!(Object::decode(encoded), Ok(object));
            prop_assert_eq!(Draft::new(&value).into_value(), value);
        }
    }
}
