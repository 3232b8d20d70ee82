//! The sums behind *complete* and *settled*, apart from where their inputs come from.

use moim_core::clock::Hlc;

use crate::anti_entropy::Knowledge;

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
    /// Takes in the time, the least floor of all members, and what the last comparisons with the other owners went on.
    pub(super) fn advance(&mut self, now: Hlc, floor: Hlc, compared: Knowledge) {
        if let Some((until, end)) = self.candidate
            && floor >= end
        {
            self.settled = self.settled.max(until);
            self.candidate = None;
        }
        self.complete = self.complete.max(compared.floor);
        let until = compared.complete.min(self.complete);
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

    fn on(floor_ms: u64, complete_ms: u64) -> Knowledge {
        Knowledge { floor: at(floor_ms), complete: at(complete_ms) }
    }

    #[test]
    fn each_step_waits_for_the_one_before() {
        let mut progress = Progress::default();
        progress.advance(at(10), at(8), on(5, 0));
        assert_eq!((progress.complete, progress.settled), (at(5), Hlc::ZERO), "others are not");
        progress.advance(at(20), at(18), on(15, 4));
        assert_eq!(progress.settled, Hlc::ZERO, "copies read before 20 may be on their way");
        progress.advance(at(30), at(19), on(15, 4));
        assert_eq!(progress.settled, Hlc::ZERO, "one still may");
        progress.advance(at(31), at(20), on(15, 4));
        assert_eq!(progress.settled, at(4));
    }

    #[test]
    fn what_is_not_complete_here_is_not_settled() {
        let mut progress = Progress::default();
        progress.advance(at(10), at(9), on(3, 7));
        progress.advance(at(20), at(19), on(3, 7));
        assert_eq!(progress.settled, at(3));
    }

    #[test]
    fn an_owner_that_restarts_voids_what_was_about_to_settle() {
        let mut progress = Progress::default();
        progress.advance(at(10), at(9), on(5, 5));
        progress.begin_again();
        progress.advance(at(20), at(19), on(5, 0));
        assert_eq!(progress.settled, Hlc::ZERO);
    }
}
