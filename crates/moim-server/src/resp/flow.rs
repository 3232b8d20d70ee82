//! The replies of a connection, in the order in which the commands came, whatever the order in which they are ready;
//! and the keys that commands in progress use.

use std::collections::VecDeque;
use std::time::Instant;

use super::encode::Reply;
use super::order::{Access, KeyTag, KeysInProgress};

/// Names a command of a connection: they are counted from 0.
pub(crate) type Turn = u64;

/// A command whose reply has not been sent.
#[derive(Debug)]
pub(crate) struct Slot {
    /// Its place in the table of commands.
    pub(crate) command: usize,
    /// When it was executed.
    pub(crate) started: Instant,
    /// Whether its reply is to be swallowed.
    pub(crate) muted: bool,
    /// Its reply, once there is one.
    pub(crate) reply: Option<Reply>,
}

/// Commands in progress.
#[derive(Debug, Default)]
pub(crate) struct Flow {
    first: Turn,
    slots: VecDeque<Slot>,
    keys: KeysInProgress,
    requests: usize,
    /// Commands that have not ended.
    unanswered: usize,
    held_bytes: usize,
    /// About how large a reply is: at least as the last one, and half of what was thought before.
    reply_bytes: usize,
}

impl Flow {
    /// Commands whose replies have not been sent.
    pub(crate) fn len(&self) -> usize {
        self.slots.len()
    }

    /// Requests that the node has not answered.
    pub(crate) fn requests(&self) -> usize {
        self.requests
    }

    /// About how many bytes the replies that wait for their turn take.
    pub(crate) fn held_bytes(&self) -> usize {
        self.held_bytes
    }

    /// About how many bytes the replies that are on their way will take; 0 if there are none.
    pub(crate) fn expected_bytes(&self) -> usize {
        self.unanswered.saturating_mul(self.reply_bytes)
    }

    /// Replies may be as large as this from now on; how large they are is learnt from them.
    pub(crate) fn expect(&mut self, reply_bytes: usize) {
        self.reply_bytes = self.reply_bytes.max(reply_bytes);
    }

    /// A command begins.
    pub(crate) fn open(&mut self, command: usize, started: Instant) -> Turn {
        self.slots.push_back(Slot { command, started, muted: false, reply: None });
        self.unanswered += 1;
        self.first + (self.slots.len() as Turn) - 1
    }

    /// The reply to a command is to be swallowed.
    pub(crate) fn mute(&mut self, turn: Turn) {
        if let Some(slot) = self.slot(turn) {
            slot.muted = true;
        }
    }

    /// A command has ended. Says whether its reply is the next to be sent.
    pub(crate) fn fill(&mut self, turn: Turn, reply: Reply) -> bool {
        let Some(slot) = self.slot(turn) else { return false };
        assert!(slot.reply.is_none(), "a command ends once");
        let weight = reply.weight();
        slot.reply = Some(reply);
        self.unanswered -= 1;
        self.held_bytes += weight;
        self.reply_bytes = weight.max(self.reply_bytes / 2);
        turn == self.first
    }

    /// Whether the next command in order has ended.
    pub(crate) fn is_ready(&self) -> bool {
        self.slots.front().is_some_and(|slot| slot.reply.is_some())
    }

    /// The next command in order, if it has ended.
    pub(crate) fn pop(&mut self) -> Option<Slot> {
        self.slots.front()?.reply.as_ref()?;
        let slot = self.slots.pop_front()?;
        self.first += 1;
        let weight = slot.reply.as_ref().map_or(0, Reply::weight);
        assert!(weight <= self.held_bytes, "a reply weighs the same when it leaves");
        self.held_bytes -= weight;
        Some(slot)
    }

    /// Forgets all commands: their replies, now or later, have nobody to go to.
    pub(crate) fn abandon(&mut self) {
        self.first += self.slots.len() as Turn;
        self.slots = VecDeque::new();
        self.unanswered = 0;
        self.held_bytes = 0;
    }

    /// Whether requests for these keys may run now.
    pub(crate) fn admit(&self, mut keys: impl Iterator<Item = (KeyTag, Access)>) -> bool {
        self.requests == 0 || keys.all(|(key, access)| self.keys.admit(key, access))
    }

    /// A request for a key begins.
    pub(crate) fn enter(&mut self, key: KeyTag, access: Access) {
        self.requests += 1;
        self.keys.enter(key, access);
    }

    /// A request for a key has ended.
    pub(crate) fn leave(&mut self, key: KeyTag, access: Access) {
        assert!(self.requests > 0, "a request ended that had not begun");
        self.requests -= 1;
        self.keys.leave(key, access);
    }

    fn slot(&mut self, turn: Turn) -> Option<&mut Slot> {
        let at = turn.checked_sub(self.first)?;
        self.slots.get_mut(usize::try_from(at).ok()?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replies_leave_in_the_order_of_their_commands() {
        let now = Instant::now();
        let mut flow = Flow::default();
        let turns: Vec<Turn> = (0..3).map(|command| flow.open(command, now)).collect();
        assert!(!flow.fill(turns[2], Reply::Integer(2)));
        assert!(flow.pop().is_none(), "the first has not ended");
        assert!(flow.fill(turns[0], Reply::Integer(0)));
        assert_eq!(flow.pop().unwrap().command, 0);
        assert!(flow.pop().is_none());
        flow.fill(turns[1], Reply::Integer(1));
        assert_eq!(flow.pop().unwrap().command, 1);
        assert_eq!(flow.pop().unwrap().command, 2);
        assert_eq!((flow.len(), flow.held_bytes()), (0, 0));
    }

    #[test]
    fn a_reply_that_comes_after_all_was_abandoned_meets_nobody() {
        let mut flow = Flow::default();
        let old = flow.open(0, Instant::now());
        flow.abandon();
        let new = flow.open(1, Instant::now());
        flow.fill(old, Reply::OK);
        assert!(flow.pop().is_none());
        flow.fill(new, Reply::OK);
        assert_eq!(flow.pop().unwrap().command, 1);
    }
}
