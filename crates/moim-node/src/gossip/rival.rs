//! Two live processes with one node id: a data directory was copied. Found out also when the copies never meet, because
//! each hears words of its own id that it did not say.
//!
//! A word with a generation not below the own may be left over from an earlier run whose clock was ahead; raising the
//! own generation above it puts that right. A left-over word does not answer, a live process does: it raises its own.
//! After [`ANSWERS`] of them the one that began later gives way.

use moim_core::NodeId;

use super::word::{Heartbeat, Line};
use super::{Gossip, News};

/// Answers of one foreign run that prove it alive. More than one, because several generations of a dead run may still
/// be about.
const ANSWERS: u32 = 3;

/// Another run that spoke under this node's id.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rival {
    run: u32,
    answers: u32,
}

/// Another process runs with this node's id.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Duplicate {
    /// The id.
    pub node: NodeId,
    /// Where the other one listens, if it said.
    pub peer_address: Option<String>,
}

impl std::fmt::Display for Duplicate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "another process runs with this node's id {}", self.node)?;
        if let Some(address) = &self.peer_address {
            write!(f, " at {address}")?;
        }
        f.write_str(
            " and began earlier: a data directory was copied; give the copy a fresh directory",
        )
    }
}

impl Gossip {
    /// Somebody passes on what this node said, or what another process said in its name.
    pub(super) fn hear_of_self(&mut self, line: &Line, news: &mut News) {
        if line.durable > self.durable {
            self.heard_durable = self.heard_durable.max(Some(line.durable));
        }
        let theirs = line.word.heartbeat.generation;
        if line.word.run == self.word.run || theirs < self.word.heartbeat.generation {
            return;
        }
        // Nothing is above the largest number; whoever says so is not to be outdone.
        let Some(generation) = theirs.checked_add(1) else { return };
        let answers = match self.rival {
            Some(rival) if rival.run == line.word.run => rival.answers + 1,
            _ => 0,
        };
        self.rival = Some(Rival { run: line.word.run, answers });
        self.word.heartbeat = Heartbeat { generation, counter: 0 };
        self.word.raised = generation - self.first_generation;
        self.profile_news = self.news_rounds();
        news.raised = true;
        let their_start = (theirs.saturating_sub(line.word.raised), line.word.run);
        if answers >= ANSWERS && their_start < (self.first_generation, self.word.run) {
            let peer_address = line.profile.as_ref().map(|info| info.peer_address.clone());
            news.duplicate = Some(Duplicate { node: self.info.member.node, peer_address });
        }
    }

    /// Whether another process was seen alive under this node's id.
    pub fn has_rival(&self) -> bool {
        self.rival.is_some_and(|rival| rival.answers >= ANSWERS)
    }
}
