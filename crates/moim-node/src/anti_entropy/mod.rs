//! Anti-entropy: every pair of owners compares the Merkle trees of what both hold ([`moim_core::merkle`]) and exchanges
//! only what differs (Dynamo, section 4.7). Read repair mends what is read; this mends the rest, and fills a node whose
//! disk was lost.
//!
//! One of a pair asks, the other answers and keeps nothing in mind: every question brings its [`Terms`], every answer
//! can be had again. The descent: sums over runs of partitions, sixteen parts a step; the slices of a partition that
//! differ, with their groups; leaves; then entries of the leaves that differ, page by page, and last objects, which are
//! joined on both sides like any other. So bytes are in proportion to what differs. A lost answer ends the exchange, and the
//! next one begins with what still differs.
//!
//! Invariants: one exchange at a time with a peer asks, and every page, list and number in flight has a limit; nothing
//! is said about what is not yet durable (a message reveals the last batch there is), so that "equal" stays true across
//! crashes; slices that may have passed on one of the two are left out by the horizon; what is recorded as equal since
//! T was held by both when a comparison ran that began at T (`comparisons`).
//!
//! | file | what |
//! |---|---|
//! | `ask` | questions and answers |
//! | `schedule` | when to compare with whom, and on demand |
//! | `descent` | the side that asks: from the root to differing leaves |
//! | `entries` | the side that asks: pages of entries, and objects both ways |
//! | `answer` | the side that answers |
//! | `comparisons` | who was equal since when |
//! | `recall` | a node that starts: is its disk an old one? |
//! | `filling` | a node that lost its disk |
//! | `rest` | what such a node takes before it compares |
//!
//! Left out: what may be forgotten once all are equal (`settled`), and how fast background work may go (`pace`).

mod answer;
mod ask;
mod comparisons;
mod descent;
mod entries;
mod filling;
mod recall;
mod rest;
mod schedule;

pub(crate) use ask::RUN_PARTITIONS;
pub use ask::{Answer, Ask, PageOfEntries, PageOfRest, SliceGroups, SliceSum, Span, Terms};
pub(crate) use comparisons::Comparisons;
pub(crate) use descent::Exchange;
pub(crate) use entries::Errand;
pub(crate) use filling::Filling;
pub(crate) use recall::Recall;
pub(crate) use schedule::Exchanges;
pub use schedule::Repair;

use moim_core::NodeId;
use moim_core::clock::Hlc;

/// Spans in one question.
const SPANS_MAX: usize = 256;

/// Parts that a span is cut into.
const SPAN_PARTS: u16 = 16;

/// Slices of one partition in one message; the rest differs the next time.
const SLICES_MAX: usize = 512;

/// Entries of its own that a node looks at for one page.
const PAGE_ENTRIES_MAX: usize = 1_024;

/// Bytes of objects in one page, unless the first one alone is larger. Whoever gets it joins them in a turn or two, and
/// clients wait meanwhile.
const PAGE_BYTES_MAX: usize = 128 << 10;

/// Entries that a tree of this node may have and still be compared as one range, without its leaves: naming so many costs
/// no more than the sums of 256 leaves.
const SMALL_TREE_ENTRIES: u64 = 256;

/// Objects on their way at once in one exchange; in one that fills a lost disk.
const OBJECTS_IN_FLIGHT_MAX: usize = 64;
const OBJECTS_IN_FLIGHT_FILL_MAX: usize = 256;

/// Exchanges at once that fill a lost disk, with different peers.
const FILLS_MAX: usize = 2;

/// Exchanges that one node asks in at once, beside those that fill it.
const EXCHANGES_MAX: usize = 2;

/// An exchange's question under way.
#[derive(Debug)]
pub(crate) struct Question {
    pub(crate) peer: NodeId,
    /// Which exchange asks: an answer to an earlier one means nothing to a later.
    exchange: u64,
    /// When the object that it carries was read.
    pub(crate) begun: Option<Hlc>,
    /// What an object is about; `None` for a step of the descent.
    errand: Option<Errand>,
}

impl Question {
    /// Whether `from` may answer: this node, where the object goes to its own replica.
    fn is_put_to(&self, from: NodeId, own: NodeId) -> bool {
        match &self.errand {
            Some(errand) if errand.is_here => from == own,
            _ => from == self.peer,
        }
    }

    /// Whether its answer comes from `node`.
    pub(crate) fn waits_for(&self, node: NodeId) -> bool {
        self.peer == node
    }
}
