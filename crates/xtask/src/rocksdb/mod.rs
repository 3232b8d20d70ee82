//! `cargo xtask rocksdb`: RocksDB, compiled once per machine and shared by every checkout and profile.
//!
//! Compiling it takes about 25 minutes of CPU, and cargo would do so for each checkout, for debug and for release. So
//! `librocksdb.a` is kept outside the checkout, in
//!
//! ```text
//! ${MOIM_CACHE:-${XDG_CACHE_HOME:-~/.cache}/moim}/rocksdb/<key>/librocksdb.a
//! ```
//!
//! where the key names everything that the library depends on ([`recipe`]), and the link `.rocksdb` in the checkout
//! points there; `.cargo/config.toml` tells the `librocksdb-sys` crate to link it.
//!
//! Invariants:
//! - What is linked was checked: it has all its members, it has the processor's CRC instructions in it (a checksum
//!   without them costs a microsecond a write), and it is byte for byte what was checked ([`library`]). A damaged or
//!   half-written one is made again.
//! - It appears under its name whole or not at all.
//! - Two builds do not run at once; the second waits and finds the work done.
//!
//! The library is for 64-bit x86 processors from 2010 on (SSE 4.2 and carry-less multiplication), or 64-bit ARM with
//! the CRC and crypto extensions (all server cores).

mod build;
mod library;
mod progress;
mod recipe;
mod tools;

use std::env;
use std::fs::{self, File, TryLockError};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use self::library::Shelf;
use self::recipe::Recipe;

/// Makes sure of the library and points the checkout at it.
pub(crate) fn run(checkout: &Path) -> Result<()> {
    tools::check()?;
    let recipe = Recipe::of(checkout)?;
    let cache = cache_directory()?;
    let shelf = Shelf::new(&cache.join("rocksdb").join(recipe.key()));
    if !shelf.intact() {
        let _lock = lock(&cache)?;
        // Whoever had the lock before may have done it.
        if !shelf.intact() {
            build::run(checkout, &recipe, &cache, &shelf)?;
        }
    }
    point(checkout, &shelf)?;
    println!("RocksDB {} is ready in {}", recipe.rocksdb_version(), shelf.directory().display());
    Ok(())
}

fn cache_directory() -> Result<PathBuf> {
    let set = |name| env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let cache = match (set("MOIM_CACHE"), set("XDG_CACHE_HOME"), set("HOME")) {
        (Some(moim), _, _) => moim,
        (None, Some(caches), _) => caches.join("moim"),
        (None, None, Some(home)) => home.join(".cache/moim"),
        (None, None, None) => {
            bail!("set MOIM_CACHE to a directory for what is compiled once: HOME is not set")
        }
    };
    fs::create_dir_all(cache.join("rocksdb"))
        .with_context(|| format!("make the cache directory {}", cache.display()))?;
    cache.canonicalize().with_context(|| format!("find {}", cache.display()))
}

/// Held until dropped, and by the system's doing also when the process is killed.
fn lock(cache: &Path) -> Result<File> {
    let path = cache.join("rocksdb/lock");
    let file = File::create(&path).with_context(|| format!("open {}", path.display()))?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            println!("RocksDB is being compiled already; waiting until that is done.");
            file.lock().with_context(|| format!("lock {}", path.display()))?;
        }
        Err(TryLockError::Error(error)) => {
            return Err(error).with_context(|| format!("lock {}", path.display()));
        }
    }
    Ok(file)
}

/// Points `.rocksdb` at the shelf, in one step: a build that runs meanwhile sees the old one or the new one.
fn point(checkout: &Path, shelf: &Shelf) -> Result<()> {
    let link = checkout.join(".rocksdb");
    if fs::read_link(&link).is_ok_and(|target| target == shelf.directory()) {
        return Ok(());
    }
    if link.is_dir() && !link.is_symlink() {
        bail!("{} is a directory and should be a link: move it away", link.display());
    }
    let fresh = checkout.join(format!(".rocksdb.{}", std::process::id()));
    symlink(shelf.directory(), &fresh)
        .and_then(|()| fs::rename(&fresh, &link))
        .with_context(|| format!("make the link {}", link.display()))
}
