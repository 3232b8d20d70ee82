//! The cluster as Redis Cluster clients see it.
//!
//! The table is flat: every node that can be reached from here is a master, each slot is led by the first such node of
//! its partition's preference list, and all 16384 slots are always covered, if need be by this node. Clients miscount
//! nodes that play two roles, and refuse a table with gaps. A node that cannot be reached is dropped at once, by what
//! this node sees itself: any node serves any key, so a table that is wrong costs a hop, never an answer.
//!
//! That is also why a redirection is only a hint. A connection gets one for each ring version newer than the one it
//! began with, for the first key after the change that another node leads; common clients then read the table anew.

use std::net::IpAddr;

use moim_core::quorum::COPIES_MAX;
use moim_core::ring::{Partition, Ring, SLOTS, Slot};
use moim_core::{NamespaceId, NodeId};
use moim_node::membership::{MemberInfo, Record};

use super::super::encode::Reply;
use super::super::failure;
use super::super::store::Store;
use super::keyspace::count;
use super::walk::{Walk, keys_of_slot};
use super::{Call, Decided, Step};

/// A run of slots that one node leads.
struct Lead {
    first: u16,
    last: u16,
    node: NodeId,
}

/// The node that leads a partition: the first of its preference list that is `present`, whose first is this node.
fn leader(ring: &Ring, partition: Partition, present: &[NodeId]) -> NodeId {
    let mut owners = ring.owners_of(partition, COPIES_MAX);
    owners.find(|owner| present.contains(owner)).unwrap_or(present[0])
}

/// All slots in order, neighbours with one leader together.
fn leads(ring: &Ring, present: &[NodeId]) -> Vec<Lead> {
    let mut leads: Vec<Lead> = Vec::new();
    for partition in ring.partitions().all() {
        let node = leader(ring, partition, present);
        let (first, last) = ring.partitions().slots(partition);
        match leads.last_mut() {
            Some(lead) if lead.node == node => lead.last = last.get(),
            _ => leads.push(Lead { first: first.get(), last: last.get(), node }),
        }
    }
    assert_eq!(leads.last().map(|lead| lead.last), Some(SLOTS - 1), "every slot has a leader");
    leads
}

/// The partitions this node leads; none before there is a ring.
pub(super) fn led_partitions(store: &Store) -> Option<Vec<Partition>> {
    let present = store.present();
    let own = present[0];
    store.record(|record| {
        let ring = &record?.ring;
        let all = ring.partitions().all();
        Some(all.filter(|partition| leader(ring, *partition, &present) == own).collect())
    })
}

/// The error before there is a ring.
pub(super) fn not_ready(store: &Store) -> Reply {
    match store.readiness() {
        Err(why) => failure::reply(&why, NamespaceId(0), store),
        Ok(()) => Reply::error("NOTREADY this node has no ring yet"),
    }
}

/// The same for whoever asks for the table: cluster clients know Redis's word for it, and ask again.
fn loading(store: &Store) -> Reply {
    match not_ready(store) {
        Reply::Error(text) => Reply::error(text.replacen("NOTREADY", "LOADING", 1)),
        other => other,
    }
}

/// Looks at the record, or says that there is none.
fn with_record<T>(call: &Call<'_>, look: impl FnOnce(&Record) -> T) -> Result<T, Reply> {
    let store = &call.front().store;
    store.record(|record| record.map(look)).ok_or_else(|| loading(store))
}

/// `-MOVED`, if this connection is to be hinted at a newer ring. Never more than once for each version.
pub(super) fn hint(call: &Call<'_>) -> Option<Reply> {
    if !call.on_cluster_port() || call.command.keys.0 == 0 {
        return None;
    }
    let store = &call.front().store;
    let version = store.ring_version();
    let told = call.connection.session.borrow().ring_version;
    if told == version {
        return None;
    }
    if told == 0 {
        call.connection.session.borrow_mut().ring_version = version;
        return None;
    }
    let mut slots = call.command.key_places(call.len()).map(|place| Slot::of_key(call.get(place)));
    let slot = slots.next()?;
    if slots.any(|other| other != slot) {
        return None;
    }
    let present = store.present();
    let address = store.record(|record| {
        let record = record?;
        let leader = leader(&record.ring, record.ring.partitions().of(slot), &present);
        let info = record.member(leader).filter(|_| leader != present[0])?;
        Some(info.cluster_address.clone())
    })?;
    call.connection.session.borrow_mut().ring_version = version;
    call.front().count(|figures| figures.moved += 1);
    Some(Reply::error(format!("MOVED {} {address}", slot.get())))
}

/// A node's name in Redis Cluster: forty hexadecimal digits, of which ours are the first sixteen.
fn node_name(node: NodeId) -> String {
    format!("{node}{:024}", 0)
}

/// Host and port of an address; brackets around an IPv6 host are taken off.
fn host_and_port(address: &str) -> (&str, i64) {
    let (host, port) = address.rsplit_once(':').unwrap_or((address, "0"));
    let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    (host, port.parse().unwrap_or(0))
}

fn is_name(host: &str) -> bool {
    host.parse::<IpAddr>().is_err()
}

pub(super) fn slots(call: &Call<'_>) -> Decided {
    let present = call.front().store.present();
    let rows = with_record(call, |record| {
        let row = |lead: &Lead| {
            let (host, port) = record
                .member(lead.node)
                .map_or(("", 0), |info| host_and_port(&info.cluster_address));
            let node = vec![
                Reply::copy(host.as_bytes()),
                Reply::Integer(port),
                Reply::text(node_name(lead.node)),
                Reply::Array(Vec::new()),
            ];
            let (first, last) = (i64::from(lead.first), i64::from(lead.last));
            Reply::Array(vec![Reply::Integer(first), Reply::Integer(last), Reply::Array(node)])
        };
        leads(&record.ring, &present).iter().map(row).collect()
    })?;
    Ok(Step::Done(Reply::Array(rows)))
}

/// Members that can be reached, in the record's order, and the slots each leads.
fn led_by(record: &Record, present: &[NodeId]) -> Vec<(MemberInfo, Vec<(u16, u16)>)> {
    let leads = leads(&record.ring, present);
    let members = record.members.iter().filter(|info| present.contains(&info.member.node));
    members
        .map(|info| {
            let own = leads.iter().filter(|lead| lead.node == info.member.node);
            (info.clone(), own.map(|lead| (lead.first, lead.last)).collect())
        })
        .collect()
}

pub(super) fn shards(call: &Call<'_>) -> Decided {
    let present = call.front().store.present();
    let members = with_record(call, |record| led_by(record, &present))?;
    let shard = |(info, slots): (MemberInfo, Vec<(u16, u16)>)| {
        let (host, port) = host_and_port(&info.cluster_address);
        let slots = slots.into_iter().flat_map(|(first, last)| [first, last]);
        let mut node = vec![
            (Reply::word("id"), Reply::text(node_name(info.member.node))),
            (Reply::word("port"), Reply::Integer(port)),
            (Reply::word("ip"), Reply::copy(host.as_bytes())),
            (Reply::word("endpoint"), Reply::copy(host.as_bytes())),
            (Reply::word("role"), Reply::word("master")),
            (Reply::word("replication-offset"), Reply::Integer(0)),
            (Reply::word("health"), Reply::word("online")),
        ];
        if is_name(host) {
            node.push((Reply::word("hostname"), Reply::copy(host.as_bytes())));
        }
        Reply::map([
            ("slots", Reply::Array(slots.map(|slot| Reply::Integer(i64::from(slot))).collect())),
            ("nodes", Reply::Array(vec![Reply::Map(node)])),
        ])
    };
    Ok(Step::Done(Reply::Array(members.into_iter().map(shard).collect())))
}

pub(super) fn nodes(call: &Call<'_>) -> Decided {
    let present = call.front().store.present();
    let version = call.front().store.ring_version();
    let wall_ms = call.front().store.now().wall_ms;
    let members = with_record(call, |record| led_by(record, &present))?;
    let line = |(info, slots): (MemberInfo, Vec<(u16, u16)>)| {
        let (host, port) = host_and_port(&info.cluster_address);
        let (_, bus) = host_and_port(&info.peer_address);
        let name = if is_name(host) { format!(",{host}") } else { String::new() };
        let own = info.member.node == present[0];
        let (flags, heard_ms) = if own { ("myself,master", 0) } else { ("master", wall_ms) };
        let slots = slots.iter().map(|(first, last)| {
            if first == last { format!(" {first}") } else { format!(" {first}-{last}") }
        });
        format!(
            "{} {host}:{port}@{bus}{name} {flags} - 0 {heard_ms} {version} connected{}\n",
            node_name(info.member.node),
            slots.collect::<String>()
        )
    };
    Ok(Step::Done(Reply::Verbatim(members.into_iter().map(line).collect())))
}

pub(super) fn info(call: &Call<'_>) -> Decided {
    let present = call.front().store.present();
    let leading = with_record(call, |record| {
        led_by(record, &present).iter().filter(|(_, slots)| !slots.is_empty()).count()
    })?;
    let version = call.front().store.ring_version();
    // Fewer nodes than members may be known here; the slots of the others are led by those that are.
    let text = format!(
        "cluster_state:ok\r\ncluster_slots_assigned:{SLOTS}\r\ncluster_slots_ok:{SLOTS}\r\ncluster_slots_pfail:0\r\n\
         cluster_slots_fail:0\r\ncluster_known_nodes:{}\r\ncluster_size:{leading}\r\ncluster_current_epoch:{version}\r\n\
         cluster_my_epoch:{version}\r\ncluster_stats_messages_sent:0\r\ncluster_stats_messages_received:0\r\n\
         total_cluster_links_buffer_limit_exceeded:0\r\n",
        present.len()
    );
    Ok(Step::Done(Reply::Verbatim(text)))
}

pub(super) fn myid(call: &Call<'_>) -> Decided {
    Ok(Step::Done(Reply::text(node_name(call.front().store.own().member.node))))
}

pub(super) fn keyslot(call: &Call<'_>) -> Decided {
    Ok(Step::Done(Reply::Integer(i64::from(Slot::of_key(call.get(2)).get()))))
}

/// The slot that an argument names.
fn slot(call: &Call<'_>) -> Result<Slot, Reply> {
    let number = u16::try_from(call.integer(2)?).ok();
    number.and_then(Slot::new).ok_or_else(|| Reply::error("ERR Invalid slot"))
}

/// A walk over the one partition that holds a slot.
fn walk_of(call: &Call<'_>, slot: Slot) -> Result<Walk, Reply> {
    let partition = with_record(call, |record| record.ring.partitions().of(slot))?;
    let mut walk = Walk::new(call)?;
    walk.partitions.retain(|led| *led == partition);
    Ok(walk)
}

pub(super) fn countkeysinslot(call: &Call<'_>) -> Decided {
    let slot = slot(call)?;
    let walk = walk_of(call, slot)?;
    Ok(Step::Task(Box::pin(async move {
        let keys = keys_of_slot(walk, slot.get(), usize::MAX).await;
        keys.map_or_else(|error| error, |keys| Reply::count(keys.len()))
    })))
}

pub(super) fn getkeysinslot(call: &Call<'_>) -> Decided {
    let slot = slot(call)?;
    let limit = count(call, 3)?;
    let walk = walk_of(call, slot)?;
    Ok(Step::Task(Box::pin(async move {
        let keys = keys_of_slot(walk, slot.get(), limit).await;
        let list =
            |keys: Vec<bytes::Bytes>| Reply::Array(keys.into_iter().map(Reply::Bulk).collect());
        keys.map_or_else(|error| error, list)
    })))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_taken_apart() {
        assert_eq!(host_and_port("127.0.0.1:7101"), ("127.0.0.1", 7101));
        assert_eq!(host_and_port("[::1]:7101"), ("::1", 7101));
        assert_eq!(host_and_port("kv-0.kv.svc:6479"), ("kv-0.kv.svc", 6479));
        assert!(is_name("kv-0.kv.svc") && !is_name("::1") && !is_name("10.0.0.1"));
    }

    #[test]
    fn a_node_has_a_name_of_forty_digits() {
        assert_eq!(node_name(NodeId(0xab)).len(), 40);
        assert!(node_name(NodeId(0xab)).starts_with("00000000000000ab"));
    }
}
