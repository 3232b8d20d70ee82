//! How often a reader meets one version, and how often several: the measurement of Dynamo's section 6.3, in simulation.
//!
//! Carts are read and written back by *humans*, one to a cart, and by *robots*, several to a cart; with failures and
//! without. A human's cart has several versions only if a write went another way than the read before it, or if a
//! request had no answer and was repeated. The paper counted 99.94 % of requests that saw one version, and says that the
//! others came from concurrent writers rather than from failures.

use crate::check::Violation;
use crate::history::{AUDITOR, Answer, Key, Operation, Use};
use crate::plan::{Plan, Settings};
use crate::profile::Profile;
use crate::random::Random;
use crate::run::Stage;
use crate::workload::Client;

/// Carts in a run.
const CARTS: usize = 24;

/// How carts are used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mix {
    /// Writers to a cart: one for humans.
    pub writers: usize,
    /// Whether writers take as long as people do between two clicks, or as long as programs do.
    pub people: bool,
    /// What fails meanwhile.
    pub failures: Failures,
}

/// How often nodes and links fail while carts are used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failures {
    /// Never.
    Never,
    /// About once in ten minutes, for seconds: each of five nodes then fails about once an hour, where machines in a data
    /// centre fail once in months.
    Rarely,
    /// About once a minute, for seconds.
    NowAndThen,
    /// Always somewhere, often several at once, for seconds.
    Always,
}

/// The pause between failures that come now and then, in milliseconds.
const NOW_AND_THEN_MS: (u64, u64) = (30_000, 90_000);

/// The same for those that come rarely.
const RARELY_MS: (u64, u64) = (300_000, 900_000);

/// What people take between two requests, usually, in microseconds. Some take several times as long.
const THINK_US: u64 = 6_000_000;

/// What readers met.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Met {
    /// Reads that were answered with one, two, three, and four or more versions.
    pub versions: [u64; 4],
    /// Requests.
    pub requests: u64,
    /// Those of them that failed.
    pub failed: u64,
    /// Broken promises.
    pub violations: Vec<Violation>,
}

impl Met {
    /// Reads that found something.
    pub fn reads(&self) -> u64 {
        self.versions.iter().sum()
    }

    fn add(&mut self, operation: &Operation) {
        self.requests += 1;
        self.failed += u64::from(operation.has_failed());
        if let Answer::Read { seen, .. } = &operation.answer
            && let Some(more) = seen.len().checked_sub(1)
        {
            self.versions[more.min(3)] += 1;
        }
    }

    /// Adds what others met.
    pub fn merge(&mut self, other: Self) {
        for (sum, count) in self.versions.iter_mut().zip(other.versions) {
            *sum += count;
        }
        self.requests += other.requests;
        self.failed += other.failed;
        self.violations.extend(other.violations);
    }
}

/// Makes one run of a mix.
pub fn measure(seed: u64, operations: usize, mix: Mix) -> Met {
    let profile = if mix.failures == Failures::Never { Profile::Calm } else { Profile::StandIns };
    let settings = Settings { operations, profile: Some(profile), ..Settings::of_seed(seed) };
    let mut stage = Stage::new(&settings);
    match mix.failures {
        Failures::Rarely => stage.world.plan.nemesis.pace.gap_ms = RARELY_MS,
        Failures::NowAndThen => stage.world.plan.nemesis.pace.gap_ms = NOW_AND_THEN_MS,
        Failures::Never | Failures::Always => {}
    }
    if mix.people {
        stage.world.plan.think_us = THINK_US;
    }
    let random = Random::new(seed).fork("shoppers");
    stage.world.set_clients(crew(&stage.world.plan, &random, mix.writers));
    stage.keys = (0..CARTS).map(|cart| key(cart, &stage.world.plan)).collect();
    stage.play();
    let mut met = Met { violations: stage.findings.violations, ..Met::default() };
    let shoppers = stage.world.history.iter().filter(|operation| operation.client != AUDITOR);
    shoppers.for_each(|operation| met.add(operation));
    met
}

fn key(cart: usize, plan: &Plan) -> Key {
    let sloppy = plan.spaces.contains(&true);
    Key { sloppy, ..Key::strict(Use::Cart, Client::cart(cart)) }
}

fn crew(plan: &Plan, random: &Random, writers: usize) -> Vec<Client> {
    let shoppers = (0..CARTS).flat_map(|cart| (0..writers).map(move |_| cart));
    shoppers.enumerate().map(|(index, cart)| Client::shopper(plan, random, (index, cart))).collect()
}
