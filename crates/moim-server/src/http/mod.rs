//! HTTP: values with their contexts, the cluster's state, metrics and the dashboard.
//!
//! | module | concept |
//! |---|---|
//! | `listen` | connections: how many, how slow, and how they end |
//! | `guard` | password, and the wall against other sites' pages |
//! | `routes`, `dispatch` | which paths there are, and who answers them |
//! | `value`, `keys`, `batch` | keys and values |
//! | `cluster`, `ring`, `namespaces`, `repair` | the cluster's state |
//! | `neighbours` | what only the other nodes of this server know |
//! | [`metrics`], `health`, `dashboard` | for machines and people who watch |
//! | `problem`, `failure` | every error (RFC 9457), and the one table from a node's failures |
//! | [`document`] | the JSON that travels; the command line reads the same types |
//! | `percent`, `query`, [`duration`], `body`, `reply`, `patience`, [`Settings`] | the parts that requests are made of |
//!
//! Everything runs on the loop's own thread beside its node. Invariants: what is not understood is refused, never
//! ignored; every size, count and wait has a limit in [`Settings`] or beside its use; no key or value reaches a log.
//! Left out: TLS, users, compare-and-set (until consistent namespaces are served), watching keys.

mod batch;
mod body;
mod cluster;
mod dashboard;
mod dispatch;
pub mod document;
pub mod duration;
mod failure;
mod guard;
mod health;
mod keys;
mod listen;
pub mod metrics;
mod namespaces;
mod neighbours;
mod operation;
mod patience;
mod percent;
mod problem;
mod query;
mod repair;
mod reply;
mod ring;
mod routes;
mod settings;
mod site;
mod value;

#[cfg(test)]
mod tests;

pub(crate) use listen::{Requests, serve};
pub(crate) use neighbours::Errand;
pub use percent::encode as percent_encode;
pub use settings::Settings;
pub use site::{Context, Experiments};
