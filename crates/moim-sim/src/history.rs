//! What clients asked and what they were told: the only thing that most checkers look at.
//!
//! Times are *true* times, which no node knows. A request ends when its client learns the outcome; one that never
//! learns it has no end, and may take effect at any time after it began. So "A before B" means that A's client had its
//! answer before B's client asked, whatever the machines' clocks said.

use std::collections::BTreeSet;
use std::fmt;

use bytes::Bytes;
use moim_core::clock::{Hlc, VersionVector};

/// A point of the run: true time, and the number of the event, which orders what happens in one microsecond.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Moment {
    /// Microseconds since the run began.
    pub at_us: u64,
    /// Events before this one.
    pub step: u64,
}

impl fmt::Display for Moment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{:06} s", self.at_us / 1_000_000, self.at_us % 1_000_000)
    }
}

/// A value of which there is only one: whoever reads it knows who wrote it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Value(pub u64);

impl Value {
    /// Its bytes. Their length depends on the value, so that a mix of two is no value.
    pub fn bytes(self) -> Bytes {
        let padding = "=".repeat(usize::try_from(self.0 % 23).unwrap_or(0));
        Bytes::from(format!("v{}{padding}", self.0))
    }

    /// The value with these bytes, if there is one.
    pub fn of_bytes(bytes: &[u8]) -> Option<Self> {
        let digits = bytes.strip_prefix(b"v")?;
        let length = digits.iter().take_while(|byte| byte.is_ascii_digit()).count();
        let value = Self(std::str::from_utf8(&digits[..length]).ok()?.parse().ok()?);
        (value.bytes() == bytes).then_some(value)
    }
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "v{}", self.0)
    }
}

/// What a key is used for, and so which checker judges it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Use {
    /// One value, the last written one (`lww`).
    Register,
    /// All concurrent values (`siblings`).
    Cart,
    /// A number that is added to (`lww`).
    Counter,
}

/// A key, and by which rules its namespace keeps it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Key {
    /// What it is used for.
    pub usage: Use,
    /// Whether others stand in for owners that cannot be reached.
    pub sloppy: bool,
    /// Its name.
    pub name: String,
}

impl Key {
    /// A key of a strict namespace.
    pub fn strict(usage: Use, name: impl Into<String>) -> Self {
        Self { usage, sloppy: false, name: name.into() }
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", if self.sloppy { "~" } else { "" }, self.name)
    }
}

/// What a client asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Call {
    /// To read.
    Read,
    /// To write.
    Put {
        /// What.
        value: Value,
        /// Its deadline in Unix milliseconds, 0 for none.
        expires_ms: u64,
        /// In carts: the values that the context stood for, as far as the client knows; `None` without one.
        covers: Option<BTreeSet<Value>>,
    },
    /// To delete.
    Delete {
        /// In carts: the values that the context stood for; `None` without one (then: whatever a read sees).
        covers: Option<BTreeSet<Value>>,
    },
    /// To write if there is nothing.
    PutIfMissing {
        /// What.
        value: Value,
    },
    /// To add to a counter.
    Add(i64),
}

/// A live version as a client saw it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    /// Its value; `None` if the bytes are none that anybody wrote.
    pub value: Option<Value>,
    /// Its bytes.
    pub bytes: Bytes,
    /// Its time stamp.
    pub version: Hlc,
    /// Its deadline, 0 for none.
    pub expires_ms: u64,
}

/// What a client was told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// Nothing yet, or nothing at all.
    None,
    /// The live versions, and what the read covers: in registers a time stamp, in carts a version vector.
    Read {
        /// Live versions.
        seen: Vec<Seen>,
        /// Time stamp of the newest write in a register, deleted and expired ones included.
        version: Hlc,
        /// Everything seen of a cart.
        context: VersionVector,
    },
    /// The write is acknowledged.
    Written {
        /// With this time stamp.
        version: Hlc,
        /// In carts: what it covers.
        context: VersionVector,
    },
    /// What [`Call::PutIfMissing`] did.
    Set {
        /// Whether it was written.
        applied: bool,
        /// What was there before.
        previous: Option<Value>,
    },
    /// What [`Call::Add`] came to.
    Sum(i64),
    /// It was not done, and never will be.
    Refused(String),
    /// It may have been done, or may yet be.
    Unknown(String),
}

/// What clocks showed while a request was under way, in Unix milliseconds: the least and the most.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Clocks {
    /// The coordinator's.
    pub own: (u64, u64),
    /// Any node's.
    pub any: (u64, u64),
    /// Deadlines up to here may have been made use of by compaction, on some node.
    pub reclaimed_ms: u64,
}

/// The client that looks at what is left when everything has healed.
pub const AUDITOR: usize = usize::MAX;

/// One request of one client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Operation {
    /// Names it in reports; counts from 0.
    pub id: u64,
    /// Which client.
    pub client: usize,
    /// The key.
    pub key: Key,
    /// The node that was asked.
    pub coordinator: usize,
    /// Replicas that a read needs (also the reading half of an update).
    pub r: u8,
    /// Replicas that a write needs.
    pub w: u8,
    /// In registers: the version that the client handed back, and wants to be above; zero without one.
    pub above: Hlc,
    /// What was asked.
    pub call: Call,
    /// When.
    pub start: Moment,
    /// When the client learnt the outcome, if it did.
    pub end: Option<Moment>,
    /// The outcome.
    pub answer: Answer,
    /// What clocks showed meanwhile.
    pub clocks: Clocks,
    /// For a write with a deadline and without an end: when any clock first showed that deadline, in microseconds since
    /// the run began; `None` if none has. A node that takes the write from then on may take it for a deletion.
    pub due_us: Option<u64>,
    /// Owners of the key that served from an old copy of their disk meanwhile, and did not know it.
    pub old_copies: u8,
}

impl Operation {
    /// Whether the client knew the outcome before `later` began.
    pub fn before(&self, later: &Self) -> bool {
        self.end.is_some_and(|end| end < later.start)
    }

    /// The value that it wrote or tried to write.
    pub fn written(&self) -> Option<Value> {
        match self.call {
            Call::Put { value, .. } | Call::PutIfMissing { value } => Some(value),
            Call::Read | Call::Delete { .. } | Call::Add(_) => None,
        }
    }

    /// The deadline of what it wrote, in Unix milliseconds; 0 for none.
    pub fn expires_ms(&self) -> u64 {
        match self.call {
            Call::Put { expires_ms, .. } => expires_ms,
            Call::Read | Call::Delete { .. } | Call::PutIfMissing { .. } | Call::Add(_) => 0,
        }
    }

    /// Whether it was acknowledged as having changed something.
    pub fn is_acknowledged_write(&self) -> bool {
        match self.answer {
            Answer::Written { .. } | Answer::Sum(_) => true,
            Answer::Set { applied, .. } => applied,
            Answer::None | Answer::Read { .. } | Answer::Refused(_) | Answer::Unknown(_) => false,
        }
    }

    /// Whether its client was not told what it asked for.
    pub fn has_failed(&self) -> bool {
        matches!(self.answer, Answer::None | Answer::Refused(_) | Answer::Unknown(_))
    }

    /// Whether it certainly changed nothing.
    pub fn is_void(&self) -> bool {
        let changes_nothing = matches!(self.answer, Answer::Set { applied: false, .. });
        self.call == Call::Read || changes_nothing || matches!(self.answer, Answer::Refused(_))
    }
}

impl fmt::Display for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let list = |covers: &BTreeSet<Value>| {
            covers.iter().map(Value::to_string).collect::<Vec<_>>().join(" ")
        };
        match self {
            Self::Read => f.write_str("read"),
            Self::Put { value, expires_ms, covers } => {
                write!(f, "put {value}")?;
                if *expires_ms > 0 {
                    write!(f, " until {expires_ms}")?;
                }
                covers.as_ref().map_or(Ok(()), |covers| write!(f, " over {{{}}}", list(covers)))
            }
            Self::Delete { covers: None } => f.write_str("delete"),
            Self::Delete { covers: Some(covers) } => write!(f, "delete {{{}}}", list(covers)),
            Self::PutIfMissing { value } => write!(f, "put {value} if missing"),
            Self::Add(delta) => write!(f, "add {delta}"),
        }
    }
}

impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::None => f.write_str("no answer"),
            Self::Read { seen, version, context } => {
                let values = seen.iter().map(|seen| match seen.value {
                    Some(value) => value.to_string(),
                    None => format!("{:?}", seen.bytes),
                });
                let values = values.collect::<Vec<_>>().join(" ");
                write!(f, "saw {{{values}}} {}", position(*version, context))
            }
            Self::Written { version, context } => {
                write!(f, "acknowledged {}", position(*version, context))
            }
            Self::Set { applied: true, .. } => f.write_str("acknowledged"),
            Self::Set { applied: false, previous } => match previous {
                Some(value) => write!(f, "not applied, saw {value}"),
                None => f.write_str("not applied"),
            },
            Self::Sum(sum) => write!(f, "came to {sum}"),
            Self::Refused(why) => write!(f, "refused ({why})"),
            Self::Unknown(why) => write!(f, "outcome unknown ({why})"),
        }
    }
}

fn position(version: Hlc, context: &VersionVector) -> String {
    if context.is_empty() {
        return format!("at {version:?}");
    }
    let entries = context.entries().iter().map(|(actor, counter)| {
        let (node, epoch) = (actor.node.0 >> 48, actor.epoch);
        format!("{node:x}-{:x}.{}:{counter}", epoch.run >> 48, epoch.serial)
    });
    format!("knowing [{}]", entries.collect::<Vec<_>>().join(" "))
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { id, client, key, coordinator, r, w, call, start, answer, clocks, .. } = self;
        let who =
            if *client == AUDITOR { "auditor".to_owned() } else { format!("client {client}") };
        let end = self.end.map_or_else(|| "never".to_owned(), |end| end.to_string());
        write!(f, "#{id} {who} at n{coordinator} (clock {}), r={r} w={w}: ", clocks.own.1)?;
        write!(f, "{call} {key}, {start} to {end}: {answer}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_its_bytes_and_no_others() {
        for number in [0, 7, 22, 23, 1_000] {
            let value = Value(number);
            assert_eq!(Value::of_bytes(&value.bytes()), Some(value));
        }
        for torn in [&b"v7"[..], b"v7========", b"7", b"v", b"v007=======", b""] {
            assert_eq!(Value::of_bytes(torn), None, "{torn:?}");
        }
    }
}
