//! Who has voted on a write: one slot for each owner, filled by the owner or, in sloppy namespaces, by a node that
//! stands in for just this owner. However many nodes take a write, a slot counts once.

use moim_core::NodeId;
use moim_core::quorum::{Tally, Verdict};
use smallvec::SmallVec;

use crate::api::Why;

/// What a node has said so far.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Vote {
    Waiting,
    Stored,
    Superseded,
    Failed(Why),
}

/// One owner, and who stands in for it.
#[derive(Debug)]
struct Slot {
    owner: NodeId,
    vote: Vote,
    /// Never one that failed: that one leaves, and the next may come.
    stand_in: Option<(NodeId, Vote)>,
}

impl Slot {
    /// Whether somebody in it has voted like this.
    fn has(&self, wanted: impl Fn(&Vote) -> bool) -> bool {
        wanted(&self.vote) || matches!(&self.stand_in, Some((_, vote)) if wanted(vote))
    }

    fn has_copy(&self) -> bool {
        self.has(|vote| matches!(vote, Vote::Stored))
    }

    fn is_waiting(&self) -> bool {
        self.has(|vote| matches!(vote, Vote::Waiting))
    }

    /// Whether a yes may come soon: an owner that is `late` is heard, but not waited for.
    fn is_hopeful(&self, late: bool) -> bool {
        let stand_in = matches!(self.stand_in, Some((_, Vote::Waiting)));
        stand_in || (matches!(self.vote, Vote::Waiting) && !late)
    }
}

/// What the votes of a round come to so far: looked at after each of them, so it is found out in one pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Standing {
    pub(crate) verdict: Verdict,
    /// Everybody has voted.
    pub(crate) complete: bool,
    /// Somebody holds a later version.
    pub(crate) outranked: bool,
    /// How many stand-ins are wanted: what is missing even if all that are waited for say yes.
    pub(crate) shortage: u8,
}

/// The votes on one round of a write.
#[derive(Debug)]
pub(crate) struct Slots {
    by_owner: SmallVec<[Slot; 3]>,
    needed: u8,
    /// Nodes that could not stand in, and why.
    refused: Vec<(NodeId, Why)>,
    /// Owners that have not answered until now are not counted upon.
    late: bool,
    /// Somebody took it, or may have: it is not certain that it was never written.
    doubtful: bool,
}

impl Slots {
    /// Nobody has voted. `needed` may exceed the owners: the verdict is then `Impossible` from the start.
    pub(crate) fn new(owners: &[NodeId], needed: u8) -> Self {
        let slot = |&owner: &NodeId| Slot { owner, vote: Vote::Waiting, stand_in: None };
        let by_owner = owners.iter().map(slot).collect();
        Self { by_owner, needed, refused: Vec::new(), late: false, doubtful: false }
    }

    /// The next round: nobody has voted, but what became of this one is remembered.
    pub(crate) fn again(&self, owners: &[NodeId]) -> Self {
        Self { doubtful: self.doubtful, ..Self::new(owners, self.needed) }
    }

    /// Reads what a vote will need.
    pub(super) fn touch(&self) -> usize {
        let last = self.by_owner.last().is_some_and(|slot| matches!(slot.vote, Vote::Waiting));
        usize::from(self.needed) + usize::from(last)
    }

    pub(crate) fn needed(&self) -> u8 {
        self.needed
    }

    fn count(&self, wanted: impl Fn(&Slot) -> bool) -> u8 {
        let count = self.by_owner.iter().filter(|slot| wanted(slot)).count();
        u8::try_from(count).expect("owners are at most COPIES_MAX")
    }

    /// How many slots have a copy.
    pub(crate) fn got(&self) -> u8 {
        self.count(Slot::has_copy)
    }

    /// Whether owners alone do not make up the level.
    pub(crate) fn is_sloppy(&self) -> bool {
        self.count(|slot| matches!(slot.vote, Vote::Stored)) < self.needed
    }

    pub(crate) fn standing(&self) -> Standing {
        let mut tally = Tally::new(self.count(|_| true), self.needed);
        let (mut complete, mut outranked, mut counted) = (true, false, 0);
        for slot in &self.by_owner {
            let (has_copy, is_waiting) = (slot.has_copy(), slot.is_waiting());
            if has_copy {
                tally.yes();
            } else if !is_waiting {
                tally.no();
            }
            complete &= !is_waiting;
            outranked |= slot.has(|vote| matches!(vote, Vote::Superseded));
            counted += u8::from(has_copy || slot.is_hopeful(self.late));
        }
        let shortage = self.needed.saturating_sub(counted);
        Standing { verdict: tally.verdict(), complete, outranked, shortage }
    }

    pub(crate) fn waits_for(&self, node: NodeId) -> bool {
        self.by_owner.iter().any(|slot| match &slot.stand_in {
            Some((stand_in, Vote::Waiting)) if *stand_in == node => true,
            _ => slot.owner == node && matches!(slot.vote, Vote::Waiting),
        })
    }

    /// Takes the vote of a node that was asked and is waited for. Returns whether it was.
    pub(crate) fn vote(&mut self, node: NodeId, vote: Vote) -> bool {
        let refused = match &vote {
            // One that is not ready joins what comes, and only does not count.
            Vote::Failed(why) => {
                !matches!(why, Why::NoAnswer(_) | Why::Unreachable | Why::NotReady)
            }
            Vote::Waiting | Vote::Stored | Vote::Superseded => false,
        };
        let counts = self.fill(node, vote);
        self.doubtful |= counts && !refused;
        counts
    }

    /// An owner is not asked, because it cannot be reached.
    pub(crate) fn skip(&mut self, owner: NodeId, why: Why) {
        self.fill(owner, Vote::Failed(why));
    }

    fn fill(&mut self, node: NodeId, vote: Vote) -> bool {
        for slot in &mut self.by_owner {
            if slot.owner == node && matches!(slot.vote, Vote::Waiting) {
                slot.vote = vote;
                return true;
            }
            match &mut slot.stand_in {
                Some((stand_in, known)) if *stand_in == node && matches!(known, Vote::Waiting) => {
                    if let Vote::Failed(why) = vote {
                        self.refused.push((node, why));
                        slot.stand_in = None;
                    } else {
                        *known = vote;
                    }
                    return true;
                }
                _ => {}
            }
        }
        false
    }

    /// Nobody is waited for any more. Returns those that were.
    pub(crate) fn close(&mut self, why: &Why) -> Vec<NodeId> {
        let owners = self.by_owner.iter().filter(|slot| matches!(slot.vote, Vote::Waiting));
        let mut silent: Vec<_> = owners.map(|slot| slot.owner).collect();
        silent.extend(self.by_owner.iter().filter_map(|slot| match slot.stand_in {
            Some((node, Vote::Waiting)) => Some(node),
            _ => None,
        }));
        for &node in &silent {
            self.vote(node, Vote::Failed(why.clone()));
        }
        silent
    }

    /// Owners that have not answered until now are not counted upon.
    pub(crate) fn owners_are_late(&mut self) {
        self.late = true;
    }

    /// Owners for whom somebody may stand in: they failed or are late.
    pub(crate) fn vacant(&self) -> impl Iterator<Item = NodeId> {
        let away = |slot: &&Slot| match slot.vote {
            Vote::Failed(_) => true,
            Vote::Waiting => self.late,
            Vote::Stored | Vote::Superseded => false,
        };
        let vacant = self.by_owner.iter().filter(|slot| slot.stand_in.is_none()).filter(away);
        vacant.map(|slot| slot.owner)
    }

    /// Whether this node has been asked to stand in in this round.
    pub(crate) fn has_asked(&self, node: NodeId) -> bool {
        let stands = |slot: &Slot| slot.stand_in.as_ref().is_some_and(|(known, _)| *known == node);
        self.by_owner.iter().any(stands) || self.refused.iter().any(|(known, _)| *known == node)
    }

    /// `node` was asked to stand in for `owner`.
    pub(crate) fn appoint(&mut self, node: NodeId, owner: NodeId) {
        assert!(!self.has_asked(node), "a node stands in for one owner in a round");
        if let Some(slot) = self.by_owner.iter_mut().find(|slot| slot.owner == owner) {
            slot.stand_in = Some((node, Vote::Waiting));
        }
    }

    /// `node` has made what is written and keeps it: if it is no owner, then for `away`, if somebody is.
    pub(crate) fn is_kept_by(&mut self, node: NodeId, away: Option<NodeId>) {
        self.doubtful = true;
        if let Some(owner) = away
            && self.by_owner.iter().all(|slot| slot.owner != node)
        {
            self.appoint(node, owner);
        }
    }

    /// Who did not take it, and why: owners first.
    pub(crate) fn missing(&self) -> impl Iterator<Item = (NodeId, Why)> {
        let owners = self.by_owner.iter().filter_map(|slot| match &slot.vote {
            Vote::Failed(why) => Some((slot.owner, why.clone())),
            Vote::Waiting | Vote::Stored | Vote::Superseded => None,
        });
        owners.chain(self.refused.iter().cloned())
    }

    /// The bound of the hint store that was full when somebody was asked to stand in, if that is all that became of the
    /// write: certainly nobody holds it.
    pub(crate) fn hints_full(&self) -> Option<u64> {
        if self.doubtful || self.by_owner.iter().any(Slot::is_waiting) {
            return None;
        }
        self.refused.iter().find_map(|(_, why)| match why {
            Why::HintsFull(limit_bytes) => Some(*limit_bytes),
            _ => None,
        })
    }

    /// Owners that lack it and for whom nobody keeps it.
    pub(crate) fn lacking(&self) -> Vec<NodeId> {
        let lacks = |slot: &&Slot| match slot.vote {
            // One that refuses a forgotten version knows better.
            Vote::Stored | Vote::Superseded | Vote::Failed(Why::Forgotten) => false,
            Vote::Failed(_) | Vote::Waiting => true,
        };
        let kept = |slot: &&Slot| matches!(slot.stand_in, Some((_, Vote::Stored)));
        let lacking = self.by_owner.iter().filter(lacks).filter(|slot| !kept(slot));
        lacking.map(|slot| slot.owner).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn slots(needed: u8) -> Slots {
        Slots::new(&[NodeId(1), NodeId(2), NodeId(3)], needed)
    }

    #[test]
    fn a_slot_counts_once_whoever_fills_it() {
        let mut slots = slots(2);
        slots.owners_are_late();
        assert_eq!(slots.vacant().count(), 3);
        slots.appoint(NodeId(4), NodeId(1));
        assert!(slots.vote(NodeId(4), Vote::Stored));
        assert!(slots.vote(NodeId(1), Vote::Stored), "late, but there");
        assert_eq!((slots.got(), slots.standing().verdict), (1, Verdict::Pending));
        assert!(slots.vote(NodeId(2), Vote::Stored));
        assert_eq!((slots.got(), slots.standing().verdict), (2, Verdict::Reached));
        assert!(!slots.is_sloppy(), "owners alone suffice");
    }

    #[test]
    fn stand_ins_are_wanted_only_when_owners_do_not_suffice() {
        let mut slots = slots(2);
        slots.skip(NodeId(1), Why::Unreachable);
        assert_eq!(slots.standing().shortage, 0, "two owners are waited for");
        slots.skip(NodeId(2), Why::Unreachable);
        assert_eq!(slots.standing().shortage, 1);
        assert_eq!(slots.vacant().collect::<Vec<_>>(), [NodeId(1), NodeId(2)]);
        slots.appoint(NodeId(4), NodeId(1));
        assert_eq!(slots.standing().shortage, 0);
        assert!(slots.vote(NodeId(4), Vote::Failed(Why::HintsFull(9))));
        assert_eq!(slots.standing().shortage, 1);
        assert!(slots.has_asked(NodeId(4)), "and not again");
        slots.appoint(NodeId(5), NodeId(1));
        assert!(slots.vote(NodeId(5), Vote::Stored));
        assert!(slots.vote(NodeId(3), Vote::Stored));
        assert_eq!(slots.standing().verdict, Verdict::Reached);
        assert!(slots.is_sloppy());
        assert_eq!(slots.lacking(), [NodeId(2)], "what is kept for 1 is not owed to it");
    }

    #[test]
    fn a_full_hint_store_is_the_reason_only_if_nobody_can_hold_the_write() {
        let full = |votes: &[Vote]| {
            let mut slots = Slots::new(&[NodeId(1), NodeId(2)], 1);
            slots.skip(NodeId(1), Why::Unreachable);
            slots.appoint(NodeId(4), NodeId(1));
            assert!(slots.vote(NodeId(4), Vote::Failed(Why::HintsFull(9))));
            for vote in votes {
                assert!(slots.vote(NodeId(2), vote.clone()));
            }
            slots.hints_full()
        };
        assert_eq!(full(&[]), None, "an owner may still take it");
        assert_eq!(full(&[Vote::Failed(Why::Overloaded)]), Some(9));
        assert_eq!(full(&[Vote::Failed(Why::NoAnswer(1))]), None);
        assert_eq!(full(&[Vote::Failed(Why::Unreachable)]), None, "the answer may have got lost");
        assert_eq!(full(&[Vote::Failed(Why::NotReady)]), None, "it joins without counting");
        assert_eq!(full(&[Vote::Superseded]), None);
    }

    #[test]
    fn silence_ends_with_the_round() {
        let mut slots = slots(3);
        slots.owners_are_late();
        slots.appoint(NodeId(4), NodeId(2));
        assert_eq!(slots.close(&Why::NoAnswer(5)), [NodeId(1), NodeId(2), NodeId(3), NodeId(4)]);
        assert_eq!(slots.standing().verdict, Verdict::Impossible);
        assert_eq!(slots.missing().count(), 4);
    }
}
