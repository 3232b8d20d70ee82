//! A small file system of its own for a directory, so that it can be filled without hurting anybody. Only root may
//! mount one.

use std::fs::{self, File};
use std::io::{ErrorKind, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

/// Ballast is written in pieces of this many bytes.
const PIECE_BYTES: usize = 64 << 10;

/// Mounted until dropped.
pub(super) struct SmallDisk {
    path: PathBuf,
}

impl SmallDisk {
    /// Whether file systems can be mounted here at all.
    pub(super) fn can_be_mounted() -> bool {
        let id = Command::new("id").arg("-u").output();
        id.is_ok_and(|output| output.stdout.trim_ascii() == b"0")
    }

    /// At `path`, which is made if need be.
    pub(super) fn mount(path: &Path, mib: u32) -> Result<Self> {
        fs::create_dir_all(path)?;
        let size = format!("size={mib}m");
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", &size, "moim-show"]).arg(path);
        let output = mount.output().context("run mount")?;
        if !output.status.success() {
            let why = String::from_utf8_lossy(&output.stderr).trim().to_owned();
            bail!("a small file system cannot be mounted at {}: {why}", path.display());
        }
        Ok(Self { path: path.to_owned() })
    }

    /// Fills it with a file until so many bytes are left, or with 0 to the brim.
    pub(super) fn fill(&self, bytes_left: u64) -> Result<()> {
        let mut ballast = File::options().create(true).append(true).open(self.ballast())?;
        let piece = vec![1; PIECE_BYTES];
        while bytes_left == 0 || self.available_bytes()? > bytes_left {
            match ballast.write(&piece) {
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::StorageFull => return Ok(()),
                Err(error) => return Err(error).context("fill a small disk"),
            }
        }
        Ok(())
    }

    /// Gives the room back.
    pub(super) fn empty(&self) -> Result<()> {
        fs::remove_file(self.ballast()).context("empty a small disk")
    }

    fn ballast(&self) -> PathBuf {
        self.path.join("ballast")
    }

    /// What `df` says is left.
    fn available_bytes(&self) -> Result<u64> {
        let output = Command::new("df").args(["-B1", "--output=avail"]).arg(&self.path).output()?;
        let text = String::from_utf8_lossy(&output.stdout);
        let number = text.lines().nth(1).and_then(|line| line.trim().parse().ok());
        number.context("df does not say how much room is left")
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Lazily: whatever still uses it, it must not outlive the scenario.
        let mut unmount = Command::new("umount");
        let status = unmount.arg("-l").arg(&self.path).stderr(Stdio::null()).status();
        if !status.is_ok_and(|status| status.success()) {
            println!("  {} stays mounted", self.path.display());
        }
    }
}
