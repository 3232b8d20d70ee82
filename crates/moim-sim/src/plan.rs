//! What a run will be like: drawn from the seed, within what the profile allows.

use crate::nemesis::Nemesis;
use crate::profile::{Fault, Profile, Shape};
use crate::random::Random;
use moim_node::options::{Mutation, Options};

/// Runs of a thousand whose disks are shadowed by the storage engine: it costs time and changes nothing else.
const LOGGED: u32 = 250;

/// Which run to make. The same settings make the same run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Decides everything that is left to chance.
    pub seed: u64,
    /// How many requests clients make.
    pub operations: usize,
    /// The kind of run; drawn from the seed if `None`.
    pub profile: Option<Profile>,
    /// A rule of the node that is switched off.
    pub mutation: Option<Mutation>,
    /// Whether to keep the trace.
    pub trace: bool,
}

impl Settings {
    /// A run of 2,000 requests with everything drawn from the seed.
    pub fn of_seed(seed: u64) -> Self {
        Self { seed, operations: 2_000, profile: None, mutation: None, trace: false }
    }
}

/// What was drawn.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The kind of run.
    pub profile: Profile,
    /// What the profile asks for.
    pub shape: Shape,
    /// What goes wrong.
    pub nemesis: Nemesis,
    /// Nodes; each on a machine of its own.
    pub nodes: usize,
    /// Clients.
    pub clients: usize,
    /// Keys with one value.
    pub registers: usize,
    /// Keys with siblings.
    pub carts: usize,
    /// Which namespaces are used: strict ones (false), sloppy ones (true). So many clients in each.
    pub spaces: &'static [bool],
    /// A client's usual pause between requests, in microseconds.
    pub think_us: u64,
    /// Each node's clock: milliseconds ahead of true time, and microseconds that it gains in a second.
    pub clocks: Vec<(i64, i64)>,
    /// The usual and the longest delay of a message, in microseconds.
    pub latency_us: (u64, u64),
    /// The usual and the longest time of a sync, in microseconds.
    pub sync_us: (u64, u64),
    /// Decoded objects that a node keeps in memory, in bytes.
    pub cache_bytes: u64,
    /// Pairs of a clock beyond which nodes prune it.
    pub clock_pairs_max: usize,
    /// Whether the storage engine with a commit log runs beside each disk, and must recover the same from every crash.
    pub logged: bool,
    /// Whether limits of nodes are so tight that requests meet them.
    pub tight: bool,
}

impl Plan {
    /// Draws a plan.
    pub fn draw(settings: &Settings, random: &mut Random) -> Self {
        // Drawn in any case: naming the profile that a seed draws must not change its run.
        let drawn = Profile::draw(random);
        let profile = settings.profile.unwrap_or(drawn);
        let shape = profile.shape();
        let nemesis = Nemesis::draw(profile, &shape, &mut random.fork("nemesis"));
        let (think_least_ms, think_most_ms) = nemesis.pace.think_ms;
        let spaces = profile.draw_spaces(&mut random.fork("spaces"));
        let nodes = *random.pick(shape.nodes);
        let clock = |random: &mut Random| {
            (random.around_zero(shape.clock_reach_ms), random.around_zero(200))
        };
        Self {
            profile,
            nodes,
            clients: usize::from(*random.pick(&[6_u8, 7, 9])),
            registers: usize::from(*random.pick(&[3_u8, 5, 8])),
            carts: usize::from(*random.pick(&[2_u8, 3, 5])),
            spaces,
            think_us: random.between(think_least_ms * 1_000, think_most_ms * 1_000)
                * spaces.len() as u64,
            clocks: (0..nodes).map(|_| clock(random)).collect(),
            latency_us: *random.pick(&[
                (200, 3_000),
                (500, 10_000),
                (3_000, 20_000),
                (1_000, 150_000),
            ]),
            sync_us: *random.pick(&[(150, 2_000), (500, 10_000), (5_000, 100_000)]),
            cache_bytes: *random.pick(&[1_000, 4_000, 256 << 20]),
            clock_pairs_max: *random.fork("clocks").pick(&[4, 8, 32, 32]),
            logged: random.fork("logged").chance(LOGGED),
            tight: profile != Profile::Calm && random.chance(150),
            shape,
            nemesis,
        }
    }

    /// Whether nothing makes a node forget what it owes to others: no crash and no lost disk.
    pub fn keeps_owed(&self) -> bool {
        let forgets =
            [Fault::Crash, Fault::Restart, Fault::Blackout, Fault::PowerCut, Fault::DiskFailure];
        self.disks_lost_max() == 0 && !self.nemesis.has_any(&forgets)
    }

    /// Disks that may be lost at the same time. A lost or replaced disk counts until its node serves again, refilled. A
    /// write is acknowledged by W copies, so with at most W-1 lost there is one left; and as a lost disk is refilled
    /// from N-W+1 others, one of which has it, it comes back before another may go.
    pub fn disks_lost_max(&self) -> u8 {
        let loses = self.nemesis.has_any(&[Fault::LostDisk, Fault::OldDisk]);
        if loses { self.shape.w - 1 } else { 0 }
    }

    /// What nodes are told.
    pub fn options(&self, mutation: Option<Mutation>) -> Options {
        let Self { cache_bytes, clock_pairs_max, .. } = *self;
        let options = Options { cache_bytes, clock_pairs_max, mutation, ..Options::default() };
        if !self.tight {
            return options;
        }
        Options {
            unsynced_bytes_max: 1_000,
            operations_max: 12,
            updates_per_key_max: 2,
            tasks_bytes_max: 4_000,
            tasks_in_flight_max: 2,
            clock_pairs_max: clock_pairs_max.min(8),
            clock_pairs_refused: 12,
            hints_bytes_max: 4_000,
            hints_in_flight_max: 2,
            ..options
        }
    }
}
