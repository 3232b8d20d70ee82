//! Bytes of a client's request, as it is forwarded to the node that serialises its key. Listing keys and inspecting
//! are never forwarded.

use bytes::{BufMut, Bytes};
use moim_core::NamespaceId;
use moim_core::codec::{DecodeError, Put, Reader};
use moim_core::object::Context;
use moim_core::quorum::Level;

use crate::api::{Action, Expiry, Request};
use crate::update::{Condition, ExpiryCondition, Update};

/// Contexts between nodes are not bound to a key: the client's was, when it came in.
pub(super) const NO_KEY_TAG: u32 = 0;

pub(super) fn put(out: &mut Vec<u8>, request: &Request) {
    out.put_u32(request.namespace.0);
    put_level(out, request.r);
    put_level(out, request.w);
    out.put_u32(request.timeout_ms.unwrap_or(0));
    out.put_length_prefixed(&request.key);
    match &request.action {
        Action::Put { value, expiry, context } => {
            out.put_u8(1);
            put_expiry(out, *expiry);
            put_context(out, context.as_ref());
            out.put_length_prefixed(value.value());
        }
        Action::Delete { context } => {
            out.put_u8(2);
            put_context(out, context.as_ref());
        }
        Action::Update(update) => {
            out.put_u8(3);
            put_update(out, update);
        }
        Action::Get | Action::Inspect | Action::Keys { .. } => {
            unreachable!("reads are coordinated where they arrive")
        }
    }
}

pub(super) fn take(reader: &mut Reader) -> Result<Request, DecodeError> {
    let namespace = NamespaceId(reader.u32("namespace")?);
    let (r, w) = (level(reader)?, level(reader)?);
    let timeout_ms = Some(reader.u32("timeout")?).filter(|&ms| ms != 0);
    let key = reader.slice("key")?;
    let action = match reader.u8("action")? {
        1 => {
            let (expiry, context) = (expiry(reader)?, context(reader)?);
            Action::Put { value: reader.slice("value")?.into(), expiry, context }
        }
        2 => Action::Delete { context: context(reader)? },
        3 => Action::Update(update(reader)?),
        _ => return Err(DecodeError::Invalid("action")),
    };
    Ok(Request { namespace, key, action, r, w, timeout_ms })
}

fn put_level(out: &mut Vec<u8>, level: Option<Level>) {
    out.put_u8(match level {
        None => 0,
        Some(level) => level_code(level),
    });
}

pub(super) fn level_code(level: Level) -> u8 {
    match level {
        Level::Count(count) => count,
        Level::Quorum => 0x81,
        Level::All => 0x82,
        Level::LocalOne => 0x83,
        Level::LocalQuorum => 0x84,
        Level::EachQuorum => 0x85,
    }
}

pub(super) fn level(reader: &mut Reader) -> Result<Option<Level>, DecodeError> {
    Ok(Some(match reader.u8("level")? {
        0 => return Ok(None),
        0x81 => Level::Quorum,
        0x82 => Level::All,
        0x83 => Level::LocalOne,
        0x84 => Level::LocalQuorum,
        0x85 => Level::EachQuorum,
        count if count <= moim_core::quorum::COPIES_MAX => Level::Count(count),
        _ => return Err(DecodeError::Invalid("level")),
    }))
}

fn put_expiry(out: &mut Vec<u8>, expiry: Expiry) {
    let (code, at_ms) = match expiry {
        Expiry::Default => (0, 0),
        Expiry::Never => (1, 0),
        Expiry::At(at_ms) => (2, at_ms),
    };
    out.put_u8(code);
    out.put_u64(at_ms);
}

fn expiry(reader: &mut Reader) -> Result<Expiry, DecodeError> {
    let code = reader.u8("expiry")?;
    let at_ms = reader.u64("expiry")?;
    match code {
        0 => Ok(Expiry::Default),
        1 => Ok(Expiry::Never),
        2 => Ok(Expiry::At(at_ms)),
        _ => Err(DecodeError::Invalid("expiry")),
    }
}

pub(super) fn put_context(out: &mut Vec<u8>, context: Option<&Context>) {
    let bytes = context.map_or_else(Bytes::new, |context| context.encode(NO_KEY_TAG));
    out.put_length_prefixed(&bytes);
}

pub(super) fn context(reader: &mut Reader) -> Result<Option<Context>, DecodeError> {
    let bytes = reader.slice("context")?;
    if bytes.is_empty() { Ok(None) } else { Context::decode(bytes, NO_KEY_TAG).map(Some) }
}

fn put_update(out: &mut Vec<u8>, update: &Update) {
    match update {
        Update::Set { value, expiry, condition } => {
            out.put_u8(1);
            out.put_u8(match condition {
                Condition::Always => 0,
                Condition::IfMissing => 1,
                Condition::IfPresent => 2,
            });
            out.put_u8(u8::from(expiry.is_some()));
            put_expiry(out, expiry.unwrap_or(Expiry::Never));
            out.put_length_prefixed(value);
        }
        Update::Delete => out.put_u8(2),
        Update::DeleteIfEqual(expected) => {
            out.put_u8(3);
            out.put_length_prefixed(expected);
        }
        Update::Append(tail) => {
            out.put_u8(4);
            out.put_length_prefixed(tail);
        }
        Update::SetRange { offset, patch } => {
            out.put_u8(5);
            out.put_u32(*offset);
            out.put_length_prefixed(patch);
        }
        Update::Add(amount) => {
            out.put_u8(6);
            out.put_i64(*amount);
        }
        Update::AddFloat(bits) => {
            out.put_u8(7);
            out.put_u64(*bits);
        }
        Update::Expire { expiry, condition } => {
            out.put_u8(8);
            out.put_u8(expiry_condition_code(*condition));
            put_expiry(out, *expiry);
        }
        Update::GetAndExpire(expiry) => {
            out.put_u8(9);
            put_expiry(out, *expiry);
        }
        Update::ExpireIfEqual { expected, expiry } => {
            out.put_u8(10);
            put_expiry(out, *expiry);
            out.put_length_prefixed(expected);
        }
    }
}

fn update(reader: &mut Reader) -> Result<Update, DecodeError> {
    match reader.u8("update")? {
        1 => {
            let condition = match reader.u8("condition")? {
                0 => Condition::Always,
                1 => Condition::IfMissing,
                2 => Condition::IfPresent,
                _ => return Err(DecodeError::Invalid("condition")),
            };
            let changes_expiry = reader.u8("expiry")? != 0;
            let expiry = Some(expiry(reader)?).filter(|_| changes_expiry);
            Ok(Update::Set { value: reader.slice("value")?, expiry, condition })
        }
        2 => Ok(Update::Delete),
        3 => Ok(Update::DeleteIfEqual(reader.slice("expected value")?)),
        4 => Ok(Update::Append(reader.slice("tail")?)),
        5 => Ok(Update::SetRange { offset: reader.u32("offset")?, patch: reader.slice("patch")? }),
        6 => Ok(Update::Add(i64::from_be_bytes(reader.u64("amount")?.to_be_bytes()))),
        7 => Ok(Update::AddFloat(reader.u64("amount")?)),
        8 => {
            let condition = expiry_condition(reader.u8("condition")?)?;
            Ok(Update::Expire { expiry: expiry(reader)?, condition })
        }
        9 => Ok(Update::GetAndExpire(expiry(reader)?)),
        10 => {
            let expiry = expiry(reader)?;
            Ok(Update::ExpireIfEqual { expected: reader.slice("expected value")?, expiry })
        }
        _ => Err(DecodeError::Invalid("update")),
    }
}

fn expiry_condition_code(condition: ExpiryCondition) -> u8 {
    match condition {
        ExpiryCondition::Always => 0,
        ExpiryCondition::IfNone => 1,
        ExpiryCondition::IfSome => 2,
        ExpiryCondition::IfLater => 3,
        ExpiryCondition::IfEarlier => 4,
    }
}

fn expiry_condition(code: u8) -> Result<ExpiryCondition, DecodeError> {
    match code {
        0 => Ok(ExpiryCondition::Always),
        1 => Ok(ExpiryCondition::IfNone),
        2 => Ok(ExpiryCondition::IfSome),
        3 => Ok(ExpiryCondition::IfLater),
        4 => Ok(ExpiryCondition::IfEarlier),
        _ => Err(DecodeError::Invalid("condition")),
    }
}
