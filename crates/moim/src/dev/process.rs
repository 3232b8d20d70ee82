//! A process that was started here, and no other.

use std::fs;
use std::io;

use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use serde::{Deserialize, Serialize};

use crate::ending::Trouble;

/// A process, named so that no other is ever taken for it: numbers are reused, moments are not.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Process {
    pub(super) pid: i32,
    /// When it began, in ticks since the machine did.
    began: u64,
    /// Which run of the machine that was.
    boot: String,
}

/// How a process is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Seen {
    Running,
    Paused,
    Gone,
}

impl Process {
    /// The process with this number, which runs now.
    pub(super) fn of(pid: u32) -> Result<Self, Trouble> {
        let fault =
            |error: &dyn std::fmt::Display| Trouble::failed(format!("process {pid}: {error}"));
        let pid = i32::try_from(pid).map_err(|error| fault(&error))?;
        let Stat { began, .. } = stat(pid).map_err(|error| fault(&error))?;
        let boot = boot().map_err(|error| fault(&error))?;
        Ok(Self { pid, began, boot })
    }

    /// How it is now.
    pub(super) fn look(&self) -> Seen {
        let same_boot = boot().is_ok_and(|boot| boot == self.boot);
        match stat(self.pid) {
            Ok(Stat { state, threads, began }) if same_boot && began == self.began => match state {
                // Dead, and not yet waited for by its parent. While other threads are still ending, they hold its ports.
                'Z' | 'X' if threads <= 1 => Seen::Gone,
                'T' | 't' => Seen::Paused,
                _ => Seen::Running,
            },
            _ => Seen::Gone,
        }
    }

    /// Sends a signal; says whether there still was somebody to send it to.
    pub(super) fn send(&self, signal: Signal) -> Result<bool, Trouble> {
        let Some(pid) = Pid::from_raw(self.pid) else { return Ok(false) };
        // The handle first: what it names cannot become another process after the look.
        let handle = match pidfd_open(pid, PidfdFlags::empty()) {
            Ok(handle) => handle,
            Err(rustix::io::Errno::SRCH) => return Ok(false),
            Err(error) => return Err(self.fault(error)),
        };
        if self.look() == Seen::Gone {
            return Ok(false);
        }
        match pidfd_send_signal(&handle, signal) {
            Ok(()) => Ok(true),
            Err(rustix::io::Errno::SRCH) => Ok(false),
            Err(error) => Err(self.fault(error)),
        }
    }

    fn fault(&self, error: rustix::io::Errno) -> Trouble {
        Trouble::failed(format!("process {}: {error}", self.pid))
    }
}

/// What the system says of a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stat {
    state: char,
    threads: u64,
    /// In ticks since the machine began.
    began: u64,
}

fn stat(pid: i32) -> io::Result<Stat> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    parse_stat(&text)
        .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "its state cannot be read"))
}

/// The second field is the program's name in brackets and may hold anything: fields are counted from the last one.
fn parse_stat(text: &str) -> Option<Stat> {
    let (_, rest) = text.rsplit_once(')')?;
    let mut fields = rest.split_whitespace();
    let state = fields.next()?.chars().next()?;
    let threads = fields.nth(16)?.parse().ok()?;
    Some(Stat { state, threads, began: fields.nth(1)?.parse().ok()? })
}

fn boot() -> io::Result<String> {
    fs::read_to_string("/proc/sys/kernel/random/boot_id").map(|text| text.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use std::process::{Child, Command, Stdio};

    use super::*;

    fn sleeper() -> Child {
        Command::new("sleep").arg("60").stdin(Stdio::null()).spawn().unwrap()
    }

    fn wait_until(process: &Process, wanted: Seen) {
        for _ in 0..500 {
            if process.look() == wanted {
                return;
            }
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
        panic!("{process:?} is {:?}, not {wanted:?}", process.look());
    }

    #[test]
    fn a_process_is_paused_and_killed() {
        let mut child = sleeper();
        let process = Process::of(child.id()).unwrap();
        assert_eq!(process.look(), Seen::Running);
        assert!(process.send(Signal::STOP).unwrap());
        wait_until(&process, Seen::Paused);
        assert!(process.send(Signal::CONT).unwrap());
        wait_until(&process, Seen::Running);
        assert!(process.send(Signal::KILL).unwrap());
        wait_until(&process, Seen::Gone);
        assert!(!process.send(Signal::KILL).unwrap(), "dead, though not waited for");
        child.wait().unwrap();
        assert!(!process.send(Signal::KILL).unwrap());
    }

    #[test]
    fn another_process_of_the_same_number_is_left_alone() {
        let mut child = sleeper();
        let process = Process::of(child.id()).unwrap();
        for other in [
            Process { began: process.began + 1, ..process.clone() },
            Process { boot: "another".to_owned(), ..process.clone() },
        ] {
            assert_eq!(other.look(), Seen::Gone);
            assert!(!other.send(Signal::KILL).unwrap());
        }
        assert_eq!(process.look(), Seen::Running);
        child.kill().unwrap();
        child.wait().unwrap();
    }

    #[test]
    fn a_strange_name_does_not_shift_the_fields() {
        let fields = "S 1 1 1 0 -1 4194304 1 0 0 0 0 0 0 0 20 0 6 0 4711 2 3";
        let stat = Stat { state: 'S', threads: 6, began: 4_711 };
        assert_eq!(parse_stat(&format!("7 (a) S 9) {fields}")), Some(stat));
        assert_eq!(parse_stat(""), None);
    }
}
