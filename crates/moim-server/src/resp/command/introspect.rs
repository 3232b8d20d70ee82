//! `COMMAND`, and `HELP` of every command with subcommands: all from the table.

use super::super::encode::Reply;
use super::super::glob;
use super::table::{Command, Flag};
use super::{Call, Decided, Step, syntax_error, table};

pub(super) fn command(_call: &Call<'_>) -> Decided {
    Ok(Step::Done(Reply::Array(table::top_level().map(describe).collect())))
}

pub(super) fn count(_call: &Call<'_>) -> Decided {
    Ok(Step::Done(Reply::count(table::top_level().count())))
}

pub(super) fn info(call: &Call<'_>) -> Decided {
    if call.len() == 2 {
        return command(call);
    }
    let named = call.arguments.skip(2).map(|name| table::named(name).map_or(Reply::Null, describe));
    Ok(Step::Done(Reply::Array(named.collect())))
}

fn simple(text: &'static str) -> Reply {
    Reply::Simple(text.into())
}

/// The ten elements of Redis 7: the last three (tips, key specifications, subcommands) follow from the others.
fn describe(command: &'static Command) -> Reply {
    let flags =
        Flag::SHOWN.iter().filter(|(flag, _)| command.has(*flag)).map(|(_, name)| simple(name));
    let categories =
        command.categories().into_iter().map(|name| Reply::Simple(format!("@{name}").into()));
    let (first, last, step) = command.keys;
    let number = |number: i8| Reply::Integer(i64::from(number));
    Reply::Array(vec![
        Reply::word(command.name),
        number(command.arity),
        Reply::Set(flags.collect()),
        number(first),
        number(last),
        number(step),
        Reply::Set(categories.collect()),
        Reply::Array(Vec::new()),
        Reply::Array(key_specification(command).into_iter().collect()),
        Reply::Array(table::subcommands(command.name).map(describe).collect()),
    ])
}

/// Where the keys are, in the form that cluster clients of Redis 7 read.
fn key_specification(command: &Command) -> Option<Reply> {
    let (first, last, step) = command.keys;
    if first == 0 {
        return None;
    }
    let number = |number: i8| Reply::Integer(i64::from(number));
    let access = if command.has(Flag::WRITE) { "RW" } else { "RO" };
    // The last key counts from the first, or from the end if it is negative.
    let last = if last < 0 { last } else { last - first };
    Some(Reply::map([
        ("flags", Reply::Set(vec![simple(access), simple("access")])),
        (
            "begin_search",
            Reply::map([
                ("type", Reply::word("index")),
                ("spec", Reply::map([("index", number(first))])),
            ]),
        ),
        (
            "find_keys",
            Reply::map([
                ("type", Reply::word("range")),
                (
                    "spec",
                    Reply::map([
                        ("lastkey", number(last)),
                        ("keystep", number(step)),
                        ("limit", number(0)),
                    ]),
                ),
            ]),
        ),
    ]))
}

pub(super) fn docs(call: &Call<'_>) -> Decided {
    let document = |command: &'static Command| (Reply::word(command.name), document(command));
    let documents = if call.len() == 2 {
        table::top_level().map(document).collect()
    } else {
        call.arguments.skip(2).filter_map(table::named).map(document).collect()
    };
    Ok(Step::Done(Reply::Map(documents)))
}

fn document(command: &'static Command) -> Reply {
    let mut facts = vec![
        (Reply::word("summary"), Reply::word(command.summary)),
        (Reply::word("since"), Reply::word(command.since)),
        (Reply::word("group"), Reply::word(command.group.name())),
    ];
    let subcommands: Vec<_> = table::subcommands(command.name)
        .map(|sub| (Reply::word(sub.name), document(sub)))
        .collect();
    if !subcommands.is_empty() {
        facts.push((Reply::word("subcommands"), Reply::Map(subcommands)));
    }
    Reply::Map(facts)
}

/// `COMMAND LIST [FILTERBY MODULE name|ACLCAT category|PATTERN pattern]`.
pub(super) fn list(call: &Call<'_>) -> Decided {
    let names = |wanted: &dyn Fn(&Command) -> bool| {
        let names = table::top_level().filter(|command| wanted(command));
        Ok(Step::Done(Reply::Array(names.map(|command| Reply::word(command.name)).collect())))
    };
    match call.len() {
        2 => names(&|_| true),
        5 if call.is(2, "FILTERBY") && call.is(3, "MODULE") => names(&|_| false),
        5 if call.is(2, "FILTERBY") && call.is(3, "ACLCAT") => {
            let category = call.text(4).to_ascii_lowercase();
            names(&|command| command.categories().contains(&category.as_str()))
        }
        5 if call.is(2, "FILTERBY") && call.is(3, "PATTERN") => {
            let pattern = call.get(4).to_ascii_lowercase();
            if pattern.len() > glob::PATTERN_BYTES_MAX {
                return Err(syntax_error());
            }
            names(&|command| glob::matches(&pattern, command.name.as_bytes()))
        }
        _ => Err(syntax_error()),
    }
}

pub(super) fn getkeys(call: &Call<'_>) -> Decided {
    let container =
        call.len() > 3 && table::named(call.get(2)).is_some_and(|named| named.has(Flag::CONTAINER));
    let full =
        if container { [call.get(2), b"|", call.get(3)].concat() } else { call.get(2).to_vec() };
    let command =
        table::named(&full).ok_or_else(|| Reply::error("ERR Invalid command specified"))?;
    let count = call.len() - 2;
    if command.keys.0 == 0 && !command.has(Flag::MOVABLEKEYS) {
        return Err(Reply::error("ERR The command has no key arguments"));
    }
    if !command.takes(count) {
        return Err(Reply::error("ERR Invalid number of arguments specified for command"));
    }
    let places: Vec<usize> = if command.has(Flag::MOVABLEKEYS) {
        let keys = usize::try_from(call.integer(4)?).unwrap_or(0);
        (3..count.min(keys.saturating_add(3))).collect()
    } else {
        command.key_places(count).collect()
    };
    let keys = places.into_iter().map(|place| Reply::copy(call.get(place + 2)));
    Ok(Step::Done(Reply::Array(keys.collect())))
}

/// The subcommands of a command, two lines each.
pub(super) fn help(call: &Call<'_>) -> Decided {
    let parent = call.command.parent().unwrap_or_default();
    let title = format!(
        "{} <subcommand> [<arg> [value] [opt] ...]. Subcommands are:",
        parent.to_ascii_uppercase()
    );
    let mut lines = vec![Reply::Simple(title.into())];
    for command in table::subcommands(parent) {
        let name = command.name.split_once('|').map_or("", |(_, name)| name);
        lines.push(Reply::Simple(name.to_ascii_uppercase().into()));
        lines.push(Reply::Simple(format!("    {}", command.summary).into()));
    }
    Ok(Step::Done(Reply::Array(lines)))
}
