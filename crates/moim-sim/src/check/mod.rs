//! What is judged: each checker looks at the history of one key and says which promises it breaks.
//!
//! | checker | judges |
//! |---|---|
//! | [`register`] | keys with one value: reads and writes in real time, and by the versions that nodes report |
//! | [`deadline`] | values with a deadline, and values that vanish |
//! | [`cart`] | keys with siblings: none lost, none false |
//! | [`counter`] | sums |
//!
//! What is promised depends on the levels of the very requests involved ([`Levels`]): a read and a write that meet in
//! no replica promise each other nothing. What breaks without having been promised is counted, not reported: the
//! `levels` command shows it.

pub mod cart;
pub mod counter;
pub mod deadline;
pub mod register;

use std::collections::BTreeMap;
use std::fmt;

use crate::history::{Key, Operation, Use};

/// Something that holds, under the conditions that its checker states.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Property {
    /// A read returns only what somebody wrote to that key, and nothing that was refused.
    OnlyWrittenValues,
    /// A read that starts after an acknowledged write sees it or something newer.
    ReadsSeeWrites,
    /// A read never sees something older than a read before it.
    ReadsNeverGoBack,
    /// A write that starts after another was acknowledged, or read, outranks it, whatever the clocks say.
    LaterWritesWin,
    /// An acknowledged value is there until somebody overwrites or deletes it, or it expires.
    NothingVanishes,
    /// A value is never served after its deadline.
    ExpiredIsGone,
    /// An acknowledged sibling is there until a write or delete that knew of it.
    SiblingsAreKept,
    /// A sibling that an acknowledged write or delete knew of is gone, and none is there twice.
    NoFalseSiblings,
    /// Without failures a counter is the sum of what was added.
    SumsAreRight,
    /// Without failures every request succeeds; after healing every request succeeds again.
    RequestsSucceed,
    /// After healing, all owners hold the same, within a bounded time.
    CopiesConverge,
    /// After healing, all owners' Merkle trees agree, within a bounded time: comparisons come to rest.
    TreesAgree,
    /// After healing, clocks are no longer than their bound and what is held of a key take, within a bounded time (REQ-17).
    ClocksAreSmall,
    /// A member that runs and that several others hear is not held down by them.
    TheHeardAreNotDown,
    /// Without crashes, what was acknowledged reaches every owner without anybody reading it.
    CopiesArrive,
    /// After healing, what was kept for owners that were away is handed over within a bounded time.
    HintsAreHandedOver,
    /// At the moment of its acknowledgement a write is on the synced disks of W owners (INV-2, INV-5).
    AcknowledgedIsHeld,
    /// A listing of keys has every live key, and no other.
    ListingsAreRight,
    /// A node starts with whatever its disk kept, and never panics.
    NodesRun,
}

impl Property {
    /// Its name in reports.
    pub fn name(self) -> &'static str {
        match self {
            Self::OnlyWrittenValues => "only written values are read",
            Self::ReadsSeeWrites => "reads see acknowledged writes",
            Self::ReadsNeverGoBack => "reads never go back",
            Self::LaterWritesWin => "later writes win",
            Self::NothingVanishes => "nothing acknowledged vanishes",
            Self::ExpiredIsGone => "expired values are gone",
            Self::SiblingsAreKept => "siblings are kept",
            Self::NoFalseSiblings => "no false siblings",
            Self::SumsAreRight => "sums are right",
            Self::RequestsSucceed => "requests succeed",
            Self::CopiesConverge => "copies converge",
            Self::TreesAgree => "trees agree",
            Self::ClocksAreSmall => "clocks are small",
            Self::TheHeardAreNotDown => "members that are heard are not down",
            Self::CopiesArrive => "copies arrive everywhere",
            Self::HintsAreHandedOver => "hints are handed over",
            Self::AcknowledgedIsHeld => "what is acknowledged is held",
            Self::ListingsAreRight => "listings are right",
            Self::NodesRun => "nodes run",
        }
    }
}

impl fmt::Display for Property {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A property that did not hold, in words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// Which.
    pub property: Property,
    /// What happened.
    pub what: String,
    /// The requests that show it.
    pub operations: Vec<Operation>,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.property, self.what)?;
        self.operations.iter().try_for_each(|operation| write!(f, "\n    {operation}"))
    }
}

/// What the checkers found.
#[derive(Clone, Debug, Default)]
pub struct Findings {
    /// Broken promises.
    pub violations: Vec<Violation>,
    /// What failed without having been promised, and how often.
    pub unpromised: BTreeMap<Property, u64>,
}

impl Findings {
    /// A property did not hold; it is a violation if it was promised.
    pub fn add(&mut self, promised: bool, property: Property, what: String, shown: &[&Operation]) {
        if promised {
            let operations = shown.iter().map(|&operation| operation.clone()).collect();
            self.violations.push(Violation { property, what, operations });
        } else {
            *self.unpromised.entry(property).or_default() += 1;
        }
    }
}

/// A deletion, and what a clock remembers, is kept at least this long, in microseconds: the clocks of all nodes have
/// to pass it by as much as clocks may differ, and then owners are compared twice.
const FORGOTTEN_AFTER_US: u64 = 6_000_000;

/// What requests promise each other, by their levels and by what has happened.
///
/// In a strict namespace a read promises to see a write when the two meet in an owner. In a sloppy one it promises
/// nothing while others stand in, and everything when all has healed and been handed over. An acknowledged write
/// outlasts the loss of fewer disks than it asked for copies. An owner that serves from an old copy of its disk because
/// nobody who remembers could tell it counts for nothing meanwhile.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Levels {
    /// Copies.
    pub n: u8,
    /// Replicas that the namespace's reads need.
    pub r: u8,
    /// Replicas that the namespace's writes need.
    pub w: u8,
    /// Whether others stand in for owners.
    pub sloppy: bool,
    /// From this request on everything has healed, and all owners hold the same.
    pub healed_from: u64,
    /// Disks that were lost at the same time, at the most.
    pub disks_lost: u8,
    /// Whether nodes forget deletions that everybody knows of.
    pub forgets: bool,
}

impl Levels {
    /// Strict, and nothing lost or forgotten.
    pub const fn strict(n: u8, r: u8, w: u8) -> Self {
        Self { n, r, w, sloppy: false, healed_from: u64::MAX, disks_lost: 0, forgets: false }
    }

    /// Whether `later` may find that what `earlier` left has been forgotten: nothing is that young.
    pub fn may_forget(self, later: &Operation, earlier: &Operation) -> bool {
        let age_us = earlier.end.map(|end| later.start.at_us.saturating_sub(end.at_us));
        self.forgets && age_us.is_some_and(|age_us| age_us >= FORGOTTEN_AFTER_US)
    }

    /// Whether a request like `later` meets what `copies` replicas held before it, if it asks `asked` of them. One that
    /// has gone back to an old copy of its disk and does not know it may hold nothing of it any more.
    fn meet(self, later: &Operation, asked: u8, copies: u8) -> bool {
        let left = copies > self.disks_lost;
        let remember = copies.saturating_sub(later.old_copies);
        left && ((!self.sloppy && asked + remember > self.n) || later.id >= self.healed_from)
    }

    /// Whether every read like this meets every acknowledged write like that in a replica (R + W > N).
    pub fn reads(self, read: &Operation, write: &Operation) -> bool {
        self.meet(read, read.r, write.w)
    }

    /// Whether every write like this meets every acknowledged write like that in a replica (W + W > N).
    pub fn meets(self, write: &Operation, earlier: &Operation) -> bool {
        self.meet(write, write.w, earlier.w)
    }

    /// Whether every read like this meets what that one returned in a replica.
    pub fn rereads(self, read: &Operation, earlier: &Operation) -> bool {
        self.meet(read, read.r, self.left_by(earlier))
    }

    /// Whether every write like this meets what that read returned in a replica.
    pub fn outranks(self, write: &Operation, read: &Operation) -> bool {
        self.meet(write, write.w, self.left_by(read))
    }

    /// How many replicas certainly hold what a read returned: those that agreed, or if they did not, as many as it
    /// wrote it back to, which is enough to meet every later read where levels promise strong reads at all.
    fn left_by(self, read: &Operation) -> u8 {
        let written_back =
            if self.r + self.w > self.n && !self.sloppy { self.n - self.r + 1 } else { 1 };
        read.r.min(written_back)
    }
}

/// What a run was like, as far as promises depend on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Conditions {
    /// The namespaces' levels.
    pub levels: Levels,
    /// Nothing failed.
    pub calm: bool,
    /// Pairs of a clock beyond which the oldest are pruned.
    pub clock_pairs_max: usize,
}

/// Judges a whole history, key by key.
pub fn judge(history: &[Operation], conditions: Conditions) -> Findings {
    let mut keys: BTreeMap<&Key, Vec<&Operation>> = BTreeMap::new();
    for operation in history {
        keys.entry(&operation.key).or_default().push(operation);
    }
    let mut findings = Findings::default();
    for (key, operations) in keys {
        let levels = Levels { sloppy: key.sloppy, ..conditions.levels };
        let conditions = Conditions { levels, ..conditions };
        match key.usage {
            Use::Register => {
                register::check(&operations, conditions.levels, &mut findings);
                deadline::check(&operations, conditions.levels, &mut findings);
            }
            Use::Cart => cart::check(&operations, conditions, &mut findings),
            Use::Counter => {
                register::check_versions(&operations, conditions.levels, &mut findings);
                counter::check(&operations, conditions.calm, &mut findings);
            }
        }
    }
    findings
}

#[cfg(test)]
pub(crate) mod tests {
    use std::collections::BTreeSet;

    use moim_core::clock::{Hlc, VersionVector};

    use super::*;
    use crate::history::{Answer, Call, Clocks, Moment, Seen, Value};

    /// A history told by hand: N=3, R=W=2, times in microseconds, clocks at 1,000 ms.
    #[derive(Default)]
    pub(crate) struct Story {
        pub(crate) operations: Vec<Operation>,
    }

    impl Story {
        /// A request on the only key, from `start` to `end`.
        pub(crate) fn tell(
            &mut self,
            (start, end): (u64, u64),
            call: Call,
            answer: Answer,
        ) -> &mut Operation {
            let moment = |at_us| Moment { at_us, step: at_us };
            let unknown = matches!(answer, Answer::Unknown(_) | Answer::None);
            self.operations.push(Operation {
                id: self.operations.len() as u64,
                client: 0,
                key: Key::strict(Use::Register, "k"),
                coordinator: 0,
                r: 2,
                w: 2,
                above: Hlc::ZERO,
                call,
                start: moment(start),
                end: (!unknown).then_some(moment(end)),
                answer,
                clocks: Clocks { own: (1_000, 1_000), any: (1_000, 1_000), reclaimed_ms: 0 },
                due_us: None,
                old_copies: 0,
            });
            self.operations.last_mut().unwrap()
        }

        /// An acknowledged write of `value` as `version`.
        pub(crate) fn put(
            &mut self,
            times: (u64, u64),
            value: u64,
            version: u64,
        ) -> &mut Operation {
            self.tell(times, put(value, &[]), written(version))
        }

        /// A read that saw `value`, or nothing for 0, at `version`.
        pub(crate) fn read(
            &mut self,
            times: (u64, u64),
            value: u64,
            version: u64,
        ) -> &mut Operation {
            let values = if value == 0 { vec![] } else { vec![value] };
            self.tell(times, Call::Read, read(&values, version))
        }

        /// What breaks promises, and what broke without a promise.
        pub(crate) fn judge(
            &self,
            check: impl Fn(&[&Operation], Levels, &mut Findings),
        ) -> (Vec<Property>, Vec<Property>) {
            let mut findings = Findings::default();
            let operations: Vec<_> = self.operations.iter().collect();
            check(&operations, Levels::strict(3, 2, 2), &mut findings);
            let broken = findings.violations.iter().map(|violation| violation.property).collect();
            (broken, findings.unpromised.into_keys().collect())
        }
    }

    pub(crate) fn values(of: &[u64]) -> BTreeSet<Value> {
        of.iter().copied().map(Value).collect()
    }

    pub(crate) fn put(value: u64, covers: &[u64]) -> Call {
        let covers = (!covers.is_empty()).then(|| values(covers));
        Call::Put { value: Value(value), expires_ms: 0, covers }
    }

    pub(crate) fn put_until(value: u64, expires_ms: u64) -> Call {
        Call::Put { value: Value(value), expires_ms, covers: None }
    }

    pub(crate) fn written(version: u64) -> Answer {
        Answer::Written { version: Hlc::from_u64(version), context: VersionVector::new() }
    }

    pub(crate) fn unknown() -> Answer {
        Answer::Unknown("timeout".to_owned())
    }

    pub(crate) fn read(of: &[u64], version: u64) -> Answer {
        read_until(of, version, 0)
    }

    pub(crate) fn read_until(of: &[u64], version: u64, expires_ms: u64) -> Answer {
        let version = Hlc::from_u64(version);
        let seen = |&value: &u64| {
            let value = Value(value);
            Seen { value: Some(value), bytes: value.bytes(), version, expires_ms }
        };
        Answer::Read { seen: of.iter().map(seen).collect(), version, context: VersionVector::new() }
    }
}
