//! The only crate of Moim with a runtime, sockets, wall clock and configuration.

pub mod context_text;
pub mod handle;
pub mod http;
