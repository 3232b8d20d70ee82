//! An object at rest: what memory keeps of a key between two uses.
//!
//! A last-writer-wins object is kept as its bytes alone, the same allocation that the log and the memory table refer to:
//! its fields are read off the front of them in no more time than copying them takes. Siblings, which take several
//! allocations to decode, are kept decoded.

use moim_core::object::{OBJECT_BYTES_MAX, Object};
use moim_storage::heap::{SHARED_BYTES, block_bytes};

use crate::store::Stored;

/// See the module's documentation.
#[derive(Debug)]
pub(crate) enum Kept {
    /// There is no such key.
    Nothing,
    /// As bytes.
    Encoded(bytes::Bytes),
    /// As it was.
    Decoded(Box<Stored>),
}

impl Kept {
    pub(crate) fn of(stored: Option<Stored>) -> Self {
        match stored {
            None => Self::Nothing,
            Some(stored) if is_plain(&stored) => Self::Encoded(stored.encoded),
            Some(stored) => Self::Decoded(Box::new(stored)),
        }
    }

    pub(crate) fn stored(&self) -> Option<Stored> {
        match self {
            Self::Nothing => None,
            Self::Encoded(encoded) => {
                let decoded = Stored::decode(encoded.clone());
                Some(decoded.expect("its bytes were made of an object, or one was made of them"))
            }
            Self::Decoded(stored) => Some((**stored).clone()),
        }
    }

    /// The object, but without the value if it is one that the last writer wins.
    pub(crate) fn outline(&self) -> Option<Object> {
        match self {
            Self::Nothing => None,
            Self::Encoded(encoded) => {
                let outline = Object::outline(encoded);
                Some(outline.expect("plain objects are of this kind, and were decoded before"))
            }
            Self::Decoded(stored) => Some(stored.object.clone()),
        }
    }

    /// What it takes in memory beside its place in the table.
    pub(crate) fn heap_bytes(&self) -> u64 {
        let bytes = match self {
            Self::Nothing => 0,
            Self::Encoded(encoded) => block_bytes(encoded.len()) + SHARED_BYTES,
            Self::Decoded(stored) => {
                let decoded = size_of::<Stored>() + decoded_bytes(&stored.object);
                block_bytes(stored.encoded.len()) + SHARED_BYTES + decoded
            }
        };
        bytes as u64
    }
}

/// Whether its bytes alone will do. Not for what is longer than may be read back.
fn is_plain(stored: &Stored) -> bool {
    matches!(stored.object, Object::Lww(_)) && stored.encoded.len() <= OBJECT_BYTES_MAX
}

/// Versions, and the pairs of their context with their ages, roughly.
fn decoded_bytes(object: &Object) -> usize {
    const VERSION_BYTES: usize = 96;
    const PAIR_BYTES: usize = 48;
    match object {
        Object::Lww(_) => 0,
        Object::Siblings(siblings) => {
            VERSION_BYTES * siblings.versions().len() + PAIR_BYTES * siblings.context().len()
        }
    }
}
