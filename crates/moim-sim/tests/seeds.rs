//! Runs that once found something. A seed's run changes when the simulator draws differently, so what each one found is
//! a test of its own where the bug was; this list keeps the kinds of runs that were worth it.

use moim_sim::plan::Settings;
use moim_sim::profile::Profile;
use moim_sim::run::run;

const FOUND: &[(u64, Profile, &str)] = &[
    (1, Profile::Calm, "founding members answered each other's announcements without end"),
    (1, Profile::Crashes, "a restarted node's stamps were too far ahead for its peers"),
    (1, Profile::Lossy, "a forwarded put that was repeated became two siblings"),
    (1, Profile::N5W1R5, "a context named a deletion but not what it had deleted, which came back"),
];

#[test]
fn what_was_found_stays_fixed() {
    for &(seed, profile, found) in FOUND {
        let report = run(Settings { profile: Some(profile), ..Settings::of_seed(seed) });
        let violations: Vec<String> = report.violations.iter().map(ToString::to_string).collect();
        assert!(
            violations.is_empty(),
            "{}\n{found}\n{}",
            report.reproduce(),
            violations.join("\n")
        );
    }
}
