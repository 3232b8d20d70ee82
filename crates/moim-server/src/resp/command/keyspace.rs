//! Keys one by one: deleting, asking, renaming, copying.

use moim_core::NamespaceId;
use moim_core::object::Version;
use moim_node::Request;
use moim_node::api::{Action, Expiry};
use moim_node::update::{self, Condition, Update};
use moim_node::{Outcome, api::Failure};

use super::super::answer::{About, Shape, mismatch};
use super::super::encode::Reply;
use super::super::failure;
use super::super::store::Store;
use super::strings::one_value;
use super::{Call, Decided, Step, Together, conversation, not_an_integer, syntax_error};

pub(super) fn del(call: &Call<'_>) -> Decided {
    Ok(call.each(1, &Action::Update(Update::Delete), Shape::Deleted, Together::Sum))
}

pub(super) fn exists(call: &Call<'_>) -> Decided {
    Ok(call.each(1, &Action::Get, Shape::Presence, Together::Sum))
}

pub(super) fn kind(call: &Call<'_>) -> Decided {
    Ok(call.one(1, Action::Get, Shape::Type))
}

fn about(call: &Call<'_>, about: About) -> Decided {
    Ok(call.one(2, Action::Get, Shape::About(about)))
}

pub(super) fn encoding(call: &Call<'_>) -> Decided {
    about(call, About::Encoding)
}

pub(super) fn idletime(call: &Call<'_>) -> Decided {
    about(call, About::IdleSeconds)
}

pub(super) fn refcount(call: &Call<'_>) -> Decided {
    about(call, About::References)
}

pub(super) fn freq(_call: &Call<'_>) -> Decided {
    Err(Reply::error(
        "ERR An LFU maxmemory policy is not selected, access frequency not tracked. Please note that when switching \
         between policies at runtime LRU and LFU data will take some time to adjust.",
    ))
}

pub(super) fn memory(call: &Call<'_>) -> Decided {
    match call.len() {
        3 => {}
        5 if call.is(3, "SAMPLES") => {
            let samples = call.integer(4)?;
            if samples < 0 {
                return Err(syntax_error());
            }
        }
        _ => return Err(syntax_error()),
    }
    about(call, About::Bytes(call.get(2).len()))
}

/// A key that becomes another: both ends, and what is to happen to them.
struct Move {
    from: Request,
    to_namespace: NamespaceId,
    to: bytes::Bytes,
    /// Whether a value at the target is left alone.
    if_missing: bool,
    /// Whether the source is deleted afterwards.
    delete: bool,
}

/// `RENAME` and `RENAMENX`: a read, a write and a delete, each atomic by itself. A failure in between leaves the value
/// under both names, never under none.
pub(super) fn rename(call: &Call<'_>) -> Decided {
    let if_missing = call.command.name == "renamenx";
    let from = call.request(call.get(1), Action::Get);
    let to = bytes::Bytes::copy_from_slice(call.get(2));
    let same = from.key == to;
    let to_namespace = from.namespace;
    let plan = Move { from, to_namespace, to, if_missing, delete: true };
    let front = call.front().clone();
    Ok(Step::Task(Box::pin(async move {
        let moved = if same {
            exists_at_all(plan, &front.store).await
        } else {
            plan.run(&front.store).await
        };
        match moved {
            Err(error) => error,
            Ok(Moved::NoSource) => Reply::error("ERR no such key"),
            Ok(Moved::Done) if if_missing => Reply::Integer(1),
            Ok(Moved::TargetTaken) if if_missing => Reply::Integer(0),
            Ok(Moved::Done | Moved::TargetTaken) => Reply::OK,
        }
    })))
}

pub(super) fn copy(call: &Call<'_>) -> Decided {
    let from = call.request(call.get(1), Action::Get);
    let to = bytes::Bytes::copy_from_slice(call.get(2));
    let (mut to_namespace, mut if_missing) = (from.namespace, true);
    let mut at = 3;
    while at < call.len() {
        if call.is(at, "REPLACE") {
            if_missing = false;
        } else if call.is(at, "DB") && at + 1 < call.len() {
            at += 1;
            to_namespace = conversation::namespace(call, at)?;
        } else {
            return Err(syntax_error());
        }
        at += 1;
    }
    if from.key == to && from.namespace == to_namespace {
        return Err(Reply::error("ERR source and destination objects are the same"));
    }
    let plan = Move { from, to_namespace, to, if_missing, delete: false };
    let front = call.front().clone();
    Ok(Step::Task(Box::pin(async move {
        match plan.run(&front.store).await {
            Err(error) => error,
            Ok(Moved::Done) => Reply::Integer(1),
            Ok(Moved::NoSource | Moved::TargetTaken) => Reply::Integer(0),
        }
    })))
}

/// What became of a [`Move`].
enum Moved {
    Done,
    NoSource,
    TargetTaken,
}

impl Move {
    async fn run(self, store: &Store) -> Result<Moved, Reply> {
        let namespace = self.from.namespace;
        let found = store.request(self.from.clone()).await;
        let Some(version) = one_value(found, namespace, store)? else { return Ok(Moved::NoSource) };
        let written = store.request(self.write(&version)?).await;
        match written {
            Outcome::Written { .. }
            | Outcome::Updated(update::Reply::Set { applied: true, .. }) => {}
            Outcome::Updated(update::Reply::Set { applied: false, .. }) => {
                return Ok(Moved::TargetTaken);
            }
            Outcome::Failed(failure) => return Err(failed(&failure, self.to_namespace, store)),
            _ => return Err(mismatch()),
        }
        if self.delete {
            let delete = Request { action: Action::Delete { context: None }, ..self.from };
            if let Outcome::Failed(failure) = store.request(delete).await {
                return Err(failed(&failure, namespace, store));
            }
        }
        Ok(Moved::Done)
    }

    /// The write at the target, with the expiry of the source.
    fn write(&self, version: &Version) -> Result<Request, Reply> {
        let value = version.value().cloned().ok_or_else(mismatch)?;
        let expiry = match version.expires_ms {
            0 => Expiry::Never,
            at_ms => Expiry::At(at_ms),
        };
        let action = if self.if_missing {
            let condition = Condition::IfMissing;
            Action::Update(Update::Set { value, expiry: Some(expiry), condition })
        } else {
            Action::Put { value: value.into(), expiry, context: None }
        };
        Ok(Request { namespace: self.to_namespace, key: self.to.clone(), action, ..self.from })
    }
}

fn failed(failure: &Failure, namespace: NamespaceId, store: &Store) -> Reply {
    failure::reply(failure, namespace, store)
}

/// A rename to itself changes nothing, but the key must be there.
async fn exists_at_all(plan: Move, store: &Store) -> Result<Moved, Reply> {
    let namespace = plan.from.namespace;
    let found = one_value(store.request(plan.from).await, namespace, store)?;
    Ok(if found.is_some() { Moved::TargetTaken } else { Moved::NoSource })
}

/// An argument as a count that is not negative.
pub(super) fn count(call: &Call<'_>, index: usize) -> Result<usize, Reply> {
    usize::try_from(call.integer(index)?).or(Err(not_an_integer()))
}
