//! What goes wrong, and when it is mended.
//!
//! Faults overlap as chance has it, but each one is mended after a while, so that a run sees many and the cluster works
//! in between.
//!
//! | module | what fails |
//! |---|---|
//! | `links` | links between nodes |
//! | `machines` | nodes and the machines under them |
//! | `disks` | disks |
//! | `clocks` | clocks |

mod clocks;
mod disks;
mod links;
mod machines;

use super::network::Link;
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
    /// Messages are no longer lost, repeated or overtaken more than usual.
    Quiet,
    /// A disk is quick again.
    DiskQuicken(usize),
    /// A disk is full.
    DiskExhausted(usize),
    /// A disk has room again.
    DiskRoom(usize),
    /// A disk reads again.
    DiskReads(usize),
    /// A clock is set to within what nodes tolerate.
    ClockRight(usize),
    /// A clock goes at its usual speed again.
    ClockSteady(usize),
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
        if self.plan.nemesis.faults.is_empty() {
            return;
        }
        let (least_ms, most_ms) = self.plan.nemesis.pace.gap_ms;
        let gap_us = self.chance.faults.between(least_ms * 1_000, most_ms * 1_000);
        self.queue.plan(self.now_us + gap_us, Event::Fault);
    }

    pub(super) fn fault(&mut self) {
        if !self.faults_on {
            return;
        }
        self.plan_fault();
        let fault = self.chance.faults.weighted(&self.plan.nemesis.faults);
        let node = self.chance.faults.index(self.servers.len());
        let (least_ms, most_ms) = self.plan.nemesis.pace.lasts_ms;
        let lasts_us = self.chance.faults.between(least_ms * 1_000, most_ms * 1_000);
        self.trace.line(self.now_us, format_args!("fault: {fault:?} n{node} for {lasts_us} us"));
        match fault {
            Fault::Split => self.split(lasts_us),
            Fault::Bridge => self.bridge(node, lasts_us),
            Fault::OneWay => self.one_way(node, lasts_us),
            Fault::Noise => self.noise(lasts_us),
            Fault::SlowLink => self.slow_links(node, lasts_us),
            Fault::Crash => self.crash_soon(node, lasts_us),
            Fault::Blackout => self.blackout(),
            Fault::PowerCut => self.arm_power_cut(),
            Fault::Pause => self.pause(node, lasts_us),
            Fault::Restart => self.restart(node, lasts_us),
            Fault::SlowDisk => self.slow_disk(node, lasts_us),
            Fault::FullDisk => self.fill_disk(node, lasts_us),
            Fault::ReadErrors => self.fail_reads(node, lasts_us),
            Fault::DiskFailure => self.fail_disk(node, lasts_us),
            Fault::LostDisk => self.lose_disk(node, lasts_us, false),
            Fault::OldDisk => self.lose_disk(node, lasts_us, true),
            Fault::ClockSet => self.set_clock(node, self.plan.shape.clock_reach_ms),
            Fault::ClockFarOff => self.set_clock_far_off(node, lasts_us),
            Fault::ClockDrift => self.let_clock_drift(node, lasts_us),
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
            Sequel::Quiet => self.network.quiet(),
            Sequel::DiskQuicken(node) => self.servers[node].disk_slow_us = 0,
            Sequel::DiskExhausted(node) if self.servers[node].room.low => self.exhaust_disk(node),
            Sequel::DiskRoom(node) => self.make_room(node),
            Sequel::DiskReads(node) => self.servers[node].read_errors = 0,
            Sequel::ClockRight(node) => self.set_clock(node, self.plan.shape.clock_reach_ms),
            Sequel::ClockSteady(node) => self.steady_clock(node),
            Sequel::Crash(node, lasts_us) if self.faults_on => self.crash(node, lasts_us),
            // Everything has healed, or there was room again before.
            Sequel::Crash(..) | Sequel::DiskExhausted(_) => {}
            Sequel::Replace(node) => {
                if self.servers[node].doom.is_some() {
                    self.crash_now(node, false);
                }
                self.start(node);
            }
        }
    }

    /// Ends all faults, and what they left behind.
    pub(crate) fn heal_all(&mut self) {
        self.faults_on = false;
        self.power_cut_armed = false;
        self.network.calm();
        for link in self.network.cuts() {
            self.heal(link);
        }
        for node in 0..self.servers.len() {
            self.servers[node].disk_slow_us = 0;
            self.servers[node].read_errors = 0;
            self.make_room(node);
            if self.servers[node].doom.is_some() {
                self.crash_now(node, false);
            }
            self.resume(node);
            self.start(node);
            self.steady_clock(node);
            self.set_clock_near(node);
        }
        self.plan.sync_us = (150, 2_000);
        self.plan.shape.read_errors = 0;
    }
}
