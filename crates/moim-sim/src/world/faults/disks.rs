//! Disks that are slow, full, unreadable, failed, lost, or replaced by old copies.

use moim_node::Input;

use super::Sequel;
use crate::world::World;
use crate::world::disk::Disk;
use crate::world::server::Doom;

/// Reads of a thousand that fail while a disk has read errors.
const READ_ERRORS: u32 = 200;

impl World {
    /// Makes a disk slow; answers how long to wait for the crash, in microseconds.
    pub(super) fn slow_fuse(&mut self, node: usize) -> u64 {
        let fuse_us = self.chance.faults.between(1_000, 200_000);
        self.servers[node].disk_slow_us = self.chance.faults.between(2_000, 400_000);
        self.plan_sequel(fuse_us + 1, Sequel::DiskQuicken(node));
        fuse_us
    }

    pub(super) fn slow_disk(&mut self, node: usize, lasts_us: u64) {
        self.count_fault("slow disks");
        self.servers[node].disk_slow_us = self.chance.faults.between(2_000, 400_000);
        self.plan_sequel(lasts_us, Sequel::DiskQuicken(node));
    }

    /// Nothing more becomes durable until there is room again. Often somebody has noticed before that little was left,
    /// and sometimes it stays at that.
    pub(super) fn fill_disk(&mut self, node: usize, lasts_us: u64) {
        // Replicas hold about the same, so their disks often fill together.
        let together = self.chance.rooms.chance(300);
        for other in 0..self.servers.len() {
            if other == node || (together && self.chance.rooms.chance(700)) {
                self.fill_one_disk(other, lasts_us);
            }
        }
    }

    fn fill_one_disk(&mut self, node: usize, lasts_us: u64) {
        self.plan_sequel(lasts_us, Sequel::DiskRoom(node));
        let noticed = self.chance.rooms.chance(600);
        if noticed {
            self.count_fault("disks low on room");
            self.servers[node].room.low = true;
        }
        if !noticed {
            self.exhaust_disk(node);
        } else if self.chance.rooms.chance(600) {
            let fuse_us = self.chance.rooms.between(0, lasts_us / 2);
            self.plan_sequel(fuse_us, Sequel::DiskExhausted(node));
        }
        self.tell_room(node);
    }

    pub(super) fn exhaust_disk(&mut self, node: usize) {
        self.count_fault("full disks");
        self.servers[node].room.full = true;
        self.tell_room(node);
    }

    pub(super) fn make_room(&mut self, node: usize) {
        self.servers[node].room.low = false;
        let was_full = std::mem::take(&mut self.servers[node].room.full);
        self.tell_room(node);
        if was_full && self.servers[node].is_up() {
            self.begin_sync(node);
        }
    }

    /// Whoever runs the node tells it when the answer changes, as the server does.
    pub(in crate::world) fn tell_room(&mut self, node: usize) {
        let room = self.servers[node].room_now();
        if self.servers[node].is_up() && self.servers[node].room.told != room {
            self.servers[node].room.told = room;
            self.hand(node, Input::DiskRoom(room));
        }
    }

    pub(super) fn fail_reads(&mut self, node: usize, lasts_us: u64) {
        self.count_fault("disks with read errors");
        self.servers[node].read_errors = READ_ERRORS;
        self.plan_sequel(lasts_us, Sequel::DiskReads(node));
    }

    /// The disk reports an error; the node must stop serving, and somebody starts it again later.
    pub(super) fn fail_disk(&mut self, node: usize, lasts_us: u64) {
        if self.servers[node].is_up() {
            self.count_fault("disk failures");
            self.servers[node].doom = Some(Doom::DiskFailed);
            self.hand(node, Input::DiskFailed("simulated".to_owned()));
            self.plan_sequel(lasts_us, Sequel::Replace(node));
        }
    }

    /// Takes a disk away for good, and the node down with it; it starts again with nothing but its name, or with an old
    /// copy of its disk. Not if more copies would be gone than acknowledged writes can bear.
    pub(super) fn lose_disk(&mut self, node: usize, lasts_us: u64, by_old: bool) {
        let is_back = |of: usize| self.servers[of].is_whole() && !self.has_unnoticed_disk(of);
        let mut failed = self.failed_copies.clone();
        failed.retain(|&failed| !is_back(failed));
        failed.insert(node);
        let is_borne = failed.len() <= usize::from(self.plan.disks_lost_max());
        if !is_borne {
            failed.remove(&node);
        }
        self.failed_copies = failed;
        if !is_borne {
            return;
        }
        if self.servers[node].is_up() {
            self.crash_now(node, true);
        }
        self.count_fault(if by_old { "old disks restored" } else { "disks lost" });
        let backup = if by_old { self.servers[node].backup.copy() } else { Disk::default() };
        let durable = self.durable_batch(node);
        self.servers[node].disk.replace(backup);
        self.disk_was_replaced(node, durable);
        self.disk_lost_us = Some(self.now_us);
        self.plan_sequel(lasts_us, Sequel::Start(node));
    }

    /// Copies a disk now and then, to have an old copy of it.
    pub(in crate::world) fn back_up(&mut self, node: usize) {
        if self.chance.disks.chance(200) {
            self.servers[node].backup = self.servers[node].disk.copy();
        }
    }
}
