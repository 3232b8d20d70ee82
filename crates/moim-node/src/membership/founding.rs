//! How the first ring is made: every founding member waits until it has met all the others, computes the record from
//! what they are, and adopts it once all say that they computed the same. No member is special, and no order matters.

use std::collections::BTreeMap;

use moim_core::NodeId;
use moim_core::ring::{PartitionCount, Ring, RingError};

use super::{MemberInfo, Record};

/// A node on its way to the first record.
#[derive(Clone, Debug)]
pub struct Founding {
    own: NodeId,
    expected: usize,
    partitions: PartitionCount,
    /// Copies that placement spreads: the largest N of any namespace.
    copies: u8,
    met: BTreeMap<NodeId, MemberInfo>,
    digests: BTreeMap<NodeId, u64>,
    /// What those that have met make; computing it takes milliseconds.
    record: Option<Record>,
}

/// What a founding member does next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FoundingStep {
    /// Wait: not all have met.
    Wait,
    /// Tell all others this digest: all have met.
    Announce(u64),
    /// All agree.
    Adopt(Box<Record>),
    /// The members' own words make no ring.
    Impossible(RingError),
}

impl Founding {
    /// Alone so far, with `expected` members to meet (this one included).
    pub fn new(own: MemberInfo, expected: usize, partitions: PartitionCount, copies: u8) -> Self {
        let id = own.member.node;
        let met = BTreeMap::from([(id, own)]);
        Self { own: id, expected, partitions, copies, met, digests: BTreeMap::new(), record: None }
    }

    /// How many have met, this one included.
    pub fn met(&self) -> usize {
        self.met.len()
    }

    /// How many found the cluster.
    pub fn expected(&self) -> usize {
        self.expected
    }

    /// A member was met (again, perhaps at other addresses).
    pub fn meet(&mut self, info: &MemberInfo) -> FoundingStep {
        let changed = self.met.insert(info.member.node, info.clone()).as_ref() != Some(info);
        if changed {
            self.digests.remove(&self.own);
            self.record = None;
        }
        self.step()
    }

    /// A member says what it computed. Never answered with an announcement: while one member is missing, the others
    /// would answer each other without end, each to all. Meeting and the timer announce.
    pub fn announced(&mut self, from: NodeId, digest: u64) -> FoundingStep {
        self.digests.insert(from, digest);
        match self.step() {
            FoundingStep::Announce(_) => FoundingStep::Wait,
            step => step,
        }
    }

    /// What to do with what is known. Called again after every change and on a timer: announcing twice is harmless.
    pub fn step(&mut self) -> FoundingStep {
        if self.met.len() < self.expected {
            return FoundingStep::Wait;
        }
        match self.record() {
            Err(error) => FoundingStep::Impossible(error),
            Ok(record) => {
                self.digests.insert(self.own, record.cluster);
                let agreed =
                    self.met.keys().all(|node| self.digests.get(node) == Some(&record.cluster));
                if agreed {
                    FoundingStep::Adopt(Box::new(record))
                } else {
                    FoundingStep::Announce(record.cluster)
                }
            }
        }
    }

    fn record(&mut self) -> Result<Record, RingError> {
        if let Some(record) = &self.record {
            return Ok(record.clone());
        }
        let members: Vec<_> = self.met.values().cloned().collect();
        let placed = members.iter().map(|info| info.member.clone()).collect();
        let ring = Ring::found(self.partitions, placed, self.copies)?;
        let cluster =
            moim_core::fingerprint(format!("{:?} {members:?}", self.partitions).as_bytes());
        let record = Record { cluster, ring, members };
        self.record = Some(record.clone());
        Ok(record)
    }
}
