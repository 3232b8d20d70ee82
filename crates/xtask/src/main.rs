//! Development tasks that are more than a line of shell, one module each: `cargo xtask <task>`.
//!
//! A task says what it does before it takes long, and ends in words that name the remedy.

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a command line tool")]

mod rocksdb;
mod show;
mod tidy;

use std::env;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result};

const USAGE: &str = "\
usage: cargo xtask <task>

  rocksdb  compile RocksDB once for this machine, and point the checkout at it
  show     what Moim promises, shown on real processes: `cargo xtask show --list`
  tidy     check the rules of the code that no compiler checks";

fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let outcome = match arguments[..] {
        ["rocksdb"] => checkout().and_then(|checkout| rocksdb::run(&checkout)).map(well),
        ["tidy"] => checkout().and_then(|checkout| tidy::run(&checkout)).map(well),
        ["show", ref words @ ..] => checkout().and_then(|checkout| show::run(&checkout, words)),
        _ => {
            eprintln!("{USAGE}");
            return ExitCode::from(2);
        }
    };
    outcome.unwrap_or_else(|error| {
        eprintln!("error: {error:#}");
        ExitCode::FAILURE
    })
}

/// Of a task that has nothing more to say when it is done.
fn well((): ()) -> ExitCode {
    ExitCode::SUCCESS
}

/// The root of the checkout. Asked at run time: several checkouts may share one built `xtask`.
fn checkout() -> Result<PathBuf> {
    let own = env::var_os("CARGO_MANIFEST_DIR").context("run this as `cargo xtask`")?;
    let root = Path::new(&own).ancestors().nth(2).context("xtask is not in crates/xtask")?;
    Ok(root.to_path_buf())
}
