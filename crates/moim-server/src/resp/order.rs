//! Keys that commands of one connection have in progress, so that a pipeline keeps its order.
//!
//! Reads of one key run at once, and so do writes: the node stamps them in the order in which it gets them. A read waits
//! for a write before it, because a write may be held back until the clock's bound is durable while a read is not. A
//! command that reads and writes in one runs at the key's owner, which knows nothing of this connection: it waits for
//! all that the connection has in progress on that key, and whatever follows on the key waits for it. Other keys go on.

use std::collections::HashMap;

use foldhash::fast::FixedState;
use moim_core::NamespaceId;
use moim_node::Request;
use moim_node::api::Action;

/// A key, by 64 bits of its hash. Two keys that share them wait for each other without need; nothing worse.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct KeyTag(u64);

impl KeyTag {
    /// Of a request's key.
    pub(crate) fn of(request: &Request) -> Self {
        Self::new(request.namespace, &request.key)
    }

    fn new(namespace: NamespaceId, key: &[u8]) -> Self {
        Self(moim_core::fingerprint(key).wrapping_add(u64::from(namespace.0).rotate_left(32)))
    }
}

/// How a request uses its key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Access {
    /// Looks at it.
    Read,
    /// Replaces it, whatever it was.
    Write,
    /// Reads and writes in one.
    Update,
}

impl Access {
    /// Of a request.
    pub(crate) fn of(request: &Request) -> Self {
        match request.action {
            Action::Get | Action::Inspect | Action::Keys { .. } => Self::Read,
            Action::Put { .. } => Self::Write,
            // A delete without a context reads first in a `siblings` namespace.
            Action::Delete { .. } | Action::Update(_) => Self::Update,
        }
    }
}

/// Requests in progress on one key.
#[derive(Clone, Copy, Debug, Default)]
struct Uses {
    reads: u32,
    writes: u32,
    updates: u32,
}

impl Uses {
    fn of(&mut self, access: Access) -> &mut u32 {
        match access {
            Access::Read => &mut self.reads,
            Access::Write => &mut self.writes,
            Access::Update => &mut self.updates,
        }
    }
}

/// The keys in progress.
#[derive(Debug, Default)]
pub(crate) struct KeysInProgress {
    uses: HashMap<KeyTag, Uses, FixedState>,
}

impl KeysInProgress {
    /// Whether a request may run now.
    pub(crate) fn admit(&self, key: KeyTag, access: Access) -> bool {
        let Some(uses) = self.uses.get(&key) else { return true };
        match access {
            Access::Read => uses.writes == 0 && uses.updates == 0,
            Access::Write => uses.updates == 0,
            Access::Update => false,
        }
    }

    /// A request runs.
    pub(crate) fn enter(&mut self, key: KeyTag, access: Access) {
        *self.uses.entry(key).or_default().of(access) += 1;
    }

    /// A request has ended.
    pub(crate) fn leave(&mut self, key: KeyTag, access: Access) {
        let Some(uses) = self.uses.get_mut(&key) else { return };
        let count = uses.of(access);
        assert!(*count > 0, "a request ended that had not begun");
        *count -= 1;
        if uses.reads == 0 && uses.writes == 0 && uses.updates == 0 {
            self.uses.remove(&key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_waits_for_what() {
        let (a, b) = (KeyTag::new(NamespaceId(0), b"a"), KeyTag::new(NamespaceId(0), b"b"));
        for (first, admitted) in [
            (Access::Read, [true, true, false]),
            (Access::Write, [false, true, false]),
            (Access::Update, [false, false, false]),
        ] {
            let mut keys = KeysInProgress::default();
            keys.enter(a, first);
            let then = [Access::Read, Access::Write, Access::Update];
            assert_eq!(then.map(|second| keys.admit(a, second)), admitted, "{first:?}");
            assert!(keys.admit(b, Access::Update), "another key");
            keys.leave(a, first);
            assert!(keys.admit(a, Access::Update));
            assert!(keys.uses.is_empty(), "ended requests leave nothing behind");
        }
    }

    #[test]
    fn one_key_in_two_namespaces_is_two_keys() {
        assert_ne!(KeyTag::new(NamespaceId(0), b"a"), KeyTag::new(NamespaceId(1), b"a"));
    }
}
