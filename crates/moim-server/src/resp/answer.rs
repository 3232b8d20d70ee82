//! What an outcome of the node is as a reply: one function, told by a [`Shape`] which of the outcome's facts the command
//! asked for. A shape is plain data, so that a request in progress costs no closure of its own and a queued command of a
//! transaction is answered the same way.

use bytes::Bytes;
use moim_core::object::Version;
use moim_core::{NamespaceId, clock::Hlc, object::Context};
use moim_node::Outcome;
use moim_node::api::{Failure, Found};
use moim_node::update;

use super::encode::Reply;
use super::failure;
use super::store::Store;
use crate::context_text;

/// Which fact a command asked for.
#[derive(Clone, Debug)]
pub(crate) enum Shape {
    /// The value, or null.
    Value,
    /// The value's length.
    Length,
    /// Bytes of the value from one place to another, both included; negative places count from the end.
    Range(i64, i64),
    /// 1 if there is a value.
    Presence,
    /// The value's type, by name.
    Type,
    /// A fact about the value for people: see [`About`].
    About(About),
    /// When it expires.
    Expiry {
        /// Whether as a moment rather than as what is left.
        absolute: bool,
        /// Whether in milliseconds rather than in seconds.
        millis: bool,
    },
    /// `OK` for a write.
    Ok,
    /// The number an update answers.
    Number,
    /// The value an update answers.
    UpdatedValue,
    /// 1 if an update found a value (and deleted it).
    Deleted,
    /// `OK` or null: whether a conditional set did.
    OkIfApplied,
    /// 1 or 0: whether a conditional set did.
    OneIfApplied,
    /// The value that a set replaced.
    Previous,
    /// The context of a write of this key.
    Context(Bytes),
    /// Context and siblings of this key.
    Siblings(Bytes),
}

/// What `OBJECT` and `MEMORY` tell of a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum About {
    /// Redis's name for how it would keep it.
    Encoding,
    /// Seconds since it was written: reads leave no trace.
    IdleSeconds,
    /// Always one.
    References,
    /// About how many bytes a replica keeps for it, with a key of this length.
    Bytes(usize),
}

/// Bytes that a replica keeps beside key and value: the object's header and the persisted key's prefix.
const OVERHEAD_BYTES: usize = 64;

/// Above this length Redis keeps a string apart from its header.
const EMBEDDED_BYTES_MAX: usize = 44;

impl Shape {
    /// The reply to an outcome of a request in `namespace`.
    pub(crate) fn reply(&self, outcome: Outcome, namespace: NamespaceId, store: &Store) -> Reply {
        let reply = match outcome {
            Outcome::Failed(failure) => Some(failure::reply(&failure, namespace, store)),
            Outcome::Found(found) => self.of_found(found, namespace, store),
            Outcome::Written { context, .. } => self.of_written(namespace, &context),
            Outcome::Updated(reply) => self.of_updated(reply),
            Outcome::Inspected(_) | Outcome::Keys(_) => None,
        };
        debug_assert!(reply.is_some(), "the node answered something else than {self:?}");
        reply.unwrap_or_else(mismatch)
    }

    fn of_found(&self, found: Found, namespace: NamespaceId, store: &Store) -> Option<Reply> {
        match self {
            Self::Siblings(key) => return Some(siblings(namespace, key, &found)),
            // That there are several answers is an answer to whether there is one.
            Self::Presence => return Some(Reply::Integer(i64::from(!found.versions.is_empty()))),
            Self::Type => {
                let name = if found.versions.is_empty() { "none" } else { "string" };
                return Some(Reply::Simple(name.into()));
            }
            _ => {}
        }
        match single(found) {
            Err(conflict) => Some(failure::reply(&conflict, namespace, store)),
            Ok(version) => self.of_version(version.as_ref(), store),
        }
    }

    fn of_version(&self, version: Option<&Version>, store: &Store) -> Option<Reply> {
        let value = version.and_then(Version::value);
        Some(match self {
            Self::Value => Reply::value(value.cloned()),
            Self::Length => Reply::count(value.map_or(0, Bytes::len)),
            Self::Range(start, end) => Reply::Bulk(range(value, *start, *end)),
            Self::Expiry { absolute, millis } => {
                Reply::Integer(expiry(version, *absolute, *millis, store.now().wall_ms))
            }
            Self::About(about) => match (version, value) {
                (Some(version), Some(value)) => about.reply(version, value, store.now().wall_ms),
                _ => Reply::Null,
            },
            _ => return None,
        })
    }

    fn of_written(&self, namespace: NamespaceId, context: &Context) -> Option<Reply> {
        match self {
            Self::Ok => Some(Reply::OK),
            Self::Context(key) => Some(Reply::text(context_text::encode(namespace, key, context))),
            _ => None,
        }
    }

    fn of_updated(&self, reply: update::Reply) -> Option<Reply> {
        Some(match (self, reply) {
            (Self::Ok, _) => Reply::OK,
            (Self::Number, update::Reply::Integer(number)) => Reply::Integer(number),
            (Self::UpdatedValue, update::Reply::Value(value)) => Reply::value(value),
            (Self::Deleted, update::Reply::Value(value)) => {
                Reply::Integer(i64::from(value.is_some()))
            }
            (Self::OkIfApplied, update::Reply::Set { applied, .. }) => {
                if applied {
                    Reply::OK
                } else {
                    Reply::Null
                }
            }
            (Self::OneIfApplied, update::Reply::Set { applied, .. }) => {
                Reply::Integer(i64::from(applied))
            }
            (Self::Previous, update::Reply::Set { previous, .. }) => Reply::value(previous),
            _ => return None,
        })
    }
}

impl About {
    fn reply(self, version: &Version, value: &Bytes, wall_ms: u64) -> Reply {
        match self {
            Self::Encoding if super::number::integer(value).is_some() => Reply::word("int"),
            Self::Encoding if value.len() <= EMBEDDED_BYTES_MAX => Reply::word("embstr"),
            Self::Encoding => Reply::word("raw"),
            Self::IdleSeconds => {
                Reply::count(wall_ms.saturating_sub(version.written.millis()) / 1_000)
            }
            Self::References => Reply::Integer(1),
            Self::Bytes(key_bytes) => Reply::count(key_bytes + value.len() + OVERHEAD_BYTES),
        }
    }
}

/// The reply to an outcome that no request of this kind has.
pub(crate) fn mismatch() -> Reply {
    Reply::error("ERR the node answered something else than it was asked; please report this")
}

/// The one live version, or none; several are a conflict.
pub(crate) fn single(mut found: Found) -> Result<Option<Version>, Failure> {
    match found.versions.len() {
        0 | 1 => Ok(found.versions.pop()),
        several => Err(Failure::Conflict { siblings: u32::try_from(several).unwrap_or(u32::MAX) }),
    }
}

fn range(value: Option<&Bytes>, start: i64, end: i64) -> Bytes {
    let Some(value) = value else { return Bytes::new() };
    let length = i64::try_from(value.len()).expect("a value fits into memory");
    if start < 0 && end < 0 && start > end {
        return Bytes::new();
    }
    let place = |at: i64| if at < 0 { (length.saturating_add(at)).max(0) } else { at };
    let (start, end) = (place(start), place(end).min(length - 1));
    match (usize::try_from(start), usize::try_from(end)) {
        (Ok(start), Ok(end)) if start <= end => value.slice(start..=end),
        _ => Bytes::new(),
    }
}

/// As Redis counts: -2 without a value, -1 without an expiry.
fn expiry(version: Option<&Version>, absolute: bool, millis: bool, wall_ms: u64) -> i64 {
    let at_ms = match version {
        None => return -2,
        Some(version) if version.expires_ms == 0 => return -1,
        Some(version) => version.expires_ms,
    };
    let ms = if absolute { at_ms } else { at_ms.saturating_sub(wall_ms) };
    let shown = match (millis, absolute) {
        (true, _) => ms,
        (false, true) => ms / 1_000,
        (false, false) => ms.saturating_add(500) / 1_000,
    };
    i64::try_from(shown).unwrap_or(i64::MAX)
}

/// Context, then value, dot, version, creation, last write and expiry of each sibling.
fn siblings(namespace: NamespaceId, key: &[u8], found: &Found) -> Reply {
    let context =
        found.context.as_ref().map(|context| context_text::encode(namespace, key, context));
    let context = context.map_or(Reply::Null, Reply::text);
    Reply::Array(std::iter::once(context).chain(found.versions.iter().map(sibling)).collect())
}

fn sibling(version: &Version) -> Reply {
    let millis = |millis: u64| Reply::Integer(i64::try_from(millis).unwrap_or(i64::MAX));
    Reply::Array(vec![
        Reply::value(version.value().cloned()),
        Reply::text(version.dot.to_string()),
        hybrid_time(version.written),
        millis(version.created_ms),
        millis(version.written.millis()),
        if version.expires_ms == 0 { Reply::Integer(-1) } else { millis(version.expires_ms) },
    ])
}

/// The version number that users see. Its 64 bits are positive as signed ones for the next 4,000 years.
pub(crate) fn hybrid_time(time: Hlc) -> Reply {
    Reply::Integer(i64::try_from(time.as_u64()).unwrap_or(i64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_those_of_getrange() {
        let value = Bytes::from_static(b"hello");
        for (start, end, expected) in [
            (0, -1, "hello"),
            (1, 3, "ell"),
            (-3, -1, "llo"),
            (-100, 2, "hel"),
            (3, 100, "lo"),
            (5, 10, ""),
            (-1, -3, ""),
            (3, 1, ""),
            (0, -100, "h"),
            (i64::MIN, i64::MAX, "hello"),
            (i64::MAX, i64::MIN, ""),
        ] {
            assert_eq!(range(Some(&value), start, end), expected, "{start} {end}");
        }
        assert_eq!(range(None, 0, -1), "");
        assert_eq!(range(Some(&Bytes::new()), 0, -1), "");
    }
}
