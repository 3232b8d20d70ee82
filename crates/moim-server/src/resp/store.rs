//! The node as the Redis protocol sees it: the one place where commands leave for the node and where its state is
//! looked at.

use std::cell::RefCell;
use std::future::poll_fn;
use std::rc::Rc;
use std::task::{Poll, Waker};

use moim_core::NodeId;
use moim_node::api::{DiskRoom, Failure};
use moim_node::membership::{MemberInfo, Record};
use moim_node::namespace::Namespaces;
use moim_node::views::{Figures, MemberState, PeerState, PeerView};
use moim_node::{Now, Outcome, Request};

#[cfg(test)]
use super::tests::fake::FakeNode;
use crate::NodeHandle;
use crate::latency::Reads;

/// Requests of one command that run at once; the rest of them wait for these.
pub(crate) const WINDOW: usize = 256;

/// Where requests go.
#[derive(Clone, Debug)]
pub(crate) enum Store {
    /// The node of this thread.
    Node(NodeHandle),
    /// A map that answers as a node would, for scripts; it also fails on demand, which a healthy node does not.
    #[cfg(test)]
    Fake(Rc<FakeNode>),
}

impl Store {
    /// Hands a request to the next turn. Nothing may be borrowed that `reply` borrows: it may run at once.
    pub(crate) fn submit(&self, request: Request, reply: Box<dyn FnOnce(Outcome)>) {
        match self {
            Self::Node(handle) => handle.submit(request, reply),
            #[cfg(test)]
            Self::Fake(fake) => fake.submit(request, reply),
        }
    }

    /// A client's connection has brought something.
    pub(crate) fn hear(&self) {
        match self {
            Self::Node(handle) => handle.shared().inbox.hear(),
            #[cfg(test)]
            Self::Fake(_) => {}
        }
    }

    /// Hands a request in and waits for its end.
    pub(crate) async fn request(&self, request: Request) -> Outcome {
        let mut outcomes = self.all(vec![request]).await;
        outcomes.pop().expect("one request has one outcome")
    }

    /// Hands requests in, [`WINDOW`] at a time, and waits for the end of all; outcomes come in the same order.
    pub(crate) async fn all(&self, requests: Vec<Request>) -> Vec<Outcome> {
        let mut outcomes = Vec::with_capacity(requests.len());
        let mut requests = requests.into_iter();
        while requests.len() > 0 {
            let window: Vec<Request> = requests.by_ref().take(WINDOW).collect();
            outcomes.extend(self.window(window).await);
        }
        outcomes
    }

    async fn window(&self, requests: Vec<Request>) -> Vec<Outcome> {
        let missing = requests.len();
        let gathering = Gathering { outcomes: vec![None; missing], missing, waker: None };
        let gathering = Rc::new(RefCell::new(gathering));
        for (at, request) in requests.into_iter().enumerate() {
            let gathering = Rc::clone(&gathering);
            self.submit(request, Box::new(move |outcome| gathering.borrow_mut().fill(at, outcome)));
        }
        poll_fn(|context| gathering.borrow_mut().poll(context.waker())).await
    }

    /// Reads both clocks.
    pub(crate) fn now(&self) -> Now {
        match self {
            Self::Node(handle) => handle.now(),
            #[cfg(test)]
            Self::Fake(fake) => fake.now(),
        }
    }

    /// Who this node is.
    pub(crate) fn own(&self) -> MemberInfo {
        match self {
            Self::Node(handle) => handle.view(|node| node.info().clone()),
            #[cfg(test)]
            Self::Fake(_) => FakeNode::own(),
        }
    }

    /// Looks at the cluster record.
    pub(crate) fn record<T>(&self, look: impl FnOnce(Option<&Record>) -> T) -> T {
        match self {
            Self::Node(handle) => handle.view(|node| look(node.record())),
            #[cfg(test)]
            Self::Fake(fake) => fake.record(look),
        }
    }

    /// Looks at the policies.
    pub(crate) fn namespaces<T>(&self, look: impl FnOnce(&Namespaces) -> T) -> T {
        match self {
            Self::Node(handle) => handle.view(|node| look(node.namespaces())),
            #[cfg(test)]
            Self::Fake(fake) => look(fake.namespaces()),
        }
    }

    /// Peers as seen from here.
    pub(crate) fn peers(&self) -> Vec<PeerView> {
        match self {
            Self::Node(handle) => handle.view(moim_node::Node::peers),
            #[cfg(test)]
            Self::Fake(fake) => fake.peers(),
        }
    }

    /// Counters and levels.
    pub(crate) fn figures(&self) -> Figures {
        match self {
            Self::Node(handle) => handle.view(moim_node::Node::figures),
            #[cfg(test)]
            Self::Fake(_) => Figures::default(),
        }
    }

    /// Looks at how long reads took.
    pub(crate) fn reads<T>(&self, look: impl FnOnce(&Reads) -> T) -> T {
        match self {
            Self::Node(handle) => look(&handle.shared().figures.reads),
            #[cfg(test)]
            Self::Fake(_) => look(&Reads::default()),
        }
    }

    /// How much room the disk has.
    pub(crate) fn disk_room(&self) -> DiskRoom {
        match self {
            Self::Node(handle) => handle.view(moim_node::Node::disk_room),
            #[cfg(test)]
            Self::Fake(_) => DiskRoom::Enough,
        }
    }

    /// Whether the node serves.
    pub(crate) fn readiness(&self) -> Result<(), Failure> {
        match self {
            Self::Node(handle) => handle.view(moim_node::Node::readiness),
            #[cfg(test)]
            Self::Fake(fake) => fake.readiness(),
        }
    }

    /// The version of the ring, 0 before there is one.
    pub(crate) fn ring_version(&self) -> u64 {
        self.record(|record| record.map_or(0, |record| record.ring.version()))
    }

    /// The nodes of the slot table: this one, and members that are not agreed to be down.
    pub(crate) fn present(&self) -> Vec<NodeId> {
        match self {
            Self::Node(handle) => handle.view(moim_node::Node::present),
            #[cfg(test)]
            Self::Fake(fake) => fake.present(),
        }
    }

    /// What members agree on of a node.
    pub(crate) fn agreed(&self, node: NodeId) -> MemberState {
        match self {
            Self::Node(handle) => handle.view(|own| own.member_state(node)),
            #[cfg(test)]
            Self::Fake(fake) => fake.agreed(node),
        }
    }

    /// The nodes that answer: this one, and the peers it hears.
    pub(crate) fn reachable(&self) -> Vec<NodeId> {
        let heard = |peer: &PeerView| peer.state == PeerState::Up;
        let peers = self.peers();
        let peers = peers.iter().filter(|peer| heard(peer)).map(|peer| peer.info.member.node);
        std::iter::once(self.own().member.node).chain(peers).collect()
    }
}

/// Outcomes of requests that run at once.
struct Gathering {
    outcomes: Vec<Option<Outcome>>,
    missing: usize,
    waker: Option<Waker>,
}

impl Gathering {
    fn fill(&mut self, at: usize, outcome: Outcome) {
        assert!(self.outcomes[at].is_none(), "a request ends once");
        self.outcomes[at] = Some(outcome);
        self.missing -= 1;
        if let Some(waker) = self.waker.take_if(|_| self.missing == 0) {
            waker.wake();
        }
    }

    fn poll(&mut self, waker: &Waker) -> Poll<Vec<Outcome>> {
        if self.missing > 0 {
            self.waker = Some(waker.clone());
            return Poll::Pending;
        }
        Poll::Ready(std::mem::take(&mut self.outcomes).into_iter().flatten().collect())
    }
}
