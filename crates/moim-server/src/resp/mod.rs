//! The Redis protocol.

pub(crate) mod encode;
mod number;
pub(crate) mod parse;
