//! [`NodeHandle`]: how everything on the node's thread (connections, HTTP, links) reaches the node.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use moim_node::api::{Failure, NotReady};
use moim_node::{Input, Node, Now, Outcome, Request, RequestId};

use crate::clock::Clock;
use crate::figures::LoopFigures;
use crate::inbox::{Inbox, Mailbox};
use crate::links::Links;

/// What is called with the outcome of a request.
pub(crate) type ReplyCallback = Box<dyn FnOnce(Outcome)>;

/// A cheap reference to a node and its loop; stays on the node's thread.
#[derive(Clone, Debug)]
pub struct NodeHandle {
    shared: Rc<Shared>,
}

/// What the loop and everybody who holds a handle share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) node: RefCell<Node>,
    pub(crate) clock: Clock,
    pub(crate) inbox: Rc<Inbox>,
    pub(crate) waiting: RefCell<Waiting>,
    pub(crate) figures: LoopFigures,
    /// Set when the server begins to stop: it still serves who is there, and says that nobody else should come.
    pub(crate) leaving: Cell<bool>,
}

impl NodeHandle {
    pub(crate) fn new(node: Node, clock: Clock, inbox: Rc<Inbox>) -> Self {
        let (node, waiting) = (RefCell::new(node), RefCell::default());
        let figures = LoopFigures::default();
        let leaving = Cell::default();
        Self { shared: Rc::new(Shared { node, clock, inbox, waiting, figures, leaving }) }
    }

    /// The node's connections to its peers, none so far.
    pub(crate) fn links(&self, seed: u64) -> Rc<Links> {
        let node = self.clone();
        Links::new(move || node.view(Node::hello), Rc::clone(&self.shared.inbox), seed)
    }

    /// Where other threads hand inputs in.
    pub(crate) fn mailbox(&self) -> Arc<Mailbox> {
        self.shared.inbox.mailbox()
    }

    pub(crate) fn shared(&self) -> &Shared {
        &self.shared
    }

    /// Hands a request to the next turn. `reply` runs on the same thread after the turn in which the request ended,
    /// outside of any borrow: it may submit again.
    pub fn submit(&self, request: Request, reply: Box<dyn FnOnce(Outcome)>) {
        let id = self.shared.waiting.borrow_mut().insert(reply, Instant::now());
        self.shared.inbox.push(Input::Request(id, request));
    }

    /// Hands a request to the next turn and waits for its end. Dropping the future does not cancel the request.
    pub async fn request(&self, request: Request) -> Outcome {
        let (sender, receiver) = tokio::sync::oneshot::channel();
        // The receiver is gone when the asker has given up: nobody is left to tell.
        self.submit(request, Box::new(move |outcome| drop(sender.send(outcome))));
        receiver.await.unwrap_or(Outcome::Failed(Failure::NotReady(NotReady::Stopping)))
    }

    /// Whether clients should be sent here, and if not, why. A server that stops says no before it serves no more, so
    /// that whoever distributes clients hears of it in time.
    pub fn readiness(&self) -> Result<(), Failure> {
        if self.shared.leaving.get() {
            return Err(Failure::NotReady(NotReady::Stopping));
        }
        self.view(Node::readiness)
    }

    /// Looks at the node between two turns.
    pub fn view<T>(&self, look: impl FnOnce(&Node) -> T) -> T {
        look(&self.shared.node.borrow())
    }

    /// Reads both clocks.
    pub fn now(&self) -> Now {
        self.shared.clock.now()
    }

    /// Hands any other input to the next turn: for links and the disk.
    pub fn input(&self, input: Input) {
        self.shared.inbox.push(input);
    }
}

/// Callbacks of the requests in progress. A request's id is its place and how often the place was used before, so that
/// an id that is answered twice meets nobody.
#[derive(Default)]
pub(crate) struct Waiting {
    places: Vec<Place>,
    free: Vec<u32>,
}

#[derive(Default)]
struct Place {
    uses: u32,
    waiter: Option<Waiter>,
}

/// Who waits for a request to end.
pub(crate) struct Waiter {
    pub(crate) reply: ReplyCallback,
    pub(crate) since: Instant,
}

impl std::fmt::Debug for Waiting {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Waiting").field("requests", &self.len()).finish()
    }
}

impl Waiting {
    /// How many requests wait.
    pub(crate) fn len(&self) -> usize {
        self.places.len() - self.free.len()
    }

    fn insert(&mut self, reply: ReplyCallback, since: Instant) -> RequestId {
        let at = self.free.pop().unwrap_or_else(|| {
            self.places.push(Place::default());
            u32::try_from(self.places.len() - 1)
                .expect("requests in progress fit into memory, so into 32 bits")
        });
        let place = &mut self.places[at as usize];
        assert!(place.waiter.is_none(), "a free place holds no callback");
        place.uses = place.uses.wrapping_add(1);
        place.waiter = Some(Waiter { reply, since });
        RequestId(u64::from(place.uses) << 32 | u64::from(at))
    }

    /// Who waits for a request, once.
    pub(crate) fn remove(&mut self, id: RequestId) -> Option<Waiter> {
        let at = u32::try_from(id.0 & u64::from(u32::MAX)).ok()?;
        let place =
            self.places.get_mut(at as usize).filter(|place| u64::from(place.uses) == id.0 >> 32)?;
        let waiter = place.waiter.take()?;
        self.free.push(at);
        Some(waiter)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_finds_its_callback_once_and_is_not_reused() {
        let mut waiting = Waiting::default();
        let first = waiting.insert(Box::new(|_| {}), Instant::now());
        let second = waiting.insert(Box::new(|_| {}), Instant::now());
        assert_eq!(waiting.len(), 2);
        assert!(waiting.remove(first).is_some());
        assert!(waiting.remove(first).is_none(), "answered twice");
        let third = waiting.insert(Box::new(|_| {}), Instant::now());
        assert_ne!(first, third, "the same place, another use");
        assert!(waiting.remove(first).is_none());
        assert!(waiting.remove(second).is_some());
        assert!(waiting.remove(third).is_some());
        assert_eq!(waiting.len(), 0);
    }
}
