//! Programs run to their end, or to a time limit.

use std::fs::{self, File};
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use super::scratch::Scratch;

/// How often a program is asked whether it has ended.
const POLL: Duration = Duration::from_millis(10);

/// What a program left behind.
pub(super) struct Finished {
    pub(super) status: ExitStatus,
    pub(super) stdout: String,
    pub(super) stderr: String,
    pub(super) took: Duration,
}

impl Finished {
    /// Its output, if it ended well.
    pub(super) fn successful(self) -> Result<Self> {
        if self.status.success() {
            return Ok(self);
        }
        let said = if self.stderr.trim().is_empty() { &self.stdout } else { &self.stderr };
        bail!("{}: {}", ending(self.status), tail(said));
    }
}

/// Runs a program and takes its output.
pub(super) fn run(command: &mut Command, limit: Duration) -> Result<Finished> {
    // Files rather than pipes: what the program leaves running in the background may keep a pipe open for ever.
    let scratch = Scratch::new("output")?;
    let (out, err) = (scratch.path().join("out"), scratch.path().join("err"));
    command.stdin(Stdio::null()).stdout(File::create(&out)?).stderr(File::create(&err)?);
    let began = Instant::now();
    let status = finish(command, limit)?;
    let read = |path| Ok::<_, anyhow::Error>(String::from_utf8_lossy(&fs::read(path)?).into());
    Ok(Finished { status, stdout: read(&out)?, stderr: read(&err)?, took: began.elapsed() })
}

/// Runs a program whose output is for people to see while it runs.
pub(super) fn watch(command: &mut Command, limit: Duration) -> Result<Duration> {
    let began = Instant::now();
    let status = finish(command.stdin(Stdio::null()), limit)?;
    if !status.success() {
        bail!("{}", ending(status));
    }
    Ok(began.elapsed())
}

fn finish(command: &mut Command, limit: Duration) -> Result<ExitStatus> {
    let name = command.get_program().to_string_lossy().into_owned();
    // A group of its own, so that what a program starts ends with it when the time is over.
    let mut child = command.process_group(0).spawn().with_context(|| format!("start {name}"))?;
    let deadline = Instant::now() + limit;
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(status);
        }
        if Instant::now() >= deadline {
            end_group(&mut child)?;
            bail!("{name} did not end within {} s", limit.as_secs());
        }
        thread::sleep(POLL);
    }
}

fn end_group(child: &mut Child) -> Result<()> {
    signal("KILL", &format!("-{}", child.id()))?;
    child.wait()?;
    Ok(())
}

/// Sends a signal to a process, or to the group of `-pid`.
pub(super) fn signal(name: &str, pid: &str) -> Result<bool> {
    let mut kill = Command::new("kill");
    kill.args(["-s", name, "--", pid]).stdout(Stdio::null()).stderr(Stdio::null());
    Ok(kill.status().context("run kill")?.success())
}

fn ending(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("exit code {code}"),
        (None, Some(signal)) => format!("ended by signal {signal}"),
        (None, None) => "ended".to_owned(),
    }
}

/// The last lines of what a program said.
pub(super) fn tail(text: &str) -> String {
    const LINES: usize = 5;
    let lines: Vec<&str> = text.lines().filter(|line| !line.trim().is_empty()).collect();
    lines[lines.len().saturating_sub(LINES)..].join(" | ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn output_and_ending_are_taken() {
        let mut shell = Command::new("sh");
        let finished =
            run(shell.args(["-c", "echo out; echo err >&2; exit 3"]), Duration::from_secs(10))
                .unwrap();
        assert_eq!((&finished.stdout[..], &finished.stderr[..]), ("out\n", "err\n"));
        let why = finished.successful().err().unwrap().to_string();
        assert_eq!(why, "exit code 3: err");
    }

    #[test]
    fn whoever_takes_too_long_is_ended() {
        let began = Instant::now();
        let outcome = run(Command::new("sleep").arg("60"), Duration::from_millis(50));
        assert!(outcome.err().unwrap().to_string().contains("did not end"));
        assert!(began.elapsed() < Duration::from_secs(30));
    }

    #[test]
    fn the_tail_is_what_was_said_last() {
        assert_eq!(tail("a\n\nb\n"), "a | b");
        assert_eq!(tail("1\n2\n3\n4\n5\n6\n"), "2 | 3 | 4 | 5 | 6");
    }
}
