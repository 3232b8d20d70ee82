//! What a connection has said about itself: everything that `RESET` forgets.

use bytes::Bytes;
use moim_core::NamespaceId;
use moim_core::object::Context;
use moim_core::quorum::Level;
use moim_node::Request;
use moim_node::api::{Action, Found};

use super::arguments::{Arguments, OwnedArguments};
use super::encode::Protocol;

/// Keys that one connection may watch.
pub(crate) const WATCHED_MAX: usize = 10_000;

/// The state of a connection's conversation.
#[derive(Debug)]
pub(crate) struct Session {
    /// Whether it has logged in, or need not.
    pub(crate) admitted: bool,
    /// Which protocol it speaks.
    pub(crate) protocol: Protocol,
    /// Where its keys live.
    pub(crate) namespace: NamespaceId,
    /// Its read level, if not the namespace's.
    pub(crate) read: Option<Level>,
    /// Its write level, if not the namespace's.
    pub(crate) write: Option<Level>,
    /// Its name (`CLIENT SETNAME`).
    pub(crate) name: String,
    /// Name and version of its library (`CLIENT SETINFO`).
    pub(crate) library: (String, String),
    /// Whether it wants replies.
    pub(crate) replies: Replies,
    /// Commands since `MULTI`.
    pub(crate) transaction: Option<Transaction>,
    /// Keys whose change makes `EXEC` do nothing.
    pub(crate) watched: Vec<Watched>,
    /// The newest ring version it has been told of.
    pub(crate) ring_version: u64,
    /// What it set by `CLIENT NO-EVICT` and `NO-TOUCH`: remembered and shown, as Moim never evicts anyway.
    pub(crate) marks: Marks,
}

/// Settings without effect that `CLIENT LIST` shows.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Marks {
    pub(crate) no_evict: bool,
    pub(crate) no_touch: bool,
}

/// Whether a connection wants replies (`CLIENT REPLY`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Replies {
    /// To every command.
    #[default]
    On,
    /// To none.
    Off,
    /// To all but the next command.
    SkipNext,
}

/// Commands between `MULTI` and `EXEC`.
#[derive(Debug, Default)]
pub(crate) struct Transaction {
    commands: Vec<OwnedArguments>,
    bytes: usize,
    /// One of them was refused, so `EXEC` must be too.
    pub(crate) broken: bool,
}

impl Transaction {
    /// Queues a command, unless the queue would take more than `bytes_max`.
    pub(crate) fn queue(&mut self, arguments: Arguments<'_>, bytes_max: usize) -> bool {
        let command = OwnedArguments::copy(arguments);
        self.bytes += command.weight() + size_of::<OwnedArguments>();
        let fits = self.bytes <= bytes_max;
        if fits {
            self.commands.push(command);
        }
        fits
    }

    /// How many are queued.
    pub(crate) fn len(&self) -> usize {
        self.commands.len()
    }

    /// Bytes they take.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// The commands, in order.
    pub(crate) fn into_commands(self) -> Vec<OwnedArguments> {
        self.commands
    }
}

/// A key as it was when it was watched.
#[derive(Clone, Debug)]
pub(crate) struct Watched {
    pub(crate) namespace: NamespaceId,
    pub(crate) key: Bytes,
    pub(crate) state: WatchedState,
}

/// What tells a watched key from a changed one: what a read covered, and how many values it found (an expiry changes
/// only the latter).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct WatchedState {
    context: Option<Context>,
    versions: usize,
}

impl WatchedState {
    /// Of what a read found.
    pub(crate) fn of(found: &Found) -> Self {
        Self { context: found.context.clone(), versions: found.versions.len() }
    }
}

impl Session {
    /// At the start of a connection, and after `RESET`.
    pub(crate) fn new(admitted: bool, ring_version: u64) -> Self {
        Self {
            admitted,
            protocol: Protocol::default(),
            namespace: NamespaceId(0),
            read: None,
            write: None,
            name: String::new(),
            library: (String::new(), String::new()),
            replies: Replies::default(),
            transaction: None,
            watched: Vec::new(),
            ring_version,
            marks: Marks::default(),
        }
    }

    /// A request for one of its keys.
    pub(crate) fn request(&self, key: &[u8], action: Action) -> Request {
        self.request_in(self.namespace, Bytes::copy_from_slice(key), action)
    }

    /// A request for a key anywhere, at its levels.
    pub(crate) fn request_in(&self, namespace: NamespaceId, key: Bytes, action: Action) -> Request {
        Request { namespace, key, action, r: self.read, w: self.write, timeout_ms: None }
    }

    /// Whether the reply to the command that has just been executed is to be swallowed. `skip` is what
    /// [`Self::take_skip`] said before it ran.
    pub(crate) fn mutes(&self, skip: bool) -> bool {
        skip || self.replies == Replies::Off
    }

    /// Whether the reply to the next command is to be skipped; asked once for each command.
    pub(crate) fn take_skip(&mut self) -> bool {
        let skip = self.replies == Replies::SkipNext;
        if skip {
            self.replies = Replies::On;
        }
        skip
    }
}
