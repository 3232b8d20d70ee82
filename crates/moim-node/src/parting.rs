//! Parting from peers when the server stops, so that nothing that they forward is lost on the way.
//!
//! A forwarded request whose connection ends may have been done or not, and its client has to be told that nobody knows.
//! So a node that stops says goodbye when the updates that it had taken are done, and goes when its peers have answered:
//! messages of one peer come in order, so whatever a peer had sent before it heard the goodbye has been answered by then.
//! Invariant: nothing is said before updates are done, or a peer would have the next owner serialise what is still being
//! serialised here. How long a peer that does not answer is waited for is the server's business.

use std::collections::BTreeSet;

use moim_core::NodeId;

use crate::message::Message;
use crate::node::Node;

/// How far a node is with its end.
#[derive(Debug, Default)]
pub(crate) enum Parting {
    /// It serves.
    #[default]
    NotYet,
    /// It stops, and has updates to finish.
    Stopping,
    /// It has said goodbye; these have not answered.
    Awaits(BTreeSet<NodeId>),
}

impl Node {
    /// The server stops.
    pub(crate) fn begin_parting(&mut self) {
        if matches!(self.parting, Parting::NotYet) {
            self.parting = Parting::Stopping;
        }
    }

    /// Whether this node takes no new requests, because the server stops.
    pub(crate) fn is_stopping(&self) -> bool {
        !matches!(self.parting, Parting::NotYet)
    }

    /// Says goodbye, once there is nothing left that others must not do in parallel. Called when a turn ends.
    pub(crate) fn part(&mut self) {
        if !matches!(self.parting, Parting::Stopping) || !self.serial.is_empty() {
            return;
        }
        let peers = self.peers.connected();
        for &peer in &peers {
            self.send_plain(peer, Message::Goodbye);
        }
        self.parting = Parting::Awaits(peers.into_iter().collect());
    }

    /// A peer stops: it takes no more.
    pub(crate) fn on_goodbye(&mut self, from: NodeId) {
        self.peers.leaves(from);
        self.send_plain(from, Message::Farewell);
    }

    /// A peer has heard that this node stops, or its connection has ended.
    pub(crate) fn on_farewell(&mut self, from: NodeId) {
        if let Parting::Awaits(awaited) = &mut self.parting {
            awaited.remove(&from);
        }
    }

    /// Whether all peers have heard that this node stops, after [`crate::Input::Stop`].
    pub fn has_parted(&self) -> bool {
        matches!(&self.parting, Parting::Awaits(awaited) if awaited.is_empty())
    }
}
