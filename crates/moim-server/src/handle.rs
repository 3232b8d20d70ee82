//! [`NodeHandle`]: how everything on the node's thread reaches the node. A stand-in of the right shape until the loop
//! is merged: it never turns its node, so every request is answered as if the server were stopping.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::{SystemTime, UNIX_EPOCH};

use moim_node::api::{Failure, NotReady};
use moim_node::{Node, Now, Outcome, Request};

/// A cheap reference to a node and its loop; stays on the node's thread.
#[derive(Clone, Debug)]
pub struct NodeHandle {
    node: Rc<RefCell<Node>>,
}

impl NodeHandle {
    /// Hands a request to the next turn. `reply` runs on the same thread after the turn in which the request ended,
    /// outside of any borrow: it may submit again.
    pub fn submit(&self, _request: Request, reply: Box<dyn FnOnce(Outcome)>) {
        reply(Outcome::Failed(Failure::NotReady(NotReady::Stopping)));
    }

    /// Looks at the node between two turns.
    pub fn view<T>(&self, look: impl FnOnce(&Node) -> T) -> T {
        look(&self.node.borrow())
    }

    /// Reads both clocks.
    pub fn now(&self) -> Now {
        let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let wall_ms = u64::try_from(wall.as_millis()).unwrap_or(u64::MAX);
        Now { mono_ms: wall_ms, wall_ms }
    }
}
