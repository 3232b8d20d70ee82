//! Clocks that are set, or go at a wrong speed.

use super::Sequel;
use crate::world::World;

impl World {
    pub(super) fn set_clock(&mut self, node: usize, reach_ms: i64) {
        self.count_fault("clocks set");
        let offset_ms = self.chance.faults.around_zero(reach_ms);
        self.servers[node].clock.set(self.now_us, offset_ms);
    }

    pub(super) fn set_clock_far_off(&mut self, node: usize, lasts_us: u64) {
        self.count_fault("clocks set far off");
        let beyond_ms = i64::try_from(self.common.options.max_clock_skew_ms).unwrap_or(0) + 3_000;
        let offset_ms = *self.chance.faults.pick(&[-beyond_ms, beyond_ms]);
        self.servers[node].clock.set(self.now_us, offset_ms);
        self.plan_sequel(lasts_us, Sequel::ClockRight(node));
    }

    /// Five milliseconds in a hundred at the most: a hundred times what a cheap quartz does, for a short time.
    pub(super) fn let_clock_drift(&mut self, node: usize, lasts_us: u64) {
        self.count_fault("clocks drifting");
        let drift_ppm = self.chance.faults.around_zero(50_000);
        self.servers[node].clock.drift(self.now_us, drift_ppm);
        self.plan_sequel(lasts_us, Sequel::ClockSteady(node));
    }

    pub(super) fn steady_clock(&mut self, node: usize) {
        let (_, drift_ppm) = self.plan.clocks[node];
        self.servers[node].clock.drift(self.now_us, drift_ppm);
    }

    pub(super) fn set_clock_near(&mut self, node: usize) {
        let reach_ms = self.plan.shape.clock_reach_ms;
        if self.servers[node].clock.offset_ms(self.now_us).abs() > reach_ms {
            self.set_clock(node, reach_ms);
        }
    }
}
