//! Expiry slices: what expires about together is summed together, and falls out together.

use crate::object::Version;

/// Versions whose deadlines lie in one stretch of time and whose lives are about equally long.
///
/// A slice depends on the version's own stamps alone, so every replica puts a version into the same one. Its width is a
/// power of two, between a sixteenth and an eighth of a life: narrow enough that what has expired is soon left out of
/// comparisons, wide enough that a namespace with one TTL has about a dozen slices. They are ordered by their ends, so
/// that those that have passed come first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Slice {
    end_ms: u64,
    class: u8,
}

/// A version's life in slices of its class, at most.
const SLICES_PER_LIFE: u64 = 8;

/// The narrowest slice, in milliseconds: clocks differ by more, so narrower ones would never be compared.
const WIDTH_MS_MIN: u64 = 1 << 10;

/// The class of [`Slice::NEVER`], which no width has.
const CLASS_NEVER: u8 = 64;

impl Slice {
    /// Versions that do not expire.
    pub const NEVER: Self = Self { end_ms: u64::MAX, class: CLASS_NEVER };

    /// The slice of a version.
    pub fn of(version: &Version) -> Self {
        Self::of_life(version.written.millis(), version.expires_ms)
    }

    /// The slice of a version that was written and expires at these Unix milliseconds, 0 for never.
    pub fn of_life(written_ms: u64, expires_ms: u64) -> Self {
        if expires_ms == 0 {
            return Self::NEVER;
        }
        let life_ms = expires_ms.saturating_sub(written_ms);
        let class = (life_ms / SLICES_PER_LIFE).max(WIDTH_MS_MIN).ilog2();
        let end_ms = ((expires_ms >> class) + 1).checked_mul(1 << class);
        let class = u8::try_from(class).expect("a logarithm of 64 bits is below 64");
        Self { end_ms: end_ms.unwrap_or(u64::MAX), class }
    }

    /// The counterpart of [`Self::end_ms`] and [`Self::class`]: `None` for what no version has.
    pub fn from_parts(end_ms: u64, class: u8) -> Option<Self> {
        let slice = Self { end_ms, class };
        let narrowest = u8::try_from(WIDTH_MS_MIN.ilog2()).unwrap_or(u8::MAX);
        (slice == Self::NEVER || (narrowest..CLASS_NEVER).contains(&class)).then_some(slice)
    }

    /// When the last of its versions has expired, in Unix milliseconds.
    pub fn end_ms(self) -> u64 {
        self.end_ms
    }

    /// The logarithm of its width in milliseconds.
    pub fn class(self) -> u8 {
        self.class
    }

    /// Whether everything in it has expired at `wall_ms`.
    pub fn has_passed(self, wall_ms: u64) -> bool {
        self.end_ms <= wall_ms && self != Self::NEVER
    }

    /// The leaf of a key with this hash: the leading bits, so that a leaf is a contiguous range of keys. Eight bits for
    /// what stays; four for what expires, which is spread over a dozen slices already.
    pub(super) fn leaf(self, key_hash: u32) -> u8 {
        let [first, ..] = key_hash.to_be_bytes();
        if self == Self::NEVER { first } else { first >> 4 }
    }

    /// The group of a leaf: the first four bits of its keys' hashes, whatever the slice.
    pub(super) fn group(self, leaf: u8) -> usize {
        usize::from(if self == Self::NEVER { leaf >> 4 } else { leaf & 0x0f })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::NodeId;
    use crate::clock::{Actor, Dot, Epoch, Hlc};
    use crate::object::Content;
    use bytes::Bytes;
    use proptest::prelude::*;

    fn version(written_ms: u64, expires_ms: u64) -> Version {
        let actor = Actor { node: NodeId(1), epoch: Epoch { run: 1, serial: 0 } };
        Version {
            written: Hlc::from_millis(written_ms),
            dot: Dot { actor, counter: 1 },
            created_ms: 0,
            expires_ms,
            content: Content::Value(Bytes::new()),
        }
    }

    proptest! {
        #[test]
        fn a_slice_passes_after_its_versions_and_not_long_after(
            written_ms in 0_u64..1 << 48,
            life_ms in 1_u64..1 << 40,
        ) {
            let slice = Slice::of(&version(written_ms, written_ms + life_ms));
            let late_ms = slice.end_ms() - (written_ms + life_ms);
            prop_assert!(late_ms > 0, "nothing falls out before its deadline");
            prop_assert!(late_ms <= (life_ms / SLICES_PER_LIFE).max(WIDTH_MS_MIN));
            prop_assert!(!slice.has_passed(slice.end_ms() - 1));
            prop_assert!(slice.has_passed(slice.end_ms()));
            prop_assert_eq!(Slice::from_parts(slice.end_ms(), slice.class()), Some(slice));
        }

        #[test]
        fn any_stamps_have_a_slice(written: u64, expires_ms: u64) {
            let slice = Slice::of(&version(written, expires_ms));
            prop_assert!(slice.end_ms() >= expires_ms);
        }
    }

    #[test]
    fn what_never_expires_never_passes() {
        assert_eq!(Slice::of(&version(5, 0)), Slice::NEVER);
        assert!(!Slice::NEVER.has_passed(u64::MAX));
        assert_eq!(Slice::from_parts(u64::MAX, CLASS_NEVER), Some(Slice::NEVER));
        assert_eq!(Slice::from_parts(1, CLASS_NEVER), None);
        assert_eq!(Slice::from_parts(1, 3), None);
    }

    #[test]
    fn sessions_of_one_ttl_have_about_a_dozen_slices() {
        let ttl_ms = 28 * 60_000;
        let mut slices: Vec<_> = (0..ttl_ms / 1_000)
            .map(|s| Slice::of(&version(s * 1_000, s * 1_000 + ttl_ms)))
            .collect();
        slices.dedup();
        assert!((8..=17).contains(&slices.len()), "{}", slices.len());
    }
}
