//! A whole cluster of real nodes in one thread, from one seed.
//!
//! [`run::run`] founds a cluster, lets clients work while things go wrong, heals everything, and judges what clients
//! were told. The nodes are [`moim_node::Node`] as it ships; time, chance, network and disks are ours. A run depends on
//! its [`plan::Settings`] alone, so whatever it finds is found again: two runs of one seed tell the same story, byte for
//! byte ([`trace`]).
//!
//! | module | concept |
//! |---|---|
//! | [`profile`], [`plan`], [`nemesis`] | kinds of runs, what one of them is like, what goes wrong in it |
//! | `world` | machines, network, clients and faults, moved by one queue of events |
//! | `workload` | what clients do |
//! | [`history`] | what clients asked and were told |
//! | [`check`] | what must hold, and who says so |
//! | [`freshness`] | how often readers meet several versions |
//! | [`run`], `audit` | the acts of a run; what is looked at after everything has healed |
//! | [`sessions`] | sessions that expire, for hours |
//! | [`gossip`] | gossip alone, at a thousand members |
//! | [`random`] | chance, from the seed |
//!
//! Invariants: checkers look at the history alone (one of them at disks, `world/holders.rs`); they never ask a node what
//! it meant to do; every promise is judged by the levels of the requests involved; a checker has a test in which it
//! fails. Left out: changes of the ring, hints and anti-entropy, until nodes have them; so a node that lost its disk is
//! refilled here as an operator would, by reading everything.

mod abilities;
mod audit;
pub mod check;
pub mod freshness;
pub mod gossip;
pub mod history;
pub mod nemesis;
pub mod plan;
pub mod profile;
pub mod random;
pub mod run;
pub mod sessions;
pub mod trace;
mod workload;
mod world;
