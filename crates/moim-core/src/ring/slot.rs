//! Slots and partitions: where a key lies on the ring.

use std::fmt;

/// Hash slots, as in Redis Cluster.
pub const SLOTS: u16 = 16_384;

/// One of the [`SLOTS`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Slot(u16);

impl Slot {
    /// CRC16 of the key, or of its hash tag, modulo [`SLOTS`].
    pub fn of_key(key: &[u8]) -> Self {
        Self(crc16(hash_tag(key)) % SLOTS)
    }

    /// The slot's number, if it is one.
    pub fn new(number: u16) -> Option<Self> {
        (number < SLOTS).then_some(Self(number))
    }

    /// The slot's number.
    pub fn get(self) -> u16 {
        self.0
    }
}

/// A run of consecutive slots: the unit of ownership, repair and streaming. Stored keys begin with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Partition(u16);

impl Partition {
    /// The partition's number.
    pub fn get(self) -> u16 {
        self.0
    }
}

/// How many partitions the slots are cut into: a power of two from 256 to 16384, fixed when the cluster is founded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PartitionCount(u16);

/// The number is no power of two from 256 to 16384.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PartitionCountError(pub u64);

impl fmt::Display for PartitionCountError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "partitions = {} must be a power of two from 256 to {SLOTS}", self.0)
    }
}

impl std::error::Error for PartitionCountError {}

impl PartitionCount {
    /// 4096 partitions of four slots: 0.24 GB each at 1 TB a node, and Merkle trees of 33 MB at three nodes.
    pub const DEFAULT: Self = Self(4_096);

    /// Checks the number.
    pub fn new(count: u64) -> Result<Self, PartitionCountError> {
        match u16::try_from(count) {
            Ok(small @ 256..=SLOTS) if small.is_power_of_two() => Ok(Self(small)),
            _ => Err(PartitionCountError(count)),
        }
    }

    /// The number.
    pub fn get(self) -> u16 {
        self.0
    }

    /// The partition of a slot.
    pub fn of(self, slot: Slot) -> Partition {
        Partition(slot.0 / (SLOTS / self.0))
    }

    /// The partition with this number, if there is one.
    pub fn partition(self, number: u16) -> Option<Partition> {
        (number < self.0).then_some(Partition(number))
    }

    /// All partitions in order.
    pub fn all(self) -> impl ExactSizeIterator<Item = Partition> {
        (0..self.0).map(Partition)
    }

    /// First and last slot of a partition.
    pub fn slots(self, partition: Partition) -> (Slot, Slot) {
        let width = SLOTS / self.0;
        let first = partition.0 * width;
        (Slot(first), Slot(first + width - 1))
    }
}

/// The part of a key that is hashed: what stands between the first `{` and the next `}`, unless that is nothing.
pub fn hash_tag(key: &[u8]) -> &[u8] {
    // Most keys have none, which many bytes at once tell.
    if !key.contains(&b'{') {
        return key;
    }
    let Some(open) = key.iter().position(|&byte| byte == b'{') else { return key };
    let tail = &key[open + 1..];
    match tail.iter().position(|&byte| byte == b'}') {
        Some(length) if length > 0 => &tail[..length],
        _ => key,
    }
}

/// CRC16/XMODEM: polynomial 0x1021, no reflection, initial value 0. Four bytes at once ("slicing", Kounavis and Berry 2005):
/// every key is hashed on every node that has to do with it, and a byte at a time each waits for the one before.
fn crc16(bytes: &[u8]) -> u16 {
    let (fours, rest) = bytes.as_chunks::<4>();
    let crc = fours.iter().fold(0_u16, |crc, [first, second, third, fourth]| {
        let [high, low] = crc.to_be_bytes();
        CRC16_TABLES[3][usize::from(high ^ first)]
            ^ CRC16_TABLES[2][usize::from(low ^ second)]
            ^ CRC16_TABLES[1][usize::from(*third)]
            ^ CRC16_TABLES[0][usize::from(*fourth)]
    });
    rest.iter().fold(crc, |crc, &byte| {
        let [high, _] = crc.to_be_bytes();
        (crc << 8) ^ CRC16_TABLES[0][usize::from(high ^ byte)]
    })
}

/// What a byte adds to the checksum when none, one, two and three follow it.
static CRC16_TABLES: [[u16; 256]; 4] = crc16_tables();

#[expect(clippy::cast_possible_truncation, reason = "0..256 fits, and `try_from` is not const")]
const fn crc16_tables() -> [[u16; 256]; 4] {
    let mut tables = [[0; 256]; 4];
    let mut byte = 0;
    while byte < 256 {
        let mut crc = (byte as u16) << 8;
        let mut bits = 0;
        while bits < 32 {
            crc = if crc & 0x8000 == 0 { crc << 1 } else { (crc << 1) ^ 0x1021 };
            bits += 1;
            if bits % 8 == 0 {
                tables[bits / 8 - 1][byte] = crc;
            }
        }
        byte += 1;
    }
    tables
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_are_those_of_redis_cluster() {
        assert_eq!(crc16(b"123456789"), 0x31c3, "the specification's check value");
        assert_eq!(Slot::of_key(b"foo").get(), 12_182);
        assert_eq!(Slot::of_key(b"{user1000}.following"), Slot::of_key(b"{user1000}.followers"));
        assert_eq!(hash_tag(b"foo{}{bar}"), b"foo{}{bar}", "an empty tag is none");
        assert_eq!(hash_tag(b"foo{{bar}}zap"), b"{bar");
        assert_eq!(hash_tag(b"foo{bar}{zap}"), b"bar");
    }

    #[test]
    fn four_bytes_at_once_are_as_good_as_bit_by_bit() {
        let by_bit = |bytes: &[u8]| {
            let bits = bytes.iter().flat_map(|byte| (0..8).rev().map(move |at| byte >> at & 1));
            bits.fold(0_u16, |crc, bit| {
                let out = crc >> 15 ^ u16::from(bit);
                crc << 1 ^ if out == 1 { 0x1021 } else { 0 }
            })
        };
        let bytes: Vec<u8> = (0..=255).map(|byte: u8| byte.wrapping_mul(151) ^ 0x5a).collect();
        for length in 0..bytes.len() {
            for begin in 0..bytes.len() - length {
                let part = &bytes[begin..][..length.min(40)];
                assert_eq!(crc16(part), by_bit(part), "{length} bytes from {begin}");
            }
        }
    }

    #[test]
    fn partitions_cut_the_slots_evenly() {
        let count = PartitionCount::DEFAULT;
        let mut next = 0;
        for partition in count.all() {
            let (first, last) = count.slots(partition);
            assert_eq!(first.get(), next);
            assert_eq!(count.of(first), partition);
            assert_eq!(count.of(last), partition);
            next = last.get() + 1;
        }
        assert_eq!(next, SLOTS);
        for bad in [0, 255, 300, 32_768, u64::MAX] {
            assert_eq!(PartitionCount::new(bad), Err(PartitionCountError(bad)));
        }
    }
}
