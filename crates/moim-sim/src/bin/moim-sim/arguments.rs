//! What the command line asks for, taken apart by hand: a dozen flags need no library in this crate's tree.

use moim_core::ring::MEMBERS_MAX;
use moim_node::options::{MUTATIONS, Mutation};
use moim_sim::plan::Settings;
use moim_sim::profile::Profile;
use moim_sim::run::mutation_name;

/// What `--help` says.
pub(crate) const HELP: &str = "\
Runs a whole cluster of real nodes in one thread, from one seed, and checks what clients were told.

Usage:
  moim-sim --seed S               one run
  moim-sim sweep                  many seeds, until one fails
  moim-sim twice --seed S         the same seed twice: the traces must be equal, byte for byte
  moim-sim mutations              switches rules off, one at a time, to see each noticed
  moim-sim levels                 what N=5 promises at which levels, and what it does not
  moim-sim freshness              how often a read meets one version, and how often several
  moim-sim sessions               sessions that expire, for two hours: none comes back, and it costs next to nothing
  moim-sim gossip                 how fast gossip is, and what it costs

Options:
  --seed S          the seed of one run
  --seeds COUNT     how many seeds a sweep tries [200; mutations: 500 at the most; levels and freshness: 40 each]
  --from S          the first seed of a sweep [1]
  --nodes N,N,…     sizes at which gossip is measured [3,30,100]
  --operations N    how many requests clients make [2000]
  --plot FILE       where gossip writes a plot (SVG)
  --profile NAME    the kind of run; otherwise drawn from the seed
  --mutation NAME   a rule of the node to switch off
  --keep-going      a sweep goes on after a failure
  --jobs COUNT      how many seeds run at once [as many as there are cores]
  --resume FILE     a sweep keeps its sums in this file, and goes on where it ended there
  --trace           prints every event of one run";

/// What to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Command {
    /// Explain.
    Help,
    /// One run.
    One,
    /// Many runs.
    Sweep,
    /// One run, twice.
    Twice,
    /// A sweep for every mutation.
    Mutations,
    /// What levels promise.
    Levels,
    /// How many versions readers meet.
    Freshness,
    /// How fast gossip is.
    Gossip,
    /// Sessions that expire.
    Sessions,
}

/// A command and its options.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Arguments {
    pub(crate) command: Command,
    pub(crate) seed: Option<u64>,
    pub(crate) seeds: Option<u64>,
    pub(crate) from: u64,
    pub(crate) operations: usize,
    pub(crate) nodes: Vec<usize>,
    pub(crate) profile: Option<Profile>,
    pub(crate) mutation: Option<Mutation>,
    pub(crate) keep_going: bool,
    pub(crate) jobs: usize,
    pub(crate) resume: Option<String>,
    pub(crate) plot: Option<String>,
    pub(crate) trace: bool,
}

impl Arguments {
    /// Takes them apart, or says what is wrong with them.
    pub(crate) fn parse(mut words: impl Iterator<Item = String>) -> Result<Self, String> {
        let mut arguments = Self {
            command: Command::One,
            seed: None,
            seeds: None,
            from: 1,
            operations: 2_000,
            nodes: vec![3, 30, 100],
            profile: None,
            mutation: None,
            keep_going: false,
            jobs: std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
            resume: None,
            plot: None,
            trace: false,
        };
        while let Some(word) = words.next() {
            arguments.take(&word, &mut words)?;
        }
        let needs_seed = matches!(arguments.command, Command::One | Command::Twice);
        match (needs_seed, arguments.seed) {
            (true, None) => Err("which seed? (--seed S)".to_owned()),
            _ => Ok(arguments),
        }
    }

    fn take(&mut self, word: &str, rest: &mut impl Iterator<Item = String>) -> Result<(), String> {
        let mut value = || rest.next().ok_or_else(|| format!("{word} needs a value"));
        match word {
            "sweep" => self.command = Command::Sweep,
            "twice" => self.command = Command::Twice,
            "mutations" => self.command = Command::Mutations,
            "freshness" => self.command = Command::Freshness,
            "levels" => self.command = Command::Levels,
            "sessions" => self.command = Command::Sessions,
            "gossip" => self.command = Command::Gossip,
            "help" | "--help" | "-h" => {
                self.command = Command::Help;
                self.seed = Some(0);
            }
            "--seed" => self.seed = Some(number(word, &value()?)?),
            "--seeds" => self.seeds = Some(number(word, &value()?)?),
            "--from" => self.from = number(word, &value()?)?,
            "--operations" => self.operations = number(word, &value()?)?,
            "--nodes" => self.nodes = numbers(word, &value()?)?,
            "--profile" => self.profile = Some(value()?.parse()?),
            "--mutation" => self.mutation = Some(mutation(&value()?)?),
            "--jobs" => self.jobs = number::<usize>(word, &value()?)?.max(1),
            "--plot" => self.plot = Some(value()?),
            "--resume" => self.resume = Some(value()?),
            "--keep-going" => self.keep_going = true,
            "--trace" => self.trace = true,
            _ => return Err(format!("'{word}' is not understood")),
        }
        Ok(())
    }

    /// The run of one seed with these options.
    pub(crate) fn settings(&self, seed: u64) -> Settings {
        let Self { operations, profile, mutation, trace, .. } = *self;
        Settings { seed, operations, profile, mutation, trace }
    }
}

fn number<T: std::str::FromStr>(flag: &str, text: &str) -> Result<T, String> {
    text.replace('_', "").parse().map_err(|_not| format!("{flag} takes a number, not '{text}'"))
}

/// Sizes of clusters.
fn numbers(flag: &str, text: &str) -> Result<Vec<usize>, String> {
    let numbers: Vec<usize> =
        text.split(',').map(|part| number(flag, part)).collect::<Result<_, _>>()?;
    match numbers.iter().find(|size| !(2..=MEMBERS_MAX).contains(*size)) {
        Some(size) => Err(format!("{flag} takes sizes from 2 to {MEMBERS_MAX}, not {size}")),
        None => Ok(numbers),
    }
}

fn mutation(name: &str) -> Result<Mutation, String> {
    MUTATIONS.into_iter().find(|&mutation| mutation_name(mutation) == name).ok_or_else(|| {
        let names = MUTATIONS.map(mutation_name).join(", ");
        format!("'{name}' is no mutation: use one of {names}")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Arguments, String> {
        Arguments::parse(line.split_whitespace().map(str::to_owned))
    }

    #[test]
    fn flags_are_understood_in_any_order() {
        let one = parse("--profile calm --seed 8_123 --mutation reuse-epoch").unwrap();
        assert_eq!(
            (one.command, one.seed, one.profile),
            (Command::One, Some(8_123), Some(Profile::Calm))
        );
        assert_eq!(one.mutation, Some(Mutation::ReuseEpoch));
        let sweep = parse("sweep --from 7 --seeds 9").unwrap();
        assert_eq!((sweep.command, sweep.from, sweep.seeds), (Command::Sweep, 7, Some(9)));
        assert_eq!(parse("--help").unwrap().command, Command::Help);
    }

    #[test]
    fn mistakes_are_named() {
        for (line, told) in [
            ("", "which seed"),
            ("--seed", "needs a value"),
            ("--seed x", "takes a number"),
            ("--seed 1 --profile wet", "no profile"),
            ("sweep --mutation none", "no mutation"),
            ("sweep --fast", "not understood"),
            ("gossip --nodes 3,x", "takes a number"),
            ("gossip --nodes 3,1", "takes sizes"),
        ] {
            assert!(parse(line).unwrap_err().contains(told), "{line}");
        }
    }
}
