//! Values of a memory table: large ones shared with whoever wrote them, small ones copied, the smallest in place.
//!
//! Half of all writes are counters of the trees, 16 bytes that are rewritten with every object: an allocation for each
//! would be made by this thread, and missed in its caches when the next takes its place.

use bytes::Bytes;

use crate::heap::block_bytes;

/// A value of this length or more is shared; below it a copy costs less than what it might keep alive.
const SHARED_BYTES_MIN: usize = 1 << 10;

/// Bytes that fit beside their length without making an entry larger.
const SHORT_BYTES_MAX: usize = 22;

/// What an entry holds. A deletion is a short one without a length: a third variant would make all entries larger.
#[derive(Clone, Debug)]
pub(super) enum Value {
    Short { length: u8, bytes: [u8; SHORT_BYTES_MAX] },
    Long(Bytes),
}

/// The length of a deletion.
const NONE: u8 = u8::MAX;

impl Value {
    pub(super) fn new(value: Option<&Bytes>) -> Self {
        let mut bytes = [0; SHORT_BYTES_MAX];
        let Some(value) = value else { return Self::Short { length: NONE, bytes } };
        if value.len() > SHORT_BYTES_MAX {
            return Self::Long(own(value));
        }
        bytes[..value.len()].copy_from_slice(value);
        let length = u8::try_from(value.len()).expect("it is at most SHORT_BYTES_MAX");
        Self::Short { length, bytes }
    }

    /// Its bytes; `None` for a deletion.
    pub(super) fn bytes(&self) -> Option<&[u8]> {
        match self {
            // The length of a deletion is beyond all that there is.
            Self::Short { length, bytes } => bytes.get(..usize::from(*length)),
            Self::Long(bytes) => Some(bytes),
        }
    }

    pub(super) fn to_shared(&self) -> Option<Bytes> {
        match self {
            Self::Long(bytes) => Some(bytes.clone()),
            Self::Short { .. } => self.bytes().map(Bytes::copy_from_slice),
        }
    }

    /// What it takes beside its entry, and how much of that is shared.
    pub(super) fn block_bytes(&self) -> (usize, usize) {
        match self {
            Self::Short { .. } => (0, 0),
            Self::Long(bytes) if is_shared(bytes) => {
                (block_bytes(bytes.len()), block_bytes(bytes.len()))
            }
            Self::Long(bytes) => (block_bytes(bytes.len()), 0),
        }
    }

    pub(super) fn len(&self) -> usize {
        self.bytes().map_or(0, <[u8]>::len)
    }
}

/// Whether a value is large enough to be shared.
pub(super) fn is_shared(bytes: &[u8]) -> bool {
    bytes.len() >= SHARED_BYTES_MIN
}

/// Shares what is large, copies what is small.
pub(super) fn own(bytes: &Bytes) -> Bytes {
    if is_shared(bytes) { bytes.clone() } else { Bytes::copy_from_slice(bytes) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_values_take_no_room_beyond_an_entry() {
        assert_eq!(size_of::<Value>(), size_of::<Option<Bytes>>());
    }

    #[test]
    fn values_come_out_as_they_went_in() {
        for length in [0, 1, SHORT_BYTES_MAX, SHORT_BYTES_MAX + 1, 2_000] {
            let bytes = Bytes::from(vec![7; length]);
            let value = Value::new(Some(&bytes));
            assert_eq!(value.bytes(), Some(&bytes[..]));
            assert_eq!(value.to_shared(), Some(bytes));
            assert_eq!(value.len(), length);
        }
        assert_eq!(Value::new(None).to_shared(), None);
    }
}
