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

/// Lists kept at hand: operations of one turn end at a few moments, that of their deadline first of all.
const AT_HAND: usize = 4;

/// Timers by the millisecond at which they ring. Operations of one moment share a list, and the lists of this turn are at
/// hand, so that setting a timer costs a push: in the table lie some thousand others, those of all deadlines.
#[derive(Debug, Default)]
pub(crate) struct Timers {
    by_mono_ms: BTreeMap<u64, Vec<Timer>>,
    /// Set after what the table has for the same moment.
    at_hand: SmallVec<[(u64, Vec<Timer>); AT_HAND]>,
}

impl Timers {
    pub(crate) fn set(&mut self, at_mono_ms: u64, timer: Timer) {
        if let Some((_, list)) = self.at_hand.iter_mut().find(|(at, _)| *at == at_mono_ms) {
            return list.push(timer);
        }
        if self.at_hand.len() == AT_HAND {
            self.put_away();
        }
        self.at_hand.push((at_mono_ms, vec![timer]));
    }

    fn put_away(&mut self) {
        for (at, mut list) in self.at_hand.drain(..) {
            self.by_mono_ms.entry(at).or_default().append(&mut list);
        }
    }

    /// Removes and returns what is due, earliest first, and of one moment in the order in which they were set.
    pub(crate) fn due(&mut self, mono_ms: u64) -> Vec<Timer> {
        self.put_away();
        let mut due = Vec::new();
        while let Some(entry) =
            self.by_mono_ms.first_entry().filter(|entry| *entry.key() <= mono_ms)
        {
            due.extend(entry.remove());
        }
        due
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
        assert_eq!(timers.due(2), []);
        let ring = |timers: &mut Timers, at| {
            let numbers = timers.due(at).into_iter().map(|timer| match timer {
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
}
