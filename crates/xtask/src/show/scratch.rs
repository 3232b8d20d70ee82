//! A directory that is gone when its scenario is over.

use std::env;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::process;
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Context, Result};

static MADE: AtomicU32 = AtomicU32::new(0);

/// A new, empty directory, removed with all that is in it when dropped.
pub(super) struct Scratch(PathBuf);

impl Scratch {
    /// Named after what it is for.
    pub(super) fn new(what: &str) -> Result<Self> {
        let serial = MADE.fetch_add(1, Ordering::Relaxed);
        let path = env::temp_dir().join(format!("moim-show-{what}-{}-{serial}", process::id()));
        // Not `create_dir_all`: one that is there already would belong to somebody else.
        fs::create_dir(&path).with_context(|| format!("make {}", path.display()))?;
        Ok(Self(path))
    }

    pub(super) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let removed = fs::remove_dir_all(&self.0);
        // Somebody else may have cleaned up already.
        if let Err(error) = removed.or_else(|error| match error.kind() {
            ErrorKind::NotFound => Ok(()),
            _ => Err(error),
        }) {
            println!("  {} could not be removed: {error}", self.0.display());
        }
    }
}
