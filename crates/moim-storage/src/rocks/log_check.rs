//! Damage of a log that RocksDB would not notice, or worse.
//!
//! RocksDB's logs (the commit log and the manifest) are blocks of records, each `checksum (4) | length (2) | type (1) |
//! payload`. Two things it believes before it looks at the checksum:
//!
//! - the length. A record that reaches beyond the end of the file is taken for one whose writer died, and is dropped in
//!   silence, with all that follows: acknowledged writes, or, in the manifest, whole tables. So if the checksum of the
//!   cut-off record fits *some* shorter length, the record is whole and its length is wrong. (A write cut off by a crash
//!   fits none.) Only the last block can hide it: in all others RocksDB reports a length that does not fit.
//! - the type, when it says that the file is recycled and this record left over from its former life. This engine
//!   recycles no logs; a single bit makes such a type of a common one, and RocksDB then reads on for ever.

use std::fs::File;
use std::io::Read as _;
use std::path::Path;

use crate::StorageError;

const BLOCK_BYTES: u64 = 32 << 10;
const HEADER_BYTES: usize = 7;
/// Types of records in recycled logs.
const RECYCLED: [u8; 6] = [5, 6, 7, 8, 11, 131];
/// What is stored is a checksum in disguise, so that checksums of what contains checksums stay good.
const MASK_DELTA: u32 = 0xa282_ead8;
/// Castagnoli's polynomial, reflected.
const POLYNOMIAL: u32 = 0x82f6_3b78;

/// Refuses a log with such damage. Whatever else is wrong with it, RocksDB will find.
pub(super) fn check(log: &Path) -> Result<(), StorageError> {
    let unreadable =
        |error| StorageError::Io(format!("read {} to check it: {error}", log.display()));
    let mut file = File::open(log).map_err(unreadable)?;
    let (mut block, mut last, mut number) = (Vec::new(), Vec::new(), 0);
    loop {
        file.by_ref().take(BLOCK_BYTES).read_to_end(&mut block).map_err(unreadable)?;
        if block.is_empty() {
            break;
        }
        if let Some(at) = recycled(&block) {
            return Err(damage(log, "the type", number * BLOCK_BYTES + at as u64));
        }
        std::mem::swap(&mut block, &mut last);
        block.clear();
        number += 1;
    }
    match wrong_length(&last) {
        None => Ok(()),
        Some(at) => Err(damage(log, "the length", (number - 1) * BLOCK_BYTES + at as u64)),
    }
}

fn damage(log: &Path, what: &str, at: u64) -> StorageError {
    StorageError::Corruption(format!("{}: {what} of the record at {at} is damaged", log.display()))
}

/// Where a record begins that claims to be of a recycled log.
fn recycled(block: &[u8]) -> Option<usize> {
    let mut at = 0;
    while let Some(header) = block.get(at..at + HEADER_BYTES) {
        if RECYCLED.contains(&header[HEADER_BYTES - 1]) {
            return Some(at);
        }
        at += HEADER_BYTES + usize::from(u16::from_le_bytes([header[4], header[5]]));
    }
    None
}

/// Where a record begins that reaches beyond the block by its length, and by its checksum does not.
fn wrong_length(block: &[u8]) -> Option<usize> {
    let mut at = 0;
    while let Some((header, payload)) = block.get(at..)?.split_at_checked(HEADER_BYTES) {
        let length = usize::from(u16::from_le_bytes([header[4], header[5]]));
        if length > payload.len() {
            return fits_shorter(&block[at..]).then_some(at);
        }
        at += HEADER_BYTES + length;
    }
    None
}

/// Whether the record at the start of `rest` ends where another begins or where the log ends.
fn fits_shorter(rest: &[u8]) -> bool {
    let wanted = stored_checksum(rest);
    let mut crc = Crc::default();
    crc.add(rest[HEADER_BYTES - 1]);
    let ends = HEADER_BYTES..=rest.len();
    ends.into_iter().any(|end| {
        let fits = crc.masked() == wanted && is_boundary(&rest[end..]);
        if let Some(next) = rest.get(end) {
            crc.add(*next);
        }
        fits
    })
}

/// Whether a record can begin here: there is a whole one, or nothing more than what a crash leaves.
fn is_boundary(rest: &[u8]) -> bool {
    let Some((header, payload)) = rest.split_at_checked(HEADER_BYTES) else { return true };
    let length = usize::from(u16::from_le_bytes([header[4], header[5]]));
    let Some(payload) = payload.get(..length) else { return true };
    let mut crc = Crc::default();
    header[HEADER_BYTES - 1..].iter().chain(payload).for_each(|byte| crc.add(*byte));
    crc.masked() == stored_checksum(header)
}

fn stored_checksum(header: &[u8]) -> u32 {
    u32::from_le_bytes([header[0], header[1], header[2], header[3]])
}

/// CRC-32C, bit by bit: a block at most, once a start.
struct Crc(u32);

impl Default for Crc {
    fn default() -> Self {
        Self(u32::MAX)
    }
}

impl Crc {
    fn add(&mut self, byte: u8) {
        self.0 ^= u32::from(byte);
        for _ in 0..8 {
            let carry = self.0 & 1;
            self.0 = (self.0 >> 1) ^ (carry * POLYNOMIAL);
        }
    }

    fn masked(&self) -> u32 {
        (!self.0).rotate_right(15).wrapping_add(MASK_DELTA)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(payload: &[u8]) -> Vec<u8> {
        let mut crc = Crc::default();
        crc.add(1);
        for byte in payload {
            crc.add(*byte);
        }
        let length = u16::try_from(payload.len()).unwrap();
        let mut record = crc.masked().to_le_bytes().to_vec();
        record.extend(length.to_le_bytes());
        record.push(1);
        record.extend(payload);
        record
    }

    fn log() -> Vec<u8> {
        [&b"one"[..], &[7; 300], b"", &[9; 50]].map(record).concat()
    }

    #[test]
    fn the_checksum_is_that_of_the_standard() {
        let mut crc = Crc::default();
        for byte in b"123456789" {
            crc.add(*byte);
        }
        assert_eq!(!crc.0, 0xe306_9283);
    }

    #[test]
    fn a_record_of_a_recycled_log_is_found() {
        let mut log = log();
        assert_eq!(recycled(&log), None);
        log[10 + HEADER_BYTES - 1] ^= 4;
        assert_eq!(recycled(&log), Some(10));
    }

    #[test]
    fn what_a_crash_cuts_off_is_let_through() {
        let log = log();
        for kept in 0..=log.len() {
            assert_eq!(wrong_length(&log[..kept]), None, "cut at {kept}");
        }
    }

    #[test]
    fn a_length_that_reaches_beyond_the_end_is_found() {
        let log = log();
        let mut at = 0;
        for payload in [3, 300, 0, 50] {
            for bit in 0..16 {
                let mut damaged = log.clone();
                damaged[at + 4 + bit / 8] ^= 1 << (bit % 8);
                let claimed = usize::from(u16::from_le_bytes([damaged[at + 4], damaged[at + 5]]));
                let found = wrong_length(&damaged);
                // A length within the log is for RocksDB, which finds the checksum wrong.
                if at + HEADER_BYTES + claimed > log.len() {
                    assert_eq!(found, Some(at), "bit {bit} of the length of {payload}");
                }
            }
            at += HEADER_BYTES + payload;
        }
    }
}
