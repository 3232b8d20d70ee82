//! Keys that are compared without following a pointer.
//!
//! A search compares many keys, and each lies somewhere else in memory. So the first bytes of a key are kept as a number:
//! keys of data begin with partition, namespace and hash, and hardly two are alike in all of that. What follows lies
//! beside it if it is short, as all of a tree's cell does; only the rest of a longer key is an allocation of its own.

use std::hash::{BuildHasher as _, Hasher as _};

use bytes::Bytes;
use foldhash::fast::FixedState;

use crate::heap::block_bytes;

const PREFIX_BYTES: usize = 16;

/// Bytes after the prefix that lie beside it.
const REST_BYTES: usize = 7;

/// A key in a table.
#[derive(Clone, Debug)]
pub(super) struct Key {
    prefix: u128,
    tail: Tail,
}

/// What the prefix does not tell.
#[derive(Clone, Debug)]
enum Tail {
    /// The length of the whole key, and what follows the prefix.
    Short {
        length: u8,
        rest: [u8; REST_BYTES],
    },
    Long(Box<[u8]>),
}

/// A key that is looked for. They sort as their bytes do: the prefix is padded with zeros, so of two that are alike in
/// it the shorter is the beginning of the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Sought<'a> {
    prefix: u128,
    prefix_bytes: usize,
    rest: &'a [u8],
}

impl Key {
    pub(super) fn new(sought: &Sought<'_>) -> Self {
        let length = sought.prefix_bytes + sought.rest.len();
        let tail = match u8::try_from(length) {
            Ok(length) if sought.rest.len() <= REST_BYTES => {
                let mut rest = [0; REST_BYTES];
                rest[..sought.rest.len()].copy_from_slice(sought.rest);
                Tail::Short { length, rest }
            }
            _ => Tail::Long(sought.rest.into()),
        };
        Self { prefix: sought.prefix, tail }
    }

    pub(super) const fn prefix(&self) -> u128 {
        self.prefix
    }

    pub(super) fn parts(&self) -> Sought<'_> {
        let (prefix_bytes, rest) = match &self.tail {
            Tail::Short { length, rest } => {
                let length = usize::from(*length);
                (length.min(PREFIX_BYTES), &rest[..length.saturating_sub(PREFIX_BYTES)])
            }
            Tail::Long(rest) => (PREFIX_BYTES, &rest[..]),
        };
        Sought { prefix: self.prefix, prefix_bytes, rest }
    }

    /// The whole key.
    pub(super) fn to_bytes(&self) -> Bytes {
        let parts = self.parts();
        let prefix = self.prefix.to_be_bytes();
        [&prefix[..parts.prefix_bytes], parts.rest].concat().into()
    }

    /// Something of what does not lie in its entry, if anything does not: for whoever wants to see it beforehand.
    pub(super) fn end(&self) -> u8 {
        self.parts().rest.last().copied().unwrap_or_default()
    }

    /// What it takes beside its entry.
    pub(super) fn block_bytes(&self) -> usize {
        match &self.tail {
            Tail::Short { .. } => 0,
            Tail::Long(rest) => block_bytes(rest.len()),
        }
    }

    pub(super) fn len(&self) -> usize {
        let parts = self.parts();
        parts.prefix_bytes + parts.rest.len()
    }
}

impl<'a> Sought<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        let mut padded = [0; PREFIX_BYTES];
        let (start, rest) = bytes.split_at(bytes.len().min(PREFIX_BYTES));
        padded[..start.len()].copy_from_slice(start);
        Self { prefix: u128::from_be_bytes(padded), prefix_bytes: start.len(), rest }
    }

    pub(super) const fn prefix(&self) -> u128 {
        self.prefix
    }

    pub(super) fn hash(&self, hashes: &FixedState) -> u64 {
        let mut hasher = hashes.build_hasher();
        hasher.write_u128(self.prefix);
        hasher.write_usize(self.prefix_bytes);
        if !self.rest.is_empty() {
            hasher.write(self.rest);
        }
        hasher.finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_sort_as_their_bytes_do() {
        let long = [7; 40];
        let padded = [&[b'a'][..], &[0; 30]].concat();
        let mut keys: Vec<&[u8]> = vec![b"", b"\0", b"\0\0", b"a", b"a\0", b"a\0b", &[0xff; 30]];
        keys.extend([15, 16, 17, 22, 23, 24, 40].map(|length| &long[..length]));
        keys.extend([15, 16, 17, 22, 23, 24, 31].map(|length| &padded[..length]));
        for a in &keys {
            let key = Key::new(&Sought::new(a));
            assert_eq!((&key.to_bytes()[..], key.len()), (*a, a.len()));
            let [hashes, others] = [1, 2].map(FixedState::with_seed);
            assert_eq!(key.parts().hash(&hashes), Sought::new(a).hash(&hashes));
            assert_ne!(key.parts().hash(&hashes), key.parts().hash(&others));
            for b in &keys {
                assert_eq!(key.parts().cmp(&Sought::new(b)), a.cmp(b), "{a:?} {b:?}");
            }
        }
    }

    #[test]
    fn keys_of_cells_take_no_room_beyond_an_entry() {
        assert_eq!(size_of::<Key>(), 32);
        assert_eq!(Key::new(&Sought::new(&[1; PREFIX_BYTES + REST_BYTES])).block_bytes(), 0);
        assert_eq!(Key::new(&Sought::new(&[1; 26])).block_bytes(), 16);
    }
}
