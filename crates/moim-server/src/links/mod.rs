//! Connections to peers: one duplex TCP connection a pair of nodes.
//!
//! **How a pair comes to have exactly one.** Both nodes of a pair may dial; the side that *accepts* speaks first.
//!
//! 1. The dialing side reads the other's hello and answers with its own only if it has no link to that node, not even
//!    one that is coming about. So a node that is reached by two addresses, or by its own, is found out before the
//!    other side knows of it, and whoever dials again has lost the link it had.
//! 2. The accepting side makes a link of the answer and says so with a pong. If it already has a link to that node, the
//!    new one replaces it, unless the old one was dialed from here to the same run of that node and this node's id is
//!    the smaller one: then the new connection is closed.
//! 3. The dialing side's link *stands* when the first frame after the hello has arrived. Until then it is coming about:
//!    nothing is sent over it, and the node does not know of it.
//!
//! Why this converges: by rule 1, two links of one pair come about only when both nodes dialed at the same time, and
//! then rule 2 makes both keep the one that the smaller id dialed. The exception of rule 2 can be wrong only while this
//! node believes in a link that the other has lost, and a link without a word is closed after [`SILENCE_MAX`].
//!
//! Why nothing is lost when both dial: by rule 3, nobody uses a connection that its accepting side has not taken. When
//! the smaller id hears the other's answer, it waits for a word on its own connection and so does not take that one; what
//! the other then drops has carried nothing but hellos. A link that stands is replaced only when the other side lost it
//! and dialed again, or began anew (or when a hello was on its way for as long as a link may be silent): what was on its
//! way over it is lost then, and the node hears that the peer went before it hears that it came.
//!
//! Frames wait in the link's out buffer until the pass of the loop ends and leave in one write. Left out: encryption,
//! authentication, lanes of different urgency.

mod backoff;
mod dial;
mod frames;
mod hello;
mod last_write;
mod link;
mod local;
mod log;

#[cfg(test)]
mod tests;

use std::cell::{Cell, OnceCell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

use moim_core::NodeId;
use moim_node::Input;
use moim_node::membership::{Hello, MemberInfo, Record};
use moim_node::message::Message;
use tokio::net::TcpStream;
use tokio::sync::Notify;
use tokio::task::AbortHandle;
use tokio::time::Instant;
use tracing::{debug, info, warn};

use self::backoff::Random;
use self::last_write::LastWrite;
use self::link::{Link, LinkId};
use self::local::Local;
use self::log::LogLimit;
use crate::figures::LinkFigures;
use crate::inbox::Inbox;
use crate::shards::Shard;

/// A connection on which nothing arrives for this long is given up. Nodes ping a silent peer every
/// `ping_interval_ms`, so many pings have then gone unanswered.
const SILENCE_MAX: Duration = Duration::from_secs(5);

/// How often links are checked for silence.
const SILENCE_CHECK: Duration = Duration::from_secs(1);

/// How long a peer that the node turned away is not dialed.
const REFUSED_WAIT: Duration = Duration::from_secs(5);

/// Peers remembered as turned away. Beyond it strangers are dialed as soon as others.
const REFUSED_MAX: usize = 1_000;

/// Connections that have not said hello yet; more are closed, so that strangers cannot fill the memory.
const GUESTS_MAX: usize = 128;

/// All connections of a node to its peers.
pub(crate) struct Links {
    own: NodeId,
    run: u64,
    hello: Box<dyn Fn() -> Hello>,
    inbox: Rc<Inbox>,
    peers: RefCell<BTreeMap<NodeId, Rc<Link>>>,
    /// The other nodes of this server, if there are any.
    local: OnceCell<Local>,
    /// Links with something to write at the end of this pass.
    dirty: RefCell<Vec<Rc<Link>>>,
    last_write: RefCell<LastWrite>,
    /// Wakes dialers: a link is gone.
    lost: Notify,
    refused: RefCell<BTreeMap<NodeId, Instant>>,
    dialers: RefCell<BTreeMap<String, AbortHandle>>,
    /// Counts links from 1.
    next_link: Cell<u64>,
    /// Links that came to stand.
    connects: Cell<u64>,
    sent_bytes: Cell<u64>,
    received_bytes: Cell<u64>,
    guests: Cell<usize>,
    /// No connections at all, for experiments.
    is_cut: Cell<bool>,
    random: RefCell<Random>,
    log: RefCell<LogLimit>,
}

impl std::fmt::Debug for Links {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Links").field("peers", &self.peers.borrow()).finish_non_exhaustive()
    }
}

/// Who opened a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Dialed {
    Here,
    There,
}

impl Links {
    /// No connections yet. `hello` is what this node says of itself now; `seed` spreads reconnects.
    pub(crate) fn new(
        hello: impl Fn() -> Hello + 'static,
        inbox: Rc<Inbox>,
        seed: u64,
    ) -> Rc<Self> {
        let own = hello();
        Rc::new(Self {
            own: own.info.member.node,
            run: own.run,
            hello: Box::new(hello),
            inbox,
            peers: RefCell::default(),
            local: OnceCell::new(),
            dirty: RefCell::default(),
            last_write: RefCell::default(),
            lost: Notify::new(),
            refused: RefCell::default(),
            dialers: RefCell::default(),
            next_link: Cell::new(1),
            connects: Cell::new(0),
            sent_bytes: Cell::new(0),
            received_bytes: Cell::new(0),
            guests: Cell::new(0),
            is_cut: Cell::new(false),
            random: RefCell::new(Random::new(seed)),
            log: RefCell::default(),
        })
    }

    /// From now on the other nodes of this server are reached within the process. Said before anything is sent.
    pub(crate) fn share(&self, shard: Shard) {
        if shard.count() > 1 {
            self.local.set(Local::new(shard, self.own)).expect("it is said once");
        }
    }

    /// Puts a message into the out buffer of a peer. Dropped if no link stands: the node has been told.
    pub(crate) fn send(&self, peer: NodeId, message: Message) {
        if let Some((local, number)) = self.neighbour(peer) {
            return local.push(number, message);
        }
        let link = self.peers.borrow().get(&peer).filter(|link| link.stands()).cloned();
        let Some(link) = link else { return };
        match link.push(message, &mut self.last_write.borrow_mut()) {
            Ok(true) => self.dirty.borrow_mut().push(link),
            Ok(false) => {}
            Err(why) => self.close(&link, &why),
        }
    }

    /// Writes to every peer what this pass has for it.
    pub(crate) fn flush(&self) {
        let dirty = self.dirty.take();
        for link in &dirty {
            match link.flush() {
                Ok(bytes) => self.count_sent(bytes),
                Err(why) => self.close(link, &why),
            }
        }
        // Keeps the allocation; closing a link pushes no other.
        let mut kept = dirty;
        kept.clear();
        self.dirty.replace(kept);
        if let Some(local) = self.local.get() {
            local.flush();
        }
    }

    /// Another node of this server, and its number, if this is one.
    fn neighbour(&self, node: NodeId) -> Option<(&Local, usize)> {
        let local = self.local.get()?;
        Some((local, local.find(node)?))
    }

    /// Links this node with those of its server whose link has ended. Runs for ever.
    pub(crate) async fn meet_neighbours(self: Rc<Self>) {
        while let Some(local) = self.local.get() {
            tokio::time::sleep(local::MEET_EVERY).await;
            local.shard.connect();
        }
    }

    /// What went over the links.
    pub(crate) fn figures(&self) -> LinkFigures {
        let peers = self.peers.borrow();
        let standing = peers.values().filter(|link| link.stands()).count();
        LinkFigures {
            links: standing + self.local.get().map_or(0, Local::links),
            local_messages: self.local.get().map_or(0, Local::sent),
            connects: self.connects.get(),
            sent_bytes: self.sent_bytes.get(),
            received_bytes: self.received_bytes.get(),
            waiting_bytes: peers.values().map(|link| link.waiting_bytes()).sum(),
        }
    }

    /// Whether nothing waits to be written.
    pub(crate) fn is_flushed(&self) -> bool {
        self.peers.borrow().values().all(|link| link.waiting_bytes() == 0)
    }

    /// Dials the members of this record from now on.
    pub(crate) fn adopt(self: &Rc<Self>, record: &Record) {
        if let Some(local) = self.local.get() {
            local.shard.introduce((self.hello)());
        }
        let address = |info: &MemberInfo| (info.peer_address.clone(), Some(info.member.node));
        self.dial(&record.members.iter().map(address).collect::<Vec<_>>());
    }

    /// Closes the connection to a peer because the node does not want it, and leaves it alone for a while.
    pub(crate) fn disconnect(&self, peer: NodeId, why: &str) {
        self.refuse(peer);
        if self.log.borrow_mut().admits(&format!("peer {peer}"), why) {
            warn!(%peer, "turned away: {why}");
        }
        if let Some((local, number)) = self.neighbour(peer) {
            return local.shard.refuse(number, why);
        }
        let link = self.peers.borrow().get(&peer).cloned();
        if let Some(link) = link {
            self.close(&link, why);
        }
    }

    /// Closes all connections and makes no new ones, or lets them be made again: for experiments.
    pub(crate) fn cut(&self, cut: bool) {
        self.is_cut.set(cut);
        if cut {
            let links: Vec<_> = self.peers.borrow().values().cloned().collect();
            for link in links {
                self.close(&link, "cut off for an experiment");
            }
        }
    }

    /// Takes a connection that somebody else opened.
    pub(crate) async fn welcome(self: Rc<Self>, mut stream: TcpStream) {
        if self.is_cut.get() {
            return;
        }
        if self.guests.get() >= GUESTS_MAX {
            return self.log_guest(&format!("{GUESTS_MAX} connections have not said hello yet"));
        }
        self.guests.set(self.guests.get() + 1);
        let own = (self.hello)();
        let greeted = hello::welcome(&mut stream, &own).await;
        self.guests.set(self.guests.get() - 1);
        match greeted {
            Ok(theirs) => {
                self.admit(stream, theirs, Dialed::There);
            }
            // A dialer that is linked already says nothing, and so does a port scanner.
            Err(hello::HelloError::Closed) => {}
            Err(why) => self.log_guest(&why.to_string()),
        }
    }

    /// Closes links on which nothing has arrived for too long. Runs for ever.
    pub(crate) async fn watch(self: Rc<Self>) {
        loop {
            let begun = Instant::now();
            tokio::time::sleep(SILENCE_CHECK).await;
            // After a pause of this process, what the peers said meanwhile is still to be read.
            if begun.elapsed() > SILENCE_CHECK * 2 {
                continue;
            }
            let silent = |link: &&Rc<Link>| link.heard().elapsed() > SILENCE_MAX;
            let silent: Vec<_> = self.peers.borrow().values().filter(silent).cloned().collect();
            for link in silent {
                self.close(
                    &link,
                    &format!("nothing was heard of it for {} s", SILENCE_MAX.as_secs()),
                );
            }
        }
    }

    fn refuse(&self, peer: NodeId) {
        let now = Instant::now();
        let mut refused = self.refused.borrow_mut();
        refused.retain(|_, until| *until > now);
        if refused.len() < REFUSED_MAX {
            refused.insert(peer, now + REFUSED_WAIT);
        }
    }

    fn is_refused(&self, peer: NodeId) -> bool {
        self.refused.borrow().contains_key(&peer)
    }

    /// Whether there is a link to a peer, be it one that is coming about.
    fn is_linked(&self, peer: NodeId) -> bool {
        self.peers.borrow().contains_key(&peer)
    }

    /// Makes a link of a connection on which both hellos were said, unless rule 2 of the module (or an
    /// experiment) is against it.
    fn admit(self: &Rc<Self>, stream: TcpStream, hello: Hello, dialed: Dialed) -> bool {
        let peer = hello.info.member.node;
        let old = self.peers.borrow().get(&peer).cloned();
        if self.is_cut.get() || old.as_ref().is_some_and(|old| self.prefers(old, &hello, dialed)) {
            return false;
        }
        let id = LinkId(self.next_link.replace(self.next_link.get() + 1));
        let (link, reader) = Link::new(id, dialed, hello, stream);
        self.peers.borrow_mut().insert(peer, Rc::clone(&link));
        if let Some(old) = old {
            old.abort();
            if old.stands() {
                // What was on its way over the old one is lost.
                self.inbox.push(Input::PeerDown(peer));
            }
        }
        link.start(self, reader);
        if dialed == Dialed::There {
            self.stand(&link);
            self.confirm(&link);
        }
        true
    }

    /// Whether a link is kept although there is a new connection to its peer: the exception of rule 2.
    fn prefers(&self, old: &Link, hello: &Hello, dialed: Dialed) -> bool {
        old.dialed == Dialed::Here
            && old.run == hello.run
            && dialed == Dialed::There
            && self.own < old.peer
    }

    /// From now on a link is used, if it was not before.
    fn stand(&self, link: &Link) {
        let Some(hello) = link.stand() else { return };
        self.connects.set(self.connects.get() + 1);
        let Link { peer, address, dialed, .. } = link;
        if self.is_refused(*peer) {
            debug!(%peer, %address, ?dialed, "connected, though turned away lately");
        } else {
            info!(%peer, %address, ?dialed, "connected");
        }
        self.inbox.push(Input::PeerUp(Box::new(hello)));
    }

    /// Tells the dialing side that its connection was taken: at once, for it waits for that.
    fn confirm(&self, link: &Link) {
        let pushed = link.push(Message::Pong, &mut self.last_write.borrow_mut());
        match pushed.and_then(|_first| link.flush()) {
            Ok(bytes) => self.count_sent(bytes),
            Err(why) => self.close(link, &why),
        }
    }

    /// Ends a link, if it has not been replaced.
    fn close(&self, link: &Link, why: &str) {
        link.abort();
        if !self.forget(link) {
            return;
        }
        let Link { peer, address, .. } = link;
        match (link.stands(), self.is_refused(*peer)) {
            (false, _) => debug!(%peer, %address, "it did not take a connection: {why}"),
            (true, true) => debug!(%peer, %address, "disconnected: {why}"),
            (true, false) => info!(%peer, %address, "disconnected: {why}"),
        }
        if link.stands() {
            self.inbox.push(Input::PeerDown(*peer));
        }
        self.lost.notify_waiters();
    }

    /// Whether this was the link to its peer, which has none now.
    fn forget(&self, link: &Link) -> bool {
        let mut peers = self.peers.borrow_mut();
        let is_current = peers.get(&link.peer).is_some_and(|current| current.id == link.id);
        if is_current {
            peers.remove(&link.peer);
        }
        is_current
    }

    fn count_sent(&self, bytes: usize) {
        self.sent_bytes.set(self.sent_bytes.get() + bytes as u64);
    }

    fn count_received(&self, bytes: usize) {
        self.received_bytes.set(self.received_bytes.get() + bytes as u64);
    }

    fn log_guest(&self, why: &str) {
        if self.log.borrow_mut().admits("guests", why) {
            warn!("closed a connection to the peer port: {why}");
        }
    }
}
