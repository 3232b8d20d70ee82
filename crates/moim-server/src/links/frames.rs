//! Cuts what arrives into frames.

use std::fmt;

use bytes::BytesMut;
use moim_core::codec::DecodeError;
use moim_node::message::Message;
use moim_node::wire::{self, LENGTH_BYTES};
use tokio::io::{AsyncRead, AsyncReadExt};

use crate::recycled;

/// Bytes that one read may bring.
const READ_BYTES: usize = 128 << 10;

/// Bytes of the allocations that frames share of which nothing is kept.
const PASSING_BYTES: usize = 16 << 10;

/// Bytes that have arrived and are not yet taken.
///
/// A frame is copied into an allocation of its own: a stored value keeps its frame alive, and must not keep a whole read
/// buffer alive with it. Frames of which nothing is kept share one.
#[derive(Debug)]
pub(super) struct FrameBuffer {
    bytes: Vec<u8>,
    taken: usize,
    frame_bytes_max: usize,
    /// Of which nothing is kept beyond a turn: these share allocations.
    passing: BytesMut,
}

/// What no peer sends.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum BadFrame {
    /// Longer than anybody may send; none of it was waited for.
    TooLong {
        bytes: usize,
        bytes_max: usize,
    },
    Malformed(DecodeError),
}

impl fmt::Display for BadFrame {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooLong { bytes, bytes_max } => {
                write!(f, "it announced a frame of {bytes} bytes, the limit is {bytes_max}")
            }
            Self::Malformed(error) => write!(f, "it sent a malformed frame: {error}"),
        }
    }
}

impl FrameBuffer {
    pub(super) fn new(frame_bytes_max: usize) -> Self {
        Self {
            bytes: Vec::with_capacity(READ_BYTES),
            taken: 0,
            frame_bytes_max,
            passing: BytesMut::new(),
        }
    }

    /// Reads once; 0 at the end of the stream.
    pub(super) async fn fill(
        &mut self,
        reader: &mut (impl AsyncRead + Unpin),
    ) -> std::io::Result<usize> {
        self.make_room();
        reader.read_buf(&mut self.bytes).await
    }

    /// The message of the next whole frame.
    pub(super) fn next(&mut self) -> Result<Option<Message>, BadFrame> {
        let Some(body) = checked(&self.bytes[self.taken..], self.frame_bytes_max)? else {
            return Ok(None);
        };
        let bytes = body.len();
        let message = if let Some(answer) = wire::plain_answer(body) {
            Ok(answer)
        } else if wire::is_passing(body) {
            if self.passing.capacity() < bytes {
                self.passing = BytesMut::with_capacity(PASSING_BYTES.max(bytes));
            }
            self.passing.extend_from_slice(body);
            wire::decode_checked(self.passing.split().freeze())
        } else {
            wire::decode_checked(recycled::copy(body))
        };
        self.taken += LENGTH_BYTES + bytes;
        message.map(Some).map_err(BadFrame::Malformed)
    }

    /// Moves the beginning of an incomplete frame to the front. The buffer at most doubles, so that it grows with what
    /// a peer has sent and not with what it has announced.
    fn make_room(&mut self) {
        self.bytes.drain(..self.taken);
        self.taken = 0;
        if self.bytes.is_empty() {
            self.bytes.shrink_to(READ_BYTES);
        }
        if self.bytes.capacity() - self.bytes.len() < READ_BYTES / 2 {
            self.bytes.reserve_exact(READ_BYTES.max(self.bytes.len()));
        }
    }
}

/// The first frame that has arrived whole, without its length. Its checksum holds.
fn checked(waiting: &[u8], frame_bytes_max: usize) -> Result<Option<&[u8]>, BadFrame> {
    let Some((length, rest)) = waiting.split_first_chunk::<LENGTH_BYTES>() else {
        return Ok(None);
    };
    let bytes = u32::from_be_bytes(*length) as usize;
    if bytes > frame_bytes_max {
        return Err(BadFrame::TooLong { bytes, bytes_max: frame_bytes_max });
    }
    let Some(body) = rest.get(..bytes) else { return Ok(None) };
    // Here and not in the copy: that one's lines are still on their way, and these have just been written.
    wire::check(body).map_err(BadFrame::Malformed)?;
    Ok(Some(body))
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use moim_core::NamespaceId;
    use moim_node::message::OpId;

    use super::*;

    fn message(bytes: usize) -> Message {
        Message::Write {
            op: OpId(1),
            namespace: NamespaceId(0),
            key: Bytes::from_static(b"key"),
            object: vec![2; bytes].into(),
            budget_ms: 0,
        }
    }

    fn fill(buffer: &mut FrameBuffer, mut stream: &[u8]) -> usize {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(buffer.fill(&mut stream)).unwrap()
    }

    #[test]
    fn frames_come_out_whole_however_they_arrive() {
        let messages = [message(3), Message::Ping, message(300_000), message(70_000)];
        let mut stream = Vec::new();
        for message in &messages {
            wire::encode(message, &mut stream);
        }
        for piece in [1_000, 65_536, 200_000, stream.len()] {
            let mut buffer = FrameBuffer::new(1 << 20);
            let mut out = Vec::new();
            for mut chunk in stream.chunks(piece) {
                while !chunk.is_empty() {
                    chunk = &chunk[fill(&mut buffer, chunk)..];
                    while let Some(message) = buffer.next().unwrap() {
                        out.push(message);
                    }
                }
            }
            assert_eq!(out, messages);
            buffer.make_room();
            assert_eq!(buffer.bytes.capacity(), READ_BYTES, "a large frame leaves no large buffer");
        }
    }

    #[test]
    fn a_frame_beyond_the_limit_is_refused_before_it_arrives() {
        let mut buffer = FrameBuffer::new(10);
        fill(&mut buffer, &[0, 0, 0, 11, 1]);
        assert_eq!(buffer.next(), Err(BadFrame::TooLong { bytes: 11, bytes_max: 10 }));
    }

    #[test]
    fn a_frame_with_a_flipped_bit_is_refused() {
        let mut stream = Vec::new();
        wire::encode(&message(3), &mut stream);
        for at in LENGTH_BYTES..stream.len() {
            let mut flipped = stream.clone();
            flipped[at] ^= 1;
            let mut buffer = FrameBuffer::new(1 << 20);
            fill(&mut buffer, &flipped);
            assert!(matches!(buffer.next(), Err(BadFrame::Malformed(_))), "{at}");
        }
    }
}
