//! Commands about the conversation itself: who speaks, in which protocol, about which namespace.

use std::rc::Rc;
use std::time::Duration;

use moim_core::NamespaceId;

use super::super::connection::Closing;
use super::super::encode::{Protocol, Reply};
use super::super::login::DEFAULT_USER;
use super::super::number;
use super::super::session::Session;
use super::{Call, Decided, Step, not_an_integer, syntax_error, wrong_arity};

/// The version of Redis whose behaviour is followed, and that clients are told.
pub(super) const REDIS_VERSION: &str = "7.0.15";

const WRONG_PASSWORD: &str = "WRONGPASS invalid username-password pair or user is disabled.";

pub(super) fn ping(call: &Call<'_>) -> Decided {
    match call.len() {
        1 => Ok(Step::Done(Reply::Simple("PONG".into()))),
        2 => echo(call),
        _ => Err(wrong_arity(call.command)),
    }
}

pub(super) fn echo(call: &Call<'_>) -> Decided {
    Ok(Step::Done(Reply::copy(call.get(1))))
}

pub(super) fn select(call: &Call<'_>) -> Decided {
    let namespace = namespace(call, 1)?;
    call.connection.session.borrow_mut().namespace = namespace;
    call.connection.expect_replies();
    Ok(Step::Done(Reply::OK))
}

/// The namespace that an argument names: a Redis database by number, or any by name.
pub(super) fn namespace(call: &Call<'_>, index: usize) -> Result<NamespaceId, Reply> {
    let name = call.text(index);
    let known = |namespaces: &moim_node::namespace::Namespaces| {
        namespaces.by_name(&name).map(moim_node::namespace::Namespace::id)
    };
    call.front().store.namespaces(known).ok_or_else(|| match number::integer(call.get(index)) {
        Some(_) => Reply::error("ERR DB index is out of range"),
        // What looks like a number that Redis would not read gets Redis's words for it.
        None if name.starts_with(|first: char| first.is_ascii_digit() || first == '-') => {
            not_an_integer()
        }
        None => {
            Reply::error(format!("ERR no such namespace '{name}'; moim namespace list shows them"))
        }
    })
}

pub(super) fn auth(call: &Call<'_>) -> Decided {
    let (user, password) = match call.len() {
        2 if call.front().settings.password.is_none() => {
            return Err(Reply::error(
                "ERR AUTH <password> called without any password configured for the default user. Are you sure your \
                 configuration is correct?",
            ));
        }
        2 => (DEFAULT_USER, call.get(1)),
        3 => (call.get(1), call.get(2)),
        _ => return Err(syntax_error()),
    };
    if log_in(call, user, password) { Ok(Step::Done(Reply::OK)) } else { Ok(wrong_password(call)) }
}

fn log_in(call: &Call<'_>, user: &[u8], password: &[u8]) -> bool {
    let admitted = match &call.front().settings.password {
        Some(digest) => digest.admits(user, password),
        None => user == DEFAULT_USER,
    };
    if admitted {
        call.connection.session.borrow_mut().admitted = true;
    } else {
        call.front().count(|figures| figures.login_failures += 1);
    }
    admitted
}

/// Says so after a while: who guesses, guesses slowly, and waits alone.
fn wrong_password(call: &Call<'_>) -> Step {
    let delay = Duration::from_millis(call.front().settings.login_delay_ms);
    Step::Task(Box::pin(async move {
        tokio::time::sleep(delay).await;
        Reply::error(WRONG_PASSWORD)
    }))
}

pub(super) fn hello(call: &Call<'_>) -> Decided {
    let protocol = match call.len() {
        1 => None,
        _ => Some(match number::integer(call.get(1)) {
            Some(2) => Protocol::Resp2,
            Some(3) => Protocol::Resp3,
            Some(_) => return Err(Reply::error("NOPROTO unsupported protocol version")),
            None => {
                let text = "ERR Protocol version is not an integer or out of range";
                return Err(Reply::error(text));
            }
        }),
    };
    let options = HelloOptions::parse(call)?;
    if let Some((user, password)) = options.login
        && !log_in(call, user, password)
    {
        return Ok(wrong_password(call));
    }
    let mut session = call.connection.session.borrow_mut();
    if !session.admitted {
        return Err(Reply::error(
            "NOAUTH HELLO must be called with the client already authenticated, otherwise the HELLO <proto> AUTH \
             <user> <pass> option can be used to authenticate the client and select the RESP protocol version at the \
             same time",
        ));
    }
    if let Some(name) = options.name {
        session.name = name;
    }
    if let Some(protocol) = protocol {
        session.protocol = protocol;
    }
    Ok(Step::Done(greeting(call, &session)))
}

/// What stands behind the version of `HELLO`.
#[derive(Default)]
struct HelloOptions<'a> {
    login: Option<(&'a [u8], &'a [u8])>,
    name: Option<String>,
}

impl<'a> HelloOptions<'a> {
    fn parse(call: &Call<'a>) -> Result<Self, Reply> {
        let mut options = Self::default();
        let mut at = 2;
        while at < call.len() {
            let more = call.len() - at - 1;
            if call.is(at, "AUTH") && more >= 2 {
                options.login = Some((call.get(at + 1), call.get(at + 2)));
                at += 3;
            } else if call.is(at, "SETNAME") && more >= 1 {
                options.name = Some(client_name(call.get(at + 1))?);
                at += 2;
            } else {
                let text = format!("ERR Syntax error in HELLO option '{}'", call.text(at));
                return Err(Reply::error(text));
            }
        }
        Ok(options)
    }
}

fn greeting(call: &Call<'_>, session: &Session) -> Reply {
    let mode = if call.on_cluster_port() { "cluster" } else { "standalone" };
    Reply::map([
        ("server", Reply::word("redis")),
        ("version", Reply::word(REDIS_VERSION)),
        ("proto", Reply::Integer(session.protocol.number())),
        ("id", Reply::count(call.connection.id)),
        ("mode", Reply::word(mode)),
        ("role", Reply::word("master")),
        ("modules", Reply::Array(Vec::new())),
    ])
}

/// A name that does not break the lines of `CLIENT LIST`.
pub(super) fn client_name(name: &[u8]) -> Result<String, Reply> {
    let fits = name.iter().all(u8::is_ascii_graphic);
    let text = "ERR Client names cannot contain spaces, newlines or special characters.";
    if !fits {
        return Err(Reply::error(text));
    }
    Ok(String::from_utf8_lossy(name).into_owned())
}

pub(super) fn quit(call: &Call<'_>) -> Decided {
    call.connection.close(Closing::AfterReplies);
    Ok(Step::Done(Reply::OK))
}

pub(super) fn reset(call: &Call<'_>) -> Decided {
    let front = Rc::clone(call.front());
    let ring_version = call.connection.session.borrow().ring_version;
    let fresh = Session::new(front.settings.password.is_none(), ring_version);
    *call.connection.session.borrow_mut() = fresh;
    Ok(Step::Done(Reply::Simple("RESET".into())))
}
