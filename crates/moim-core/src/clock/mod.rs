//! Time and causality: [`Hlc`] orders writes that happened apart, [`Dot`] names one write for ever, and
//! [`VersionVector`] says which writes somebody has seen.
//!
//! Invariants: a dot is issued once (INV-3); a vector only grows, except where it is pruned knowingly
//! ([`crate::object::Siblings::prune`]); an [`HlcClock`] never hands out a time twice.
//! Left out: wall clocks (an argument) and where the clock's bound is kept (the node's business).

mod dot;
mod hlc;
mod version_vector;

pub use dot::{Actor, Dot, Epoch};
pub use hlc::{Hlc, HlcClock};
pub use version_vector::{Causality, VersionVector};
