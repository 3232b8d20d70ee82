//! Dealing partitions out to members, so that any N consecutive ones lie on distinct machines (and zones, where there
//! are enough), in numbers proportional to weight. Then the balance of copies follows from the balance of virtual
//! nodes: the copies of a partition are simply its own owner and those of the next partitions.

use super::{Member, PartitionCount};

/// Deals all partitions out to founding `members` for `copies` copies. Deterministic: no float, no hash, no chance.
///
/// A smooth weighted round robin (each turn everybody gains credit by weight, the richest pays the total) that passes
/// over members whose machine or zone was dealt within the last `copies - 1` partitions.
pub fn claim(partitions: PartitionCount, members: &[Member], copies: u8) -> Vec<u16> {
    assert!(!members.is_empty(), "somebody must own the partitions");
    let reach = usize::from(copies.max(1)) - 1;
    let count = usize::from(partitions.get());
    let total: i64 = members.iter().map(|member| i64::from(member.weight.max(1))).sum();
    let mut credit = vec![0_i64; members.len()];
    let mut owners: Vec<u16> = Vec::with_capacity(count);
    for at in 0..count {
        for (credit, member) in credit.iter_mut().zip(members) {
            *credit += i64::from(member.weight.max(1));
        }
        let near = neighbours(&owners, at, count, reach);
        let chosen = richest(members, &credit, &near);
        credit[chosen] -= total;
        owners.push(u16::try_from(chosen).expect("a ring holds at most MEMBERS_MAX members"));
    }
    owners
}

/// The owners within `reach` before position `at`, and after it where the ring has wrapped around.
fn neighbours(owners: &[u16], at: usize, count: usize, reach: usize) -> Vec<usize> {
    let before = owners[at.saturating_sub(reach)..].iter();
    let wrapped = (at + reach + 1).saturating_sub(count).min(owners.len());
    before.chain(&owners[..wrapped]).map(|&owner| usize::from(owner)).collect()
}

/// The member with the most credit among those that keep zones apart; failing that, machines; failing that, nodes.
fn richest(members: &[Member], credit: &[i64], near: &[usize]) -> usize {
    let apart = |rule: fn(&Member, &Member) -> bool| {
        let allowed =
            |&index: &usize| near.iter().all(|&other| rule(&members[index], &members[other]));
        // `max_by_key` returns the last of equals; reversing the index makes it the first.
        (0..members.len())
            .filter(allowed)
            .max_by_key(|&index| (credit[index], std::cmp::Reverse(index)))
    };
    let zones = |a: &Member, b: &Member| (&a.dc, &a.zone) != (&b.dc, &b.zone);
    let machines = |a: &Member, b: &Member| a.machine != b.machine;
    let nodes = |a: &Member, b: &Member| a.node != b.node;
    apart(zones)
        .or_else(|| apart(machines))
        .or_else(|| apart(nodes))
        .or_else(|| apart(|_, _| true))
        .expect("there is at least one member")
}
