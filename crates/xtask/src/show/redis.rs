//! A small blocking Redis client (RESP2): what scenarios send and see is just what is on the wire.

use std::fmt;
use std::io::{self, BufRead as _, BufReader, ErrorKind, Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::time::Duration;

/// Longer than any request may take, so that a node's own timeout is seen as such.
pub(super) const PATIENCE: Duration = Duration::from_secs(5);
/// No reply in a scenario is larger.
const REPLY_BYTES_MAX: usize = 64 << 20;
const DEPTH_MAX: u32 = 8;

/// A reply.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Reply {
    Status(String),
    Error(String),
    Integer(i64),
    Bulk(Vec<u8>),
    Nil,
    Array(Vec<Self>),
}

impl Reply {
    /// The bytes of a value, if it is one.
    pub(super) fn bytes(&self) -> Option<&[u8]> {
        match self {
            Self::Bulk(bytes) => Some(bytes),
            _ => None,
        }
    }

    /// The text of an error, if it is one.
    pub(super) fn error(&self) -> Option<&str> {
        match self {
            Self::Error(text) => Some(text),
            _ => None,
        }
    }
}

impl From<&str> for Reply {
    fn from(value: &str) -> Self {
        Self::Bulk(value.as_bytes().to_vec())
    }
}

/// As `redis-cli` shows it.
impl fmt::Display for Reply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Status(text) => f.write_str(text),
            Self::Error(text) => write!(f, "(error) {text}"),
            Self::Integer(number) => write!(f, "(integer) {number}"),
            Self::Bulk(bytes) => write!(f, "\"{}\"", bytes.escape_ascii()),
            Self::Nil => f.write_str("(nil)"),
            Self::Array(items) => {
                f.write_str("[")?;
                for (at, item) in items.iter().enumerate() {
                    write!(f, "{}{item}", if at == 0 { "" } else { ", " })?;
                }
                f.write_str("]")
            }
        }
    }
}

/// Where somebody listens: a port of this machine, or an address.
#[derive(Clone, Copy)]
pub(super) struct Place(SocketAddr);

impl From<u16> for Place {
    fn from(port: u16) -> Self {
        Self(SocketAddr::from((Ipv4Addr::LOCALHOST, port)))
    }
}

impl From<SocketAddr> for Place {
    fn from(address: SocketAddr) -> Self {
        Self(address)
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A connection to one node.
pub(super) struct Connection {
    stream: BufReader<TcpStream>,
}

impl Connection {
    /// To a port of this machine, or to another address.
    pub(super) fn open(place: impl Into<Place>) -> io::Result<Self> {
        Ok(Self { stream: BufReader::with_capacity(64 << 10, connect(place)?) })
    }

    /// One command and its reply.
    pub(super) fn call<W: AsRef<[u8]>>(&mut self, words: &[W]) -> io::Result<Reply> {
        self.send(&command(words))?;
        self.receive()
    }

    /// Bytes as they are.
    pub(super) fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.get_mut().write_all(bytes)
    }

    /// The next reply.
    pub(super) fn receive(&mut self) -> io::Result<Reply> {
        self.reply(0)
    }

    fn reply(&mut self, depth: u32) -> io::Result<Reply> {
        if depth > DEPTH_MAX {
            return Err(malformed("arrays are nested too deeply"));
        }
        let line = self.line()?;
        let (kind, rest) = line.split_at_checked(1).ok_or_else(|| malformed("an empty line"))?;
        Ok(match kind {
            "+" => Reply::Status(rest.to_owned()),
            "-" => Reply::Error(rest.to_owned()),
            ":" => Reply::Integer(rest.parse().map_err(|_not| malformed(&line))?),
            "$" => self.bulk(length(rest)?)?,
            "*" => match length(rest)? {
                None => Reply::Nil,
                Some(items) => Reply::Array(
                    (0..items).map(|_| self.reply(depth + 1)).collect::<Result<_, _>>()?,
                ),
            },
            _ => return Err(malformed(&line)),
        })
    }

    fn line(&mut self) -> io::Result<String> {
        let mut line = Vec::new();
        self.stream.by_ref().take(REPLY_BYTES_MAX as u64).read_until(b'\n', &mut line)?;
        let Some(line) = line.strip_suffix(b"\r\n") else {
            return Err(io::Error::new(ErrorKind::UnexpectedEof, "the node closed the connection"));
        };
        Ok(String::from_utf8_lossy(line).into_owned())
    }

    fn bulk(&mut self, length: Option<usize>) -> io::Result<Reply> {
        let Some(length) = length else { return Ok(Reply::Nil) };
        let mut bytes = vec![0; length + 2];
        self.stream.read_exact(&mut bytes)?;
        if bytes.split_off(length) != b"\r\n" {
            return Err(malformed("a value does not end where it says"));
        }
        Ok(Reply::Bulk(bytes))
    }
}

/// A connection on which nothing waits for ever.
pub(super) fn connect(place: impl Into<Place>) -> io::Result<TcpStream> {
    let stream = TcpStream::connect_timeout(&place.into().0, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// A command as it is sent.
pub(super) fn command<W: AsRef<[u8]>>(words: &[W]) -> Vec<u8> {
    let mut bytes = format!("*{}\r\n", words.len()).into_bytes();
    for word in words.iter().map(AsRef::as_ref) {
        bytes.extend_from_slice(format!("${}\r\n", word.len()).as_bytes());
        bytes.extend_from_slice(word);
        bytes.extend_from_slice(b"\r\n");
    }
    bytes
}

/// -1 stands for nothing.
fn length(text: &str) -> io::Result<Option<usize>> {
    match text.parse::<i64>() {
        Ok(-1) => Ok(None),
        Ok(length) => match usize::try_from(length) {
            Ok(length) if length <= REPLY_BYTES_MAX => Ok(Some(length)),
            _ => Err(malformed(&format!("a length of {length}"))),
        },
        Err(_) => Err(malformed(&format!("'{text}' is no length"))),
    }
}

fn malformed(what: &str) -> io::Error {
    io::Error::new(ErrorKind::InvalidData, format!("not the Redis protocol: {what}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    use std::net::TcpListener;
    use std::thread;

    /// What a connection makes of bytes that a node sends before it closes.
    fn receive(sent: &'static [u8]) -> io::Result<Reply> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let node = thread::spawn(move || listener.accept().unwrap().0.write_all(sent).unwrap());
        let reply = Connection::open(port)?.receive();
        node.join().unwrap();
        reply
    }

    #[test]
    fn replies_are_understood() {
        let array = Reply::Array(vec![Reply::Integer(-7), Reply::Nil, Reply::from("a\r\n")]);
        assert_eq!(receive(b"*3\r\n:-7\r\n$-1\r\n$3\r\na\r\n\r\n").unwrap(), array);
        assert_eq!(array.to_string(), r#"[(integer) -7, (nil), "a\r\n"]"#);
        assert_eq!(receive(b"-ERR no\r\n").unwrap().error(), Some("ERR no"));
        assert_eq!(receive(b"*-1\r\n").unwrap(), Reply::Nil);
    }

    #[test]
    fn what_is_not_the_protocol_is_an_error() {
        for sent in [&b"HTTP/1.1 200 OK\r\n"[..], b"$2\r\nabc\r\n", b"$99999999999\r\n", b"+half"] {
            assert!(receive(sent).is_err(), "{}", sent.escape_ascii());
        }
    }

    #[test]
    fn commands_are_arrays_of_values() {
        assert_eq!(command(&["GET", ""]), b"*2\r\n$3\r\nGET\r\n$0\r\n\r\n");
    }
}
