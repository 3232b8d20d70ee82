//! When an object holds nothing but the memory of what is gone, and when that may go too.

use bytes::Bytes;
use moim_core::NamespaceId;
use moim_core::clock::Hlc;
use moim_core::merkle::Slice;
use moim_core::object::{Content, Object, Reclaim};

use crate::namespace::Namespace;
use crate::node::Node;
use crate::options::Mutation;
use crate::replica::Target;
use crate::store::Stored;

/// What may be done with a stored object.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Forget {
    /// Nothing.
    Keep,
    /// It may be removed, key and all.
    Whole,
    /// Its clock has pairs to lose.
    Pairs,
}

/// What is known when an object is judged.
#[derive(Clone, Copy, Debug)]
pub(super) struct Moment {
    pub(super) settled: Hlc,
    pub(super) wall_ms: u64,
    /// How much later than ours another replica's clock may see a deadline pass.
    pub(super) clock_error_ms: u64,
    pub(super) clock_pairs_max: usize,
}

impl Moment {
    /// Judges an object.
    ///
    /// An object without a value that anybody may still serve goes when it is settled, or, where lives are bounded,
    /// when nothing older can be alive: a version stamped before it expires at the latest `max_ttl_ms` after that stamp,
    /// because deadlines are cut to that and stamps are never behind the clock that cut them.
    pub(super) fn judge(&self, object: &Object, max_ttl_ms: Option<u64>) -> Forget {
        let gone = object.versions().iter().all(|version| match version.content {
            Content::Deleted | Content::Dropped => true,
            Content::Value(_) => self.has_passed(Slice::of(version)),
        });
        if gone {
            let written = object.written();
            let outlived = max_ttl_ms
                .is_some_and(|ttl_ms| self.is_past(written.millis().saturating_add(ttl_ms)));
            return if written <= self.settled || outlived { Forget::Whole } else { Forget::Keep };
        }
        match object {
            Object::Siblings(siblings) if siblings.context().len() > self.clock_pairs_max => {
                Forget::Pairs
            }
            _ => Forget::Keep,
        }
    }

    /// Whether a version has fallen out of every replica's trees.
    fn has_passed(&self, slice: Slice) -> bool {
        slice.has_passed(self.wall_ms.saturating_sub(2 * self.clock_error_ms))
    }

    /// Whether a deadline has passed on every clock.
    fn is_past(&self, deadline_ms: u64) -> bool {
        deadline_ms.saturating_add(2 * self.clock_error_ms) <= self.wall_ms
    }
}

impl Node {
    pub(super) fn moment(&self, target: &Target) -> Moment {
        let settled = match self.options.mutation {
            // The planted fault forgets what is a few seconds old, whoever may not have heard of it.
            Some(Mutation::RetireTombstonesByAge) => {
                Hlc::from_millis(self.now.wall_ms.saturating_sub(MUTANT_GRACE_MS))
            }
            _ => self.settled(target.partition, target.namespace),
        };
        Moment {
            settled,
            wall_ms: self.now.wall_ms,
            clock_error_ms: self.options.max_clock_skew_ms,
            clock_pairs_max: self.options.clock_pairs_max,
        }
    }

    /// Whether nothing that was stamped so early, nor anything older, can be alive on any clock: lives are bounded in this
    /// namespace (see [`Moment::judge`]).
    pub(crate) fn is_outlived(&self, namespace: NamespaceId, written: Hlc) -> bool {
        let policy = self.namespaces.get(namespace);
        let Some(max_ttl_ms) = policy.and_then(|policy| policy.max_ttl_ms) else { return false };
        let margin_ms = 2 * self.options.max_clock_skew_ms;
        written.millis().saturating_add(max_ttl_ms).saturating_add(margin_ms) <= self.now.wall_ms
    }

    /// Forgets what may be forgotten of a key whose object is at hand.
    pub(crate) fn forget(&mut self, target: &Target, stored: Option<Stored>) {
        let Some(stored) = stored else { return };
        let policy = self.namespaces.get(target.namespace);
        let max_ttl_ms = policy.and_then(|policy: &Namespace| policy.max_ttl_ms);
        match self.moment(target).judge(&stored.object, max_ttl_ms) {
            Forget::Keep => {}
            Forget::Whole => {
                self.figures.forgotten += 1;
                self.store.remove(&target.data_key);
            }
            Forget::Pairs => {
                let pruned = self.pruned(target, stored.clone());
                if pruned.object.digest() != stored.object.digest() {
                    self.store.put(target.data_key.clone(), pruned);
                }
            }
        }
    }

    /// The object with a clock as small as may be (REQ-17). What must stay beyond the bound is counted. Values that
    /// compaction may give back are given back here, or they would hold on to their pairs while they are in memory.
    pub(crate) fn pruned(&mut self, target: &Target, stored: Stored) -> Stored {
        let pairs_max = self.options.clock_pairs_max;
        let Object::Siblings(siblings) = &stored.object else { return stored };
        if siblings.context().len() <= pairs_max {
            return stored;
        }
        let due_ms = self.now.wall_ms.saturating_sub(self.options.max_clock_skew_ms);
        let mut small = match stored.object.reclaim(due_ms) {
            Reclaim::Shrink(Object::Siblings(shrunk)) => shrunk,
            Reclaim::Shrink(Object::Lww(_)) | Reclaim::Keep => siblings.clone(),
        };
        let gone = small.prune(self.settled(target.partition, target.namespace), pairs_max);
        self.figures.clock_pairs_pruned += gone as u64;
        if small.context().len() > pairs_max {
            self.figures.clocks_above_max += 1;
        }
        if gone == 0 { stored } else { Stored::new(Object::Siblings(small)) }
    }
}

/// How long the planted fault keeps a tombstone, in milliseconds.
const MUTANT_GRACE_MS: u64 = 2_000;

/// Whether an encoded object is worth a closer look. Reads the fixed places only.
pub(super) fn may_be_forgotten(encoded: &Bytes, wall_ms: u64) -> bool {
    let expires_ms = moim_core::object::expiry_of(encoded);
    let expired = expires_ms != 0 && expires_ms <= wall_ms;
    expired || !moim_core::object::is_plain_value(encoded)
}

#[cfg(test)]
mod tests {
    use moim_core::NodeId;
    use moim_core::clock::{Actor, Dot, Epoch};
    use moim_core::object::Version;

    use super::*;

    const ERROR_MS: u64 = 5;

    fn moment(settled_ms: u64, wall_ms: u64) -> Moment {
        let settled = Hlc::from_millis(settled_ms);
        Moment { settled, wall_ms, clock_error_ms: ERROR_MS, clock_pairs_max: 32 }
    }

    fn version(written_ms: u64, expires_ms: u64) -> Version {
        let epoch = Epoch { run: 1, serial: 0 };
        let dot = Dot { actor: Actor { node: NodeId(1), epoch }, counter: 1 };
        let value = Bytes::from_static(b"v");
        Version { expires_ms, ..Version::of_value(Hlc::from_millis(written_ms), dot, value) }
    }

    fn tombstone(written_ms: u64) -> Object {
        Object::Lww(Version { content: Content::Deleted, ..version(written_ms, 0) })
    }

    #[test]
    fn a_tombstone_goes_when_it_is_settled_however_old_it_is() {
        assert_eq!(moment(99, 1_000_000).judge(&tombstone(100), None), Forget::Keep);
        assert_eq!(moment(100, 101).judge(&tombstone(100), None), Forget::Whole);
    }

    #[test]
    fn a_live_value_never_goes() {
        let forever = Object::Lww(version(100, 0));
        assert_eq!(moment(1_000, 1_000).judge(&forever, Some(10)), Forget::Keep);
        let later = Object::Lww(version(100, 2_000));
        assert_eq!(moment(1_000, 1_000).judge(&later, Some(10)), Forget::Keep);
    }

    #[test]
    fn where_lives_are_bounded_nothing_is_needed_longer_than_the_longest_life() {
        let bounded = |wall_ms| moment(0, wall_ms).judge(&tombstone(100), Some(1_000));
        assert_eq!(bounded(1_100 + 2 * ERROR_MS - 1), Forget::Keep);
        assert_eq!(bounded(1_100 + 2 * ERROR_MS), Forget::Whole);
    }

    /// An older, longer-lived version may be on a replica that was away: the header of the shorter one stays.
    #[test]
    fn a_header_outlives_its_value_unless_it_is_settled() {
        let brief = Object::Lww(version(100, 200));
        assert_eq!(moment(99, 100_000).judge(&brief, None), Forget::Keep);
        assert_eq!(moment(100, 100_000).judge(&brief, None), Forget::Whole);
        assert_eq!(moment(99, 100_000).judge(&brief, Some(1_000_000)), Forget::Keep);
    }
}
