//! Whole servers in one process: real sockets, real clocks, a thread a node. One binary, so that it links once.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod cluster;
mod damage;
mod http;
mod memory;
mod serving;
mod shards;
mod stopping;
