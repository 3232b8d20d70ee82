//! What this node knows of one other member: the latest word that reached it, and when.

use super::phi::{Intervals, Thresholds};
use super::word::{Line, Suspicion, Word};
use crate::api::BatchId;
use crate::membership::MemberInfo;
use crate::views::MemberState;

/// One other member.
#[derive(Debug)]
pub(super) struct Member {
    /// As the record has it, or as its latest profile says.
    pub(super) info: MemberInfo,
    /// The generation that said so; 0 for the record.
    pub(super) profile_generation: u64,
    /// For so many more of this node's heartbeats the profile is passed on.
    pub(super) profile_news: u32,
    pub(super) word: Word,
    /// The highest batch that any of its words called durable; `None`: no word was heard.
    pub(super) durable: Option<BatchId>,
    /// When its heartbeat last grew here; before the first, since when it is waited for.
    pub(super) grown_mono_ms: u64,
    intervals: Intervals,
    suspect_after_ms: u64,
    lost_after_ms: u64,
    /// This node suspects its present heartbeat.
    pub(super) suspected: bool,
    /// Enough live reporters suspected its present heartbeat.
    pub(super) down: bool,
    pub(super) state: MemberState,
    pub(super) since_mono_ms: u64,
}

impl Member {
    /// Nothing has been heard of it.
    pub(super) fn new(info: &MemberInfo, thresholds: &Thresholds, mono_ms: u64) -> Self {
        let intervals = Intervals::default();
        Self {
            info: info.clone(),
            profile_generation: 0,
            profile_news: 0,
            word: Word::default(),
            durable: None,
            grown_mono_ms: mono_ms,
            suspect_after_ms: intervals.suspect_after_ms(thresholds),
            lost_after_ms: intervals.lost_after_ms(thresholds),
            intervals,
            suspected: false,
            down: false,
            state: MemberState::Unknown,
            since_mono_ms: mono_ms,
        }
    }

    /// Joins what is said of it (INV-4). A later heartbeat makes every suspicion void.
    pub(super) fn join(&mut self, line: &Line, thresholds: &Thresholds, mono_ms: u64) {
        self.durable = self.durable.max(Some(line.durable));
        if line.word <= self.word {
            return;
        }
        let (before, after) = (self.word.heartbeat, line.word.heartbeat);
        if after > before {
            if after.generation == before.generation {
                let interval_ms = mono_ms.saturating_sub(self.grown_mono_ms);
                self.intervals.add(interval_ms, thresholds);
                self.suspect_after_ms = self.intervals.suspect_after_ms(thresholds);
                self.lost_after_ms = self.intervals.lost_after_ms(thresholds);
            }
            self.grown_mono_ms = mono_ms;
            self.suspected = false;
            self.down = false;
        }
        self.word = line.word.clone();
    }

    /// Takes the profile of a later generation; answers whether it says other addresses than before.
    pub(super) fn take_profile(&mut self, info: &MemberInfo, generation: u64, news: u32) -> bool {
        if generation <= self.profile_generation {
            return false;
        }
        let moved = !same_addresses(&self.info, info);
        self.info = info.clone();
        self.profile_generation = generation;
        self.profile_news = news;
        moved
    }

    /// Whether its silence has become suspicious; `lost`: there is no connection to it.
    pub(super) fn is_suspicious(&self, mono_ms: u64, lost: bool) -> bool {
        let after_ms = if lost { self.lost_after_ms } else { self.suspect_after_ms };
        mono_ms.saturating_sub(self.grown_mono_ms) >= after_ms
    }

    /// When its silence becomes suspicious, if there is a connection to it.
    pub(super) fn suspicious_mono_ms(&self) -> u64 {
        self.grown_mono_ms + self.suspect_after_ms
    }

    /// Whether a suspicion is known of it: of it by this node, or of others by it.
    pub(super) fn is_doubtful(&self) -> bool {
        self.suspected || !self.word.suspects.is_empty()
    }

    /// Takes the state that follows when so many report it.
    pub(super) fn settle(&mut self, reporters: usize, mono_ms: u64) {
        let state = match () {
            () if self.down => MemberState::Down,
            () if reporters > 0 => MemberState::Suspect,
            () if self.word.heartbeat.generation == 0 => MemberState::Unknown,
            () if self.word.stopping => MemberState::Stopping,
            () => MemberState::Alive,
        };
        if state != self.state {
            self.state = state;
            self.since_mono_ms = mono_ms;
        }
    }

    pub(super) fn phi(&self, mono_ms: u64, thresholds: &Thresholds) -> f64 {
        self.intervals.phi(mono_ms.saturating_sub(self.grown_mono_ms), thresholds)
    }

    /// The present heartbeat, as a suspicion names it.
    pub(super) fn suspicion(&self) -> Suspicion {
        Suspicion { member: self.info.member.node, heartbeat: self.word.heartbeat }
    }

    /// Whether its reports count: it was heard, and lives as far as this node can tell.
    pub(super) fn is_witness(&self) -> bool {
        self.word.heartbeat.generation > 0 && !self.suspected && !self.down && !self.word.stopping
    }

    /// What is passed on of it.
    pub(super) fn line(&self, with_profile: bool) -> Line {
        Line {
            member: self.info.member.node,
            word: self.word.clone(),
            durable: self.durable.unwrap_or_default(),
            profile: with_profile.then(|| Box::new(self.info.clone())),
        }
    }
}

/// Whether two descriptions of a member say the same of where to reach it.
pub(super) fn same_addresses(a: &MemberInfo, b: &MemberInfo) -> bool {
    let addresses = |info: &MemberInfo| {
        [
            info.peer_address.clone(),
            info.redis_address.clone(),
            info.cluster_address.clone(),
            info.http_address.clone(),
        ]
    };
    addresses(a) == addresses(b)
}
