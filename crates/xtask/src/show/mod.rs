//! `cargo xtask show`: what Moim promises, shown on real processes.
//!
//! A scenario is a file. It says what it does and what it sees, in short lines, and ends with exactly one of
//!
//! ```text
//! shown: NAME
//! failed: NAME: why
//! not built: NAME: what is missing
//! ```
//!
//! Scenarios use what users use: the binaries, sockets, and clients that others wrote. Nothing here knows the crates
//! of the product, so that what is shown cannot share a mistake with what is tested. Every wait has a limit, and
//! whatever is started is ended, also when a scenario fails.

mod cluster;
mod guard;
mod http;
mod lab;
mod process;
mod redis;
mod scratch;
mod sessions;
mod small_disk;
mod stage;

mod abuse;
mod corrupt_table;
mod expiry;
mod first_run;
mod five_nodes;
mod fresh_clone;
mod full_disk;
mod graceful_stop;
mod handoff;
mod idle_cpu;
mod interrupts;
mod kill_all;
mod kill_one;
mod levels;
mod more_than_memory;
mod n5_levels;
mod one_way;
mod partitions;
mod redis_py;
mod repair_latency;
mod ring_key;
mod shards;
mod siblings;
mod simulation;
mod slow_disk;
mod slow_network;
mod storm;
mod wiped;

use std::path::Path;
use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Result, bail};

use self::stage::Stage;

/// How a scenario ended that did not fail.
enum Verdict {
    Shown,
    /// Something is missing here, on this machine or in this version.
    NotBuilt(String),
}

struct Scenario {
    name: &'static str,
    what: &'static str,
    play: fn(&Stage) -> Result<Verdict>,
    /// Left out of `all` unless `--long` is given.
    long: bool,
}

impl Scenario {
    const fn new(
        name: &'static str,
        play: fn(&Stage) -> Result<Verdict>,
        what: &'static str,
    ) -> Self {
        Self { name, what, play, long: false }
    }
}

const SCENARIOS: &[Scenario] = &[
    Scenario::new(
        "first-run",
        first_run::play,
        "a cluster of three, redis-cli and redis-benchmark",
    ),
    Scenario::new("redis-py", redis_py::play, "redis-py and its asyncio client, RESP2 and RESP3"),
    Scenario::new(
        "kill-one",
        kill_one::play,
        "100,000 sessions while a node is killed and restarted",
    ),
    Scenario::new("kill-all", kill_all::play, "all nodes killed at once while clients write"),
    Scenario::new("levels", levels::play, "ALL and ONE while a node is down"),
    Scenario::new(
        "siblings",
        siblings::play,
        "two writes to one key on nodes cut off from each other",
    ),
    Scenario::new("n5-levels", n5_levels::play, "what N=5 promises at which levels, simulated"),
    Scenario::new(
        "handoff",
        handoff::play,
        "all home nodes of a key killed: others take its writes and hand them over",
    ),
    Scenario::new("expiry", expiry::play, "values end everywhere, also where a node was down"),
    Scenario::new("abuse", abuse::play, "what is too large, broken, or half there"),
    Scenario::new(
        "interrupts",
        interrupts::play,
        "redis-py and ioredis while nodes are killed and frozen",
    ),
    Scenario::new(
        "graceful-stop",
        graceful_stop::play,
        "no command fails while nodes are stopped and started",
    ),
    Scenario::new("partitions", partitions::play, "a node cut off: who goes on, who refuses"),
    Scenario::new("one-way", one_way::play, "links that carry one way only"),
    Scenario::new("slow-network", slow_network::play, "slow, lossy and stalled links"),
    Scenario::new("wiped", wiped::play, "a node that lost its data, and one that lost everything"),
    Scenario::new("five-nodes", five_nodes::play, "five nodes, two in trouble at once"),
    Scenario::new("full-disk", full_disk::play, "a disk fills up, and has room again"),
    Scenario::new(
        "corrupt-table",
        corrupt_table::play,
        "flipped bytes on the disk of one node, at rest and under its feet",
    ),
    Scenario::new(
        "slow-disk",
        slow_disk::play,
        "reads from memory keep their p99 while the disks of all nodes are slow",
    ),
    Scenario::new("ring-key", ring_key::play, "what every replica holds of a key"),
    Scenario::new(
        "shards",
        shards::play,
        "three servers of two nodes each: one is killed, copies lie apart, and what it costs",
    ),
    Scenario::new("idle-cpu", idle_cpu::play, "what a cluster costs that nobody uses"),
    Scenario::new("simulation", simulation::play, "sweep, determinism and mutations"),
    Scenario {
        long: true,
        ..Scenario::new(
            "repair-latency",
            repair_latency::play,
            "what clients notice while a lost disk is filled, and how fast that is",
        )
    },
    Scenario {
        long: true,
        ..Scenario::new(
            "sessions-without-tombstones",
            simulation::play_sessions,
            "50,000 sessions for two hours, simulated, a replica away: none comes back",
        )
    },
    Scenario {
        long: true,
        ..Scenario::new(
            "more-than-memory",
            more_than_memory::play,
            "eight times as much data as memory: reads from memory and from disk, writes while tables are compacted",
        )
    },
    Scenario {
        long: true,
        ..Scenario::new("storm", storm::play, "forty disturbances in a row while clients write")
    },
    Scenario {
        long: true,
        ..Scenario::new("fresh-clone", fresh_clone::play, "make test and make dev in a new clone")
    },
];

const USAGE: &str = "\
usage: cargo xtask show NAME…        these scenarios
       cargo xtask show all [--long] all of them; with --long also those marked so
       cargo xtask show --list       what there is

more-than-memory takes KEYS (of 2 KB, 1000000) and MEMORY (bytes of all nodes together, 805306368).
ENGINE=rocksdb shows Moim with RocksDB alone instead of lsm, ENGINE=memory as built without RocksDB.";

/// Plays what is asked for. The exit code is 0 only if all of it was shown.
pub(crate) fn run(checkout: &Path, arguments: &[&str]) -> Result<ExitCode> {
    let long = arguments.contains(&"--long");
    let names: Vec<&str> = arguments.iter().copied().filter(|word| *word != "--long").collect();
    let chosen = match names[..] {
        [] | ["--list"] => {
            list();
            return Ok(if names.is_empty() { ExitCode::from(2) } else { ExitCode::SUCCESS });
        }
        ["all"] => SCENARIOS.iter().filter(|scenario| long || !scenario.long).collect(),
        _ => find(&names)?,
    };
    let stage = Stage::new(checkout);
    let shown = chosen.iter().filter(|scenario| perform(scenario, &stage)).count();
    Ok(if shown == chosen.len() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn list() {
    println!("{USAGE}\n");
    for Scenario { name, what, long, .. } in SCENARIOS {
        println!("  {name:<14} {what}{}", if *long { " (long)" } else { "" });
    }
}

fn find(names: &[&str]) -> Result<Vec<&'static Scenario>> {
    let mut chosen = Vec::new();
    for name in names {
        match SCENARIOS.iter().find(|scenario| scenario.name == *name) {
            Some(scenario) => chosen.push(scenario),
            None => bail!("there is no scenario '{name}': `cargo xtask show --list` names them"),
        }
    }
    Ok(chosen)
}

/// Whether it was shown. All output of a scenario is on stdout, so that its verdict is its last line there.
fn perform(scenario: &Scenario, stage: &Stage) -> bool {
    println!("{}: {}", scenario.name, scenario.what);
    let began = Instant::now();
    let verdict = (scenario.play)(stage);
    println!("  {:.1} s in all", began.elapsed().as_secs_f64());
    match &verdict {
        Ok(Verdict::Shown) => println!("shown: {}", scenario.name),
        Ok(Verdict::NotBuilt(what)) => println!("not built: {}: {}", scenario.name, line(what)),
        Err(why) => println!("failed: {}: {}", scenario.name, line(&format!("{why:#}"))),
    }
    matches!(verdict, Ok(Verdict::Shown))
}

/// A verdict is one line, whatever the error was.
fn line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scenarios_are_found_by_name() {
        let names = |asked: &[&str]| {
            find(asked).map(|found| found.iter().map(|scenario| scenario.name).collect::<Vec<_>>())
        };
        assert_eq!(names(&["levels", "abuse"]).unwrap(), ["levels", "abuse"]);
        assert!(names(&["level"]).unwrap_err().to_string().contains("'level'"));
    }

    #[test]
    fn a_verdict_is_one_line() {
        assert_eq!(line("two\n  lines\r\n"), "two lines");
    }
}
