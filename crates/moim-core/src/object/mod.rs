//! What a replica holds of one key, and [`Object::join`], the only way two of them become one (INV-4).
//!
//! There are two kinds, chosen by the namespace when it is founded:
//!
//! - [`Version`] alone (`lww`): the highest (hybrid time, dot) wins, decided for the whole value.
//! - [`Siblings`] (`siblings`): every write that no other write has seen is kept, with one causal context (dotted
//!   version vectors, Preguiça et al. 2012; plain per-server vectors make siblings explode, as Riak 1.x learnt).
//!
//! Invariants, each with a property test: `join` is commutative, associative and idempotent; it never loses a
//! concurrent sibling; objects with equal contexts have equal siblings, which is why [`Object::digest`] hashes the
//! context alone. Left out: when a header or tombstone may go for good (that needs to know what other replicas hold).

mod context;
mod draft;
mod encoding;
mod siblings;
mod version;

#[cfg(test)]
mod laws;
#[cfg(test)]
mod pruning;

pub use context::Context;
pub use draft::Draft;
pub use encoding::{OBJECT_BYTES_MAX, expiry_of, hlc_of, is_plain_value};
pub use siblings::{SIBLINGS_MAX, Siblings};
pub use version::{Content, Version};

use crate::clock::Hlc;
use crate::merkle::Slice;

/// What a replica holds of one key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Object {
    /// Last writer wins: one version.
    Lww(Version),
    /// All concurrent versions and what has been seen.
    Siblings(Siblings),
}

/// What came of joining an incoming object into the one at hand.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Joined {
    /// The object at hand already holds everything that came in.
    Unchanged,
    /// The incoming object holds everything at hand: keep it as it came, bytes and all.
    Incoming,
    /// Neither held the other; this is both.
    Merged(Object),
}

/// The two objects are of different kinds, so one of them belongs to another namespace: a peer's mistake.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KindsDiffer;

/// What may be given back of a stored object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reclaim {
    /// Nothing.
    Keep,
    /// The values; this header stays, so that an older version on a replica that was away cannot come back.
    Shrink(Object),
}

impl Object {
    /// Joins `incoming` into `self`.
    pub fn join(&self, incoming: &Self) -> Result<Joined, KindsDiffer> {
        match (self, incoming) {
            (Self::Lww(held), Self::Lww(new)) => {
                Ok(match held.precedence().cmp(&new.precedence()) {
                    std::cmp::Ordering::Less => Joined::Incoming,
                    _ => Joined::Unchanged,
                })
            }
            (Self::Siblings(held), Self::Siblings(new)) => Ok(held.join(new)),
            _ => Err(KindsDiffer),
        }
    }

    /// Whether everything in `other` is in `self`.
    pub fn covers(&self, other: &Self) -> bool {
        matches!(self.join(other), Ok(Joined::Unchanged))
    }

    /// The versions held, values, deletions and expired ones alike.
    pub fn versions(&self) -> &[Version] {
        match self {
            Self::Lww(version) => std::slice::from_ref(version),
            Self::Siblings(siblings) => siblings.versions(),
        }
    }

    /// The versions a reader may see at `wall_ms`.
    pub fn live(&self, wall_ms: u64) -> impl Iterator<Item = &Version> {
        self.versions().iter().filter(move |version| version.is_live(wall_ms))
    }

    /// The time of the newest write, deletions included.
    pub fn written(&self) -> Hlc {
        match self {
            Self::Lww(version) => version.written,
            Self::Siblings(siblings) => siblings.written(),
        }
    }

    /// What a client hands back to say which versions it has seen.
    pub fn context(&self) -> Context {
        match self {
            Self::Lww(version) => Context::Lww(version.written),
            Self::Siblings(siblings) => Context::Siblings(siblings.context().clone()),
        }
    }

    /// 128 bits that are equal exactly when the versions are. Values, creation times and what expiry has dropped do
    /// not count: they follow from the versions.
    pub fn digest(&self) -> u128 {
        match self {
            Self::Lww(version) => {
                let mut bytes = [0; encoding::IDENTITY_BYTES];
                encoding::put_identity(&mut &mut bytes[..], version);
                xxhash_rust::xxh3::xxh3_128(&bytes)
            }
            Self::Siblings(siblings) => {
                let mut bytes = Vec::with_capacity(64);
                encoding::put_vector(&mut bytes, siblings.context());
                xxhash_rust::xxh3::xxh3_128(&bytes)
            }
        }
    }

    /// The same history without any value: joined into a copy, it takes away just what this object holds.
    #[must_use]
    pub fn emptied(&self) -> Self {
        match self {
            Self::Lww(version) => Self::Lww(version.without_value()),
            Self::Siblings(siblings) => Self::Siblings(siblings.without(|_| true)),
        }
    }

    /// What of this object may be given back at `wall_ms`: values whose expiry slice has passed. Not sooner, or replicas
    /// that give back at different moments would differ in what their Merkle trees count.
    pub fn reclaim(&self, wall_ms: u64) -> Reclaim {
        let is_due = |version: &Version| Slice::of(version).has_passed(wall_ms);
        match self {
            Self::Lww(version) if version.value().is_some() && is_due(version) => {
                Reclaim::Shrink(Self::Lww(version.without_value()))
            }
            Self::Siblings(siblings) if siblings.versions().iter().any(is_due) => {
                Reclaim::Shrink(Self::Siblings(siblings.without(is_due)))
            }
            _ => Reclaim::Keep,
        }
    }
}
