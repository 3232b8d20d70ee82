//! The Redis protocol: RESP2 and RESP3, pipelines, inline commands, on a plain and on a cluster port.
//!
//! A connection is one task (`worker`). It parses everything that has arrived (`parse`), looks each command up in one
//! table (`command::table`) and hands the requests it makes to the node; the replies (`answer`, `failure`, `encode`) go
//! out in the order of the commands (`flow`), all that are ready in one write.
//!
//! Invariants: what one connection does hurts nobody else (every buffer and queue has a bound in [`RespSettings`], and a
//! client that does not read its replies is not read either); nothing is allocated on a client's word; a pipeline is
//! executed as if its commands came one by one (`order`); the node decides everything about values, this module nothing.
//!
//! Left out: data types beside strings (they come with the mergeable types), users beside `default`, TLS.
//!
//! | file | concept |
//! |---|---|
//! | `front` | what all connections share |
//! | `connection`, `worker` | one connection: the part others reach for, and its task |
//! | `flow`, `order` | replies in order; commands that wait for one another |
//! | `session` | what `RESET` forgets |
//! | `parse`, `arguments`, `encode`, `number` | bytes |
//! | `command` | the commands |
//! | `answer`, `failure` | outcomes of the node as replies |
//! | `store` | the node, as seen from here |
//! | `figures`, `settings`, `login`, `glob` | what their names say |

mod answer;
mod arguments;
mod command;
mod connection;
mod encode;
mod failure;
mod figures;
mod flow;
mod front;
mod glob;
mod login;
mod number;
mod order;
mod parse;
mod session;
mod settings;
mod store;
#[cfg(test)]
mod tests;
mod worker;

pub use figures::{CommandFigures, LATENCY_BOUNDS_MICROS, RespFigures};
pub use front::Front;
pub use login::PasswordDigest;
pub use settings::{Port, RespSettings};
