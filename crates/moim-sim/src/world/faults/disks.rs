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

    /// Nothing more becomes durable until there is room again.
    pub(super) fn fill_disk(&mut self, node: usize, lasts_us: u64) {
        self.count_fault("full disks");
        self.servers[node].disk_full = true;
        self.plan_sequel(lasts_us, Sequel::DiskRoom(node));
    }

    pub(super) fn make_room(&mut self, node: usize) {
        if std::mem::take(&mut self.servers[node].disk_full) && self.servers[node].is_up() {
            self.begin_sync(node);
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
        let servers = &self.servers;
        self.failed_copies.retain(|&failed| !servers[failed].is_whole());
        self.failed_copies.insert(node);
        if self.failed_copies.len() > usize::from(self.plan.disks_lost_max()) {
            self.failed_copies.remove(&node);
            return;
        }
        if self.servers[node].is_up() {
            self.crash_now(node, true);
        }
        self.count_fault(if by_old { "old disks restored" } else { "disks lost" });
        let backup = if by_old { self.servers[node].backup.copy() } else { Disk::default() };
        self.servers[node].disk.replace(backup);
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
