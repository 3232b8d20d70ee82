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

/// What an entry is to hold.
#[derive(Debug)]
pub(super) enum New<'a> {
    Value(Value),
    /// To be copied: to where the old value lies, if that is as long.
    Copy(&'a [u8]),
}

impl<'a> New<'a> {
    pub(super) fn of(value: &'a Bytes) -> Self {
        match value.len() {
            0..=SHORT_BYTES_MAX => Self::Value(Value::short(value)),
            _ if is_shared(value) => Self::Value(Value::Long(value.clone())),
            _ => Self::Copy(value),
        }
    }

    pub(super) fn make(self) -> Value {
        match self {
            Self::Value(value) => value,
            Self::Copy(bytes) => Value::Long(Bytes::copy_from_slice(bytes)),
        }
    }
}

impl Value {
    /// A deletion. Its length is beyond all that there is.
    pub(super) const NONE: Self = Self::Short { length: u8::MAX, bytes: [0; SHORT_BYTES_MAX] };

    fn short(value: &[u8]) -> Self {
        let mut bytes = [0; SHORT_BYTES_MAX];
        bytes[..value.len()].copy_from_slice(value);
        let length = u8::try_from(value.len()).expect("it is at most SHORT_BYTES_MAX");
        Self::Short { length, bytes }
    }

    /// Copies a value over this one, if that is of the same length and nobody shares it: what it takes anew and gives back
    /// otherwise was last used long ago. Answers whether it did.
    pub(super) fn overwrite(&mut self, new: &[u8]) -> bool {
        let Self::Long(bytes) = self else { return false };
        if bytes.len() != new.len() {
            return false;
        }
        match std::mem::take(bytes).try_into_mut() {
            Ok(mut old) => {
                old.copy_from_slice(new);
                *bytes = old.freeze();
                true
            }
            Err(shared) => {
                *bytes = shared;
                false
            }
        }
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
            let value = New::of(&bytes).make();
            assert_eq!(value.bytes(), Some(&bytes[..]));
            assert_eq!(value.to_shared(), Some(bytes));
            assert_eq!(value.len(), length);
        }
        assert_eq!(Value::NONE.to_shared(), None);
    }

    #[test]
    fn only_what_is_as_long_and_nobody_elses_is_written_over() {
        let old = Bytes::from(vec![7; 100]);
        let mut value = New::of(&old).make();
        let start = value.bytes().map(<[u8]>::as_ptr);
        assert!(!value.overwrite(&[8; 99]));
        assert!(value.overwrite(&[8; 100]));
        assert_eq!(value.bytes(), Some(&[8; 100][..]));
        assert_eq!((value.bytes().map(<[u8]>::as_ptr), old[0]), (start, 7));
        let reader = value.to_shared();
        assert!(!value.overwrite(&[9; 100]));
        assert_eq!((value.bytes(), reader.as_deref()), (Some(&[8; 100][..]), Some(&[8; 100][..])));
        drop(reader);
        assert!(value.overwrite(&[9; 100]));
        assert_eq!(value.bytes(), Some(&[9; 100][..]));
        assert!(!Value::NONE.overwrite(&[]));
    }
}
