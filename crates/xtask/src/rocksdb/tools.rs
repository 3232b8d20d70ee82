//! What has to be installed to compile RocksDB and its bindings.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Result, bail};

/// Where libclang is looked for besides `LIBCLANG_PATH`: the crate that loads it looks there too.
const LIBRARY_DIRECTORIES: [&str; 8] = [
    "/usr/lib",
    "/usr/lib64",
    "/usr/local/lib",
    "/usr/lib/x86_64-linux-gnu",
    "/usr/lib/aarch64-linux-gnu",
    "/usr/local/opt/llvm/lib",
    "/opt/homebrew/opt/llvm/lib",
    "/Library/Developer/CommandLineTools/usr/lib",
];

/// Complains, with the remedy, about whatever is missing.
pub(super) fn check() -> Result<()> {
    let compiler = env::var("CXX").unwrap_or_else(|_| "g++".to_owned());
    let mut missing = Vec::new();
    let mut packages = Vec::new();
    let mut need = |there: bool, what: String, package| {
        if !there {
            missing.push(what);
            packages.push(package);
        }
    };
    let program = compiler.split_whitespace().next().unwrap_or_default();
    need(in_path(program), format!("a C++20 compiler ({compiler})"), "build-essential");
    need(in_path("clang"), "clang (its headers, for the bindings)".to_owned(), "clang");
    need(has_libclang(), "libclang (for the bindings)".to_owned(), "libclang-dev");
    if missing.is_empty() {
        return Ok(());
    }
    bail!(
        "RocksDB cannot be compiled here. Missing: {}.\n\
         On Debian and Ubuntu:  sudo apt-get install -y {}\n\
         Without RocksDB, and keeping nothing on disk:  make dev ENGINE=memory",
        missing.join(", "),
        packages.join(" ")
    )
}

pub(super) fn in_path(program: &str) -> bool {
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path).any(|directory| directory.join(program).is_file())
}

fn has_libclang() -> bool {
    env::var_os("LIBCLANG_PATH").is_some()
        || llvm_directories()
            .chain(LIBRARY_DIRECTORIES.map(PathBuf::from))
            .any(|directory| files(&directory).any(|name| is_libclang(&name)))
}

/// Debian keeps each release of LLVM in a directory of its own.
fn llvm_directories() -> impl Iterator<Item = PathBuf> {
    let releases = files(Path::new("/usr/lib")).filter(|name| name.starts_with("llvm-"));
    releases.map(|release| Path::new("/usr/lib").join(release).join("lib"))
}

fn files(directory: &Path) -> impl Iterator<Item = String> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().into_string().ok())
}

/// `libclang-cpp` is another library.
fn is_libclang(name: &str) -> bool {
    let Some(rest) = name.strip_prefix("libclang") else { return false };
    let version =
        rest.strip_prefix('-').is_some_and(|it| it.starts_with(|c: char| c.is_ascii_digit()));
    rest.starts_with(".so") || rest == ".dylib" || (version && rest.contains(".so"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn libclang_is_told_from_its_namesakes() {
        for name in ["libclang.so", "libclang.so.1", "libclang-14.so.1", "libclang.dylib"] {
            assert!(is_libclang(name), "{name}");
        }
        for name in ["libclang-cpp.so.14", "libclang_rt.so", "libclangAST.a", "libLLVM.so"] {
            assert!(!is_libclang(name), "{name}");
        }
    }
}
