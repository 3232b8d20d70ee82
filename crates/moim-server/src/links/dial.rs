//! Dialing peers: one task an address, which never gives up.

use std::rc::Rc;
use std::time::Duration;

use moim_core::NodeId;
use moim_node::membership::Hello;
use tokio::net::TcpStream;
use tokio::time::Instant;
use tracing::info;

use super::backoff::Backoff;
use super::{Dialed, Links, hello};

/// How long a connection may take to be made.
const CONNECT_WAIT: Duration = Duration::from_secs(1);

/// After a link is lost, the node with the larger id gives the other one this long to dial, so that they rarely meet
/// halfway.
const PATIENCE: Duration = Duration::from_millis(500);

/// A link that lived at least this long was no failure: dialing begins anew with the shortest wait.
const STABLE: Duration = Duration::from_secs(1);

/// How an attempt ended.
pub(super) enum Attempt {
    /// A link to this node is coming about now, or there was one already.
    Linked(NodeId),
    /// The address is this server's own.
    Own,
    Failed(String),
}

impl Links {
    /// Dials these addresses from now on, and no others. Links that stand are left alone. The id is who is expected
    /// there, if that is known.
    pub(crate) fn dial(self: &Rc<Self>, addresses: &[(String, Option<NodeId>)]) {
        let mut dialers = self.dialers.borrow_mut();
        dialers.retain(|address, task| {
            let wanted = addresses.iter().any(|(wanted, _)| wanted == address);
            if !wanted {
                task.abort();
            }
            wanted
        });
        for (address, peer) in addresses {
            let within = peer.is_some_and(|peer| self.is_within(peer));
            if !dialers.contains_key(address) && !within {
                let task = Rc::clone(self).dial_forever(address.clone(), *peer);
                dialers.insert(address.clone(), tokio::task::spawn_local(task).abort_handle());
            }
        }
    }

    /// Whether a node is this one or another of its server, which is not dialed.
    fn is_within(&self, node: NodeId) -> bool {
        node == self.own || self.neighbour(node).is_some()
    }

    async fn dial_forever(self: Rc<Self>, address: String, mut peer: Option<NodeId>) {
        let mut backoff = Backoff::new();
        loop {
            self.until_wanted(peer).await;
            match self.attempt(&address).await {
                Attempt::Own => return,
                Attempt::Failed(why) => {
                    if self.log.borrow_mut().admits(&address, &why) {
                        info!("cannot reach the peer at {address}: {why}; trying on");
                    }
                }
                Attempt::Linked(node) => {
                    peer = Some(node);
                    let begun = Instant::now();
                    self.until_lost(node).await;
                    if begun.elapsed() >= STABLE {
                        backoff = Backoff::new();
                    }
                    if self.own > node {
                        tokio::time::sleep(PATIENCE).await;
                    }
                }
            }
            let wait = backoff.next(&mut self.random.borrow_mut());
            tokio::time::sleep(wait).await;
        }
    }

    /// Waits while there is a link to this peer, or while the node does not want one.
    async fn until_wanted(&self, peer: Option<NodeId>) {
        let Some(peer) = peer else { return };
        loop {
            self.until_lost(peer).await;
            let refused = self.refused.borrow().get(&peer).copied();
            match refused.filter(|&until| until > Instant::now()) {
                Some(until) => tokio::time::sleep_until(until).await,
                None => break,
            }
        }
        self.refused.borrow_mut().remove(&peer);
    }

    async fn until_lost(&self, peer: NodeId) {
        while self.is_linked(peer) {
            self.lost.notified().await;
        }
    }

    /// Connects and begins a link, by rule 1 of the module.
    async fn attempt(self: &Rc<Self>, address: &str) -> Attempt {
        let mut stream = match tokio::time::timeout(CONNECT_WAIT, TcpStream::connect(address)).await
        {
            Ok(Ok(stream)) => stream,
            Ok(Err(error)) => return Attempt::Failed(error.to_string()),
            Err(_elapsed) => {
                return Attempt::Failed(format!("no connection in {} s", CONNECT_WAIT.as_secs()));
            }
        };
        // Nothing is known of the other side yet, so a failure to switch coalescing off is one of the connection.
        let heard = match stream.set_nodelay(true) {
            // Dialing a closed port of this machine can by chance begin at that very port, and meet itself.
            Ok(()) if stream.local_addr().ok() == stream.peer_addr().ok() => {
                Err(hello::HelloError::Closed)
            }
            Ok(()) => hello::hear(&mut stream).await,
            Err(error) => Err(hello::HelloError::Io(error)),
        };
        heard
            .and_then(|theirs| self.answer(stream, theirs))
            .unwrap_or_else(|error| Attempt::Failed(error.to_string()))
    }

    /// Answers a hello if that begins a link. Does not wait between the look and the link, so that two addresses of one
    /// node do not make two links.
    pub(super) fn answer(
        self: &Rc<Self>,
        stream: TcpStream,
        theirs: Hello,
    ) -> Result<Attempt, hello::HelloError> {
        let node = theirs.info.member.node;
        let own = node == self.own && theirs.run == self.run;
        if own || self.neighbour(node).is_some() {
            return Ok(Attempt::Own);
        }
        if self.is_cut.get() {
            return Ok(Attempt::Failed("cut off for an experiment".to_owned()));
        }
        if !self.is_linked(node) {
            hello::say_at_once(&stream, &(self.hello)())?;
            assert!(self.admit(stream, theirs, Dialed::Here), "there was no link a moment ago");
        }
        Ok(Attempt::Linked(node))
    }
}
