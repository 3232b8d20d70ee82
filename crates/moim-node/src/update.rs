//! Commands that read and write in one: what they do to the value at hand, as a pure function.
//!
//! They run at the key's first reachable owner, one after the other per key. While nothing fails that makes them
//! atomic; a failure can let two owners serialise the same key for a moment (see `docs/consistency.md`).

use std::fmt;

use bytes::Bytes;

use crate::api::Expiry;

/// A change that depends on the value at hand.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Update {
    /// Sets the value if the condition holds. Answers [`Reply::Set`] with the former value.
    Set {
        /// The new value.
        value: Bytes,
        /// Its expiry; `None` keeps the one at hand.
        expiry: Option<Expiry>,
        /// When to set it.
        condition: Condition,
    },
    /// Deletes the key. Answers [`Reply::Value`] with the former value.
    Delete,
    /// Deletes the key if its value is this. Answers [`Reply::Integer`] 1 or 0.
    DeleteIfEqual(Bytes),
    /// Appends. Answers the new length.
    Append(Bytes),
    /// Overwrites from an offset, padding with zeros. Answers the new length.
    SetRange {
        /// Where, in bytes.
        offset: u32,
        /// With what; nothing leaves the key as it is.
        patch: Bytes,
    },
    /// Adds to a decimal integer. Answers the sum.
    Add(i64),
    /// Adds to a decimal number. Answers [`Reply::Value`] with the sum as text. The bits of an `f64`.
    AddFloat(u64),
    /// Changes the expiry if the condition holds. Answers [`Reply::Integer`] 1 or 0.
    Expire {
        /// The new expiry; [`Expiry::Never`] removes it (and answers 0 if there was none).
        expiry: Expiry,
        /// When to change it.
        condition: ExpiryCondition,
    },
    /// As [`Self::Expire`], but answers [`Reply::Value`] with the value (`GETEX`).
    GetAndExpire(Expiry),
    /// Changes the expiry if the value is this. Answers [`Reply::Integer`] 1 or 0.
    ExpireIfEqual {
        /// The value to compare with.
        expected: Bytes,
        /// The new expiry.
        expiry: Expiry,
    },
}

/// When [`Update::Set`] sets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Condition {
    /// Always.
    Always,
    /// When there is no value.
    IfMissing,
    /// When there is one.
    IfPresent,
}

/// When [`Update::Expire`] changes the expiry. No expiry counts as an infinite one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExpiryCondition {
    /// Always.
    Always,
    /// When there is none.
    IfNone,
    /// When there is one.
    IfSome,
    /// When the new one is later.
    IfLater,
    /// When the new one is earlier.
    IfEarlier,
}

/// What an update answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    /// A number.
    Integer(i64),
    /// A value, or none.
    Value(Option<Bytes>),
    /// Whether [`Update::Set`] did, and the value before it.
    Set {
        /// Whether the condition held.
        applied: bool,
        /// The former value.
        previous: Option<Bytes>,
    },
}

/// Why an update does not fit the value at hand. The texts are Redis's own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UpdateError {
    /// The value, or the sum, is no 64-bit integer.
    NotAnInteger,
    /// The sum does not fit.
    Overflow,
    /// The value is no number.
    NotAFloat,
    /// The sum is not finite.
    NotFinite,
}

impl fmt::Display for UpdateError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NotAnInteger => "value is not an integer or out of range",
            Self::Overflow => "increment or decrement would overflow",
            Self::NotAFloat => "value is not a valid float",
            Self::NotFinite => "increment would produce NaN or Infinity",
        })
    }
}

impl std::error::Error for UpdateError {}

/// What an update does to the key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// Nothing is written.
    None,
    /// A value with an expiry in Unix milliseconds (0 for never).
    Put {
        /// The value.
        value: Bytes,
        /// Its expiry.
        expires_ms: u64,
    },
    /// A tombstone.
    Delete,
}
