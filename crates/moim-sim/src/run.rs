//! A whole run: a cluster is founded, clients work while things go wrong, everything heals, and what is left is
//! looked at from every node.
//!
//! Safety and liveness are judged apart: during the work no request has to succeed, but what was acknowledged holds;
//! after healing every request has to succeed, and all copies become equal within a bounded time.

use std::collections::BTreeMap;

use moim_node::api::{Copy, Inspection};

use crate::check::{Conditions, Findings, Levels, Property, Violation, judge};
use crate::history::{Answer, Call, Operation, Use, Value};
use crate::plan::Settings;
use crate::profile::Profile;
use crate::workload::{Client, Intention};
use crate::world::World;

/// Founding takes a few round trips; this is generous, in microseconds.
const FOUNDING_US_MAX: u64 = 20_000_000;
/// A request and its clients' patience, many times over, in microseconds.
const WORK_US_MAX: u64 = 3_600_000_000;
/// Owed copies are offered again after at most `task_retry_max_ms`; healed clocks need as long as they were off. In
/// microseconds.
const SETTLING_US_MAX: u64 = 60_000_000;
/// After healing, before anybody insists on an answer: connections stand again, stamps of clocks that were far off
/// have passed, and nodes have noticed. In microseconds.
const SETTLING_US_MIN: u64 = 12_000_000;

/// How a run ended.
#[derive(Clone, Debug)]
pub struct Report {
    /// What it was.
    pub settings: Settings,
    /// Its profile.
    pub profile: Profile,
    /// Nodes, and requests made.
    pub nodes: usize,
    /// Requests that clients made.
    pub operations: usize,
    /// Requests that were acknowledged.
    pub acknowledged: usize,
    /// Simulated time, in microseconds.
    pub simulated_us: u64,
    /// Broken promises.
    pub violations: Vec<Violation>,
    /// What failed without having been promised, and how often.
    pub unpromised: BTreeMap<Property, u64>,
    /// How often each kind of thing happened.
    pub tally: BTreeMap<&'static str, u64>,
    /// The story, if it was asked for.
    pub trace: String,
}

impl Report {
    /// The command that makes this run again.
    pub fn reproduce(&self) -> String {
        let Settings { seed, operations, profile, mutation, .. } = self.settings;
        let profile = profile.map(|profile| format!(" --profile {profile}")).unwrap_or_default();
        let mutation = mutation.map(|mutation| format!(" --mutation {}", mutation_name(mutation)));
        let mutation = mutation.unwrap_or_default();
        format!("moim-sim --seed {seed} --operations {operations}{profile}{mutation}")
    }
}

/// The name of a mutation on the command line.
pub fn mutation_name(mutation: moim_node::options::Mutation) -> &'static str {
    use moim_node::options::Mutation;
    match mutation {
        Mutation::AckBeforeSync => "ack-before-sync",
        Mutation::ReuseEpoch => "reuse-epoch",
        Mutation::WriteQuorumShort => "write-quorum-short",
        Mutation::DropConcurrentSibling => "drop-concurrent-sibling",
        Mutation::HideSuperseded => "hide-superseded",
    }
}

/// Makes a run. A panic of the node's is a violation like any other.
pub fn run(settings: Settings) -> Report {
    let mut stage = Stage::new(&settings);
    let ran = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| stage.play()));
    if let Err(panic) = ran {
        let text = panic.downcast_ref::<String>().cloned();
        let text = text.or_else(|| panic.downcast_ref::<&str>().map(|&text| text.to_owned()));
        let what = format!("panicked: {}", text.unwrap_or_default());
        stage.findings.add(true, Property::NodesRun, what, &[]);
    }
    stage.report(settings)
}

struct Stage {
    world: World,
    findings: Findings,
    keys: Vec<(Use, String)>,
    /// The first request after the work: from here on everything has healed.
    audit_from: u64,
}

impl Stage {
    fn new(settings: &Settings) -> Self {
        let world = World::new(settings);
        let keys = Client::keys(&world.plan);
        Self { world, findings: Findings::default(), keys, audit_from: 0 }
    }

    /// The acts, until one fails.
    fn play(&mut self) {
        let acts = [Self::found, Self::work, Self::heal, Self::audit, Self::probe];
        let played = acts.into_iter().all(|act| act(self).is_some());
        if let Some(why) = self.world.broken.take() {
            self.fail(Property::NodesRun, why);
        } else if !played {
            assert!(!self.findings.violations.is_empty(), "an act failed without saying why");
        }
        let findings = judge(&self.world.history, self.conditions());
        self.findings.violations.extend(findings.violations);
        self.findings.unpromised.extend(findings.unpromised);
    }

    fn conditions(&self) -> Conditions {
        let shape = self.world.plan.shape;
        let levels = Levels { n: shape.n, w: shape.w };
        let carts_from = if shape.lost_disks > 0 { self.audit_from } else { 0 };
        Conditions { levels, calm: self.world.plan.profile == Profile::Calm, carts_from }
    }

    fn fail(&mut self, property: Property, what: String) {
        self.findings.add(true, property, what, &[]);
    }

    /// The nodes find each other and agree on the first ring.
    fn found(&mut self) -> Option<()> {
        let founded = self.world.run_until(FOUNDING_US_MAX, World::is_ready);
        if !founded {
            self.fail(Property::NodesRun, "the nodes did not found a cluster in time".to_owned());
        }
        founded.then_some(())
    }

    /// Clients work, and things go wrong.
    fn work(&mut self) -> Option<()> {
        self.world.begin_faults();
        self.world.begin_work();
        let lost_disks = self.world.plan.shape.lost_disks;
        let share = self.world.budget() / (lost_disks + 1);
        for lost in 1..=lost_disks {
            self.world.run_until(WORK_US_MAX, |world| world.made() >= lost * share);
            self.lose_disk()?;
        }
        let done = self.world.run_until(WORK_US_MAX, World::is_work_done);
        if !done {
            self.fail(Property::RequestsSucceed, "clients never came to an end".to_owned());
        }
        done.then_some(())
    }

    /// A node loses its disk and is refilled by reading everything, as an operator would until nodes do it
    /// themselves. Registers rest meanwhile: with two disks of three nobody promises them anything. Carts go on for a
    /// while, so that the node with the empty disk coordinates writes of keys that it has forgotten.
    fn lose_disk(&mut self) -> Option<()> {
        self.world.registers_hold = true;
        self.world.run_until(WORK_US_MAX, |world| world.pending_registers() == 0);
        self.world.lose_disk();
        let oblivious_us = self.world.begin_oblivion();
        self.world.run_until(oblivious_us, |_| false);
        self.world.all_hold = true;
        self.world.run_until(WORK_US_MAX, |world| world.pending() == 0);
        self.settle()?;
        self.read_everything()?;
        self.converge()?;
        self.world.registers_hold = false;
        self.world.all_hold = false;
        Some(())
    }

    /// Everything works again, and the nodes have time to notice and to hand over what they owe.
    fn heal(&mut self) -> Option<()> {
        self.world.heal_all();
        self.settle()
    }

    fn settle(&mut self) -> Option<()> {
        self.world.run_until(SETTLING_US_MIN, |_| false);
        let settled =
            self.world.run_until(SETTLING_US_MAX, |world| world.is_ready() && world.owed() == 0);
        if !settled && self.world.broken.is_none() {
            let what =
                format!("{} copies were still owed after everything had healed", self.world.owed());
            self.fail(Property::CopiesConverge, what);
        }
        settled.then_some(())
    }

    /// What is left is the same everywhere, and what was acknowledged is in it.
    fn audit(&mut self) -> Option<()> {
        if self.world.plan.shape.keeps_owed() && self.world.copies_given_up() == 0 {
            self.check_arrival()?;
        }
        self.audit_from = self.world.made() as u64;
        self.read_everything()?;
        self.read_everything()?;
        self.converge()
    }

    /// Reads every key at all copies through every node.
    fn read_everything(&mut self) -> Option<()> {
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
        let failed =
            matches!(operation.answer, Answer::None | Answer::Refused(_) | Answer::Unknown(_));
        if failed {
            let what = "a request failed although everything had healed".to_owned();
            self.findings.add(true, Property::RequestsSucceed, what, &[&operation]);
        }
        (!failed).then_some(operation)
    }

    /// All owners of every key hold the same, soon.
    fn converge(&mut self) -> Option<()> {
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
    fn probe(&mut self) -> Option<()> {
        for node in 0..self.world.plan.nodes {
            for usage in [Use::Register, Use::Cart] {
                let key = format!("probe-{node}");
                let value = Value(1_000_000 + node as u64);
                let put = Call::Put { value, expires_ms: 0, covers: None };
                self.must_succeed(Intention::new(usage, key.clone(), node, put))?;
                let reader = (node + 1) % self.world.plan.nodes;
                self.must_succeed(Intention::new(usage, key, reader, Call::Read))?;
            }
        }
        Some(())
    }

    fn report(self, settings: Settings) -> Report {
        let Self { world, findings, .. } = self;
        let history = &world.history;
        let failed = |operation: &&Operation| {
            matches!(operation.answer, Answer::None | Answer::Refused(_) | Answer::Unknown(_))
        };
        Report {
            settings,
            profile: world.plan.profile,
            nodes: world.plan.nodes,
            operations: history.len(),
            acknowledged: history.len() - history.iter().filter(failed).count(),
            simulated_us: world.now_us(),
            violations: findings.violations,
            unpromised: findings.unpromised,
            tally: world.tally,
            trace: world.trace.into_text(),
        }
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
