//! Commands that read and write in one: what they do to the value at hand, as a pure function.
//!
//! They run at the key's first reachable owner, one after the other per key. While nothing fails that makes them
//! atomic; a failure can let two owners serialise the same key for a moment (see `docs/consistency.md`).

use std::fmt;

use bytes::Bytes;
use moim_core::object::Version;

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

impl Update {
    /// Bytes that the value has at least when this is done: what can be refused before the value is known.
    pub(crate) fn bytes_at_least(&self) -> u64 {
        match self {
            Self::Set { value, .. } => value.len() as u64,
            Self::Append(tail) => tail.len() as u64,
            Self::SetRange { patch, .. } if patch.is_empty() => 0,
            Self::SetRange { offset, patch } => u64::from(*offset) + patch.len() as u64,
            _ => 0,
        }
    }
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

impl Condition {
    fn holds(self, present: bool) -> bool {
        match self {
            Self::Always => true,
            Self::IfMissing => !present,
            Self::IfPresent => present,
        }
    }
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

/// Decides what `update` does to the live version at hand. `deadline` turns an expiry into Unix milliseconds by the
/// namespace's rules.
pub fn apply(
    update: &Update,
    current: Option<&Version>,
    wall_ms: u64,
    deadline: impl Fn(Expiry) -> u64,
) -> Result<(Change, Reply), UpdateError> {
    let value = current.and_then(|version| version.value().cloned());
    let held = current.map_or(0, |version| version.expires_ms);
    let keep = |value: Bytes| Change::Put { value, expires_ms: held };
    let due = |value: Bytes, expiry: Expiry| match deadline(expiry) {
        expires_ms if expires_ms != 0 && expires_ms <= wall_ms => Change::Delete,
        expires_ms => Change::Put { value, expires_ms },
    };
    Ok(match update {
        Update::Set { value: new, expiry, condition } => {
            let applied = condition.holds(value.is_some());
            let change = match expiry {
                _ if !applied => Change::None,
                None if value.is_some() => keep(new.clone()),
                expiry => due(new.clone(), expiry.unwrap_or(Expiry::Default)),
            };
            (change, Reply::Set { applied, previous: value })
        }
        Update::Delete => {
            (value.as_ref().map_or(Change::None, |_| Change::Delete), Reply::Value(value))
        }
        Update::DeleteIfEqual(expected) => when(value.as_ref() == Some(expected), Change::Delete),
        Update::Append(tail) => {
            let joined = [value.as_deref().unwrap_or_default(), tail].concat();
            (
                keep_or_new(value.as_ref(), joined, held, &deadline),
                length(value.as_ref(), tail.len()),
            )
        }
        Update::SetRange { patch, .. } if patch.is_empty() => {
            (Change::None, length(value.as_ref(), 0))
        }
        Update::SetRange { offset, patch } => {
            let patched = set_range(value.as_deref().unwrap_or_default(), *offset as usize, patch);
            let reply = Reply::Integer(i64::try_from(patched.len()).unwrap_or(i64::MAX));
            (keep_or_new(value.as_ref(), patched, held, &deadline), reply)
        }
        Update::Add(amount) => {
            let sum =
                integer(value.as_deref())?.checked_add(*amount).ok_or(UpdateError::Overflow)?;
            (
                keep_or_new(value.as_ref(), sum.to_string().into_bytes(), held, &deadline),
                Reply::Integer(sum),
            )
        }
        Update::AddFloat(bits) => {
            let sum = float(value.as_deref())? + f64::from_bits(*bits);
            let text = finite(sum)?.to_string().into_bytes();
            (
                keep_or_new(value.as_ref(), text.clone(), held, &deadline),
                Reply::Value(Some(text.into())),
            )
        }
        Update::Expire { expiry, condition } => match value {
            Some(value) if expiry_changes(*expiry, *condition, held, deadline(*expiry)) => {
                (due(value, *expiry), Reply::Integer(1))
            }
            _ => (Change::None, Reply::Integer(0)),
        },
        Update::GetAndExpire(expiry) => {
            let change = value.clone().map_or(Change::None, |value| due(value, *expiry));
            (change, Reply::Value(value))
        }
        Update::ExpireIfEqual { expected, expiry } => {
            when(value.as_ref() == Some(expected), due(expected.clone(), *expiry))
        }
    })
}

fn when(holds: bool, change: Change) -> (Change, Reply) {
    if holds { (change, Reply::Integer(1)) } else { (Change::None, Reply::Integer(0)) }
}

/// Commands that edit a value keep its expiry; when they make a new one, the namespace's rule applies.
fn keep_or_new(
    value: Option<&Bytes>,
    edited: Vec<u8>,
    held: u64,
    deadline: &impl Fn(Expiry) -> u64,
) -> Change {
    let expires_ms = if value.is_some() { held } else { deadline(Expiry::Default) };
    Change::Put { value: edited.into(), expires_ms }
}

fn length(value: Option<&Bytes>, more: usize) -> Reply {
    let bytes = value.map_or(0, Bytes::len) + more;
    Reply::Integer(i64::try_from(bytes).unwrap_or(i64::MAX))
}

fn set_range(value: &[u8], offset: usize, patch: &[u8]) -> Vec<u8> {
    let mut patched = value.to_vec();
    patched.resize(patched.len().max(offset + patch.len()), 0);
    patched[offset..offset + patch.len()].copy_from_slice(patch);
    patched
}

fn expiry_changes(expiry: Expiry, condition: ExpiryCondition, held: u64, due_ms: u64) -> bool {
    // No expiry counts as an infinite one.
    let infinite = |ms: u64| if ms == 0 { u64::MAX } else { ms };
    if expiry == Expiry::Never && held == 0 {
        return false;
    }
    match condition {
        ExpiryCondition::Always => true,
        ExpiryCondition::IfNone => held == 0,
        ExpiryCondition::IfSome => held != 0,
        ExpiryCondition::IfLater => infinite(due_ms) > infinite(held),
        ExpiryCondition::IfEarlier => infinite(due_ms) < infinite(held),
    }
}

/// A decimal integer in the one form that Redis accepts: no sign but minus, no leading zeros, no spaces.
fn integer(value: Option<&[u8]>) -> Result<i64, UpdateError> {
    let Some(digits) = value else { return Ok(0) };
    let text = std::str::from_utf8(digits).or(Err(UpdateError::NotAnInteger))?;
    let number: i64 = text.parse().or(Err(UpdateError::NotAnInteger))?;
    if number.to_string() == text { Ok(number) } else { Err(UpdateError::NotAnInteger) }
}

fn float(value: Option<&[u8]>) -> Result<f64, UpdateError> {
    let Some(digits) = value else { return Ok(0.0) };
    let text = std::str::from_utf8(digits).or(Err(UpdateError::NotAFloat))?;
    let number: f64 = text.parse().or(Err(UpdateError::NotAFloat))?;
    if number.is_nan() { Err(UpdateError::NotAFloat) } else { Ok(number) }
}

fn finite(sum: f64) -> Result<f64, UpdateError> {
    if sum.is_finite() { Ok(sum) } else { Err(UpdateError::NotFinite) }
}

#[cfg(test)]
mod tests {
    use moim_core::NodeId;
    use moim_core::clock::{Actor, Dot, Epoch, Hlc};

    use super::*;

    const NOW_MS: u64 = 1_000;

    fn bytes(text: &str) -> Bytes {
        Bytes::copy_from_slice(text.as_bytes())
    }

    /// Applies to a value (with an expiry), and tells what is written and answered.
    fn check(held: Option<(&str, u64)>, update: &Update) -> String {
        let version = held.map(|(value, expires_ms)| {
            let actor = Actor { node: NodeId(1), epoch: Epoch { run: 1, serial: 0 } };
            let dot = Dot { actor, counter: 1 };
            Version { expires_ms, ..Version::of_value(Hlc::from_millis(1), dot, bytes(value)) }
        });
        let deadline = |expiry| match expiry {
            Expiry::Default => 9_999,
            Expiry::Never => 0,
            Expiry::At(at_ms) => at_ms,
        };
        let text = |value: &Bytes| String::from_utf8_lossy(value).into_owned();
        match apply(update, version.as_ref(), NOW_MS, deadline) {
            Err(error) => format!("error: {error}"),
            Ok((change, reply)) => {
                let change = match change {
                    Change::None => "nothing".to_owned(),
                    Change::Delete => "deleted".to_owned(),
                    Change::Put { value, expires_ms } => {
                        format!("{} until {expires_ms}", text(&value))
                    }
                };
                let reply = match reply {
                    Reply::Integer(number) => number.to_string(),
                    Reply::Value(value) => {
                        value.map_or_else(|| "nil".to_owned(), |value| text(&value))
                    }
                    Reply::Set { applied, previous } => {
                        format!(
                            "{applied} {}",
                            previous.map_or_else(|| "nil".to_owned(), |value| text(&value))
                        )
                    }
                };
                format!("{change}; {reply}")
            }
        }
    }

    #[test]
    fn set_keeps_or_changes_the_expiry_and_honours_its_condition() {
        let set = |expiry, condition| Update::Set { value: bytes("new"), expiry, condition };
        let held = Some(("old", 5_000));
        assert_eq!(check(held, &set(None, Condition::Always)), "new until 5000; true old");
        assert_eq!(check(None, &set(None, Condition::Always)), "new until 9999; true nil");
        assert_eq!(
            check(held, &set(Some(Expiry::Never), Condition::IfPresent)),
            "new until 0; true old"
        );
        assert_eq!(
            check(held, &set(Some(Expiry::Never), Condition::IfMissing)),
            "nothing; false old"
        );
        assert_eq!(check(None, &set(None, Condition::IfPresent)), "nothing; false nil");
        assert_eq!(
            check(held, &set(Some(Expiry::At(NOW_MS)), Condition::Always)),
            "deleted; true old"
        );
    }

    #[test]
    fn numbers_are_read_as_redis_reads_them() {
        assert_eq!(check(None, &Update::Add(5)), "5 until 9999; 5");
        assert_eq!(check(Some(("-3", 0)), &Update::Add(5)), "2 until 0; 2");
        for bad in ["", " 1", "1 ", "+1", "01", "1.0", "x", "9223372036854775808"] {
            let answer = check(Some((bad, 0)), &Update::Add(1));
            assert_eq!(answer, "error: value is not an integer or out of range", "{bad:?}");
        }
        let most = Some(("9223372036854775807", 0));
        assert_eq!(check(most, &Update::Add(1)), "error: increment or decrement would overflow");
        assert_eq!(
            check(Some(("10.5", 0)), &Update::AddFloat(0.1_f64.to_bits())),
            "10.6 until 0; 10.6"
        );
        assert_eq!(
            check(Some(("5e3", 0)), &Update::AddFloat(200_f64.to_bits())),
            "5200 until 0; 5200"
        );
        assert_eq!(
            check(Some(("x", 0)), &Update::AddFloat(0)),
            "error: value is not a valid float"
        );
        let infinite = Update::AddFloat(f64::INFINITY.to_bits());
        assert_eq!(check(None, &infinite), "error: increment would produce NaN or Infinity");
    }

    #[test]
    fn edits_keep_the_expiry() {
        assert_eq!(check(Some(("ab", 7_000)), &Update::Append(bytes("c"))), "abc until 7000; 3");
        let patch = |offset, text| Update::SetRange { offset, patch: bytes(text) };
        assert_eq!(check(Some(("hello", 0)), &patch(1, "EL")), "hELlo until 0; 5");
        assert_eq!(check(Some(("a", 0)), &patch(3, "b")), "a\0\0b until 0; 4");
        assert_eq!(check(None, &patch(9, "")), "nothing; 0");
    }

    #[test]
    fn expiry_conditions_count_none_as_infinite() {
        let expire = |at_ms, condition| Update::Expire { expiry: Expiry::At(at_ms), condition };
        let (forever, until) = (Some(("v", 0)), Some(("v", 5_000)));
        assert_eq!(check(None, &expire(6_000, ExpiryCondition::Always)), "nothing; 0");
        assert_eq!(check(forever, &expire(6_000, ExpiryCondition::IfNone)), "v until 6000; 1");
        assert_eq!(check(until, &expire(6_000, ExpiryCondition::IfNone)), "nothing; 0");
        assert_eq!(check(forever, &expire(6_000, ExpiryCondition::IfLater)), "nothing; 0");
        assert_eq!(check(until, &expire(6_000, ExpiryCondition::IfLater)), "v until 6000; 1");
        assert_eq!(check(forever, &expire(6_000, ExpiryCondition::IfEarlier)), "v until 6000; 1");
        assert_eq!(check(until, &expire(1, ExpiryCondition::IfSome)), "deleted; 1");
        let persist = Update::Expire { expiry: Expiry::Never, condition: ExpiryCondition::Always };
        assert_eq!(check(until, &persist), "v until 0; 1");
        assert_eq!(check(forever, &persist), "nothing; 0");
    }

    #[test]
    fn comparisons_act_only_on_the_expected_value() {
        let held = Some(("mine", 0));
        assert_eq!(check(held, &Update::DeleteIfEqual(bytes("mine"))), "deleted; 1");
        assert_eq!(check(held, &Update::DeleteIfEqual(bytes("yours"))), "nothing; 0");
        assert_eq!(check(None, &Update::DeleteIfEqual(bytes("mine"))), "nothing; 0");
        let extend = Update::ExpireIfEqual { expected: bytes("mine"), expiry: Expiry::At(8_000) };
        assert_eq!(check(held, &extend), "mine until 8000; 1");
        assert_eq!(check(held, &Update::GetAndExpire(Expiry::At(8_000))), "mine until 8000; mine");
    }
}
