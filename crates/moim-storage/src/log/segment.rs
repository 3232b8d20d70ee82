//! Segments: the files that a log consists of, each reused in one life after the other.
//!
//! A life begins with a header at the start of the file, alone in its block, so that no write to a record can tear it:
//! `MoimLog1`, life u64, life of the segment before u64 (0: none), sequence number of the first record u64, synced u64
//! (as in a record), bytes of the file u64, CRC-32 of all that u32. Segments are linked by life, so that one that is gone
//! is missed, and so is the end of a file that was cut short.

use std::sync::Arc;

use bytes::{Buf as _, BufMut as _};

use super::record::{ALIGN_BYTES, HEAD_BYTES, Head};
use crate::StorageError;
use crate::files::File;
use crate::files::blocks::BLOCK_BYTES;

/// Where records begin: a block of its own for the header.
pub(crate) const HEADER_BLOCK_BYTES: usize = BLOCK_BYTES;
const MAGIC: &[u8; 8] = b"MoimLog1";
const HEADER_BYTES: usize = 52;

/// What a life of a segment begins with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Header {
    /// Never given twice within a log.
    pub(crate) life: u64,
    pub(crate) previous: u64,
    pub(crate) first: u64,
    pub(crate) synced: u64,
    pub(crate) bytes: u64,
}

impl Header {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut bytes = MAGIC.to_vec();
        for field in [self.life, self.previous, self.first, self.synced, self.bytes] {
            bytes.put_u64(field);
        }
        bytes.put_u32(crc32fast::hash(&bytes));
        bytes
    }

    pub(crate) fn parse(bytes: &[u8]) -> Option<Self> {
        let (covered, crc) = bytes.get(..HEADER_BYTES)?.split_at(HEADER_BYTES - 4);
        let (magic, mut fields) = covered.split_at(MAGIC.len());
        if magic != MAGIC || crc != crc32fast::hash(covered).to_be_bytes() {
            return None;
        }
        let mut next = || fields.get_u64();
        let (life, previous, first, synced) = (next(), next(), next(), next());
        Some(Self { life, previous, first, synced, bytes: next() })
    }
}

/// A segment in use or waiting for its next life.
#[derive(Debug)]
pub(crate) struct Segment<F> {
    pub(crate) name: String,
    pub(crate) file: Arc<F>,
    pub(crate) bytes: u64,
    pub(crate) life: u64,
    /// Where its records end.
    pub(crate) position: u64,
    /// The number after that of its last record.
    pub(crate) end: u64,
    /// Nothing lies behind its records but what a former life left. Not so after a crash, or a write that failed:
    /// what a record is put in front of then might be read as the next.
    pub(crate) is_clean: bool,
    /// All of its blocks have been written once, by and large: the file system has nothing to note when it syncs them.
    pub(crate) is_filled: bool,
}

impl<F> Segment<F> {
    /// One that has no life yet.
    pub(crate) fn blank(name: String, file: Arc<F>, bytes: u64) -> Self {
        Self { name, file, bytes, life: 0, position: 0, end: 0, is_clean: false, is_filled: false }
    }
}

/// A record that is whole, or where such records end.
pub(crate) enum Step<'bytes> {
    Record(Head, &'bytes [u8]),
    End,
}

/// Reads a segment's records in their order.
pub(crate) struct Reader {
    life: u64,
    content: Vec<u8>,
    at: usize,
}

impl Reader {
    pub(crate) fn new<F: File>(segment: &Segment<F>) -> Result<Self, StorageError> {
        let bytes = usize::try_from(segment.bytes).unwrap_or(usize::MAX);
        let content = segment.file.read(0, bytes)?;
        Ok(Self { life: segment.life, content, at: HEADER_BLOCK_BYTES })
    }

    /// Where the records that were read end.
    pub(crate) fn position(&self) -> u64 {
        self.at as u64
    }

    /// The next record, if it is whole and has this number.
    pub(crate) fn next(&mut self, sequence: u64) -> Step<'_> {
        let rest = self.content.get(self.at..).unwrap_or_default();
        let head = Head::parse(self.life, rest).filter(|head| head.sequence == sequence);
        match head.and_then(|head| Some((head, head.payload(rest)?))) {
            Some((head, payload)) => {
                self.at += head.record_bytes();
                Step::Record(head, payload)
            }
            None => Step::End,
        }
    }

    /// The furthest that any record of this life, from here to the end of the file, says to have been synced. Looks at
    /// every place where one could begin, for what is in between may be damaged.
    pub(crate) fn witness(&self) -> u64 {
        let mut synced = 0;
        let mut at = self.at;
        while let Some(rest) = self.content.get(at..).filter(|rest| rest.len() >= HEAD_BYTES) {
            let step = match Head::parse(self.life, rest) {
                // A head alone is no witness: its record may be half written.
                Some(head) if head.payload(rest).is_some() => {
                    synced = synced.max(head.synced);
                    head.record_bytes()
                }
                Some(head) => head.record_bytes(),
                None => ALIGN_BYTES,
            };
            at += step;
        }
        synced
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_is_what_it_was_or_none() {
        let header = Header { life: 3, previous: 2, first: 77, synced: 70, bytes: 9 };
        let bytes = header.encode();
        assert_eq!(bytes.len(), HEADER_BYTES);
        assert_eq!(Header::parse(&bytes), Some(header));
        for bit in 0..bytes.len() * 8 {
            let mut damaged = bytes.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(Header::parse(&damaged), None, "bit {bit}");
        }
    }
}
