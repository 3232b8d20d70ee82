//! Whole servers in one process: real sockets, real clocks, a thread a node. One binary, so that it links once.

mod cluster;
mod http;

mod serving;
mod stopping;
