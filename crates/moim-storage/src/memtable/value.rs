//! Values of a memory table: shared with whoever wrote them, the smallest in place.
//!
//! Half of all writes are counters of the trees, 16 bytes that are rewritten with every object: an allocation for each
//! would be made by this thread, and missed in its caches when the next takes its place.

use bytes::Bytes;

use crate::heap::{SHARED_BYTES, block_bytes};

/// Bytes that fit beside their length without making an entry larger.
const SHORT_BYTES_MAX: usize = 22;

/// What an entry holds. A deletion is a short one without a length: a third variant would make all entries larger.
#[derive(Clone, Debug)]
pub(super) enum Value {
    Short { length: u8, bytes: [u8; SHORT_BYTES_MAX] },
    Long(Bytes),
}

impl Value {
    /// A deletion. Its length is beyond all that there is.
    pub(super) const NONE: Self = Self::Short { length: u8::MAX, bytes: [0; SHORT_BYTES_MAX] };

    /// A copy of what is short; what is longer is shared.
    pub(super) fn new(value: &Bytes) -> Self {
        Self::short(value).unwrap_or_else(|| Self::Long(value.clone()))
    }

    /// The same, but takes what would be shared.
    pub(super) fn take(value: &mut Bytes) -> Self {
        Self::short(value).unwrap_or_else(|| Self::Long(std::mem::take(value)))
    }

    fn short(value: &[u8]) -> Option<Self> {
        let mut bytes = [0; SHORT_BYTES_MAX];
        bytes.get_mut(..value.len())?.copy_from_slice(value);
        Some(Self::Short { length: u8::try_from(value.len()).ok()?, bytes })
    }

    /// Something of what does not lie in its entry, if anything does not: for whoever wants to see it beforehand.
    pub(super) fn start(&self) -> u8 {
        self.bytes().and_then(|bytes| bytes.first().copied()).unwrap_or_default()
    }

    /// Its bytes; `None` for a deletion.
    pub(super) fn bytes(&self) -> Option<&[u8]> {
        match self {
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

    /// What it takes beside its entry, all of which others may share.
    pub(super) fn block_bytes(&self) -> usize {
        match self {
            Self::Short { .. } => 0,
            Self::Long(bytes) => block_bytes(bytes.len()) + SHARED_BYTES,
        }
    }

    /// Whether others hold it, too, if they can.
    pub(super) fn is_shared(&self) -> Option<bool> {
        match self {
            Self::Short { .. } => None,
            Self::Long(bytes) => Some(!bytes.is_unique()),
        }
    }

    pub(super) fn len(&self) -> usize {
        self.bytes().map_or(0, <[u8]>::len)
    }
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
            let value = Value::new(&bytes);
            assert_eq!(value.bytes(), Some(&bytes[..]));
            assert_eq!(value.to_shared(), Some(bytes));
            assert_eq!(value.len(), length);
        }
        assert_eq!(Value::NONE.to_shared(), None);
    }

    #[test]
    fn what_is_not_short_is_shared_and_can_be_taken() {
        let bytes = Bytes::from(vec![7; SHORT_BYTES_MAX + 1]);
        let value = Value::new(&bytes);
        assert_eq!(value.is_shared(), Some(true));
        let mut left = bytes;
        drop(value);
        let value = Value::take(&mut left);
        assert_eq!((value.is_shared(), left.len()), (Some(false), 0));
        let mut short = Bytes::from(vec![7; SHORT_BYTES_MAX]);
        assert_eq!(Value::take(&mut short).is_shared(), None);
        assert_eq!(short.len(), SHORT_BYTES_MAX, "it was copied");
    }
}
