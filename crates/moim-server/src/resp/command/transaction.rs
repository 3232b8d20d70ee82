//! `MULTI`, `EXEC` and `WATCH`, as far as a store without leaders can keep them.
//!
//! `EXEC` executes the queued commands one after the other, each with the guarantees it has by itself. They are not
//! isolated: other clients may see some done and others not yet, and if one fails, those before it stay done and those
//! behind it are still tried, as in Redis.
//!
//! `WATCH` is optimistic. It remembers what a read (at the connection's level) covered; `EXEC` reads again and does
//! nothing if that differs. Whoever writes between this second read and the queued commands is not noticed, a change
//! that is no longer there (written and expired) may be, and if too few replicas answer either read, the command fails
//! and nothing is executed. It protects a form that two people edit, not a bank account.

use std::rc::Rc;

use bytes::Bytes;
use moim_node::api::Action;
use moim_node::{Outcome, Request};

use super::super::answer::mismatch;
use super::super::arguments::{Arguments, OwnedArguments};
use super::super::connection::Connection;
use super::super::encode::Reply;
use super::super::failure;
use super::super::session::{Transaction, WATCHED_MAX, Watched, WatchedState};
use super::{Call, Decided, Step, reply_too_large, run_queued};

pub(super) fn multi(call: &Call<'_>) -> Decided {
    let transaction = &mut call.connection.session.borrow_mut().transaction;
    if transaction.is_some() {
        return Err(Reply::error("ERR MULTI calls can not be nested"));
    }
    *transaction = Some(Transaction::default());
    Ok(Step::Done(Reply::OK))
}

/// Queues a command behind `MULTI`.
pub(super) fn queue(connection: &Connection, arguments: Arguments<'_>) -> Reply {
    let bytes_max = connection.front.settings.transaction_bytes_max;
    let mut session = connection.session.borrow_mut();
    let Some(transaction) = &mut session.transaction else { return mismatch() };
    if transaction.broken || transaction.queue(arguments, bytes_max) {
        return Reply::Simple("QUEUED".into());
    }
    transaction.broken = true;
    Reply::error(format!("ERR the queued commands exceed the limit of {bytes_max} bytes"))
}

pub(super) fn discard(call: &Call<'_>) -> Decided {
    let mut session = call.connection.session.borrow_mut();
    if session.transaction.take().is_none() {
        return Err(Reply::error("ERR DISCARD without MULTI"));
    }
    session.watched.clear();
    Ok(Step::Done(Reply::OK))
}

pub(super) fn unwatch(call: &Call<'_>) -> Decided {
    call.connection.session.borrow_mut().watched.clear();
    Ok(Step::Done(Reply::OK))
}

pub(super) fn watch(call: &Call<'_>) -> Decided {
    let session = call.connection.session.borrow();
    if session.transaction.is_some() {
        return Err(Reply::error("ERR WATCH inside MULTI is not allowed"));
    }
    if session.watched.len() + call.len() > WATCHED_MAX {
        return Err(Reply::error(format!("ERR more than {WATCHED_MAX} keys watched")));
    }
    let fresh = |key: &&[u8]| {
        let watches =
            |watched: &Watched| watched.namespace == session.namespace && watched.key == *key;
        !session.watched.iter().any(watches)
    };
    let keys = call.arguments.skip(1).filter(fresh);
    let reads: Vec<Request> = keys.map(|key| session.request(key, Action::Get)).collect();
    let connection = Rc::clone(call.connection);
    Ok(Step::Task(Box::pin(async move {
        match look(&connection, reads).await {
            Err(error) => error,
            Ok(mut seen) => {
                connection.session.borrow_mut().watched.append(&mut seen);
                Reply::OK
            }
        }
    })))
}

/// What these keys hold now.
async fn look(connection: &Connection, reads: Vec<Request>) -> Result<Vec<Watched>, Reply> {
    let store = &connection.front.store;
    let keys: Vec<_> = reads.iter().map(|read| (read.namespace, read.key.clone())).collect();
    let seen = store.all(reads).await.into_iter().zip(keys);
    seen.map(|(outcome, (namespace, key)): (_, (_, Bytes))| match outcome {
        Outcome::Found(found) => Ok(Watched { namespace, key, state: WatchedState::of(&found) }),
        Outcome::Failed(failure) => Err(failure::reply(&failure, namespace, store)),
        _ => Err(mismatch()),
    })
    .collect()
}

pub(super) fn exec(call: &Call<'_>) -> Decided {
    let mut session = call.connection.session.borrow_mut();
    let watched = match session.transaction {
        Some(_) => std::mem::take(&mut session.watched),
        None => Vec::new(),
    };
    let transaction = session.transaction.take();
    let transaction = transaction.ok_or_else(|| Reply::error("ERR EXEC without MULTI"))?;
    if transaction.broken {
        let text = "EXECABORT Transaction discarded because of previous errors.";
        return Err(Reply::error(text));
    }
    let connection = Rc::clone(call.connection);
    Ok(Step::Task(Box::pin(async move {
        match unchanged(&connection, &watched).await {
            Err(error) => error,
            Ok(false) => Reply::NullArray,
            Ok(true) => execute_all(&connection, transaction.into_commands()).await,
        }
    })))
}

async fn unchanged(connection: &Connection, watched: &[Watched]) -> Result<bool, Reply> {
    let reads = {
        let session = connection.session.borrow();
        let read = |watched: &Watched| {
            session.request_in(watched.namespace, watched.key.clone(), Action::Get)
        };
        watched.iter().map(read).collect()
    };
    let now = look(connection, reads).await?;
    Ok(now.iter().zip(watched).all(|(now, before)| now.state == before.state))
}

async fn execute_all(connection: &Rc<Connection>, commands: Vec<OwnedArguments>) -> Reply {
    let bytes_max = connection.front.settings.output_bytes_max;
    let (mut replies, mut bytes) = (Vec::with_capacity(commands.len()), 0);
    for command in &commands {
        let reply = run_queued(connection, command).await;
        bytes += reply.weight();
        if bytes > bytes_max {
            return reply_too_large(bytes_max);
        }
        replies.push(reply);
    }
    Reply::Array(replies)
}
