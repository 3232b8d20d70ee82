//! The table of commands: the one place that knows their names, arities, flags, keys and handlers.

use std::collections::HashMap;
use std::sync::LazyLock;

use foldhash::fast::FixedState;

use super::super::arguments::Arguments;
use super::super::encode::Reply;
use super::{
    Call, Decided, acl, client, cluster, config, conversation, expiry, info, introspect, keyspace,
    moim, refused, script, server, strings, transaction, walk,
};

/// Properties of a command, as bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Flag(u32);

impl Flag {
    pub(crate) const NONE: Self = Self(0);
    pub(crate) const WRITE: Self = Self(1);
    pub(crate) const READONLY: Self = Self(1 << 1);
    pub(crate) const DENYOOM: Self = Self(1 << 2);
    pub(crate) const ADMIN: Self = Self(1 << 3);
    pub(crate) const NOSCRIPT: Self = Self(1 << 4);
    pub(crate) const LOADING: Self = Self(1 << 5);
    pub(crate) const STALE: Self = Self(1 << 6);
    pub(crate) const FAST: Self = Self(1 << 7);
    pub(crate) const NO_AUTH: Self = Self(1 << 8);
    pub(crate) const NO_MULTI: Self = Self(1 << 9);
    pub(crate) const MOVABLEKEYS: Self = Self(1 << 10);
    pub(crate) const ALLOW_BUSY: Self = Self(1 << 11);
    /// Not shown: in the category of dangerous commands without being for administrators.
    pub(crate) const DANGEROUS: Self = Self(1 << 16);
    /// Not shown: runs when all before it are answered.
    pub(crate) const ALONE: Self = Self(1 << 17);
    /// Not shown: is executed, not queued, between `MULTI` and `EXEC`.
    pub(crate) const IN_MULTI: Self = Self(1 << 18);
    /// Not shown: has subcommands.
    pub(crate) const CONTAINER: Self = Self(1 << 19);
    /// Not shown: is no command but stands for those that are unknown.
    pub(crate) const HIDDEN: Self = Self(1 << 20);

    /// The flags that `COMMAND` shows, by name.
    pub(crate) const SHOWN: [(Self, &'static str); 12] = [
        (Self::WRITE, "write"),
        (Self::READONLY, "readonly"),
        (Self::DENYOOM, "denyoom"),
        (Self::ADMIN, "admin"),
        (Self::NOSCRIPT, "noscript"),
        (Self::LOADING, "loading"),
        (Self::STALE, "stale"),
        (Self::FAST, "fast"),
        (Self::NO_AUTH, "no_auth"),
        (Self::NO_MULTI, "no_multi"),
        (Self::MOVABLEKEYS, "movablekeys"),
        (Self::ALLOW_BUSY, "allow_busy"),
    ];

    const fn and(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

/// What a command is about: Redis's groups, and ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Group {
    Generic,
    String,
    Connection,
    Server,
    Transactions,
    Scripting,
    Cluster,
    Moim,
}

impl Group {
    /// Its name in `COMMAND DOCS`.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Generic => "generic",
            Self::String => "string",
            Self::Connection => "connection",
            Self::Server => "server",
            Self::Transactions => "transactions",
            Self::Scripting => "scripting",
            Self::Cluster => "cluster",
            Self::Moim => "moim",
        }
    }
}

/// One command.
#[derive(Debug)]
pub(crate) struct Command {
    /// Its name, lower case; with a subcommand as `client|list`.
    pub(crate) name: &'static str,
    /// How many arguments it takes, its names included; if negative, at least so many.
    pub(crate) arity: i8,
    pub(crate) flags: Flag,
    /// Where its keys are: first, last (negative counts from the end) and step; no keys if the first is 0.
    pub(crate) keys: (i8, i8, i8),
    pub(crate) group: Group,
    /// The version of Redis (or of Moim) that brought it.
    pub(crate) since: &'static str,
    pub(crate) summary: &'static str,
    pub(crate) run: fn(&Call<'_>) -> Decided,
}

impl Command {
    /// Whether it has a flag.
    pub(crate) fn has(&self, flag: Flag) -> bool {
        self.flags.0 & flag.0 != 0
    }

    /// Whether it takes so many arguments, its names included.
    pub(crate) fn takes(&self, count: usize) -> bool {
        let named = usize::from(self.arity.unsigned_abs());
        if self.arity < 0 { count >= named } else { count == named }
    }

    /// Where its keys are among `count` arguments.
    pub(crate) fn key_places(&self, count: usize) -> impl Iterator<Item = usize> {
        let (first, last, step) = self.keys;
        let at = |place: i8| match usize::try_from(place) {
            Ok(place) => place,
            Err(_) => count.saturating_sub(usize::from(place.unsigned_abs())),
        };
        let end = if first == 0 { 0 } else { (at(last) + 1).min(count) };
        (at(first)..end).step_by(usize::from(step.unsigned_abs()).max(1))
    }

    /// Its categories, as `ACL CAT` names them.
    pub(crate) fn categories(&self) -> Vec<&'static str> {
        let mut categories = Vec::new();
        let mut add = |name, condition| {
            if condition {
                categories.push(name);
            }
        };
        add("keyspace", self.group == Group::Generic && self.name != "wait");
        add("read", self.has(Flag::READONLY));
        add("write", self.has(Flag::WRITE));
        add("string", self.group == Group::String);
        add("admin", self.has(Flag::ADMIN));
        add("fast", self.has(Flag::FAST));
        add("slow", !self.has(Flag::FAST));
        add("dangerous", self.has(Flag::ADMIN) || self.has(Flag::DANGEROUS));
        add("connection", self.group == Group::Connection);
        add("transaction", self.group == Group::Transactions);
        add("scripting", self.group == Group::Scripting);
        categories
    }

    /// The name of the command it belongs to, if it is a subcommand.
    pub(crate) fn parent(&self) -> Option<&'static str> {
        self.name.split_once('|').map(|(parent, _)| parent)
    }
}

macro_rules! commands {
    ($($name:literal $arity:literal [$($flag:ident)*] ($first:literal $last:literal $step:literal)
        $group:ident $since:literal $run:path, $summary:literal;)*) => {
        &[$(Command {
            name: $name,
            arity: $arity,
            flags: Flag::NONE$(.and(Flag::$flag))*,
            keys: ($first, $last, $step),
            group: Group::$group,
            since: $since,
            summary: $summary,
            run: $run,
        }),*]
    };
}

/// The place of what stands for unknown commands.
pub(crate) const UNKNOWN: usize = 0;

#[rustfmt::skip]
const COMMANDS: &[Command] = commands! {
    "unknown" -1 [HIDDEN] (0 0 0) Server "0.1.0" refused::unknown, "Stands for commands that do not exist.";

    // Strings.
    "get" 2 [READONLY FAST] (1 1 1) String "1.0.0" strings::get, "Gives the value of a key.";
    "set" -3 [WRITE DENYOOM] (1 1 1) String "1.0.0" strings::set, "Sets the value of a key.";
    "setex" 4 [WRITE DENYOOM] (1 1 1) String "2.0.0" strings::setex, "Sets a value that expires after seconds.";
    "psetex" 4 [WRITE DENYOOM] (1 1 1) String "2.6.0" strings::psetex, "Sets a value that expires after milliseconds.";
    "setnx" 3 [WRITE DENYOOM FAST] (1 1 1) String "1.0.0" strings::setnx, "Sets a value if the key has none.";
    "getset" 3 [WRITE DENYOOM FAST] (1 1 1) String "1.0.0" strings::getset, "Sets a value and gives the former one.";
    "getdel" 2 [WRITE FAST] (1 1 1) String "6.2.0" strings::getdel, "Gives the value and deletes the key.";
    "getex" -2 [WRITE FAST] (1 1 1) String "6.2.0" strings::getex, "Gives the value and sets its expiry.";
    "mget" -2 [READONLY FAST] (1 -1 1) String "1.0.0" strings::mget, "Gives the values of keys.";
    "mset" -3 [WRITE DENYOOM] (1 -1 2) String "1.0.1" strings::mset, "Sets values, each by itself.";
    "msetnx" -3 [WRITE DENYOOM] (1 -1 2) String "1.0.1" strings::msetnx, "Sets values if none of the keys has one.";
    "append" 3 [WRITE DENYOOM FAST] (1 1 1) String "2.0.0" strings::append, "Appends to a value.";
    "strlen" 2 [READONLY FAST] (1 1 1) String "2.2.0" strings::strlen, "Gives the length of a value.";
    "getrange" 4 [READONLY] (1 1 1) String "2.4.0" strings::getrange, "Gives a part of a value.";
    "substr" 4 [READONLY] (1 1 1) String "1.0.0" strings::getrange, "Gives a part of a value.";
    "setrange" 4 [WRITE DENYOOM] (1 1 1) String "2.2.0" strings::setrange, "Overwrites a part of a value.";
    "incr" 2 [WRITE DENYOOM FAST] (1 1 1) String "1.0.0" strings::incr, "Adds one to an integer.";
    "decr" 2 [WRITE DENYOOM FAST] (1 1 1) String "1.0.0" strings::decr, "Takes one from an integer.";
    "incrby" 3 [WRITE DENYOOM FAST] (1 1 1) String "1.0.0" strings::incrby, "Adds to an integer.";
    "decrby" 3 [WRITE DENYOOM FAST] (1 1 1) String "1.0.0" strings::decrby, "Takes from an integer.";
    "incrbyfloat" 3 [WRITE DENYOOM FAST] (1 1 1) String "2.6.0" strings::incrbyfloat, "Adds to a number.";

    // Expiry.
    "expire" -3 [WRITE FAST] (1 1 1) Generic "1.0.0" expiry::expire, "Sets an expiry in seconds from now.";
    "pexpire" -3 [WRITE FAST] (1 1 1) Generic "2.6.0" expiry::expire, "Sets an expiry in milliseconds from now.";
    "expireat" -3 [WRITE FAST] (1 1 1) Generic "1.2.0" expiry::expire, "Sets an expiry as Unix seconds.";
    "pexpireat" -3 [WRITE FAST] (1 1 1) Generic "2.6.0" expiry::expire, "Sets an expiry as Unix milliseconds.";
    "ttl" 2 [READONLY FAST] (1 1 1) Generic "1.0.0" expiry::ttl, "Gives the seconds a key has left.";
    "pttl" 2 [READONLY FAST] (1 1 1) Generic "2.6.0" expiry::pttl, "Gives the milliseconds a key has left.";
    "expiretime" 2 [READONLY FAST] (1 1 1) Generic "7.0.0" expiry::expiretime, "Gives the Unix second a key expires at.";
    "pexpiretime" 2 [READONLY FAST] (1 1 1) Generic "7.0.0" expiry::pexpiretime, "Gives the Unix millisecond a key expires at.";
    "persist" 2 [WRITE FAST] (1 1 1) Generic "2.2.0" expiry::persist, "Removes the expiry of a key.";

    // Keys.
    "del" -2 [WRITE] (1 -1 1) Generic "1.0.0" keyspace::del, "Deletes keys, each by itself.";
    "unlink" -2 [WRITE FAST] (1 -1 1) Generic "4.0.0" keyspace::del, "Deletes keys, each by itself.";
    "exists" -2 [READONLY FAST] (1 -1 1) Generic "1.0.0" keyspace::exists, "Counts which of the keys have a value.";
    "touch" -2 [READONLY FAST] (1 -1 1) Generic "3.2.1" keyspace::exists, "Counts which of the keys have a value.";
    "type" 2 [READONLY FAST] (1 1 1) Generic "1.0.0" keyspace::kind, "Names the type of a value.";
    "rename" 3 [WRITE] (1 2 1) Generic "1.0.0" keyspace::rename, "Copies a key to another and deletes it.";
    "renamenx" 3 [WRITE FAST] (1 2 1) Generic "1.0.0" keyspace::rename, "Renames a key unless the new one has a value.";
    "copy" -3 [WRITE DENYOOM] (1 2 1) Generic "6.2.0" keyspace::copy, "Copies a key to another.";
    "keys" 2 [READONLY DANGEROUS] (0 0 0) Generic "1.0.0" walk::keys, "Lists the keys that match a pattern.";
    "scan" -2 [READONLY] (0 0 0) Generic "2.8.0" walk::scan, "Lists keys, a page at a time.";
    "randomkey" 1 [READONLY] (0 0 0) Generic "1.0.0" walk::randomkey, "Gives some key.";
    "dbsize" 1 [READONLY FAST] (0 0 0) Server "1.0.0" walk::dbsize, "Counts the keys of the namespace, one by one.";
    "flushdb" -1 [WRITE DANGEROUS] (0 0 0) Server "1.0.0" walk::flushdb, "Deletes all keys of the namespace, one by one.";
    "flushall" -1 [WRITE DANGEROUS] (0 0 0) Server "1.0.0" walk::flushall, "Deletes all keys of all namespaces, one by one.";
    "object" -2 [CONTAINER] (0 0 0) Generic "2.2.3" refused::subcommand, "Tells about a value.";
    "object|encoding" 3 [READONLY] (2 2 1) Generic "2.2.3" keyspace::encoding, "Names how Redis would keep the value.";
    "object|freq" 3 [READONLY] (2 2 1) Generic "4.0.0" keyspace::freq, "Not tracked: nothing is evicted.";
    "object|idletime" 3 [READONLY] (2 2 1) Generic "2.2.3" keyspace::idletime, "Gives the seconds since the value was written.";
    "object|refcount" 3 [READONLY] (2 2 1) Generic "2.2.3" keyspace::refcount, "Always 1.";
    "object|help" 2 [LOADING STALE] (0 0 0) Generic "6.2.0" introspect::help, "Lists the subcommands.";
    "memory" -2 [CONTAINER] (0 0 0) Server "4.0.0" refused::subcommand, "Tells about memory.";
    "memory|usage" -3 [READONLY] (2 2 1) Server "4.0.0" keyspace::memory, "Estimates the bytes one replica keeps for a key.";
    "memory|help" 2 [LOADING STALE] (0 0 0) Server "4.0.0" introspect::help, "Lists the subcommands.";

    // Connection.
    "ping" -1 [FAST] (0 0 0) Connection "1.0.0" conversation::ping, "Answers.";
    "echo" 2 [LOADING STALE FAST] (0 0 0) Connection "1.0.0" conversation::echo, "Answers with its argument.";
    "select" 2 [LOADING STALE FAST] (0 0 0) Connection "1.0.0" conversation::select, "Chooses the namespace: a number or a name.";
    "auth" -2 [NOSCRIPT LOADING STALE FAST NO_AUTH ALLOW_BUSY ALONE] (0 0 0) Connection "1.0.0" conversation::auth, "Logs in.";
    "hello" -1 [NOSCRIPT LOADING STALE FAST NO_AUTH ALLOW_BUSY ALONE] (0 0 0) Connection "6.0.0" conversation::hello, "Chooses the protocol, and logs in.";
    "quit" -1 [NOSCRIPT LOADING STALE FAST NO_AUTH ALLOW_BUSY IN_MULTI] (0 0 0) Connection "1.0.0" conversation::quit, "Closes the connection.";
    "reset" 1 [NOSCRIPT LOADING STALE FAST NO_AUTH ALLOW_BUSY ALONE IN_MULTI] (0 0 0) Connection "6.2.0" conversation::reset, "Begins anew.";
    "client" -2 [CONTAINER] (0 0 0) Connection "2.4.0" refused::subcommand, "Tells about connections.";
    "client|id" 2 [NOSCRIPT LOADING STALE] (0 0 0) Connection "5.0.0" client::id, "Gives the number of this connection.";
    "client|getname" 2 [NOSCRIPT LOADING STALE] (0 0 0) Connection "2.6.9" client::getname, "Gives the name of this connection.";
    "client|setname" 3 [NOSCRIPT LOADING STALE] (0 0 0) Connection "2.6.9" client::setname, "Names this connection.";
    "client|setinfo" 4 [NOSCRIPT LOADING STALE] (0 0 0) Connection "7.2.0" client::setinfo, "Names the library of this connection.";
    "client|info" 2 [NOSCRIPT LOADING STALE] (0 0 0) Connection "6.2.0" client::info, "Describes this connection.";
    "client|list" -2 [ADMIN NOSCRIPT LOADING STALE] (0 0 0) Connection "2.4.0" client::list, "Describes the connections of this node.";
    "client|kill" -3 [ADMIN NOSCRIPT LOADING STALE] (0 0 0) Connection "2.4.0" client::kill, "Closes connections of this node.";
    "client|no-evict" 3 [ADMIN NOSCRIPT LOADING STALE] (0 0 0) Connection "7.0.0" client::no_evict, "Remembered; nothing is evicted.";
    "client|no-touch" 3 [NOSCRIPT LOADING STALE] (0 0 0) Connection "7.2.0" client::no_touch, "Remembered; reads leave no trace.";
    "client|reply" 3 [NOSCRIPT LOADING STALE ALONE] (0 0 0) Connection "3.2.0" client::reply, "Chooses whether commands are answered.";
    "client|unblock" -3 [ADMIN NOSCRIPT LOADING STALE] (0 0 0) Connection "5.0.0" client::unblock, "Always 0: no command blocks.";
    "client|help" 2 [LOADING STALE] (0 0 0) Connection "5.0.0" introspect::help, "Lists the subcommands.";

    // Server.
    "command" -1 [LOADING STALE CONTAINER] (0 0 0) Server "2.8.13" introspect::command, "Describes all commands.";
    "command|count" 2 [LOADING STALE] (0 0 0) Server "2.8.13" introspect::count, "Counts the commands.";
    "command|info" -2 [LOADING STALE] (0 0 0) Server "2.8.13" introspect::info, "Describes commands.";
    "command|docs" -2 [LOADING STALE] (0 0 0) Server "7.0.0" introspect::docs, "Documents commands.";
    "command|list" -2 [LOADING STALE] (0 0 0) Server "7.0.0" introspect::list, "Names commands.";
    "command|getkeys" -3 [LOADING STALE] (0 0 0) Server "2.8.13" introspect::getkeys, "Tells which arguments of a command are keys.";
    "command|help" 2 [LOADING STALE] (0 0 0) Server "5.0.0" introspect::help, "Lists the subcommands.";
    "info" -1 [LOADING STALE DANGEROUS] (0 0 0) Server "1.0.0" info::info, "Tells about this node.";
    "config" -2 [CONTAINER] (0 0 0) Server "2.0.0" refused::subcommand, "Reads and changes settings of this node.";
    "config|get" -3 [ADMIN NOSCRIPT LOADING STALE] (0 0 0) Server "2.0.0" config::get, "Gives settings.";
    "config|set" -4 [ADMIN NOSCRIPT LOADING STALE] (0 0 0) Server "2.0.0" config::set, "Changes settings until the node restarts.";
    "config|resetstat" 2 [ADMIN NOSCRIPT LOADING STALE] (0 0 0) Server "2.0.0" config::resetstat, "Begins counting anew.";
    "config|rewrite" 2 [ADMIN NOSCRIPT LOADING STALE] (0 0 0) Server "2.8.0" config::rewrite, "Refused: the file is the operator's.";
    "config|help" 2 [LOADING STALE] (0 0 0) Server "5.0.0" introspect::help, "Lists the subcommands.";
    "time" 1 [LOADING STALE FAST] (0 0 0) Server "2.6.0" server::time, "Gives the time of this node.";
    "role" 1 [NOSCRIPT LOADING STALE FAST ADMIN] (0 0 0) Server "2.8.12" server::role, "Always master: all nodes are equal.";
    "lolwut" -1 [READONLY FAST] (0 0 0) Server "5.0.0" server::lolwut, "Says what this is.";
    "wait" 3 [NOSCRIPT ALONE] (0 0 0) Generic "3.0.0" server::wait, "Counts the other replicas that each write reaches.";
    "save" 1 [ADMIN NOSCRIPT NO_MULTI] (0 0 0) Server "1.0.0" server::save, "Nothing to do: writes are kept as they are acknowledged.";
    "bgsave" -1 [ADMIN NOSCRIPT] (0 0 0) Server "1.0.0" server::bgsave, "Nothing to do: writes are kept as they are acknowledged.";
    "lastsave" 1 [LOADING STALE FAST DANGEROUS] (0 0 0) Server "1.0.0" server::lastsave, "Now: writes are kept as they are acknowledged.";
    "latency" -2 [CONTAINER] (0 0 0) Server "2.8.13" refused::subcommand, "Tells about slow events: see the metrics.";
    "latency|latest" 2 [ADMIN NOSCRIPT LOADING STALE] (0 0 0) Server "2.8.13" server::nothing, "Nothing: latency is in the metrics.";
    "latency|history" 3 [ADMIN NOSCRIPT LOADING STALE] (0 0 0) Server "2.8.13" server::nothing, "Nothing: latency is in the metrics.";
    "latency|reset" -2 [ADMIN NOSCRIPT LOADING STALE] (0 0 0) Server "2.8.13" server::none, "Nothing to reset.";
    "latency|doctor" 2 [ADMIN NOSCRIPT LOADING STALE] (0 0 0) Server "2.8.13" server::doctor, "Points to the metrics.";
    "latency|histogram" -2 [ADMIN NOSCRIPT LOADING STALE] (0 0 0) Server "7.0.0" server::histogram, "Gives the latencies of commands.";
    "latency|help" 2 [LOADING STALE] (0 0 0) Server "2.8.13" introspect::help, "Lists the subcommands.";
    "slowlog" -2 [CONTAINER] (0 0 0) Server "2.2.12" refused::subcommand, "Empty: keys and values are kept out of logs.";
    "slowlog|get" -2 [ADMIN LOADING STALE] (0 0 0) Server "2.2.12" server::slowlog_get, "Always empty.";
    "slowlog|len" 2 [ADMIN LOADING STALE] (0 0 0) Server "2.2.12" server::none, "Always 0.";
    "slowlog|reset" 2 [ADMIN LOADING STALE] (0 0 0) Server "2.2.12" server::ok, "Nothing to reset.";
    "slowlog|help" 2 [LOADING STALE] (0 0 0) Server "6.2.0" introspect::help, "Lists the subcommands.";
    "acl" -2 [CONTAINER] (0 0 0) Server "6.0.0" refused::subcommand, "Tells about users.";
    "acl|whoami" 2 [NOSCRIPT LOADING STALE] (0 0 0) Server "6.0.0" acl::whoami, "Names the user of this connection.";
    "acl|cat" -2 [NOSCRIPT LOADING STALE] (0 0 0) Server "6.0.0" acl::cat, "Lists categories, or the commands of one.";
    "acl|list" 2 [ADMIN NOSCRIPT LOADING STALE] (0 0 0) Server "6.0.0" acl::list, "Lists users and their rules.";
    "acl|users" 2 [ADMIN NOSCRIPT LOADING STALE] (0 0 0) Server "6.0.0" acl::users, "Lists users.";
    "acl|getuser" 3 [ADMIN NOSCRIPT LOADING STALE] (0 0 0) Server "6.0.0" acl::getuser, "Describes a user.";
    "acl|setuser" -3 [ADMIN NOSCRIPT LOADING STALE] (0 0 0) Server "6.0.0" acl::not_yet, "Refused for now: there is one user.";
    "acl|deluser" -3 [ADMIN NOSCRIPT LOADING STALE] (0 0 0) Server "6.0.0" acl::not_yet, "Refused for now: there is one user.";
    "acl|help" 2 [LOADING STALE] (0 0 0) Server "6.0.0" introspect::help, "Lists the subcommands.";

    // Transactions and scripts.
    "multi" 1 [NOSCRIPT LOADING STALE FAST ALLOW_BUSY IN_MULTI] (0 0 0) Transactions "1.2.0" transaction::multi, "Queues what follows.";
    "exec" 1 [NOSCRIPT LOADING STALE ALONE IN_MULTI] (0 0 0) Transactions "1.2.0" transaction::exec, "Executes what is queued, in order, not isolated.";
    "discard" 1 [NOSCRIPT LOADING STALE FAST ALLOW_BUSY IN_MULTI] (0 0 0) Transactions "2.0.0" transaction::discard, "Forgets what is queued.";
    "watch" -2 [NOSCRIPT LOADING STALE FAST ALLOW_BUSY ALONE IN_MULTI] (1 -1 1) Transactions "2.2.0" transaction::watch, "Has EXEC do nothing if a key has changed.";
    "unwatch" 1 [NOSCRIPT LOADING STALE FAST ALLOW_BUSY] (0 0 0) Transactions "2.2.0" transaction::unwatch, "Forgets what is watched.";
    "eval" -3 [NOSCRIPT STALE MOVABLEKEYS] (0 0 0) Scripting "2.6.0" script::eval, "Runs one of the few scripts that are known.";
    "evalsha" -3 [NOSCRIPT STALE MOVABLEKEYS] (0 0 0) Scripting "2.6.0" script::evalsha, "Runs one of the few scripts that are known.";
    "script" -2 [CONTAINER] (0 0 0) Scripting "2.6.0" refused::subcommand, "Tells about scripts.";
    "script|load" 3 [NOSCRIPT STALE] (0 0 0) Scripting "2.6.0" script::load, "Takes one of the few scripts that are known.";
    "script|exists" -3 [NOSCRIPT] (0 0 0) Scripting "2.6.0" script::exists, "Tells which scripts EVALSHA would run.";
    "script|flush" -2 [NOSCRIPT] (0 0 0) Scripting "2.6.0" script::flush, "Forgets the scripts that were loaded.";
    "script|help" 2 [LOADING STALE] (0 0 0) Scripting "5.0.0" introspect::help, "Lists the subcommands.";
    "function" -2 [CONTAINER] (0 0 0) Scripting "7.0.0" refused::subcommand, "Tells about functions: there are none.";
    "function|flush" -2 [NOSCRIPT WRITE] (0 0 0) Scripting "7.0.0" script::function_flush, "Nothing to flush.";
    "function|list" -2 [NOSCRIPT] (0 0 0) Scripting "7.0.0" server::nothing, "Always empty.";
    "function|help" 2 [LOADING STALE] (0 0 0) Scripting "7.0.0" introspect::help, "Lists the subcommands.";

    // Cluster.
    "cluster" -2 [CONTAINER] (0 0 0) Cluster "3.0.0" refused::subcommand, "Tells about the cluster.";
    "cluster|slots" 2 [STALE] (0 0 0) Cluster "3.0.0" cluster::slots, "Gives slots and the node that leads each.";
    "cluster|shards" 2 [STALE] (0 0 0) Cluster "7.0.0" cluster::shards, "Gives nodes and the slots each leads.";
    "cluster|nodes" 2 [STALE] (0 0 0) Cluster "3.0.0" cluster::nodes, "Gives nodes and the slots each leads, as text.";
    "cluster|info" 2 [STALE] (0 0 0) Cluster "3.0.0" cluster::info, "Tells how the cluster is.";
    "cluster|myid" 2 [STALE] (0 0 0) Cluster "3.0.0" cluster::myid, "Gives the id of this node.";
    "cluster|links" 2 [STALE] (0 0 0) Cluster "7.0.0" server::nothing, "Always empty: see MOIM.NODES.";
    "cluster|replicas" 3 [ADMIN STALE] (0 0 0) Cluster "5.0.0" server::nothing, "Always empty: every node is a master.";
    "cluster|keyslot" 3 [STALE] (0 0 0) Cluster "3.0.0" cluster::keyslot, "Gives the slot of a key.";
    "cluster|countkeysinslot" 3 [STALE] (0 0 0) Cluster "3.0.0" cluster::countkeysinslot, "Counts the keys of a slot.";
    "cluster|getkeysinslot" 4 [STALE] (0 0 0) Cluster "3.0.0" cluster::getkeysinslot, "Lists keys of a slot.";
    "cluster|help" 2 [LOADING STALE] (0 0 0) Cluster "5.0.0" introspect::help, "Lists the subcommands.";
    "readonly" 1 [LOADING STALE FAST] (0 0 0) Connection "3.0.0" server::ok, "Nothing to change: every node reads.";
    "readwrite" 1 [LOADING STALE FAST] (0 0 0) Connection "3.0.0" server::ok, "Nothing to change: every node writes.";
    "asking" 1 [FAST] (0 0 0) Connection "3.0.0" server::ok, "Nothing to change: no node redirects with -ASK.";

    // Moim.
    "moim.get" -2 [READONLY] (1 1 1) Moim "0.1.0" moim::get, "Gives context and siblings of a key.";
    "moim.put" -3 [WRITE DENYOOM] (1 1 1) Moim "0.1.0" moim::put, "Sets a value in place of what the context covers.";
    "moim.del" -2 [WRITE] (1 1 1) Moim "0.1.0" moim::del, "Deletes what the context covers.";
    "moim.level" -1 [FAST] (0 0 0) Moim "0.1.0" moim::level_command, "Shows and sets the levels of this connection.";
    "moim.ring" -1 [READONLY] (0 0 0) Moim "0.1.0" moim::ring, "Shows the ring, or where a key lies and what its replicas hold.";
    "moim.nodes" 1 [READONLY] (0 0 0) Moim "0.1.0" moim::nodes, "Lists the nodes as seen from here.";
    "moim.info" 1 [READONLY] (0 0 0) Moim "0.1.0" moim::info, "Tells about this node and the namespace.";
};

/// The longest name of a command, `|` and subcommand included; a longer one is unknown.
const NAME_BYTES_MAX: usize = 48;

static BY_NAME: LazyLock<HashMap<&'static [u8], usize, FixedState>> = LazyLock::new(|| {
    let listed = COMMANDS.iter().enumerate().filter(|(_, command)| !command.has(Flag::HIDDEN));
    listed.map(|(index, command)| (command.name.as_bytes(), index)).collect()
});

/// All commands in the order of the table, what stands for unknown ones included.
pub(crate) fn all() -> impl ExactSizeIterator<Item = &'static Command> {
    COMMANDS.iter()
}

/// All commands that exist, subcommands included.
pub(crate) fn listed() -> impl Iterator<Item = &'static Command> + Clone {
    COMMANDS.iter().filter(|command| !command.has(Flag::HIDDEN))
}

/// All commands that exist, subcommands apart.
pub(crate) fn top_level() -> impl Iterator<Item = &'static Command> + Clone {
    listed().filter(|command| command.parent().is_none())
}

/// The subcommands of a command.
pub(crate) fn subcommands(parent: &'static str) -> impl Iterator<Item = &'static Command> + Clone {
    COMMANDS.iter().filter(move |command| command.parent() == Some(parent))
}

/// The command at a place.
pub(crate) fn at(index: usize) -> &'static Command {
    &COMMANDS[index]
}

/// The command with this name, in any case; `name|sub` for subcommands.
pub(crate) fn named(name: &[u8]) -> Option<&'static Command> {
    find_name(name, None).map(at)
}

/// The command that is called by this name alone.
fn called(name: &[u8]) -> Option<usize> {
    find_name(name, None).filter(|index| at(*index).parent().is_none())
}

/// The command that these arguments call, and its place, or the error that says that there is none.
pub(crate) fn find(arguments: Arguments<'_>) -> Result<(usize, &'static Command), Reply> {
    let Some(index) = called(arguments.get(0)) else {
        return Err(refused::unknown_command(arguments));
    };
    let command = at(index);
    if !command.has(Flag::CONTAINER) || arguments.len() < 2 {
        return Ok((index, command));
    }
    match find_name(arguments.get(0), Some(arguments.get(1))) {
        Some(index) => Ok((index, at(index))),
        None => Err(refused::unknown_subcommand(command, arguments.get(1))),
    }
}

fn find_name(name: &[u8], subcommand: Option<&[u8]>) -> Option<usize> {
    let mut text = [0_u8; NAME_BYTES_MAX];
    let mut length = 0;
    let mut put = |bytes: &[u8]| {
        text.get_mut(length..length + bytes.len())?.copy_from_slice(bytes);
        length += bytes.len();
        Some(())
    };
    put(name)?;
    if let Some(subcommand) = subcommand {
        put(b"|")?;
        put(subcommand)?;
    }
    let text = &mut text[..length];
    text.make_ascii_lowercase();
    BY_NAME.get(&*text).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row_is_sound() {
        assert!(at(UNKNOWN).has(Flag::HIDDEN));
        assert_eq!(BY_NAME.len(), COMMANDS.len() - 1, "each name is there once");
        for command in all() {
            assert!(command.name.len() <= NAME_BYTES_MAX, "{}", command.name);
            assert_eq!(command.name, command.name.to_ascii_lowercase());
            assert!(command.summary.ends_with('.'), "{}", command.name);
            assert!(!(command.has(Flag::WRITE) && command.has(Flag::READONLY)), "{}", command.name);
            if let Some(parent) = command.parent() {
                assert!(named(parent.as_bytes()).unwrap().has(Flag::CONTAINER), "{}", command.name);
            }
            if command.has(Flag::CONTAINER) {
                let help = format!("{}|help", command.name);
                assert!(named(help.as_bytes()).is_some(), "{help} is missing");
            }
        }
    }

    #[test]
    fn keys_are_where_the_row_says() {
        let places = |name: &str, count| {
            named(name.as_bytes()).unwrap().key_places(count).collect::<Vec<_>>()
        };
        assert_eq!(places("get", 2), [1]);
        assert_eq!(places("MSET", 5), [1, 3]);
        assert_eq!(places("del", 4), [1, 2, 3]);
        assert_eq!(places("rename", 3), [1, 2]);
        assert_eq!(places("object|encoding", 3), [2]);
        assert_eq!(places("ping", 1), [0_usize; 0]);
    }
}
