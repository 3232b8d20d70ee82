//! `CLIENT`: the connections of this node.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Instant;

use super::super::connection::{Closing, Connection};
use super::super::encode::Reply;
use super::super::number;
use super::super::session::Replies;
use super::conversation::client_name;
use super::{Call, Decided, Step, syntax_error};

pub(super) fn id(call: &Call<'_>) -> Decided {
    Ok(Step::Done(Reply::count(call.connection.id)))
}

pub(super) fn getname(call: &Call<'_>) -> Decided {
    let session = call.connection.session.borrow();
    let name = (!session.name.is_empty()).then(|| session.name.clone());
    Ok(Step::Done(name.map_or(Reply::Null, Reply::text)))
}

pub(super) fn setname(call: &Call<'_>) -> Decided {
    call.connection.session.borrow_mut().name = client_name(call.get(2))?;
    Ok(Step::Done(Reply::OK))
}

pub(super) fn setinfo(call: &Call<'_>) -> Decided {
    let text = call.text(2);
    let clean = client_name(call.get(3)).or(Err(Reply::error(format!(
        "ERR {text} cannot contain spaces, newlines or special characters."
    ))));
    let library = &mut call.connection.session.borrow_mut().library;
    if call.is(2, "LIB-NAME") {
        library.0 = clean?;
    } else if call.is(2, "LIB-VER") {
        library.1 = clean?;
    } else {
        return Err(Reply::error(format!("ERR Unrecognized option '{text}'")));
    }
    Ok(Step::Done(Reply::OK))
}

fn on_or_off(call: &Call<'_>) -> Result<bool, Reply> {
    match () {
        () if call.is(2, "ON") => Ok(true),
        () if call.is(2, "OFF") => Ok(false),
        () => Err(syntax_error()),
    }
}

pub(super) fn no_evict(call: &Call<'_>) -> Decided {
    call.connection.session.borrow_mut().marks.no_evict = on_or_off(call)?;
    Ok(Step::Done(Reply::OK))
}

pub(super) fn no_touch(call: &Call<'_>) -> Decided {
    call.connection.session.borrow_mut().marks.no_touch = on_or_off(call)?;
    Ok(Step::Done(Reply::OK))
}

pub(super) fn reply(call: &Call<'_>) -> Decided {
    let replies = &mut call.connection.session.borrow_mut().replies;
    match () {
        () if call.is(2, "ON") => {
            *replies = Replies::On;
            return Ok(Step::Done(Reply::OK));
        }
        () if call.is(2, "OFF") => *replies = Replies::Off,
        // As in Redis, skipping adds nothing when there are no replies anyway.
        () if call.is(2, "SKIP") => {
            if *replies != Replies::Off {
                *replies = Replies::SkipNext;
            }
        }
        () => return Err(syntax_error()),
    }
    Ok(Step::Done(Reply::Silence))
}

pub(super) fn unblock(call: &Call<'_>) -> Decided {
    call.integer(2)?;
    let way = call.len() == 3 || call.len() == 4 && (call.is(3, "TIMEOUT") || call.is(3, "ERROR"));
    if !way {
        let text = "ERR CLIENT UNBLOCK reason should be TIMEOUT or ERROR";
        return Err(Reply::error(text));
    }
    Ok(Step::Done(Reply::Integer(0)))
}

pub(super) fn info(call: &Call<'_>) -> Decided {
    let mut text = String::new();
    describe(call.connection, Instant::now(), &mut text);
    Ok(Step::Done(Reply::Verbatim(text)))
}

pub(super) fn list(call: &Call<'_>) -> Decided {
    let mut wanted: Option<Vec<u64>> = None;
    let mut none = false;
    match call.len() {
        2 => {}
        4 if call.is(2, "TYPE") => none = !is_normal(call, 3)?,
        4.. if call.is(2, "ID") => {
            let ids = call.arguments.skip(3).map(|id| number::integer(id).filter(|id| *id > 0));
            let ids = ids.map(|id| id.and_then(|id| u64::try_from(id).ok()));
            let ids = ids.collect::<Option<Vec<u64>>>();
            wanted = Some(ids.ok_or_else(|| Reply::error("ERR Invalid client ID"))?);
        }
        _ => return Err(syntax_error()),
    }
    let now = Instant::now();
    let mut text = String::new();
    call.front().each(|connection| {
        if !none && wanted.as_ref().is_none_or(|ids| ids.contains(&connection.id)) {
            describe(connection, now, &mut text);
        }
    });
    Ok(Step::Done(Reply::Verbatim(text)))
}

/// Whether a type is that of all our connections: there are no replicas and no subscribers.
fn is_normal(call: &Call<'_>, index: usize) -> Result<bool, Reply> {
    match call.get(index).to_ascii_lowercase().as_slice() {
        b"normal" => Ok(true),
        b"master" | b"replica" | b"slave" | b"pubsub" => Ok(false),
        _ => Err(Reply::error(format!("ERR Unknown client type '{}'", call.text(index)))),
    }
}

/// One line of `CLIENT LIST`, with Redis's names. No keys, values or passwords.
fn describe(connection: &Connection, now: Instant, text: &mut String) {
    let Connection { id, peer, local, seen, .. } = connection;
    let session = connection.session.borrow();
    let seconds = |since: Instant| now.saturating_duration_since(since).as_secs();
    let (input, input_free) = seen.input.get();
    let output = seen.output.get();
    let (multi, multi_bytes) = match &session.transaction {
        Some(transaction) => {
            (i64::try_from(transaction.len()).unwrap_or(i64::MAX), transaction.bytes())
        }
        None => (-1, 0),
    };
    let mut flags = String::new();
    for (flag, set) in
        [('x', multi >= 0), ('e', session.marks.no_evict), ('T', session.marks.no_touch)]
    {
        flags.extend(set.then_some(flag));
    }
    let flags = if flags.is_empty() { "N".to_owned() } else { flags };
    let namespace =
        super::super::failure::namespace_name(session.namespace, &connection.front.store);
    let (library, version) = &session.library;
    let user = if session.admitted { "default" } else { "(none)" };
    writeln!(
        text,
        "id={id} addr={peer} laddr={local} fd=-1 name={} age={} idle={} flags={flags} db={namespace} sub=0 psub=0 \
         ssub=0 multi={multi} qbuf={input} qbuf-free={input_free} argv-mem=0 multi-mem={multi_bytes} rbs=0 rbp=0 \
         obl={output} oll=0 omem={output} tot-mem={} events=r cmd={} user={user} redir=-1 resp={} lib-name={library} \
         lib-ver={version}",
        session.name,
        seconds(connection.created),
        seconds(seen.active.get()),
        input + input_free + output + multi_bytes,
        seen.command.get(),
        session.protocol.number(),
    )
    .expect("writing to a string does not fail");
}

/// Which connections `CLIENT KILL` is for.
struct Filter {
    id: Option<u64>,
    peer: Option<String>,
    local: Option<String>,
    none: bool,
    skip_own: bool,
}

impl Filter {
    fn parse(call: &Call<'_>) -> Result<Self, Reply> {
        let mut filter = Self { id: None, peer: None, local: None, none: false, skip_own: true };
        if !call.len().is_multiple_of(2) {
            return Err(syntax_error());
        }
        for at in (2..call.len()).step_by(2) {
            match call.get(at).to_ascii_uppercase().as_slice() {
                b"ID" => {
                    let id =
                        number::integer(call.get(at + 1)).and_then(|id| u64::try_from(id).ok());
                    let id = id.filter(|id| *id > 0);
                    let text = "ERR client-id should be greater than 0";
                    filter.id = Some(id.ok_or_else(|| Reply::error(text))?);
                }
                b"TYPE" => filter.none |= !is_normal(call, at + 1)?,
                b"ADDR" => filter.peer = Some(call.text(at + 1)),
                b"LADDR" => filter.local = Some(call.text(at + 1)),
                b"USER" if call.get(at + 1) == b"default" => {}
                b"USER" => {
                    return Err(Reply::error(format!("ERR No such user '{}'", call.text(at + 1))));
                }
                b"SKIPME" if call.is(at + 1, "YES") => filter.skip_own = true,
                b"SKIPME" if call.is(at + 1, "NO") => filter.skip_own = false,
                _ => return Err(syntax_error()),
            }
        }
        Ok(filter)
    }

    fn selects(&self, connection: &Connection) -> bool {
        let is = |wanted: &Option<String>, address: SocketAddr| {
            wanted.as_ref().is_none_or(|wanted| *wanted == address.to_string())
        };
        !self.none
            && self.id.is_none_or(|id| id == connection.id)
            && is(&self.peer, connection.peer)
            && is(&self.local, connection.local)
    }
}

pub(super) fn kill(call: &Call<'_>) -> Decided {
    if call.len() == 3 {
        let peer = Some(call.text(2));
        let filter = Filter { id: None, peer, local: None, none: false, skip_own: false };
        return match kill_all(call, &filter) {
            0 => Err(Reply::error("ERR No such client")),
            _ => Ok(Step::Done(Reply::OK)),
        };
    }
    let filter = Filter::parse(call)?;
    Ok(Step::Done(Reply::Integer(kill_all(call, &filter))))
}

fn kill_all(call: &Call<'_>, filter: &Filter) -> i64 {
    let mut killed = 0;
    call.front().each(|connection| {
        let own = Rc::ptr_eq(connection, call.connection);
        if own && filter.skip_own || !filter.selects(connection) {
            return;
        }
        killed += 1;
        connection.close(if own { Closing::AfterReplies } else { Closing::Now });
    });
    killed
}
