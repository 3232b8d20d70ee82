//! The one program of Moim: a server, a whole cluster to try out, and the commands of users and operators.
//!
//! Commands of clients speak HTTP and nothing else (INV-10). Standard output carries what was asked for, standard
//! error everything else; the exit code says how it ended (see `ending.rs`).

mod bench;
mod client;
mod dev;
mod ending;
mod later;
mod options;
mod print;
mod server;
mod version;

use std::process::ExitCode;
use std::time::Duration;

use clap::{Parser, Subcommand};

use crate::ending::{Ending, Trouble};

/// How long freed memory is kept for what comes next.
const FREED_KEPT: Duration = Duration::from_secs(10);

/// Moim: a leaderless, always-writable key-value store that speaks the Redis protocol.
#[derive(Debug, Parser)]
#[command(name = "moim", version, arg_required_else_help = true)]
#[command(after_help = "\
Exit codes: 0 done, 1 failed, 2 usage, 3 not found, 4 siblings, 5 unavailable.
Begin with `moim dev`: a cluster of three nodes on this machine.")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run one server.
    Server(Box<server::Arguments>),
    /// Run a whole cluster on this machine, to try things out.
    Dev(dev::Arguments),
    /// Read a value.
    Get(client::value::Get),
    /// Write a value.
    Put(client::value::Put),
    /// Delete a key.
    Del(client::value::Del),
    /// List keys.
    Keys(client::keys::Keys),
    /// Show the cluster at a glance.
    Status(client::status::Status),
    /// Show the members of the cluster.
    Nodes(client::status::Nodes),
    /// Show who owns what, or with --key what each owner holds of a key.
    Ring(client::ring::Ring),
    /// Make all owners hold the same, now.
    Repair(client::repair::Repair),
    /// Put load on the cluster and measure.
    Bench(bench::Bench),
    /// Show the versions of program and protocol.
    Version(version::Version),
    #[command(flatten)]
    Later(later::Later),
}

fn main() -> ExitCode {
    moim_alloc::keep_freed_for(FREED_KEPT);
    let ended = match Arguments::parse().command {
        Command::Server(arguments) => arguments.run(),
        Command::Dev(arguments) => arguments.run(),
        Command::Get(arguments) => arguments.run(),
        Command::Put(arguments) => arguments.run(),
        Command::Del(arguments) => arguments.run(),
        Command::Keys(arguments) => arguments.run(),
        Command::Status(arguments) => arguments.run(),
        Command::Nodes(arguments) => arguments.run(),
        Command::Ring(arguments) => arguments.run(),
        Command::Repair(arguments) => arguments.run(),
        Command::Bench(arguments) => arguments.run(),
        Command::Version(arguments) => Ok(arguments.run()),
        Command::Later(later) => later.run(),
    };
    match ended {
        Ok(ending) => ending.into(),
        Err(trouble) => {
            trouble.report();
            trouble.ending.into()
        }
    }
}

/// What a command comes to.
type Ended = Result<Ending, Trouble>;

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::Arguments;

    #[test]
    fn the_command_line_is_sound_and_documented() {
        let mut command = Arguments::command();
        command.build();
        command.clone().debug_assert();
        let mut waiting = vec![command];
        while let Some(command) = waiting.pop() {
            assert!(
                command.get_about().is_some() || command.is_hide_set(),
                "{}",
                command.get_name()
            );
            for argument in command.get_arguments().filter(|argument| !argument.is_hide_set()) {
                assert!(
                    argument.get_help().is_some(),
                    "{} {}",
                    command.get_name(),
                    argument.get_id()
                );
            }
            waiting.extend(command.get_subcommands().cloned());
        }
    }
}
