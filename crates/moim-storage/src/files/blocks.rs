//! Bytes on their way past the operating system's cache: they begin at a block's beginning in memory as on the disk, and
//! fill whole blocks.

/// What every disk takes as a block, or as several.
pub(crate) const BLOCK_BYTES: usize = 4 << 10;

/// A buffer that is filled anew for every write.
#[derive(Debug, Default)]
pub(crate) struct Blocks {
    bytes: Vec<u8>,
    /// Where the first block begins.
    start: usize,
}

impl Blocks {
    /// Empties it, and makes room for so many bytes, which is then not exceeded: what has grown may lie elsewhere.
    pub(crate) fn reset(&mut self, bytes_max: usize) -> &mut Vec<u8> {
        self.bytes.clear();
        self.bytes.reserve(BLOCK_BYTES + bytes_max.next_multiple_of(BLOCK_BYTES));
        self.start = self.bytes.as_ptr().align_offset(BLOCK_BYTES).min(BLOCK_BYTES);
        self.bytes.resize(self.start, 0);
        &mut self.bytes
    }

    /// What was put in.
    pub(crate) fn content(&self) -> &[u8] {
        &self.bytes[self.start..]
    }

    /// The bytes with what was put in, and where of that `offset` is.
    pub(crate) fn filled(&mut self, offset: usize) -> (&mut Vec<u8>, usize) {
        (&mut self.bytes, self.start + offset)
    }

    /// The same, filled up with zeros to whole blocks.
    pub(crate) fn whole(&mut self) -> &[u8] {
        let bytes = self.content().len().next_multiple_of(BLOCK_BYTES);
        self.bytes.resize(self.start + bytes, 0);
        self.content()
    }

    /// What it takes in memory.
    pub(crate) fn capacity(&self) -> usize {
        self.bytes.capacity()
    }
}

/// Whether bytes at this offset are blocks of memory and of the disk.
pub(super) fn are_whole(offset: u64, bytes: &[u8]) -> bool {
    let is_whole = |number: usize| number.is_multiple_of(BLOCK_BYTES);
    offset.is_multiple_of(BLOCK_BYTES as u64)
        && is_whole(bytes.len())
        && bytes.as_ptr().align_offset(BLOCK_BYTES) == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn content_lies_at_a_block_however_it_is_reused() {
        let mut blocks = Blocks::default();
        for bytes in [1, BLOCK_BYTES, BLOCK_BYTES + 1, 0, 100_000, 7] {
            blocks.reset(bytes).extend((0..bytes).map(|_| 7));
            assert_eq!(blocks.content(), vec![7; bytes]);
            let whole = blocks.whole();
            assert!(are_whole(BLOCK_BYTES as u64, whole) && !are_whole(1, whole));
            assert!(whole[..bytes].iter().all(|byte| *byte == 7));
            assert!(whole[bytes..].iter().all(|byte| *byte == 0));
        }
    }
}
