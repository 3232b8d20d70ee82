//! Whole conversations over real sockets.

mod abuse;
pub(super) mod fake;
mod harness;
mod order;
mod scripts;
