//! What waits to be written to a socket: small parts in one buffer, values where they lie in memory.
//!
//! A value is in the object cache anyway. It is named to the kernel rather than copied into a buffer first, for every peer
//! that it goes to and for the client that asked for it.

use std::collections::VecDeque;
use std::io::IoSlice;

use bytes::{Buf as _, Bytes};

/// Parts that one call to the kernel may name; the system's own limit is 1024.
const PARTS_MAX: usize = 256;

/// A buffer that has grown beyond this is given back when it is empty, in bytes.
const OWN_BYTES_KEPT: usize = 1 << 20;

/// Frames in their order.
#[derive(Debug, Default)]
pub(crate) struct Out {
    own: Vec<u8>,
    /// How many of them the kernel has taken.
    taken: usize,
    /// What goes in front of this place of `own`, in order.
    shared: VecDeque<(usize, Bytes)>,
    shared_bytes: usize,
}

impl Out {
    /// Bytes that the kernel has not taken.
    pub(crate) fn bytes(&self) -> usize {
        self.own.len() - self.taken + self.shared_bytes
    }

    /// Where small parts are appended.
    pub(crate) fn own(&mut self) -> &mut Vec<u8> {
        &mut self.own
    }

    /// Appends bytes that stay where they are.
    pub(crate) fn share(&mut self, bytes: Bytes) {
        self.shared_bytes += bytes.len();
        self.shared.push_back((self.own.len(), bytes));
    }

    /// Whether nothing waits.
    pub(crate) fn is_empty(&self) -> bool {
        self.bytes() == 0
    }

    /// Bytes of memory that it keeps, those of shared parts included.
    pub(crate) fn memory_bytes(&self) -> usize {
        self.own.capacity() + self.shared_bytes
    }

    /// Writes once with `write`, as much as one call may name; returns how much of it was taken and whether that is all
    /// that was offered.
    pub(crate) fn write(
        &mut self,
        write: impl FnOnce(&[IoSlice<'_>]) -> std::io::Result<usize>,
    ) -> std::io::Result<(usize, bool)> {
        let (taken, offered) = if self.shared.is_empty() {
            let own = &self.own[self.taken..];
            (write(&[IoSlice::new(own)])?, own.len())
        } else {
            let mut parts = [IoSlice::new(&[]); PARTS_MAX];
            let count = self.parts(&mut parts);
            let offered = parts[..count].iter().map(|part| part.len()).sum();
            (write(&parts[..count])?, offered)
        };
        self.advance(taken);
        self.give_back();
        Ok((taken, taken == offered))
    }

    fn parts<'own>(&'own self, parts: &mut [IoSlice<'own>; PARTS_MAX]) -> usize {
        let (mut at, mut count) = (self.taken, 0);
        for (place, object) in &self.shared {
            if count + 2 > PARTS_MAX {
                return count;
            }
            if *place > at {
                parts[count] = IoSlice::new(&self.own[at..*place]);
                at = *place;
                count += 1;
            }
            parts[count] = IoSlice::new(object);
            count += 1;
        }
        if at < self.own.len() && count < PARTS_MAX {
            parts[count] = IoSlice::new(&self.own[at..]);
            count += 1;
        }
        count
    }

    fn advance(&mut self, mut bytes: usize) {
        while bytes > 0 {
            let step = match self.shared.front_mut() {
                Some((place, object)) if *place == self.taken => {
                    let step = bytes.min(object.len());
                    object.advance(step);
                    self.shared_bytes -= step;
                    if object.is_empty() {
                        self.shared.pop_front();
                    }
                    step
                }
                next => {
                    let until = next.map_or(self.own.len(), |(place, _)| *place);
                    let step = bytes.min(until - self.taken);
                    self.taken += step;
                    step
                }
            };
            assert!(step > 0, "the kernel took no more than it was offered");
            bytes -= step;
        }
    }

    /// Forgets what was sent, so that a peer that reads slowly does not make the buffer grow without end.
    fn give_back(&mut self) {
        if self.bytes() == 0 {
            self.own.clear();
            self.own.shrink_to(OWN_BYTES_KEPT);
            self.taken = 0;
        } else if self.taken > self.own.len() / 2 {
            self.own.drain(..self.taken);
            self.shared.iter_mut().for_each(|(place, _)| *place -= self.taken);
            self.taken = 0;
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// What arrives when the kernel takes at most `step` bytes at a time.
    pub(crate) fn arrived(mut out: Out, step: usize) -> Vec<u8> {
        let mut arrived = Vec::new();
        while !out.is_empty() {
            let (taken, _) = out
                .write(|parts| {
                    let mut left = step;
                    for part in parts {
                        let bytes = &part[..left.min(part.len())];
                        arrived.extend_from_slice(bytes);
                        left -= bytes.len();
                    }
                    Ok(step - left)
                })
                .unwrap();
            assert!(taken > 0);
        }
        assert_eq!(out.own.capacity().min(OWN_BYTES_KEPT), out.own.capacity());
        arrived
    }

    #[test]
    fn parts_arrive_in_their_order_however_little_is_taken_at_once() {
        for step in [97, 1_000, 65_536, usize::MAX] {
            let (mut out, mut expected) = (Out::default(), Vec::new());
            for number in 0..400_usize {
                let bytes = vec![number.to_le_bytes()[0]; (number * 37) % 3_000];
                expected.extend_from_slice(&bytes);
                if number % 3 == 0 {
                    out.own().extend_from_slice(&bytes);
                } else {
                    out.share(bytes.into());
                }
            }
            assert_eq!(out.bytes(), expected.len());
            assert!(arrived(out, step) == expected, "{step} bytes at a time");
        }
    }
}
