//! What is looked at after everything has healed: what is left is the same everywhere, and what was acknowledged is in
//! it; every request succeeds again.

use moim_node::api::{Copy, Inspection};

use crate::check::Property;
use crate::history::{Answer, Call, Operation, Use, Value};
use crate::run::Stage;
use crate::workload::Intention;

/// No client sets a deadline further ahead than this, the difference of clocks included, in microseconds.
const DEADLINES_US_MAX: u64 = 15_000_000;

impl Stage {
    /// What is left is the same everywhere, and what was acknowledged is in it.
    pub(crate) fn audit(&mut self) -> Option<()> {
        if self.world.plan.keeps_owed() && self.world.copies_given_up() == 0 {
            self.check_arrival()?;
        }
        self.audit_from = self.world.made() as u64;
        self.read_everything()?;
        self.read_everything()?;
        self.converge()
    }

    /// Reads every key at all copies through every node.
    pub(crate) fn read_everything(&mut self) -> Option<()> {
        let n = self.world.plan.shape.n;
        for (usage, key) in self.keys.clone() {
            for node in 0..self.world.plan.nodes {
                let mut intention = Intention::new(usage, key.clone(), node, Call::Read);
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
        for (usage, key) in self.keys.clone() {
            let mut last = None;
            for attempt in 0..10 {
                last = self.world.inspect(attempt % self.world.plan.nodes, usage, &key);
                if last.as_ref().is_some_and(is_equal) {
                    break;
                }
                self.world.run_until(1_000_000, |_| false);
            }
            if !last.as_ref().is_some_and(is_equal) {
                let what = format!("the owners of {key} hold different things: {last:?}");
                self.fail(Property::CopiesConverge, what);
                return None;
            }
        }
        Some(())
    }

    /// Without crashes nobody forgets what it owes: every owner has what was acknowledged, though nobody read it.
    fn check_arrival(&mut self) -> Option<()> {
        for (usage, key) in
            self.keys.clone().into_iter().filter(|&(usage, _)| usage == Use::Register)
        {
            let newest = self.world.history.iter().filter(|operation| operation.key == key);
            let newest = newest.filter_map(|operation| match operation.answer {
                Answer::Written { version, .. } => Some((version, operation.clone())),
                _ => None,
            });
            let Some((version, write)) = newest.max_by_key(|&(version, _)| version) else {
                continue;
            };
            let Some(inspection) = self.world.inspect(0, usage, &key) else { continue };
            let has = |copy: &Copy| match copy {
                Copy::Held(_, versions) => versions.iter().any(|held| held.written >= version),
                Copy::Missing => false,
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
        let probes = self.probes();
        for (node, key) in probes.iter().enumerate() {
            for usage in [Use::Register, Use::Cart] {
                let value = Value(1_000_000 + node as u64);
                let put = Call::Put { value, expires_ms: 0, covers: None };
                let mut intention = Intention::new(usage, key.clone(), node, put);
                intention.w = Some(self.world.plan.shape.n);
                self.must_succeed(intention)?;
                let reader = (node + 1) % probes.len();
                self.must_succeed(Intention::new(usage, key.clone(), reader, Call::Read))?;
            }
        }
        Some(())
    }

    /// A key for each node, in one partition, so that its listing has several pages.
    fn probes(&self) -> Vec<String> {
        (0..self.world.plan.nodes).map(|node| format!("{{probe}}-{node}")).collect()
    }

    /// Live keys are listed, others are not. Deadlines are a few seconds ahead at the most: after a while no two
    /// clocks differ about them any more.
    pub(crate) fn check_listings(&mut self) -> Option<()> {
        self.world.run_until(DEADLINES_US_MAX, |_| false);
        for (at, (usage, key)) in self.keys.clone().into_iter().enumerate() {
            let node = at % self.world.plan.nodes;
            let mut intention = Intention::new(usage, key.clone(), node, Call::Read);
            intention.r = Some(self.world.plan.shape.n);
            let read = self.must_succeed(intention)?;
            let is_live = matches!(read.answer, Answer::Read { seen, .. } if !seen.is_empty());
            self.check_listing(node, usage, &key, is_live)?;
        }
        for (node, key) in self.probes().iter().enumerate() {
            self.check_listing(node, Use::Register, key, true)?;
            self.check_listing(node, Use::Cart, key, true)?;
        }
        Some(())
    }

    fn check_listing(&mut self, node: usize, usage: Use, key: &str, is_live: bool) -> Option<()> {
        let listed = self.world.list(node, usage, key);
        let times =
            listed.as_ref().map(|keys| keys.iter().filter(|listed| **listed == key).count());
        if times != Some(usize::from(is_live)) {
            let what = format!("n{node} lists {key} {times:?} times, live: {is_live}: {listed:?}");
            self.fail(Property::ListingsAreRight, what);
            return None;
        }
        Some(())
    }
}

fn is_equal(inspection: &Inspection) -> bool {
    let content = |copy: &Copy| match copy {
        Copy::Missing => Some(None),
        Copy::Held(context, _) => Some(Some(context.clone())),
        Copy::Unknown(_) => None,
    };
    let held: Option<Vec<_>> = inspection.copies.iter().map(|(_, copy)| content(copy)).collect();
    held.is_some_and(|held| held.windows(2).all(|pair| pair[0] == pair[1]))
}
