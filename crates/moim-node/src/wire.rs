//! The bytes of what nodes say: frames are built and taken apart here and nowhere else. `docs/peer-protocol.md`
//! describes them.
//!
//! A frame is `length (u32) | checksum (u32) | kind (u8) | fields`; the length counts what follows it, the checksum is
//! the upper half of XXH3 over what follows *it* (TCP's own is too weak for a store to rely on).

use bytes::Bytes;
use moim_core::codec::DecodeError;

use crate::membership::Hello;
use crate::message::Message;

/// The largest frame, in bytes: an object of many siblings fits; a stranger's word for more is refused unread.
pub const FRAME_BYTES_MAX: usize = 80 * 1024 * 1024;

/// The largest first frame of a connection, in bytes, before anybody is known.
pub const HELLO_BYTES_MAX: usize = 16 * 1024;

/// Bytes of the length that begins every frame; it counts what follows it.
pub const LENGTH_BYTES: usize = 4;

/// Appends a whole frame.
pub fn encode(message: &Message, frame: &mut Vec<u8>) {
    let _ = (message, frame);
    todo!()
}

/// Takes apart what follows the length of a frame. Values share its allocation.
pub fn decode(body: Bytes) -> Result<Message, DecodeError> {
    let _ = body;
    todo!()
}

/// Appends a whole hello frame.
pub fn encode_hello(hello: &Hello, frame: &mut Vec<u8>) {
    let _ = (hello, frame);
    todo!()
}

/// Takes apart what follows the length of a hello frame.
pub fn decode_hello(body: Bytes) -> Result<Hello, DecodeError> {
    let _ = body;
    todo!()
}
