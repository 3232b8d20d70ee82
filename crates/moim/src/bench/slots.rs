//! Which node of a Redis Cluster serves which slot.
//!
//! Asked once, before the load: a benchmark of a cluster that is changed meanwhile counts `-MOVED` as errors.

use std::io::{self, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use moim_core::ring::{SLOTS, Slot};

use super::connection::put_command;
use crate::ending::Trouble;

/// How long a node may take to tell.
const PATIENCE: Duration = Duration::from_secs(5);
/// Bytes of a table at the most: a thousand nodes have 150 KB.
const TABLE_BYTES_MAX: usize = 4 << 20;

/// For each slot, the number of its master.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SlotTable(Vec<usize>);

impl SlotTable {
    /// The number of the master that serves the key.
    pub(crate) fn node(&self, key: &[u8]) -> usize {
        self.0[usize::from(Slot::of_key(key).get())]
    }
}

/// Asks the first node that answers for the masters and their slots.
pub(crate) fn ask(
    addresses: &[SocketAddr],
    password: Option<&str>,
) -> Result<(Vec<SocketAddr>, SlotTable), Trouble> {
    let mut why = String::new();
    for address in addresses {
        match fetch(*address, password, &[b"CLUSTER", b"NODES"]) {
            Ok(text) => {
                return parse(&text).map_err(|what| Trouble::failed(format!("{address}: {what}")));
            }
            Err(error) => why = format!("{address}: {error}"),
        }
    }
    Err(Trouble::failed(format!("CLUSTER NODES was not answered: {why}")))
}

/// The text that a command is answered with.
pub(super) fn fetch(
    address: SocketAddr,
    password: Option<&str>,
    command: &[&[u8]],
) -> io::Result<String> {
    let mut stream = TcpStream::connect_timeout(&address, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let mut out = Vec::new();
    if let Some(password) = password {
        put_command(&mut out, &[b"AUTH", password.as_bytes()]);
    }
    put_command(&mut out, command);
    stream.write_all(&out)?;
    let mut bytes = Vec::new();
    let mut piece = [0; 16 * 1024];
    while bytes.len() < TABLE_BYTES_MAX {
        let text = String::from_utf8_lossy(&bytes);
        let rest = if password.is_some() { text.strip_prefix("+OK\r\n") } else { Some(&*text) };
        match rest.and_then(|rest| bulk(rest).transpose()) {
            Some(done) => return done,
            None if text.starts_with('-') => return Err(io::Error::other(text.trim().to_owned())),
            None => {}
        }
        match stream.read(&mut piece)? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            length => bytes.extend_from_slice(&piece[..length]),
        }
    }
    Err(io::Error::other("the answer does not end"))
}

/// A bulk string, once all of it is there.
fn bulk(text: &str) -> io::Result<Option<String>> {
    let Some((head, rest)) = text.split_once("\r\n") else { return Ok(None) };
    let length = head.strip_prefix('$').and_then(|length| length.parse::<usize>().ok());
    let length = length.ok_or_else(|| io::Error::other(head.to_owned()))?;
    Ok(rest.get(..length).map(str::to_owned))
}

/// Masters and table. A line is `ID HOST:PORT@BUS[,NAME] FLAGS MASTER PING PONG EPOCH LINK SLOT|FROM-TO …`.
fn parse(text: &str) -> Result<(Vec<SocketAddr>, SlotTable), String> {
    let mut masters = Vec::new();
    let mut table = vec![usize::MAX; usize::from(SLOTS)];
    for line in text.lines() {
        let words: Vec<_> = line.split(' ').collect();
        // Slots that are being moved are told in brackets; whoever has them still serves them.
        let ranges = words.iter().skip(8).filter(|word| !word.starts_with('['));
        let mut serves = false;
        for range in ranges {
            let (from, to) = range.split_once('-').unwrap_or((range, range));
            let slots = from.parse::<usize>().ok().zip(to.parse::<usize>().ok());
            let slots = slots.and_then(|(from, to)| table.get_mut(from..=to));
            slots.ok_or_else(|| format!("'{range}' are no slots"))?.fill(masters.len());
            serves = true;
        }
        if serves {
            let address = words[1].split('@').next().unwrap_or_default();
            let parsed = address.parse();
            masters.push(parsed.map_err(|_error| format!("'{address}' is no address"))?);
        }
    }
    match table.iter().position(|&master| master == usize::MAX) {
        Some(slot) => Err(format!("nobody serves slot {slot}")),
        None => Ok((masters, SlotTable(table))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn masters_and_their_slots_are_read() {
        let text = "\
a1 127.0.0.1:7001@17001 myself,master - 0 0 1 connected 0-5460 5462\n\
b2 127.0.0.1:7002@17002,name master - 0 0 2 connected 5461 5463-16383 [93-<-a1]\n\
c3 127.0.0.1:7003@17003 slave a1 0 0 1 connected\n";
        let (masters, table) = parse(text).unwrap();
        assert_eq!(masters, ["127.0.0.1:7001", "127.0.0.1:7002"].map(|text| text.parse().unwrap()));
        assert_eq!((table.0[5460], table.0[5461], table.0[5462], table.0[16383]), (0, 1, 0, 1));
        // "foo" is in slot 12182.
        assert_eq!(table.node(b"foo"), 1);
    }

    #[test]
    fn what_is_no_table_is_refused() {
        assert!(parse("a1 127.0.0.1:7001@17001 master - 0 0 1 connected 0-100\n").is_err());
        assert!(parse("a1 127.0.0.1:7001@17001 master - 0 0 1 connected 0-99999\n").is_err());
        assert!(parse("a1 somewhere@1 master - 0 0 1 connected 0-16383\n").is_err());
        assert!(parse("").is_err());
    }

    #[test]
    fn a_bulk_string_is_awaited_whole() {
        assert_eq!(bulk("$5\r\nab").unwrap(), None);
        assert_eq!(bulk("$2\r\nab\r\n").unwrap().as_deref(), Some("ab"));
        assert!(bulk("-ERR no\r\n").is_err());
    }
}
