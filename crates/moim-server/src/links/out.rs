//! What waits to be written to a peer: small parts in one buffer, values where they lie in memory.
//!
//! A written value goes to every owner, and is in the object cache and the memory table anyway: it is named to the
//! kernel rather than copied, once for each peer, into a buffer that is larger than the processor's caches.

use std::collections::VecDeque;
use std::io::IoSlice;

use bytes::{Buf as _, Bytes};
use moim_node::message::{Message, OpId};
use moim_node::wire;

/// Parts that one call to the kernel may name; the system's own limit is 1024.
const PARTS_MAX: usize = 256;

/// A buffer that has grown beyond this is given back when it is empty, in bytes.
const OWN_BYTES_KEPT: usize = 1 << 20;

/// Frames in their order.
#[derive(Debug, Default)]
pub(super) struct Out {
    own: Vec<u8>,
    /// How many of them the kernel has taken.
    taken: usize,
    /// What goes in front of this place of `own`, in order.
    shared: VecDeque<(usize, Bytes)>,
    shared_bytes: usize,
}

/// The last write that was encoded. It goes to every owner, and is the same frame for all of them.
#[derive(Debug, Default)]
pub(super) struct LastWrite {
    op: Option<(OpId, u32)>,
    head: Vec<u8>,
    object: Bytes,
}

impl LastWrite {
    /// The parts of this message's frame, if it carries an object that is worth sharing.
    fn parts(&mut self, message: &Message) -> Option<(&[u8], &Bytes)> {
        let Message::Write { op, object, budget_ms, .. } = message else { return None };
        let name = Some((*op, *budget_ms));
        // An operation sends one object to one key.
        if self.op != name || !std::ptr::eq(self.object.as_ref(), object.as_ref()) {
            self.head.clear();
            self.op = None;
            self.object = wire::encode_sharing(message, &mut self.head)?;
            self.op = name;
        }
        Some((&self.head, &self.object))
    }

    /// Lets go of the object.
    pub(super) fn forget(&mut self) {
        self.op = None;
        self.object = Bytes::new();
    }
}

impl Out {
    /// Bytes that the kernel has not taken.
    pub(super) fn bytes(&self) -> usize {
        self.own.len() - self.taken + self.shared_bytes
    }

    /// Appends a frame.
    pub(super) fn push(&mut self, message: &Message, last: &mut LastWrite) {
        match last.parts(message) {
            None => wire::encode(message, &mut self.own),
            Some((head, object)) => {
                self.own.extend_from_slice(head);
                self.shared_bytes += object.len();
                self.shared.push_back((self.own.len(), object.clone()));
            }
        }
    }

    /// Writes once with `write`, as much as one call may name; returns how much of it was taken and whether that is all
    /// that was offered.
    pub(super) fn write(
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
mod tests {
    use moim_core::NamespaceId;

    use super::*;

    fn write(op: u64, bytes: usize) -> Message {
        let object = Bytes::from(vec![op.to_be_bytes()[7]; bytes]);
        let key = Bytes::from_static(b"key");
        Message::Write { op: OpId(op), namespace: NamespaceId(0), key, object, budget_ms: 9 }
    }

    /// What arrives when the kernel takes at most `step` bytes at a time.
    fn arrived(messages: &[Message], step: usize) -> Vec<u8> {
        let (mut out, mut last, mut arrived) = (Out::default(), LastWrite::default(), Vec::new());
        for message in messages {
            out.push(message, &mut last);
        }
        while out.bytes() > 0 {
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
    fn frames_arrive_as_if_they_had_been_copied_however_little_is_taken_at_once() {
        let mut messages = vec![Message::Ping, write(1, 2_000), write(2, 10), Message::Pong];
        messages.extend((3..400).map(|op| write(op, 1_024)));
        messages.extend([Message::Ping, write(400, 50_000)]);
        let mut expected = Vec::new();
        for message in &messages {
            wire::encode(message, &mut expected);
        }
        for step in [97, 1_000, 65_536, usize::MAX] {
            assert!(arrived(&messages, step) == expected, "{step} bytes at a time");
        }
    }

    #[test]
    fn a_frame_is_built_once_for_all_peers_and_anew_for_what_differs() {
        let (mut last, mut one, mut other) = (LastWrite::default(), Out::default(), Out::default());
        let message = write(1, 2_000);
        one.push(&message, &mut last);
        let built = last.head.as_ptr();
        other.push(&message, &mut last);
        assert_eq!((last.head.as_ptr(), one.own.clone()), (built, other.own.clone()));
        // The same operation again, with less time.
        let Message::Write { op, namespace, key, object, .. } = message else { unreachable!() };
        let later = Message::Write { op, namespace, key, object, budget_ms: 1 };
        let mut expected = Vec::new();
        wire::encode(&later, &mut expected);
        let mut third = Out::default();
        third.push(&later, &mut last);
        assert_eq!(third.own, expected[..third.own.len()]);
        assert_ne!(third.own, one.own);
    }
}
