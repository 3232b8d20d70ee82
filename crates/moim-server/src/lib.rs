//! The server: the only crate of Moim with a runtime, sockets, the wall clock and configuration (INV-1).

pub mod context_text;
mod handle;
pub mod resp;

pub use handle::NodeHandle;
