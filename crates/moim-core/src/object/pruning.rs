//! Pruning of clocks under histories of chance: a cluster that prunes what is settled must show, replica by replica and
//! step by step, exactly the siblings of one that never prunes.

use proptest::prelude::*;

use super::laws::{actor, dot, joined, value};
use super::*;
use crate::NodeId;
use crate::clock::{Dot, Epoch, VersionVector};

const REPLICAS: usize = 3;
const PAIRS_MAX: usize = 2;

#[derive(Clone, Debug)]
enum Step {
    /// A client that had read replica `seen_at` just now (or nothing) writes through `at`, in a fresh epoch or not.
    Put {
        at: usize,
        seen_at: Option<usize>,
        restarted: bool,
    },
    Delete {
        at: usize,
        seen_at: usize,
    },
    /// Whoever wrote last through `wrote_at`, however long ago, writes again with the context it was given back.
    PutAgain {
        at: usize,
        wrote_at: usize,
    },
    Sync {
        from: usize,
        to: usize,
    },
    /// Every replica joins what every other holds: what was written until now is settled.
    Settle,
    /// One replica prunes; the others may do so later or never.
    Prune {
        at: usize,
    },
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let replica = 0..REPLICAS;
    let step = prop_oneof![
        4 => (replica.clone(), prop::option::of(replica.clone()), any::<bool>())
            .prop_map(|(at, seen_at, restarted)| Step::Put { at, seen_at, restarted }),
        1 => (replica.clone(), replica.clone()).prop_map(|(at, seen_at)| Step::Delete { at, seen_at }),
        1 => (replica.clone(), replica.clone()).prop_map(|(at, wrote_at)| Step::PutAgain { at, wrote_at }),
        3 => (replica.clone(), replica.clone()).prop_map(|(from, to)| Step::Sync { from, to }),
        2 => Just(Step::Settle),
        3 => replica.prop_map(|at| Step::Prune { at }),
    ];
    prop::collection::vec(step, 1..60)
}

/// One of the two clusters. Writes are numbered, because their dots may differ where one has pruned an epoch.
struct Cluster {
    prunes: bool,
    replicas: Vec<Siblings>,
    given_back: Vec<VersionVector>,
    runs: [u64; REPLICAS],
    writes: Vec<Dot>,
    settled: Hlc,
    serial: u32,
}

impl Cluster {
    fn new(prunes: bool) -> Self {
        Self {
            prunes,
            replicas: vec![Siblings::new(); REPLICAS],
            given_back: vec![VersionVector::new(); REPLICAS],
            runs: [0; REPLICAS],
            writes: Vec::new(),
            settled: Hlc::ZERO,
            serial: 0,
        }
    }

    fn write(&mut self, at: usize, written: Hlc, seen: &VersionVector, deletes: bool) {
        let (node, run, serial) = (NodeId(at as u64), self.runs[at], &mut self.serial);
        let replica = &mut self.replicas[at];
        let dot = replica.next_dot(node, run, seen, || {
            *serial += 1;
            Epoch { run, serial: *serial }
        });
        if deletes {
            replica.delete(dot, written, seen);
        } else {
            replica.put(Version::of_value(written, dot, value("v")), seen);
        }
        self.writes.push(dot);
        self.given_back[at] = seen.clone();
        self.given_back[at].insert(dot);
    }

    fn sync(&mut self, from: usize, to: usize) {
        let [from, held] = [from, to].map(|at| Object::Siblings(self.replicas[at].clone()));
        let Object::Siblings(both) = joined(&held, &from) else { unreachable!("siblings") };
        self.replicas[to] = both;
    }

    fn step(&mut self, written: Hlc, step: &Step) {
        let seen_at = |at: usize| self.replicas[at].context().clone();
        match *step {
            Step::Put { at, seen_at: from, restarted } => {
                let seen = from.map_or_else(VersionVector::new, seen_at);
                self.runs[at] += u64::from(restarted);
                self.write(at, written, &seen, false);
            }
            Step::PutAgain { at, wrote_at } => {
                let seen = self.given_back[wrote_at].clone();
                self.write(at, written, &seen, false);
            }
            Step::Delete { at, seen_at: from } => {
                let seen = seen_at(from);
                self.write(at, written, &seen, true);
            }
            Step::Sync { from, to } => self.sync(from, to),
            Step::Settle => {
                let all = || (0..REPLICAS).flat_map(|a| (0..REPLICAS).map(move |b| (a, b)));
                all().chain(all()).for_each(|(from, to)| self.sync(from, to));
                self.settled = written;
            }
            Step::Prune { at } if self.prunes => {
                self.replicas[at].prune(self.settled, PAIRS_MAX);
            }
            Step::Prune { .. } => {}
        }
    }

    /// The numbers of the writes that each replica shows.
    fn shown(&self) -> Vec<Vec<usize>> {
        let number =
            |dot: Dot| self.writes.iter().position(|&write| write == dot).expect("written");
        let numbers = |replica: &Siblings| {
            let mut numbers: Vec<_> =
                replica.versions().iter().map(|version| number(version.dot)).collect();
            numbers.sort_unstable();
            numbers
        };
        self.replicas.iter().map(numbers).collect()
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]
    #[test]
    fn pruning_what_is_settled_makes_no_false_sibling_and_loses_none(steps in steps()) {
        let (mut pruned, mut whole) = (Cluster::new(true), Cluster::new(false));
        for (time, step) in steps.iter().enumerate() {
            let written = Hlc::from_millis(time as u64 + 1);
            pruned.step(written, step);
            whole.step(written, step);
            prop_assert_eq!(pruned.shown(), whole.shown(), "after step {}", time);
        }
    }

    #[test]
    fn replicas_that_know_the_same_prune_the_same(steps in steps()) {
        let mut cluster = Cluster::new(true);
        for (time, step) in steps.iter().chain([&Step::Settle]).enumerate() {
            cluster.step(Hlc::from_millis(time as u64 + 1), step);
        }
        for at in 0..REPLICAS {
            cluster.step(Hlc::ZERO, &Step::Prune { at });
        }
        let digest = |at: usize| Object::Siblings(cluster.replicas[at].clone()).digest();
        prop_assert!((1..REPLICAS).all(|at| digest(at) == digest(0)));
        let replica = &cluster.replicas[0];
        let bound = PAIRS_MAX.max(replica.versions().len());
        prop_assert!(replica.context().len() <= bound, "{} pairs", replica.context().len());
    }
}

/// A thousand coordinators take turns on one key, each knowing what went before (REQ-17).
#[test]
fn a_thousand_coordinators_leave_a_bounded_clock_and_one_version() {
    const CLOCK_PAIRS_MAX: usize = 32;
    const SETTLED_EVERY: u64 = 10;
    let mut replicas = vec![Siblings::new(); REPLICAS];
    let mut settled = Hlc::ZERO;
    for node in 1..=1_000_u64 {
        let written = Hlc::from_millis(node);
        let at = (node % 3) as usize;
        let seen = replicas[at].context().clone();
        replicas[at].put(Version::of_value(written, dot(node, 1), value("v")), &seen);
        replicas[at].prune(settled, CLOCK_PAIRS_MAX);
        let minted = Object::Siblings(replicas[at].clone());
        for replica in &mut replicas {
            let Object::Siblings(both) = joined(&Object::Siblings(replica.clone()), &minted) else {
                unreachable!("siblings")
            };
            *replica = both;
            replica.prune(settled, CLOCK_PAIRS_MAX);
            assert_eq!(replica.versions().len(), 1, "a false sibling at coordinator {node}");
            let pairs = replica.context().len() as u64;
            assert!(pairs <= CLOCK_PAIRS_MAX as u64 + SETTLED_EVERY, "{pairs} pairs");
        }
        if node % SETTLED_EVERY == 0 {
            settled = written;
        }
    }
}

/// Why the age of a pair is not that of its dots: this version is old and settled, but was overwritten a moment ago, and
/// another replica has not heard of that.
#[test]
fn an_old_version_overwritten_just_now_keeps_its_pair() {
    let mut here = Siblings::new();
    let nothing = VersionVector::new();
    here.put(Version::of_value(Hlc::from_millis(1), dot(1, 1), value("old")), &nothing);
    let elsewhere = here.clone();
    let settled = Hlc::from_millis(10);
    let seen = here.context().clone();
    here.put(Version::of_value(Hlc::from_millis(11), dot(2, 1), value("new")), &seen);
    assert_eq!(here.prune(settled, 1), 0, "the overwriting is not settled");
    let both = joined(&Object::Siblings(elsewhere), &Object::Siblings(here.clone()));
    assert_eq!(both.versions().len(), 1);
    assert_eq!(here.prune(Hlc::from_millis(11), 1), 1, "now it is");
    assert_eq!(here.context().get(actor(1)), 0);
}

/// An object of a time before ages were kept: its pairs count as young as its newest write.
#[test]
fn an_object_without_ages_is_pruned_late() {
    let context = [dot(1, 1), dot(2, 1)].into_iter().collect();
    let newest = Version::of_value(Hlc::from_millis(9), dot(2, 1), value("v"));
    let parts = Siblings::from_parts(context, None, vec![newest], Hlc::from_millis(9));
    let mut old = parts.expect("sound");
    assert_eq!(old.prune(Hlc::from_millis(8), 1), 0);
    assert_eq!(old.prune(Hlc::from_millis(9), 1), 1);
}

/// What somebody would know of, had it not been removed and forgotten, is told from what is new.
#[test]
fn forgotten_versions_are_told_from_new_ones() {
    let mut sent = Siblings::new();
    let nothing = VersionVector::new();
    for node in 1..=3 {
        let version = Version::of_value(Hlc::from_millis(node), dot(node, 1), value("v"));
        sent.put(version, &nothing);
    }
    let mut known = Siblings::new();
    known.put(Version::of_value(Hlc::from_millis(1), dot(1, 1), value("v")), &nothing);
    let (kept, any) = sent.without_forgotten(Some(&known), Hlc::from_millis(2));
    assert!(any);
    let dots: Vec<_> = kept.versions().iter().map(|version| version.dot).collect();
    assert_eq!(dots, [dot(1, 1), dot(3, 1)], "known, and newer than what is complete");
    assert_eq!(kept.context(), sent.context(), "whoever held the other learns that it is gone");
}
