//! Cuts what arrives into frames.

use std::fmt;

use bytes::{Bytes, BytesMut};
use moim_node::wire::{self, LENGTH_BYTES};
use tokio::io::{AsyncRead, AsyncReadExt};

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

/// A frame longer than anybody may send; none of it was waited for.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct TooLong {
    bytes: usize,
    bytes_max: usize,
}

impl fmt::Display for TooLong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { bytes, bytes_max } = self;
        write!(f, "it announced a frame of {bytes} bytes, the limit is {bytes_max}")
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

    /// The next whole frame, without its length.
    pub(super) fn next(&mut self) -> Result<Option<Bytes>, TooLong> {
        let waiting = &self.bytes[self.taken..];
        let Some((length, rest)) = waiting.split_first_chunk::<LENGTH_BYTES>() else {
            return Ok(None);
        };
        let bytes = u32::from_be_bytes(*length) as usize;
        if bytes > self.frame_bytes_max {
            return Err(TooLong { bytes, bytes_max: self.frame_bytes_max });
        }
        let Some(body) = rest.get(..bytes) else { return Ok(None) };
        let body = if wire::is_passing(body) {
            if self.passing.capacity() < bytes {
                self.passing = BytesMut::with_capacity(PASSING_BYTES.max(bytes));
            }
            self.passing.extend_from_slice(body);
            self.passing.split().freeze()
        } else {
            Bytes::copy_from_slice(body)
        };
        self.taken += LENGTH_BYTES + bytes;
        Ok(Some(body))
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

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(body: &[u8]) -> Vec<u8> {
        let length = u32::try_from(body.len()).unwrap();
        [&length.to_be_bytes(), body].concat()
    }

    #[test]
    fn frames_come_out_whole_however_they_arrive() {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let bodies = [vec![1; 3], vec![], vec![2; 300_000], vec![3; 70_000]];
        let stream: Vec<u8> = bodies.iter().flat_map(|body| frame(body)).collect();
        for piece in [1_000, 65_536, 200_000, stream.len()] {
            let mut buffer = FrameBuffer::new(1 << 20);
            let mut out = Vec::new();
            for mut chunk in stream.chunks(piece) {
                while runtime.block_on(buffer.fill(&mut chunk)).unwrap() > 0 {
                    while let Some(body) = buffer.next().unwrap() {
                        out.push(body.to_vec());
                    }
                }
            }
            assert_eq!(out, bodies);
            buffer.make_room();
            assert_eq!(buffer.bytes.capacity(), READ_BYTES, "a large frame leaves no large buffer");
        }
    }

    #[test]
    fn a_frame_beyond_the_limit_is_refused_before_it_arrives() {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let mut buffer = FrameBuffer::new(10);
        runtime.block_on(buffer.fill(&mut &[0, 0, 0, 11, 1][..])).unwrap();
        assert_eq!(buffer.next(), Err(TooLong { bytes: 11, bytes_max: 10 }));
    }
}
