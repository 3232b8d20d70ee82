//! What was started in a directory: `dev.json`, so that any terminal can play.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::plan::Plan;
use super::process::{Process, Seen};
use crate::ending::Trouble;

const STATE_FILE: &str = "dev.json";
const LOCK_FILE: &str = "dev.lock";

/// A cluster in its directory.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct State {
    pub(super) plan: Plan,
    /// Whether all nodes have been ready once: from then on the plan is fixed.
    pub(super) is_founded: bool,
    /// Whether it was stopped on purpose.
    pub(super) is_stopped: bool,
    /// Processes by the number of their node, living or not.
    pub(super) processes: BTreeMap<u16, Process>,
    /// Nodes that were cut off from the others.
    pub(super) cut: BTreeSet<u16>,
}

/// The directory of a cluster.
#[derive(Clone, Debug)]
pub(super) struct Home {
    directory: PathBuf,
}

impl Home {
    /// The cluster that was founded in this directory.
    pub(super) fn find(directory: &Path) -> Result<Self, Trouble> {
        match directory.canonicalize() {
            Ok(directory) if directory.join(STATE_FILE).exists() => Ok(Self { directory }),
            _ => Err(Trouble::failed(format!(
                "there is no cluster in {}: `moim dev` founds one, --data names its directory",
                directory.display()
            ))),
        }
    }

    /// A directory for a cluster, made if need be.
    pub(super) fn make(directory: &Path) -> Result<Self, Trouble> {
        let made = fs::create_dir_all(directory).and_then(|()| directory.canonicalize());
        made.map(|directory| Self { directory })
            .map_err(|error| Trouble::failed(format!("{}: {error}", directory.display())))
    }

    /// Keeps other terminals from changing the state until the lock is dropped.
    pub(super) fn lock(&self) -> Result<File, Trouble> {
        let path = self.directory.join(LOCK_FILE);
        let file = File::options().create(true).truncate(false).write(true).open(&path);
        let locked = file.and_then(|file| file.lock().map(|()| file));
        locked.map_err(|error| fault(&path, &error))
    }

    /// What was started, if anything.
    pub(super) fn read(&self) -> Result<Option<State>, Trouble> {
        let path = self.directory.join(STATE_FILE);
        match fs::read(&path) {
            Ok(text) => serde_json::from_slice(&text).map(Some).map_err(|error| {
                Trouble::failed(format!(
                    "{} is damaged ({error}): remove it if no node runs",
                    path.display()
                ))
            }),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(fault(&path, &error)),
        }
    }

    /// What was started.
    pub(super) fn state(&self) -> Result<State, Trouble> {
        self.read()?.ok_or_else(|| {
            Trouble::failed(format!("there is no cluster in {}", self.directory.display()))
        })
    }

    /// Keeps what was started. Other terminals see the old or the new, never a half.
    pub(super) fn write(&self, state: &State) -> Result<(), Trouble> {
        let path = self.directory.join(STATE_FILE);
        let new = self.directory.join("dev.json.new");
        let text = serde_json::to_string_pretty(state)
            .expect("the state has no maps with other keys than numbers");
        fs::write(&new, text)
            .and_then(|()| fs::rename(&new, &path))
            .map_err(|error| fault(&path, &error))
    }

    /// Where a node keeps its data.
    pub(super) fn node(&self, number: u16) -> PathBuf {
        self.directory.join(format!("node-{number}"))
    }

    /// Where a node logs.
    pub(super) fn log(&self, number: u16) -> PathBuf {
        self.node(number).join("log")
    }

    /// The directory itself.
    pub(super) fn directory(&self) -> &Path {
        &self.directory
    }
}

impl State {
    /// Nothing started yet.
    pub(super) fn new(plan: Plan) -> Self {
        Self {
            plan,
            is_founded: false,
            is_stopped: false,
            processes: BTreeMap::new(),
            cut: BTreeSet::new(),
        }
    }

    /// How the process of a node is.
    pub(super) fn look(&self, number: u16) -> Seen {
        self.processes.get(&number).map_or(Seen::Gone, Process::look)
    }

    /// Nodes whose processes live.
    pub(super) fn living(&self) -> Vec<u16> {
        self.plan.numbers().filter(|&number| self.look(number) != Seen::Gone).collect()
    }
}

fn fault(path: &Path, error: &std::io::Error) -> Trouble {
    Trouble::failed(format!("{}: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_state_returns() {
        let directory = tempfile::tempdir().unwrap();
        assert!(Home::find(directory.path()).unwrap_err().words().contains("no cluster"));
        let home = Home::make(&directory.path().join("a/b")).unwrap();
        assert_eq!(home.read().unwrap(), None);
        let mut state = State::new(Plan::default());
        state.processes.insert(2, Process::of(std::process::id()).unwrap());
        state.cut.insert(1);
        let lock = home.lock().unwrap();
        home.write(&state).unwrap();
        drop(lock);
        assert_eq!(home.state().unwrap(), state);
        assert_eq!(state.living(), [2]);
        fs::write(home.directory().join(STATE_FILE), "{").unwrap();
        assert!(home.state().unwrap_err().words().contains("damaged"));
    }
}
