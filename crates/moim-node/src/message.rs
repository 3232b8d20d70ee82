//! What nodes say to each other. [`crate::wire`] gives it bytes.
//!
//! Requests carry an [`OpId`] of the asking node and the time left for them; replies carry the id back. Every message
//! may be lost, repeated or come late: replicas join, so repeating is harmless, and a reply to an unknown id is dropped.

use bytes::Bytes;
use moim_core::clock::Hlc;
use moim_core::ring::Partition;
use moim_core::{NamespaceId, NodeId};

use crate::anti_entropy::{Answer, Ask, Terms};
use crate::api::{Outcome, Request, Why};
use crate::gossip::word::Line;
use crate::membership::Record;

/// Names an operation of the node that asks. Begins at random each run, so that answers to an earlier run match nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct OpId(pub u64);

/// One message between nodes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Message {
    /// Are you there?
    Ping,
    /// Yes.
    Pong,
    /// Join this object into your copy.
    Write {
        /// Answer to this.
        op: OpId,
        /// Where the key lives.
        namespace: NamespaceId,
        /// The key.
        key: Bytes,
        /// An encoded object.
        object: Bytes,
        /// Milliseconds that the asker still waits.
        budget_ms: u32,
    },
    /// Stand in for `owner`, who cannot be reached: join this object into your copy and hand it over to the owners when
    /// they are back. Answered by a [`Message::WriteReply`].
    Hint {
        /// Answer to this.
        op: OpId,
        /// Where the key lives.
        namespace: NamespaceId,
        /// The key.
        key: Bytes,
        /// The owner to stand in for.
        owner: NodeId,
        /// An encoded object.
        object: Bytes,
        /// Milliseconds that the asker still waits.
        budget_ms: u32,
    },
    /// What became of a [`Message::Write`] or [`Message::Hint`].
    WriteReply {
        /// The operation.
        op: OpId,
        /// How it ended.
        result: WriteResult,
    },
    /// Tell me of your copy.
    Read {
        /// Answer to this.
        op: OpId,
        /// Where the key lives.
        namespace: NamespaceId,
        /// The key.
        key: Bytes,
        /// How much of it.
        want: Want,
        /// Milliseconds that the asker still waits.
        budget_ms: u32,
    },
    /// What a replica holds.
    ReadReply {
        /// The operation.
        op: OpId,
        /// What it holds.
        result: ReadResult,
        /// Whether it had to wait for its disk.
        from_disk: bool,
    },
    /// Coordinate this in my place: you are the key's first reachable owner.
    Forward {
        /// Answer to this.
        op: OpId,
        /// What the client asked. Boxed, as what else is large and rare, because messages move often.
        request: Box<Request>,
        /// Milliseconds that the asker still waits.
        budget_ms: u32,
    },
    /// How a forwarded request ended.
    ForwardReply {
        /// The operation.
        op: OpId,
        /// How it ended.
        outcome: Outcome,
    },
    /// List keys of a partition.
    Keys {
        /// Answer to this.
        op: OpId,
        /// Of this namespace.
        namespace: NamespaceId,
        /// Of this partition.
        partition: Partition,
        /// From this hash on.
        from_hash: u32,
        /// About so many.
        limit: u16,
        /// Milliseconds that the asker still waits.
        budget_ms: u32,
    },
    /// Keys of a partition.
    KeysReply {
        /// The operation.
        op: OpId,
        /// The page.
        result: Result<KeyEntries, Why>,
    },
    /// Let us compare what we hold: a question of [`crate::anti_entropy`].
    Exchange {
        /// Answer to this.
        op: OpId,
        /// On what terms.
        terms: Terms,
        /// The question.
        ask: Box<Ask>,
    },
    /// The answer to a [`Message::Exchange`].
    ExchangeReply {
        /// The operation.
        op: OpId,
        /// The answer.
        result: Result<Answer, Why>,
    },
    /// I have met all founding members, and this is the hash of what they are.
    Founding {
        /// Hash of the founding record.
        digest: u64,
    },
    /// In every partition that I own, I hold everything stamped up to this time that any owner held, or something newer.
    /// Zero takes back what I said before.
    Complete {
        /// Up to when.
        until: Hlc,
    },
    /// The cluster record, for a node that has none or an older one.
    Record(Box<Record>),
    /// Part of what I know of all members. Joined, so order and repetition do not matter.
    Gossip(Vec<Line>),
    /// I am stopping and take nothing more from you. [`Message::Farewell`] answers it.
    Goodbye,
    /// I have heard your goodbye: whatever comes from me after this I sent knowing it.
    Farewell,
    /// A message of a newer version; [`Message::Unsupported`] answers it if it carries an operation.
    Unknown {
        /// The operation, if the message carries one.
        op: Option<OpId>,
    },
    /// I do not understand the message that carried this operation.
    Unsupported {
        /// The operation.
        op: OpId,
    },
}

impl Message {
    /// How long the asker still waits, in milliseconds, if this asks for something that can come too late.
    pub(crate) fn budget_ms_mut(&mut self) -> Option<&mut u32> {
        match self {
            Self::Write { budget_ms, .. }
            | Self::Read { budget_ms, .. }
            | Self::Forward { budget_ms, .. }
            | Self::Keys { budget_ms, .. } => Some(budget_ms),
            _ => None,
        }
    }
}

/// What became of a write at a replica.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WriteResult {
    /// The replica holds it (or in `siblings` more than it).
    Stored,
    /// The replica holds a version with this higher time (`lww` only).
    Superseded(Hlc),
    /// The replica did not take it.
    Refused(Why),
}

/// How much of an object a read wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Want {
    /// All of it.
    Object,
    /// [`moim_core::object::Object::digest`] only.
    Digest,
    /// All of it, from a node that is no owner but may keep it for one.
    Hinted,
}

/// What a replica holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ReadResult {
    /// The encoded object, `None` if never written.
    Object(Option<Bytes>),
    /// The digest, `None` if never written.
    Digest(Option<u128>),
    /// The replica did not say.
    Refused(Why),
}

/// Keys of one replica in the order of their hashes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KeyEntries {
    /// Keys, the time of their newest write, and whether there is a live value.
    pub keys: Vec<(Bytes, Hlc, bool)>,
    /// All keys with hashes below this are listed; `None`: all keys.
    pub complete_below: Option<u32>,
}
