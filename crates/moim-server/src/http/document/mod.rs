//! The JSON that travels: written by the server, read by the command line and the dashboard, described in
//! `openapi.json`. Fields are added, never renamed. A reader ignores fields it does not know.
//!
//! Version numbers are texts: they have 64 bits, and JavaScript's numbers keep 53.

mod cluster;
mod problem;
mod repair;
mod ring;
mod value;

pub use self::cluster::{
    Addresses, Local, Namespace, Namespaces, Node, Nodes, Shard, Status, Transfer,
};
pub use self::problem::{Missing, Problem};
pub use self::repair::{Exchange, Repair, Repairs, Task, Tasks};
pub use self::ring::{KeyOwners, Replica, ReplicaVersion, Ring, RingMember};
pub use self::value::{
    Batch, BatchResults, KeysPage, Operation, OperationResult, Sibling, Siblings, Verb,
};
