//! What all scenarios share: the checkout and the binaries built from it.

use std::cell::OnceCell;
use std::env;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::rocksdb;

/// What the product takes if nobody says.
const ENGINE_DEFAULT: &str = "lsm";

/// Where scenarios are played.
pub(super) struct Stage {
    checkout: PathBuf,
    moim: OnceCell<PathBuf>,
    simulator: OnceCell<PathBuf>,
}

impl Stage {
    pub(super) fn new(checkout: &Path) -> Self {
        Self { checkout: checkout.to_path_buf(), moim: OnceCell::new(), simulator: OnceCell::new() }
    }

    pub(super) fn checkout(&self) -> &Path {
        &self.checkout
    }

    /// The storage engine of the nodes: `ENGINE`, as for `make`.
    pub(super) fn engine() -> String {
        env::var("ENGINE").unwrap_or_else(|_| ENGINE_DEFAULT.to_owned())
    }

    /// Whether nodes keep what they are told when they stop.
    pub(super) fn keeps() -> bool {
        Self::engine() != "memory"
    }

    /// The `moim` binary of this checkout, as users build it.
    pub(super) fn moim(&self) -> Result<&Path> {
        if let Some(path) = self.moim.get() {
            return Ok(path);
        }
        let mut features = Vec::new();
        if Self::keeps() {
            rocksdb::run(&self.checkout)?;
        } else {
            features.push("--no-default-features");
        }
        let path = self.build("moim", &features)?;
        Ok(self.moim.get_or_init(|| path))
    }

    /// The simulator of this checkout.
    pub(super) fn simulator(&self) -> Result<&Path> {
        if let Some(path) = self.simulator.get() {
            return Ok(path);
        }
        let path = self.build("moim-sim", &[])?;
        Ok(self.simulator.get_or_init(|| path))
    }

    fn build(&self, package: &str, features: &[&str]) -> Result<PathBuf> {
        println!("  building {package} (cargo build --release -p {package})");
        let output = Command::new("cargo")
            .args(["build", "--release", "--locked", "--message-format=json-render-diagnostics"])
            .args(["-p", package, "--bin", package])
            .args(features)
            .current_dir(&self.checkout)
            .stderr(Stdio::inherit())
            .output()
            .context("run cargo")?;
        if !output.status.success() {
            bail!("{package} could not be built");
        }
        let messages = String::from_utf8_lossy(&output.stdout);
        executable(&messages).with_context(|| format!("cargo built no executable of {package}"))
    }
}

/// The executable among cargo's messages: where it is depends on the user's settings.
fn executable(messages: &str) -> Option<PathBuf> {
    let messages =
        messages.lines().rev().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    messages.into_iter().find_map(|message| message["executable"].as_str().map(PathBuf::from))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_executable_is_found_among_messages() {
        let messages = "{\"reason\":\"compiler-artifact\",\"executable\":null}\n\
             {\"reason\":\"compiler-artifact\",\"executable\":\"/t/release/moim\"}\n\
             {\"reason\":\"build-finished\",\"success\":true}\n";
        assert_eq!(executable(messages), Some(PathBuf::from("/t/release/moim")));
        assert_eq!(executable("{}\nnothing"), None);
    }
}
