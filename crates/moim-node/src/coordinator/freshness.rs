//! How stale reads are: a few are looked at again, after they were answered, with all owners' copies (REQ-45).
//!
//! A read *missed* a version if that was stamped before the read began, at least W of the owners hold it, and what was
//! answered does not cover it; it lagged by the time between that stamp and the read's beginning. The owners that the
//! answer came from are taken at their word of then, so with R + W > N too few others are left for any version to
//! count: the share is 0 by construction of the quorums, and anything else is a fault. A version that is still on its
//! way when a weak read begins may count although nobody was told that it is written: the share is at most that much
//! too high. Times are compared as nodes' clocks stamped them, so the lag is as exact as the clocks are; the share
//! in probabilistically bounded staleness (Bailis et al. 2012) is the same, there predicted and here seen.
//!
//! Where a version that came later hides what was there, or an owner does not answer, nobody can say: counted apart.
//! Bounded: one read in `freshness_one_in`, and the first of each second, never more than `freshness_checks_max` at
//! once. Looking changes nothing: it repairs nothing and the figures of reads do not count it. Left out: stand-ins.

use moim_core::NodeId;
use moim_core::object::{Object, Version};

use super::{Admitted, Operation};
use crate::message::{Message, OpId, ReadResult, Want};
use crate::node::Node;
use crate::replica::Target;

/// Upper bounds of the buckets of the lag, in milliseconds; one more holds what is above the last.
pub const LAG_BOUNDS_MS: [u64; 10] = [1, 5, 10, 50, 100, 500, 1_000, 5_000, 30_000, 300_000];

/// Time between two checks at the most while there are reads, in milliseconds.
const INTERVAL_MS: u64 = 1_000;

/// What was seen of the freshness of reads since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FreshnessView {
    /// Reads looked at again of which it could be said.
    pub samples: u64,
    /// Of those, the ones that missed a version.
    pub stale: u64,
    /// Reads looked at again of which it could not be said.
    pub unknown: u64,
    /// By how much stale reads lagged, in milliseconds, over all of them.
    pub lag_ms: u64,
    /// How many lagged up to each of [`LAG_BOUNDS_MS`] and more than the one before; the last counts what is above all.
    pub lags: [u64; LAG_BOUNDS_MS.len() + 1],
}

/// Which reads are looked at, and what came of it.
#[derive(Debug)]
pub(crate) struct Freshness {
    random: u64,
    /// Reads until the next check.
    left: u64,
    last_mono_ms: Option<u64>,
    checks: usize,
    pub(crate) view: FreshnessView,
}

/// A check under way.
#[derive(Debug)]
pub(crate) struct FreshnessOp {
    target: Target,
    began_wall_ms: u64,
    answer: Option<Object>,
    needs_w: usize,
    /// Owners that the answer did not come from.
    others: Vec<(NodeId, Heard)>,
}

/// What an owner has said so far.
#[derive(Clone, Debug)]
enum Heard {
    Waiting,
    /// It holds what was answered.
    Same,
    Holds(Option<Object>),
    Failed,
}

/// What can be said of a read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Freshly {
    Fresh,
    Stale { lag_ms: u64 },
    Unknown,
}

impl Freshness {
    pub(crate) fn new(seed: u64) -> Self {
        // Any odd number will do for a generator that must not stay at zero.
        Self {
            random: seed | 1,
            left: 0,
            last_mono_ms: None,
            checks: 0,
            view: FreshnessView::default(),
        }
    }

    /// Whether to look at the read at hand. The distance between two varies, so that no rhythm of clients hides.
    pub(crate) fn samples(&mut self, mono_ms: u64, one_in: u32, checks_max: usize) -> bool {
        if one_in == 0 || self.checks >= checks_max {
            return false;
        }
        let due = self.last_mono_ms.is_none_or(|last_ms| mono_ms >= last_ms + INTERVAL_MS);
        if !due && self.left > 0 {
            self.left -= 1;
            return false;
        }
        self.last_mono_ms = Some(mono_ms);
        self.left = self.draw() % (2 * u64::from(one_in) - 1);
        true
    }

    /// The next of Marsaglia's xorshift numbers.
    fn draw(&mut self) -> u64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        self.random >> 8
    }

    fn count(&mut self, found: Freshly) {
        match found {
            Freshly::Fresh => self.view.samples += 1,
            Freshly::Unknown => self.view.unknown += 1,
            Freshly::Stale { lag_ms } => {
                self.view.samples += 1;
                self.view.stale += 1;
                self.view.lag_ms = self.view.lag_ms.saturating_add(lag_ms);
                let bucket = LAG_BOUNDS_MS.iter().position(|&bound_ms| lag_ms <= bound_ms);
                self.view.lags[bucket.unwrap_or(LAG_BOUNDS_MS.len())] += 1;
            }
        }
    }
}

impl FreshnessOp {
    pub(crate) fn waits_for(&self, node: NodeId) -> bool {
        self.others.iter().any(|(owner, heard)| *owner == node && matches!(heard, Heard::Waiting))
    }

    fn set(&mut self, node: NodeId, heard: Heard) {
        if let Some(slot) = self.others.iter_mut().find(|(owner, _)| *owner == node) {
            slot.1 = heard;
        }
    }

    fn is_complete(&self) -> bool {
        !self.others.iter().any(|(_, heard)| matches!(heard, Heard::Waiting))
    }

    fn held(&self) -> impl Iterator<Item = &Object> {
        self.others.iter().filter_map(|(_, heard)| match heard {
            Heard::Holds(object) => object.as_ref(),
            _ => None,
        })
    }

    fn judge(&self) -> Freshly {
        let early = |version: &&Version| version.written.millis() < self.began_wall_ms;
        let missed = self
            .held()
            .flat_map(Object::versions)
            .filter(early)
            .filter(|version| !self.answer.as_ref().is_some_and(|answer| covers(answer, version)))
            .filter(|version| {
                self.held().filter(|held| covers(held, version)).count() >= self.needs_w
            });
        let lag = missed.map(|version| self.began_wall_ms - version.written.millis()).max();
        let silent =
            self.others.iter().any(|(_, heard)| matches!(heard, Heard::Failed | Heard::Waiting));
        // What came after the read's beginning may have replaced what it missed.
        let hidden = self.held().any(|held| {
            held.written().millis() >= self.began_wall_ms
                && !self.answer.as_ref().is_some_and(|answer| answer.covers(held))
        });
        match lag {
            Some(lag_ms) => Freshly::Stale { lag_ms },
            None if silent || hidden => Freshly::Unknown,
            None => Freshly::Fresh,
        }
    }
}

/// Whether this version is in the object, or something that replaced it.
fn covers(object: &Object, version: &Version) -> bool {
    match object {
        Object::Lww(held) => (held.written, held.dot) >= (version.written, version.dot),
        Object::Siblings(held) => held.context().contains(version.dot),
    }
}

impl Node {
    /// A read that is to be looked at was answered with this; the owners that have not said what they hold are asked.
    pub(crate) fn check_freshness(
        &mut self,
        admitted: &Admitted,
        began_wall_ms: u64,
        answer: Option<Object>,
        others: Vec<NodeId>,
    ) {
        let deadline = self.now.mono_ms + u64::from(self.options.request_timeout_ms);
        let op = FreshnessOp {
            target: admitted.target.clone(),
            began_wall_ms,
            answer,
            needs_w: usize::from(admitted.needs_w()),
            others: others.iter().map(|&owner| (owner, Heard::Waiting)).collect(),
        };
        self.freshness.checks += 1;
        let id = self.register(deadline, Operation::Freshness(Box::new(op)));
        for owner in others {
            if self.can_ask(owner) {
                self.ask_freshness(id, owner, Want::Digest);
            } else {
                self.hear_freshness(id, owner, Heard::Failed);
            }
        }
        self.end_freshness_if_complete(id);
    }

    fn ask_freshness(&mut self, id: OpId, owner: NodeId, want: Want) {
        let Some(Operation::Freshness(op)) = self.operations.get_mut(id) else { return };
        let (namespace, key) = (op.target.namespace, op.target.shared_key());
        let budget_ms = self.options.request_timeout_ms;
        self.send_plain(owner, Message::Read { op: id, namespace, key, want, budget_ms });
    }

    /// An owner has answered a check.
    pub(crate) fn freshness_reply(&mut self, from: NodeId, id: OpId, result: ReadResult) {
        let Some(Operation::Freshness(op)) = self.operations.get_mut(id) else { return };
        if !op.waits_for(from) {
            return;
        }
        let answered = op.answer.as_ref().map(Object::digest);
        let heard = match result {
            ReadResult::Digest(digest) if digest == answered => Heard::Same,
            ReadResult::Digest(_) => return self.ask_freshness(id, from, Want::Object),
            ReadResult::Object(None) => Heard::Holds(None),
            ReadResult::Object(Some(encoded)) => {
                Object::decode(encoded).map_or(Heard::Failed, |object| Heard::Holds(Some(object)))
            }
            ReadResult::Refused(_) => Heard::Failed,
        };
        self.hear_freshness(id, from, heard);
    }

    /// An owner will not answer a check.
    pub(crate) fn freshness_refused(&mut self, id: OpId, node: NodeId) {
        self.hear_freshness(id, node, Heard::Failed);
    }

    fn hear_freshness(&mut self, id: OpId, node: NodeId, heard: Heard) {
        if let Some(Operation::Freshness(op)) = self.operations.get_mut(id) {
            op.set(node, heard);
        }
        self.end_freshness_if_complete(id);
    }

    fn end_freshness_if_complete(&mut self, id: OpId) {
        let Some(Operation::Freshness(op)) = self.operations.get_mut(id) else { return };
        if op.is_complete()
            && let Some(Operation::Freshness(op)) = self.operations.remove(id)
        {
            self.end_freshness(&op);
        }
    }

    /// A check is over: all have answered, or its time has passed.
    pub(crate) fn end_freshness(&mut self, op: &FreshnessOp) {
        self.freshness.checks -= 1;
        self.freshness.count(op.judge());
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use moim_core::NamespaceId;
    use moim_core::clock::{Actor, Dot, Epoch, Hlc};
    use moim_core::ring::PartitionCount;

    use super::*;

    fn version(at_ms: u64) -> Object {
        let actor = Actor { node: NodeId(1), epoch: Epoch { run: 1, serial: 0 } };
        let dot = Dot { actor, counter: at_ms };
        Object::Lww(Version::of_value(Hlc::from_millis(at_ms), dot, Bytes::new()))
    }

    /// A read that began at 1,000 ms and was answered with what was written at `answer`, while others hold that.
    fn check(answer: Option<u64>, others: &[Heard], needs_w: usize) -> Freshly {
        let partition = PartitionCount::DEFAULT.partition(0).unwrap();
        FreshnessOp {
            target: Target::new(NamespaceId(0), b"key", partition),
            began_wall_ms: 1_000,
            answer: answer.map(version),
            needs_w,
            others: others.iter().map(|heard| (NodeId(2), heard.clone())).collect(),
        }
        .judge()
    }

    fn holds(at_ms: u64) -> Heard {
        Heard::Holds(Some(version(at_ms)))
    }

    #[test]
    fn a_version_counts_as_missed_when_it_is_early_newer_and_held_by_enough() {
        assert_eq!(check(Some(10), &[Heard::Same, Heard::Same], 1), Freshly::Fresh);
        assert_eq!(check(Some(10), &[holds(5), Heard::Holds(None)], 1), Freshly::Fresh);
        assert_eq!(check(Some(10), &[holds(990), Heard::Same], 1), Freshly::Stale { lag_ms: 10 });
        assert_eq!(check(None, &[holds(990), Heard::Same], 1), Freshly::Stale { lag_ms: 10 });
        assert_eq!(check(Some(10), &[holds(990), Heard::Same], 2), Freshly::Fresh);
        let both = [holds(700), holds(990)];
        assert_eq!(check(Some(10), &both, 2), Freshly::Stale { lag_ms: 300 });
    }

    #[test]
    fn what_nobody_can_say_is_not_counted() {
        assert_eq!(check(Some(10), &[holds(1_000), Heard::Same], 1), Freshly::Unknown);
        assert_eq!(check(Some(10), &[Heard::Failed, Heard::Same], 1), Freshly::Unknown);
        let both = [Heard::Failed, holds(990)];
        assert_eq!(check(Some(10), &both, 1), Freshly::Stale { lag_ms: 10 });
    }

    #[test]
    fn about_one_in_so_many_is_looked_at_and_one_a_second() {
        let mut freshness = Freshness::new(7);
        let looked = (0..256_000).filter(|_| freshness.samples(5, 256, 10)).count();
        assert!((900..1_100).contains(&looked), "{looked} of 256,000");
        let mut rare = Freshness::new(7);
        let looked = (0..100).filter(|second| rare.samples(second * 1_000, 1_000_000, 10)).count();
        assert_eq!(looked, 100);
        rare.checks = 10;
        assert!(!rare.samples(1_000_000, 1, 10), "enough are under way");
        assert!(!Freshness::new(7).samples(0, 0, 10), "switched off");
    }
}
