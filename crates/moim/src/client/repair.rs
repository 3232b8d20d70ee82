//! `moim repair`: makes all owners hold the same, now rather than in its time, and shows how far that is.

use std::thread::sleep;
use std::time::Duration;

use clap::Args;
use moim_server::http::document::{Nodes, Repair as Progress, Repairs};
use moim_server::http::duration::print_ms;
use ureq::http::Method;

use super::node::{Call, Node};
use super::path;
use crate::Ended;
use crate::ending::Ending;
use crate::options::Connection;
use crate::print;

/// Between two looks at the progress.
const LOOK: Duration = Duration::from_millis(500);

/// How long one look may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// Compare what all owners hold, and bring each what it lacks. Goes on without this command, once begun.
#[derive(Debug, Args)]
pub(crate) struct Repair {
    /// Only this namespace.
    #[arg(long)]
    namespace: Option<String>,
    /// Only this partition.
    #[arg(long)]
    partition: Option<u16>,
    /// Only what this node owns, not what all nodes do.
    #[arg(long)]
    here: bool,
    /// Begin and do not wait for the end.
    #[arg(long)]
    detach: bool,
    #[command(flatten)]
    connection: Connection,
}

/// A node that repairs, and under which number.
#[derive(Debug)]
struct Running {
    node: Node,
    id: u64,
    shown: String,
}

impl Repair {
    pub(crate) fn run(self) -> Ended {
        let node = Node::choose(&self.connection)?;
        let json = node.json();
        let addresses = if self.here { Vec::new() } else { Self::others(&node)? };
        let mut running = vec![self.begin(node)?];
        for address in addresses {
            let other = running[0].node.beside(address.clone(), PATIENCE);
            match self.begin(other) {
                Ok(begun) => running.push(begun),
                Err(trouble) => print::note(&format!("{address}: {trouble}")),
            }
        }
        let mut ended = Vec::new();
        while !self.detach && !running.is_empty() {
            sleep(LOOK);
            for mut one in std::mem::take(&mut running) {
                let progress = one.look(json)?;
                if progress.done {
                    ended.push(progress);
                } else {
                    running.push(one);
                }
            }
        }
        if json {
            print::json(&ended);
        }
        Ok(Ending::Done)
    }

    /// The HTTP addresses of all other nodes that are there.
    fn others(node: &Node) -> Result<Vec<String>, crate::ending::Trouble> {
        let nodes: Nodes = node.get("/v1/nodes")?;
        let there = nodes.nodes.into_iter().filter(|it| !it.own && it.state != "unreachable");
        Ok(there.map(|it| it.addresses.http).collect())
    }

    fn begin(&self, node: Node) -> Result<Running, crate::ending::Trouble> {
        let partition = self.partition.map(|at| at.to_string());
        let parameters =
            [("namespace", self.namespace.as_deref()), ("partition", partition.as_deref())];
        let path = path(&[b"repair"], &parameters);
        let reply = node.call(Call { method: Method::POST, path, ..Call::default() })?;
        let state: Repairs = node.document(&reply)?;
        let id = state.repairs.last().map_or(0, |repair| repair.id);
        Ok(Running { node, id, shown: String::new() })
    }
}

impl Running {
    /// Asks how far it is, and prints that if it is news.
    fn look(&mut self, json: bool) -> Result<Progress, crate::ending::Trouble> {
        let state: Repairs = self.node.get("/v1/repair")?;
        let found = state.repairs.into_iter().find(|repair| repair.id == self.id);
        // A node that restarted has forgotten it.
        let progress = found.unwrap_or_else(|| Progress { done: true, ..Progress::default() });
        let line = line(&progress);
        if line != self.shown && !json {
            print::line(&format!("{}  {line}", self.node.address()));
        }
        self.shown = line;
        Ok(progress)
    }
}

fn line(progress: &Progress) -> String {
    let Progress { partitions_done, partitions, keys, bytes, .. } = progress;
    let so_far = format!("{partitions_done}/{partitions} partitions, {keys} keys, {bytes} bytes");
    match (&progress.last_failure, progress.done) {
        (_, true) => format!("done in {}: {so_far}", print_ms(progress.running_ms)),
        (Some(why), false) => format!("{so_far} (tried again: {why})"),
        (None, false) => so_far,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn progress_is_one_line() {
        let mut progress = Progress { partitions: 8, partitions_done: 3, ..Progress::default() };
        assert_eq!(line(&progress), "3/8 partitions, 0 keys, 0 bytes");
        progress.done = true;
        progress.running_ms = 2_000;
        assert_eq!(line(&progress), "done in 2s: 3/8 partitions, 0 keys, 0 bytes");
    }
}
