//! Kinds of runs: which faults there are, how many nodes, and which levels requests use.
//!
//! A profile per kind of trouble rather than all trouble in every run: a run in which everything fails all the time
//! acknowledges little, and so promises little that could be broken.

use std::fmt;
use std::str::FromStr;

use crate::abilities;
use crate::check::Property;
use crate::nemesis::{Pace, QUICK, STEADY};
use crate::random::Random;

/// A kind of run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Profile {
    /// Nothing fails.
    Calm,
    /// Messages are lost, repeated and overtaken although connections stand.
    Lossy,
    /// Links are cut, both ways or one.
    Partitions,
    /// Nodes crash, one at a time or a few, and disks are slow.
    Crashes,
    /// All nodes crash at once.
    Blackouts,
    /// Nodes stop and go on, messages vanish, links are slow.
    Hanging,
    /// Clocks are seconds apart and are set, sometimes beyond what nodes tolerate.
    Clocks,
    /// Disks are lost or replaced by old copies, one at a time, and little else fails.
    LostDisks,
    /// Several owners of a key at once cannot be reached for seconds, and others stand in for them.
    StandIns,
    /// A bit of everything.
    Mixed,
    /// Every kind of trouble, some of it in each run, at a pace that the run draws.
    Nemesis,
    /// Five nodes and copies, W=3 and R=3.
    N5W3R3,
    /// Five nodes and copies, W=2 and R=4.
    N5W2R4,
    /// Five nodes and copies, W=1 and R=5.
    N5W1R5,
    /// Five nodes and copies, W=5 and R=1.
    N5W5R1,
    /// Five nodes and copies, W=1 and R=1.
    N5W1R1,
    /// Three copies, W=1 and R=1: eventual consistency.
    Weak,
}

/// Every profile.
pub const PROFILES: [Profile; 17] = [
    Profile::Calm,
    Profile::Lossy,
    Profile::Partitions,
    Profile::Crashes,
    Profile::Blackouts,
    Profile::Hanging,
    Profile::Clocks,
    Profile::LostDisks,
    Profile::StandIns,
    Profile::Mixed,
    Profile::Nemesis,
    Profile::N5W3R3,
    Profile::N5W2R4,
    Profile::N5W1R5,
    Profile::N5W5R1,
    Profile::N5W1R1,
    Profile::Weak,
];

/// What goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Some nodes are cut off from the others.
    Split,
    /// Two sides are cut off from each other, but one node reaches both.
    Bridge,
    /// One direction between two nodes is cut.
    OneWay,
    /// Messages are lost, repeated and overtaken.
    Noise,
    /// A node crashes and starts again.
    Crash,
    /// All nodes crash and start again.
    Blackout,
    /// Disks are of different speed, and as soon as a client hears of an acknowledgement many nodes crash at once.
    PowerCut,
    /// A node stands still and goes on.
    Pause,
    /// A link is slow.
    SlowLink,
    /// A disk is slow.
    SlowDisk,
    /// A disk is full: nothing becomes durable on it for a while.
    FullDisk,
    /// A disk fails some reads for a while.
    ReadErrors,
    /// A disk fails, and the node with it, which starts again on the same disk later.
    DiskFailure,
    /// A disk is lost: its node starts with an empty one, and under its old name.
    LostDisk,
    /// A disk is replaced by a copy of it from earlier.
    OldDisk,
    /// A clock is set.
    ClockSet,
    /// A clock is set further off than nodes tolerate.
    ClockFarOff,
    /// A clock goes too fast or too slow for a while.
    ClockDrift,
    /// A node is stopped properly and starts again.
    Restart,
}

/// What a profile asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    /// How many nodes there may be.
    pub nodes: &'static [usize],
    /// Copies.
    pub n: u8,
    /// Replicas that a read needs.
    pub r: u8,
    /// Replicas that a write needs.
    pub w: u8,
    /// Faults and their weights; none for a calm run, or where they are drawn.
    pub faults: &'static [(u32, Fault)],
    /// How fast clients and faults follow each other, where that is not drawn.
    pub pace: Pace,
    /// Messages of a thousand that are lost, repeated, overtaken.
    pub manners: [u32; 3],
    /// How far clocks are from true time at the most, in milliseconds.
    pub clock_reach_ms: i64,
    /// Reads of a thousand that the disk fails.
    pub read_errors: u32,
    /// Requests of a thousand that ask for levels of their own.
    pub own_levels: u32,
}

const LEVEL_FAULTS: &[(u32, Fault)] = &[
    (3, Fault::Split),
    (2, Fault::OneWay),
    (3, Fault::Crash),
    (2, Fault::Pause),
    (3, Fault::SlowLink),
];

const MIXED_FAULTS: &[(u32, Fault)] = &[
    (3, Fault::Split),
    (3, Fault::OneWay),
    (4, Fault::Crash),
    (1, Fault::Blackout),
    (1, Fault::PowerCut),
    (3, Fault::Pause),
    (2, Fault::SlowLink),
    (2, Fault::SlowDisk),
    (1, Fault::DiskFailure),
    (1, Fault::ClockSet),
];

const LOST_DISK_FAULTS: &[(u32, Fault)] = &[
    (4, Fault::LostDisk),
    (2, Fault::OldDisk),
    (2, Fault::Crash),
    (1, Fault::Split),
    (1, Fault::Pause),
];

const STAND_IN_FAULTS: &[(u32, Fault)] = &[
    (4, Fault::Split),
    (2, Fault::Bridge),
    (2, Fault::OneWay),
    (5, Fault::Crash),
    (4, Fault::Pause),
    (1, Fault::FullDisk),
    (1, Fault::Blackout),
];

const USUAL: Shape = Shape {
    nodes: &[3, 3, 4, 5],
    n: 3,
    r: 2,
    w: 2,
    faults: &[],
    pace: QUICK,
    manners: [0, 0, 0],
    clock_reach_ms: 2_000,
    read_errors: 0,
    own_levels: 40,
};

const FIVE: Shape =
    Shape { nodes: &[5], n: 5, r: 3, w: 3, faults: LEVEL_FAULTS, own_levels: 0, ..USUAL };

impl Shape {
    /// What these levels promise or not, of what depends on levels.
    pub fn promises(&self) -> [(Property, bool); 3] {
        let Self { n, r, w, .. } = *self;
        let left = if r + w > n { r.min(n - r + 1) } else { 1 };
        [
            (Property::ReadsSeeWrites, r + w > n),
            (Property::ReadsNeverGoBack, left + r > n),
            (Property::LaterWritesWin, 2 * w > n),
        ]
    }
}

impl Profile {
    /// Chooses one, the kinds that find most more often.
    pub fn draw(random: &mut Random) -> Self {
        random.weighted(&[
            (6, Self::Calm),
            (10, Self::Lossy),
            (10, Self::Partitions),
            (12, Self::Crashes),
            (8, Self::Blackouts),
            (8, Self::Hanging),
            (8, Self::Clocks),
            (10, Self::LostDisks),
            (10, Self::StandIns),
            (12, Self::Mixed),
            (30, Self::Nemesis),
            (4, Self::N5W3R3),
            (3, Self::N5W2R4),
            (3, Self::N5W1R5),
            (3, Self::N5W5R1),
            (1, Self::N5W1R1),
            (3, Self::Weak),
        ])
    }

    /// Chooses which namespaces a run uses.
    pub fn draw_spaces(self, random: &mut Random) -> &'static [bool] {
        const STRICT: &[bool] = &[false];
        const SLOPPY: &[bool] = &[true];
        const BOTH: &[bool] = &[false, true];
        let all: [&'static [bool]; 3] =
            [if self == Self::StandIns { SLOPPY } else { STRICT }, SLOPPY, BOTH];
        if abilities::STAND_INS { random.pick::<&'static [bool]>(&all) } else { STRICT }
    }

    /// What it asks for.
    pub fn shape(self) -> Shape {
        match self {
            Self::Calm => USUAL,
            Self::Lossy => Shape { manners: [20, 20, 20], ..USUAL },
            Self::Partitions => Shape {
                faults: &[(3, Fault::Split), (2, Fault::OneWay), (1, Fault::SlowLink)],
                ..USUAL
            },
            Self::Crashes => Shape {
                faults: &[
                    (6, Fault::Crash),
                    (2, Fault::PowerCut),
                    (2, Fault::Restart),
                    (2, Fault::SlowDisk),
                    (1, Fault::DiskFailure),
                ],
                ..USUAL
            },
            Self::Blackouts => Shape {
                faults: &[
                    (2, Fault::Blackout),
                    (4, Fault::PowerCut),
                    (1, Fault::Crash),
                    (1, Fault::SlowDisk),
                ],
                pace: Pace { gap_ms: (500, 3_000), ..QUICK },
                ..USUAL
            },
            Self::Hanging => Shape {
                faults: &[(4, Fault::Pause), (2, Fault::SlowLink), (1, Fault::OneWay)],
                ..USUAL
            },
            Self::Clocks => Shape {
                faults: &[
                    (4, Fault::ClockSet),
                    (1, Fault::ClockFarOff),
                    (2, Fault::Crash),
                    (2, Fault::SlowLink),
                ],
                clock_reach_ms: 2_400,
                ..USUAL
            },
            // A write that asked for one copy may lose it with the disk: nobody is promised otherwise.
            Self::LostDisks => Shape {
                nodes: &[3, 3, 4, 5],
                faults: LOST_DISK_FAULTS,
                pace: STEADY,
                own_levels: 0,
                ..USUAL
            },
            Self::StandIns => Shape {
                nodes: &[5, 5, 6, 7],
                faults: STAND_IN_FAULTS,
                pace: STEADY,
                own_levels: 300,
                ..USUAL
            },
            Self::Mixed => {
                Shape { faults: MIXED_FAULTS, manners: [2, 2, 2], read_errors: 2, ..USUAL }
            }
            // Its faults are drawn (`nemesis`).
            Self::Nemesis => Shape { nodes: &[3, 3, 5, 5, 7], ..USUAL },
            Self::N5W3R3 => FIVE,
            Self::N5W2R4 => Shape { w: 2, r: 4, ..FIVE },
            Self::N5W1R5 => Shape { w: 1, r: 5, ..FIVE },
            Self::N5W5R1 => Shape { w: 5, r: 1, ..FIVE },
            Self::N5W1R1 => Shape { w: 1, r: 1, ..FIVE },
            Self::Weak => Shape { w: 1, r: 1, faults: LEVEL_FAULTS, ..USUAL },
        }
    }

    /// Its name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Calm => "calm",
            Self::Lossy => "lossy",
            Self::Partitions => "partitions",
            Self::Crashes => "crashes",
            Self::Blackouts => "blackouts",
            Self::Hanging => "hanging",
            Self::Clocks => "clocks",
            Self::LostDisks => "lost-disks",
            Self::StandIns => "stand-ins",
            Self::Mixed => "mixed",
            Self::Nemesis => "nemesis",
            Self::N5W3R3 => "n5-w3-r3",
            Self::N5W2R4 => "n5-w2-r4",
            Self::N5W1R5 => "n5-w1-r5",
            Self::N5W5R1 => "n5-w5-r1",
            Self::N5W1R1 => "n5-w1-r1",
            Self::Weak => "weak",
        }
    }
}

impl fmt::Display for Profile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Profile {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        PROFILES.into_iter().find(|profile| profile.name() == name).ok_or_else(|| {
            let names = PROFILES.map(Self::name).join(", ");
            format!("'{name}' is no profile: use one of {names}")
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_lead_back_to_their_profile_and_each_is_drawn() {
        let mut random = Random::new(5);
        let drawn: Vec<_> = (0..2_000).map(|_| Profile::draw(&mut random)).collect();
        for profile in PROFILES {
            assert_eq!(profile.name().parse(), Ok(profile));
            assert!(drawn.contains(&profile), "{profile} is never drawn");
        }
    }
}
