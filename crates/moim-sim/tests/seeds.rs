//! Runs that once found something. Each fails again when its fix is taken back, as long as the simulator draws as it
//! does now; when that changes, look for new ones: `moim-sim sweep` with the fix taken back.
//!
//! Since the nemesis draws power cuts as well, its seeds below tell other stories than those that found something. What
//! they found is held by tests of their own where there is one: pruned pairs by `check/cart.rs` and by the scenario of many
//! coordinators.

use moim_sim::plan::Settings;
use moim_sim::profile::Profile;
use moim_sim::run::run;

const FOUND: &[(u64, Profile, &str)] = &[
    (1, Profile::Calm, "founding members answered each other's announcements without end"),
    (1, Profile::N5W1R5, "a restarted node's stamps were too far ahead for its peers"),
    (8, Profile::Lossy, "a forwarded put that was repeated became two siblings"),
    (
        165,
        Profile::Partitions,
        "a context named a deletion but not what it had deleted, which came back",
    ),
    (97, Profile::LostDisks, "a refilled disk lacked deletions: a deleted value came back"),
    (189, Profile::LostDisks, "a refilled disk lacked what contexts knew of deletions"),
    (
        497,
        Profile::Nemesis,
        "a node that heard that its disk was old dropped what it had taken since",
    ),
    (52, Profile::LostDisks, "a node that skipped batch numbers never asked to be refilled"),
    (
        350,
        Profile::LostDisks,
        "a read overtook the erasure of an old disk: what had been erased came back, uncounted",
    ),
    (21, Profile::Nemesis, "the same, where trees never agreed again"),
    (10_365, Profile::Nemesis, "the context of a put brought back pairs that had been pruned"),
    (10_562, Profile::Nemesis, "the same, where it looked as if owners lacked the put"),
    (33, Profile::LostDisks, "an expired value in memory kept its pair of a clock"),
    (
        1013,
        Profile::Nemesis,
        "a write was called certainly refused that an owner which was not ready had joined",
    ),
    (1045, Profile::Nemesis, "the same"),
    (
        3800,
        Profile::Nemesis,
        "a lost disk was filled without what had expired and was not yet given back",
    ),
    (4710, Profile::Nemesis, "the same"),
    (
        6114,
        Profile::Clocks,
        "a node whose clock was further ahead than is tolerated offered a copy without its value, and the value was lost \
         where clocks were right",
    ),
    (7428, Profile::Nemesis, "the same"),
    (9343, Profile::Clocks, "the same"),
    (
        8696,
        Profile::Nemesis,
        "nobody who remembered could tell an old disk, and it was judged like one that had kept everything",
    ),
    (39, Profile::LostDisks, "the same, where the old copy came after an empty disk"),
    (
        9726,
        Profile::N5W5R1,
        "a conditional write that was decided anew was taken for one that had never been written",
    ),
    (
        16_038,
        Profile::Nemesis,
        "a node that hung took a put when its client had given it up and its deadline had passed, which deleted what was \
         there",
    ),
    (
        16_458,
        Profile::Nemesis,
        "an old disk had been copied while it was being filled, and what it called filled was taken for up to date",
    ),
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
