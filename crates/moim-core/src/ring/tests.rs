use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;

fn members(count: u64, zones: u64, weight: impl Fn(u64) -> u32) -> Vec<Member> {
    (0..count)
        .map(|index| Member {
            node: NodeId(index + 1),
            machine: MachineId(index + 1),
            zone: format!("z{}", index % zones),
            dc: "dc".to_owned(),
            weight: weight(index),
        })
        .collect()
}

/// Copies per node, and how many partitions have two copies in one zone.
fn load(ring: &Ring, n: u8) -> (BTreeMap<NodeId, u32>, usize) {
    let mut copies = BTreeMap::new();
    let mut shared_zones = 0;
    for partition in ring.partitions().all() {
        let owners: Vec<_> = ring.owners_of(partition, n).collect();
        let machines: BTreeSet<_> =
            owners.iter().map(|&o| ring.member(o).unwrap().machine).collect();
        assert_eq!(machines.len(), owners.len(), "two copies on one machine");
        let zones: BTreeSet<_> = owners.iter().map(|&o| &ring.member(o).unwrap().zone).collect();
        shared_zones += usize::from(zones.len() < owners.len());
        for owner in owners {
            *copies.entry(owner).or_default() += 1;
        }
    }
    (copies, shared_zones)
}

fn hottest_over_mean(ring: &Ring, n: u8) -> f64 {
    let (copies, _) = load(ring, n);
    let weight_total: u32 = ring.members().iter().map(|member| member.weight).sum();
    let copies_total: u32 = copies.values().sum();
    let share = |(node, copies): (&NodeId, &u32)| {
        let weight = ring.member(*node).unwrap().weight;
        f64::from(*copies) / f64::from(copies_total) * f64::from(weight_total) / f64::from(weight)
    };
    copies.iter().map(share).fold(0.0, f64::max)
}

#[test]
fn three_nodes_hold_everything() {
    let ring = Ring::found(PartitionCount::DEFAULT, members(3, 1, |_| 1), 3).unwrap();
    for partition in ring.partitions().all() {
        assert_eq!(ring.owners_of(partition, 3).len(), 3);
    }
    assert_eq!(ring.copies(3), 3);
    assert_eq!(ring.copies(5), 3, "no more copies than machines");
}

#[test]
fn copies_are_balanced_from_3_to_100_nodes() {
    for count in (3..=20).chain([30, 50, 64, 99, 100]) {
        let ring = Ring::found(PartitionCount::DEFAULT, members(count, count, |_| 1), 3).unwrap();
        let hottest = hottest_over_mean(&ring, 3);
        assert!(hottest <= 1.05, "{count} nodes: hottest {hottest:.3} x mean");
    }
}

/// A server of several nodes is one machine: however many it has, it never holds two copies of a key, nor stands in for
/// itself.
#[test]
fn nodes_of_a_machine_never_share_a_key_while_there_are_enough_machines() {
    for (machines, shards) in [(3, 2), (3, 4), (4, 8), (5, 3), (20, 2)] {
        let on = |index| MachineId(index / shards + 1);
        let mut members = members(machines * shards, 1, |_| 100);
        members.iter_mut().zip(0..).for_each(|(member, index)| member.machine = on(index));
        let ring = Ring::found(PartitionCount::DEFAULT, members, 3).unwrap();
        assert_eq!(ring.machines(), usize::try_from(machines).unwrap());
        for partition in ring.partitions().all() {
            let machine = |node| ring.member(node).unwrap().machine;
            let owners: BTreeSet<_> = ring.owners_of(partition, 3).map(machine).collect();
            assert_eq!(owners.len(), 3, "{machines} machines of {shards}: {partition:?}");
            let stand_ins: Vec<_> = ring.stand_ins_of(partition, 3).map(machine).collect();
            assert!(stand_ins.iter().all(|machine| !owners.contains(machine)));
            assert_eq!(stand_ins.len(), usize::try_from(machines).unwrap().min(32) - 3);
        }
        let hottest = hottest_over_mean(&ring, 3);
        assert!(hottest <= 1.05, "{machines} machines of {shards}: {hottest}");
    }
}

#[test]
fn copies_keep_to_distinct_zones_where_there_are_three() {
    for count in [3, 6, 9, 30, 99] {
        let ring = Ring::found(PartitionCount::DEFAULT, members(count, 3, |_| 1), 3).unwrap();
        let (_, shared_zones) = load(&ring, 3);
        let hottest = hottest_over_mean(&ring, 3);
        assert_eq!(shared_zones, 0, "{count} nodes: partitions with two copies in one zone");
        assert!(hottest <= 1.05, "{count} nodes: hottest {hottest:.3} x mean");
    }
}

#[test]
fn copies_follow_weight() {
    for count in [10, 30, 100] {
        let heavy_half = |index| if index % 2 == 0 { 2 } else { 1 };
        let ring =
            Ring::found(PartitionCount::DEFAULT, members(count, count, heavy_half), 3).unwrap();
        let hottest = hottest_over_mean(&ring, 3);
        assert!(hottest <= 1.05, "{count} nodes: hottest {hottest:.3} x mean");
    }
}

#[test]
fn the_same_members_in_any_order_give_the_same_ring() {
    let mut reversed = members(7, 3, |index| u32::try_from(index).unwrap() + 1);
    let ring = Ring::found(PartitionCount::DEFAULT, reversed.clone(), 3).unwrap();
    reversed.reverse();
    assert_eq!(Ring::found(PartitionCount::DEFAULT, reversed, 3).unwrap(), ring);
}

#[test]
fn parts_that_make_no_ring_are_refused() {
    let partitions = PartitionCount::new(256).unwrap();
    assert_eq!(Ring::found(partitions, Vec::new(), 3), Err(RingError::Members(0)));
    let twice = [members(2, 1, |_| 1), members(1, 1, |_| 1)].concat();
    assert_eq!(Ring::found(partitions, twice, 3), Err(RingError::Duplicate(NodeId(1))));
    let unknown_owner = Ring::from_parts(1, partitions, members(1, 1, |_| 1), vec![1; 256]);
    assert_eq!(unknown_owner, Err(RingError::Owners));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]
    #[test]
    fn every_partition_has_n_distinct_owners(
        count in 1_u64..40, zones in 1_u64..6, weights: [u8; 8], n in 1_u8..=7,
    ) {
        let weight = |index| u32::from(weights[usize::try_from(index % 8).unwrap()]).max(1);
        let ring = Ring::found(PartitionCount::new(256).unwrap(), members(count, zones, weight), n).unwrap();
        load(&ring, n);
        for partition in ring.partitions().all() {
            let expected = usize::from(n).min(usize::try_from(count).unwrap());
            prop_assert_eq!(ring.owners_of(partition, n).len(), expected);
            let first = ring.owners()[usize::from(partition.get())];
            let stand_ins: Vec<_> = ring.stand_ins_of(partition, n).collect();
            prop_assert!(stand_ins.iter().all(|&node| !ring.owns(node, partition, n)));
            let mut apart: Vec<_> = ring.owners_of(partition, n).chain(stand_ins).collect();
            let nodes = apart.len();
            apart.sort_unstable();
            apart.dedup();
            prop_assert_eq!(apart.len(), nodes, "nobody is there twice");
            prop_assert!(nodes >= usize::try_from(count).unwrap().min(usize::from(COPIES_MAX)));
            prop_assert_eq!(ring.owners_of(partition, 1).next(), Some(ring.members()[usize::from(first)].node));
        }
    }
}
