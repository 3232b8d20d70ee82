//! Development tasks that are more than a line of shell, one module each: `cargo xtask <task>`.
//!
//! A task says what it does before it takes long, and ends in words that name the remedy.

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a command line tool")]

mod rocksdb;
mod tidy;

use std::env;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result};

const USAGE: &str = "\
usage: cargo xtask <task>

  rocksdb  compile RocksDB once for this machine, and point the checkout at it
  tidy     check the rules of the code that no compiler checks";

fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let outcome = match arguments[..] {
        ["rocksdb"] => checkout().and_then(|checkout| rocksdb::run(&checkout)),
        ["tidy"] => checkout().and_then(|checkout| tidy::run(&checkout)),
        _ => {
            eprintln!("{USAGE}");
            return ExitCode::from(2);
        }
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// The root of the checkout. Asked at run time: several checkouts may share one built `xtask`.
fn checkout() -> Result<PathBuf> {
    let own = env::var_os("CARGO_MANIFEST_DIR").context("run this as `cargo xtask`")?;
    let root = Path::new(&own).ancestors().nth(2).context("xtask is not in crates/xtask")?;
    Ok(root.to_path_buf())
}
