//! What goes wrong in a run: which kinds of trouble, how often, and for how long.
//!
//! Most profiles name their faults. The *nemesis* profile draws them: each seed gets some of all kinds, at weights and a
//! pace of its own (swarm testing; Groce et al., 2012). Runs in which everything fails all the time acknowledge little
//! and find little; runs that each leave something out reach states that no fixed mixture does.
//!
//! The pace matters as much as the kinds. Nodes notice silence within a second, agree on who is down within some ten,
//! and repair on schedules: trouble of a hundred milliseconds meets the first, trouble of half a minute the others.

use crate::abilities;
use crate::profile::{Fault, Profile, Shape};
use crate::random::Random;

/// Every kind of trouble, and how much of it there is where it is drawn.
const EVERYTHING: &[(u32, Fault)] = &[
    (4, Fault::Split),
    (3, Fault::Bridge),
    (4, Fault::OneWay),
    (2, Fault::Noise),
    (2, Fault::SlowLink),
    (5, Fault::Crash),
    (2, Fault::Restart),
    (1, Fault::Blackout),
    (2, Fault::PowerCut),
    (4, Fault::Pause),
    (2, Fault::SlowDisk),
    (2, Fault::FullDisk),
    (2, Fault::ReadErrors),
    (1, Fault::DiskFailure),
    (2, Fault::LostDisk),
    (1, Fault::OldDisk),
    (2, Fault::ClockSet),
    (1, Fault::ClockFarOff),
    (2, Fault::ClockDrift),
];

/// How fast clients and trouble follow each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pace {
    /// The pause between faults, in milliseconds.
    pub gap_ms: (u64, u64),
    /// How long a fault lasts, in milliseconds.
    pub lasts_ms: (u64, u64),
    /// A client's usual pause between requests, in milliseconds.
    pub think_ms: (u64, u64),
}

/// Trouble of a moment: what requests and connections notice.
pub const QUICK: Pace = Pace { gap_ms: (200, 1_500), lasts_ms: (50, 2_500), think_ms: (20, 80) };

/// Trouble of seconds: nodes that are skipped, stood in for, and come back.
pub const STEADY: Pace = Pace { gap_ms: (500, 4_000), lasts_ms: (500, 8_000), think_ms: (50, 200) };

/// Trouble of half a minute: members are declared down and repair runs on its schedule.
pub const SLOW: Pace =
    Pace { gap_ms: (1_500, 9_000), lasts_ms: (3_000, 30_000), think_ms: (150, 500) };

/// The trouble of one run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Nemesis {
    /// Kinds and their weights; none for a calm run.
    pub faults: Vec<(u32, Fault)>,
    /// How fast.
    pub pace: Pace,
}

impl Nemesis {
    /// Draws the trouble of a run.
    pub fn draw(profile: Profile, shape: &Shape, random: &mut Random) -> Self {
        if profile != Profile::Nemesis {
            let faults = shape.faults.iter().copied().filter(|&(_, fault)| is_borne(fault));
            return Self { faults: faults.collect(), pace: shape.pace };
        }
        let share = *random.pick(&[250, 400, 600, 1_000]);
        let kept: Vec<_> = EVERYTHING
            .iter()
            .copied()
            .filter(|&(_, fault)| random.chance(share) && is_borne(fault))
            .collect();
        let spread = |&(weight, fault): &(u32, Fault)| {
            (weight * u32::from(*random.pick(&[1_u8, 1, 2, 4])), fault)
        };
        let faults: Vec<_> = kept.iter().map(spread).collect();
        // Nothing drawn: a run of crashes alone.
        let faults = if faults.is_empty() { vec![(1, Fault::Crash)] } else { faults };
        Self { faults, pace: *random.pick(&[QUICK, QUICK, STEADY, STEADY, SLOW]) }
    }

    /// Whether one of these may happen.
    pub fn has_any(&self, of: &[Fault]) -> bool {
        self.faults.iter().any(|(_, fault)| of.contains(fault))
    }
}

/// Whether nodes can bear this by now.
fn is_borne(fault: Fault) -> bool {
    fault != Fault::OldDisk || abilities::NOTICES_OLD_DISKS
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_is_drawn_and_every_kind_is_left_out() {
        let shape = Profile::Nemesis.shape();
        let drawn: Vec<Nemesis> = (0..200)
            .map(|seed| Nemesis::draw(Profile::Nemesis, &shape, &mut Random::new(seed)))
            .collect();
        for &(_, fault) in EVERYTHING.iter().filter(|of| is_borne(of.1)) {
            let with = drawn.iter().filter(|nemesis| nemesis.has_any(&[fault])).count();
            assert!((20..180).contains(&with), "{fault:?} in {with} of 200");
        }
    }
}
