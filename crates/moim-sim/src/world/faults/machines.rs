//! Nodes that crash, stand still or are restarted.

use moim_node::Input;

use super::Sequel;
use crate::world::World;
use crate::world::server::Doom;

impl World {
    pub(in crate::world) fn start(&mut self, node: usize) {
        if self.servers[node].is_up() || self.broken.is_some() {
            return;
        }
        self.count("starts");
        match self.servers[node].start(self.now_us, &self.common) {
            Ok(()) => self.plan_turn(node),
            Err(error) => self.broken = Some(format!("n{node} does not start: {error}")),
        }
    }

    pub(super) fn resume(&mut self, node: usize) {
        if std::mem::take(&mut self.servers[node].paused) {
            self.servers[node].turn_planned = false;
            self.plan_turn(node);
        }
    }

    pub(super) fn crash(&mut self, node: usize, lasts_us: u64) {
        if self.servers[node].is_up() {
            let vanish = self.chance.faults.chance(500);
            self.crash_now(node, vanish);
            self.plan_sequel(lasts_us, Sequel::Start(node));
        }
    }

    /// Often a disk is slow before its machine goes: then there is much that was not synced.
    pub(super) fn crash_soon(&mut self, node: usize, lasts_us: u64) {
        let fuse_us = if self.chance.faults.chance(500) { self.slow_fuse(node) } else { 0 };
        self.plan_sequel(fuse_us, Sequel::Crash(node, lasts_us));
    }

    /// All at once, as when the power fails; each is back in its own time.
    pub(super) fn blackout(&mut self) {
        self.count_fault("blackouts");
        let slow = self.chance.faults.chance(700);
        let mut fuse_us = 0;
        for node in 0..self.servers.len() {
            if slow {
                fuse_us = self.slow_fuse(node);
            }
        }
        for node in 0..self.servers.len() {
            let lasts_us = self.chance.faults.between(10_000, 800_000);
            self.plan_sequel(fuse_us, Sequel::Crash(node, lasts_us));
        }
    }

    /// The power will fail the moment a client hears that a write is acknowledged, and with disks that differ: what was
    /// acknowledged before it was on W of them is gone then, and what one copy too few holds is soon read where it is not.
    pub(super) fn arm_power_cut(&mut self) {
        if self.power_cut_armed {
            return;
        }
        self.power_cut_armed = true;
        for server in &mut self.servers {
            let is_slow = self.chance.faults.chance(500);
            server.disk_slow_us =
                if is_slow { self.chance.faults.between(5_000, 400_000) } else { 0 };
        }
    }

    /// A client has heard that its write is acknowledged.
    pub(in crate::world) fn cut_power(&mut self) {
        if !std::mem::take(&mut self.power_cut_armed) {
            return;
        }
        self.count_fault("power cuts");
        let share = *self.chance.faults.pick(&[600, 1_000]);
        for node in 0..self.servers.len() {
            self.servers[node].disk_slow_us = 0;
            if self.chance.faults.chance(share) {
                let lasts_us = self.chance.faults.between(10_000, 800_000);
                self.plan_sequel(0, Sequel::Crash(node, lasts_us));
            }
        }
    }

    /// The machine is gone. Peers usually notice at once, sometimes only after a while.
    pub(in crate::world) fn crash_now(&mut self, node: usize, vanish: bool) {
        self.count_fault("crashes");
        let lost = self.servers[node].crash();
        self.trace.line(self.now_us, format_args!("n{node} crashed: {lost} batches lost"));
        *self.tally.entry("batches lost").or_default() += lost as u64;
        for peer in 0..self.servers.len() {
            let slow = self.chance.faults.chance(200);
            let notice_us = if slow { (100_000, 3_000_000) } else { (100, 5_000) };
            self.close((node, peer), vanish, notice_us);
        }
        self.abandon(node);
    }

    pub(super) fn pause(&mut self, node: usize, lasts_us: u64) {
        if self.servers[node].is_up() {
            self.count_fault("pauses");
            self.servers[node].paused = true;
            self.plan_sequel(lasts_us, Sequel::Resume(node));
        }
    }

    /// Stops a node as an operator does: it finishes what it has begun.
    pub(super) fn restart(&mut self, node: usize, lasts_us: u64) {
        if self.servers[node].is_up() {
            self.count_fault("restarts");
            self.servers[node].doom = Some(Doom::Stopping);
            self.hand(node, Input::Stop);
            self.plan_sequel(lasts_us, Sequel::Replace(node));
        }
    }
}
