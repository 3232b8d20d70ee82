//! What a compiled RocksDB depends on, and the name that follows from it.

use std::env;
use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};

/// The features that the workspace's `rocksdb` dependency asks of `librocksdb-sys`.
pub(super) const FEATURES: &str = r#"["bindgen-runtime", "lz4", "static"]"#;

/// All that makes one `librocksdb.a` differ from another.
pub(super) struct Recipe {
    /// Of `librocksdb-sys`, as in `0.19.0+11.8.1`; RocksDB's own comes after the plus.
    pub(super) crate_version: String,
    target: String,
    /// The C++ compiler's command.
    pub(super) compiler: String,
    compiler_version: String,
    pub(super) instructions: Instructions,
}

/// What the compiler may take for granted of the processor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Instructions {
    pub(super) flags: &'static str,
    /// A function that the library has only if these flags were in force.
    pub(super) witness: Option<&'static str>,
}

impl Recipe {
    pub(super) fn of(checkout: &Path) -> Result<Self> {
        let lock_file = checkout.join("Cargo.lock");
        let locked = fs::read_to_string(&lock_file)
            .with_context(|| format!("read {}", lock_file.display()))?;
        let target = host(&output("rustc", &["-vV"])?)?;
        let compiler = env::var("CXX").unwrap_or_else(|_| "g++".to_owned());
        let compiler_version = output(&compiler, &["--version"])?;
        Ok(Self {
            crate_version: locked_version(&locked, "librocksdb-sys")?,
            instructions: instructions(&target),
            target,
            compiler_version: compiler_version.lines().next().unwrap_or_default().to_owned(),
            compiler,
        })
    }

    pub(super) fn rocksdb_version(&self) -> &str {
        self.crate_version.split_once('+').map_or(&self.crate_version, |(_, rocksdb)| rocksdb)
    }

    /// Readable as far as it goes, and a checksum of everything.
    pub(super) fn key(&self) -> String {
        let checksum = crc32fast::hash(self.description().as_bytes());
        format!("{}-{}-{checksum:08x}", self.crate_version, self.target)
    }

    /// For people who wonder what is in there.
    pub(super) fn description(&self) -> String {
        let Self { crate_version, target, compiler, compiler_version, instructions } = self;
        format!(
            "librocksdb-sys {crate_version} {FEATURES}\ntarget {target}\ncompiler {compiler}: \
             {compiler_version}\nflags {}\n",
            instructions.flags
        )
    }
}

/// `.cargo/config.toml` cannot be asked for these: they must be the same whoever builds.
fn instructions(target: &str) -> Instructions {
    match target.split('-').next() {
        Some("x86_64") => Instructions {
            flags: "-msse4.2 -mpclmul",
            witness: Some("_ZN7rocksdb6crc32c11crc32c_3wayEjPKcm"),
        },
        Some("aarch64") => Instructions {
            flags: "-march=armv8-a+crc+crypto",
            witness: Some("_Z12crc32c_arm64jPKhm"),
        },
        _ => Instructions { flags: "", witness: None },
    }
}

fn locked_version(lock_file: &str, package: &str) -> Result<String> {
    let name = format!("name = \"{package}\"");
    let mut lines = lock_file.lines().skip_while(|line| *line != name).skip(1);
    match lines.next().and_then(|line| line.strip_prefix("version = \"")) {
        Some(version) => Ok(version.trim_end_matches('"').to_owned()),
        None => bail!("Cargo.lock does not mention {package}"),
    }
}

fn host(rustc: &str) -> Result<String> {
    let host = rustc.lines().find_map(|line| line.strip_prefix("host: "));
    host.map(str::to_owned).context("`rustc -vV` does not say for which machine it compiles")
}

/// What a command prints; the command may have words of its own, as in `ccache g++`.
fn output(command: &str, arguments: &[&str]) -> Result<String> {
    let mut words = command.split_whitespace();
    let program = words.next().unwrap_or_default();
    let output = Command::new(program)
        .args(words)
        .args(arguments)
        .output()
        .with_context(|| format!("run `{command}`"))?;
    if !output.status.success() {
        bail!("`{command} {}` failed", arguments.join(" "));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn recipe() -> Recipe {
        let target = "x86_64-unknown-linux-gnu".to_owned();
        Recipe {
            crate_version: "0.19.0+11.8.1".to_owned(),
            instructions: instructions(&target),
            target,
            compiler: "g++".to_owned(),
            compiler_version: "g++ 12.2.0".to_owned(),
        }
    }

    #[test]
    fn whatever_changes_the_library_changes_the_key() {
        let same = recipe().key();
        assert_eq!(recipe().key(), same);
        assert!(same.starts_with("0.19.0+11.8.1-x86_64-unknown-linux-gnu-"));
        let newer_compiler = Recipe { compiler_version: "g++ 13.1.0".to_owned(), ..recipe() };
        assert_ne!(newer_compiler.key(), same);
        let other_flags = Instructions { flags: "", witness: None };
        assert_ne!(Recipe { instructions: other_flags, ..recipe() }.key(), same);
    }

    #[test]
    fn the_version_is_the_locked_one() {
        let lock_file = "[[package]]\nname = \"a\"\nversion = \"1.0\"\n\n\
                         [[package]]\nname = \"librocksdb-sys\"\nversion = \"0.19.0+11.8.1\"\n";
        assert_eq!(locked_version(lock_file, "librocksdb-sys").unwrap(), "0.19.0+11.8.1");
        assert!(locked_version(lock_file, "rocksdb").is_err());
    }
}
