//! Bytes of hello and of the cluster record.

use bytes::BufMut;
use moim_core::codec::{DecodeError, Put, Reader};
use moim_core::ring::{MEMBERS_MAX, Member, PartitionCount, Ring};
use moim_core::{MachineId, NodeId};

use crate::membership::{Hello, MemberInfo, Record};

const RECORD_FORMAT: u8 = 1;

pub(super) fn put_hello(out: &mut Vec<u8>, hello: &Hello) {
    out.put_u16(hello.protocol);
    out.put_u8(u8::from(hello.cluster.is_some()));
    out.put_u64(hello.cluster.unwrap_or(0));
    out.put_u64(hello.settings);
    out.put_u64(hello.run);
    put_member(out, &hello.info);
}

pub(super) fn hello(reader: &mut Reader) -> Result<Hello, DecodeError> {
    let protocol = reader.u16("protocol")?;
    let has_cluster = reader.u8("cluster")? != 0;
    let cluster = reader.u64("cluster")?;
    Ok(Hello {
        protocol,
        cluster: has_cluster.then_some(cluster),
        settings: reader.u64("settings")?,
        run: reader.u64("run")?,
        info: member(reader)?,
    })
}

pub(super) fn put_record(out: &mut Vec<u8>, record: &Record) {
    out.put_u8(RECORD_FORMAT);
    out.put_u64(record.cluster);
    out.put_u64(record.ring.version());
    out.put_u16(record.ring.partitions().get());
    out.put_varint(record.members.len() as u64);
    for info in &record.members {
        put_member(out, info);
    }
    for &owner in record.ring.owners() {
        out.put_u16(owner);
    }
}

pub(super) fn record(reader: &mut Reader) -> Result<Record, DecodeError> {
    if reader.u8("record format")? != RECORD_FORMAT {
        return Err(DecodeError::Invalid("record format"));
    }
    let cluster = reader.u64("cluster")?;
    let version = reader.u64("ring version")?;
    let partitions = PartitionCount::new(u64::from(reader.u16("partitions")?));
    let partitions = partitions.or(Err(DecodeError::Invalid("partitions")))?;
    let count = reader.count("members", MEMBERS_MAX)?;
    let members = (0..count).map(|_| member(reader)).collect::<Result<Vec<_>, _>>()?;
    let owners =
        (0..partitions.get()).map(|_| reader.u16("owner")).collect::<Result<Vec<_>, _>>()?;
    let placed = members.iter().map(|info| info.member.clone()).collect();
    let ring = Ring::from_parts(version, partitions, placed, owners)
        .or(Err(DecodeError::Invalid("ring")))?;
    Ok(Record { cluster, ring, members })
}

pub(super) fn put_member(out: &mut Vec<u8>, info: &MemberInfo) {
    let Member { node, machine, zone, dc, weight } = &info.member;
    out.put_u64(node.0);
    out.put_u64(machine.0);
    out.put_u32(*weight);
    let texts = [
        zone,
        dc,
        &info.peer_address,
        &info.redis_address,
        &info.cluster_address,
        &info.http_address,
    ];
    for text in texts {
        out.put_length_prefixed(text.as_bytes());
    }
}

pub(super) fn member(reader: &mut Reader) -> Result<MemberInfo, DecodeError> {
    let node = NodeId(reader.u64("node id")?);
    let machine = MachineId(reader.u64("machine id")?);
    let weight = reader.u32("weight")?;
    let (zone, dc) = (reader.text("zone")?, reader.text("dc")?);
    Ok(MemberInfo {
        member: Member { node, machine, zone, dc, weight },
        peer_address: reader.text("peer address")?,
        redis_address: reader.text("redis address")?,
        cluster_address: reader.text("cluster address")?,
        http_address: reader.text("http address")?,
    })
}
