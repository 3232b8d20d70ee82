//! Keys with siblings: read, and written with what was read, with the context of one's own last write, or without any.

use std::collections::{BTreeMap, BTreeSet};

use moim_core::object::Context;

use super::{Intention, PLACEHOLDER, View};
use crate::history::{Answer, Call, Key, Operation, Use, Value};
use crate::random::Random;

/// A key by its number.
pub(super) fn key(at: usize) -> String {
    format!("c{at}")
}

/// Works on a few carts, and remembers of each what it last saw.
#[derive(Debug)]
pub(super) struct Cart {
    keys: usize,
    /// The context of the last read or write of a key, and which values it stands for.
    known: BTreeMap<String, (Context, BTreeSet<Value>)>,
}

impl Cart {
    /// Of the first so many keys.
    pub(super) fn new(keys: usize) -> Self {
        Self { keys, known: BTreeMap::new() }
    }

    pub(super) fn next(&mut self, view: &View, random: &mut Random) -> Intention {
        let coordinator = *random.pick(&view.up);
        let key = key(random.index(self.keys));
        let known = self.known.get(&key).cloned();
        let expires_ms = if random.chance(80) {
            view.wall_ms[coordinator] + random.between(500, 4_000)
        } else {
            0
        };
        let blind = Call::Put { value: PLACEHOLDER, expires_ms, covers: None };
        let (call, context) = match (random.between(0, 99), known) {
            (0..=39, _) | (40..=87, None) => (Call::Read, None),
            (40..=79, Some((context, covers))) => {
                (Call::Put { value: PLACEHOLDER, expires_ms, covers: Some(covers) }, Some(context))
            }
            (80..=86, Some((context, covers))) => {
                (Call::Delete { covers: Some(covers) }, Some(context))
            }
            (87, Some(_)) => (Call::Delete { covers: None }, None),
            _ => (blind, None),
        };
        Intention { context, ..Intention::new(Key::strict(Use::Cart, key), coordinator, call) }
    }

    pub(super) fn learns(&mut self, operation: &Operation) {
        let (context, covers) = match (&operation.call, &operation.answer) {
            (Call::Read, Answer::Read { seen, context, .. }) if !context.is_empty() => {
                (context, seen.iter().filter_map(|seen| seen.value).collect())
            }
            (Call::Put { value, covers, .. }, Answer::Written { context, .. }) => {
                let mut covers = covers.clone().unwrap_or_default();
                covers.insert(*value);
                (context, covers)
            }
            _ => return,
        };
        self.known.insert(operation.key.name.clone(), (Context::Siblings(context.clone()), covers));
    }
}
