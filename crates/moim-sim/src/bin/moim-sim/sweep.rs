//! Many seeds, on every core, and what they came to; a long sweep keeps its sums in a file and goes on from there.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc;

use moim_sim::plan::Settings;
use moim_sim::run::{Report, run};

use crate::arguments::Arguments;
use crate::commands::{Progress, say, tell, tell_violations};

/// How often a long sweep writes its sums down, in seeds.
const SAVE_EVERY: u64 = 50;

/// Many seeds; stops at the first failure unless told to go on.
pub(crate) fn sweep(arguments: &Arguments) -> bool {
    let seeds = arguments.seeds.unwrap_or(200);
    let end = arguments.from.saturating_add(seeds);
    let mut sums = match Sums::load(arguments) {
        Ok(sums) => sums,
        Err(why) => {
            say!("{why}");
            return false;
        }
    };
    let resumed = sums.next.saturating_sub(arguments.from);
    if resumed > 0 {
        say!("{resumed} seeds were done before, {} failed", sums.failed.len());
    }
    let before_s = sums.seconds;
    let mut progress = Progress::new(seeds);
    each(
        arguments.jobs,
        |seed| arguments.settings(seed),
        sums.next..end,
        |report| {
            sums.add(&report);
            sums.seconds = before_s + progress.seconds();
            let failed = !report.violations.is_empty();
            if failed {
                Progress::clear();
                tell(&report);
                tell_violations(&report);
            }
            if sums.done().is_multiple_of(SAVE_EVERY) {
                sums.save(arguments);
            }
            let what = format!("{} requests, {} failed", sums.requests, sums.failed.len());
            progress.show(sums.next.saturating_sub(arguments.from), &what);
            !failed || arguments.keep_going
        },
    );
    Progress::clear();
    sums.save(arguments);
    sums.tell();
    sums.failed.is_empty()
}

/// Runs seeds on as many threads as asked for, until `goes_on` says no. Reports arrive as they come.
pub(crate) fn each(
    jobs: usize,
    settings: impl Fn(u64) -> Settings + Sync,
    seeds: std::ops::Range<u64>,
    mut goes_on: impl FnMut(Report) -> bool,
) {
    let next = AtomicU64::new(seeds.start);
    let stopped = AtomicBool::new(false);
    let (reports, arriving) = mpsc::sync_channel(jobs);
    std::thread::scope(|scope| {
        for _ in 0..jobs {
            let (reports, next, stopped, end) = (reports.clone(), &next, &stopped, seeds.end);
            let settings = &settings;
            scope.spawn(move || {
                while !stopped.load(Ordering::Relaxed) {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= end || reports.send(run(settings(seed))).is_err() {
                        break;
                    }
                }
            });
        }
        drop(reports);
        for report in arriving {
            if !goes_on(report) {
                stopped.store(true, Ordering::Relaxed);
            }
        }
    });
}

/// What a sweep came to so far.
#[derive(Debug, Default, PartialEq)]
struct Sums {
    /// Every seed before this one is done.
    next: u64,
    /// Seeds beyond that are done as well.
    ahead: BTreeSet<u64>,
    passed: u64,
    failed: BTreeSet<u64>,
    requests: u64,
    acknowledged: u64,
    simulated_us: u64,
    seconds: f64,
    faults: BTreeMap<String, u64>,
}

impl Sums {
    fn done(&self) -> u64 {
        self.passed + self.failed.len() as u64
    }

    fn add(&mut self, report: &Report) {
        let seed = report.settings.seed;
        self.ahead.insert(seed);
        while self.ahead.remove(&self.next) {
            self.next += 1;
        }
        if report.violations.is_empty() {
            self.passed += 1;
        } else {
            self.failed.insert(seed);
        }
        self.requests += report.operations as u64;
        self.acknowledged += report.acknowledged as u64;
        self.simulated_us += report.simulated_us;
        for (&fault, count) in &report.faults {
            *self.faults.entry(fault.to_owned()).or_default() += count;
        }
    }

    fn tell(&self) {
        let hours = self.simulated_us / 3_600_000_000;
        for (fault, count) in &self.faults {
            say!("  {count:>9} {fault}");
        }
        say!(
            "{} requests, {} succeeded, {hours} h simulated, in {:.1} s",
            self.requests,
            self.acknowledged,
            self.seconds
        );
        let failed = self.failed.iter().take(20).map(u64::to_string).collect::<Vec<_>>();
        if !failed.is_empty() {
            say!("failed: {}", failed.join(" "));
        }
        say!("{} passed, {} failed", self.passed, self.failed.len());
    }

    /// A line for each sum: its name, and what it came to.
    fn text(&self) -> String {
        let seeds =
            |of: &BTreeSet<u64>| of.iter().map(u64::to_string).collect::<Vec<_>>().join(" ");
        let mut lines = vec![
            format!("next {}", self.next),
            format!("ahead {}", seeds(&self.ahead)),
            format!("passed {}", self.passed),
            format!("failed {}", seeds(&self.failed)),
            format!("requests {}", self.requests),
            format!("acknowledged {}", self.acknowledged),
            format!("simulated_us {}", self.simulated_us),
            format!("seconds {:.1}", self.seconds),
        ];
        lines.extend(self.faults.iter().map(|(fault, count)| format!("fault {count} {fault}")));
        lines.join("\n") + "\n"
    }

    fn of_text(text: &str) -> Option<Self> {
        let mut sums = Self::default();
        for line in text.lines() {
            let (name, rest) = line.split_once(' ').unwrap_or((line, ""));
            match name {
                "next" => sums.next = rest.parse().ok()?,
                "ahead" => sums.ahead = seeds_of(rest)?,
                "passed" => sums.passed = rest.parse().ok()?,
                "failed" => sums.failed = seeds_of(rest)?,
                "requests" => sums.requests = rest.parse().ok()?,
                "acknowledged" => sums.acknowledged = rest.parse().ok()?,
                "simulated_us" => sums.simulated_us = rest.parse().ok()?,
                "seconds" => sums.seconds = rest.parse().ok()?,
                "fault" => {
                    let (count, fault) = rest.split_once(' ')?;
                    sums.faults.insert(fault.to_owned(), count.parse().ok()?);
                }
                _ => return None,
            }
        }
        (sums.next > 0 || text.is_empty()).then_some(sums)
    }

    fn load(arguments: &Arguments) -> Result<Self, String> {
        let begun = Self { next: arguments.from, ..Self::default() };
        let Some(path) = &arguments.resume else { return Ok(begun) };
        match std::fs::read_to_string(path) {
            Ok(text) => {
                let sums = Self::of_text(&text);
                sums.ok_or_else(|| format!("{path} does not hold the sums of a sweep: remove it"))
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(begun),
            Err(error) => Err(format!("{path} cannot be read: {error}")),
        }
    }

    /// Writes a new file and puts it in the place of the old one, so that whoever is stopped meanwhile keeps the old.
    fn save(&self, arguments: &Arguments) {
        let Some(path) = &arguments.resume else { return };
        let new = format!("{path}.new");
        let written =
            std::fs::write(&new, self.text()).and_then(|()| std::fs::rename(&new, Path::new(path)));
        if let Err(error) = written {
            say!("{path} cannot be written: {error}");
        }
    }
}

fn seeds_of(text: &str) -> Option<BTreeSet<u64>> {
    text.split_whitespace().map(|seed| seed.parse().ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_survive_their_file() {
        let sums = Sums {
            next: 7,
            ahead: [9, 12].into(),
            passed: 7,
            failed: [3].into(),
            requests: 14_000,
            acknowledged: 13_000,
            simulated_us: 5,
            seconds: 1.5,
            faults: [("one-way cuts".to_owned(), 4)].into(),
        };
        assert_eq!(Sums::of_text(&sums.text()), Some(sums));
        assert_eq!(Sums::of_text("something else"), None);
    }
}
