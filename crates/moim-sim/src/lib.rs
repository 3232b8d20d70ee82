//! A whole cluster of real nodes in one thread, from one seed.
mod audit;
pub mod check;
pub mod history;
pub mod plan;
pub mod profile;
pub mod random;
pub mod run;
pub mod trace;
mod workload;
mod world;
