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

/// How many holders have said what.
#[derive(Clone, Copy, Default)]
struct Heard {
    unasked: usize,
    asked: usize,
    /// Of those that were asked, who is counted upon to answer soon.
    awaited: usize,
    /// Who knows of the key.
    known: usize,
    /// Stand-ins without it.
    empty_handed: usize,
}

impl Heard {
    /// Answers that count: those of all who know of the key, and beside such a one, those of stand-ins without it.
    fn answered(&self) -> usize {
        if self.known == 0 { 0 } else { self.known + self.empty_handed }
    }
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

    /// Answers that count.
    pub(super) fn answered(&self) -> u8 {
        u8::try_from(self.heard().answered())
            .expect("owners and stand-ins are at most twice COPIES_MAX")
    }

    /// How many holders have said what.
    fn heard(&self) -> Heard {
        let mut heard = Heard::default();
        for holder in &self.holders {
            match &holder.copy {
                Copy::Unasked => heard.unasked += 1,
                Copy::Asked(_) => {
                    heard.asked += 1;
                    heard.awaited += usize::from(self.is_awaited(holder));
                }
                Copy::Failed(_) => {}
                Copy::Digest(_) | Copy::Object(_) if holder.knows() => heard.known += 1,
                Copy::Digest(_) | Copy::Object(_) => heard.empty_handed += 1,
            }
        }
        heard
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

    pub(super) fn step(&self) -> Step {
        let needed = usize::from(self.job.admitted.needs_r());
        let heard = self.heard();
        let (answered, Heard { asked, unasked, awaited, .. }) = (heard.answered(), heard);
        // Others must be asked: too few owners answer soon.
        if !self.alone && answered + awaited + unasked < needed {
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
        let at_hand =
            |holder: &&Holder| matches!(holder.copy, Copy::Object(_)) && !holder.is_empty_handed();
        let is_at_hand = |state| {
            let mut objects = self.holders.iter().filter(at_hand);
            objects.any(|holder| holder.copy.state() == state)
        };
        let unknown = self.holders.iter().filter(|holder| match &holder.copy {
            Copy::Digest(_) => !is_at_hand(holder.copy.state()),
            _ => false,
        });
        // None, as a rule, and then no allocation.
        let mut fetch: Vec<NodeId> = unknown.map(|holder| holder.node).collect();
        if fetch.is_empty() {
            return Step::Done;
        }
        let is_asked = |holder: &Holder| matches!(holder.copy, Copy::Asked(Want::Object));
        let awaits_object =
            || self.holders.iter().any(|holder| is_asked(holder) && self.is_awaited(holder));
        let nothing_at_hand = !self.holders.iter().any(|holder| at_hand(&holder));
        match () {
            // The value is on its way from the one that was asked for it: wait for that before asking all.
            () if nothing_at_hand && awaits_object() => Step::Wait,
            () if nothing_at_hand => {
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
