//! One write of one key.

use bytes::Bytes;

use crate::clock::{Dot, Hlc};

/// What a write left behind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Content {
    /// Opaque bytes.
    Value(Bytes),
    /// A tombstone.
    Deleted,
    /// The value expired and was given back; the header stays (INV-7).
    Dropped,
}

/// An immutable version of a value, with its figures (REQ-5).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Version {
    /// When it was written, in hybrid time. Users see its 64 bits as the version number.
    pub written: Hlc,
    /// Which write it is.
    pub dot: Dot,
    /// When the key came into being, in Unix milliseconds, as far as the coordinator knew.
    pub created_ms: u64,
    /// The absolute deadline in Unix milliseconds, 0 for none. Whoever serves a read judges it; nothing is sent.
    pub expires_ms: u64,
    /// The value, or what became of it.
    pub content: Content,
}

impl Version {
    /// The value, if there is one, expired or not.
    pub fn value(&self) -> Option<&Bytes> {
        match &self.content {
            Content::Value(value) => Some(value),
            Content::Deleted | Content::Dropped => None,
        }
    }

    /// Whether the deadline has passed at `wall_ms`.
    pub fn is_expired(&self, wall_ms: u64) -> bool {
        self.expires_ms != 0 && self.expires_ms <= wall_ms
    }

    /// Whether a reader may see the value at `wall_ms`.
    pub fn is_live(&self, wall_ms: u64) -> bool {
        self.value().is_some() && !self.is_expired(wall_ms)
    }

    /// The same version with its value given back.
    #[must_use]
    pub fn without_value(&self) -> Self {
        Self { content: Content::Dropped, ..self.clone() }
    }

    /// The order in which `lww` chooses: time, then dot, then the copy whose value is already gone.
    pub(super) fn precedence(&self) -> (Hlc, Dot, bool) {
        (self.written, self.dot, self.content == Content::Dropped)
    }
}
