//! Commands that there are not, and why.
//!
//! What Redis has and Moim does not have yet gets Redis's own words for an unknown command: libraries know them and fall
//! back. What a store without leaders cannot keep says so, and why, because no later version will have it either.

use super::super::arguments::Arguments;
use super::super::encode::Reply;
use super::table::Command;
use super::{Call, Decided};

/// Characters of a client's words that are repeated in an error.
const QUOTED_MAX: usize = 128;

const BLOCKING: &str = "whoever waits must be served by one node in order, and no node of Moim leads a key; poll instead";
const CHANNELS: &str =
    "Moim keeps values and carries no messages between clients; use a message broker beside it";
const STREAMS: &str =
    "the order of a stream's entries needs one node that leads it, and no node of Moim leads a key";
const REPLICATION: &str =
    "every node of Moim is an equal, so there is no replica to appoint and no stream to follow";
const OPERATOR: &str = "it is for the operator of a node: use the command line (moim --help)";
const ATOMIC: &str =
    "it would have to change all keys of two namespaces at one moment, on all nodes";
const TRACKING: &str =
    "a node does not see writes that other nodes take, so it cannot tell a client what has changed";

/// Redis's commands that cannot be kept without a leader, and why.
const NEVER: &[(&[&str], &str)] = &[
    (
        &[
            "blpop",
            "brpop",
            "brpoplpush",
            "blmove",
            "blmpop",
            "bzpopmin",
            "bzpopmax",
            "bzmpop",
            "waitaof",
        ],
        BLOCKING,
    ),
    (
        &[
            "subscribe",
            "psubscribe",
            "ssubscribe",
            "unsubscribe",
            "punsubscribe",
            "sunsubscribe",
            "publish",
            "spublish",
            "pubsub",
            "monitor",
        ],
        CHANNELS,
    ),
    (
        &[
            "xadd",
            "xread",
            "xreadgroup",
            "xrange",
            "xrevrange",
            "xlen",
            "xdel",
            "xtrim",
            "xgroup",
            "xack",
            "xclaim",
            "xautoclaim",
            "xpending",
            "xinfo",
            "xsetid",
        ],
        STREAMS,
    ),
    (
        &[
            "psync",
            "sync",
            "replicaof",
            "slaveof",
            "replconf",
            "failover",
            "cluster|replicate",
            "cluster|failover",
        ],
        REPLICATION,
    ),
    (
        &[
            "shutdown",
            "debug",
            "module",
            "bgrewriteaof",
            "cluster|meet",
            "cluster|forget",
            "cluster|reset",
            "cluster|addslots",
            "cluster|addslotsrange",
            "cluster|delslots",
            "cluster|delslotsrange",
            "cluster|setslot",
            "cluster|flushslots",
            "cluster|bumpepoch",
            "cluster|set-config-epoch",
            "cluster|saveconfig",
            "migrate",
            "client|pause",
            "client|unpause",
        ],
        OPERATOR,
    ),
    (&["swapdb"], ATOMIC),
    (&["client|tracking", "client|caching", "client|trackinginfo", "client|getredir"], TRACKING),
];

fn never(name: &str) -> Option<Reply> {
    let named = |(names, _): &&(&[&str], &str)| names.contains(&name);
    let (_, why) = NEVER.iter().find(named)?;
    Some(Reply::error(format!(
        "ERR {} is not served: {why}",
        name.to_ascii_uppercase().replace('|', " ")
    )))
}

fn quoted(bytes: &[u8]) -> String {
    String::from_utf8_lossy(&bytes[..bytes.len().min(QUOTED_MAX)]).into_owned()
}

/// The error of a command that there is not.
pub(super) fn unknown_command(arguments: Arguments<'_>) -> Reply {
    let name = quoted(arguments.get(0));
    if let Some(reply) = never(&name.to_ascii_lowercase()) {
        return reply;
    }
    let mut beginning = String::new();
    for argument in arguments.skip(1) {
        if beginning.len() >= QUOTED_MAX {
            break;
        }
        let room = QUOTED_MAX - beginning.len();
        let shown = String::from_utf8_lossy(&argument[..argument.len().min(room)]);
        beginning.extend(["'", &*shown, "' "]);
    }
    Reply::error(format!("ERR unknown command '{name}', with args beginning with: {beginning}"))
}

/// The error of a subcommand that there is not.
pub(super) fn unknown_subcommand(command: &Command, subcommand: &[u8]) -> Reply {
    let shown = quoted(subcommand);
    let full = format!("{}|{}", command.name, shown.to_ascii_lowercase());
    never(&full).unwrap_or_else(|| {
        let name = command.name.to_ascii_uppercase();
        Reply::error(format!("ERR unknown subcommand '{shown}'. Try {name} HELP."))
    })
}

/// Stands in the table for what does not exist; dispatch never gets here.
pub(super) fn unknown(call: &Call<'_>) -> Decided {
    Err(unknown_command(call.arguments))
}

/// A command that only has subcommands, called with one it does not have.
pub(super) fn subcommand(call: &Call<'_>) -> Decided {
    Err(unknown_subcommand(call.command, call.get(1)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resp::command::table;

    #[test]
    fn what_is_served_is_not_refused() {
        for (names, _) in NEVER {
            for name in *names {
                assert!(table::named(name.as_bytes()).is_none(), "{name} is in the table");
                assert!(never(name).is_some());
            }
        }
    }
}
