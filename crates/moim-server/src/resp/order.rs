//! Keys that commands of one connection have in progress, so that a pipeline keeps its order.
//!
//! The node keeps plain reads and writes of one key in order, so these run at once. A command that reads and writes in
//! one runs at the key's owner, which knows nothing of this connection: it waits until the connection has nothing else
//! in progress on that key, and whatever follows on the key waits for it. Other keys go on.

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
    /// Reads or writes: in order by themselves.
    Plain,
    /// Reads and writes in one.
    Exclusive,
}

impl Access {
    /// Of a request.
    pub(crate) fn of(request: &Request) -> Self {
        match request.action {
            Action::Get | Action::Put { .. } | Action::Inspect | Action::Keys { .. } => Self::Plain,
            // A delete without a context reads first in a `siblings` namespace.
            Action::Delete { .. } | Action::Update(_) => Self::Exclusive,
        }
    }
}

#[derive(Clone, Copy, Debug, Default)]
struct Uses {
    plain: u32,
    exclusive: u32,
}

/// The keys in progress.
#[derive(Debug, Default)]
pub(crate) struct KeysInProgress {
    uses: HashMap<KeyTag, Uses, FixedState>,
}

impl KeysInProgress {
    /// Whether a request may run now.
    pub(crate) fn admit(&self, key: KeyTag, access: Access) -> bool {
        match (self.uses.get(&key), access) {
            (None, _) => true,
            (Some(uses), Access::Plain) => uses.exclusive == 0,
            (Some(_), Access::Exclusive) => false,
        }
    }

    /// A request runs.
    pub(crate) fn enter(&mut self, key: KeyTag, access: Access) {
        let uses = self.uses.entry(key).or_default();
        match access {
            Access::Plain => uses.plain += 1,
            Access::Exclusive => uses.exclusive += 1,
        }
    }

    /// A request has ended.
    pub(crate) fn leave(&mut self, key: KeyTag, access: Access) {
        let Some(uses) = self.uses.get_mut(&key) else { return };
        let count = match access {
            Access::Plain => &mut uses.plain,
            Access::Exclusive => &mut uses.exclusive,
        };
        assert!(*count > 0, "a request ended that had not begun");
        *count -= 1;
        if uses.plain == 0 && uses.exclusive == 0 {
            self.uses.remove(&key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_plain_requests_share_a_key() {
        let (a, b) = (KeyTag::new(NamespaceId(0), b"a"), KeyTag::new(NamespaceId(0), b"b"));
        let mut keys = KeysInProgress::default();
        keys.enter(a, Access::Plain);
        assert!(keys.admit(a, Access::Plain));
        assert!(!keys.admit(a, Access::Exclusive));
        keys.leave(a, Access::Plain);
        keys.enter(a, Access::Exclusive);
        assert!(!keys.admit(a, Access::Plain));
        assert!(!keys.admit(a, Access::Exclusive));
        assert!(keys.admit(b, Access::Exclusive));
        keys.leave(a, Access::Exclusive);
        assert!(keys.admit(a, Access::Exclusive));
        assert!(keys.uses.is_empty(), "ended requests leave nothing behind");
    }

    #[test]
    fn one_key_in_two_namespaces_is_two_keys() {
        assert_ne!(KeyTag::new(NamespaceId(0), b"a"), KeyTag::new(NamespaceId(1), b"a"));
    }
}
