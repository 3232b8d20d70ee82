//! How the fronts (RESP, HTTP) reach the node of their loop.

use std::cell::RefCell;
use std::rc::Rc;

use moim_node::api::{Failure, NotReady, Now};
use moim_node::{Node, Outcome, Request};
use tokio::sync::oneshot;

/// Called once with the outcome of a request.
pub type Reply = Box<dyn FnOnce(Outcome)>;

/// The node of this thread. Cheap to clone; never leaves its thread.
#[derive(Clone)]
pub struct NodeHandle {
    inner: Rc<Inner>,
}

struct Inner {
    node: RefCell<Node>,
    submit: Box<dyn Fn(Request, Reply)>,
    now: Box<dyn Fn() -> Now>,
}

impl std::fmt::Debug for NodeHandle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("NodeHandle")
    }
}

impl NodeHandle {
    /// A handle to `node` whose requests go to `submit`.
    pub fn new(
        node: Node,
        now: impl Fn() -> Now + 'static,
        submit: impl Fn(Request, Reply) + 'static,
    ) -> Self {
        let inner =
            Inner { node: RefCell::new(node), submit: Box::new(submit), now: Box::new(now) };
        Self { inner: Rc::new(inner) }
    }

    /// Asks the node; `reply` is called with the outcome, in a later turn of the loop.
    pub fn submit(&self, request: Request, reply: Reply) {
        (self.inner.submit)(request, reply);
    }

    /// Asks the node and waits.
    pub async fn request(&self, request: Request) -> Outcome {
        let (sender, receiver) = oneshot::channel();
        self.submit(
            request,
            Box::new(move |outcome| {
                // A client that has gone away does not wait for its outcome.
                drop(sender.send(outcome));
            }),
        );
        receiver.await.unwrap_or(Outcome::Failed(Failure::NotReady(NotReady::Stopping)))
    }

    /// Looks at the node between turns.
    pub fn view<T>(&self, look: impl FnOnce(&Node) -> T) -> T {
        look(&self.inner.node.borrow())
    }

    /// The time of this moment, as turns see it.
    pub fn now(&self) -> Now {
        (self.inner.now)()
    }
}
