//! `CONFIG`: settings that clients and tools of Redis ask for. A few are real; most are remembered and shown so that
//! tools which set them go on; none is accepted that would promise what Moim does not do.

use std::collections::BTreeMap;

use super::super::encode::Reply;
use super::super::glob;
use super::super::number;
use super::super::settings::RespSettings;
use super::{Call, Decided, Step, syntax_error, wrong_arity};

/// How a setting may be changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// To any text.
    Text,
    /// To `yes` or `no`.
    YesNo,
    /// To an integer.
    Integer,
    /// To a number of bytes, perhaps with a unit.
    Bytes,
    /// To one of these.
    OneOf(&'static [&'static str]),
    /// Not while the node runs.
    Fixed,
}

/// Settings by name, with what they are until somebody changes them.
#[rustfmt::skip]
const SETTINGS: &[(&str, Kind, &str)] = &[
    ("activedefrag", Kind::YesNo, "no"),
    ("appendfsync", Kind::OneOf(&["everysec", "always", "no"]), "always"),
    ("appendonly", Kind::YesNo, "yes"),
    ("bind", Kind::Fixed, ""),
    ("client-output-buffer-limit", Kind::Text, ""),
    ("client-query-buffer-limit", Kind::Fixed, ""),
    ("databases", Kind::Fixed, "16"),
    ("hash-max-listpack-entries", Kind::Integer, "128"),
    ("hash-max-listpack-value", Kind::Integer, "64"),
    ("hash-max-ziplist-entries", Kind::Integer, "128"),
    ("hash-max-ziplist-value", Kind::Integer, "64"),
    ("hll-sparse-max-bytes", Kind::Integer, "3000"),
    ("hz", Kind::Integer, "10"),
    ("latency-monitor-threshold", Kind::Integer, "0"),
    ("lazyfree-lazy-eviction", Kind::YesNo, "no"),
    ("lazyfree-lazy-expire", Kind::YesNo, "no"),
    ("lazyfree-lazy-server-del", Kind::YesNo, "no"),
    ("lazyfree-lazy-user-del", Kind::YesNo, "no"),
    ("lazyfree-lazy-user-flush", Kind::YesNo, "no"),
    ("list-compress-depth", Kind::Integer, "0"),
    ("list-max-listpack-size", Kind::Integer, "-2"),
    ("list-max-ziplist-size", Kind::Integer, "-2"),
    ("lua-time-limit", Kind::Integer, "5000"),
    ("maxclients", Kind::Fixed, ""),
    ("maxmemory", Kind::Bytes, "0"),
    // The one promise among them: nothing is ever evicted.
    ("maxmemory-policy", Kind::OneOf(&["noeviction"]), "noeviction"),
    ("maxmemory-samples", Kind::Integer, "5"),
    ("notify-keyspace-events", Kind::Text, ""),
    ("proto-max-bulk-len", Kind::Fixed, ""),
    ("rdbcompression", Kind::YesNo, "yes"),
    ("replica-read-only", Kind::YesNo, "yes"),
    ("save", Kind::Text, ""),
    ("set-max-intset-entries", Kind::Integer, "512"),
    ("slave-read-only", Kind::YesNo, "yes"),
    ("slowlog-log-slower-than", Kind::Integer, "10000"),
    ("slowlog-max-len", Kind::Integer, "128"),
    ("stop-writes-on-bgsave-error", Kind::YesNo, "yes"),
    ("stream-node-max-bytes", Kind::Integer, "4096"),
    ("stream-node-max-entries", Kind::Integer, "100"),
    ("tcp-keepalive", Kind::Fixed, ""),
    ("timeout", Kind::Integer, "0"),
    ("zset-max-listpack-entries", Kind::Integer, "128"),
    ("zset-max-listpack-value", Kind::Integer, "64"),
    ("zset-max-ziplist-entries", Kind::Integer, "128"),
    ("zset-max-ziplist-value", Kind::Integer, "64"),
];

/// Settings that exist in Redis and that a client must not touch, as they name files, passwords and programs.
const PROTECTED: &[&str] = &[
    "dir",
    "dbfilename",
    "appendfilename",
    "requirepass",
    "masterauth",
    "logfile",
    "pidfile",
    "unixsocket",
    "aclfile",
];

/// Bytes of a setting's text.
const TEXT_BYTES_MAX: usize = 1_024;

/// What the settings are now.
#[derive(Debug)]
pub(crate) struct Configuration {
    values: BTreeMap<&'static str, String>,
    idle_timeout_ms: u64,
}

impl Configuration {
    /// As the operator has configured the node.
    pub(crate) fn new(settings: &RespSettings) -> Self {
        let defaults = SETTINGS.iter().map(|(name, _, value)| (*name, (*value).to_owned()));
        let mut values: BTreeMap<_, _> = defaults.collect();
        let output = settings.output_bytes_max;
        values.insert(
            "client-output-buffer-limit",
            format!("normal {output} 0 0 slave 0 0 0 pubsub 0 0 0"),
        );
        values.insert("client-query-buffer-limit", settings.query_bytes_max.to_string());
        values.insert("maxclients", settings.clients_max.to_string());
        values.insert("proto-max-bulk-len", settings.bulk_bytes_max.to_string());
        values.insert("tcp-keepalive", (settings.keepalive_ms / 1_000).to_string());
        values.insert("timeout", settings.idle_timeout_ms.div_ceil(1_000).to_string());
        Self { values, idle_timeout_ms: settings.idle_timeout_ms }
    }

    /// After how many milliseconds without a command a connection is closed, 0 for never.
    pub(crate) fn idle_timeout_ms(&self) -> u64 {
        self.idle_timeout_ms
    }

    fn set(&mut self, name: &'static str, value: String) {
        if name == "timeout" {
            let seconds = value.parse::<u64>().unwrap_or(0);
            self.idle_timeout_ms = seconds.saturating_mul(1_000);
        }
        self.values.insert(name, value);
    }
}

pub(super) fn get(call: &Call<'_>) -> Decided {
    let patterns: Vec<String> = call.arguments.skip(2).map(lower).collect();
    if patterns.iter().any(|pattern| pattern.len() > TEXT_BYTES_MAX) {
        return Err(syntax_error());
    }
    let configuration = call.front().configuration.borrow();
    let wanted = |name: &str| {
        patterns.iter().any(|pattern| glob::matches(pattern.as_bytes(), name.as_bytes()))
    };
    let found = configuration.values.iter().filter(|(name, _)| wanted(name));
    let pairs = found.map(|(name, value)| (Reply::word(name), Reply::text(value.clone())));
    Ok(Step::Done(Reply::Map(pairs.collect())))
}

fn lower(text: &[u8]) -> String {
    String::from_utf8_lossy(text).to_ascii_lowercase()
}

pub(super) fn set(call: &Call<'_>) -> Decided {
    if !call.len().is_multiple_of(2) {
        return Err(syntax_error());
    }
    let mut changes: Vec<(&'static str, String)> = Vec::new();
    for at in (2..call.len()).step_by(2) {
        let (name, value) = change(&lower(call.get(at)), &call.text(at + 1))?;
        if changes.iter().any(|(known, _)| *known == name) {
            return Err(failed(name, "duplicate parameter"));
        }
        changes.push((name, value));
    }
    for (name, value) in changes {
        call.front().configuration.borrow_mut().set(name, value);
    }
    // A connection that rests has set its alarm by the old timeout.
    call.front().each(|connection| connection.wake());
    Ok(Step::Done(Reply::OK))
}

fn failed(name: &str, why: &str) -> Reply {
    Reply::error(format!("ERR CONFIG SET failed (possibly related to argument '{name}') - {why}"))
}

/// The setting and its new text, if it may be changed so.
fn change(name: &str, value: &str) -> Result<(&'static str, String), Reply> {
    if PROTECTED.contains(&name) {
        return Err(failed(name, "can't set protected config"));
    }
    let Some((name, kind, _)) = SETTINGS.iter().find(|(known, ..)| *known == name) else {
        let text = format!("ERR Unknown option or number of arguments for CONFIG SET - '{name}'");
        return Err(Reply::error(text));
    };
    if value.len() > TEXT_BYTES_MAX {
        return Err(failed(name, "the value is too long"));
    }
    let word = value.to_ascii_lowercase();
    let canonical = match kind {
        Kind::Text => Ok(value.to_owned()),
        Kind::YesNo if word == "yes" || word == "no" => Ok(word),
        Kind::YesNo => Err("argument must be 'yes' or 'no'".to_owned()),
        Kind::Integer if number::integer(value.as_bytes()).is_some() => Ok(word),
        Kind::Integer => Err("argument couldn't be parsed into an integer".to_owned()),
        Kind::Bytes => bytes(&word).ok_or_else(|| "argument must be a memory value".to_owned()),
        Kind::OneOf(words) if words.contains(&word.as_str()) => Ok(word),
        Kind::OneOf(words) => {
            Err(format!("argument(s) must be one of the following: {}", words.join(", ")))
        }
        Kind::Fixed => Err("can't set immutable config".to_owned()),
    };
    canonical.map(|value| (*name, value)).map_err(|why| failed(name, &why))
}

/// A number of bytes with Redis's units, as a plain number.
fn bytes(text: &str) -> Option<String> {
    let digits = text.trim_end_matches(|letter: char| letter.is_ascii_lowercase());
    let factor: u64 = match &text[digits.len()..] {
        "" | "b" => 1,
        "k" => 1_000,
        "kb" => 1 << 10,
        "m" => 1_000_000,
        "mb" => 1 << 20,
        "g" => 1_000_000_000,
        "gb" => 1 << 30,
        _ => return None,
    };
    let number = digits.parse::<u64>().ok()?;
    Some(number.checked_mul(factor)?.to_string())
}

pub(super) fn resetstat(call: &Call<'_>) -> Decided {
    call.front().reset_figures();
    Ok(Step::Done(Reply::OK))
}

pub(super) fn rewrite(call: &Call<'_>) -> Decided {
    if call.len() > 2 {
        return Err(wrong_arity(call.command));
    }
    Err(Reply::error("ERR The server is running without a config file"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_are_sorted_and_can_be_set_to_themselves() {
        assert!(SETTINGS.windows(2).all(|pair| pair[0].0 < pair[1].0));
        for (name, kind, value) in SETTINGS {
            let again = change(name, value);
            assert_eq!(again.is_ok(), *kind != Kind::Fixed, "{name}: {again:?}");
        }
    }

    #[test]
    fn sizes_have_the_units_of_redis() {
        assert_eq!(bytes("100mb").as_deref(), Some("104857600"));
        assert_eq!(bytes("1k").as_deref(), Some("1000"));
        for bad in ["", "mb", "1tb", "-1", "99999999999999999999", "18446744073709551615gb"] {
            assert_eq!(bytes(bad), None, "{bad}");
        }
    }
}
