//! Compiling RocksDB, by building its crate from a small one made for the purpose.
//!
//! A crate of its own, outside the checkout, because the checkout's `.cargo/config.toml` says where the finished
//! library is, and the crate would link that instead of compiling. Each object goes through `ccache`, so that a build
//! that is stopped, or a library that got lost, costs only what was not compiled yet.

use std::env;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde_json::Value;

use super::library::Shelf;
use super::progress::{Progress, outputs};
use super::recipe::{FEATURES, Recipe};
use super::tools;

/// Of one core, for all of RocksDB.
const CPU_MINUTES: usize = 25;
/// How much slower it gets when others use the machine too.
const BUSY_FACTOR: usize = 3;
/// Of the log, when a build fails.
const LINES_SHOWN_MAX: usize = 30;
const POLL: Duration = Duration::from_millis(500);
const CCACHE_SIZE: &str = "2G";
/// When the list of sources cannot be found.
const OBJECTS_GUESSED: usize = 343;

/// Compiles the library and puts it on the shelf.
pub(super) fn run(checkout: &Path, recipe: &Recipe, cache: &Path, shelf: &Shelf) -> Result<()> {
    let ccache = tools::in_path("ccache");
    announce(recipe, shelf, ccache);
    let site = Site::prepare(checkout, recipe, cache, ccache)?;
    site.clean()?;
    site.compile()?;
    let library = outputs(&site.build)
        .map(|output| output.join("librocksdb.a"))
        .find(|library| library.is_file())
        .with_context(|| format!("the build left no librocksdb.a in {}", site.build.display()))?;
    shelf.fill(&library, recipe)?;
    // Some 250 MB that nobody needs any more.
    fs::remove_dir_all(&site.build).with_context(|| format!("remove {}", site.build.display()))
}

fn announce(recipe: &Recipe, shelf: &Shelf, ccache: bool) {
    let cores = thread::available_parallelism().map_or(1, usize::from);
    let idle = CPU_MINUTES.div_ceil(cores);
    println!(
        "RocksDB {} is not compiled on this machine yet. Compiling it takes about {idle} minutes on {cores} \
         idle cores ({} on busy ones), once per machine.\nIt goes to {}.",
        recipe.rocksdb_version(),
        idle * BUSY_FACTOR,
        shelf.directory().display()
    );
    if ccache {
        println!("Stop it whenever you like: it goes on where it was.");
    } else {
        println!("ccache is not installed, so a build that is stopped starts from the beginning.");
    }
}

/// Where a build happens.
struct Site<'recipe> {
    recipe: &'recipe Recipe,
    ccache: bool,
    ccache_directory: PathBuf,
    /// The crate made for the purpose.
    crate_directory: PathBuf,
    build: PathBuf,
    log: PathBuf,
}

impl<'recipe> Site<'recipe> {
    fn prepare(
        checkout: &Path,
        recipe: &'recipe Recipe,
        cache: &Path,
        ccache: bool,
    ) -> Result<Self> {
        let home = cache.join("rocksdb");
        let site = Self {
            recipe,
            ccache,
            ccache_directory: cache.join("ccache"),
            crate_directory: home.join("crate"),
            build: home.join("build"),
            log: home.join("build.log"),
        };
        let sources = site.crate_directory.join("src");
        fs::create_dir_all(&sources).with_context(|| format!("make {}", sources.display()))?;
        fs::write(sources.join("lib.rs"), "//! Only its dependency matters.\n")?;
        let manifest = manifest(&recipe.crate_version);
        fs::write(site.crate_directory.join("Cargo.toml"), manifest)?;
        // The same versions of all that RocksDB's crate needs; cargo leaves out what it does not.
        fs::copy(checkout.join("Cargo.lock"), site.crate_directory.join("Cargo.lock"))?;
        Ok(site)
    }

    /// Removes what an earlier compiler may have left there; ccache still has what is of use.
    fn clean(&self) -> Result<()> {
        // That there was nothing to remove is fine, and cargo calls it an error.
        self.cargo(&["clean", "--release", "--package", "librocksdb-sys"])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()
            .map(drop)
            .context("run cargo")
    }

    fn compile(&self) -> Result<()> {
        let objects = self.count_sources().unwrap_or(OBJECTS_GUESSED);
        let log =
            File::create(&self.log).with_context(|| format!("write {}", self.log.display()))?;
        let mut cargo = self
            .cargo(&["build", "--release", "--package", "librocksdb-sys"])
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .context("run cargo")?;
        let mut progress = Progress::new(&self.build, objects);
        let status = loop {
            if let Some(status) = cargo.try_wait()? {
                break status;
            }
            progress.show();
            thread::sleep(POLL);
        };
        progress.end();
        if status.success() {
            return Ok(());
        }
        let log = fs::read_to_string(&self.log).unwrap_or_default();
        bail!("RocksDB did not compile:\n{}\nAll of it is in {}", tail(&log), self.log.display())
    }

    /// How many objects there will be: the crate lists its sources.
    fn count_sources(&self) -> Option<usize> {
        let output = self.cargo(&["metadata", "--format-version", "1"]).output().ok()?;
        let metadata: Value = serde_json::from_slice(&output.stdout).ok()?;
        let packages = metadata["packages"].as_array()?;
        let package = packages.iter().find(|package| package["name"] == "librocksdb-sys")?;
        let directory = Path::new(package["manifest_path"].as_str()?).parent()?;
        let sources = fs::read_to_string(directory.join("rocksdb_lib_sources.txt")).ok()?;
        Some(sources.lines().filter(|line| !line.trim().is_empty()).count())
    }

    /// Cargo, told to compile RocksDB from its sources, whatever the surroundings say.
    fn cargo(&self, arguments: &[&str]) -> Command {
        let mut cargo = Command::new("cargo");
        cargo.args(arguments).current_dir(&self.crate_directory);
        for (name, _) in env::vars_os().filter(|(name, _)| leads_astray(name)) {
            cargo.env_remove(name);
        }
        cargo.env("CARGO_TARGET_DIR", &self.build).env("RUSTFLAGS", "");
        // Where the cache lies within the checkout, the checkout's configuration reaches here all the same.
        cargo.env("ROCKSDB_COMPILE", "1");
        let wrapper = if self.ccache { "ccache " } else { "" };
        cargo.env("CXX", format!("{wrapper}{}", self.recipe.compiler));
        cargo.env("CXXFLAGS", self.recipe.instructions.flags).env_remove("CFLAGS");
        if env::var_os("CC").is_none() {
            cargo.env("CC", format!("{wrapper}gcc"));
        }
        cargo.env("CCACHE_DIR", &self.ccache_directory).env("CCACHE_MAXSIZE", CCACHE_SIZE);
        cargo
    }
}

fn manifest(crate_version: &str) -> String {
    // What follows the plus says nothing to cargo.
    let version = crate_version.split('+').next().unwrap_or(crate_version);
    format!(
        "# Made by `cargo xtask rocksdb`.\n\
         [package]\nname = \"rocksdb-for-moim\"\nversion = \"0.0.0\"\nedition = \"2024\"\npublish = false\n\n\
         [workspace]\n\n\
         [dependencies.librocksdb-sys]\nversion = \"={version}\"\ndefault-features = false\n\
         features = {FEATURES}\n"
    )
}

/// What the surrounding cargo, or the user for other projects, may have set and this build must not see.
fn leads_astray(name: &OsStr) -> bool {
    let name = name.to_string_lossy();
    let tells_how = ["CARGO_PKG_", "CARGO_MANIFEST_", "CARGO_BUILD_", "CARGO_PROFILE_", "ROCKSDB_"];
    tells_how.iter().any(|prefix| name.starts_with(prefix))
        || ["CARGO_TARGET_DIR", "CARGO_ENCODED_RUSTFLAGS", "RUSTFLAGS"].contains(&&*name)
}

fn tail(log: &str) -> String {
    let lines: Vec<&str> = log.lines().collect();
    lines[lines.len().saturating_sub(LINES_SHOWN_MAX)..].join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_checkout_does_not_reach_the_inner_build() {
        for name in ["ROCKSDB_LIB_DIR", "CARGO_TARGET_DIR", "CARGO_BUILD_TARGET", "RUSTFLAGS"] {
            assert!(leads_astray(OsStr::new(name)), "{name}");
        }
        for name in ["PATH", "HOME", "CARGO_HOME", "CARGO_NET_OFFLINE", "RUSTUP_TOOLCHAIN"] {
            assert!(!leads_astray(OsStr::new(name)), "{name}");
        }
    }

    #[test]
    fn the_manifest_pins_the_crate() {
        let manifest = manifest("0.19.0+11.8.1");
        assert!(manifest.contains("version = \"=0.19.0\""));
        assert!(manifest.contains("[workspace]"), "a checkout around it must not claim it");
    }

    #[test]
    fn only_the_end_of_a_log_is_shown() {
        let log = (0..100).map(|number| number.to_string()).collect::<Vec<_>>().join("\n");
        assert!(tail(&log).starts_with("70\n"));
        assert_eq!(tail("short"), "short");
    }
}
