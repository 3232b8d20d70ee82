//! The nodes of one server, each on a thread of its own, and how they reach each other.
//!
//! Nothing of a node is shared. Between two of them lies a queue in place of a connection: the same messages, which have
//! passed the same gate (what they reveal is durable), without bytes in between. What a connection promises holds here
//! as well: messages come in order, between `PeerUp` and `PeerDown`, and a queue that its reader lets grow too long ends
//! the link, so that the sender counts it as unreachable and owes it what it missed. The first node, which has the ports
//! that all share, also hands over clients' connections and asks the others for what people want to see.
//!
//! Locks are taken in the order pair, seat, mailbox, and held for a push.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use moim_core::NodeId;
use moim_node::Input;
use moim_node::membership::Hello;
use tokio::sync::mpsc;
use tokio::time::Instant;
use tracing::info;

use crate::http::Errand;
use crate::inbox::Mailbox;

/// Bytes of messages that may wait for a node that does not take them, as of a connection. With more than that the link
/// is closed.
const WAITING_BYTES_MAX: usize = 32 << 20;

/// How long a node that was turned away is left alone, as over a connection.
const REFUSED_WAIT: Duration = Duration::from_secs(5);

/// Connections of clients, and questions, on their way to a node. More are not handed over.
pub(crate) const ON_THEIR_WAY_MAX: usize = 256;

/// All nodes of a server.
#[derive(Debug)]
pub(crate) struct Shards {
    nodes: Vec<NodeId>,
    seats: Vec<Mutex<Option<Seat>>>,
    /// By the greater number, then the smaller.
    pairs: Vec<Mutex<Pair>>,
}

/// How a node that runs is reached.
#[derive(Clone, Debug)]
pub(crate) struct Seat {
    /// What it says of itself when it meets others.
    pub(crate) hello: Hello,
    pub(crate) mailbox: Arc<Mailbox>,
    /// Takes connections of Redis clients.
    pub(crate) clients: mpsc::Sender<std::net::TcpStream>,
    /// Takes questions of the first node.
    pub(crate) errands: mpsc::Sender<Errand>,
}

/// What lies between two nodes.
#[derive(Debug, Default)]
struct Pair {
    /// The mailbox of the smaller number, and of the greater.
    link: Option<[Arc<Mailbox>; 2]>,
    refused_until: Option<Instant>,
}

/// One node's place among those of its server. Without others for a server of one.
#[derive(Clone, Debug)]
pub(crate) struct Shard {
    shards: Arc<Shards>,
    number: usize,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Whoever died with the lock was not in the middle of anything: each use is one change.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Shards {
    /// The nodes with these ids, none of which runs.
    pub(crate) fn new(nodes: Vec<NodeId>) -> Arc<Self> {
        let count = nodes.len();
        let seats = nodes.iter().map(|_| Mutex::default()).collect();
        let pairs = (0..count * count.saturating_sub(1) / 2).map(|_| Mutex::default()).collect();
        Arc::new(Self { nodes, seats, pairs })
    }

    /// The place of a node, counted from 0.
    pub(crate) fn shard(self: &Arc<Self>, number: usize) -> Shard {
        assert!(number < self.nodes.len(), "a server knows its nodes");
        Shard { shards: Arc::clone(self), number }
    }

    fn pair(&self, a: usize, b: usize) -> MutexGuard<'_, Pair> {
        let (low, high) = (a.min(b), a.max(b));
        assert!(low < high && high < self.nodes.len(), "a pair is two nodes of this server");
        lock(&self.pairs[high * (high - 1) / 2 + low])
    }

    fn seat(&self, number: usize) -> Option<Seat> {
        lock(&self.seats[number]).clone()
    }
}

impl Shard {
    /// A server of one node.
    #[cfg(test)]
    pub(crate) fn alone() -> Self {
        Shards::new(vec![NodeId(0)]).shard(0)
    }

    /// Which one it is, counted from 0. The first has the ports that all share.
    pub(crate) fn number(&self) -> usize {
        self.number
    }

    /// How many nodes the server has.
    pub(crate) fn count(&self) -> usize {
        self.shards.nodes.len()
    }

    /// The others.
    pub(crate) fn others(&self) -> impl Iterator<Item = usize> + use<'_> {
        (0..self.count()).filter(|&other| other != self.number)
    }

    /// Which node of this server has this id, if one has.
    pub(crate) fn find(&self, node: NodeId) -> Option<usize> {
        self.shards.nodes.iter().position(|&known| known == node)
    }

    /// Begins to take part, until the answer is dropped.
    pub(crate) fn enter(&self, seat: Seat) -> Present {
        *lock(&self.shards.seats[self.number]) = Some(seat);
        self.connect();
        Present(self.clone())
    }

    /// From now on it says this of itself to those whom it meets.
    pub(crate) fn introduce(&self, hello: Hello) {
        if let Some(seat) = &mut *lock(&self.shards.seats[self.number]) {
            seat.hello = hello;
        }
    }

    /// Links this node with all others that run and are not linked to it.
    pub(crate) fn connect(&self) {
        self.others().for_each(|other| self.meet(other));
    }

    fn meet(&self, other: usize) {
        let mut pair = self.shards.pair(self.number, other);
        let refused = pair.refused_until.is_some_and(|until| until > Instant::now());
        if pair.link.is_some() || refused {
            return;
        }
        let (low, high) = (self.number.min(other), self.number.max(other));
        let (Some(low), Some(high)) = (self.shards.seat(low), self.shards.seat(high)) else {
            return;
        };
        let nodes = (low.hello.info.member.node, high.hello.info.member.node);
        low.mailbox.push(Input::PeerUp(Box::new(high.hello)));
        high.mailbox.push(Input::PeerUp(Box::new(low.hello)));
        *pair = Pair { link: Some([low.mailbox, high.mailbox]), refused_until: None };
        info!(nodes = %format_args!("{}, {}", nodes.0, nodes.1), "connected within this server");
    }

    /// Whether messages reach the other node.
    pub(crate) fn is_linked(&self, other: usize) -> bool {
        self.shards.pair(self.number, other).link.is_some()
    }

    /// Hands messages that hold so many bytes to another node. Without a link they are dropped: this node has been told.
    pub(crate) fn deliver(&self, other: usize, messages: &mut Vec<Input>, bytes: usize) {
        let pair = self.shards.pair(self.number, other);
        let Some(mailboxes) = &pair.link else { return messages.clear() };
        let waiting = mailboxes[usize::from(other > self.number)].deliver(messages, bytes);
        drop(pair);
        if waiting > WAITING_BYTES_MAX {
            self.close(other, &format!("more than {WAITING_BYTES_MAX} bytes wait for it"));
        }
    }

    /// Ends the link to another node because this one does not want it, and leaves it alone for a while.
    pub(crate) fn refuse(&self, other: usize, why: &str) {
        self.shards.pair(self.number, other).refused_until = Some(Instant::now() + REFUSED_WAIT);
        self.close(other, why);
    }

    fn close(&self, other: usize, why: &str) {
        let nodes = &self.shards.nodes;
        let mut pair = self.shards.pair(self.number, other);
        let Some([low, high]) = pair.link.take() else { return };
        low.push(Input::PeerDown(nodes[self.number.max(other)]));
        high.push(Input::PeerDown(nodes[self.number.min(other)]));
        info!(peer = %nodes[other], "disconnected within this server: {why}");
    }

    /// Hands a client's connection to another node; gives it back if that is not there or has too many on their way.
    pub(crate) fn hand_over(
        &self,
        other: usize,
        client: std::net::TcpStream,
    ) -> Result<(), std::net::TcpStream> {
        let Some(seat) = self.shards.seat(other) else { return Err(client) };
        seat.clients.try_send(client).map_err(mpsc::error::TrySendError::into_inner)
    }

    /// Has another node do something; says whether it will.
    pub(crate) fn ask(&self, other: usize, errand: Errand) -> bool {
        self.shards.seat(other).is_some_and(|seat| seat.errands.try_send(errand).is_ok())
    }
}

/// A node that takes part; dropped, it does no more.
#[derive(Debug)]
pub(crate) struct Present(Shard);

impl Drop for Present {
    fn drop(&mut self) {
        let shard = &self.0;
        lock(&shard.shards.seats[shard.number]).take();
        shard.others().for_each(|other| shard.close(other, "it ends"));
    }
}

#[cfg(test)]
mod tests;
