//! What is said of a member: its own latest word, passed on by others unchanged.
//!
//! Only the member itself raises its words, so the later one of two tells all that the earlier one told: a list of words
//! joins member by member, and the order and number of arrivals do not matter (INV-4). One thing is joined apart from
//! the word: the highest durable batch, which survives the generation that reached it, so that a node which lost its
//! disk can be told what it once had.

use moim_core::NodeId;
use moim_core::clock::Hlc;

use crate::api::BatchId;
use crate::membership::MemberInfo;

/// A heartbeat of a member: its generation, and the counter within.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Heartbeat {
    /// Grows with every start of the member; persisted. 0: nothing was ever heard.
    pub generation: u64,
    /// Grows every `gossip_period_ms`.
    pub counter: u64,
}

/// A member is suspected since this heartbeat; its next one makes the suspicion void.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Suspicion {
    /// Who is suspected.
    pub member: NodeId,
    /// Its last heartbeat.
    pub heartbeat: Heartbeat,
}

/// What a member says of itself in one heartbeat. The order of two words of one member is that of their heartbeats;
/// what follows is compared only so that the order is total whatever arrives.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Word {
    /// Which heartbeat this is.
    pub heartbeat: Heartbeat,
    /// A part of the run's random number: tells two live processes with one id apart.
    pub run: u32,
    /// How much the generation was raised since the start, over what another process with this id had.
    pub raised: u64,
    /// It takes no new requests and will be gone soon.
    pub stopping: bool,
    /// Requests that it coordinates now.
    pub load: u32,
    /// It will send nothing stamped earlier than this.
    pub floor: Hlc,
    /// Whom it suspects; at most `gossip_suspects_max`.
    pub suspects: Vec<Suspicion>,
}

/// A line of the list that members send each other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// Of whom.
    pub member: NodeId,
    /// Its latest word.
    pub word: Word,
    /// The highest batch that it has ever reported as durable.
    pub durable: BatchId,
    /// Where it listens and what it is like, in the generation of the word; left out most of the time, because it
    /// changes only with a restart.
    pub profile: Option<Box<MemberInfo>>,
}

/// Bytes of a line without texts and suspicions, rounded up.
const LINE_BYTES: usize = 56;

/// Bytes of one suspicion, rounded up.
const SUSPICION_BYTES: usize = 24;

/// Bytes of a profile without its texts, rounded up.
const PROFILE_BYTES: usize = 40;

impl Line {
    /// Bytes that this takes in a message, not less than it really does.
    pub fn bytes(&self) -> usize {
        let profile = self.profile.as_ref().map_or(0, |info| {
            let texts = [
                &info.member.zone,
                &info.member.dc,
                &info.peer_address,
                &info.redis_address,
                &info.cluster_address,
                &info.http_address,
            ];
            PROFILE_BYTES + texts.iter().map(|text| text.len()).sum::<usize>()
        });
        LINE_BYTES + SUSPICION_BYTES * self.word.suspects.len() + profile
    }
}
