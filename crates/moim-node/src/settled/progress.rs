//! The sums behind *complete* and *settled*, apart from where their inputs come from.

use std::collections::VecDeque;

use moim_core::clock::Hlc;

/// Points that a [`Track`] remembers. At one a second this is two minutes; comparisons that take longer count from an
/// older point, which is always safe.
const POINTS_MAX: usize = 128;

/// A time that grows, and when it was known to have grown. Both are hybrid times of the same clock or safely below it.
#[derive(Debug, Default)]
pub(super) struct Track {
    /// (when, how far), both growing.
    points: VecDeque<(Hlc, Hlc)>,
}

impl Track {
    /// At `at` it is known to have reached `value`. Returns whether it had not been further before.
    pub(super) fn grow(&mut self, at: Hlc, value: Hlc) -> bool {
        let last = self.last();
        if value <= last {
            return value == last;
        }
        if self.points.len() >= POINTS_MAX {
            // Every other point of the older half goes: long comparisons still find one not too far back.
            let mut index = 0;
            self.points.retain(|_| {
                index += 1;
                index > POINTS_MAX / 2 || index % 2 == 0
            });
        }
        self.points.push_back((at, value));
        true
    }

    /// How far it is known to have reached.
    pub(super) fn last(&self) -> Hlc {
        self.points.back().map_or(Hlc::ZERO, |&(_, reached)| reached)
    }

    /// How far it was known to have reached strictly before `moment`. Strictly, because what happens within one tick of
    /// the clock has no order.
    pub(super) fn before(&self, moment: Hlc) -> Hlc {
        let after = self.points.partition_point(|&(at, _)| at < moment);
        after.checked_sub(1).map_or(Hlc::ZERO, |last| self.points[last].1)
    }
}

/// How far one partition has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Progress {
    /// Everything up to here that was live at any owner is here.
    pub(super) complete: Hlc,
    /// What will be settled (first) once every floor has passed a moment (second).
    candidate: Option<(Hlc, Hlc)>,
    /// Nothing replaced up to here can come back.
    pub(super) settled: Hlc,
}

impl Progress {
    /// Takes in what is known now: the time and the least floor of all members; what that floor was, and how far all
    /// other owners were known to be complete, when the oldest of the last comparisons with them began.
    pub(super) fn advance(
        &mut self,
        (now, floor): (Hlc, Hlc),
        floor_compared: Hlc,
        everywhere_compared: Hlc,
    ) {
        if let Some((until, compared)) = self.candidate
            && floor >= compared
        {
            self.settled = self.settled.max(until);
            self.candidate = None;
        }
        self.complete = self.complete.max(floor_compared);
        let until = everywhere_compared.min(self.complete);
        if self.candidate.is_none() && until > self.settled {
            self.candidate = Some((until, now));
        }
        assert!(self.settled <= self.complete, "settled what is not complete");
    }

    /// An owner may have forgotten how far it was complete.
    pub(super) fn begin_again(&mut self) {
        self.candidate = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64) -> Hlc {
        Hlc::from_millis(ms)
    }

    #[test]
    fn a_track_answers_with_what_was_known_before() {
        let mut track = Track::default();
        assert_eq!(track.before(at(9)), Hlc::ZERO);
        track.grow(at(10), at(5));
        track.grow(at(20), at(5));
        track.grow(at(30), at(25));
        assert_eq!(track.before(at(10)), Hlc::ZERO, "the same moment has no order");
        assert_eq!(track.before(at(25)), at(5));
        assert_eq!(track.before(at(31)), at(25));
    }

    #[test]
    fn a_track_is_bounded_and_never_says_too_much() {
        let mut track = Track::default();
        for ms in 1..10_000 {
            track.grow(at(ms), at(ms));
        }
        assert!(track.points.len() <= POINTS_MAX);
        for ms in 1..10_000 {
            assert!(track.before(at(ms)) < at(ms));
        }
        assert_eq!(track.before(at(10_000)), at(9_999));
    }

    #[test]
    fn each_step_waits_for_the_one_before() {
        let mut progress = Progress::default();
        progress.advance((at(10), at(8)), at(5), Hlc::ZERO);
        assert_eq!((progress.complete, progress.settled), (at(5), Hlc::ZERO), "others are not");
        progress.advance((at(20), at(18)), at(15), at(4));
        assert_eq!(progress.settled, Hlc::ZERO, "copies read before 20 may be on their way");
        progress.advance((at(30), at(19)), at(15), at(4));
        assert_eq!(progress.settled, Hlc::ZERO, "one still may");
        progress.advance((at(31), at(20)), at(15), at(4));
        assert_eq!(progress.settled, at(4));
    }

    #[test]
    fn what_is_not_complete_here_is_not_settled() {
        let mut progress = Progress::default();
        progress.advance((at(10), at(9)), at(3), at(7));
        progress.advance((at(20), at(19)), at(3), at(7));
        assert_eq!(progress.settled, at(3));
    }

    #[test]
    fn an_owner_that_restarts_voids_what_was_about_to_settle() {
        let mut progress = Progress::default();
        progress.advance((at(10), at(9)), at(5), at(5));
        progress.begin_again();
        progress.advance((at(20), at(19)), at(5), Hlc::ZERO);
        assert_eq!(progress.settled, Hlc::ZERO);
    }
}
