//! Tells a damaged end of a log from one that a crash cut off.
//!
//! RocksDB's logs (the commit log and the manifest) are blocks of records, each `checksum (4) | length (2) | type (1) |
//! payload`. A record that reaches beyond the end of the file is taken for one whose writer died, and is dropped in
//! silence, with all that follows. But a flipped bit in a *length* looks just the same: RocksDB's checksum does not
//! cover it. Then acknowledged writes vanish, or, in the manifest, whole tables.
//!
//! So this looks before RocksDB does: if the checksum of the cut-off record fits *some* shorter length, the record is
//! whole and its length is wrong. (A write cut off by a crash fits none.) Only the last block can hide it: in all others
//! RocksDB reports a length that does not fit.

use std::fs::File;
use std::io::{Read as _, Seek as _, SeekFrom};
use std::path::Path;

use crate::StorageError;

const BLOCK_BYTES: u64 = 32 << 10;
const HEADER_BYTES: usize = 7;
/// What is stored is a checksum in disguise, so that checksums of what contains checksums stay good.
const MASK_DELTA: u32 = 0xa282_ead8;
/// Castagnoli's polynomial, reflected.
const POLYNOMIAL: u32 = 0x82f6_3b78;

/// Refuses a log whose last record is whole but for its length. Whatever else is wrong with it, RocksDB will find.
pub(super) fn check(log: &Path) -> Result<(), StorageError> {
    let block = last_block(log).map_err(|error| {
        StorageError::Io(format!("read the end of {}: {error}", log.display()))
    })?;
    match wrong_length(&block) {
        None => Ok(()),
        Some(at) => Err(StorageError::Corruption(format!(
            "{}: the length of a record is damaged, {} bytes before the end",
            log.display(),
            block.len() - at
        ))),
    }
}

fn last_block(log: &Path) -> std::io::Result<Vec<u8>> {
    let mut file = File::open(log)?;
    let bytes = file.metadata()?.len();
    file.seek(SeekFrom::Start(bytes.saturating_sub(1) / BLOCK_BYTES * BLOCK_BYTES))?;
    let mut block = Vec::new();
    file.take(BLOCK_BYTES).read_to_end(&mut block)?;
    Ok(block)
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
        payload.iter().for_each(|byte| crc.add(*byte));
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
        b"123456789".iter().for_each(|byte| crc.add(*byte));
        assert_eq!(!crc.0, 0xe306_9283);
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
