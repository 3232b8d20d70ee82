//! Bytes of how a forwarded request ended.

use bytes::{BufMut, Bytes};
use moim_core::NodeId;
use moim_core::clock::Hlc;
use moim_core::codec::{DecodeError, Put, Reader};

use super::request::{context, level, level_code, put_context};
use crate::api::{Failure, Intent, NotReady, Outcome, Queue, Why};
use crate::update::{Reply, UpdateError};

/// Replicas that one failure can name.
const MISSING_MAX: usize = 64;

pub(super) fn put(out: &mut Vec<u8>, outcome: &Outcome) {
    match outcome {
        Outcome::Written { context, version } => {
            out.put_u8(1);
            out.put_u64(version.as_u64());
            put_context(out, Some(context));
        }
        Outcome::Updated(reply) => {
            out.put_u8(2);
            put_reply(out, reply);
        }
        Outcome::Failed(failure) => {
            out.put_u8(3);
            put_failure(out, failure);
        }
        Outcome::Found(_) | Outcome::Inspected(_) | Outcome::Keys(_) => {
            unreachable!("only writes are forwarded, and they do not end like this")
        }
    }
}

pub(super) fn take(reader: &mut Reader) -> Result<Outcome, DecodeError> {
    match reader.u8("outcome")? {
        1 => {
            let version = Hlc::from_u64(reader.u64("version")?);
            let context = context(reader)?.ok_or(DecodeError::Invalid("context"))?;
            Ok(Outcome::Written { context, version })
        }
        2 => Ok(Outcome::Updated(reply(reader)?)),
        3 => Ok(Outcome::Failed(failure(reader)?)),
        _ => Err(DecodeError::Invalid("outcome")),
    }
}

fn put_reply(out: &mut Vec<u8>, reply: &Reply) {
    match reply {
        Reply::Integer(number) => {
            out.put_u8(1);
            out.put_i64(*number);
        }
        Reply::Value(value) => {
            out.put_u8(2);
            put_optional(out, value.as_ref());
        }
        Reply::Set { applied, previous } => {
            out.put_u8(3);
            out.put_u8(u8::from(*applied));
            put_optional(out, previous.as_ref());
        }
    }
}

fn reply(reader: &mut Reader) -> Result<Reply, DecodeError> {
    match reader.u8("reply")? {
        1 => Ok(Reply::Integer(i64::from_be_bytes(reader.u64("number")?.to_be_bytes()))),
        2 => Ok(Reply::Value(optional(reader)?)),
        3 => Ok(Reply::Set { applied: reader.u8("applied")? != 0, previous: optional(reader)? }),
        _ => Err(DecodeError::Invalid("reply")),
    }
}

fn put_optional(out: &mut Vec<u8>, value: Option<&Bytes>) {
    out.put_u8(u8::from(value.is_some()));
    out.put_length_prefixed(value.map_or(&[], |value| value));
}

fn optional(reader: &mut Reader) -> Result<Option<Bytes>, DecodeError> {
    let present = reader.u8("value")? != 0;
    let value = reader.slice("value")?;
    Ok(present.then_some(value))
}

fn put_failure(out: &mut Vec<u8>, failure: &Failure) {
    match failure {
        Failure::Unavailable { intent, level, needed, got, missing } => {
            out.put_u8(1);
            out.put_u8(u8::from(*intent == Intent::Write));
            out.put_u8(level_code(*level));
            out.put_u8(*needed);
            out.put_u8(*got);
            out.put_varint(missing.len() as u64);
            for (node, why) in missing {
                out.put_u64(node.0);
                put_why(out, why);
            }
        }
        Failure::Timeout { node, waited_ms } => {
            out.put_u8(2);
            out.put_u64(node.0);
            out.put_u32(*waited_ms);
        }
        Failure::Overloaded { queue, limit } => {
            out.put_u8(3);
            out.put_u8(queue_code(*queue));
            out.put_u64(*limit);
        }
        Failure::TooLarge { pair_bytes, limit_bytes } => {
            out.put_u8(4);
            out.put_u64(*pair_bytes);
            out.put_u64(*limit_bytes);
        }
        Failure::Conflict { siblings } => {
            out.put_u8(5);
            out.put_u32(*siblings);
        }
        Failure::NotReady(NotReady::Founding { met, expected }) => {
            out.put_u8(6);
            out.put_u32(*met);
            out.put_u32(*expected);
        }
        Failure::NotReady(NotReady::Stopping) => out.put_u8(7),
        Failure::NotReady(NotReady::Recalling { awaited }) => {
            out.put_u8(21);
            out.put_u32(*awaited);
        }
        Failure::NotReady(NotReady::Filling { filled, partitions }) => {
            out.put_u8(20);
            out.put_u32(*filled);
            out.put_u32(*partitions);
        }
        Failure::Stopped(why) => {
            out.put_u8(8);
            out.put_length_prefixed(why.as_bytes());
        }
        Failure::DiskFull { node, limit_percent } => {
            out.put_u8(12);
            out.put_u64(node.0);
            out.put_u8(*limit_percent);
        }
        Failure::NoSuchNamespace => out.put_u8(9),
        Failure::BadContext => out.put_u8(10),
        Failure::Update(error) => {
            out.put_u8(11);
            out.put_u8(match error {
                UpdateError::NotAnInteger => 0,
                UpdateError::Overflow => 1,
                UpdateError::NotAFloat => 2,
                UpdateError::NotFinite => 3,
            });
        }
    }
}

fn queue_code(queue: Queue) -> u8 {
    match queue {
        Queue::Operations => 0,
        Queue::UnsyncedBytes => 1,
        Queue::UpdatesPerKey => 2,
        Queue::ClockPairs => 3,
        Queue::HintStore => 4,
        Queue::TurnDelay => 5,
        Queue::SyncDelay => 6,
    }
}

fn failure(reader: &mut Reader) -> Result<Failure, DecodeError> {
    Ok(match reader.u8("failure")? {
        1 => unavailable(reader)?,
        2 => Failure::Timeout { node: NodeId(reader.u64("node")?), waited_ms: reader.u32("wait")? },
        3 => {
            let queue = match reader.u8("queue")? {
                0 => Queue::Operations,
                1 => Queue::UnsyncedBytes,
                2 => Queue::UpdatesPerKey,
                3 => Queue::ClockPairs,
                4 => Queue::HintStore,
                5 => Queue::TurnDelay,
                6 => Queue::SyncDelay,
                _ => return Err(DecodeError::Invalid("queue")),
            };
            Failure::Overloaded { queue, limit: reader.u64("limit")? }
        }
        4 => {
            Failure::TooLarge { pair_bytes: reader.u64("size")?, limit_bytes: reader.u64("limit")? }
        }
        5 => Failure::Conflict { siblings: reader.u32("siblings")? },
        6 => {
            let (met, expected) = (reader.u32("met")?, reader.u32("expected")?);
            Failure::NotReady(NotReady::Founding { met, expected })
        }
        7 => Failure::NotReady(NotReady::Stopping),
        8 => Failure::Stopped(reader.text("reason")?),
        9 => Failure::NoSuchNamespace,
        10 => Failure::BadContext,
        11 => Failure::Update(match reader.u8("update error")? {
            0 => UpdateError::NotAnInteger,
            1 => UpdateError::Overflow,
            2 => UpdateError::NotAFloat,
            3 => UpdateError::NotFinite,
            _ => return Err(DecodeError::Invalid("update error")),
        }),
        20 => {
            let (filled, partitions) = (reader.u32("filled")?, reader.u32("partitions")?);
            Failure::NotReady(NotReady::Filling { filled, partitions })
        }
        21 => Failure::NotReady(NotReady::Recalling { awaited: reader.u32("awaited")? }),
        12 => Failure::DiskFull {
            node: NodeId(reader.u64("node")?),
            limit_percent: reader.u8("limit")?,
        },
        _ => return Err(DecodeError::Invalid("failure")),
    })
}

fn unavailable(reader: &mut Reader) -> Result<Failure, DecodeError> {
    let intent = if reader.u8("intent")? == 0 { Intent::Read } else { Intent::Write };
    let level = level(reader)?.ok_or(DecodeError::Invalid("level"))?;
    let (needed, got) = (reader.u8("needed")?, reader.u8("got")?);
    let count = reader.count("missing replicas", MISSING_MAX)?;
    let mut missing = Vec::with_capacity(count);
    for _ in 0..count {
        missing.push((NodeId(reader.u64("node")?), why(reader)?));
    }
    Ok(Failure::Unavailable { intent, level, needed, got, missing })
}

pub(super) fn put_why(out: &mut Vec<u8>, why: &Why) {
    let (code, detail) = match why {
        Why::Unreachable => (0, 0),
        Why::NoAnswer(waited_ms) => (1, u64::from(*waited_ms)),
        Why::NotReady => (2, 0),
        Why::Overloaded => (3, 0),
        Why::ClockSkew(ahead_ms) => (4, *ahead_ms),
        Why::Namespace => (5, 0),
        Why::Disk => (6, 0),
        Why::Unsupported => (7, 0),
        Why::DiskFull => (8, 0),
        Why::HintsFull(limit_bytes) => (9, *limit_bytes),
        Why::Forgotten => (16, 0),
    };
    out.put_u8(code);
    out.put_varint(detail);
}

pub(super) fn why(reader: &mut Reader) -> Result<Why, DecodeError> {
    let code = reader.u8("reason")?;
    let detail = reader.varint("reason")?;
    Ok(match code {
        0 => Why::Unreachable,
        1 => Why::NoAnswer(u32::try_from(detail).unwrap_or(u32::MAX)),
        2 => Why::NotReady,
        3 => Why::Overloaded,
        4 => Why::ClockSkew(detail),
        5 => Why::Namespace,
        6 => Why::Disk,
        7 => Why::Unsupported,
        8 => Why::DiskFull,
        9 => Why::HintsFull(detail),
        16 => Why::Forgotten,
        _ => return Err(DecodeError::Invalid("reason")),
    })
}
