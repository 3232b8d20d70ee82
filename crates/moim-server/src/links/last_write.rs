//! Frames of messages, the parts of a write's built once for all peers.

use moim_node::message::{Message, OpId};
use moim_node::wire;

use crate::out::Out;

/// The front of the last write that was encoded. It goes to every owner, and is the same frame for all of them: an operation
/// sends one object to one key under an id.
#[derive(Debug, Default)]
pub(super) struct LastWrite {
    op: Option<(OpId, u32)>,
    head: Vec<u8>,
}

impl LastWrite {
    /// What goes in front of this message's object in its frame, if it carries one that is worth sharing.
    fn head(&mut self, message: &Message) -> Option<&[u8]> {
        let Message::Write { op, budget_ms, .. } = message else { return None };
        let name = Some((*op, *budget_ms));
        if self.op != name {
            self.head.clear();
            self.op = name.filter(|_| wire::encode_front(message, &mut self.head));
        }
        self.op.map(|_| &self.head[..])
    }

    /// Appends the frame of a message.
    pub(super) fn push(&mut self, message: Message, out: &mut Out) {
        match (self.head(&message), message) {
            (Some(head), Message::Write { object, .. }) => {
                out.own().extend_from_slice(head);
                out.share(object);
            }
            (_, message) => wire::encode(&message, out.own()),
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use moim_core::NamespaceId;

    use super::*;
    use crate::out::tests::arrived;

    fn write(op: u64, bytes: usize) -> Message {
        let object = Bytes::from(vec![op.to_be_bytes()[7]; bytes]);
        let key = Bytes::from_static(b"key");
        Message::Write { op: OpId(op), namespace: NamespaceId(0), key, object, budget_ms: 9 }
    }

    /// What arrives when the kernel takes at most `step` bytes at a time.
    fn sent(messages: &[Message], step: usize) -> Vec<u8> {
        let (mut out, mut last) = (Out::default(), LastWrite::default());
        for message in messages {
            last.push(message.clone(), &mut out);
        }
        arrived(out, step)
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
            assert!(sent(&messages, step) == expected, "{step} bytes at a time");
        }
    }

    #[test]
    fn a_frame_is_built_once_for_all_peers_and_anew_for_what_differs() {
        let (mut last, mut one, mut other) = (LastWrite::default(), Out::default(), Out::default());
        let message = write(1, 2_000);
        last.push(message.clone(), &mut one);
        let built = last.head.as_ptr();
        last.push(message.clone(), &mut other);
        assert_eq!((last.head.as_ptr(), one.own().clone()), (built, other.own().clone()));
        // The same operation again, with less time.
        let Message::Write { op, namespace, key, object, .. } = message else { unreachable!() };
        let later = Message::Write { op, namespace, key, object, budget_ms: 1 };
        let mut expected = Vec::new();
        wire::encode(&later, &mut expected);
        let mut third = Out::default();
        last.push(later.clone(), &mut third);
        assert!(expected.starts_with(third.own()));
        assert_ne!(third.own(), one.own());
    }
}
