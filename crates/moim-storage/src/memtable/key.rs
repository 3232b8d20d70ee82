//! Keys that are compared without following a pointer.
//!
//! A search in a tree of 100,000 keys compares two dozen of them, and each lies somewhere else in memory. So the first
//! bytes of a key are kept beside the pointer to it, as a number: keys of data begin with partition, namespace and hash,
//! and hardly two are alike in all of that.

use std::borrow::Borrow;
use std::cmp::Ordering;

use bytes::Bytes;

const PREFIX_BYTES: usize = 16;

/// A key in a tree.
#[derive(Clone, Debug)]
pub(super) struct Key {
    prefix: u128,
    pub(super) bytes: Bytes,
}

impl Key {
    pub(super) fn new(bytes: Bytes) -> Self {
        Self { prefix: prefix(&bytes), bytes }
    }
}

/// A key that is looked for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sought<'a> {
    prefix: u128,
    bytes: &'a [u8],
}

impl<'a> Sought<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { prefix: prefix(bytes), bytes }
    }
}

/// The first bytes as a number that sorts as they do; what is missing counts as zeros, and the rest decides.
fn prefix(bytes: &[u8]) -> u128 {
    let mut padded = [0; PREFIX_BYTES];
    let length = bytes.len().min(PREFIX_BYTES);
    padded[..length].copy_from_slice(&bytes[..length]);
    u128::from_be_bytes(padded)
}

/// Either of the two: a tree of the one can be searched for the other.
pub(super) trait Prefixed {
    fn parts(&self) -> Sought<'_>;
}

impl Prefixed for Key {
    fn parts(&self) -> Sought<'_> {
        Sought { prefix: self.prefix, bytes: &self.bytes }
    }
}

impl Prefixed for Sought<'_> {
    fn parts(&self) -> Sought<'_> {
        *self
    }
}

impl<'a> Borrow<dyn Prefixed + 'a> for Key {
    fn borrow(&self) -> &(dyn Prefixed + 'a) {
        self
    }
}

impl Ord for dyn Prefixed + '_ {
    fn cmp(&self, other: &Self) -> Ordering {
        let (own, other) = (self.parts(), other.parts());
        own.prefix.cmp(&other.prefix).then_with(|| own.bytes.cmp(other.bytes))
    }
}

impl PartialOrd for dyn Prefixed + '_ {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for dyn Prefixed + '_ {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for dyn Prefixed + '_ {}

impl Ord for Key {
    fn cmp(&self, other: &Self) -> Ordering {
        let (own, other): (&dyn Prefixed, &dyn Prefixed) = (self, other);
        own.cmp(other)
    }
}

impl PartialOrd for Key {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Key {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Key {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_sort_as_their_bytes_do() {
        let long = [7; 20];
        let keys: [&[u8]; 9] =
            [b"", b"\0", b"\0\0", b"a", b"a\0", b"a\0b", &long[..16], &long[..17], &[0xff; 30]];
        for a in keys {
            for b in keys {
                let (key, other) =
                    (Key::new(Bytes::copy_from_slice(a)), Key::new(Bytes::copy_from_slice(b)));
                assert_eq!(key.cmp(&other), a.cmp(b), "{a:?} {b:?}");
            }
        }
    }
}
