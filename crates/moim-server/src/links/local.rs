//! What is said to the other nodes of this server: it waits for the end of the pass as what goes over connections does,
//! and leaves as it is (see [`crate::shards`]).

use std::cell::{Cell, RefCell};
use std::time::Duration;

use moim_core::NodeId;
use moim_node::Input;
use moim_node::message::{Message, ReadResult};
use moim_node::wire;

use crate::shards::Shard;

/// How often a link that ended is made anew.
pub(super) const MEET_EVERY: Duration = Duration::from_millis(500);

/// Links to the nodes of this server.
#[derive(Debug)]
pub(super) struct Local {
    pub(super) shard: Shard,
    own: NodeId,
    /// By the number of the node; its own place stays empty.
    out: RefCell<Vec<Parcel>>,
    sent: Cell<u64>,
}

/// Messages for one node.
#[derive(Debug, Default)]
struct Parcel {
    messages: Vec<Input>,
    bytes: usize,
}

impl Local {
    pub(super) fn new(shard: Shard, own: NodeId) -> Self {
        let out = (0..shard.count()).map(|_| Parcel::default()).collect();
        Self { shard, own, out: RefCell::new(out), sent: Cell::new(0) }
    }

    /// Which node of this server this is, if it is another one.
    pub(super) fn find(&self, node: NodeId) -> Option<usize> {
        self.shard.find(node).filter(|&number| number != self.shard.number())
    }

    /// Keeps a message until the end of the pass.
    pub(super) fn push(&self, to: usize, message: Message) {
        let parcel = &mut self.out.borrow_mut()[to];
        parcel.bytes += bytes(&message);
        parcel.messages.push(Input::Peer(self.own, message));
        self.sent.set(self.sent.get() + 1);
    }

    /// Hands over what this pass has for the others.
    pub(super) fn flush(&self) {
        for (to, parcel) in self.out.borrow_mut().iter_mut().enumerate() {
            if !parcel.messages.is_empty() {
                self.shard.deliver(to, &mut parcel.messages, std::mem::take(&mut parcel.bytes));
            }
        }
    }

    /// How many nodes it is linked to.
    pub(super) fn links(&self) -> usize {
        self.shard.others().filter(|&other| self.shard.is_linked(other)).count()
    }

    /// Messages since the start.
    pub(super) fn sent(&self) -> u64 {
        self.sent.get()
    }
}

/// What a message keeps in memory, about: exact for what there is much of, and as many bytes as others would have on a
/// connection.
fn bytes(message: &Message) -> usize {
    let held = match message {
        Message::Write { key, object, .. } | Message::Hint { key, object, .. } => {
            key.len() + object.len()
        }
        Message::Read { key, .. } => key.len(),
        Message::ReadReply { result: ReadResult::Object(Some(object)), .. } => object.len(),
        Message::Ping | Message::Pong | Message::WriteReply { .. } | Message::ReadReply { .. } => 0,
        rare => {
            let mut frame = Vec::new();
            wire::encode(rare, &mut frame);
            frame.len()
        }
    };
    held + size_of::<Input>()
}
