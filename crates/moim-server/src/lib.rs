//! The server: the only crate of Moim with a runtime, sockets, the wall clock and configuration (INV-1).
//!
//! One thread drives one node: a single-threaded runtime whose tasks hand inputs in, and a turn task that runs last
//! (see `turn.rs`, where reading should start). A server holds one node or several, which share nothing.
//!
//! | module | concept |
//! |---|---|
//! | `handle` | [`NodeHandle`], how the thread's tasks reach the node |
//! | `turn` | the loop |
//! | `inbox` | inputs that wait for the next turn |
//! | `disk` | commits and reads beside the loop |
//! | `links` | connections to peers |
//! | `shards` | the other nodes of this server |
//! | [`server`] | start, stop, ports, data directory, identity |
//! | [`config`] | what a server is told |
//! | [`http`] | values, state, metrics and dashboard over HTTP |
//! | [`context_text`] | the causal context as clients carry it |
//! | `recycled` | memory of values that were overwritten |
//! | `memory` | what the parts hold, beside the budget |
//! | `figures` | counters of the loop, the disk and the links |
//! | `clock` | the only reader of clocks |

mod clock;
pub mod config;
pub mod context_text;
mod disk;
mod figures;
mod handle;
pub mod http;
mod inbox;
mod latency;
mod links;
mod memory;
mod out;
mod recycled;
pub mod resp;
pub mod server;
mod shards;
mod turn;

pub use handle::NodeHandle;
pub use moim_node::membership::PROTOCOL as PEER_PROTOCOL;
pub use server::DISK_FORMAT;
pub use turn::alone;
