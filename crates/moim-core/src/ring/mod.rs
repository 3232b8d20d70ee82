//! Which nodes hold which keys.
//!
//! A key hashes to one of 16384 slots (Redis Cluster's function, so that its clients find the right node), a run of
//! consecutive slots is a [`Partition`], and every partition is one virtual node of the member that claims it. The
//! copies of a partition are the first N distinct machines clockwise, of distinct zones while zones remain: Dynamo's
//! third strategy (section 6.2). The owner table is part of the ring, so all nodes agree on it by construction.
//!
//! Invariants: a preference list never names a machine twice; a node has virtual nodes in proportion to its weight;
//! a ring is immutable, a change is a new one with a higher version. Left out: how versions are agreed on.

mod claim;
mod slot;

pub use claim::claim;
pub use slot::{Partition, PartitionCount, PartitionCountError, SLOTS, Slot, hash_tag};

use crate::quorum::COPIES_MAX;
use crate::{MachineId, NodeId};

/// A member of the ring and what placement needs to know of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// Who.
    pub node: NodeId,
    /// The failure domain that never holds two copies.
    pub machine: MachineId,
    /// The rack or availability zone; copies spread over zones while there are enough.
    pub zone: String,
    /// The data centre.
    pub dc: String,
    /// Capacity relative to the others; virtual nodes are in proportion to it. At least 1.
    pub weight: u32,
}

/// Members the ring can hold: its owner table counts them in sixteen bits, and gossip stays within a frame.
pub const MEMBERS_MAX: usize = 1_000;

/// The table of owners at one version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ring {
    version: u64,
    partitions: PartitionCount,
    members: Vec<Member>,
    /// Per partition, the index of the member whose virtual node it is.
    owners: Vec<u16>,
    /// Per partition, members in the order in which they are asked to hold a copy: lists of one length behind each
    /// other, because every request looks here.
    preferences: Vec<u16>,
}

/// Why parts do not make a ring.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RingError {
    /// No members, or more than [`MEMBERS_MAX`].
    Members(usize),
    /// Two members with one node id.
    Duplicate(NodeId),
    /// The owner table is not one valid member per partition.
    Owners,
}

impl std::fmt::Display for RingError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Members(count) => write!(f, "a ring has 1 to {MEMBERS_MAX} members, not {count}"),
            Self::Duplicate(node) => write!(f, "node {node} is in the ring twice"),
            Self::Owners => {
                f.write_str("the owner table does not name one member for each partition")
            }
        }
    }
}

impl std::error::Error for RingError {}

impl Ring {
    /// The first ring of a cluster: members in the order of their ids, partitions claimed by weight. The same members
    /// give the same ring on every node.
    pub fn found(
        partitions: PartitionCount,
        mut members: Vec<Member>,
        copies: u8,
    ) -> Result<Self, RingError> {
        members.sort_by_key(|member| member.node);
        check_members(&members)?;
        let owners = claim(partitions, &members, copies);
        Self::from_parts(1, partitions, members, owners)
    }

    /// A ring as it was stored or sent.
    pub fn from_parts(
        version: u64,
        partitions: PartitionCount,
        members: Vec<Member>,
        owners: Vec<u16>,
    ) -> Result<Self, RingError> {
        check_members(&members)?;
        let known = owners.iter().all(|&owner| usize::from(owner) < members.len());
        if !known || owners.len() != usize::from(partitions.get()) {
            return Err(RingError::Owners);
        }
        let places = Places::of(&members);
        let preferences: Vec<u16> =
            (0..owners.len()).flat_map(|at| preference_order(&places, &owners, at)).collect();
        assert_eq!(
            preferences.len() % owners.len(),
            0,
            "each list names every machine, up to a bound"
        );
        Ok(Self { version, partitions, members, owners, preferences })
    }

    /// Counts the changes of the ring; the founding ring is 1.
    pub fn version(&self) -> u64 {
        self.version
    }

    /// How many partitions there are, fixed for the life of the cluster.
    pub fn partitions(&self) -> PartitionCount {
        self.partitions
    }

    /// All members.
    pub fn members(&self) -> &[Member] {
        &self.members
    }

    /// Per partition, the index in [`Self::members`] of the member whose virtual node it is.
    pub fn owners(&self) -> &[u16] {
        &self.owners
    }

    /// The member with this id.
    pub fn member(&self, node: NodeId) -> Option<&Member> {
        self.members.iter().find(|member| member.node == node)
    }

    /// Distinct machines: no partition can have more copies than this.
    pub fn machines(&self) -> usize {
        let mut machines: Vec<_> = self.members.iter().map(|member| member.machine).collect();
        machines.sort_unstable();
        machines.dedup();
        machines.len()
    }

    /// How many copies a namespace that asks for `n` gets on this ring: one a machine at the most.
    pub fn copies(&self, n: u8) -> u8 {
        u8::try_from(self.machines()).map_or(n, |machines| n.min(machines)).max(1)
    }

    /// The partition of a key.
    pub fn partition_of(&self, key: &[u8]) -> Partition {
        self.partitions.of(Slot::of_key(key))
    }

    /// The owners of a partition for `n` copies: the head of its preference list.
    pub fn owners_of(
        &self,
        partition: Partition,
        n: u8,
    ) -> impl ExactSizeIterator<Item = NodeId> + Clone {
        let order = self.preference_list(partition);
        let count = order.len().min(usize::from(n));
        order[..count].iter().map(|&member| self.members[usize::from(member)].node)
    }

    fn preference_list(&self, partition: Partition) -> &[u16] {
        let length = self.preferences.len() / self.owners.len();
        let start = usize::from(partition.get()) * length;
        &self.preferences[start..start + length]
    }

    /// Who stands in while owners of a partition are away, in the order in which they are asked: what follows the
    /// owners in its preference list, so each on a machine of its own, and other zones first (Dynamo, section 4.6).
    pub fn stand_ins_of(
        &self,
        partition: Partition,
        n: u8,
    ) -> impl ExactSizeIterator<Item = NodeId> + Clone {
        let order = self.preference_list(partition);
        let owners = order.len().min(usize::from(n));
        order[owners..].iter().map(|&member| self.members[usize::from(member)].node)
    }

    /// Whether `node` holds one of the `n` copies of `partition`.
    pub fn owns(&self, node: NodeId, partition: Partition, n: u8) -> bool {
        self.owners_of(partition, n).any(|owner| owner == node)
    }
}

fn check_members(members: &[Member]) -> Result<(), RingError> {
    if members.is_empty() || members.len() > MEMBERS_MAX {
        return Err(RingError::Members(members.len()));
    }
    let mut ids: Vec<_> = members.iter().map(|member| member.node).collect();
    ids.sort_unstable();
    match ids.windows(2).find(|pair| pair[0] == pair[1]) {
        Some(pair) => Err(RingError::Duplicate(pair[0])),
        None => Ok(()),
    }
}

/// Where members stand, as numbers: placement compares them millions of times.
struct Places {
    machine: Vec<MachineId>,
    zone: Vec<usize>,
    machines: usize,
}

impl Places {
    fn of(members: &[Member]) -> Self {
        let machine: Vec<_> = members.iter().map(|member| member.machine).collect();
        let names: Vec<_> = members.iter().map(|member| (&member.dc, &member.zone)).collect();
        let zone = names
            .iter()
            .map(|name| names.iter().take_while(|other| *other != name).count())
            .collect();
        let machines = machine.iter().collect::<std::collections::BTreeSet<_>>().len();
        Self { machine, zone, machines }
    }
}

/// Clockwise from `start`: the first member of each machine, those of zones not yet used before the others.
fn preference_order(places: &Places, owners: &[u16], start: usize) -> Vec<u16> {
    // Twice the largest N is enough to choose zones from, and keeps large rings cheap to build.
    let enough = places.machines.min(2 * usize::from(COPIES_MAX));
    let mut candidates: Vec<u16> = Vec::with_capacity(enough);
    let machine = |index: u16| places.machine[usize::from(index)];
    let (after, before) = (owners[start..].iter(), owners[..start].iter());
    for &owner in after.chain(before) {
        if candidates.len() >= enough {
            break;
        }
        if candidates.iter().all(|&known| machine(known) != machine(owner)) {
            candidates.push(owner);
        }
    }
    spread_over_zones(&places.zone, candidates)
}

fn spread_over_zones(zone: &[usize], mut candidates: Vec<u16>) -> Vec<u16> {
    let zone = |index: u16| zone[usize::from(index)];
    let mut order: Vec<u16> = Vec::with_capacity(candidates.len());
    while !candidates.is_empty() {
        let fresh =
            candidates.iter().position(|&next| order.iter().all(|&used| zone(used) != zone(next)));
        order.push(candidates.remove(fresh.unwrap_or(0)));
    }
    order
}

#[cfg(test)]
mod tests;
