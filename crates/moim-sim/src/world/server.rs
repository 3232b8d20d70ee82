//! One simulated machine: a disk, a clock, and while it runs, the real node.

use std::collections::BTreeMap;

use moim_core::ring::{Member, PartitionCount};
use moim_core::{MachineId, NodeId};
use moim_node::api::{DiskRoom, Failure, NotReady};
use moim_node::keyspace::{
    META_BATCH, META_CLOCK_BOUND, META_FILLING, META_GENERATION, META_RECORD, StoredTrees,
};
use moim_node::membership::MemberInfo;
use moim_node::namespace::Namespaces;
use moim_node::options::{Mutation, Options};
use moim_node::{Boot, BootError, Input, Node, Now};
use moim_storage::Family;

use super::clock::Clock;
use super::disk::Disk;
use super::network::Connection;
use crate::random::Random;

/// A machine.
#[derive(Debug)]
pub(crate) struct Server {
    pub(crate) info: MemberInfo,
    pub(crate) clock: Clock,
    pub(crate) disk: Disk,
    /// `None` while it is down.
    pub(crate) node: Option<Node>,
    /// Counts starts, so that what was planned for an earlier run is not taken for this one's.
    pub(crate) starts: u32,
    /// What the node has not taken yet.
    pub(crate) inbox: Vec<Input>,
    /// Whether a turn is planned.
    pub(crate) turn_planned: bool,
    /// The earliest planned wake-up, in microseconds of true time.
    pub(crate) wake_us: Option<u64>,
    /// Stands still (SIGSTOP): takes nothing, says nothing, and its peers notice nothing but silence.
    pub(crate) paused: bool,
    /// The disk takes this much longer for everything, in microseconds.
    pub(crate) disk_slow_us: u64,
    /// What room the disk has.
    pub(crate) room: Room,
    /// Reads of a thousand that the disk fails now.
    pub(crate) read_errors: u32,
    /// A copy of the disk from earlier.
    pub(crate) backup: Disk,
    /// Why this run serves no more and is to be started anew.
    pub(crate) doom: Option<Doom>,
    /// Which connection this side believes to have with each peer.
    pub(crate) peers: BTreeMap<usize, Connection>,
    /// The monotonic clock at the start of this run.
    mono_zero_ms: u64,
    started_us: u64,
    run: u64,
    random: Random,
}

/// What room a disk has, and what its node was told.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Room {
    /// Nothing becomes durable.
    pub(crate) full: bool,
    /// Little is left.
    pub(crate) low: bool,
    pub(crate) told: DiskRoom,
}

/// Why a run of a node comes to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Doom {
    /// It was told to stop.
    Stopping,
    /// Its disk failed: nothing becomes durable any more.
    DiskFailed,
}

/// What all nodes of a cluster boot with.
#[derive(Clone, Debug)]
pub(crate) struct Common {
    pub(crate) nodes: usize,
    pub(crate) namespaces: Namespaces,
    pub(crate) options: Options,
    /// The lowest id.
    pub(crate) lowest: NodeId,
}

impl Common {
    /// What a node is told: a fault that is planted in one node is planted in the one with the lowest id.
    fn options_of(&self, node: NodeId) -> Options {
        let is_spared = node != self.lowest;
        let mutation = self
            .options
            .mutation
            .filter(|&mutation| !(is_spared && mutation == Mutation::FsyncSkippedOnOneNode));
        Options { mutation, ..self.options.clone() }
    }
}

impl Server {
    /// A machine with an empty disk that is not running.
    pub(crate) fn new(index: usize, clock: Clock, mut random: Random) -> Self {
        let member = Member {
            node: NodeId(random.bits()),
            machine: MachineId(random.bits()),
            zone: "z".to_owned(),
            dc: "dc".to_owned(),
            weight: 100,
        };
        let info = MemberInfo {
            member,
            peer_address: format!("n{index}:7946"),
            redis_address: format!("n{index}:6379"),
            cluster_address: format!("n{index}:7379"),
            http_address: format!("n{index}:8080"),
        };
        Self {
            info,
            clock,
            disk: Disk::default(),
            node: None,
            starts: 0,
            inbox: Vec::new(),
            turn_planned: false,
            wake_us: None,
            paused: false,
            disk_slow_us: 0,
            room: Room::default(),
            read_errors: 0,
            backup: Disk::default(),
            doom: None,
            peers: BTreeMap::new(),
            mono_zero_ms: 0,
            started_us: 0,
            run: random.bits(),
            random,
        }
    }

    /// The node's name for itself.
    pub(crate) fn id(&self) -> NodeId {
        self.info.member.node
    }

    /// Whether it takes what arrives.
    pub(crate) fn is_up(&self) -> bool {
        self.node.is_some()
    }

    /// Whether it serves of what it owns at least what it takes for filled.
    pub(crate) fn serves(&self) -> bool {
        let serves = |node: &Node| {
            matches!(node.readiness(), Ok(()) | Err(Failure::NotReady(NotReady::Filling { .. })))
        };
        self.node.as_ref().is_some_and(serves)
    }

    /// Whether it serves everything that it owns.
    pub(crate) fn is_whole(&self) -> bool {
        let whole =
            |node: &Node| node.readiness().is_ok() && node.figures().unfilled_partitions == 0;
        self.node.as_ref().is_some_and(whole)
    }

    /// What whoever runs the node would say of the disk's room: that it is full shows when something does not fit.
    pub(crate) fn room_now(&self) -> DiskRoom {
        match (self.room.full && self.disk.has_unsynced(), self.room.low) {
            (true, _) => DiskRoom::Exhausted,
            (false, true) => DiskRoom::Low,
            (false, false) => DiskRoom::Enough,
        }
    }

    /// Whether the disk has failed.
    pub(crate) fn has_failed_disk(&self) -> bool {
        self.doom == Some(Doom::DiskFailed)
    }

    /// The time as this node knows it.
    pub(crate) fn now(&self, now_us: u64) -> Now {
        let mono_ms = self.mono_zero_ms + (now_us - self.started_us) / 1_000;
        Now { mono_ms, wall_ms: self.clock.wall_ms(now_us) }
    }

    /// True time at which the monotonic clock shows `mono_ms`.
    pub(crate) fn true_us(&self, mono_ms: u64) -> u64 {
        self.started_us + mono_ms.saturating_sub(self.mono_zero_ms) * 1_000
    }

    /// Starts the node with what the disk holds.
    pub(crate) fn start(&mut self, now_us: u64, common: &Common) -> Result<(), BootError> {
        assert!(self.node.is_none(), "a running node was started");
        self.starts += 1;
        self.started_us = now_us;
        self.mono_zero_ms = self.random.between(0, 1_000_000);
        let fresh = self.random.bits();
        if common.options.mutation != Some(Mutation::ReuseEpoch) {
            self.run = fresh;
        }
        let mut stored_trees = StoredTrees::default();
        let trees: Vec<_> = self.disk.all(Family::Trees).collect();
        stored_trees.add(&trees).map_err(|error| BootError(format!("stored trees: {error}")))?;
        let boot = Boot {
            info: self.info.clone(),
            run: self.run,
            seed: self.random.bits(),
            stored_record: self.disk.get(Family::Meta, META_RECORD),
            stored_clock_bound: self.disk.get(Family::Meta, META_CLOCK_BOUND),
            stored_filling: self.disk.get(Family::Meta, META_FILLING),
            stored_trees,
            stored_generation: self.disk.get(Family::Meta, META_GENERATION),
            stored_batch: self.disk.get(Family::Meta, META_BATCH),
            founding_members: common.nodes,
            // The fewest there may be: a small ring is quick to make, and every key still has its owners.
            partitions: PartitionCount::new(256).expect("a power of two within bounds"),
            namespaces: common.namespaces.clone(),
            options: common.options_of(self.id()),
        };
        self.node = Some(Node::new(self.now(now_us), boot)?);
        Ok(())
    }

    /// The node is gone, with all that its disk had not synced. Answers how many batches were lost.
    pub(crate) fn crash(&mut self) -> usize {
        self.node = None;
        self.inbox.clear();
        self.turn_planned = false;
        self.wake_us = None;
        self.paused = false;
        self.room.told = DiskRoom::Enough;
        self.doom = None;
        self.peers.clear();
        self.disk.crash(&mut self.random)
    }
}
