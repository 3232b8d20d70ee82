//! N, R, W, named levels, and the counting of replies.
//!
//! A vote is pending, reached or impossible, never a bool: "not yet" and "never" are different facts, and a caller
//! that knows "never" can answer at once instead of waiting for a deadline.

mod level;
mod tally;

pub use level::{Level, LevelError};
pub use tally::{Tally, Verdict};

use std::fmt;

/// The largest N: more copies than this buy nothing and would make every message list unbounded.
pub const COPIES_MAX: u8 = 16;

/// Copies, and how many of them a read or a write needs to hear from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quorum {
    n: u8,
    r: u8,
    w: u8,
}

/// Why three numbers are no quorum.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum QuorumError {
    /// N is zero or above [`COPIES_MAX`].
    Copies(u8),
    /// R is zero or above N.
    Reads {
        /// Replies asked for.
        r: u8,
        /// Copies there are.
        n: u8,
    },
    /// W is zero or above N.
    Writes {
        /// Acknowledgements asked for.
        w: u8,
        /// Copies there are.
        n: u8,
    },
}

impl fmt::Display for QuorumError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Copies(n) => write!(f, "n = {n} must be between 1 and {COPIES_MAX}"),
            Self::Reads { r, n } => write!(f, "r = {r} must be between 1 and n = {n}"),
            Self::Writes { w, n } => write!(f, "w = {w} must be between 1 and n = {n}"),
        }
    }
}

impl std::error::Error for QuorumError {}

impl Quorum {
    /// Checks once, so that nobody has to check again.
    pub fn new(n: u8, r: u8, w: u8) -> Result<Self, QuorumError> {
        match () {
            () if n == 0 || n > COPIES_MAX => Err(QuorumError::Copies(n)),
            () if r == 0 || r > n => Err(QuorumError::Reads { r, n }),
            () if w == 0 || w > n => Err(QuorumError::Writes { w, n }),
            () => Ok(Self { n, r, w }),
        }
    }

    /// Copies.
    pub fn n(self) -> u8 {
        self.n
    }

    /// Replies that a read needs.
    pub fn r(self) -> u8 {
        self.r
    }

    /// Acknowledgements that a write needs.
    pub fn w(self) -> u8 {
        self.w
    }

    /// Whether every read quorum meets every write quorum (R + W > N).
    pub fn overlaps(self) -> bool {
        self.r + self.w > self.n
    }

    /// Whether any two write quorums meet (2W > N), so that a write learns of an acknowledged one before it.
    pub fn writes_overlap(self) -> bool {
        2 * self.w > self.n
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_outside_n_are_refused_with_words() {
        assert_eq!(Quorum::new(0, 1, 1), Err(QuorumError::Copies(0)));
        assert_eq!(
            Quorum::new(3, 4, 1).unwrap_err().to_string(),
            "r = 4 must be between 1 and n = 3"
        );
        assert_eq!(
            Quorum::new(3, 2, 0).unwrap_err().to_string(),
            "w = 0 must be between 1 and n = 3"
        );
    }

    #[test]
    fn overlap_is_pigeonhole() {
        assert!(Quorum::new(3, 2, 2).unwrap().overlaps());
        assert!(!Quorum::new(3, 1, 2).unwrap().overlaps());
        assert!(Quorum::new(3, 1, 3).unwrap().overlaps());
        assert!(!Quorum::new(4, 3, 2).unwrap().writes_overlap());
    }
}
