//! What a turn will need is fetched from memory before it is needed, for many inputs at once.
//!
//! A busy node holds far more than the processor's caches do, so what an input costs is mostly waiting: for the index,
//! the entry, the old value and the Merkle tree of its key, one after the other. The waits of different keys do not
//! depend on each other. So before inputs are taken, their keys are found and looked for together; it changes nothing
//! that a node does or says.

use bytes::{Bytes, BytesMut};
use moim_core::NamespaceId;

use crate::api::{Action, Input};
use crate::message::Message;
use crate::node::Node;
use crate::replica::Target;

/// Inputs that are foreseen together: enough for their waits to overlap, few enough that the first is still close to the
/// processor when its turn comes.
const AHEAD: usize = 64;

/// See the module's documentation.
#[derive(Debug, Default)]
pub(crate) struct Foresight {
    /// For each input of this turn the key that it is about, until it is taken.
    keys: Vec<Option<Foreseen>>,
    next: usize,
    /// The key of the input that is being taken.
    current: Option<Target>,
    /// Where these keys are put together.
    room: BytesMut,
}

/// A key that an input is about.
#[derive(Debug)]
pub(crate) struct Foreseen {
    pub(crate) target: Target,
    /// Whether it is about to change.
    pub(crate) writes: bool,
}

impl Foresight {
    /// Where the key of the input that is being taken lies, if it is this one and was foreseen.
    pub(crate) fn take(&mut self, namespace: NamespaceId, key: &[u8]) -> Option<Target> {
        let is_it = |target: &mut Target| target.namespace == namespace && target.key() == key;
        self.current.take_if(is_it)
    }
}

impl Node {
    /// Finds out which keys a turn's inputs are about.
    pub(crate) fn foresee(&mut self, inputs: &[Input]) {
        self.foresight.next = 0;
        self.foresight.keys.clear();
        let Some(record) = self.record.as_ref() else { return };
        // One alone has nobody to wait with.
        if inputs.len() > 1 {
            let answered = inputs.iter().map(|input| match input {
                Input::Peer(_, Message::WriteReply { op, .. }) => self.operations.foresee(*op),
                _ => 0,
            });
            std::hint::black_box(answered.sum::<usize>());
            let Foresight { keys, room, .. } = &mut self.foresight;
            keys.extend(inputs.iter().map(|input| {
                let (namespace, key, writes) = key_of(input)?;
                let target = Target::new_in(room, namespace, key, record.ring.partition_of(key));
                Some(Foreseen { target, writes })
            }));
        }
    }

    /// The next input is about to be taken.
    pub(crate) fn foresee_next(&mut self) {
        let Foresight { keys, next, current, .. } = &mut self.foresight;
        if *next % AHEAD == 0 {
            let soon = keys.iter().skip(*next).take(AHEAD).flatten();
            self.store.foresee(soon);
        }
        *current = keys.get_mut(*next).and_then(Option::take).map(|foreseen| foreseen.target);
        *next += 1;
    }

    /// Where a key lies, if there is a ring: as foreseen, or found out now.
    pub(crate) fn target(&mut self, namespace: NamespaceId, key: &[u8]) -> Option<Target> {
        self.foresight.take(namespace, key).or_else(|| self.new_target(namespace, key))
    }

    /// Where a key lies, if there is a ring.
    pub(crate) fn new_target(&self, namespace: NamespaceId, key: &[u8]) -> Option<Target> {
        let partition = self.record.as_ref()?.ring.partition_of(key);
        Some(Target::new(namespace, key, partition))
    }
}

/// The one key that an input is about, if it is, and whether it writes it.
fn key_of(input: &Input) -> Option<(NamespaceId, &Bytes, bool)> {
    match input {
        Input::Peer(_, Message::Write { namespace, key, .. }) => Some((*namespace, key, true)),
        Input::Peer(_, Message::Read { namespace, key, .. }) => Some((*namespace, key, false)),
        Input::Request(_, request) => {
            let writes = match request.action {
                Action::Get => false,
                Action::Put { .. } | Action::Delete { .. } | Action::Update(_) => true,
                Action::Inspect | Action::Keys { .. } => return None,
            };
            Some((request.namespace, &request.key, writes))
        }
        _ => None,
    }
}
