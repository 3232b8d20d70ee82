//! Says a thing once in a while: a peer that is refused comes back every second.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::Instant;

/// How long the same words about the same subject are not repeated.
const REPEAT: Duration = Duration::from_mins(1);

/// Subjects remembered; beyond it all are forgotten, which costs a few repeated lines.
const SUBJECTS_MAX: usize = 2_000;

/// What was last said about whom.
#[derive(Debug, Default)]
pub(super) struct LogLimit {
    said: BTreeMap<String, (String, Instant)>,
}

impl LogLimit {
    /// Whether these words about this subject are worth a line.
    pub(super) fn admits(&mut self, subject: &str, words: &str) -> bool {
        let now = Instant::now();
        if let Some((last, at)) = self.said.get(subject)
            && last == words
            && now.duration_since(*at) < REPEAT
        {
            return false;
        }
        if self.said.len() >= SUBJECTS_MAX {
            self.said.clear();
        }
        self.said.insert(subject.to_owned(), (words.to_owned(), now));
        true
    }
}
