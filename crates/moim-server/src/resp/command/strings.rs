//! Strings: reads are plain reads, `SET` without conditions is a plain write, and whatever depends on the value at hand
//! is an update that the key's owner carries out.

use bytes::Bytes;
use moim_node::Outcome;
use moim_node::api::{Action, Expiry};
use moim_node::update::{Condition, Update};

use super::super::answer::{Shape, single};
use super::super::encode::Reply;
use super::super::failure;
use super::super::number;
use super::{Call, Decided, Step, Together, not_an_integer, syntax_error, wrong_arity};
use crate::recycled;

/// The longest string of Redis, in bytes; a longer `SETRANGE` is refused before it is tried.
const STRING_BYTES_MAX: u64 = 512 << 20;

/// How an expiry is given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ExpiryUnit {
    /// In milliseconds rather than seconds.
    pub(super) millis: bool,
    /// As a moment rather than a distance from now.
    pub(super) absolute: bool,
}

impl ExpiryUnit {
    /// Of an option's name.
    fn of_option(name: &[u8]) -> Option<Self> {
        let unit = |millis, absolute| Some(Self { millis, absolute });
        match name.to_ascii_uppercase().as_slice() {
            b"EX" => unit(false, false),
            b"PX" => unit(true, false),
            b"EXAT" => unit(false, true),
            b"PXAT" => unit(true, true),
            _ => None,
        }
    }

    /// The moment in Unix milliseconds, if it fits.
    pub(super) fn moment(self, number: i64, wall_ms: u64) -> Option<i64> {
        let ms = if self.millis { number } else { number.checked_mul(1_000)? };
        if self.absolute { Some(ms) } else { ms.checked_add(i64::try_from(wall_ms).ok()?) }
    }
}

/// An expiry at a moment. Zero would mean never, and a moment before the epoch is as past as one after it.
pub(super) fn expiry_at(moment_ms: i64) -> Expiry {
    Expiry::At(u64::try_from(moment_ms).unwrap_or(0).max(1))
}

/// The expiry that an argument gives, which must lie after the epoch.
fn positive_expiry(call: &Call<'_>, index: usize, unit: ExpiryUnit) -> Result<Expiry, Reply> {
    let given = call.integer(index)?;
    let moment = unit.moment(given, call.front().store.now().wall_ms).filter(|_| given > 0);
    moment.map(expiry_at).ok_or_else(|| invalid_expiry(call))
}

pub(super) fn invalid_expiry(call: &Call<'_>) -> Reply {
    Reply::error(format!("ERR invalid expire time in '{}' command", call.command.name))
}

fn value(call: &Call<'_>, index: usize) -> Bytes {
    Bytes::copy_from_slice(call.get(index))
}

pub(super) fn get(call: &Call<'_>) -> Decided {
    Ok(call.one(1, Action::Get, Shape::Value))
}

/// What stands behind key and value of `SET`.
struct SetOptions {
    /// `None` keeps the one at hand.
    expiry: Option<Expiry>,
    condition: Condition,
    get: bool,
}

pub(super) fn set(call: &Call<'_>) -> Decided {
    if call.len() == 3 {
        return Ok(put(call, 2, Expiry::Default));
    }
    let options = set_options(call)?;
    if let SetOptions { expiry: Some(expiry), condition: Condition::Always, get: false } = options {
        return Ok(put(call, 2, expiry));
    }
    let shape = match (options.get, options.condition) {
        (true, _) => Shape::Previous,
        (false, Condition::Always) => Shape::Ok,
        (false, _) => Shape::OkIfApplied,
    };
    let SetOptions { expiry, condition, .. } = options;
    let update = Update::Set { value: value(call, 2), expiry, condition };
    Ok(call.one(1, Action::Update(update), shape))
}

fn set_options(call: &Call<'_>) -> Result<SetOptions, Reply> {
    let mut expiry: Option<Option<Expiry>> = None;
    let mut condition = Condition::Always;
    let mut get = false;
    let mut at = 3;
    while at < call.len() {
        if let Some(unit) = ExpiryUnit::of_option(call.get(at)) {
            at += 1;
            if expiry.is_some() || at == call.len() {
                return Err(syntax_error());
            }
            expiry = Some(Some(positive_expiry(call, at, unit)?));
        } else if call.is(at, "KEEPTTL") && expiry.is_none() {
            expiry = Some(None);
        } else if call.is(at, "NX") && condition != Condition::IfPresent {
            condition = Condition::IfMissing;
        } else if call.is(at, "XX") && condition != Condition::IfMissing {
            condition = Condition::IfPresent;
        } else if call.is(at, "GET") {
            get = true;
        } else {
            return Err(syntax_error());
        }
        at += 1;
    }
    Ok(SetOptions { expiry: expiry.unwrap_or(Some(Expiry::Default)), condition, get })
}

/// A plain write of the first key.
fn put(call: &Call<'_>, value_at: usize, expiry: Expiry) -> Step {
    call.one(
        1,
        Action::Put { value: recycled::draft(call.get(value_at)), expiry, context: None },
        Shape::Ok,
    )
}

pub(super) fn setex(call: &Call<'_>) -> Decided {
    let expiry = positive_expiry(call, 2, ExpiryUnit { millis: false, absolute: false })?;
    Ok(put(call, 3, expiry))
}

pub(super) fn psetex(call: &Call<'_>) -> Decided {
    let expiry = positive_expiry(call, 2, ExpiryUnit { millis: true, absolute: false })?;
    Ok(put(call, 3, expiry))
}

pub(super) fn setnx(call: &Call<'_>) -> Decided {
    Ok(set_if(call, Condition::IfMissing, Shape::OneIfApplied))
}

pub(super) fn getset(call: &Call<'_>) -> Decided {
    Ok(set_if(call, Condition::Always, Shape::Previous))
}

fn set_if(call: &Call<'_>, condition: Condition, shape: Shape) -> Step {
    let update = Update::Set { value: value(call, 2), expiry: Some(Expiry::Default), condition };
    call.one(1, Action::Update(update), shape)
}

pub(super) fn getdel(call: &Call<'_>) -> Decided {
    Ok(call.one(1, Action::Update(Update::Delete), Shape::UpdatedValue))
}

pub(super) fn getex(call: &Call<'_>) -> Decided {
    let expiry = match (call.len(), ExpiryUnit::of_option(call.get(2))) {
        (2, _) => return get(call),
        (3, _) if call.is(2, "PERSIST") => Expiry::Never,
        (4, Some(unit)) => positive_expiry(call, 3, unit)?,
        _ => return Err(syntax_error()),
    };
    Ok(call.one(1, Action::Update(Update::GetAndExpire(expiry)), Shape::UpdatedValue))
}

pub(super) fn mget(call: &Call<'_>) -> Decided {
    Ok(call.each(1, &Action::Get, Shape::Value, Together::List))
}

/// A key and a value.
type Pair<'a> = (&'a [u8], &'a [u8]);

/// The keys and values of `MSET`.
fn pairs<'a>(call: &Call<'a>) -> Result<Vec<Pair<'a>>, Reply> {
    if call.len().is_multiple_of(2) {
        return Err(wrong_arity(call.command));
    }
    Ok((1..call.len()).step_by(2).map(|at| (call.get(at), call.get(at + 1))).collect())
}

fn put_pair(call: &Call<'_>, (key, value): Pair<'_>) -> moim_node::Request {
    let value = recycled::draft(value);
    call.request(key, Action::Put { value, expiry: Expiry::Default, context: None })
}

pub(super) fn mset(call: &Call<'_>) -> Decided {
    let requests = pairs(call)?.into_iter().map(|pair| put_pair(call, pair)).collect();
    Ok(Step::Many(requests, Shape::Ok, Together::Ok))
}

/// Reads all keys, then writes all: whoever writes one in between is overwritten, and a failure may leave a part.
pub(super) fn msetnx(call: &Call<'_>) -> Decided {
    let pairs = pairs(call)?;
    let reads: Vec<_> = pairs.iter().map(|(key, _)| call.request(key, Action::Get)).collect();
    let writes: Vec<_> = pairs.into_iter().map(|pair| put_pair(call, pair)).collect();
    let namespace = call.connection.session.borrow().namespace;
    let front = call.front().clone();
    Ok(Step::Task(Box::pin(async move {
        let store = &front.store;
        for outcome in store.all(reads).await {
            match outcome {
                Outcome::Found(found) if found.versions.is_empty() => {}
                Outcome::Found(_) => return Reply::Integer(0),
                Outcome::Failed(failure) => return failure::reply(&failure, namespace, store),
                _ => return super::super::answer::mismatch(),
            }
        }
        for outcome in store.all(writes).await {
            if let Outcome::Failed(failure) = outcome {
                return failure::reply(&failure, namespace, store);
            }
        }
        Reply::Integer(1)
    })))
}

pub(super) fn append(call: &Call<'_>) -> Decided {
    Ok(call.one(1, Action::Update(Update::Append(value(call, 2))), Shape::Number))
}

pub(super) fn strlen(call: &Call<'_>) -> Decided {
    Ok(call.one(1, Action::Get, Shape::Length))
}

pub(super) fn getrange(call: &Call<'_>) -> Decided {
    Ok(call.one(1, Action::Get, Shape::Range(call.integer(2)?, call.integer(3)?)))
}

pub(super) fn setrange(call: &Call<'_>) -> Decided {
    let offset = call.integer(2)?;
    let offset = u64::try_from(offset).or(Err(Reply::error("ERR offset is out of range")))?;
    let patch = value(call, 3);
    if patch.is_empty() {
        return strlen(call);
    }
    let end = offset.saturating_add(patch.len() as u64);
    let offset = u32::try_from(offset).ok().filter(|_| end <= STRING_BYTES_MAX);
    let too_long = "ERR string exceeds maximum allowed size (proto-max-bulk-len)";
    let offset = offset.ok_or_else(|| Reply::error(too_long))?;
    Ok(call.one(1, Action::Update(Update::SetRange { offset, patch }), Shape::Number))
}

fn add(call: &Call<'_>, number: i64) -> Step {
    call.one(1, Action::Update(Update::Add(number)), Shape::Number)
}

pub(super) fn incr(call: &Call<'_>) -> Decided {
    Ok(add(call, 1))
}

pub(super) fn decr(call: &Call<'_>) -> Decided {
    Ok(add(call, -1))
}

pub(super) fn incrby(call: &Call<'_>) -> Decided {
    Ok(add(call, call.integer(2)?))
}

pub(super) fn decrby(call: &Call<'_>) -> Decided {
    let number = number::integer(call.get(2)).ok_or_else(not_an_integer)?;
    let opposite =
        number.checked_neg().ok_or_else(|| Reply::error("ERR decrement would overflow"))?;
    Ok(add(call, opposite))
}

pub(super) fn incrbyfloat(call: &Call<'_>) -> Decided {
    let number =
        number::float(call.get(2)).ok_or_else(|| Reply::error("ERR value is not a valid float"))?;
    let update = Update::AddFloat(number.to_bits());
    Ok(call.one(1, Action::Update(update), Shape::UpdatedValue))
}

/// The value that a request found; none, several or a failure as what they are.
pub(super) fn one_value(
    outcome: Outcome,
    namespace: moim_core::NamespaceId,
    store: &super::super::store::Store,
) -> Result<Option<moim_core::object::Version>, Reply> {
    let failed = |failure| failure::reply(&failure, namespace, store);
    match outcome {
        Outcome::Found(found) => single(found).map_err(failed),
        Outcome::Failed(failure) => Err(failed(failure)),
        _ => Err(super::super::answer::mismatch()),
    }
}
