//! The causal context in the form that clients carry: opaque bytes, checked when they come back.

use bytes::{BufMut, Bytes};

use super::encoding::{put_vector, vector};
use crate::clock::{Hlc, VersionVector};
use crate::codec::{DecodeError, Reader};

/// What a client has seen of one key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Context {
    /// In an `lww` namespace: the time of the version read. A write that carries it is stamped above it.
    Lww(Hlc),
    /// In a `siblings` namespace: everything the read covered. A write that carries it replaces just that.
    Siblings(VersionVector),
}

const KIND_LWW: u8 = 1;
const KIND_SIBLINGS: u8 = 2;

impl Context {
    /// Bytes for a client. `key_tag` is any hash of namespace and key: a context that comes back with another key
    /// is a client's mistake and is told so.
    pub fn encode(&self, key_tag: u32) -> Bytes {
        let mut bytes = Vec::with_capacity(32);
        bytes.put_u32(key_tag);
        match self {
            Self::Lww(written) => {
                bytes.put_u8(KIND_LWW);
                bytes.put_u64(written.as_u64());
            }
            Self::Siblings(vector) => {
                bytes.put_u8(KIND_SIBLINGS);
                put_vector(&mut bytes, vector);
            }
        }
        bytes.into()
    }

    /// The counterpart of [`Self::encode`].
    pub fn decode(bytes: Bytes, key_tag: u32) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(bytes);
        if reader.u32("context")? != key_tag {
            return Err(DecodeError::Invalid("context (it belongs to another key or namespace)"));
        }
        let context = match reader.u8("context kind")? {
            KIND_LWW => Self::Lww(Hlc::from_u64(reader.u64("context time")?)),
            KIND_SIBLINGS => Self::Siblings(vector(&mut reader)?),
            _ => return Err(DecodeError::Invalid("context kind")),
        };
        reader.finish()?;
        Ok(context)
    }
}
