//! The bytes of what nodes say: frames are built and taken apart here and nowhere else. `docs/peer-protocol.md`
//! describes them.
//!
//! A frame is `length (u32) | checksum (u32) | kind (u8) | fields`. The length counts what follows it; the checksum is
//! CRC-32 of what follows *it* (TCP's own is too weak for a store to rely on; this one processors compute by themselves). Kinds below
//! `NO_OPERATION` begin with an operation's id, so that a node can tell an older peer's unknown message back by name
//! instead of closing the connection: mixed versions run side by side during an upgrade.
//!
//! Written by hand rather than derived: bodies are sliced out of the frame without a copy, and new fields go to the
//! end, where older nodes do not look.

mod cluster;
mod exchange;
mod gossip;
mod outcome;
mod request;

#[cfg(test)]
mod tests;

use bytes::{BufMut, Bytes};
use moim_core::clock::Hlc;
use moim_core::codec::{DecodeError, Put, Reader};
use moim_core::ring::PartitionCount;
use moim_core::{NamespaceId, NodeId};

use crate::anti_entropy::Answer;
use crate::api::Why;
use crate::membership::Hello;
use crate::message::{KeyEntries, Message, OpId, ReadResult, Want, WriteResult};

/// The largest frame, in bytes: an object of many siblings fits; a stranger's word for more is refused unread.
pub const FRAME_BYTES_MAX: usize = 80 * 1024 * 1024;

/// The largest first frame of a connection, in bytes, before anybody is known.
pub const HELLO_BYTES_MAX: usize = 16 * 1024;

/// Bytes of the length that begins every frame; it counts what follows it.
pub const LENGTH_BYTES: usize = 4;

const CHECKSUM_BYTES: usize = 4;

/// Values from here on are handed to the socket where they lie; a smaller one costs less to copy than to name.
const SHARED_BYTES_MIN: usize = 1 << 10;

/// Replies to reads up to here carry a digest or a reason, and if a value, one that costs nothing to copy once more.
const PASSING_REPLY_BYTES_MAX: usize = 48;

/// Keys in one page that a peer may send.
const PAGE_KEYS_MAX: usize = 1 << 17;

/// Kinds from here on carry no operation.
const NO_OPERATION: u8 = 0x80;

mod kind {
    pub(super) const WRITE: u8 = 0x01;
    pub(super) const WRITE_REPLY: u8 = 0x02;
    pub(super) const READ: u8 = 0x03;
    pub(super) const READ_REPLY: u8 = 0x04;
    pub(super) const FORWARD: u8 = 0x05;
    pub(super) const FORWARD_REPLY: u8 = 0x06;
    pub(super) const KEYS: u8 = 0x07;
    pub(super) const KEYS_REPLY: u8 = 0x08;
    pub(super) const UNSUPPORTED: u8 = 0x09;
    pub(super) const HINT: u8 = 0x0a;
    pub(super) const EXCHANGE: u8 = 0x10;
    pub(super) const EXCHANGE_REPLY: u8 = 0x11;
    pub(super) const HELLO: u8 = 0x80;
    pub(super) const PING: u8 = 0x81;
    pub(super) const PONG: u8 = 0x82;
    pub(super) const FOUNDING: u8 = 0x83;
    pub(super) const RECORD: u8 = 0x84;
    pub(super) const GOSSIP: u8 = 0x85;
    pub(super) const GOODBYE: u8 = 0x86;
    pub(super) const FAREWELL: u8 = 0x87;
    pub(super) const COMPLETE: u8 = 0x90;
}

/// Appends a whole frame.
pub fn encode(message: &Message, frame: &mut Vec<u8>) {
    framed(frame, checksum, |out| put_message(out, message));
}

/// Appends what goes in front of the object that the message carries: together they are what [`encode`] appends, and the
/// object need not be copied. If it carries none that is worth it, appends nothing and says so.
pub fn encode_front(message: &Message, head: &mut Vec<u8>) -> bool {
    let Message::Write { op, namespace, key, object, budget_ms } = message else { return false };
    if object.len() < SHARED_BYTES_MIN {
        return false;
    }
    let start = head.len();
    let body_at = start + LENGTH_BYTES + CHECKSUM_BYTES;
    head.resize(body_at, 0);
    put_head(head, kind::WRITE, *op);
    put_target(head, *namespace, key, *budget_ms);
    let mut checksum = crc32fast::Hasher::new();
    checksum.update(&head[body_at..]);
    checksum.update(object);
    let checksum = checksum.finalize();
    let body_bytes = head.len() - body_at + object.len();
    seal(head, start, body_bytes, checksum);
    true
}

/// Whether of what follows the length of a frame nothing is kept once its message has been taken: many of them may share
/// an allocation, which a kept value would keep alive as a whole.
pub fn is_passing(body: &[u8]) -> bool {
    match body.get(CHECKSUM_BYTES) {
        Some(&(kind::READ | kind::WRITE_REPLY)) => true,
        Some(&kind::READ_REPLY) => body.len() <= PASSING_REPLY_BYTES_MAX,
        _ => false,
    }
}

/// Checks what follows the length of a frame against its checksum: for whoever is about to copy it, which is when its
/// bytes are at hand.
pub fn check(body: &[u8]) -> Result<(), DecodeError> {
    check_with(body, checksum)
}

/// The answers that a busy node hears most, if what follows the length of a frame is one of them: a write is stored, a digest.
/// Nothing of them refers to the frame, which need not be copied. Must have been checked; [`decode_checked`] says the same.
pub fn plain_answer(body: &[u8]) -> Option<Message> {
    const FRONT_BYTES: usize = CHECKSUM_BYTES + 1 + size_of::<u64>();
    let (front, result) = body.split_first_chunk::<FRONT_BYTES>()?;
    let op = OpId(u64::from_be_bytes(*front.last_chunk()?));
    match (front[CHECKSUM_BYTES], result) {
        (kind::WRITE_REPLY, [0]) => Some(Message::WriteReply { op, result: WriteResult::Stored }),
        (kind::READ_REPLY, [3, digest @ ..]) => {
            let digest = u128::from_be_bytes(digest.try_into().ok()?);
            let result = ReadResult::Digest(Some(digest));
            Some(Message::ReadReply { op, result, from_disk: false })
        }
        _ => None,
    }
}

/// Takes apart what follows the length of a frame, once it has been checked. Values share its allocation.
pub fn decode_checked(body: Bytes) -> Result<Message, DecodeError> {
    let mut reader = Reader::new(body);
    reader.u32("checksum")?;
    let kind = reader.u8("kind")?;
    if kind < NO_OPERATION {
        let op = OpId(reader.u64("operation")?);
        return operation(kind, op, reader);
    }
    match kind {
        kind::PING => Ok(Message::Ping),
        kind::PONG => Ok(Message::Pong),
        kind::GOODBYE => Ok(Message::Goodbye),
        kind::FAREWELL => Ok(Message::Farewell),
        kind::FOUNDING => Ok(Message::Founding { digest: reader.u64("digest")? }),
        kind::RECORD => Ok(Message::Record(Box::new(cluster::record(&mut reader)?))),
        kind::GOSSIP => Ok(Message::Gossip(gossip::lines(&mut reader)?)),
        kind::COMPLETE => Ok(Message::Complete { until: Hlc::from_u64(reader.u64("time")?) }),
        _ => Ok(Message::Unknown { op: None }),
    }
}

/// Checks what follows the length of a frame and takes it apart.
pub fn decode(body: Bytes) -> Result<Message, DecodeError> {
    check(&body)?;
    decode_checked(body)
}

/// Appends a whole hello frame.
pub fn encode_hello(hello: &Hello, frame: &mut Vec<u8>) {
    framed(frame, hello_checksum, |out| {
        out.put_u8(kind::HELLO);
        cluster::put_hello(out, hello);
    });
}

/// Takes apart what follows the length of a hello frame.
pub fn decode_hello(body: Bytes) -> Result<Hello, DecodeError> {
    check_with(&body, hello_checksum)?;
    let mut reader = Reader::new(body);
    reader.u32("checksum")?;
    match reader.u8("kind")? {
        kind::HELLO => cluster::hello(&mut reader),
        _ => Err(DecodeError::Invalid("first frame (not a hello)")),
    }
}

/// The bytes of a cluster record, as they are kept on disk.
pub fn encode_record(record: &crate::membership::Record) -> Bytes {
    let mut bytes = Vec::new();
    cluster::put_record(&mut bytes, record);
    bytes.into()
}

/// The counterpart of [`encode_record`].
pub fn decode_record(bytes: Bytes) -> Result<crate::membership::Record, DecodeError> {
    cluster::record(&mut Reader::new(bytes))
}

fn framed(frame: &mut Vec<u8>, checksum: fn(&[u8]) -> u32, put_body: impl FnOnce(&mut Vec<u8>)) {
    let start = frame.len();
    let body_at = start + LENGTH_BYTES + CHECKSUM_BYTES;
    frame.resize(body_at, 0);
    put_body(frame);
    let checksum = checksum(&frame[body_at..]);
    let body_bytes = frame.len() - body_at;
    seal(frame, start, body_bytes, checksum);
}

/// Fills in the length and the checksum of a frame that begins at `start`.
fn seal(frame: &mut [u8], start: usize, body_bytes: usize, checksum: u32) {
    let length = CHECKSUM_BYTES + body_bytes;
    assert!(
        length <= FRAME_BYTES_MAX,
        "a message outgrew its frame: the limits of what it carries do not add up"
    );
    let length = u32::try_from(length).expect("FRAME_BYTES_MAX fits into 32 bits");
    let (length_at, checksum_at) = (start, start + LENGTH_BYTES);
    frame[length_at..checksum_at].copy_from_slice(&length.to_be_bytes());
    frame[checksum_at..checksum_at + CHECKSUM_BYTES].copy_from_slice(&checksum.to_be_bytes());
}

fn check_with(body: &[u8], checksum: fn(&[u8]) -> u32) -> Result<(), DecodeError> {
    let is_right = body
        .split_first_chunk::<CHECKSUM_BYTES>()
        .is_some_and(|(expected, rest)| u32::from_be_bytes(*expected) == checksum(rest));
    if is_right { Ok(()) } else { Err(DecodeError::Invalid("checksum")) }
}

fn checksum(bytes: &[u8]) -> u32 {
    crc32fast::hash(bytes)
}

/// Hellos keep the checksum of the first version, the upper half of XXH3, so that nodes of all versions can tell each other
/// why they do not go together.
fn hello_checksum(bytes: &[u8]) -> u32 {
    let [a, b, c, d, ..] = moim_core::fingerprint(bytes).to_be_bytes();
    u32::from_be_bytes([a, b, c, d])
}

fn put_message(out: &mut Vec<u8>, message: &Message) {
    match message {
        Message::Write { op, namespace, key, object, budget_ms } => {
            put_head(out, kind::WRITE, *op);
            put_target(out, *namespace, key, *budget_ms);
            out.put_slice(object);
        }
        Message::Hint { op, namespace, key, owner, object, budget_ms } => {
            put_head(out, kind::HINT, *op);
            put_target(out, *namespace, key, *budget_ms);
            out.put_u64(owner.0);
            out.put_slice(object);
        }
        Message::WriteReply { op, result } => {
            put_head(out, kind::WRITE_REPLY, *op);
            put_write_result(out, result);
        }
        Message::Read { op, namespace, key, want, budget_ms } => {
            put_head(out, kind::READ, *op);
            put_target(out, *namespace, key, *budget_ms);
            out.put_u8(match want {
                Want::Digest => 0,
                Want::Object => 1,
                Want::Hinted => 2,
            });
        }
        Message::ReadReply { op, result, from_disk } => {
            put_head(out, kind::READ_REPLY, *op);
            put_read_result(out, result, *from_disk);
        }
        Message::Forward { op, request, budget_ms } => {
            put_head(out, kind::FORWARD, *op);
            out.put_u32(*budget_ms);
            request::put(out, request);
        }
        Message::ForwardReply { op, outcome } => {
            put_head(out, kind::FORWARD_REPLY, *op);
            outcome::put(out, outcome);
        }
        Message::Keys { op, namespace, partition, from_hash, limit, budget_ms } => {
            put_head(out, kind::KEYS, *op);
            out.put_u32(namespace.0);
            out.put_u16(partition.get());
            out.put_u32(*from_hash);
            out.put_u16(*limit);
            out.put_u32(*budget_ms);
        }
        Message::KeysReply { op, result } => {
            put_head(out, kind::KEYS_REPLY, *op);
            put_keys_result(out, result);
        }
        Message::Exchange { op, terms, ask } => {
            put_head(out, kind::EXCHANGE, *op);
            exchange::put_terms(out, terms);
            exchange::put_ask(out, ask);
        }
        Message::ExchangeReply { op, result } => {
            put_head(out, kind::EXCHANGE_REPLY, *op);
            put_exchange_result(out, result);
        }
        Message::Ping
        | Message::Pong
        | Message::Goodbye
        | Message::Farewell
        | Message::Founding { .. }
        | Message::Complete { .. }
        | Message::Record(_)
        | Message::Gossip(_) => put_without_operation(out, message),
        Message::Unsupported { op } => put_head(out, kind::UNSUPPORTED, *op),
        Message::Unknown { op } => put_head(out, kind::UNSUPPORTED, op.unwrap_or(OpId(0))),
    }
}

/// Messages that nobody answers by name.
fn put_without_operation(out: &mut Vec<u8>, message: &Message) {
    match message {
        Message::Ping => out.put_u8(kind::PING),
        Message::Pong => out.put_u8(kind::PONG),
        Message::Goodbye => out.put_u8(kind::GOODBYE),
        Message::Farewell => out.put_u8(kind::FAREWELL),
        Message::Founding { digest } => {
            out.put_u8(kind::FOUNDING);
            out.put_u64(*digest);
        }
        Message::Complete { until } => {
            out.put_u8(kind::COMPLETE);
            out.put_u64(until.as_u64());
        }
        Message::Record(record) => {
            out.put_u8(kind::RECORD);
            cluster::put_record(out, record);
        }
        Message::Gossip(lines) => {
            out.put_u8(kind::GOSSIP);
            gossip::put_lines(out, lines);
        }
        _ => unreachable!("messages with an operation are put with it"),
    }
}

fn operation(kind: u8, op: OpId, mut reader: Reader) -> Result<Message, DecodeError> {
    match kind {
        kind::WRITE => {
            let (namespace, key, budget_ms) = target(&mut reader)?;
            Ok(Message::Write { op, namespace, key, object: reader.rest(), budget_ms })
        }
        kind::HINT => {
            let (namespace, key, budget_ms) = target(&mut reader)?;
            let owner = NodeId(reader.u64("owner")?);
            Ok(Message::Hint { op, namespace, key, owner, object: reader.rest(), budget_ms })
        }
        kind::WRITE_REPLY => Ok(Message::WriteReply { op, result: write_result(&mut reader)? }),
        kind::READ => {
            let (namespace, key, budget_ms) = target(&mut reader)?;
            let want = match reader.u8("wanted part")? {
                0 => Want::Digest,
                2 => Want::Hinted,
                _ => Want::Object,
            };
            Ok(Message::Read { op, namespace, key, want, budget_ms })
        }
        kind::READ_REPLY => {
            let (result, from_disk) = read_result(reader)?;
            Ok(Message::ReadReply { op, result, from_disk })
        }
        kind::FORWARD => {
            let budget_ms = reader.u32("budget")?;
            Ok(Message::Forward { op, request: Box::new(request::take(&mut reader)?), budget_ms })
        }
        kind::FORWARD_REPLY => {
            Ok(Message::ForwardReply { op, outcome: outcome::take(&mut reader)? })
        }
        kind::KEYS => {
            let namespace = NamespaceId(reader.u32("namespace")?);
            // Every partition number of any cluster is below the largest count; the node checks it against its ring.
            let widest = PartitionCount::new(u64::from(moim_core::ring::SLOTS));
            let number = reader.u16("partition")?;
            let partition = widest.ok().and_then(|count| count.partition(number));
            let partition = partition.ok_or(DecodeError::Invalid("partition"))?;
            let (from_hash, limit) = (reader.u32("hash")?, reader.u16("limit")?);
            let budget_ms = reader.u32("budget")?;
            Ok(Message::Keys { op, namespace, partition, from_hash, limit, budget_ms })
        }
        kind::KEYS_REPLY => Ok(Message::KeysReply { op, result: keys_result(&mut reader)? }),
        kind::EXCHANGE => {
            let terms = exchange::terms(&mut reader)?;
            Ok(Message::Exchange { op, terms, ask: Box::new(exchange::ask(reader)?) })
        }
        kind::EXCHANGE_REPLY => {
            Ok(Message::ExchangeReply { op, result: exchange_result(&mut reader)? })
        }
        kind::UNSUPPORTED => Ok(Message::Unsupported { op }),
        _ => Ok(Message::Unknown { op: Some(op) }),
    }
}

fn put_head(out: &mut Vec<u8>, kind: u8, op: OpId) {
    assert!(kind < NO_OPERATION, "a message with an operation has a kind that says so");
    out.put_u8(kind);
    out.put_u64(op.0);
}

fn put_target(out: &mut Vec<u8>, namespace: NamespaceId, key: &[u8], budget_ms: u32) {
    out.put_u32(namespace.0);
    out.put_u32(budget_ms);
    out.put_length_prefixed(key);
}

fn target(reader: &mut Reader) -> Result<(NamespaceId, Bytes, u32), DecodeError> {
    let namespace = NamespaceId(reader.u32("namespace")?);
    let budget_ms = reader.u32("budget")?;
    Ok((namespace, reader.slice("key")?, budget_ms))
}

fn put_write_result(out: &mut Vec<u8>, result: &WriteResult) {
    match result {
        WriteResult::Stored => out.put_u8(0),
        WriteResult::Superseded(by) => {
            out.put_u8(1);
            out.put_u64(by.as_u64());
        }
        WriteResult::Refused(why) => {
            out.put_u8(2);
            outcome::put_why(out, why);
        }
    }
}

fn write_result(reader: &mut Reader) -> Result<WriteResult, DecodeError> {
    match reader.u8("write result")? {
        0 => Ok(WriteResult::Stored),
        1 => Ok(WriteResult::Superseded(Hlc::from_u64(reader.u64("time")?))),
        2 => Ok(WriteResult::Refused(outcome::why(reader)?)),
        _ => Err(DecodeError::Invalid("write result")),
    }
}

/// In the first byte of a read's result: the replica had to wait for its disk.
const FROM_DISK: u8 = 0x80;

fn put_read_result(out: &mut Vec<u8>, result: &ReadResult, from_disk: bool) {
    let disk = if from_disk { FROM_DISK } else { 0 };
    match result {
        ReadResult::Object(None) => out.put_u8(disk),
        ReadResult::Object(Some(object)) => {
            out.put_u8(disk | 1);
            out.put_slice(object);
        }
        ReadResult::Digest(None) => out.put_u8(disk | 2),
        ReadResult::Digest(Some(digest)) => {
            out.put_u8(disk | 3);
            out.put_u128(*digest);
        }
        ReadResult::Refused(why) => {
            out.put_u8(disk | 4);
            outcome::put_why(out, why);
        }
    }
}

/// What a replica holds, and whether it had to wait for its disk.
fn read_result(mut reader: Reader) -> Result<(ReadResult, bool), DecodeError> {
    let first = reader.u8("read result")?;
    let result = match first & !FROM_DISK {
        0 => ReadResult::Object(None),
        1 => ReadResult::Object(Some(reader.rest())),
        2 => ReadResult::Digest(None),
        3 => ReadResult::Digest(Some(reader.u128("digest")?)),
        4 => ReadResult::Refused(outcome::why(&mut reader)?),
        _ => return Err(DecodeError::Invalid("read result")),
    };
    Ok((result, first & FROM_DISK != 0))
}

fn put_exchange_result(out: &mut Vec<u8>, result: &Result<Answer, Why>) {
    match result {
        Err(why) => {
            out.put_u8(0);
            outcome::put_why(out, why);
        }
        Ok(answer) => {
            out.put_u8(1);
            exchange::put_answer(out, answer);
        }
    }
}

fn exchange_result(reader: &mut Reader) -> Result<Result<Answer, Why>, DecodeError> {
    match reader.u8("exchange result")? {
        0 => Ok(Err(outcome::why(reader)?)),
        _ => Ok(Ok(exchange::answer(reader)?)),
    }
}

fn put_keys_result(out: &mut Vec<u8>, result: &Result<KeyEntries, Why>) {
    match result {
        Err(why) => {
            out.put_u8(0);
            outcome::put_why(out, why);
        }
        Ok(KeyEntries { keys, complete_below }) => {
            out.put_u8(1);
            out.put_u8(u8::from(complete_below.is_some()));
            out.put_u32(complete_below.unwrap_or(0));
            out.put_varint(keys.len() as u64);
            for (key, written, live) in keys {
                out.put_length_prefixed(key);
                out.put_u64(written.as_u64());
                out.put_u8(u8::from(*live));
            }
        }
    }
}

fn keys_result(reader: &mut Reader) -> Result<Result<KeyEntries, Why>, DecodeError> {
    if reader.u8("keys result")? == 0 {
        return Ok(Err(outcome::why(reader)?));
    }
    let bounded = reader.u8("end of keys")? != 0;
    let below = reader.u32("end of keys")?;
    let count = reader.count("number of keys", PAGE_KEYS_MAX)?;
    let mut keys = Vec::with_capacity(count.min(1_024));
    for _ in 0..count {
        let key = reader.slice("key")?;
        keys.push((key, Hlc::from_u64(reader.u64("time")?), reader.u8("live")? != 0));
    }
    Ok(Ok(KeyEntries { keys, complete_below: bounded.then_some(below) }))
}
