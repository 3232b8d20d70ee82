//! How a command ends: an exit code, and for the bad ones words on standard error.

use std::process::ExitCode;

use crate::print;

/// The exit codes; scripts rely on them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ending {
    /// It was done.
    Done = 0,
    /// It failed.
    Failed = 1,
    /// The command line or configuration is wrong.
    Usage = 2,
    /// There is no such key.
    NotFound = 3,
    /// The key has siblings.
    Siblings = 4,
    /// A quorum was not reached, or the node does not serve now: trying again may help.
    Unavailable = 5,
}

impl From<Ending> for ExitCode {
    fn from(ending: Ending) -> Self {
        Self::from(ending as u8)
    }
}

/// Why a command did not end well.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Trouble {
    pub(crate) ending: Ending,
    /// What happened to what, and what to do.
    words: String,
    /// The same for machines, when they asked for it.
    json: Option<String>,
}

impl Trouble {
    pub(crate) fn new(ending: Ending, words: impl Into<String>) -> Self {
        Self { ending, words: words.into(), json: None }
    }

    /// It failed, whatever the command was.
    pub(crate) fn failed(words: impl Into<String>) -> Self {
        Self::new(Ending::Failed, words)
    }

    /// The command line is wrong.
    pub(crate) fn usage(words: impl Into<String>) -> Self {
        Self::new(Ending::Usage, words)
    }

    /// Says it in JSON instead.
    pub(crate) fn in_json(mut self, json: String) -> Self {
        self.json = Some(json);
        self
    }

    /// What happened.
    #[cfg(test)]
    pub(crate) fn words(&self) -> &str {
        &self.words
    }

    /// Says it on standard error.
    pub(crate) fn report(&self) {
        match &self.json {
            Some(json) => print::note(json),
            None => print::note(&format!("moim: {}", self.words)),
        }
    }
}

impl std::fmt::Display for Trouble {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.words)
    }
}
