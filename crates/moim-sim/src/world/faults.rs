//! What goes wrong, and when it is mended.
//!
//! Faults overlap as chance has it, but each one is mended after a while, so that a run sees many and the cluster works
//! in between.

use moim_node::Input;

use super::disk::Disk;
use super::network::{Cut, Link};
use super::{Event, World};
use crate::profile::Fault;

/// What follows on a fault: mostly that it is mended.
#[derive(Clone, Debug)]
pub(super) enum Sequel {
    /// A machine starts.
    Start(usize),
    /// A node goes on.
    Resume(usize),
    /// Links work again.
    Heal(Vec<Link>),
    /// Links are quick again.
    Quicken(Vec<Link>),
    /// A disk is quick again.
    DiskQuicken(usize),
    /// A clock is set to within what nodes tolerate.
    ClockRight(usize),
    /// A machine crashes, and starts again after so many microseconds.
    Crash(usize, u64),
    /// A node that no longer serves is taken away and started anew.
    Replace(usize),
}

impl World {
    /// Lets things go wrong from now on.
    pub(crate) fn begin_faults(&mut self) {
        self.faults_on = true;
        self.plan_fault();
    }

    fn plan_fault(&mut self) {
        if self.plan.shape.faults.is_empty() {
            return;
        }
        let (least_ms, most_ms) = self.plan.shape.fault_gap_ms;
        let gap_us = self.chance.faults.between(least_ms * 1_000, most_ms * 1_000);
        self.queue.plan(self.now_us + gap_us, Event::Fault);
    }

    pub(super) fn fault(&mut self) {
        if !self.faults_on {
            return;
        }
        self.plan_fault();
        let fault = self.chance.faults.weighted(self.plan.shape.faults);
        let node = self.chance.faults.index(self.servers.len());
        let lasts_us = self.chance.faults.between(50_000, 2_500_000);
        self.trace.line(self.now_us, format_args!("fault: {fault:?} n{node} for {lasts_us} us"));
        match fault {
            Fault::Split => self.split(lasts_us),
            Fault::OneWay => self.one_way(node, lasts_us),
            Fault::Crash => self.crash_soon(node, lasts_us),
            Fault::Blackout => self.blackout(),
            Fault::Pause => self.pause(node, lasts_us),
            Fault::SlowLink => self.slow_links(node, lasts_us),
            Fault::SlowDisk => self.slow_disk(node, lasts_us),
            Fault::DiskFailure => self.fail_disk(node, lasts_us),
            Fault::ClockSet => self.set_clock(node, self.plan.shape.clock_reach_ms),
            Fault::ClockFarOff => self.set_clock_far_off(node, lasts_us),
            Fault::Restart => self.restart(node, lasts_us),
        }
    }

    fn plan_sequel(&mut self, lasts_us: u64, sequel: Sequel) {
        self.queue.plan(self.now_us + lasts_us, Event::Sequel(sequel));
    }

    pub(super) fn sequel(&mut self, sequel: Sequel) {
        self.trace.line(self.now_us, format_args!("then: {sequel:?}"));
        match sequel {
            Sequel::Start(node) => self.start(node),
            Sequel::Resume(node) => self.resume(node),
            Sequel::Heal(links) => links.into_iter().for_each(|link| self.heal(link)),
            Sequel::Quicken(links) => links.into_iter().for_each(|link| self.network.slow(link, 0)),
            Sequel::DiskQuicken(node) => self.servers[node].disk_slow_us = 0,
            Sequel::ClockRight(node) => self.set_clock(node, self.plan.shape.clock_reach_ms),
            Sequel::Crash(node, lasts_us) if self.faults_on => self.crash(node, lasts_us),
            Sequel::Crash(..) => {}
            Sequel::Replace(node) => {
                if self.servers[node].doomed {
                    self.crash_now(node, false);
                }
                self.start(node);
            }
        }
    }

    /// Ends all faults, and what they left behind.
    pub(crate) fn heal_all(&mut self) {
        self.faults_on = false;
        self.network.calm();
        for link in self.network.cuts() {
            self.heal(link);
        }
        for node in 0..self.servers.len() {
            self.servers[node].disk_slow_us = 0;
            if self.servers[node].doomed {
                self.crash_now(node, false);
            }
            self.resume(node);
            self.start(node);
            self.set_clock_near(node);
        }
        self.plan.sync_us = (150, 2_000);
        self.plan.shape.read_errors = 0;
    }

    pub(super) fn start(&mut self, node: usize) {
        if self.servers[node].is_up() || self.broken.is_some() {
            return;
        }
        self.count("starts");
        match self.servers[node].start(self.now_us, &self.common) {
            Ok(()) => self.plan_turn(node),
            Err(error) => self.broken = Some(format!("n{node} does not start: {error}")),
        }
    }

    fn heal(&mut self, link: Link) {
        for delivery in self.network.heal(self.now_us, link) {
            self.plan_arrival(link, delivery);
        }
    }

    fn resume(&mut self, node: usize) {
        if std::mem::take(&mut self.servers[node].paused) {
            self.servers[node].turn_planned = false;
            self.plan_turn(node);
        }
    }

    /// Some nodes on one side, the rest on the other.
    fn split(&mut self, lasts_us: u64) {
        self.count("splits");
        let sides: Vec<bool> =
            self.servers.iter().map(|_| self.chance.faults.chance(400)).collect();
        let links = self.all_links().into_iter().filter(|&(from, to)| sides[from] != sides[to]);
        let links: Vec<Link> = links.collect();
        self.cut(links, lasts_us);
    }

    /// One node no longer reaches another, or hears nobody, or is heard by nobody.
    fn one_way(&mut self, node: usize, lasts_us: u64) {
        self.count("one-way cuts");
        let kind = self.chance.faults.index(3);
        let other = self.chance.faults.index(self.servers.len());
        let links = self.all_links().into_iter().filter(|&(from, to)| match kind {
            0 => (from, to) == (node, other),
            1 => from == node,
            _ => to == node,
        });
        let links: Vec<Link> = links.collect();
        self.cut(links, lasts_us);
    }

    fn all_links(&self) -> Vec<Link> {
        let count = self.servers.len();
        let from_each = |from| (0..count).filter(move |&to| to != from).map(move |to| (from, to));
        (0..count).flat_map(from_each).collect()
    }

    /// Cuts links that are not cut already. The connections over them break in the end, or outlast the cut.
    fn cut(&mut self, links: Vec<Link>, lasts_us: u64) {
        let manner = *self.chance.faults.pick(&[Cut::Hold, Cut::Lose]);
        let breaks = self.chance.faults.chance(600);
        let mut cut = Vec::new();
        for link in links {
            if !self.network.cut(link, manner) {
                continue;
            }
            cut.push(link);
            if let (true, Some(connection)) = (breaks, self.network.connection(link)) {
                let at_us = self.now_us + self.chance.faults.between(1_000, lasts_us);
                self.queue.plan(at_us, Event::Break { link, connection });
            }
        }
        self.plan_sequel(lasts_us, Sequel::Heal(cut));
    }

    fn crash(&mut self, node: usize, lasts_us: u64) {
        if self.servers[node].is_up() {
            let vanish = self.chance.faults.chance(500);
            self.crash_now(node, vanish);
            self.plan_sequel(lasts_us, Sequel::Start(node));
        }
    }

    /// Often a disk is slow before its machine goes: then there is much that was not synced.
    fn crash_soon(&mut self, node: usize, lasts_us: u64) {
        let fuse_us = if self.chance.faults.chance(500) { self.slow_fuse(node) } else { 0 };
        self.plan_sequel(fuse_us, Sequel::Crash(node, lasts_us));
    }

    /// All at once, as when the power fails; each is back in its own time.
    fn blackout(&mut self) {
        self.count("blackouts");
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

    /// Makes a disk slow; answers how long to wait for the crash, in microseconds.
    fn slow_fuse(&mut self, node: usize) -> u64 {
        let fuse_us = self.chance.faults.between(1_000, 200_000);
        self.servers[node].disk_slow_us = self.chance.faults.between(2_000, 400_000);
        self.plan_sequel(fuse_us + 1, Sequel::DiskQuicken(node));
        fuse_us
    }

    /// The machine is gone. Peers usually notice at once, sometimes only after a while.
    pub(super) fn crash_now(&mut self, node: usize, vanish: bool) {
        self.count("crashes");
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

    fn pause(&mut self, node: usize, lasts_us: u64) {
        if self.servers[node].is_up() {
            self.count("pauses");
            self.servers[node].paused = true;
            self.plan_sequel(lasts_us, Sequel::Resume(node));
        }
    }

    fn slow_links(&mut self, node: usize, lasts_us: u64) {
        self.count("slow links");
        let slow_us = self.chance.faults.between(5_000, 400_000);
        let one = self.chance.faults.index(self.servers.len());
        let touches = |&(from, to): &Link| {
            (from == node || to == node) && (one == node || from == one || to == one)
        };
        let links: Vec<Link> = self.all_links().into_iter().filter(touches).collect();
        for &link in &links {
            self.network.slow(link, slow_us);
        }
        self.plan_sequel(lasts_us, Sequel::Quicken(links));
    }

    fn slow_disk(&mut self, node: usize, lasts_us: u64) {
        self.count("slow disks");
        self.servers[node].disk_slow_us = self.chance.faults.between(2_000, 400_000);
        self.plan_sequel(lasts_us, Sequel::DiskQuicken(node));
    }

    /// The disk reports an error; the node must stop serving, and somebody starts it again later.
    fn fail_disk(&mut self, node: usize, lasts_us: u64) {
        if self.servers[node].is_up() {
            self.count("disk failures");
            self.servers[node].disk_failed = true;
            self.servers[node].doomed = true;
            self.hand(node, Input::DiskFailed("simulated".to_owned()));
            self.plan_sequel(lasts_us, Sequel::Replace(node));
        }
    }

    fn set_clock(&mut self, node: usize, reach_ms: i64) {
        self.count("clocks set");
        let offset_ms = self.chance.faults.around_zero(reach_ms);
        self.servers[node].clock.set(self.now_us, offset_ms);
    }

    fn set_clock_far_off(&mut self, node: usize, lasts_us: u64) {
        self.count("clocks set far off");
        let beyond_ms = i64::try_from(self.common.options.max_clock_skew_ms).unwrap_or(0) + 3_000;
        let offset_ms = *self.chance.faults.pick(&[-beyond_ms, beyond_ms]);
        self.servers[node].clock.set(self.now_us, offset_ms);
        self.plan_sequel(lasts_us, Sequel::ClockRight(node));
    }

    fn set_clock_near(&mut self, node: usize) {
        let reach_ms = self.plan.shape.clock_reach_ms;
        if self.servers[node].clock.offset_ms().abs() > reach_ms {
            self.set_clock(node, reach_ms);
        }
    }

    /// Takes a disk away for good, and the node down with it; it starts again at once with nothing but its name, or
    /// with an old copy of its disk.
    pub(crate) fn lose_disk(&mut self) {
        let node = self.chance.faults.index(self.servers.len());
        self.crash_now(node, true);
        let restored = self.chance.faults.chance(400);
        self.count(if restored { "old disks restored" } else { "disks lost" });
        let backup = if restored { self.servers[node].backup.clone() } else { Disk::default() };
        self.servers[node].disk.replace(backup);
        self.disk_lost_us = Some(self.now_us);
        self.start(node);
    }

    /// Copies a disk now and then, to have an old copy of it.
    pub(super) fn back_up(&mut self, node: usize) {
        if self.chance.disks.chance(200) {
            self.servers[node].backup = self.servers[node].disk.copy();
        }
    }

    /// Stops a node as an operator does: it finishes what it has begun.
    fn restart(&mut self, node: usize, lasts_us: u64) {
        if self.servers[node].is_up() {
            self.count("restarts");
            self.servers[node].doomed = true;
            self.hand(node, Input::Stop);
            self.plan_sequel(lasts_us, Sequel::Replace(node));
        }
    }
}
