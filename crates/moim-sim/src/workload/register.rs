//! Keys with one value: read, written, deleted, written if missing, and left to expire.

use std::collections::BTreeMap;

use moim_core::clock::Hlc;
use moim_core::object::Context;

use super::{Intention, PLACEHOLDER, View};
use crate::history::{Answer, Call, Key, Operation, Use};
use crate::random::Random;

/// A key by its number.
pub(super) fn key(at: usize) -> String {
    format!("r{at}")
}

/// Reads and writes a few keys in every way.
#[derive(Debug)]
pub(super) struct Register {
    keys: usize,
    /// The last version that was read of a key: some writes hand it back.
    known: BTreeMap<String, Hlc>,
}

impl Register {
    /// Of the first so many keys.
    pub(super) fn new(keys: usize) -> Self {
        Self { keys, known: BTreeMap::new() }
    }

    pub(super) fn next(&mut self, view: &View, random: &mut Random) -> Intention {
        let coordinator = *random.pick(&view.up);
        let call = match random.between(0, 99) {
            0..=44 => Call::Read,
            45..=74 => put(0),
            75..=82 => put(view.wall_ms[coordinator] + random.between(1, 3_000)),
            83..=91 => Call::Delete { covers: None },
            _ => Call::PutIfMissing { value: PLACEHOLDER },
        };
        let key = key(random.index(self.keys));
        let known = self.known.get(&key).filter(|_| random.chance(200));
        let takes_context = matches!(call, Call::Put { .. } | Call::Delete { .. });
        let context = known.filter(|_| takes_context).map(|&version| Context::Lww(version));
        Intention { context, ..Intention::new(Key::strict(Use::Register, key), coordinator, call) }
    }

    pub(super) fn learns(&mut self, operation: &Operation) {
        if let Answer::Read { version, .. } = operation.answer {
            self.known.insert(operation.key.name.clone(), version);
        }
    }
}

/// Session keys.
pub(super) const SESSIONS: usize = 2;

/// A session key by its number.
pub(super) fn session_key(at: usize) -> String {
    format!("s{at}")
}

/// Logs in with a session that lasts a second or two, looks at it around the time when it ends, sometimes logs out.
#[derive(Debug, Default)]
pub(super) struct Session;

impl Session {
    #[expect(clippy::unused_self, reason = "as the other habits")]
    pub(super) fn next(&mut self, view: &View, random: &mut Random) -> Intention {
        let coordinator = *random.pick(&view.up);
        let call = match random.between(0, 99) {
            0..=69 => Call::Read,
            70..=89 => put(view.wall_ms[coordinator] + *random.pick(&[200, 1_500, 1_500, 4_000])),
            90..=94 => put(0),
            _ => Call::Delete { covers: None },
        };
        let key = session_key(random.index(SESSIONS));
        Intention::new(Key::strict(Use::Register, key), coordinator, call)
    }
}

/// A put with a deadline, or 0 for none.
pub(super) fn put(expires_ms: u64) -> Call {
    Call::Put { value: PLACEHOLDER, expires_ms, covers: None }
}
