//! What is looked at after everything has healed: what is left is the same everywhere, and what was acknowledged is in
//! it; every request succeeds again.

use std::collections::BTreeSet;

use moim_node::api::{Copy, Inspection};

use crate::abilities;
use crate::check::Property;
use crate::history::{Answer, Call, Key, Operation, Use, Value};
use crate::run::Stage;
use crate::workload::Intention;

/// How long after healing owners may still differ, in microseconds.
const CONVERGENCE_US_MAX: u64 = 60_000_000;

/// How long after that owners' clocks may still be longer than their bound: floors lag by twice the skew that is
/// tolerated, and then owners are compared twice. In microseconds.
const PRUNING_US_MAX: u64 = 120_000_000;

/// No client sets a deadline further ahead than this, the difference of clocks included, in microseconds.
const DEADLINES_US_MAX: u64 = 15_000_000;

/// A key that one node writes and another reads, to see that they can.
struct Probe {
    node: usize,
    key: Key,
}

impl Stage {
    /// What is left is the same everywhere, and what was acknowledged is in it.
    pub(crate) fn audit(&mut self) -> Option<()> {
        if self.world.plan.keeps_owed() && self.world.copies_given_up() == 0 {
            self.check_arrival()?;
        }
        if abilities::REPAIRS {
            // Nobody reads meanwhile: owners have to find out by themselves.
            self.converge()?;
        }
        self.audit_from = self.world.made() as u64;
        self.read_everything()?;
        self.read_everything()?;
        self.converge()?;
        self.agree()?;
        self.keep_clocks_small()
    }

    /// Owners find by comparison that they hold the same, soon: otherwise repair would never end.
    fn agree(&mut self) -> Option<()> {
        let end_us = self.world.now_us() + CONVERGENCE_US_MAX;
        while let Some(what) = self.world.tree_difference() {
            if self.world.now_us() >= end_us || self.world.broken.is_some() {
                self.fail(Property::TreesAgree, format!("owners' sums differ: {what}"));
                return None;
            }
            self.world.run_until(500_000, |_| false);
        }
        Some(())
    }

    /// Clocks come down to their bound once everybody has passed what they say: nobody is away any more.
    fn keep_clocks_small(&mut self) -> Option<()> {
        let end_us = self.world.now_us() + PRUNING_US_MAX;
        while let Some(what) = self.world.long_clock() {
            if self.world.now_us() >= end_us || self.world.broken.is_some() {
                self.fail(Property::ClocksAreSmall, what);
                return None;
            }
            self.world.run_until(500_000, |_| false);
        }
        Some(())
    }

    /// Reads every key at all copies through every node.
    pub(crate) fn read_everything(&mut self) -> Option<()> {
        let n = self.world.plan.shape.n;
        for key in self.keys.clone() {
            for node in 0..self.world.plan.nodes {
                let mut intention = Intention::new(key.clone(), node, Call::Read);
                intention.r = Some(n);
                self.must_succeed(intention)?;
            }
        }
        Some(())
    }

    fn must_succeed(&mut self, intention: Intention) -> Option<Operation> {
        let operation = self.world.ask_and_wait(intention);
        let failed = operation.has_failed();
        if failed {
            let what = "a request failed although everything had healed".to_owned();
            self.findings.add(true, Property::RequestsSucceed, what, &[&operation]);
        }
        (!failed).then_some(operation)
    }

    /// All owners of every key hold the same, soon.
    pub(crate) fn converge(&mut self) -> Option<()> {
        let end_us = self.world.now_us() + CONVERGENCE_US_MAX;
        for (at, key) in self.keys.clone().into_iter().enumerate() {
            loop {
                let copies = self.world.inspect(at % self.world.plan.nodes, &key);
                if copies.as_ref().is_some_and(|copies| self.are_equal(copies)) {
                    break;
                }
                if self.world.now_us() >= end_us || self.world.broken.is_some() {
                    let what = format!("the owners of {key} hold different things: {copies:?}");
                    self.fail(Property::CopiesConverge, what);
                    return None;
                }
                self.world.run_until(500_000, |_| false);
            }
        }
        Some(())
    }

    /// Whether all owners have the same to show. What is deleted or expired may be gone already on one and not yet on
    /// another; and what is about to expire may be gone by one clock and not by another.
    fn are_equal(&self, inspection: &Inspection) -> bool {
        let soon_ms = self.world.wall_ms_max() + CONVERGENCE_US_MAX / 1_000;
        let content = |copy: &Copy| match copy {
            Copy::Missing => Some((None, BTreeSet::new())),
            Copy::Held(context, versions) => {
                let live = versions.iter().filter(|version| version.is_live(soon_ms));
                let live = live.map(|version| (version.written, version.dot)).collect();
                Some(((!abilities::REPAIRS).then(|| context.clone()), live))
            }
            Copy::Unknown(_) => None,
        };
        let held: Option<Vec<_>> = inspection.copies.iter().map(|of| content(&of.1)).collect();
        held.is_some_and(|held| held.windows(2).all(|pair| pair[0] == pair[1]))
    }

    /// Without crashes nobody forgets what it owes: every owner has what was acknowledged, though nobody read it.
    fn check_arrival(&mut self) -> Option<()> {
        let is_register = |key: &Key| key.usage == Use::Register && !key.sloppy;
        for key in self.keys.clone().into_iter().filter(is_register) {
            let newest = self.world.history.iter().filter(|operation| operation.key == key);
            let newest = newest.filter_map(|operation| match operation.answer {
                Answer::Written { version, .. } => Some((version, operation.clone())),
                _ => None,
            });
            let Some((version, write)) = newest.max_by_key(|&(version, _)| version) else {
                continue;
            };
            let Some(inspection) = self.world.inspect(0, &key) else { continue };
            let has = |copy: &Copy| match copy {
                Copy::Held(_, versions) => versions.iter().any(|held| held.written >= version),
                Copy::Missing => abilities::FORGETS && !leaves_a_value(&write),
                Copy::Unknown(_) => true,
            };
            if let Some((owner, copy)) = inspection.copies.iter().find(|(_, copy)| !has(copy)) {
                let what = format!("owner {owner} never got it: {copy:?}");
                self.findings.add(true, Property::CopiesArrive, what, &[&write]);
                return None;
            }
        }
        Some(())
    }

    /// Every node can write, and every other one reads it.
    pub(crate) fn probe(&mut self) -> Option<()> {
        for probe in self.probes() {
            let node = probe.node;
            let value = Value(1_000_000 + node as u64);
            let put = Call::Put { value, expires_ms: 0, covers: None };
            let mut intention = Intention::new(probe.key.clone(), node, put);
            intention.w = Some(self.world.plan.shape.n);
            self.must_succeed(intention)?;
            let reader = (node + 1) % self.world.plan.nodes;
            self.must_succeed(Intention::new(probe.key, reader, Call::Read))?;
        }
        Some(())
    }

    /// A key for each node and namespace, in one partition, so that its listing has several pages.
    fn probes(&self) -> Vec<Probe> {
        let (nodes, spaces) = (self.world.plan.nodes, self.world.plan.spaces);
        let probe = |node, usage, sloppy| {
            let name = format!("{{probe}}-{node}");
            Probe { node, key: Key { usage, sloppy, name } }
        };
        let of_node = |node| {
            let uses = [Use::Register, Use::Cart].into_iter();
            uses.flat_map(move |usage| spaces.iter().map(move |&sloppy| probe(node, usage, sloppy)))
        };
        (0..nodes).flat_map(of_node).collect()
    }

    /// Live keys are listed, others are not. Deadlines are a few seconds ahead at the most: after a while no two
    /// clocks differ about them any more.
    pub(crate) fn check_listings(&mut self) -> Option<()> {
        self.world.run_until(DEADLINES_US_MAX, |_| false);
        for (at, key) in self.keys.clone().into_iter().enumerate() {
            let node = at % self.world.plan.nodes;
            let mut intention = Intention::new(key.clone(), node, Call::Read);
            intention.r = Some(self.world.plan.shape.n);
            let read = self.must_succeed(intention)?;
            let is_live = matches!(read.answer, Answer::Read { seen, .. } if !seen.is_empty());
            self.check_listing(node, &key, is_live)?;
        }
        for Probe { node, key } in self.probes() {
            self.check_listing(node, &key, true)?;
        }
        Some(())
    }

    fn check_listing(&mut self, node: usize, key: &Key, is_live: bool) -> Option<()> {
        let listed = self.world.list(node, key);
        let times =
            listed.as_ref().map(|keys| keys.iter().filter(|listed| **listed == key.name).count());
        if times != Some(usize::from(is_live)) {
            let what = format!("n{node} lists {key} {times:?} times, live: {is_live}: {listed:?}");
            self.fail(Property::ListingsAreRight, what);
            return None;
        }
        Some(())
    }
}

/// Whether a write leaves something for good, and not a deletion or something that expires.
fn leaves_a_value(write: &Operation) -> bool {
    write.written().is_some() && write.expires_ms() == 0
}
