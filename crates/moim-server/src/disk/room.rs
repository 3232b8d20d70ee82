//! How much room the disk has, from its two witnesses: whoever looks at the file system now and then, and the committer
//! when a group did not fit. The node is told when the answer changes.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use moim_node::Input;
use moim_node::api::DiskRoom;

use crate::inbox::Mailbox;

/// What is known of the room; shared by the witnesses.
#[derive(Debug)]
pub(crate) struct Room {
    mailbox: Arc<Mailbox>,
    seen: Mutex<Seen>,
    /// As in [`Seen`], to be read without the lock.
    stuck: AtomicBool,
}

#[derive(Debug, Default)]
struct Seen {
    /// Little is left.
    low: bool,
    /// A group did not fit.
    stuck: bool,
    told: DiskRoom,
}

impl Room {
    pub(crate) fn new(mailbox: Arc<Mailbox>) -> Self {
        Self { mailbox, seen: Mutex::default(), stuck: AtomicBool::new(false) }
    }

    /// The file system has little room, or enough again.
    pub(crate) fn set_low(&self, low: bool) {
        self.change(|seen| seen.low = low);
    }

    /// A group does not fit, or did at last.
    pub(crate) fn set_stuck(&self, stuck: bool) {
        self.stuck.store(stuck, Ordering::Release);
        self.change(|seen| seen.stuck = stuck);
    }

    pub(crate) fn is_stuck(&self) -> bool {
        self.stuck.load(Ordering::Acquire)
    }

    fn change(&self, change: impl FnOnce(&mut Seen)) {
        // Whoever died with the lock was not in the middle of anything: each use is one change.
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        change(&mut seen);
        let room = match (seen.stuck, seen.low) {
            (true, _) => DiskRoom::Exhausted,
            (false, true) => DiskRoom::Low,
            (false, false) => DiskRoom::Enough,
        };
        if std::mem::replace(&mut seen.told, room) != room {
            // Within the lock, so that the node hears changes in their order.
            self.mailbox.push(Input::DiskRoom(room));
        }
    }
}
