//! `moim dev`: a whole cluster on this machine, each node a process of its own, to try things out and to break.
//!
//! The cluster lives in a directory: `node-N` holds data and log of node N, `dev.json` what was started. Any terminal
//! can play with it: nothing is kept in the process that started it, which only waits, and stops all at the end.
//!
//! Invariant: no signal goes to a process that was not started here. A process is known by its number *and* the
//! moment it began (numbers are reused), and signals go through a handle that was taken before that was checked.

mod launch;
mod plan;
mod play;
mod process;
mod state;
mod up;

use std::path::PathBuf;

use clap::{Args, Subcommand};

use crate::Ended;
use crate::ending::Trouble;
use crate::options::Output;

/// Where a cluster is kept, if nobody says.
const DATA_DEFAULT: &str = "moim-data";

/// Run a whole cluster on this machine. Ctrl-C stops it; run again with the same --data, it goes on where it was.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// Keep the cluster here.
    #[arg(long, value_name = "DIR", default_value = DATA_DEFAULT, global = true)]
    data: PathBuf,
    #[command(flatten)]
    wishes: Wishes,
    /// Leave the cluster running and return.
    #[arg(long)]
    detach: bool,
    #[command(subcommand)]
    play: Option<Play>,
}

/// What a cluster is to be like. What is not said is as it was, or the default.
#[derive(Clone, Debug, Default, PartialEq, Eq, Args)]
struct Wishes {
    /// Nodes [default: 3]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=32))]
    nodes: Option<u16>,
    /// Nodes in each of them, sharing a process and a machine; each has ports of its own for Redis Cluster clients and
    /// other nodes, in a row [default: 1]
    #[arg(long, value_name = "K", value_parser = clap::value_parser!(u16).range(1..=16))]
    shards: Option<u16>,
    /// Spread them over so many zones [default: 1]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=32))]
    zones: Option<u16>,
    /// Node i listens for Redis on this plus i, for Redis Cluster clients on 100 more, for HTTP on 1000 more, for
    /// other nodes on 2000 more [default: 7000]
    #[arg(long, value_name = "PORT")]
    base_port: Option<u16>,
    /// Define a namespace; may be repeated [default: carts:conflict=siblings,sloppy=false]
    #[arg(long, value_name = "NAME:KEY=VALUE,…")]
    namespace: Vec<String>,
    /// Where data is kept: on disk, or nowhere [default: lsm, if this program was built with RocksDB]
    #[arg(long, value_name = "ENGINE", value_parser = ["lsm", "rocksdb", "memory"])]
    engine: Option<String>,
}

/// What can be done to a running cluster.
#[derive(Debug, Subcommand)]
enum Play {
    /// Stop the cluster; `moim dev` starts it again.
    Stop,
    /// Show what runs.
    Status(Output),
    /// Kill nodes at once, as a power cut would.
    Kill(Numbers),
    /// Start nodes that were stopped or killed, and let paused ones go on.
    Start(Numbers),
    /// Freeze nodes: they keep their connections and answer nothing.
    Pause(Numbers),
    /// Cut nodes off from the others; clients still reach them.
    Cut(Numbers),
    /// Let nodes that were cut off reach the others again.
    Heal(AnyNumbers),
}

/// Which nodes.
#[derive(Debug, Args)]
struct Numbers {
    /// Numbers of nodes, from 1.
    #[arg(value_name = "N", required = true)]
    nodes: Vec<u16>,
}

/// Which nodes, or all.
#[derive(Debug, Args)]
struct AnyNumbers {
    /// Numbers of nodes, from 1; none means all.
    #[arg(value_name = "N")]
    nodes: Vec<u16>,
}

impl Arguments {
    pub(crate) fn run(self) -> Ended {
        let Self { data, wishes, detach, play } = self;
        let Some(play) = play else { return up::run(&data, &wishes, detach) };
        if wishes != Wishes::default() || detach {
            return Err(Trouble::usage("flags other than --data belong to `moim dev` alone"));
        }
        match play {
            Play::Stop => play::stop(&data),
            Play::Status(output) => play::status(&data, output),
            Play::Kill(Numbers { nodes }) => play::kill(&data, &nodes),
            Play::Start(Numbers { nodes }) => play::start(&data, &nodes),
            Play::Pause(Numbers { nodes }) => play::pause(&data, &nodes),
            Play::Cut(Numbers { nodes }) => play::cut(&data, &nodes),
            Play::Heal(AnyNumbers { nodes }) => play::heal(&data, &nodes),
        }
    }
}
