//! Deadlines in one table. A timer that is no longer wanted is not looked for: its owner is gone when it rings.

use std::collections::BTreeMap;

use moim_core::NodeId;
use smallvec::SmallVec;

use crate::message::OpId;

/// What a timer is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Timer {
    /// An operation's time is over.
    Deadline(OpId),
    /// A read has waited long enough for the replicas it asked.
    ReadRetry(OpId),
    /// A write that met a later version has waited long enough for the other owners.
    Restamp(OpId),
    /// Look after the peers.
    PeerTick,
    /// Raise the own heartbeat and tell a few.
    Gossip,
    /// Look how far things have settled.
    Settle,
    /// Offer owed copies again.
    TaskRetry(NodeId),
    /// Look whom to compare with.
    ExchangeTick,
    /// The pace lets an exchange with this peer, of this number, go on.
    ExchangePage(NodeId, u64),
    /// The pace lets this question of a peer that fills its disk be answered.
    Give(u64),
    /// Offer again what is kept for an owner.
    HandOff(NodeId),
    /// A request has waited long enough for owners: others stand in.
    StandIn(OpId),
}

impl Timer {
    /// The timer of the operation whose id is `ahead` greater, if this one is of an operation.
    fn ahead(self, ahead: u32) -> Option<Self> {
        let ahead_of = |OpId(id)| OpId(id.wrapping_add(u64::from(ahead)));
        match self {
            Self::Deadline(id) => Some(Self::Deadline(ahead_of(id))),
            Self::ReadRetry(id) => Some(Self::ReadRetry(ahead_of(id))),
            Self::Restamp(id) => Some(Self::Restamp(ahead_of(id))),
            Self::StandIn(id) => Some(Self::StandIn(ahead_of(id))),
            _ => None,
        }
    }
}

/// A timer, and those of the operations that began right after and wait for the same moment. A busy node sets some
/// hundred thousand a second, which lie in memory for as long as requests may take: as runs they are few.
#[derive(Clone, Copy, Debug)]
struct Run {
    first: Timer,
    more: u32,
}

impl Run {
    /// Takes one more into the run, if it is the next.
    fn extend(&mut self, timer: Timer) -> bool {
        let next = self.more.checked_add(1);
        let is_next = next.is_some_and(|next| self.first.ahead(next) == Some(timer));
        self.more += u32::from(is_next);
        is_next
    }

    fn timers(self) -> impl Iterator<Item = Timer> {
        let rest = (1..=self.more).filter_map(move |ahead| self.first.ahead(ahead));
        std::iter::once(self.first).chain(rest)
    }
}

/// Lists kept at hand: operations of one turn end at a few moments, that of their deadline first of all.
const AT_HAND: usize = 4;

/// Timers by the millisecond at which they ring. Operations of one moment share a list, and the lists of this turn are at
/// hand, so that setting a timer costs a push: in the table lie some thousand others, those of all deadlines.
#[derive(Debug, Default)]
pub(crate) struct Timers {
    by_mono_ms: BTreeMap<u64, Vec<Run>>,
    /// Set after what the table has for the same moment.
    at_hand: SmallVec<[(u64, Vec<Run>); AT_HAND]>,
}

impl Timers {
    pub(crate) fn set(&mut self, at_mono_ms: u64, timer: Timer) {
        let run = Run { first: timer, more: 0 };
        if let Some((_, list)) = self.at_hand.iter_mut().find(|(at, _)| *at == at_mono_ms) {
            if !list.last_mut().is_some_and(|last| last.extend(timer)) {
                list.push(run);
            }
            return;
        }
        if self.at_hand.len() == AT_HAND {
            self.put_away();
        }
        self.at_hand.push((at_mono_ms, vec![run]));
    }

    fn put_away(&mut self) {
        for (at, mut list) in self.at_hand.drain(..) {
            self.by_mono_ms.entry(at).or_default().append(&mut list);
        }
    }

    /// Removes and returns what is due, earliest first, and of one moment in the order in which they were set.
    pub(crate) fn due(&mut self, mono_ms: u64) -> impl Iterator<Item = Timer> + use<> {
        self.put_away();
        let mut due = Vec::new();
        while let Some(entry) =
            self.by_mono_ms.first_entry().filter(|entry| *entry.key() <= mono_ms)
        {
            due.append(&mut entry.remove());
        }
        due.into_iter().flat_map(Run::timers)
    }

    pub(crate) fn next_mono_ms(&self) -> Option<u64> {
        let first = self.by_mono_ms.first_key_value().map(|(&at, _)| at);
        first.into_iter().chain(self.at_hand.iter().map(|&(at, _)| at)).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timers_ring_by_moment_and_then_as_they_were_set() {
        let mut timers = Timers::default();
        let set = [(9, 0), (5, 1), (9, 2), (3, 3), (5, 4), (7, 5), (8, 6), (9, 7), (5, 8), (6, 9)];
        for (at, number) in set {
            timers.set(at, Timer::Give(number));
        }
        assert_eq!(timers.next_mono_ms(), Some(3));
        assert_eq!(timers.due(2).count(), 0);
        let ring = |timers: &mut Timers, at| {
            let numbers = timers.due(at).map(|timer| match timer {
                Timer::Give(number) => number,
                other => panic!("{other:?}"),
            });
            numbers.collect::<Vec<_>>()
        };
        assert_eq!(ring(&mut timers, 6), [3, 1, 4, 8, 9]);
        assert_eq!(timers.next_mono_ms(), Some(7));
        timers.set(9, Timer::Give(10));
        timers.set(1, Timer::Give(11));
        assert_eq!(timers.next_mono_ms(), Some(1));
        assert_eq!(ring(&mut timers, 9), [11, 5, 6, 0, 2, 7, 10]);
        assert_eq!(timers.next_mono_ms(), None);
    }

    #[test]
    fn timers_of_operations_ring_as_they_were_set_in_few_runs() {
        let mut timers = Timers::default();
        let ids = [u64::MAX - 1, u64::MAX, 0, 1, 2, 5, 6, 3];
        let set: Vec<_> = ids.map(OpId).into_iter().map(Timer::Deadline).collect();
        let others = [Timer::PeerTick, Timer::PeerTick, Timer::ReadRetry(OpId(4)), Timer::Give(1)];
        let set = [set, others.into(), vec![Timer::Give(2), Timer::ReadRetry(OpId(5))]].concat();
        for &timer in &set {
            timers.set(7, timer);
        }
        assert_eq!(timers.at_hand[0].1.len(), 3 + 6);
        assert_eq!(timers.due(7).collect::<Vec<_>>(), set);
    }
}
