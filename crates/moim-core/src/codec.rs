//! Reading and writing bytes: fixed-width big-endian integers, LEB128 lengths, and slices that share the input's
//! allocation. Written by hand rather than derived, because a body is never copied and bad input from a peer or a
//! disk must come back as an error that says what was wrong (INV-9).

#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use std::fmt;

use bytes::{Buf, BufMut, Bytes};

/// Why bytes could not be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DecodeError {
    /// The input ended inside the named field.
    Truncated(&'static str),
    /// The named field holds a value that no encoder writes.
    Invalid(&'static str),
    /// Bytes were left over after the last field.
    Trailing(usize),
}

impl fmt::Display for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Truncated(field) => write!(f, "input ends inside {field}"),
            Self::Invalid(field) => write!(f, "{field} has a value that is not defined"),
            Self::Trailing(count) => write!(f, "{count} bytes left over at the end"),
        }
    }
}

impl std::error::Error for DecodeError {}

/// Takes fields off the front of a buffer. Slices taken share the buffer's allocation.
#[derive(Debug)]
pub struct Reader {
    bytes: Bytes,
}

impl Reader {
    /// Reads from the start of `bytes`.
    pub fn new(bytes: Bytes) -> Self {
        Self { bytes }
    }

    /// Bytes not yet taken.
    pub fn remaining(&self) -> usize {
        self.bytes.len()
    }

    /// One byte.
    pub fn u8(&mut self, field: &'static str) -> Result<u8, DecodeError> {
        self.bytes.try_get_u8().or(Err(DecodeError::Truncated(field)))
    }

    /// Two bytes, big endian.
    pub fn u16(&mut self, field: &'static str) -> Result<u16, DecodeError> {
        self.bytes.try_get_u16().or(Err(DecodeError::Truncated(field)))
    }

    /// Four bytes, big endian.
    pub fn u32(&mut self, field: &'static str) -> Result<u32, DecodeError> {
        self.bytes.try_get_u32().or(Err(DecodeError::Truncated(field)))
    }

    /// Eight bytes, big endian.
    pub fn u64(&mut self, field: &'static str) -> Result<u64, DecodeError> {
        self.bytes.try_get_u64().or(Err(DecodeError::Truncated(field)))
    }

    /// Sixteen bytes, big endian.
    pub fn u128(&mut self, field: &'static str) -> Result<u128, DecodeError> {
        self.bytes.try_get_u128().or(Err(DecodeError::Truncated(field)))
    }

    /// A LEB128 integer of at most ten bytes, in its shortest form only.
    pub fn varint(&mut self, field: &'static str) -> Result<u64, DecodeError> {
        let mut value = 0_u64;
        for shift in (0..64).step_by(7) {
            let byte = self.u8(field)?;
            let bits = u64::from(byte & 0x7f);
            if shift == 63 && bits > 1 {
                return Err(DecodeError::Invalid(field));
            }
            value |= bits.checked_shl(shift).ok_or(DecodeError::Invalid(field))?;
            if byte & 0x80 == 0 {
                let padded = byte == 0 && shift > 0;
                return if padded { Err(DecodeError::Invalid(field)) } else { Ok(value) };
            }
        }
        Err(DecodeError::Invalid(field))
    }

    /// A LEB128 count that must not exceed `max`, so that nothing is allocated on a stranger's word.
    pub fn count(&mut self, field: &'static str, max: usize) -> Result<usize, DecodeError> {
        let count = usize::try_from(self.varint(field)?).or(Err(DecodeError::Invalid(field)))?;
        if count > max { Err(DecodeError::Invalid(field)) } else { Ok(count) }
    }

    /// Exactly `length` bytes, sharing the allocation.
    pub fn take(&mut self, field: &'static str, length: usize) -> Result<Bytes, DecodeError> {
        if length > self.bytes.len() {
            return Err(DecodeError::Truncated(field));
        }
        Ok(self.bytes.split_to(length))
    }

    /// A LEB128 length and that many bytes.
    pub fn slice(&mut self, field: &'static str) -> Result<Bytes, DecodeError> {
        let length = usize::try_from(self.varint(field)?).or(Err(DecodeError::Invalid(field)))?;
        self.take(field, length)
    }

    /// A length-prefixed piece of UTF-8.
    pub fn text(&mut self, field: &'static str) -> Result<String, DecodeError> {
        let bytes = self.slice(field)?;
        String::from_utf8(bytes.to_vec()).or(Err(DecodeError::Invalid(field)))
    }

    /// Everything that is left.
    pub fn rest(self) -> Bytes {
        self.bytes
    }

    /// Succeeds when everything was read.
    pub fn finish(self) -> Result<(), DecodeError> {
        if self.bytes.is_empty() { Ok(()) } else { Err(DecodeError::Trailing(self.bytes.len())) }
    }
}

/// The counterpart of [`Reader`] for what [`BufMut`] does not have.
pub trait Put: BufMut {
    /// A LEB128 integer.
    fn put_varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            let [low, ..] = value.to_le_bytes();
            self.put_u8(low | 0x80);
            value >>= 7;
        }
        let [low, ..] = value.to_le_bytes();
        self.put_u8(low);
    }

    /// A LEB128 length and the bytes.
    fn put_length_prefixed(&mut self, bytes: &[u8]) {
        self.put_varint(bytes.len() as u64);
        self.put_slice(bytes);
    }
}

impl<B: BufMut> Put for B {}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn varint_round_trips(value: u64) {
            let mut bytes = Vec::new();
            bytes.put_varint(value);
            let mut reader = Reader::new(bytes.into());
            prop_assert_eq!(reader.varint("value"), Ok(value));
            prop_assert_eq!(reader.finish(), Ok(()));
        }

        #[test]
        fn arbitrary_bytes_never_panic(bytes: Vec<u8>) {
            let mut reader = Reader::new(bytes.into());
            while reader.slice("slice").is_ok() {
                if reader.remaining() == 0 { break; }
            }
        }
    }

    #[test]
    fn only_the_shortest_varint_is_read() {
        let mut reader = Reader::new(Bytes::from_static(&[0x80, 0x00]));
        assert_eq!(reader.varint("count"), Err(DecodeError::Invalid("count")));
    }
}
