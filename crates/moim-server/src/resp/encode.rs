//! Replies and their bytes, in RESP2 and RESP3. What RESP2 has no word for is said in its nearest one: a map as a flat
//! array, a double as text, a boolean as 1 or 0, null as an empty bulk.

use std::borrow::Cow;

use bytes::Bytes;

use super::number;
use crate::out::Out;

/// Values from here on are handed to the kernel where they lie; a smaller one costs less to copy than to name.
const SHARED_BYTES_MIN: usize = 1 << 10;

/// Which of the two protocols a connection speaks, chosen by `HELLO`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Protocol {
    /// The one every client knows.
    #[default]
    Resp2,
    /// The one with types.
    Resp3,
}

impl Protocol {
    /// Its number.
    pub(crate) fn number(self) -> i64 {
        match self {
            Self::Resp2 => 2,
            Self::Resp3 => 3,
        }
    }
}

/// What is said to a client.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Reply {
    /// A short text that needs no length, as `OK`.
    Simple(Cow<'static, str>),
    /// An error. The first word is its kind; line breaks are replaced, so that nobody can forge a reply through it.
    Error(Cow<'static, str>),
    /// A number.
    Integer(i64),
    /// Bytes.
    Bulk(Bytes),
    /// A text for people.
    Verbatim(String),
    /// A float.
    #[cfg_attr(not(test), expect(dead_code, reason = "for the data types to come"))]
    Double(f64),
    /// True or false.
    #[cfg_attr(not(test), expect(dead_code, reason = "for the data types to come"))]
    Boolean(bool),
    /// Nothing where a value could be.
    Null,
    /// Nothing where an array could be.
    NullArray,
    /// A list.
    Array(Vec<Self>),
    /// A list whose order means nothing.
    Set(Vec<Self>),
    /// Names and values.
    Map(Vec<(Self, Self)>),
    /// Something the client did not ask for. RESP2 has no place for it but an array.
    #[cfg_attr(not(test), expect(dead_code, reason = "for the data types to come"))]
    Push(Vec<Self>),
    /// No reply at all (`CLIENT REPLY OFF`).
    Silence,
}

impl Reply {
    /// `OK`.
    pub(crate) const OK: Self = Self::Simple(Cow::Borrowed("OK"));

    /// An error with a text made for the occasion.
    pub(crate) fn error(text: impl Into<Cow<'static, str>>) -> Self {
        Self::Error(text.into())
    }

    /// A text as a bulk.
    pub(crate) fn text(text: impl Into<String>) -> Self {
        Self::Bulk(Bytes::from(text.into()))
    }

    /// A text that is known when Moim is built, as a bulk.
    pub(crate) fn word(text: &'static str) -> Self {
        Self::Bulk(Bytes::from_static(text.as_bytes()))
    }

    /// Copied bytes as a bulk.
    pub(crate) fn copy(bytes: &[u8]) -> Self {
        Self::Bulk(Bytes::copy_from_slice(bytes))
    }

    /// A count, which always fits.
    pub(crate) fn count(count: impl TryInto<i64>) -> Self {
        Self::Integer(count.try_into().unwrap_or(i64::MAX))
    }

    /// A value or null.
    pub(crate) fn value(value: Option<Bytes>) -> Self {
        value.map_or(Self::Null, Self::Bulk)
    }

    /// A map with names that are known when Moim is built.
    pub(crate) fn map<const N: usize>(pairs: [(&'static str, Self); N]) -> Self {
        Self::Map(pairs.into_iter().map(|(name, value)| (Self::word(name), value)).collect())
    }

    /// Whether it is an error.
    pub(crate) fn is_error(&self) -> bool {
        matches!(self, Self::Error(_))
    }

    /// About how many bytes it takes while it waits and when it is sent.
    pub(crate) fn weight(&self) -> usize {
        let own = size_of::<Self>();
        own + match self {
            Self::Simple(text) | Self::Error(text) => text.len(),
            Self::Bulk(bytes) => bytes.len(),
            Self::Verbatim(text) => text.len(),
            Self::Array(items) | Self::Set(items) | Self::Push(items) => {
                items.iter().map(Self::weight).sum()
            }
            Self::Map(pairs) => {
                pairs.iter().map(|(name, value)| name.weight() + value.weight()).sum()
            }
            Self::Integer(_)
            | Self::Double(_)
            | Self::Boolean(_)
            | Self::Null
            | Self::NullArray
            | Self::Silence => 0,
        }
    }

    /// Appends the reply's bytes; a large value stays where it lies.
    pub(crate) fn send(&self, protocol: Protocol, out: &mut Out) {
        match self {
            Self::Bulk(bytes) if bytes.len() >= SHARED_BYTES_MIN => {
                put_header(out.own(), b'$', length(bytes.len()));
                out.share(bytes.clone());
                out.own().extend_from_slice(b"\r\n");
            }
            _ => self.encode(protocol, out.own()),
        }
    }

    /// Appends the reply's bytes.
    pub(crate) fn encode(&self, protocol: Protocol, out: &mut Vec<u8>) {
        let new = protocol == Protocol::Resp3;
        match self {
            Self::Simple(text) => put_line(out, b'+', text),
            Self::Error(text) => put_line(out, b'-', text),
            Self::Integer(number) => put_header(out, b':', *number),
            Self::Bulk(bytes) => put_bulk(out, b'$', bytes),
            Self::Verbatim(text) if new => {
                put_bulk(out, b'=', &[b"txt:", text.as_bytes()].concat());
            }
            Self::Verbatim(text) => put_bulk(out, b'$', text.as_bytes()),
            Self::Double(number) if new => put_line(out, b',', &double(*number)),
            Self::Double(number) => put_bulk(out, b'$', double(*number).as_bytes()),
            Self::Boolean(truth) if new => put_line(out, b'#', if *truth { "t" } else { "f" }),
            Self::Boolean(truth) => put_header(out, b':', i64::from(*truth)),
            Self::Null | Self::NullArray if new => out.extend_from_slice(b"_\r\n"),
            Self::Null => out.extend_from_slice(b"$-1\r\n"),
            Self::NullArray => out.extend_from_slice(b"*-1\r\n"),
            Self::Array(items) => put_items(out, protocol, b'*', items),
            Self::Set(items) => put_items(out, protocol, if new { b'~' } else { b'*' }, items),
            Self::Push(items) => put_items(out, protocol, if new { b'>' } else { b'*' }, items),
            Self::Map(pairs) => put_pairs(out, protocol, pairs),
            Self::Silence => {}
        }
    }
}

/// Room for a type byte, a length and its line end.
const HEADER_BYTES: usize = 24;

fn put_header(out: &mut Vec<u8>, kind: u8, number: i64) {
    out.push(kind);
    number::put_integer(out, number);
    out.extend_from_slice(b"\r\n");
}

fn put_bulk(out: &mut Vec<u8>, kind: u8, bytes: &[u8]) {
    out.reserve(bytes.len() + HEADER_BYTES);
    put_header(out, kind, length(bytes.len()));
    out.extend_from_slice(bytes);
    out.extend_from_slice(b"\r\n");
}

fn put_line(out: &mut Vec<u8>, kind: u8, text: &str) {
    out.push(kind);
    let begin = out.len();
    out.extend_from_slice(text.as_bytes());
    for byte in &mut out[begin..] {
        if matches!(byte, b'\r' | b'\n') {
            *byte = b' ';
        }
    }
    out.extend_from_slice(b"\r\n");
}

fn put_items(out: &mut Vec<u8>, protocol: Protocol, kind: u8, items: &[Reply]) {
    put_header(out, kind, length(items.len()));
    for item in items {
        item.encode(protocol, out);
    }
}

fn put_pairs(out: &mut Vec<u8>, protocol: Protocol, pairs: &[(Reply, Reply)]) {
    match protocol {
        Protocol::Resp2 => put_header(out, b'*', length(2 * pairs.len())),
        Protocol::Resp3 => put_header(out, b'%', length(pairs.len())),
    }
    for (name, value) in pairs {
        name.encode(protocol, out);
        value.encode(protocol, out);
    }
}

fn length(length: usize) -> i64 {
    i64::try_from(length).expect("what is in memory has fewer than 2^63 bytes")
}

fn double(number: f64) -> String {
    match number {
        number if number.is_nan() => "nan".to_owned(),
        number if number.is_infinite() => (if number > 0.0 { "inf" } else { "-inf" }).to_owned(),
        number => number.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(reply: &Reply, resp2: &str, resp3: &str) {
        for (protocol, expected) in [(Protocol::Resp2, resp2), (Protocol::Resp3, resp3)] {
            let mut out = Vec::new();
            reply.encode(protocol, &mut out);
            assert_eq!(String::from_utf8_lossy(&out), expected, "{reply:?} in {protocol:?}");
        }
    }

    #[test]
    fn what_resp2_lacks_is_said_in_its_nearest_word() {
        check(&Reply::OK, "+OK\r\n", "+OK\r\n");
        check(&Reply::Integer(-7), ":-7\r\n", ":-7\r\n");
        check(&Reply::word("a\r\nb"), "$4\r\na\r\nb\r\n", "$4\r\na\r\nb\r\n");
        check(&Reply::Null, "$-1\r\n", "_\r\n");
        check(&Reply::NullArray, "*-1\r\n", "_\r\n");
        check(&Reply::Boolean(true), ":1\r\n", "#t\r\n");
        check(&Reply::Double(10.5), "$4\r\n10.5\r\n", ",10.5\r\n");
        check(&Reply::Double(f64::NEG_INFINITY), "$4\r\n-inf\r\n", ",-inf\r\n");
        check(&Reply::Verbatim("hi".to_owned()), "$2\r\nhi\r\n", "=6\r\ntxt:hi\r\n");
        let one = || vec![Reply::Integer(1)];
        check(&Reply::Array(one()), "*1\r\n:1\r\n", "*1\r\n:1\r\n");
        check(&Reply::Set(one()), "*1\r\n:1\r\n", "~1\r\n:1\r\n");
        check(&Reply::Push(one()), "*1\r\n:1\r\n", ">1\r\n:1\r\n");
        let map = Reply::map([("a", Reply::Integer(1))]);
        check(&map, "*2\r\n$1\r\na\r\n:1\r\n", "%1\r\n$1\r\na\r\n:1\r\n");
        check(&Reply::Silence, "", "");
    }

    #[test]
    fn nobody_forges_a_reply_through_an_error() {
        let forged = "ERR unknown command 'a\r\n+OK\r\n'";
        let safe = "-ERR unknown command 'a  +OK  '\r\n";
        check(&Reply::error(forged), safe, safe);
    }
}
