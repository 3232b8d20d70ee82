//! How a connection ends: when all is answered, or, on a node that stops, behind a reply.

use std::net::Shutdown;

use socket2::SockRef;

use super::Worker;
use crate::resp::connection::Closing;

impl Worker {
    pub(super) fn finished(&self) -> bool {
        let flow = self.connection.flow.borrow();
        let answered = flow.len() == 0 && self.output.is_empty();
        match self.connection.closing() {
            Closing::Now => true,
            Closing::AfterReplies => answered && self.say_end(),
            Closing::Open => {
                answered && (self.ended && self.starved || self.connection.front.is_draining())
            }
        }
    }

    /// Whether this is a good moment to end, on a node that stops: the last reply is about to leave, and nothing else has
    /// come in.
    pub(super) fn may_part(&self) -> bool {
        let is_last = !self.output.is_empty() && self.begin == self.input.len() && self.starved;
        is_last
            && !self.corked
            && self.connection.front.is_parting()
            && self.connection.is_between_commands()
    }

    /// Has the last reply and the end travel in one packet: a client that asks again at once must not be able to do so
    /// in between.
    pub(super) fn cork(&mut self) {
        self.corked = true;
        // If it cannot be set, the end comes a moment after the reply.
        drop(SockRef::from(&self.stream).set_tcp_cork(true));
        self.connection.close(Closing::AfterReplies);
    }

    /// Sends the end, with the reply that was held back for it. Says that this is done.
    fn say_end(&self) -> bool {
        if self.corked {
            // The client may have gone first.
            drop(SockRef::from(&self.stream).shutdown(Shutdown::Write));
        }
        true
    }
}
