//! What a node does while its disk has too little room ([`DiskRoom`]). It refuses as little as it can:
//!
//! | | enough | low | exhausted |
//! |---|---|---|---|
//! | reads | go on | go on | go on |
//! | values for this replica | taken | [`Why::DiskFull`] | [`Why::DiskFull`] |
//! | deletions for this replica | taken | taken | [`Why::DiskFull`] |
//! | coordinating in `lww` | here | here, without its own copy | another owner |
//! | coordinating in `siblings` | here | another owner | another owner |
//!
//! Invariants: a write is refused before anything of it was done, so whoever was refused may ask another node; what was
//! taken before the disk was full is kept, in order, and acknowledged when it is durable (INV-2).

use moim_core::object::Object;

use crate::api::{Action, DiskRoom, Failure, Why};
use crate::namespace::Conflict;
use crate::node::Node;

impl Node {
    /// Whether this replica may take an object that a coordinator sends.
    pub(crate) fn check_room(&mut self, incoming: &Object) -> Result<(), Why> {
        let holds_values = || incoming.versions().iter().any(|version| version.value().is_some());
        let fits = match self.disk_room {
            DiskRoom::Enough => true,
            // A deletion gives back more than it takes: it must be possible to delete one's way out.
            DiskRoom::Low => !holds_values(),
            DiskRoom::Exhausted => false,
        };
        if fits {
            return Ok(());
        }
        self.figures.disk_full_refused += 1;
        Err(Why::DiskFull)
    }

    /// Whether this node may coordinate a write.
    pub(crate) fn has_room_for(&self, conflict: Conflict, action: &Action) -> bool {
        match self.disk_room {
            DiskRoom::Enough => true,
            // In `siblings` the coordinator's own copy is written first, because a dot needs it (INV-3).
            DiskRoom::Low => conflict == Conflict::Lww || matches!(action, Action::Delete { .. }),
            DiskRoom::Exhausted => false,
        }
    }

    /// The failure of a write that this node may not coordinate.
    pub(crate) fn disk_full(&mut self) -> Failure {
        self.figures.disk_full_refused += 1;
        let limit_percent = match self.disk_room {
            DiskRoom::Exhausted => 100,
            DiskRoom::Enough | DiskRoom::Low => self.options.disk_used_percent_max,
        };
        Failure::DiskFull { node: self.info.member.node, limit_percent }
    }
}
