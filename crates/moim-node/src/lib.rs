//! One node of Moim as a state machine: [`Node::turn`] takes the time and what has arrived, and gives back what to do.
//!
//! No clock, randomness, thread or socket in here (INV-1): time is an argument, chance comes from a seed given at
//! [`Boot`], disk and network are effects whose completions are inputs. So the code that ships is the code that the
//! simulator runs. Start reading at `node.rs` ([`Node::turn`]); then follow a write through `coordinator`, `replica`
//! and `gate`.
//!
//! | module | concept |
//! |---|---|
//! | [`api`] | what a node is asked and what it answers: requests, outcomes, inputs, effects |
//! | [`message`], [`wire`] | what nodes say to each other, and its bytes |
//! | [`namespace`], [`options`] | policies and limits |
//! | [`membership`] | who is in the cluster: founding, the cluster record, hello |
//! | [`gossip`] | who lives: heartbeats, phi, verdicts that two must share |
//! | [`update`] | commands that read and write in one |
//! | [`keyspace`] | persisted keys, and nowhere else |
//! | `coordinator` | write path, read path, read repair |
//! | `replica` | join into local state |
//! | `store` | the cache of objects, what is not yet durable, reads from disk |
//! | [`anti_entropy`] | comparing trees with the other owners, repairing what differs, filling a node that lost its disk |
//! | `gate` | nothing leaves before what it reveals is durable |
//! | `replication` | copies that are still owed to an owner |
//! | `room` | what goes on while the disk is full |
//! | `hint` | what this node keeps for owners that are away |
//! | `lease` | the clock's persisted bound |
//! | [`pace`] | background work yields to clients |
//! | `overload` | requests refused because those before them keep the node busy |
//! | `latency` | recent latencies and their quantiles |
//! | `peers` | who can be reached |
//! | `parting` | goodbye to peers when the server stops |
//! | [`transfers`] | how far what is brought to somebody is, and whether it gets on |
//! | `timer` | deadlines |

pub mod anti_entropy;
pub mod api;
mod boot;
mod cache;
mod coordinator;
mod foresight;
mod gate;
pub mod gossip;
mod hint;
mod kept;
pub mod keyspace;
mod latency;
mod lease;
pub mod membership;
pub mod message;
pub mod namespace;
mod node;
pub mod options;
mod overload;
pub mod pace;
mod parting;
mod peers;
mod replica;
mod replication;
mod room;
mod settled;
mod store;
mod timer;
pub mod transfers;
pub mod update;
pub mod views;
pub mod wire;

pub use api::{Effect, Input, Now, Outcome, Request, RequestId};
pub use boot::{Boot, BootError};
pub use node::Node;
