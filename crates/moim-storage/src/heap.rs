//! What memory really takes, for those who keep within a budget.
//!
//! An allocator hands out blocks of fixed sizes, four to a doubling (mimalloc and jemalloc alike): 2,102 bytes take 2,560.
//! Budgets that count lengths are therefore exceeded by up to a quarter.

/// Bytes of the part of a shared buffer that counts its owners, at the most.
pub const SHARED_BYTES: usize = 48;

/// Small blocks come in multiples of this.
const GRAIN_BYTES: usize = 16;

/// Up to here there is a size for each multiple of [`GRAIN_BYTES`].
const FINE_BYTES_MAX: usize = 8 * GRAIN_BYTES;

/// Bytes of the block that an allocator gives for `bytes`.
pub const fn block_bytes(bytes: usize) -> usize {
    if bytes <= FINE_BYTES_MAX {
        return bytes.next_multiple_of(GRAIN_BYTES);
    }
    let step = 1 << ((bytes - 1).ilog2() - 2);
    match bytes.checked_next_multiple_of(step) {
        Some(block) => block,
        None => usize::MAX,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_come_in_four_sizes_to_a_doubling() {
        let sizes = [
            (0, 0),
            (1, 16),
            (16, 16),
            (17, 32),
            (113, 128),
            (129, 160),
            (2_048, 2_048),
            (2_049, 2_560),
            (2_102, 2_560),
            (2_561, 3_072),
        ];
        for (bytes, block) in sizes {
            assert_eq!(block_bytes(bytes), block, "{bytes}");
        }
        assert_eq!(block_bytes(usize::MAX), usize::MAX);
    }
}
