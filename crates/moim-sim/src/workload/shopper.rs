//! Somebody with a cart: looks at it, thinks, puts it back with one thing more, and looks again. Carts with several of
//! them at once are robots' (Dynamo, section 6.3: they, and not failures, made most of the versions that readers met).

use moim_core::object::Context;

use super::{Intention, PLACEHOLDER, View};
use crate::history::{Answer, Call, Key, Operation, Use, Value};
use crate::random::Random;

/// Of one cart.
#[derive(Debug)]
pub(super) struct Shopper {
    cart: usize,
    /// What it has just seen, if it did.
    seen: Option<(Context, Vec<Value>)>,
    /// The cart was empty when it looked.
    empty: bool,
}

impl Shopper {
    pub(super) fn new(cart: usize) -> Self {
        Self { cart, seen: None, empty: false }
    }

    pub(super) fn next(&mut self, view: &View, random: &mut Random) -> Intention {
        let coordinator = *random.pick(&view.up);
        let key = Key::strict(Use::Cart, super::cart::key(self.cart));
        let read = Intention::new(key.clone(), coordinator, Call::Read);
        let put = |covers| Call::Put { value: PLACEHOLDER, expires_ms: 0, covers };
        match self.seen.take() {
            Some((context, values)) => {
                let put = put(Some(values.into_iter().collect()));
                Intention { context: Some(context), ..Intention::new(key, coordinator, put) }
            }
            None if std::mem::take(&mut self.empty) => Intention::new(key, coordinator, put(None)),
            None => read,
        }
    }

    pub(super) fn learns(&mut self, operation: &Operation) {
        if let Answer::Read { seen, context, .. } = &operation.answer {
            let values = seen.iter().filter_map(|seen| seen.value).collect();
            self.empty = context.is_empty();
            self.seen = (!self.empty).then(|| (Context::Siblings(context.clone()), values));
        }
    }
}
