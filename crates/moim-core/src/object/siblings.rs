//! All versions of a key that no other version has seen, and the causal context that covers them.

use bytes::Bytes;

use super::{Content, Joined, Object, Version};
use crate::NodeId;
use crate::clock::{Actor, Causality, Dot, Epoch, Hlc, VersionVector};

/// How many concurrent versions one key may hold; a put beyond is refused until somebody resolves them. Bounds an
/// object at this many times the pair limit.
pub const SIBLINGS_MAX: usize = 64;

/// A set of versions and one context. Every version's dot is in the context; a dot in the context without a version
/// was overwritten, deleted or has expired.
#[derive(Clone, Debug, Default)]
pub struct Siblings {
    context: VersionVector,
    /// Of each pair of the context, in its order: the time of the last write that changed what the pair says (see
    /// [`Siblings::prune`]).
    ages: Vec<Hlc>,
    /// Sorted by dot.
    versions: Vec<Version>,
    written: Hlc,
}

/// Ages are bookkeeping: replicas may disagree on them for a while and still hold the same.
impl PartialEq for Siblings {
    fn eq(&self, other: &Self) -> bool {
        (&self.context, &self.versions, self.written)
            == (&other.context, &other.versions, other.written)
    }
}

impl Eq for Siblings {}

impl Siblings {
    /// Never written.
    pub fn new() -> Self {
        Self::default()
    }

    /// From decoded parts, if they keep the invariant that every dot is in the context, each once. `ages` is one for
    /// each pair of the context; without them every pair counts as old as the newest write, which keeps it longest.
    pub(super) fn from_parts(
        context: VersionVector,
        ages: Option<Vec<Hlc>>,
        versions: Vec<Version>,
        written: Hlc,
    ) -> Option<Self> {
        let ages = ages.unwrap_or_else(|| vec![written; context.len()]);
        let covered = versions.iter().all(|version| context.contains(version.dot));
        let sorted = versions.windows(2).all(|pair| pair[0].dot < pair[1].dot);
        let valued = versions.iter().all(|version| version.value().is_some());
        let aged = ages.len() == context.len();
        (covered && sorted && valued && aged).then_some(Self { context, ages, versions, written })
    }

    /// Everything seen.
    pub fn context(&self) -> &VersionVector {
        &self.context
    }

    /// The age of each pair of the context, in its order.
    pub(super) fn ages(&self) -> &[Hlc] {
        &self.ages
    }

    /// The concurrent versions, in the order of their dots.
    pub fn versions(&self) -> &[Version] {
        &self.versions
    }

    /// The newest write, deletions included.
    pub fn written(&self) -> Hlc {
        self.written
    }

    /// The dot of the next write that `node` coordinates, by the rule of [`Epoch`]: go on counting only under an epoch
    /// of this `run` that the object at hand contains, otherwise begin a `fresh` one (INV-3).
    ///
    /// An epoch of which the writer has not `seen` every write is passed over, whether those writes left a version or
    /// removed one. So `seen` and the new dot together cover what the writer knows and nothing else, and can be handed
    /// back as its new context. A context that names a deletion without what the deletion covered would bring the
    /// deleted version back: a replica that takes such a context over looks as if it knew more than it does.
    pub fn next_dot(
        &self,
        node: NodeId,
        run: u64,
        seen: &VersionVector,
        fresh: impl FnOnce() -> Epoch,
    ) -> Dot {
        let own = self.context.entries().iter();
        let actor = own
            .filter(|(actor, _)| actor.node == node && actor.epoch.run == run)
            .find(|&&(actor, counter)| seen.get(actor) >= counter)
            .map_or_else(|| Actor { node, epoch: fresh() }, |&(actor, _)| actor);
        let counter = 1 + self.context.get(actor).max(seen.get(actor));
        let dot = Dot { actor, counter };
        assert!(!self.context.contains(dot), "a dot was issued twice");
        dot
    }

    /// Adds a version that replaces exactly what its writer had `seen`.
    pub fn put(&mut self, version: Version, seen: &VersionVector) {
        assert!(!self.context.contains(version.dot), "a dot was issued twice");
        self.forget(seen, version.dot, version.written);
        let at = self.versions.partition_point(|held| held.dot < version.dot);
        self.versions.insert(at, version);
    }

    /// Removes exactly what the deleter had `seen`. The deletion has a dot of its own, so that equal contexts mean
    /// equal siblings.
    pub fn delete(&mut self, dot: Dot, written: Hlc, seen: &VersionVector) {
        assert!(!self.context.contains(dot), "a dot was issued twice");
        self.forget(seen, dot, written);
    }

    /// Joins two histories: a version survives if the other side holds it too or has never seen it. That holds for
    /// what expiry has dropped as well, whichever history is longer, or the order of joining would show.
    pub(super) fn join(&self, incoming: &Self) -> Joined {
        let causality = self.context.compare(&incoming.context);
        let known_here = matches!(causality, Causality::Descendant | Causality::Equal);
        if known_here && !self.loses_to(incoming) {
            return Joined::Unchanged;
        }
        let known_there = matches!(causality, Causality::Ancestor | Causality::Equal);
        if known_there && !incoming.loses_to(self) {
            return Joined::Incoming;
        }
        Joined::Merged(Object::Siblings(self.merged(incoming)))
    }

    /// The same history without the values that expiry has taken.
    #[must_use]
    pub(super) fn without(&self, gone: impl Fn(&Version) -> bool) -> Self {
        let mut kept = self.clone();
        kept.versions.retain(|version| !gone(version));
        kept
    }

    /// Keeps the clock small (REQ-17): removes the oldest pairs whose age is at or below `settled` and of which no
    /// version is held, until `pairs_max` remain or none qualifies. Returns how many went.
    ///
    /// The age of a pair is not when its dot was issued but when the last write changed what the pair says: issued a
    /// dot of it, overwrote or deleted a version of it, or brought it in a client's context. Once that write is settled
    /// every owner has it, none holds a version of the pair, and none is on its way; then there is nothing left that the
    /// pair could tell from a new write. Cutting by the dots' own age would not do: a version of long ago may have been
    /// overwritten a moment ago, and come back as a false sibling from a replica that has not heard of it.
    ///
    /// Ties go by actor, so that replicas that know the same prune the same.
    pub fn prune(&mut self, settled: Hlc, pairs_max: usize) -> usize {
        let excess = self.context.len().saturating_sub(pairs_max);
        if excess == 0 {
            return 0;
        }
        let holds = |actor: Actor| self.versions.iter().any(|version| version.dot.actor == actor);
        let pairs = self.context.entries().iter().zip(&self.ages);
        let mut going: Vec<_> = pairs
            .filter(|((actor, _), age)| **age <= settled && !holds(*actor))
            .map(|((actor, _), age)| (*age, *actor))
            .collect();
        going.sort_unstable();
        going.truncate(excess);
        self.retain_actors(|actor| !going.iter().any(|(_, gone)| *gone == actor));
        going.len()
    }

    /// Versions that somebody who holds `known` of this key, and everything that was written up to `complete`, has not
    /// heard of although it would have: they were removed and forgotten (INV-7). Returns this without them, and whether
    /// there were any; the context stays, so that whoever still holds them learns that they are gone.
    pub fn without_forgotten(&self, known: Option<&Self>, complete: Hlc) -> (Self, bool) {
        let mut kept = self.clone();
        kept.versions.retain(|version| {
            version.written > complete
                || known.is_some_and(|known| known.context.contains(version.dot))
        });
        let any = kept.versions.len() < self.versions.len();
        (kept, any)
    }

    fn retain_actors(&mut self, keep: impl Fn(Actor) -> bool) {
        let actors: Vec<_> = self.context.entries().iter().map(|&(actor, _)| actor).collect();
        let mut kept = actors.iter().map(|&actor| keep(actor));
        self.ages.retain(|_| kept.next().unwrap_or(true));
        self.context.retain(keep);
        assert_eq!(self.ages.len(), self.context.len(), "every pair has an age");
    }

    fn age(&self, actor: Actor) -> Hlc {
        let entries = self.context.entries();
        let at = entries.binary_search_by_key(&actor, |&(known, _)| known);
        at.map_or(Hlc::ZERO, |at| self.ages[at])
    }

    fn forget(&mut self, seen: &VersionVector, dot: Dot, written: Hlc) {
        let before = self.clone();
        self.versions.retain(|held| !seen.contains(held.dot));
        self.context.merge(seen);
        self.context.insert(dot);
        let removed = |actor: Actor| {
            let mut gone = before.versions.iter().filter(|version| seen.contains(version.dot));
            gone.any(|version| version.dot.actor == actor)
        };
        let aged = |&(actor, counter): &(Actor, u64)| match before.age(actor) {
            age if counter > before.context.get(actor) || removed(actor) => age.max(written),
            age => age,
        };
        self.ages = self.context.entries().iter().map(aged).collect();
        self.written = self.written.max(written);
    }

    /// Whether `other` has seen a version of this and no longer holds it.
    fn loses_to(&self, other: &Self) -> bool {
        self.versions.iter().any(|version| other.has_removed(version.dot))
    }

    fn merged(&self, other: &Self) -> Self {
        let survivors = |of: &Self, against: &Self| {
            let kept = |version: &&Version| !against.has_removed(version.dot);
            of.versions.iter().filter(kept).cloned().collect::<Vec<_>>()
        };
        let mut versions = survivors(self, other);
        versions.extend(survivors(other, self));
        versions.sort_by_key(|version| version.dot);
        versions.dedup_by_key(|version| version.dot);
        let mut context = self.context.clone();
        context.merge(&other.context);
        let older = |&(actor, _): &(Actor, u64)| self.age(actor).max(other.age(actor));
        let ages = context.entries().iter().map(older).collect();
        Self { context, ages, versions, written: self.written.max(other.written) }
    }

    /// Has seen it, and holds it no more: it was overwritten, deleted or has expired.
    fn has_removed(&self, dot: Dot) -> bool {
        let holds = self.versions.binary_search_by_key(&dot, |version| version.dot).is_ok();
        !holds && self.context.contains(dot)
    }
}

impl Version {
    /// A value as a `siblings` or `lww` write makes it.
    pub fn of_value(written: Hlc, dot: Dot, value: Bytes) -> Self {
        let created_ms = written.millis();
        Self { written, dot, created_ms, expires_ms: 0, content: Content::Value(value) }
    }
}
