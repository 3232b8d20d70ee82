//! Bytes of gossip lists.

use bytes::BufMut;
use moim_core::NodeId;
use moim_core::clock::Hlc;
use moim_core::codec::{DecodeError, Put, Reader};

use super::cluster;
use crate::api::BatchId;
use crate::gossip::word::{Heartbeat, Line, Suspicion, Word};
use crate::membership::MemberInfo;

/// Lines in one message; more than a message of the largest sensible size holds.
const LINES_MAX: usize = 4_096;

/// Suspicions in one word; above any `gossip_suspects_max`.
const SUSPECTS_MAX: usize = 1_000;

/// Bytes of all texts of a profile together.
const PROFILE_BYTES_MAX: usize = 8 * 1024;

const STOPPING: u8 = 1;
const PROFILE: u8 = 2;

pub(super) fn put_lines(out: &mut Vec<u8>, lines: &[Line]) {
    out.put_varint(lines.len() as u64);
    for line in lines {
        put_line(out, line);
    }
}

pub(super) fn lines(reader: &mut Reader) -> Result<Vec<Line>, DecodeError> {
    let count = reader.count("gossip lines", LINES_MAX)?;
    (0..count).map(|_| line(reader)).collect()
}

fn put_line(out: &mut Vec<u8>, line: &Line) {
    let Word { heartbeat, run, raised, stopping, load, floor, suspects } = &line.word;
    let flag = |set: bool, flag: u8| if set { flag } else { 0 };
    out.put_u64(line.member.0);
    out.put_u8(flag(*stopping, STOPPING) | flag(line.profile.is_some(), PROFILE));
    put_heartbeat(out, *heartbeat);
    out.put_u32(*run);
    out.put_varint(*raised);
    out.put_varint(u64::from(*load));
    out.put_u64(floor.as_u64());
    out.put_varint(line.durable.0);
    out.put_varint(suspects.len() as u64);
    for suspicion in suspects {
        out.put_u64(suspicion.member.0);
        put_heartbeat(out, suspicion.heartbeat);
    }
    if let Some(info) = &line.profile {
        cluster::put_member(out, info);
    }
}

fn line(reader: &mut Reader) -> Result<Line, DecodeError> {
    let member = NodeId(reader.u64("member")?);
    let flags = reader.u8("flags")?;
    let (heartbeat, run) = (heartbeat(reader)?, reader.u32("run")?);
    let raised = reader.varint("raised generations")?;
    let load = u32::try_from(reader.varint("load")?).or(Err(DecodeError::Invalid("load")))?;
    let floor = Hlc::from_u64(reader.u64("floor")?);
    let durable = BatchId(reader.varint("durable batch")?);
    let count = reader.count("suspicions", SUSPECTS_MAX)?;
    let suspects = (0..count).map(|_| suspicion(reader)).collect::<Result<Vec<_>, _>>()?;
    let profile = if flags & PROFILE == 0 { None } else { Some(Box::new(profile(reader)?)) };
    let stopping = flags & STOPPING != 0;
    let word = Word { heartbeat, run, raised, stopping, load, floor, suspects };
    Ok(Line { member, word, durable, profile })
}

fn put_heartbeat(out: &mut Vec<u8>, heartbeat: Heartbeat) {
    out.put_u64(heartbeat.generation);
    out.put_varint(heartbeat.counter);
}

fn heartbeat(reader: &mut Reader) -> Result<Heartbeat, DecodeError> {
    Ok(Heartbeat {
        generation: reader.u64("generation")?,
        counter: reader.varint("heartbeat counter")?,
    })
}

fn suspicion(reader: &mut Reader) -> Result<Suspicion, DecodeError> {
    Ok(Suspicion { member: NodeId(reader.u64("suspect")?), heartbeat: heartbeat(reader)? })
}

fn profile(reader: &mut Reader) -> Result<MemberInfo, DecodeError> {
    let before = reader.remaining();
    let info = cluster::member(reader)?;
    if before - reader.remaining() > PROFILE_BYTES_MAX {
        return Err(DecodeError::Invalid("profile (too long)"));
    }
    Ok(info)
}
