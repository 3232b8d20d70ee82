//! `ACL`, for the one user there is.

use super::super::encode::Reply;
use super::super::login::DEFAULT_USER;
use super::{Call, Decided, Step, table, wrong_arity};

/// Redis's categories, in its order; those without commands here are listed all the same.
const CATEGORIES: [&str; 21] = [
    "keyspace",
    "read",
    "write",
    "set",
    "sortedset",
    "list",
    "hash",
    "string",
    "bitmap",
    "hyperloglog",
    "geo",
    "stream",
    "pubsub",
    "admin",
    "fast",
    "slow",
    "blocking",
    "dangerous",
    "connection",
    "transaction",
    "scripting",
];

pub(super) fn whoami(_call: &Call<'_>) -> Decided {
    Ok(Step::Done(Reply::word("default")))
}

pub(super) fn cat(call: &Call<'_>) -> Decided {
    let words =
        |words: Vec<&'static str>| Reply::Array(words.into_iter().map(Reply::word).collect());
    match call.len() {
        2 => Ok(Step::Done(words(CATEGORIES.to_vec()))),
        3 => {
            let wanted = call.text(2).to_ascii_lowercase();
            if !CATEGORIES.contains(&wanted.as_str()) {
                return Err(Reply::error(format!("ERR Unknown category '{}'", call.text(2))));
            }
            let within =
                table::listed().filter(|command| command.categories().contains(&wanted.as_str()));
            Ok(Step::Done(words(within.map(|command| command.name).collect())))
        }
        _ => Err(wrong_arity(call.command)),
    }
}

/// How the user logs in; the password's digest is nobody's business.
fn login_rule(call: &Call<'_>) -> &'static str {
    if call.front().settings.password.is_some() { "#(hidden)" } else { "nopass" }
}

pub(super) fn list(call: &Call<'_>) -> Decided {
    let line = format!("user default on {} ~* &* +@all", login_rule(call));
    Ok(Step::Done(Reply::Array(vec![Reply::text(line)])))
}

pub(super) fn users(_call: &Call<'_>) -> Decided {
    Ok(Step::Done(Reply::Array(vec![Reply::word("default")])))
}

pub(super) fn getuser(call: &Call<'_>) -> Decided {
    if call.get(2) != DEFAULT_USER {
        return Ok(Step::Done(Reply::Null));
    }
    let mut flags = vec![Reply::word("on")];
    if call.front().settings.password.is_none() {
        flags.push(Reply::word("nopass"));
    }
    Ok(Step::Done(Reply::map([
        ("flags", Reply::Set(flags)),
        ("passwords", Reply::Array(Vec::new())),
        ("commands", Reply::word("+@all")),
        ("keys", Reply::word("~*")),
        ("channels", Reply::word("&*")),
        ("selectors", Reply::Array(Vec::new())),
    ])))
}

pub(super) fn not_yet(_call: &Call<'_>) -> Decided {
    Err(Reply::error(
        "ERR users are not served yet: there is one, 'default', with the password of the configuration",
    ))
}
