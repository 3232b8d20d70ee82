//! What each command does.

use std::collections::BTreeMap;
use std::io::{IsTerminal, Write};
use std::time::Instant;

use moim_node::options::{MUTATIONS, Mutation, Options};
use moim_sim::check::{Property, Violation};
use moim_sim::freshness::{Failures, Met, Mix, measure};
use moim_sim::plan::Settings;
use moim_sim::profile::Profile;
use moim_sim::run::{Report, mutation_name, run};
use moim_sim::sessions;

use crate::arguments::Arguments;
use crate::plot::{Curve, svg};
use crate::sweep::each;

/// Prints a line. Whoever reads us may have had enough (`moim-sim … | head`): then this is over, not a failure.
macro_rules! say {
    ($($text:tt)*) => {
        if std::io::Write::write_fmt(&mut std::io::stdout(), format_args!("{}\n", format_args!($($text)*))).is_err() {
            std::process::exit(0);
        }
    };
}
pub(crate) use say;

/// One run, told in full.
pub(crate) fn one(arguments: &Arguments) -> bool {
    let report = run(arguments.settings(arguments.seed.unwrap_or(0)));
    if arguments.trace {
        say!("{}", report.trace.trim_end());
    }
    tell(&report);
    for (fault, count) in &report.faults {
        say!("  {count:>8} {fault}");
    }
    say!("  {:>8}", "--");
    for (what, count) in &report.tally {
        say!("  {count:>8} {what}");
    }
    for (property, count) in &report.unpromised {
        say!("  {count:>8} times not promised and not so: {property}");
    }
    tell_violations(&report);
    report.violations.is_empty()
}

pub(crate) fn tell(report: &Report) {
    say!(
        "seed {}: {}, {} nodes, {} requests, {} succeeded, {} s simulated, {} violations",
        report.settings.seed,
        report.profile,
        report.nodes,
        report.operations,
        report.acknowledged,
        report.simulated_us / 1_000_000,
        report.violations.len(),
    );
}

/// The first violations in words: the rest usually follows from them.
pub(crate) fn tell_violations(report: &Report) {
    for violation in report.violations.iter().take(3) {
        say!("violated: {violation}");
    }
    if !report.violations.is_empty() {
        say!("reproduce: {}", report.reproduce());
    }
}

/// The same run twice.
pub(crate) fn twice(arguments: &Arguments) -> bool {
    let settings = Settings { trace: true, ..arguments.settings(arguments.seed.unwrap_or(0)) };
    let (first, second) = (run(settings).trace, run(settings).trace);
    if first == second {
        say!("seed {}: both traces are the same {} bytes", settings.seed, first.len());
        return true;
    }
    let lines = first.lines().zip(second.lines());
    let differs = lines.enumerate().find(|(_, (first, second))| first != second);
    say!("seed {}: the traces differ", settings.seed);
    if let Some((line, (first, second))) = differs {
        say!("line {}:\n  {first}\n  {second}", line + 1);
    }
    false
}

/// Switches each rule off, and sweeps until that is noticed.
pub(crate) fn mutations(arguments: &Arguments) -> bool {
    let wanted = |mutation: &Mutation| arguments.mutation.is_none_or(|only| only == *mutation);
    let mut all_caught = true;
    for mutation in MUTATIONS.into_iter().filter(wanted) {
        all_caught &= is_caught(arguments, mutation);
    }
    all_caught
}

/// A mutation is caught when clients were told something wrong. That disks do not hold what was acknowledged is shown
/// as well, but alone it would prove nothing about the other checkers.
fn is_caught(arguments: &Arguments, mutation: Mutation) -> bool {
    let seeds = arguments.seeds.unwrap_or(500);
    let name = mutation_name(mutation);
    let mut progress = Progress::new(seeds);
    // Judged in the order of seeds, whichever ends first.
    let (mut waiting, mut next) = (BTreeMap::new(), arguments.from);
    let (mut on_disk, mut caught) = (None, false);
    let settings = |seed| Settings { mutation: Some(mutation), ..arguments.settings(seed) };
    let range = arguments.from..arguments.from.saturating_add(seeds);
    each(arguments.jobs, settings, range, |report| {
        waiting.insert(report.settings.seed, report);
        while let Some(report) = waiting.remove(&next).filter(|_| !caught) {
            next += 1;
            progress.show(next - arguments.from, name);
            caught = tell_caught(name, &report, &mut on_disk);
        }
        !caught
    });
    if caught {
        return true;
    }
    Progress::clear();
    say!("{name}: NOT caught in {seeds} seeds");
    false
}

/// Says what the clients of a run noticed of a rule that was switched off, if they did; `on_disk` is the first seed at which
/// disks did not hold what was acknowledged.
fn tell_caught(name: &str, report: &Report, on_disk: &mut Option<u64>) -> bool {
    let seed = report.settings.seed;
    let unheld = |violation: &&Violation| violation.property == Property::AcknowledgedIsHeld;
    if on_disk.is_none() && report.violations.iter().any(|violation| unheld(&violation)) {
        *on_disk = Some(seed);
    }
    let Some(violation) = report.violations.iter().find(|violation| !unheld(violation)) else {
        return false;
    };
    Progress::clear();
    say!("{name}: caught at seed {seed} ({})", report.profile);
    say!("    {}: {}", violation.property, violation.what);
    if let Some(seed) = on_disk {
        say!("    {}: not so from seed {seed} on", Property::AcknowledgedIsHeld);
    }
    true
}

/// The table of levels for five copies, and what each is promised.
pub(crate) fn levels(arguments: &Arguments) -> bool {
    let seeds = arguments.seeds.unwrap_or(40);
    say!("N=5, {seeds} seeds each: what was promised held; what was not failed so often:");
    let rows =
        [Profile::N5W3R3, Profile::N5W2R4, Profile::N5W1R5, Profile::N5W5R1, Profile::N5W1R1];
    rows.into_iter().fold(true, |held, profile| held & level(arguments, profile, seeds))
}

fn level(arguments: &Arguments, profile: Profile, seeds: u64) -> bool {
    let mut unpromised: BTreeMap<Property, u64> = BTreeMap::new();
    let (mut requests, mut acknowledged) = (0, 0);
    for seed in arguments.from..arguments.from.saturating_add(seeds) {
        let report = run(Settings { profile: Some(profile), ..arguments.settings(seed) });
        if !report.violations.is_empty() {
            tell(&report);
            tell_violations(&report);
            return false;
        }
        requests += report.operations;
        acknowledged += report.acknowledged;
        for (property, count) in report.unpromised {
            *unpromised.entry(property).or_default() += count;
        }
    }
    let shape = profile.shape();
    let promises = shape.promises();
    say!(
        "W={} R={}: {acknowledged} of {requests} requests succeeded under faults",
        shape.w,
        shape.r
    );
    let (held, not_promised): (Vec<_>, Vec<_>) =
        promises.into_iter().partition(|&(_, promised)| promised);
    for (property, _) in held {
        say!("    held:         {property}");
    }
    for (property, _) in not_promised {
        let count = unpromised.get(&property).copied().unwrap_or(0);
        say!("    not promised: {property} ({count} exceptions)");
    }
    true
}

/// How many versions readers meet, with one writer to a cart and with several, without failures and with them.
pub(crate) fn freshness(arguments: &Arguments) -> bool {
    let seeds = arguments.seeds.unwrap_or(40);
    say!(
        "| writers to a cart | failures | requests | refused | one version | two | three | more |"
    );
    say!("|---|---|---|---|---|---|---|---|");
    let people = [Failures::Never, Failures::Rarely, Failures::NowAndThen];
    let people = people.map(|failures| Mix { writers: 1, people: true, failures });
    let robots = [Failures::Never, Failures::NowAndThen, Failures::Always]
        .map(|failures| [1, 2, 3, 5].map(|writers| Mix { writers, people: false, failures }));
    let mut held = true;
    for mix in people.into_iter().chain(robots.into_iter().flatten()) {
        let mut met = Met::default();
        for seed in arguments.from..arguments.from.saturating_add(seeds) {
            met.merge(measure(seed, arguments.operations, mix));
        }
        tell_met(mix, &met);
        held &= met.violations.is_empty();
    }
    held
}

fn tell_met(Mix { writers, people, failures }: Mix, met: &Met) {
    let [one, two, three, more] =
        met.versions.map(|count| format!("{:.4} %", percent(count, met.reads())));
    let failures = match failures {
        Failures::Never => "never",
        Failures::Rarely => "once in ten minutes",
        Failures::NowAndThen => "once a minute",
        Failures::Always => "always",
    };
    let refused = percent(met.failed, met.requests);
    let who = match (people, writers) {
        (true, _) => "a person",
        (false, 1) => "1 robot",
        (false, writers) => &format!("{writers} robots"),
    };
    say!(
        "| {who} | {failures} | {} | {refused:.2} % | {one} | {two} | {three} | {more} |",
        met.requests
    );
    for violation in met.violations.iter().take(3) {
        say!("violated: {violation}");
    }
}

/// A share of a whole, for people.
#[expect(clippy::cast_precision_loss, reason = "a few digits are shown")]
fn percent(count: u64, of: u64) -> f64 {
    count as f64 * 100.0 / of.max(1) as f64
}

/// Gossip alone, at several sizes.
pub(crate) fn gossip(arguments: &Arguments) -> bool {
    let options = Options::default();
    let period_ms = options.gossip_period_ms;
    say!(
        "| nodes | rounds, mean | rounds, slowest | silent death: first, all | reset: first, all | sent by a node |"
    );
    say!("|---|---|---|---|---|---|");
    let mut calm = true;
    let (mut rounds, mut sent) = (Vec::new(), Vec::new());
    for &nodes in &arguments.nodes {
        let measured = moim_sim::gossip::measure(nodes, arguments.seed.unwrap_or(1), &options);
        let tenths = |milli: u64| format!("{}.{}", milli / 1_000, milli % 1_000 / 100);
        let both = |(first_ms, all_ms)| format!("{} s, {} s", tenths(first_ms), tenths(all_ms));
        say!(
            "| {nodes} | {} | {} | {} | {} | {} KB/s |",
            tenths(measured.rounds_mean_milli(period_ms)),
            tenths(measured.rounds_max_milli(period_ms)),
            both(measured.silent_ms),
            both(measured.reset_ms),
            tenths(measured.sent_bytes_per_second),
        );
        let size = plain(nodes as u64);
        rounds.push((size, plain(measured.rounds_mean_milli(period_ms)) / 1_000.0));
        sent.push((size, plain(measured.sent_bytes_per_second) / 1_000.0));
        if measured.false_suspicions + measured.false_verdicts > 0 {
            say!(
                "while all lived: {} suspicions in {} intervals judged, {} members held down",
                measured.false_suspicions,
                measured.judged,
                measured.false_verdicts
            );
        }
        calm &= measured.is_quiet();
    }
    calm & arguments.plot.as_ref().is_none_or(|path| plot_gossip(path, rounds, sent))
}

fn plot_gossip(path: &str, rounds: Vec<(f64, f64)>, sent: Vec<(f64, f64)>) -> bool {
    let log: fn(f64) -> f64 = |nodes| nodes.ln() / 4_f64.ln();
    let rounds = Curve {
        title: "rounds until all know of a heartbeat, mean",
        points: rounds,
        compared: Some(("log4 n", log)),
    };
    let sent = Curve { title: "KB/s that a node sends", points: sent, compared: None };
    let written = std::fs::write(path, svg(&[rounds, sent]));
    if let Err(error) = &written {
        say!("{path} cannot be written: {error}");
    }
    written.is_ok()
}

/// For plots.
fn plain(number: u64) -> f64 {
    f64::from(u32::try_from(number).unwrap_or(u32::MAX))
}

/// Sessions for two hours, with a replica away.
pub(crate) fn sessions(arguments: &Arguments) -> bool {
    let load = sessions::FULL;
    let mut progress = Progress::new(6 * load.ttl_s);
    let seed = arguments.seed.unwrap_or(1);
    let measured =
        sessions::measure(seed, load, |done, _| progress.show(done, "seconds simulated"));
    Progress::clear();
    let sessions::Measured { expired, shortened, deleted, requests, failed, judged, .. } = measured;
    say!(
        "{} sessions, {} s simulated: {expired} expired ({shortened} cut short), {deleted} deleted; {requests} requests, \
         {failed} failed",
        load.sessions,
        measured.simulated_s
    );
    say!(
        "| | ended | comparing | live copies | copies of deletions | copies of expired sessions |"
    );
    say!("|---|---|---|---|---|---|");
    let parts = ["all are there", "one is away", "it is back"];
    for (part, (repair, ended)) in parts.into_iter().zip(measured.repair.iter().zip(measured.ended))
    {
        let sessions::Repair { compared_bytes, live_bytes, deleted_bytes, expired_bytes } = *repair;
        say!(
            "| {part} | {ended} | {compared_bytes} B | {live_bytes} B | {deleted_bytes} B | {expired_bytes} B |"
        );
    }
    let spent: u64 = measured.repair.iter().map(|of| of.expired_bytes).sum();
    let tombstones = measured.tombstones_bytes();
    say!(
        "expiry cost {spent} B of repair; tombstones of {} B each would have cost {tombstones} B: {:.4} %",
        sessions::tombstone_bytes(),
        percent(spent, tombstones)
    );
    say!("{} live at the end, on disks: {:?} entries", measured.live, measured.stored);
    say!(
        "{judged} reads judged: {} resurrected, {} lost",
        measured.resurrected.len(),
        measured.lost.len()
    );
    measured.resurrected.iter().chain(&measured.lost).take(5).for_each(|what| say!("  {what}"));
    measured.resurrected.is_empty() && measured.lost.is_empty() && spent * 100 < tombstones
}

/// A line that is rewritten on a terminal, and a line now and then elsewhere.
pub(crate) struct Progress {
    total: u64,
    began: Instant,
    said_s: u64,
}

impl Progress {
    #[expect(
        clippy::disallowed_methods,
        reason = "shows how long it takes; nothing simulated sees it"
    )]
    pub(crate) fn new(total: u64) -> Self {
        Self { total, began: Instant::now(), said_s: 0 }
    }

    pub(crate) fn seconds(&self) -> f64 {
        self.began.elapsed().as_secs_f64()
    }

    pub(crate) fn show(&mut self, done: u64, what: &str) {
        const WIDTH: u64 = 30;
        const PLAIN_EVERY_S: u64 = 15;
        let elapsed_s = self.began.elapsed().as_secs();
        if std::io::stderr().is_terminal() {
            let filled = usize::try_from(done * WIDTH / self.total.max(1)).unwrap_or(0);
            let bar =
                format!("{}{}", "#".repeat(filled), "-".repeat(30_usize.saturating_sub(filled)));
            eprint!("\r[{bar}] {done}/{} {elapsed_s} s, {what}\x1b[K", self.total);
            std::io::stderr().flush().ok();
        } else if elapsed_s >= self.said_s + PLAIN_EVERY_S {
            self.said_s = elapsed_s;
            eprintln!("{done}/{} in {elapsed_s} s, {what}", self.total);
        }
    }

    pub(crate) fn clear() {
        if std::io::stderr().is_terminal() {
            eprint!("\r\x1b[K");
        }
    }
}
