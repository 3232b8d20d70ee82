//! Memory of values that were overwritten, for values to come.
//!
//! A busy store gives back as many values of a size as it takes, on every replica. Between the two an allocator puts the
//! block at the end of its page's list, writes a link into it, and reads another block's: two lines of memory that were
//! last used long ago, and the same again for what counts who shares it. What the loop frees is kept here instead, as it
//! is, and the next value of that size is written over it.
//!
//! Of the loop's thread alone, as everything that makes and frees values there is; bounded by [`KEPT_BYTES_MAX`].

use std::cell::RefCell;

use bytes::{BufMut as _, Bytes, BytesMut};
use moim_core::object::Draft;
use moim_storage::heap::block_bytes;

/// Smaller values cost an allocator less than they would here.
const BYTES_MIN: usize = 1 << 10;

/// Larger ones are rare.
const BYTES_MAX: usize = 64 << 10;

/// What is kept at the most: a little more than groups of commits give back at once.
const KEPT_BYTES_MAX: usize = 2 << 20;

/// What counts the sharers of a block lies apart from it, and was last used long ago: it is looked at this many blocks
/// before its turn.
const AHEAD: usize = 4;

/// Sizes of blocks between the two bounds: four to a doubling.
const SIZES: usize = 4 * (BYTES_MAX / BYTES_MIN).ilog2() as usize + 1;

thread_local! {
    static KEPT: RefCell<Kept> = RefCell::default();
}

/// See the module's documentation.
#[derive(Default)]
struct Kept {
    /// By size; the last that came is the next to go, and the most likely to be in the processor's caches.
    rooms: [Vec<Bytes>; SIZES],
    bytes: usize,
}

/// A copy of a value, with room in front of it for its header.
pub(crate) fn draft(value: &[u8]) -> Draft {
    Draft::new_in(room(Draft::bytes_for(value)), value)
}

/// A copy of bytes that have a value in them.
pub(crate) fn copy(bytes: &[u8]) -> Bytes {
    let mut room = room(bytes.len());
    room.extend_from_slice(bytes);
    room.freeze()
}

/// An empty buffer with room for so many bytes.
fn room(bytes: usize) -> BytesMut {
    let Some(at) = size_of_block(bytes) else { return BytesMut::with_capacity(bytes) };
    let kept = KEPT.with_borrow_mut(|kept| kept.take(at)).and_then(|kept| kept.try_into_mut().ok());
    let Some(mut room) = kept else { return shared(bytes) };
    room.clear();
    // It may lack some bytes where a part of it was given back. Then this is another one.
    room.reserve(bytes);
    room
}

/// Gives back a value that nobody wants any more, if it is the last to share its memory.
pub(crate) fn give_back(value: Bytes) {
    let Some(at) = size_of_block(value.len()) else { return };
    if value.is_unique() {
        KEPT.with_borrow_mut(|kept| kept.give(at, value));
    }
}

/// A buffer that has what counts those who share it from the beginning, and keeps it whenever it is used again.
fn shared(bytes: usize) -> BytesMut {
    let mut room = BytesMut::with_capacity(bytes);
    room.put_u8(0);
    room = room.split();
    room.clear();
    room.reserve(bytes);
    room
}

/// Which size it is that a block for so many bytes has, if such are kept.
fn size_of_block(bytes: usize) -> Option<usize> {
    if !(BYTES_MIN..=BYTES_MAX).contains(&bytes) {
        return None;
    }
    let block = block_bytes(bytes);
    let doubling = block.ilog2() as usize;
    let quarter = (block >> (doubling - 2)) & 3;
    Some(4 * (doubling - BYTES_MIN.ilog2() as usize) + quarter)
}

impl Kept {
    fn take(&mut self, at: usize) -> Option<Bytes> {
        let rooms = &mut self.rooms[at];
        let room = rooms.pop()?;
        if let Some(soon) = rooms.len().checked_sub(AHEAD) {
            std::hint::black_box(rooms[soon].is_unique());
        }
        self.bytes -= bytes_of(at);
        Some(room)
    }

    fn give(&mut self, at: usize, room: Bytes) {
        if self.bytes + bytes_of(at) <= KEPT_BYTES_MAX {
            self.bytes += bytes_of(at);
            self.rooms[at].push(room);
        }
    }
}

/// Bytes of a block of this size.
const fn bytes_of(at: usize) -> usize {
    (BYTES_MIN << (at / 4)) / 4 * (4 + at % 4)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(bytes: usize) -> Bytes {
        copy(&vec![7; bytes])
    }

    #[test]
    fn sizes_are_those_of_blocks() {
        for bytes in BYTES_MIN..=BYTES_MAX {
            assert_eq!(bytes_of(size_of_block(bytes).unwrap()), block_bytes(bytes), "{bytes}");
        }
        assert_eq!(size_of_block(BYTES_MAX), Some(SIZES - 1));
        assert_eq!([size_of_block(BYTES_MIN - 1), size_of_block(BYTES_MAX + 1)], [None; 2]);
    }

    #[test]
    fn what_is_given_back_is_used_again_for_its_size() {
        let frame = value(2_102);
        let at = frame.as_ptr();
        // As a replica keeps it: the end of a frame.
        let kept = frame.slice(40..);
        give_back(kept.clone());
        drop(kept);
        assert_ne!(value(2_102).as_ptr(), at, "somebody has the frame");
        let kept = frame.slice(40..);
        drop(frame);
        give_back(kept);
        assert_ne!(value(1_500).as_ptr(), at, "another size");
        let again = value(2_102);
        assert_eq!((again.as_ptr(), &again[..]), (at, &[7; 2_102][..]));
        give_back(again);
        let draft = draft(&[8; 2_000]);
        assert_eq!(draft.value(), [8; 2_000]);
        let object = draft.into_value();
        assert_eq!(object, &[8; 2_000][..]);
        assert_eq!(object.as_ptr() as usize, at as usize + Draft::bytes_for(b""));
    }

    #[test]
    fn a_buffer_has_the_room_that_was_asked_for() {
        for bytes in [0, 1, 1_023, 1_024, 2_048, 2_049, 65_536, 100_000] {
            for _ in 0..3 {
                let fresh = room(bytes);
                assert!(fresh.is_empty() && fresh.capacity() >= bytes, "{bytes}");
                give_back(value(bytes));
            }
        }
        // A part of a block that has just enough for that part.
        let whole = value(2_048);
        let end = whole.slice(800..);
        drop(whole);
        give_back(end);
        assert!(room(1_280).capacity() >= 1_280);
    }

    #[test]
    fn what_is_kept_is_bounded() {
        // Tests may share a thread.
        KEPT.set(Kept::default());
        for _ in 0..3 {
            let values: Vec<_> = (0..100).map(|_| value(60_000)).collect();
            values.into_iter().for_each(give_back);
        }
        KEPT.with_borrow(|kept| {
            assert_eq!(kept.rooms[SIZES - 1].len() * BYTES_MAX, kept.bytes);
            assert_eq!(kept.bytes, KEPT_BYTES_MAX);
        });
    }
}
