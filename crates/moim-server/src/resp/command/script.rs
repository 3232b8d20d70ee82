//! `EVAL` for the few scripts that libraries of locks and caches bring along. Moim runs no Lua: a script would have to run
//! at one node that leads all of its keys, and an interpreter is the part of Redis that was broken into most often.
//!
//! A script is recognised by its SHA-1, or by that of its text without spaces and with one kind of quotes, so that
//! reformatted copies are known too. What it means is then an update of the key at its owner.

use std::collections::BTreeMap;

use bytes::Bytes;
use moim_core::NamespaceId;
use moim_node::Request;
use moim_node::api::Action;
use moim_node::update::Update;
use sha1::{Digest, Sha1};

use super::super::answer::Shape;
use super::super::encode::Reply;
use super::super::number;
use super::super::store::Store;
use super::strings::{ExpiryUnit, expiry_at, one_value};
use super::{Call, Decided, Step, not_an_integer, syntax_error};

/// What a known script does with its one key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Script {
    /// Deletes it if its value is the first argument.
    DeleteIfEqual,
    /// Sets its expiry to the second argument in milliseconds from now if its value is the first.
    ExpireIfEqual,
    /// The same in seconds.
    ExpireSecondsIfEqual,
    /// As `ExpireIfEqual` if it has an expiry, or adds to that if the third argument is `0`.
    ExtendIfEqual,
    /// Adds the first argument.
    Add,
    /// Adds the first argument if it has a value.
    AddIfPresent,
}

/// Known scripts: what they do, and the SHA-1 of their text without spaces, semicolons and double quotes.
const KNOWN: &[(Script, &str)] = &[
    // The lock release of redis-py.
    (Script::DeleteIfEqual, "3ad9a162dace07271ecd3d4fb06ce2c770f0a4f0"),
    // The usual compare and delete.
    (Script::DeleteIfEqual, "68861aa8724846c4d49fb1b44ff4aa7d57e0fe5c"),
    // The usual compare and delete (unlink).
    (Script::DeleteIfEqual, "604fdf9744123fa91521d483f26e8319659c8b29"),
    // The lock reacquire of redis-py.
    (Script::ExpireIfEqual, "7bac02815679914e98a2d3abfc299e10f958a8cd"),
    // The usual compare and pexpire.
    (Script::ExpireIfEqual, "9a986bcc6034fd4f6b064f07ab6b02d8bd2631e2"),
    // The usual compare and expire.
    (Script::ExpireSecondsIfEqual, "9d14560700a7bb3af67165b582245aab2b4f080e"),
    // The lock extend of redis-py.
    (Script::ExtendIfEqual, "568f251ae144c32659f1faa8c727866b755df9e0"),
    // The increment of django-redis.
    (Script::AddIfPresent, "33d439506fbd7eb780ee8aeafcfbd7329fa4af9a"),
    // The unchecked increment of django-redis.
    (Script::Add, "4f6acf9158ab088369a532180d522a27cd382083"),
];

/// The exact scripts that most clients send, by the SHA-1 they ask for: known without having been loaded.
const WELL_KNOWN: &[(Script, &str)] = &[
    (Script::DeleteIfEqual, "c3f8721cbb97f72bc19e972846bd7aaf91901658"),
    (Script::DeleteIfEqual, "b70c2384248f88e6b75b9f89241a180f856ad852"),
    (Script::ExpireIfEqual, "1cac51482acf5858da00f6d685d68f886cd6b6b2"),
    (Script::ExtendIfEqual, "a4e8783852e6b949f9ef3a97212805108459a890"),
];

/// Texts of known scripts that this node remembers by their own SHA-1; beyond it, some are forgotten and sent again.
const LOADED_MAX: usize = 1_000;

const NOT_KNOWN: &str = "ERR this script is not known: Moim runs no Lua, only the scripts with which common libraries compare \
     and delete, compare and expire, or increment one key; do the same with MULTI and WATCH, or in your program";

/// Scripts by the SHA-1 of their exact text.
#[derive(Debug, Default)]
pub(crate) struct Scripts {
    loaded: BTreeMap<String, Script>,
}

impl Scripts {
    fn find(&self, sha: &[u8]) -> Option<Script> {
        let sha = String::from_utf8_lossy(sha).to_ascii_lowercase();
        let well_known =
            WELL_KNOWN.iter().find(|(_, known)| *known == sha).map(|(script, _)| *script);
        well_known.or_else(|| self.loaded.get(&sha).copied())
    }

    fn load(&mut self, sha: String, script: Script) {
        if self.loaded.len() >= LOADED_MAX {
            self.loaded.pop_first();
        }
        self.loaded.insert(sha, script);
    }
}

fn sha1_hex(text: &[u8]) -> String {
    let digits = b"0123456789abcdef";
    let halves = |byte: &u8| [usize::from(byte >> 4), usize::from(byte & 15)];
    let digest = Sha1::digest(text);
    digest.iter().flat_map(halves).map(|half| char::from(digits[half])).collect()
}

/// The text without what makes no difference in the scripts that are known.
fn normalised(text: &[u8]) -> Vec<u8> {
    let kept = text.iter().filter(|byte| !byte.is_ascii_whitespace() && **byte != b';');
    kept.map(|byte| if *byte == b'"' { b'\'' } else { byte.to_ascii_lowercase() }).collect()
}

fn recognise(text: &[u8]) -> Option<Script> {
    let sha = sha1_hex(&normalised(text));
    KNOWN.iter().find(|(_, known)| *known == sha).map(|(script, _)| *script)
}

pub(super) fn eval(call: &Call<'_>) -> Decided {
    let script = recognise(call.get(1)).ok_or_else(|| Reply::error(NOT_KNOWN));
    let arguments = ScriptArguments::parse(call)?;
    let script = script?;
    call.front().scripts.borrow_mut().load(sha1_hex(call.get(1)), script);
    arguments.run(call, script)
}

pub(super) fn evalsha(call: &Call<'_>) -> Decided {
    let arguments = ScriptArguments::parse(call)?;
    let script = call.front().scripts.borrow().find(call.get(1));
    let script =
        script.ok_or_else(|| Reply::error("NOSCRIPT No matching script. Please use EVAL."))?;
    arguments.run(call, script)
}

pub(super) fn load(call: &Call<'_>) -> Decided {
    let script = recognise(call.get(2)).ok_or_else(|| Reply::error(NOT_KNOWN))?;
    let sha = sha1_hex(call.get(2));
    call.front().scripts.borrow_mut().load(sha.clone(), script);
    Ok(Step::Done(Reply::text(sha)))
}

pub(super) fn exists(call: &Call<'_>) -> Decided {
    let scripts = call.front().scripts.borrow();
    let known = |sha: &[u8]| Reply::Integer(i64::from(scripts.find(sha).is_some()));
    Ok(Step::Done(Reply::Array(call.arguments.skip(2).map(known).collect())))
}

fn check_flush(call: &Call<'_>) -> Result<(), Reply> {
    match call.len() {
        2 => Ok(()),
        3 if call.is(2, "ASYNC") || call.is(2, "SYNC") => Ok(()),
        _ => Err(Reply::error(format!(
            "ERR {} only support SYNC|ASYNC option",
            call.command.name.to_ascii_uppercase().replace('|', " ")
        ))),
    }
}

pub(super) fn flush(call: &Call<'_>) -> Decided {
    check_flush(call)?;
    call.front().scripts.borrow_mut().loaded.clear();
    Ok(Step::Done(Reply::OK))
}

pub(super) fn function_flush(call: &Call<'_>) -> Decided {
    check_flush(call)?;
    Ok(Step::Done(Reply::OK))
}

/// Keys and arguments of a script: the places where they begin.
struct ScriptArguments {
    keys: usize,
}

impl ScriptArguments {
    fn parse(call: &Call<'_>) -> Result<Self, Reply> {
        let given = call.integer(2)?;
        let keys =
            usize::try_from(given).or(Err(Reply::error("ERR Number of keys can't be negative")))?;
        if keys > call.len() - 3 {
            return Err(Reply::error("ERR Number of keys can't be greater than number of args"));
        }
        Ok(Self { keys })
    }

    /// An argument behind the keys; missing ones are what Lua would call nil, which no known script takes.
    fn get<'a>(&self, call: &Call<'a>, index: usize) -> Result<&'a [u8], Reply> {
        let at = 3 + self.keys + index;
        if at < call.len() { Ok(call.get(at)) } else { Err(syntax_error()) }
    }

    fn number(&self, call: &Call<'_>, index: usize) -> Result<i64, Reply> {
        number::integer(self.get(call, index)?).ok_or_else(not_an_integer)
    }

    fn run(&self, call: &Call<'_>, script: Script) -> Decided {
        if self.keys != 1 {
            return Err(Reply::error("ERR this script takes one key"));
        }
        let update = |update| Ok(call.one(3, Action::Update(update), Shape::Number));
        let expected = || self.get(call, 0).map(Bytes::copy_from_slice);
        match script {
            Script::DeleteIfEqual => update(Update::DeleteIfEqual(expected()?)),
            Script::ExpireIfEqual | Script::ExpireSecondsIfEqual => {
                let unit = ExpiryUnit { millis: script == Script::ExpireIfEqual, absolute: false };
                let moment = unit.moment(self.number(call, 1)?, call.front().store.now().wall_ms);
                let expiry = expiry_at(moment.ok_or_else(not_an_integer)?);
                update(Update::ExpireIfEqual { expected: expected()?, expiry })
            }
            Script::ExtendIfEqual => self.extend(call),
            Script::Add => update(Update::Add(self.number(call, 0)?)),
            Script::AddIfPresent => self.add_if_present(call),
        }
    }

    /// Reads the expiry at hand, then sets the new one if the value is still the same.
    fn extend(&self, call: &Call<'_>) -> Decided {
        let expected = Bytes::copy_from_slice(self.get(call, 0)?);
        let millis = self.number(call, 1)?;
        let adds = self.get(call, 2)? == b"0";
        let read = call.request(call.get(3), Action::Get);
        let front = call.front().clone();
        Ok(Step::Task(Box::pin(async move {
            let (store, namespace) = (&front.store, read.namespace);
            let version = match one_value(store.request(read.clone()).await, namespace, store) {
                Err(error) => return error,
                Ok(None) => return Reply::Integer(0),
                Ok(Some(version)) => version,
            };
            if version.expires_ms == 0 || version.value() != Some(&expected) {
                return Reply::Integer(0);
            }
            let from_ms = if adds { version.expires_ms } else { store.now().wall_ms };
            let moment = i64::try_from(from_ms).ok().and_then(|from| from.checked_add(millis));
            let Some(moment) = moment else { return not_an_integer() };
            let update = Update::ExpireIfEqual { expected, expiry: expiry_at(moment) };
            carry_out(store, read, update, namespace).await
        })))
    }

    /// Reads, then adds if there was a value. One that expires in between is begun anew.
    fn add_if_present(&self, call: &Call<'_>) -> Decided {
        let number = self.number(call, 0)?;
        let read = call.request(call.get(3), Action::Get);
        let front = call.front().clone();
        Ok(Step::Task(Box::pin(async move {
            let (store, namespace) = (&front.store, read.namespace);
            match one_value(store.request(read.clone()).await, namespace, store) {
                Err(error) => error,
                Ok(None) => Reply::Null,
                Ok(Some(_)) => carry_out(store, read, Update::Add(number), namespace).await,
            }
        })))
    }
}

async fn carry_out(store: &Store, like: Request, update: Update, namespace: NamespaceId) -> Reply {
    let request = Request { action: Action::Update(update), ..like };
    Shape::Number.reply(store.request(request).await, namespace, store)
}
