//! What a node is asked and what it answers.

use std::fmt;

use bytes::Bytes;
use moim_core::clock::Hlc;
use moim_core::object::{Context, Draft, Version};
use moim_core::quorum::Level;
use moim_core::ring::Partition;
use moim_core::{NamespaceId, NodeId};
use moim_storage::{Batch, Family};

use crate::membership::{Hello, Record};
use crate::message::Message;
use crate::update::{Reply, Update, UpdateError};

/// The time of a turn, given by whoever runs the node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Now {
    /// Milliseconds on a clock that never jumps; its zero means nothing. For deadlines.
    pub mono_ms: u64,
    /// Unix milliseconds by the machine's clock, which may jump. For time stamps and expiry.
    pub wall_ms: u64,
}

/// Names a request between the server and its node. The server chooses it and sees it again in [`Effect::Reply`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RequestId(pub u64);

/// Counts the batches that a node hands to its disk, from 1.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BatchId(pub u64);

/// Names a read from disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ReadId(pub u64);

/// What a client asks of one key. Any node takes any request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// Where the key lives.
    pub namespace: NamespaceId,
    /// The key. Empty keys are allowed, as in Redis. Ignored by [`Action::Keys`].
    pub key: Bytes,
    /// What to do.
    pub action: Action,
    /// The read level, if not the namespace's.
    pub r: Option<Level>,
    /// The write level, if not the namespace's.
    pub w: Option<Level>,
    /// How long the client waits, in milliseconds, if not the default of [`crate::options::Options`].
    pub timeout_ms: Option<u32>,
}

/// What to do with a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// All live versions and the context. Answers [`Outcome::Found`].
    Get,
    /// Writes a value whatever was there. In `siblings`, replaces just what `context` covers. Answers
    /// [`Outcome::Written`].
    Put {
        /// Opaque bytes.
        value: Draft,
        /// When it expires.
        expiry: Expiry,
        /// What the client had read.
        context: Option<Context>,
    },
    /// Deletes whatever was there (in `siblings`, what `context` covers, or without one what a read at R sees).
    /// Answers [`Outcome::Written`].
    Delete {
        /// What the client had read.
        context: Option<Context>,
    },
    /// Reads and writes in one, serialised per key at its first reachable owner. Answers [`Outcome::Updated`].
    Update(Update),
    /// Each owner's copy, for people. Answers [`Outcome::Inspected`].
    Inspect,
    /// A page of the keys of one partition, in the order of their hashes. Answers [`Outcome::Keys`].
    Keys {
        /// Which partition.
        partition: Partition,
        /// The first hash to list (see [`crate::keyspace::key_hash`]); 0 to begin.
        from_hash: u32,
        /// About how many keys to answer with. A page never splits keys of one hash, so it may be exceeded a little.
        limit: u16,
    },
}

/// When a written value expires.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expiry {
    /// As the namespace says (its `ttl_ms`, or never).
    Default,
    /// Never, whatever the namespace says.
    Never,
    /// At this Unix millisecond. One in the past deletes.
    At(u64),
}

/// How a request ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// What a [`Action::Get`] found.
    Found(Found),
    /// A put or delete is held by W replicas.
    Written {
        /// Hand it back with the next write to replace just this.
        context: Context,
        /// The time stamp: the version number that users see.
        version: Hlc,
    },
    /// What an [`Action::Update`] answers.
    Updated(Reply),
    /// Each owner's copy.
    Inspected(Inspection),
    /// Keys of a partition.
    Keys(KeysPage),
    /// It was not done, or nobody can say.
    Failed(Failure),
}

/// What a read found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Found {
    /// What the read covers; `None` if the key was never written. Present for deleted and expired keys too.
    pub context: Option<Context>,
    /// Live versions: none, one, or in a `siblings` namespace several.
    pub versions: Vec<Version>,
    /// Whether a replica that the answer needed had to wait for its disk, or was so late that another was asked instead.
    pub from_disk: bool,
}

/// A page of keys.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KeysPage {
    /// Live keys, in the order of their hashes.
    pub keys: Vec<Bytes>,
    /// Where the next page begins, `None` after the last.
    pub next_hash: Option<u32>,
}

/// What the owners of a key hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Inspection {
    /// The key's hash slot.
    pub slot: u16,
    /// Its partition.
    pub partition: u16,
    /// Owners in the order of preference, and each one's copy.
    pub copies: Vec<(NodeId, Copy)>,
}

/// One owner's copy of a key, without the values.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Copy {
    /// Never written there.
    Missing,
    /// Held there: the context and the versions, their values emptied.
    Held(Context, Vec<Version>),
    /// The owner did not say, and why.
    Unknown(Why),
}

/// Why a replica did not do what it was asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Why {
    /// There is no open connection to it.
    Unreachable,
    /// It did not answer in time: this many milliseconds.
    NoAnswer(u32),
    /// It is not serving yet.
    NotReady,
    /// It has too much to do.
    Overloaded,
    /// The stamp is this many milliseconds ahead of its clock, more than `max_clock_skew_ms`.
    ClockSkew(u64),
    /// It does not know the namespace, or knows it with another policy.
    Namespace,
    /// Its disk failed.
    Disk,
    /// It does not understand the message: it runs an older version.
    Unsupported,
    /// Its disk has no room for another value ([`DiskRoom`]).
    DiskFull,
    /// It keeps as much for owners that are away as it may: this many bytes.
    HintsFull(u64),
    /// The version is one that was replaced or deleted, and then forgotten by everybody who may hold it.
    Forgotten,
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreachable => f.write_str("unreachable"),
            Self::NoAnswer(waited_ms) => write!(f, "no answer in {waited_ms} ms"),
            Self::NotReady => f.write_str("not ready"),
            Self::Overloaded => f.write_str("overloaded"),
            Self::ClockSkew(ahead_ms) => {
                write!(f, "refuses a time stamp {ahead_ms} ms ahead of its clock")
            }
            Self::Namespace => f.write_str("has no such namespace, or with another policy"),
            Self::Disk => f.write_str("its disk failed"),
            Self::DiskFull => f.write_str("its disk is full, it takes no new values"),
            Self::Forgotten => f.write_str("refuses a version that was replaced long ago"),
            Self::Unsupported => f.write_str("does not understand the request (older version)"),
            Self::HintsFull(limit_bytes) => {
                write!(f, "its hint store is full ({limit_bytes} bytes)")
            }
        }
    }
}

/// Whether a request meant to read or to write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Intent {
    /// Reading: nothing was changed.
    Read,
    /// Writing: not acknowledged does not mean not written.
    Write,
}

/// Why a request was not done. Each has one error text in RESP and one status in HTTP.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Failure {
    /// Too few replicas answered (`-UNAVAILABLE`, 503).
    Unavailable {
        /// Read or write.
        intent: Intent,
        /// The level asked for.
        level: Level,
        /// How many replicas that needs.
        needed: u8,
        /// How many answered.
        got: u8,
        /// Which did not, and why.
        missing: Vec<(NodeId, Why)>,
    },
    /// The node that serialises the key did not answer in time; it may or may not have done it (`-TIMEOUT`, 504).
    Timeout {
        /// Which node.
        node: NodeId,
        /// How long was waited.
        waited_ms: u32,
    },
    /// A queue is full (`-OVERLOADED`, 503).
    Overloaded {
        /// Which queue.
        queue: Queue,
        /// Its bound, in the queue's unit.
        limit: u64,
    },
    /// Key and value together exceed the namespace's limit (`-TOOLARGE`, 413).
    TooLarge {
        /// Bytes of this pair.
        pair_bytes: u64,
        /// The limit.
        limit_bytes: u64,
    },
    /// There are this many siblings and the action needs one value (`-CONFLICT`, 409).
    Conflict {
        /// How many.
        siblings: u32,
    },
    /// This node does not serve yet, and what it waits for (`-NOTREADY`, 503).
    NotReady(NotReady),
    /// This node's disk failed; it has stopped serving (`-NOTREADY`, 503).
    Stopped(String),
    /// The disk of the node that would have to coordinate the write is full, and no other could be asked. Nothing was
    /// written (`-OOM`, 507).
    DiskFull {
        /// Which node.
        node: NodeId,
        /// The share of its disk above which it takes no new values, in percent; 100 if there is no room at all.
        limit_percent: u8,
    },
    /// The namespace is not defined (`-ERR`, 404).
    NoSuchNamespace,
    /// The context does not belong to this kind of namespace (`-ERR`, 400).
    BadContext,
    /// The update does not fit the value at hand (`-ERR`, 400).
    Update(UpdateError),
}

impl Failure {
    /// Whether a write failed because disks are full: with the replicas that had no room it would have succeeded.
    pub fn is_for_want_of_room(&self) -> bool {
        match self {
            Self::DiskFull { .. } => true,
            Self::Unavailable { intent: Intent::Write, needed, got, missing, .. } => {
                let full = missing.iter().filter(|(_, why)| *why == Why::DiskFull).count();
                full > 0 && usize::from(*got) + full >= usize::from(*needed)
            }
            _ => false,
        }
    }
}

/// Queues that refuse rather than grow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Queue {
    /// Requests coordinated at once.
    Operations,
    /// Bytes of writes that wait for their sync.
    UnsyncedBytes,
    /// Updates that wait for one key.
    UpdatesPerKey,
    /// Milliseconds that requests wait until the node gets round to them.
    TurnDelay,
    /// Milliseconds that writes wait for their sync.
    SyncDelay,
    /// Pairs in the clock of one key, which puts without its whole context make longer.
    ClockPairs,
    /// Bytes of what is kept for owners that are away.
    HintStore,
}

impl fmt::Display for Queue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Operations => "requests in progress",
            Self::UnsyncedBytes => "bytes waiting for the disk",
            Self::UpdatesPerKey => "updates waiting for one key",
            Self::TurnDelay => "milliseconds of waiting for this node",
            Self::SyncDelay => "milliseconds of waiting for the disk",
            Self::ClockPairs => {
                "pairs in the key's clock (put with the context that a get returns)"
            }
            Self::HintStore => "bytes in the hint store (what is kept for owners that are away)",
        })
    }
}

/// What a node that does not serve yet waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotReady {
    /// The founding members have not all met.
    Founding {
        /// How many have, this one included.
        met: u32,
        /// How many found the cluster.
        expected: u32,
    },
    /// This node lost its disk; partitions that are filled again are served.
    Filling {
        /// Partitions that are served again.
        filled: u32,
        /// Partitions that were lost.
        partitions: u32,
    },
    /// It has just started and waits for other members to say what they heard its disk keep, a second at the most.
    Recalling {
        /// Members that have not said so.
        awaited: u32,
    },
    /// The server is stopping.
    Stopping,
}

/// How much room the disk has. Whoever runs the node says so whenever it changes; reads go on in any case.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum DiskRoom {
    /// Enough.
    #[default]
    Enough,
    /// Less than is kept free for compactions: this replica takes no more values ([`Why::DiskFull`]). Deletions, the
    /// node's own records and coordinating for other replicas go on.
    Low,
    /// None: a batch did not fit. It is kept and tried again, nothing is acknowledged meanwhile, and as not even the
    /// clock's bound can be kept, other nodes coordinate this node's writes.
    Exhausted,
}

impl fmt::Display for DiskRoom {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Enough => "enough",
            Self::Low => "low",
            Self::Exhausted => "exhausted",
        })
    }
}

/// What has happened since the last turn.
#[derive(Debug)]
pub enum Input {
    /// The inputs that follow in this turn have waited for it, the oldest for so many milliseconds: requests had so much
    /// less time left when the turn began. Need not be given when it is none.
    Queued(u32),
    /// A client asks.
    Request(RequestId, Request),
    /// A peer says something.
    Peer(NodeId, Message),
    /// A connection to a peer stands, and its hello was read. Replaces an earlier connection to the same peer.
    PeerUp(Box<Hello>),
    /// The connection to a peer is gone.
    PeerDown(NodeId),
    /// Every batch up to this one is as durable as configured.
    Durable(BatchId),
    /// Memory does not answer this read of one key: it waits for the disk. Need not be given.
    Reading(ReadId),
    /// A read from disk has ended.
    Loaded(ReadId, Result<Option<Bytes>, String>),
    /// A page of keys has been read from disk.
    Listed(ReadId, Result<ListedPage, String>),
    /// The disk failed: nothing after this is durable.
    DiskFailed(String),
    /// Compare with every other owner soon, and exchange what differs.
    Repair(crate::anti_entropy::Repair),
    /// The disk has this much room from now on.
    DiskRoom(DiskRoom),
    /// The server is stopping: take no new requests, finish those that run.
    Stop,
}

/// A page of a family as it was read from disk.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ListedPage {
    /// Persisted keys and their values.
    pub entries: Vec<(Bytes, Bytes)>,
    /// Whether there may be more.
    pub more: bool,
}

/// Inputs, effects and messages are moved from list to list several times on their way, and most of those of a busy node are
/// small: whatever is large and rare among them is boxed.
const _: () = {
    assert!(size_of::<Message>() <= 96);
    assert!(size_of::<Input>() <= 128);
    assert!(size_of::<Effect>() <= 112);
};

/// What the server is to do after a turn, in this order.
#[derive(Debug)]
pub enum Effect {
    /// Apply this batch, after all earlier ones; then answer [`Input::Durable`]. Several may be made durable at once.
    Commit(BatchId, Batch),
    /// Read one key; answer [`Input::Loaded`]. The read must see every batch committed in earlier effects or be
    /// older only in keys that those batches did not touch.
    Load(ReadId, Family, Bytes),
    /// Read a page of keys from `from` up to but not including `to`; answer [`Input::Listed`].
    List {
        /// Names the read.
        id: ReadId,
        /// Of which family.
        family: Family,
        /// First persisted key.
        from: Bytes,
        /// End, excluded.
        to: Bytes,
        /// Entries at the most.
        limit: usize,
    },
    /// Send to a peer, in order, if a connection stands; otherwise drop it (the node has been or will be told).
    Send(NodeId, Message),
    /// Answer a client.
    Reply(RequestId, Outcome),
    /// Close the connection to a peer and do not dial it again for a while; the reason is for the log.
    Disconnect(NodeId, String),
    /// A cluster record was adopted and is durable: peers and their addresses are known from now on.
    Adopted(Box<Record>),
    /// The node can no longer serve: its disk failed. Requests are answered with [`Failure::Stopped`].
    Halted(String),
}
