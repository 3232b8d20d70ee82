//! One writer that goes from node to node: writes through one, waits for the acknowledgement, writes again through
//! one whose clock is behind, and reads. Time stamps from the clocks alone would make the first value win.

use super::register::put;
use super::{Intention, View};
use crate::history::{Call, Key, Operation, Use};
use crate::random::Random;

/// Keys that are written so.
pub(super) const KEYS: usize = 2;

/// A key by its number.
pub(super) fn key(at: usize) -> String {
    format!("q{at}")
}

/// Where the writer stands.
#[derive(Debug, Default)]
pub(super) struct Sequence {
    at: Step,
    key: usize,
    first: usize,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Step {
    /// Writes through any node.
    #[default]
    First,
    /// Writes through a node whose clock is behind that one's.
    Second,
    /// Reads through any node.
    Read,
}

impl Sequence {
    pub(super) fn next(&mut self, view: &View, random: &mut Random) -> Intention {
        let any = *random.pick(&view.up);
        let (coordinator, call) = match self.at {
            Step::First => {
                self.key = random.index(KEYS);
                self.first = any;
                (any, put(0))
            }
            Step::Second => {
                let behind = |&&node: &&usize| view.wall_ms[node] < view.wall_ms[self.first];
                let behind: Vec<usize> = view.up.iter().filter(behind).copied().collect();
                (if behind.is_empty() { any } else { *random.pick(&behind) }, put(0))
            }
            Step::Read => (any, Call::Read),
        };
        Intention::new(Key::strict(Use::Register, key(self.key)), coordinator, call)
    }

    /// Goes on when it succeeded, and begins anew when not.
    pub(super) fn learns(&mut self, operation: &Operation) {
        self.at = match self.at {
            Step::First if operation.is_acknowledged_write() => Step::Second,
            Step::Second if operation.is_acknowledged_write() => Step::Read,
            Step::First | Step::Second | Step::Read => Step::First,
        };
    }
}
