//! `moim-sim`: runs simulations and says what they found.
#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a command-line tool talks on its standard streams"
)]

mod arguments;
mod commands;
mod plot;
mod sweep;

use std::process::ExitCode;

use arguments::{Arguments, Command, HELP};

fn main() -> ExitCode {
    let arguments = match Arguments::parse(std::env::args().skip(1)) {
        Ok(arguments) => arguments,
        Err(why) => {
            eprintln!("moim-sim: {why}\n\n{HELP}");
            return ExitCode::from(2);
        }
    };
    let passed = match arguments.command {
        Command::Help => {
            println!("{HELP}");
            true
        }
        Command::One => commands::one(&arguments),
        Command::Sweep => sweep::sweep(&arguments),
        Command::Twice => commands::twice(&arguments),
        Command::Mutations => commands::mutations(&arguments),
        Command::Freshness => commands::freshness(&arguments),
        Command::Levels => commands::levels(&arguments),
        Command::Sessions => commands::sessions(&arguments),
        Command::Gossip => commands::gossip(&arguments),
    };
    if passed { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
