//! What the simulator itself promises: a seed is a run, faults happen, and rules that are switched off are noticed.

use std::collections::BTreeMap;

use moim_node::options::{MUTATIONS, Mutation};
use moim_sim::check::Property;
use moim_sim::plan::Settings;
use moim_sim::profile::{PROFILES, Profile};
use moim_sim::run::{Report, run};

fn short(seed: u64, profile: Profile) -> Settings {
    Settings { operations: 400, profile: Some(profile), ..Settings::of_seed(seed) }
}

#[test]
fn a_seed_tells_the_same_story_every_time() {
    for profile in PROFILES {
        let settings = Settings { trace: true, ..short(7, profile) };
        let (first, second) = (run(settings).trace, run(settings).trace);
        assert!(first.lines().count() > 1_000, "{profile}: hardly anything happened");
        assert!(first == second, "{profile}: two runs of one seed differ");
    }
    let other = |seed| run(Settings { trace: true, ..short(seed, Profile::Calm) }).trace;
    assert_ne!(other(7), other(8));
}

#[test]
fn keeping_the_trace_changes_nothing() {
    let told = run(Settings { trace: true, ..short(3, Profile::Mixed) });
    let untold = run(short(3, Profile::Mixed));
    assert_eq!((told.acknowledged, told.simulated_us), (untold.acknowledged, untold.simulated_us));
    assert_eq!((told.tally, told.faults), (untold.tally, untold.faults));
}

/// Runs seeds until `enough`, and fails if that never comes.
fn run_until(profile: Profile, what: &str, enough: impl Fn(&Report) -> bool) {
    let found = (1..=20).any(|seed| {
        let report = run(short(seed, profile));
        let violations: Vec<_> = report.violations.iter().map(ToString::to_string).collect();
        assert!(violations.is_empty(), "{}: {}", report.reproduce(), violations.join("\n"));
        enough(&report)
    });
    assert!(found, "{profile}: never saw {what}");
}

#[test]
fn faults_happen() {
    for (profile, what) in [
        (Profile::Partitions, "splits"),
        (Profile::Partitions, "one-way cuts"),
        (Profile::Partitions, "connections timed out"),
        (Profile::Crashes, "batches lost"),
        (Profile::Crashes, "disk failures"),
        (Profile::Crashes, "restarts"),
        (Profile::Blackouts, "blackouts"),
        (Profile::Blackouts, "power cuts"),
        (Profile::Hanging, "pauses"),
        (Profile::Hanging, "slow links"),
        (Profile::Clocks, "clocks set"),
        (Profile::Clocks, "clocks set far off"),
        (Profile::LostDisks, "disks lost"),
        (Profile::LostDisks, "old disks restored"),
        (Profile::Mixed, "reads failed"),
        (Profile::Nemesis, "bridges"),
        (Profile::Nemesis, "noise"),
        (Profile::Nemesis, "full disks"),
        (Profile::Nemesis, "disks low on room"),
        (Profile::Nemesis, "writes refused for want of room"),
        (Profile::Nemesis, "disks with read errors"),
        (Profile::Nemesis, "clocks drifting"),
        (Profile::Mixed, "values given back"),
    ] {
        let happened = |of: &BTreeMap<&str, u64>| of.get(what).is_some_and(|&count| count > 0);
        run_until(profile, what, |report| happened(&report.faults) || happened(&report.tally));
    }
}

#[test]
fn levels_that_promise_nothing_fail_sometimes() {
    for (profile, property) in [
        (Profile::Weak, Property::ReadsSeeWrites),
        (Profile::Weak, Property::ReadsNeverGoBack),
        (Profile::N5W2R4, Property::LaterWritesWin),
        (Profile::N5W1R5, Property::LaterWritesWin),
        (Profile::N5W5R1, Property::ReadsNeverGoBack),
    ] {
        run_until(profile, property.name(), |report| report.unpromised.contains_key(&property));
    }
}

#[test]
fn every_rule_that_is_switched_off_is_noticed() {
    for (mutation, profile) in [
        (Mutation::AckBeforeSync, Profile::Blackouts),
        (Mutation::ReuseEpoch, Profile::LostDisks),
        (Mutation::WriteQuorumShort, Profile::Mixed),
        (Mutation::DropConcurrentSibling, Profile::Mixed),
        (Mutation::HideSuperseded, Profile::Mixed),
        (Mutation::DropHints, Profile::StandIns),
        (Mutation::RetireTombstonesByAge, Profile::Crashes),
        (Mutation::RepairResurrects, Profile::Partitions),
        (Mutation::OneReporter, Profile::Nemesis),
        (Mutation::ExpiryStaysInTrees, Profile::N5W2R4),
        (Mutation::FsyncSkippedOnOneNode, Profile::Blackouts),
    ] {
        let caught = (1..=200).any(|seed| {
            let settings = Settings { operations: 1_000, ..short(seed, profile) };
            let report = run(Settings { mutation: Some(mutation), ..settings });
            let told = |property| property != Property::AcknowledgedIsHeld;
            report.violations.iter().any(|violation| told(violation.property))
        });
        assert!(caught, "{mutation:?} went unnoticed");
    }
    assert_eq!(MUTATIONS.len(), 11, "a mutation without a test");
}
