//! Consistency levels by name, as Cassandra's users know them, or by number.

use std::fmt;
use std::str::FromStr;

use super::COPIES_MAX;

/// How many replicas a request wants to hear from, before N is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Level {
    /// This many replicas; `ONE`, `TWO` and `THREE` are 1, 2 and 3.
    Count(u8),
    /// More than half of the copies.
    Quorum,
    /// Every copy.
    All,
    /// One replica of the coordinator's data centre.
    LocalOne,
    /// More than half of the copies in the coordinator's data centre.
    LocalQuorum,
    /// More than half of the copies in every data centre.
    EachQuorum,
}

/// Why a text names no level.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LevelError(String);

impl fmt::Display for LevelError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "'{}' is no consistency level: use ONE, TWO, THREE, QUORUM, ALL, LOCAL_ONE, LOCAL_QUORUM, EACH_QUORUM \
             or a number from 1 to {COPIES_MAX}",
            self.0
        )
    }
}

impl std::error::Error for LevelError {}

impl Level {
    /// One replica.
    pub const ONE: Self = Self::Count(1);
    /// Two replicas.
    pub const TWO: Self = Self::Count(2);
    /// Three replicas.
    pub const THREE: Self = Self::Count(3);

    /// How many of `copies` replicas this level needs. May exceed `copies` for a number: such a request is
    /// impossible and is told so, never quietly weakened. With one data centre the local levels are the plain ones.
    pub fn resolve(self, copies: u8) -> u8 {
        assert!(copies > 0, "a partition has at least one owner");
        match self {
            Self::Count(count) => count,
            Self::LocalOne => 1,
            Self::Quorum | Self::LocalQuorum | Self::EachQuorum => copies / 2 + 1,
            Self::All => copies,
        }
    }
}

impl FromStr for Level {
    type Err = LevelError;

    fn from_str(text: &str) -> Result<Self, LevelError> {
        match text.to_ascii_uppercase().as_str() {
            "ONE" => Ok(Self::ONE),
            "TWO" => Ok(Self::TWO),
            "THREE" => Ok(Self::THREE),
            "QUORUM" => Ok(Self::Quorum),
            "ALL" => Ok(Self::All),
            "LOCAL_ONE" => Ok(Self::LocalOne),
            "LOCAL_QUORUM" => Ok(Self::LocalQuorum),
            "EACH_QUORUM" => Ok(Self::EachQuorum),
            number => match number.parse::<u8>() {
                Ok(count @ 1..=COPIES_MAX) => Ok(Self::Count(count)),
                _ => Err(LevelError(text.to_owned())),
            },
        }
    }
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Count(1) => f.write_str("ONE"),
            Self::Count(2) => f.write_str("TWO"),
            Self::Count(3) => f.write_str("THREE"),
            Self::Count(count) => write!(f, "{count}"),
            Self::Quorum => f.write_str("QUORUM"),
            Self::All => f.write_str("ALL"),
            Self::LocalOne => f.write_str("LOCAL_ONE"),
            Self::LocalQuorum => f.write_str("LOCAL_QUORUM"),
            Self::EachQuorum => f.write_str("EACH_QUORUM"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_in_any_case_and_printed_back() {
        for name in [
            "ONE",
            "TWO",
            "THREE",
            "QUORUM",
            "ALL",
            "LOCAL_ONE",
            "LOCAL_QUORUM",
            "EACH_QUORUM",
            "5",
        ] {
            let level: Level = name.to_ascii_lowercase().parse().unwrap();
            assert_eq!(level.to_string(), name);
        }
        for bad in ["", "0", "17", "256", "-1", "MOST", "quorum "] {
            assert!(
                bad.parse::<Level>().unwrap_err().to_string().contains("no consistency level"),
                "{bad}"
            );
        }
    }

    #[test]
    fn quorum_is_more_than_half() {
        let needed: Vec<u8> = (1..=6).map(|copies| Level::Quorum.resolve(copies)).collect();
        assert_eq!(needed, [1, 2, 2, 3, 3, 4]);
        assert_eq!(Level::All.resolve(3), 3);
        assert_eq!(Level::THREE.resolve(1), 3, "an impossible level is not weakened");
    }
}
