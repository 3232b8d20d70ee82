//! Who may hold the key that is read, what they have said, and what to do next: the part of the read path that only
//! decides.

use std::borrow::Cow;

use bytes::Bytes;
use moim_core::clock::Hlc;
use moim_core::object::{Joined, Object};
use moim_core::{NamespaceId, NodeId};
use smallvec::SmallVec;

use super::{Admitted, Job};
use crate::api::Why;
use crate::message::{ReadResult, Want};
use crate::store::Stored;

/// Somebody who may hold the key.
#[derive(Debug)]
pub(super) struct Holder {
    pub(super) node: NodeId,
    /// It is no owner, but may keep the key for one.
    pub(super) stands_in: bool,
    pub(super) copy: Copy,
}

impl Holder {
    /// Whether it knows of the key: as an owner, or because it keeps it for one.
    fn knows(&self) -> bool {
        match self.copy.state() {
            State::Unknown => false,
            State::Known(version) => !self.stands_in || version.is_some(),
        }
    }

    /// Whether it stands in and keeps nothing.
    pub(super) fn is_empty_handed(&self) -> bool {
        self.stands_in && self.copy.state() == State::Known(None)
    }
}

/// What a holder has said so far.
#[derive(Clone, Debug)]
pub(super) enum Copy {
    Unasked,
    Asked(Want),
    Digest(Option<u128>),
    /// Boxed: one of the holders gives it, and all take the room.
    Object(Option<Box<Held>>),
    Failed(Why),
}

impl Copy {
    pub(super) fn state(&self) -> State {
        match self {
            Self::Digest(digest) => State::Known(*digest),
            Self::Object(held) => State::of(held.as_deref()),
            Self::Unasked | Self::Asked(_) | Self::Failed(_) => State::Unknown,
        }
    }
}

/// An object at hand, and its digest, which is looked at several times.
#[derive(Clone, Debug)]
pub(super) struct Held {
    pub(super) stored: Stored,
    digest: u128,
}

impl Held {
    pub(super) fn new(stored: Stored) -> Self {
        let digest = stored.object.digest();
        Self { stored, digest }
    }
}

/// What is known of an owner's version: it may be known that there is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    Unknown,
    Known(Option<u128>),
}

impl State {
    pub(super) fn of(held: Option<&Held>) -> Self {
        Self::Known(held.map(|held| held.digest))
    }
}

/// A read under way.
#[derive(Debug)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each says another thing, and all may hold at once"
)]
pub(crate) struct ReadOp {
    pub(super) job: Job,
    /// In the order in which they are asked.
    pub(super) holders: SmallVec<[Holder; 3]>,
    /// Who was asked, and when last, on the monotonic clock.
    pub(super) asked: SmallVec<[(NodeId, u64); 3]>,
    /// Who was asked because another was late.
    pub(super) hedge: Option<NodeId>,
    /// When it began, in Unix milliseconds, if it is one of those that are looked at again.
    pub(super) sampled_wall_ms: Option<u64>,
    pub(super) mismatch: bool,
    /// Somebody who has answered had to wait for its disk.
    pub(super) from_disk: bool,
    /// Owners that have not answered until now are not counted upon.
    late: bool,
    /// Nobody else may stand in.
    pub(super) alone: bool,
}

/// What a replica is asked.
pub(super) struct Question {
    pub(super) namespace: NamespaceId,
    pub(super) key: Bytes,
    pub(super) want: Want,
    pub(super) deadline_mono_ms: u64,
}

/// What to do next.
pub(super) enum Step {
    Wait,
    /// Ask one more owner for this much.
    AskMore(Want),
    /// Ask somebody who may keep the key for an owner.
    StandIn,
    /// Ask owners that gave a digest for their objects.
    Fetch(Vec<NodeId>),
    /// All that answered agree, or everything they hold is at hand.
    Done,
    Impossible,
}

impl ReadOp {
    pub(super) fn new(job: Job, owners: &[NodeId], sampled_wall_ms: Option<u64>) -> Self {
        let holder = |&node: &NodeId| Holder { node, stands_in: false, copy: Copy::Unasked };
        let holders = owners.iter().map(holder).collect();
        let alone = !job.admitted.sloppy;
        Self {
            job,
            holders,
            asked: SmallVec::new(),
            hedge: None,
            sampled_wall_ms,
            mismatch: false,
            from_disk: false,
            late: false,
            alone,
        }
    }

    pub(super) fn begun(&self) -> Hlc {
        self.job.admitted.begun
    }

    pub(crate) fn waits_for(&self, node: NodeId) -> bool {
        let is_asked = |copy: &Copy| matches!(copy, Copy::Asked(_));
        self.holders.iter().any(|holder| holder.node == node && is_asked(&holder.copy))
    }

    pub(super) fn admitted(&self) -> &Admitted {
        &self.job.admitted
    }

    pub(super) fn has_asked(&self, node: NodeId) -> bool {
        self.holders.iter().any(|holder| holder.node == node)
    }

    pub(super) fn add_stand_in(&mut self, node: NodeId) {
        self.holders.push(Holder { node, stands_in: true, copy: Copy::Unasked });
    }

    /// Owners that have not answered until now are not counted upon.
    pub(super) fn owners_are_late(&mut self) {
        self.late = true;
    }

    pub(super) fn set(&mut self, node: NodeId, copy: Copy) {
        if let Some(holder) = self.holders.iter_mut().find(|holder| holder.node == node) {
            holder.copy = copy;
        }
    }

    /// Notes that a replica is asked, and returns the question.
    pub(super) fn ask(&mut self, node: NodeId, want: Want, mono_ms: u64) -> Question {
        self.set(node, Copy::Asked(want));
        match self.asked.iter_mut().find(|(asked, _)| *asked == node) {
            Some((_, at_ms)) => *at_ms = mono_ms,
            None => self.asked.push((node, mono_ms)),
        }
        let Admitted { target, deadline_mono_ms, .. } = self.admitted();
        Question {
            namespace: target.namespace,
            key: target.shared_key(),
            want,
            deadline_mono_ms: *deadline_mono_ms,
        }
    }

    /// When this replica was asked.
    pub(super) fn asked_mono_ms(&self, node: NodeId) -> Option<u64> {
        self.asked.iter().find(|(asked, _)| *asked == node).map(|(_, at)| *at)
    }

    /// Who was asked and has not answered, and when.
    pub(super) fn late(&self) -> impl Iterator<Item = (NodeId, u64)> + '_ {
        self.asked.iter().filter(|(node, _)| self.waits_for(*node)).copied()
    }

    /// Whether the replica that was asked in addition answered while another is still awaited.
    pub(super) fn hedge_won(&self) -> bool {
        self.hedge.is_some_and(|node| !self.waits_for(node)) && self.late().next().is_some()
    }

    pub(super) fn count(&self, wanted: impl Fn(&Copy) -> bool) -> usize {
        self.holders.iter().filter(|holder| wanted(&holder.copy)).count()
    }

    /// Answers that count: those of all who know of the key, and beside such a one, those of stand-ins without it.
    pub(super) fn answered(&self) -> u8 {
        let known = self.holders.iter().filter(|holder| holder.knows()).count();
        let empty = self.holders.iter().filter(|holder| holder.is_empty_handed()).count();
        let answered = if known == 0 { 0 } else { known + empty };
        u8::try_from(answered).expect("owners and stand-ins are at most twice COPIES_MAX")
    }

    /// Whether owners alone do not make up the level.
    pub(super) fn is_sloppy(&self) -> bool {
        let owners = self.holders.iter().filter(|holder| !holder.stands_in && holder.knows());
        owners.count() < usize::from(self.job.admitted.needs_r())
    }

    /// Whether it was asked and is counted upon to answer soon.
    fn is_awaited(&self, holder: &Holder) -> bool {
        matches!(holder.copy, Copy::Asked(_)) && (holder.stands_in || !self.late)
    }

    /// Whether others must be asked: too few owners answer soon.
    fn wants_stand_in(&self, needed: usize) -> bool {
        let is_hopeful =
            |holder: &&Holder| matches!(holder.copy, Copy::Unasked) || self.is_awaited(holder);
        let hopeful = self.holders.iter().filter(is_hopeful).count();
        !self.alone && usize::from(self.answered()) + hopeful < needed
    }

    pub(super) fn step(&self) -> Step {
        let needed = usize::from(self.job.admitted.needs_r());
        let answered = usize::from(self.answered());
        let asked = self.count(|copy| matches!(copy, Copy::Asked(_)));
        let unasked = self.count(|copy| matches!(copy, Copy::Unasked));
        if self.wants_stand_in(needed) {
            return Step::StandIn;
        }
        if answered + asked + unasked < needed {
            // Those that were asked are still heard, so that the error can say how many answered.
            return if asked > 0 { Step::Wait } else { Step::Impossible };
        }
        if answered + asked < needed {
            return Step::AskMore(self.wanted());
        }
        if answered < needed {
            return Step::Wait;
        }
        self.reconcile()
    }

    /// Somebody must be asked for the object; digests do from the others.
    pub(super) fn wanted(&self) -> Want {
        let object = |copy: &Copy| matches!(copy, Copy::Object(_) | Copy::Asked(Want::Object));
        if self.count(object) == 0 { Want::Object } else { Want::Digest }
    }

    /// Enough have answered: is everything they hold at hand?
    fn reconcile(&self) -> Step {
        let at_hand = self
            .holders
            .iter()
            .filter(|holder| matches!(holder.copy, Copy::Object(_)) && !holder.is_empty_handed());
        let objects: Vec<_> = at_hand.map(|holder| holder.copy.state()).collect();
        let unknown = self.holders.iter().filter(|holder| match &holder.copy {
            Copy::Digest(_) => !objects.contains(&holder.copy.state()),
            _ => false,
        });
        let mut fetch: Vec<NodeId> = unknown.map(|holder| holder.node).collect();
        let is_asked = |holder: &Holder| matches!(holder.copy, Copy::Asked(Want::Object));
        let awaits_object =
            self.holders.iter().any(|holder| is_asked(holder) && self.is_awaited(holder));
        match () {
            () if fetch.is_empty() => Step::Done,
            // The value is on its way from the one that was asked for it: wait for that before asking all.
            () if objects.is_empty() && awaits_object => Step::Wait,
            () if objects.is_empty() => {
                fetch.truncate(1);
                Step::Fetch(fetch)
            }
            () => Step::Fetch(fetch),
        }
    }

    /// Everything at hand, joined.
    pub(super) fn joined(&self) -> Option<Cow<'_, Held>> {
        let held = self.holders.iter().filter_map(|holder| match &holder.copy {
            Copy::Object(Some(held)) => Some(Cow::Borrowed(&**held)),
            _ => None,
        });
        held.reduce(|a, b| match a.stored.object.join(&b.stored.object) {
            Ok(Joined::Incoming) => b,
            Ok(Joined::Merged(object)) => Cow::Owned(Held::new(Stored::new(object))),
            Ok(Joined::Unchanged) | Err(_) => a,
        })
    }
}

/// What a holder's answer says of its copy, or why it says nothing.
pub(super) fn copy_of(result: ReadResult) -> Result<Copy, Why> {
    match result {
        ReadResult::Object(None) => Ok(Copy::Object(None)),
        ReadResult::Object(Some(encoded)) => Stored::decode(encoded)
            .map(|stored| Copy::Object(Some(Box::new(Held::new(stored)))))
            .map_err(|_damaged| Why::Unsupported),
        ReadResult::Digest(digest) => Ok(Copy::Digest(digest)),
        ReadResult::Refused(why) => Err(why),
    }
}

/// The object of any replica, when all that answered hold the same.
pub(super) fn agreed_object(holders: &[Holder]) -> Option<&Object> {
    holders.iter().find_map(|holder| match &holder.copy {
        Copy::Object(held) => held.as_ref().map(|held| &held.stored.object),
        _ => None,
    })
}
