//! Starting nodes, and waiting until they serve.

use std::fs::File;
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use super::plan::Plan;
use super::process::{Process, Seen};
use super::state::Home;
use crate::client::node::{Call, Node};
use crate::ending::Trouble;
use crate::print::{self, Progress};

/// How often nodes are asked whether they are ready.
const LOOK: Duration = Duration::from_millis(100);

/// How long a node may take to answer that.
const ANSWER_PATIENCE: Duration = Duration::from_secs(1);

/// Lines of a log that are shown when a node ends.
const TAIL_LINES: usize = 12;

/// Bytes of a log that these are looked for in.
const TAIL_BYTES: u64 = 16 << 10;

/// A node that was just started.
#[derive(Debug)]
pub(super) struct Launched {
    pub(super) number: u16,
    pub(super) process: Process,
    /// To wait for it when it ends; nobody else can.
    pub(super) child: Child,
    /// Where its part of the log begins.
    log_from: u64,
}

/// Starts a node. It belongs to no terminal: whoever started it decides when it ends.
pub(super) fn launch(home: &Home, plan: &Plan, number: u16) -> Result<Launched, Trouble> {
    let directory = home.node(number);
    let fault =
        |error: io::Error| Trouble::failed(format!("node {number} cannot be started: {error}"));
    std::fs::create_dir_all(&directory).map_err(fault)?;
    let log = File::options().create(true).append(true).open(home.log(number)).map_err(fault)?;
    let log_from = log.metadata().map_err(fault)?.len();
    let child = Command::new(std::env::current_exe().map_err(fault)?)
        .args(plan.arguments(number, &directory))
        // A moim.toml where the command was given is meant for another server.
        .current_dir(&directory)
        .stdin(Stdio::null())
        .stdout(log.try_clone().map_err(fault)?)
        .stderr(log)
        // Ctrl-C is for the one who waits, who then stops all nodes in order.
        .process_group(0)
        .spawn()
        .map_err(fault)?;
    let process = Process::of(child.id())?;
    Ok(Launched { number, process, child, log_from })
}

/// How a node answers.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Answer {
    Ready,
    /// It is not ready, and why.
    Waits(String),
    Silent,
}

/// Asks a node whether it is ready.
pub(super) fn ask(plan: &Plan, number: u16) -> Answer {
    let node = Node::at(plan.address("http", number), ANSWER_PATIENCE);
    match node.call(Call { path: "/readyz".to_owned(), ..Call::default() }) {
        Ok(reply) if reply.status == 200 => Answer::Ready,
        Ok(reply) => Answer::Waits(node.refused(&reply).to_string()),
        Err(_) => Answer::Silent,
    }
}

/// Waits until all of these nodes are ready. `interrupted` is asked now and then whether to give up.
pub(super) fn wait_until_ready(
    home: &Home,
    plan: &Plan,
    launched: &mut [Launched],
    patience: Duration,
    mut interrupted: impl FnMut() -> bool,
) -> Result<(), Trouble> {
    let began = Instant::now();
    let mut progress = Progress::begin();
    loop {
        let mut waiting = Vec::new();
        for node in launched.iter_mut() {
            check_alive(home, node)?;
            match ask(plan, node.number) {
                Answer::Ready => {}
                Answer::Waits(reason) => waiting.push((node.number, reason)),
                Answer::Silent => waiting.push((node.number, "does not answer yet".to_owned())),
            }
        }
        let Some((number, reason)) = waiting.first() else {
            return Ok(());
        };
        let ready = launched.len() - waiting.len();
        progress.say(&format!(
            "{ready} of {} nodes are ready; node {number}: {reason}",
            launched.len()
        ));
        if interrupted() {
            return Err(Trouble::failed("interrupted before all nodes were ready"));
        }
        if began.elapsed() > patience {
            return Err(late(home, *number, reason, patience));
        }
        std::thread::sleep(LOOK);
    }
}

fn late(home: &Home, number: u16, reason: &str, patience: Duration) -> Trouble {
    Trouble::failed(format!(
        "node {number} was not ready within {} s: {reason}; its log is {}",
        patience.as_secs(),
        home.log(number).display()
    ))
}

/// A node that has ended will not become ready: the end of its log says why.
fn check_alive(home: &Home, node: &mut Launched) -> Result<(), Trouble> {
    // Waiting for it first: then nothing of it is left.
    let ended = node.child.try_wait().ok().flatten();
    if ended.is_none() && node.process.look() != Seen::Gone {
        return Ok(());
    }
    let how = ended.map_or(String::new(), |status| format!(" ({status})"));
    let path = home.log(node.number);
    let words = tail(&path, node.log_from).unwrap_or_else(|error| format!("{error}\n"));
    Err(Trouble::failed(format!(
        "node {} ended while it was starting{how}; the end of {}:\n{words}",
        node.number,
        path.display()
    )))
}

/// The last lines of a log, of the part from `from` on.
fn tail(path: &Path, from: u64) -> io::Result<String> {
    let mut file = File::open(path)?;
    let length = file.metadata()?.len();
    file.seek(SeekFrom::Start(from.max(length.saturating_sub(TAIL_BYTES))))?;
    let mut bytes = Vec::new();
    file.take(TAIL_BYTES).read_to_end(&mut bytes)?;
    let text = String::from_utf8_lossy(&bytes);
    let lines: Vec<_> = text.lines().collect();
    let shown = &lines[lines.len().saturating_sub(TAIL_LINES)..];
    Ok(shown
        .iter()
        .map(|line| format!("  {}", print::visible(line.as_bytes())))
        .collect::<Vec<_>>()
        .join("\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tail_is_of_this_run_only() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("log");
        std::fs::write(&path, "old run\n").unwrap();
        let from = std::fs::metadata(&path).unwrap().len();
        let lines: Vec<_> = (0..20).map(|line| format!("line {line}\n")).collect();
        let text = format!("old run\n{}", lines.concat());
        std::fs::write(&path, &text).unwrap();
        let shown = tail(&path, from).unwrap();
        assert_eq!(shown.lines().count(), TAIL_LINES);
        assert!(shown.ends_with("  line 19") && !shown.contains("old"), "{shown}");
        std::fs::write(&path, "old run\nonly line\n").unwrap();
        assert_eq!(tail(&path, from).unwrap(), "  only line");
    }
}
