//! `/v1/ring` and `/v1/ring/key/{namespace}/{key}`: who holds what, and what each owner holds of a key.

use std::collections::BTreeMap;

use hyper::http::request::Parts;
use moim_core::NodeId;
use moim_core::object::{Content, Context, Version};
use moim_core::ring;
use moim_node::api::{Action, Copy, Intent};
use moim_node::{Outcome, Request};

use super::cluster::copies;
use super::document::{KeyOwners, Replica, ReplicaVersion, Ring, RingMember};
use super::operation::{Place, deadline, unexpected};
use super::query::Query;
use super::reply::{self, Answer};
use super::site::Site;
use super::value;

/// How much of the ring each member holds.
#[derive(Debug)]
pub(super) struct Shares {
    /// Partitions by first owner, and copies.
    by_node: BTreeMap<NodeId, (u32, u32)>,
    copies: u32,
}

impl Shares {
    /// Counts a ring with `n` copies of each partition.
    pub(super) fn of(ring: &ring::Ring, n: u8) -> Self {
        let mut by_node = BTreeMap::<NodeId, (u32, u32)>::new();
        let mut copies = 0;
        for partition in ring.partitions().all() {
            for (rank, owner) in ring.owners_of(partition, n).enumerate() {
                let counted = by_node.entry(owner).or_default();
                counted.0 += u32::from(rank == 0);
                counted.1 += 1;
                copies += 1;
            }
        }
        Self { by_node, copies }
    }

    /// Partitions that a node is the first owner of.
    pub(super) fn partitions(&self, node: NodeId) -> u32 {
        self.by_node.get(&node).map_or(0, |counted| counted.0)
    }

    /// A node's part of all copies, from 0 to 1.
    pub(super) fn share(&self, node: NodeId) -> f64 {
        let held = self.by_node.get(&node).map_or(0, |counted| counted.1);
        f64::from(held) / f64::from(self.copies.max(1))
    }
}

/// Answers a request for the ring.
pub(super) fn table(site: &Site, request: &Parts) -> Answer {
    Query::parse(request.uri.query(), &[])?;
    let _room = site.gather()?;
    site.context.handle.view(|node| match (node.record(), node.readiness()) {
        (Some(record), _) => Ok(reply::json(&document(&record.ring, copies(node)))),
        (None, Err(failure)) => Err(super::failure::problem(&failure, Intent::Read, |_| None)),
        (None, Ok(())) => Err(unexpected()),
    })
}

fn document(ring: &ring::Ring, n: u8) -> Ring {
    let shares = Shares::of(ring, n);
    let members = ring.members().iter().map(|member| RingMember {
        node: member.node.to_string(),
        machine: member.machine.to_string(),
        dc: member.dc.clone(),
        zone: member.zone.clone(),
        weight: member.weight,
        partitions: shares.partitions(member.node),
        share: shares.share(member.node),
    });
    Ring {
        version: ring.version(),
        partitions: ring.partitions().get(),
        slots: ring::SLOTS,
        members: members.collect(),
        owner_runs: runs(ring.owners()),
    }
}

/// Neighbouring partitions with one first owner, as one entry.
fn runs(owners: &[u16]) -> Vec<(u16, u16, u16)> {
    let mut runs = Vec::<(u16, u16, u16)>::new();
    for (partition, &owner) in (0..).zip(owners) {
        match runs.last_mut() {
            Some((_, last, of)) if *of == owner => *last = partition,
            _ => runs.push((partition, partition, owner)),
        }
    }
    runs
}

/// Answers a request for what the owners of a key hold.
pub(super) async fn key_owners(site: &Site, request: &Parts, path: &[&str]) -> Answer {
    let &[namespace, key] = path else { return Err(unexpected()) };
    let query = Query::parse(request.uri.query(), &["timeout"])?;
    let place = value::place(site, namespace, key)?;
    let asked = Request {
        namespace: place.namespace,
        key: place.key.clone(),
        action: Action::Inspect,
        r: None,
        w: None,
        timeout_ms: query.timeout_ms()?,
    };
    match site.context.handle.request(asked).await {
        Outcome::Inspected(inspection) => {
            let wall_ms = site.context.handle.now().wall_ms;
            let copies = inspection.copies.iter();
            Ok(reply::json(&KeyOwners {
                slot: inspection.slot,
                partition: inspection.partition,
                replicas: copies
                    .map(|(node, copy)| replica(site, &place, *node, copy, wall_ms))
                    .collect(),
            }))
        }
        Outcome::Failed(failure) => Err(site.refuse(&failure, Intent::Read)),
        _ => Err(unexpected()),
    }
}

fn replica(site: &Site, place: &Place, node: NodeId, copy: &Copy, wall_ms: u64) -> Replica {
    let shown =
        Replica { node: node.to_string(), address: site.peer_address(node), ..Replica::default() };
    match copy {
        Copy::Missing => Replica { state: "missing".to_owned(), ..shown },
        Copy::Unknown(why) => {
            Replica { state: "unknown".to_owned(), why: Some(why.to_string()), ..shown }
        }
        Copy::Held(context, versions) => Replica {
            state: "held".to_owned(),
            context: Some(place.context_text(context)),
            clock: clock(context),
            versions: versions.iter().map(|held| version(held, wall_ms)).collect(),
            ..shown
        },
    }
}

fn clock(context: &Context) -> BTreeMap<String, String> {
    match context {
        Context::Lww(written) => {
            BTreeMap::from([("time".to_owned(), written.as_u64().to_string())])
        }
        Context::Siblings(vector) => vector
            .entries()
            .iter()
            .map(|(actor, counter)| {
                let name = format!("{}-{:x}.{}", actor.node, actor.epoch.run, actor.epoch.serial);
                (name, counter.to_string())
            })
            .collect(),
    }
}

fn version(held: &Version, wall_ms: u64) -> ReplicaVersion {
    let state = match held.content {
        Content::Deleted => "deleted",
        Content::Dropped => "expired",
        Content::Value(_) if held.is_expired(wall_ms) => "expired",
        Content::Value(_) => "value",
    };
    ReplicaVersion {
        dot: held.dot.to_string(),
        version: held.written.as_u64().to_string(),
        state: state.to_owned(),
        created_ms: held.created_ms,
        written_ms: held.written.millis(),
        expires_ms: deadline(held),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use moim_core::MachineId;
    use moim_core::ring::{Member, PartitionCount};

    #[test]
    fn runs_cover_every_partition_once() {
        assert_eq!(runs(&[0, 0, 1, 0]), [(0, 1, 0), (2, 2, 1), (3, 3, 0)]);
        assert_eq!(runs(&[]), []);
    }

    #[test]
    fn shares_add_up() {
        let member = |id| Member {
            node: NodeId(id),
            machine: MachineId(id),
            zone: String::new(),
            dc: String::new(),
            weight: 1,
        };
        let ring =
            ring::Ring::found(PartitionCount::DEFAULT, (1..=4).map(member).collect(), 3).unwrap();
        let shares = Shares::of(&ring, 3);
        let sum: f64 = (1..=4).map(|id| shares.share(NodeId(id))).sum();
        assert!((sum - 1.0).abs() < 1e-9, "{sum}");
        assert_eq!((1..=4).map(|id| shares.partitions(NodeId(id))).sum::<u32>(), 4_096);
        assert!(shares.share(NodeId(9)).abs() < 1e-9);
    }
}
