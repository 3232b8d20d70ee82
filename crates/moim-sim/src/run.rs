//! A whole run: a cluster is founded, clients work while things go wrong, everything heals, and what is left is
//! looked at from every node.
//!
//! Safety and liveness are judged apart: during the work no request has to succeed, but what was acknowledged holds;
//! after healing every request has to succeed, and all copies become equal within a bounded time.

use std::collections::BTreeMap;

use crate::abilities;
use crate::check::{Conditions, Findings, Levels, Property, Violation, judge};
use crate::history::Key;
use crate::plan::Settings;
use crate::profile::{Fault, Profile};
use crate::workload::Client;
use crate::world::World;

/// Founding takes a few round trips; this is generous, in microseconds.
const FOUNDING_US_MAX: u64 = 20_000_000;
/// A request and its clients' patience, many times over, in microseconds.
const WORK_US_MAX: u64 = 3_600_000_000;
/// Owed copies are offered again after at most `task_retry_max_ms`. In microseconds.
const SETTLING_US_MAX: u64 = 60_000_000;
/// How long after everything works again, and all are connected, requests may still fail. In microseconds.
const NOTICE_US: u64 = 1_500_000;
/// The same where a clock was far off: stamps from the future are refused until it has come. In microseconds.
const NOTICE_FAR_OFF_US: u64 = 12_000_000;

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
    /// How often each kind of fault struck.
    pub faults: BTreeMap<&'static str, u64>,
    /// How often each other kind of thing happened.
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
        Mutation::DropHints => "drop-hints",
        Mutation::RetireTombstonesByAge => "retire-tombstones-by-age",
        Mutation::RepairResurrects => "repair-resurrects",
        Mutation::OneReporter => "one-reporter",
        Mutation::ExpiryStaysInTrees => "expiry-stays-in-trees",
        Mutation::FsyncSkippedOnOneNode => "fsync-skipped-on-one-node",
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

/// A run under way.
pub(crate) struct Stage {
    pub(crate) world: World,
    pub(crate) findings: Findings,
    pub(crate) keys: Vec<Key>,
    /// The first request after the work: from here on everything has healed.
    pub(crate) audit_from: u64,
}

impl Stage {
    pub(crate) fn new(settings: &Settings) -> Self {
        let world = World::new(settings);
        let keys = Client::keys(&world.plan);
        Self { world, findings: Findings::default(), keys, audit_from: u64::MAX }
    }

    /// The acts, until one fails.
    pub(crate) fn play(&mut self) {
        let acts = [Self::found, Self::work, Self::heal, Self::audit, Self::check_listings];
        let played = acts.into_iter().all(|act| act(self).is_some());
        if let Some(why) = self.world.broken.take() {
            self.fail(Property::NodesRun, why);
        } else if !played {
            assert!(!self.findings.violations.is_empty(), "an act failed without saying why");
        }
        self.world.date_unended_writes();
        let findings = judge(&self.world.history, self.conditions());
        self.findings.violations.extend(findings.violations);
        self.findings.unpromised.extend(findings.unpromised);
        self.report_unheld();
        if let Some(what) = self.world.take_wrongly_down() {
            self.fail(Property::TheHeardAreNotDown, what);
        }
    }

    fn report_unheld(&mut self) {
        for (operation, held, needed) in std::mem::take(&mut self.world.unheld) {
            let what = format!("acknowledged with {held} of {needed} synced copies");
            let shown: Vec<_> = self.world.entry(operation).into_iter().collect();
            self.findings.add(true, Property::AcknowledgedIsHeld, what, &shown);
        }
    }

    fn conditions(&self) -> Conditions {
        let shape = self.world.plan.shape;
        let levels = Levels {
            healed_from: self.audit_from,
            disks_lost: self.world.plan.disks_lost_max(),
            forgets: abilities::FORGETS,
            ..Levels::strict(shape.n, shape.r, shape.w)
        };
        let clock_pairs_max = self.world.options().clock_pairs_max;
        Conditions { levels, calm: self.world.plan.profile == Profile::Calm, clock_pairs_max }
    }

    pub(crate) fn fail(&mut self, property: Property, what: String) {
        self.findings.add(true, property, what, &[]);
    }

    /// The nodes find each other and agree on the first ring.
    pub(crate) fn found(&mut self) -> Option<()> {
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
        let done = self.world.run_until(WORK_US_MAX, World::is_work_done);
        if !done {
            self.fail(Property::RequestsSucceed, "clients never came to an end".to_owned());
        }
        if self.world.plan.profile == Profile::Calm {
            let failed =
                self.world.history.iter().find(|operation| operation.has_failed()).cloned();
            if let Some(operation) = failed {
                let what = "a request failed although nothing else did".to_owned();
                self.findings.add(true, Property::RequestsSucceed, what, &[&operation]);
            }
        }
        done.then_some(())
    }

    /// Everything works again: soon every request succeeds, and in time the nodes hand over what they owe.
    fn heal(&mut self) -> Option<()> {
        self.world.heal_all();
        self.settle()?;
        self.probe()?;
        self.hand_over()
    }

    /// All are connected, and have had time to notice.
    fn settle(&mut self) -> Option<()> {
        let ready = self.world.run_until(SETTLING_US_MAX, World::is_ready);
        if !ready && self.world.broken.is_none() {
            self.fail(Property::NodesRun, "not all nodes serve and are connected again".to_owned());
        }
        let far_off = self.world.plan.nemesis.has_any(&[Fault::ClockFarOff]);
        self.world.run_until(if far_off { NOTICE_FAR_OFF_US } else { NOTICE_US }, |_| false);
        ready.then_some(())
    }

    fn hand_over(&mut self) -> Option<()> {
        let nothing_owed = self.world.run_until(SETTLING_US_MAX, |world| world.owed() == 0);
        if !nothing_owed && self.world.broken.is_none() {
            let what =
                format!("{} copies were still owed after everything had healed", self.world.owed());
            self.fail(Property::CopiesConverge, what);
        }
        nothing_owed.then_some(())?;
        let nothing_kept = self.world.run_until(SETTLING_US_MAX, |world| world.hints() == 0);
        if !nothing_kept && self.world.broken.is_none() {
            let what =
                format!("{} hints were left after everything had healed", self.world.hints());
            self.fail(Property::HintsAreHandedOver, what);
        }
        nothing_kept.then_some(())
    }

    fn report(self, settings: Settings) -> Report {
        let Self { mut world, findings, .. } = self;
        world.count_spoilt();
        let history = &world.history;
        Report {
            settings,
            profile: world.plan.profile,
            nodes: world.plan.nodes,
            operations: history.len(),
            acknowledged: history.len()
                - history.iter().filter(|operation| operation.has_failed()).count(),
            simulated_us: world.now_us(),
            violations: findings.violations,
            unpromised: findings.unpromised,
            faults: world.faults,
            tally: world.tally,
            trace: world.trace.into_text(),
        }
    }
}
