//! A number that several clients add to.

use super::{Intention, View};
use crate::history::{Call, Key, Use};
use crate::random::Random;

/// The key.
pub(super) const KEY: &str = "n0";

/// Adds to the counter, and reads it now and then.
#[derive(Debug)]
pub(super) struct Counter;

impl Counter {
    pub(super) fn next(view: &View, random: &mut Random) -> Intention {
        let coordinator = *random.pick(&view.up);
        let call = if random.chance(300) {
            Call::Read
        } else {
            Call::Add(i64::try_from(random.between(1, 5)).unwrap_or(1))
        };
        Intention::new(Key::strict(Use::Counter, KEY), coordinator, call)
    }
}
