//! What undoes a laboratory or a cluster, also when its scenario fails, panics, or is ended with Ctrl-C or `kill -9`.
//!
//! A shell in a process group of its own waits for the end of its input, which this process holds open. However this
//! process ends, the system closes that input, and the shell does what it was told at the start. So there is one way of
//! tearing down, and no signal needs to be caught.

use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result};

/// Runs its script once, when it is dropped or when this process is gone.
pub(super) struct Guard(Child);

impl Guard {
    /// Lines of shell. Each runs whatever becomes of those before it.
    pub(super) fn new(lines: &[String]) -> Result<Self> {
        let script = format!("cat >/dev/null 2>&1\n{}\n", lines.join("\n"));
        let mut shell = Command::new("sh");
        shell.args(["-c", &script]).process_group(0);
        shell.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
        Ok(Self(shell.spawn().context("start a shell that cleans up")?))
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        drop(self.0.stdin.take());
        if let Err(error) = self.0.wait() {
            println!("  the shell that cleans up is lost: {error}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::scratch::Scratch;
    use super::*;

    #[test]
    fn the_script_runs_when_the_guard_goes() {
        let scratch = Scratch::new("guard").unwrap();
        let path = scratch.path().join("made");
        let guard = Guard::new(&["false".to_owned(), format!("touch {}", path.display())]).unwrap();
        assert!(!path.exists());
        drop(guard);
        assert!(path.exists());
    }
}
