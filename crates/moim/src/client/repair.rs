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

/// Compare what all owners hold, and bring each what it lacks. Goes on without this command, once begun; where the same
/// repair runs already, it is joined.
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
    /// Its id, where its server has others.
    shard: Option<String>,
    id: u64,
    last: Progress,
}

impl Repair {
    pub(crate) fn run(self) -> Ended {
        let node = Node::choose(&self.connection)?;
        let json = node.json();
        let others = if self.here { Vec::new() } else { Self::others(&node)? };
        let mut running = vec![self.begin(node, None)?];
        for (address, shard) in others {
            let other = running[0].node.beside(address.clone(), PATIENCE);
            match self.begin(other, shard) {
                Ok(begun) => running.push(begun),
                Err(trouble) => print::note(&format!("{address}: {trouble}")),
            }
        }
        if !self.detach {
            let progress = print::Progress::begin();
            Self::follow(&mut running, progress)?;
        }
        for one in running.iter().filter(|one| one.last.done && !json) {
            print::line(&format!("{}  {}", one.node.address(), line(&one.last)));
        }
        if json && !self.detach {
            print::json(&running.into_iter().map(|one| one.last).collect::<Vec<_>>());
        }
        Ok(Ending::Done)
    }

    /// Shows how far all are, until all are done.
    fn follow(
        running: &mut [Running],
        mut shown: print::Progress,
    ) -> Result<(), crate::ending::Trouble> {
        loop {
            running.iter_mut().try_for_each(Running::look)?;
            let all: Vec<&Progress> = running.iter().map(|one| &one.last).collect();
            if all.iter().all(|progress| progress.done) {
                return Ok(());
            }
            shown.say(&bar(&all));
            sleep(LOOK);
        }
    }

    /// The HTTP addresses of all other nodes that are there, and the ids of those whose server has several.
    fn others(node: &Node) -> Result<Vec<(String, Option<String>)>, crate::ending::Trouble> {
        let Nodes { nodes } = node.get("/v1/nodes")?;
        let at = |address: &str| nodes.iter().filter(|it| it.addresses.http == address).count();
        let there = nodes.iter().filter(|it| !it.own && it.state != "unreachable");
        let named = there.map(|it| {
            let several = at(&it.addresses.http) > 1;
            (it.addresses.http.clone(), several.then(|| it.node.clone()))
        });
        Ok(named.collect())
    }

    fn begin(&self, node: Node, shard: Option<String>) -> Result<Running, crate::ending::Trouble> {
        let partition = self.partition.map(|at| at.to_string());
        let state: Repairs = node.get(&path(&[b"repair"], &[("node", shard.as_deref())]))?;
        if let Some(same) = state.repairs.into_iter().rev().find(|it| !it.done && self.is(it)) {
            return Ok(Running { node, shard, id: same.id, last: same });
        }
        let parameters = [
            ("namespace", self.namespace.as_deref()),
            ("partition", partition.as_deref()),
            ("node", shard.as_deref()),
        ];
        let path = path(&[b"repair"], &parameters);
        let reply = node.call(Call { method: Method::POST, path, ..Call::default() })?;
        let state: Repairs = node.document(&reply)?;
        let last = state.repairs.into_iter().last().unwrap_or_default();
        Ok(Running { node, shard, id: last.id, last })
    }

    /// Whether a repair that runs is the one that is asked for: somebody stopped looking at it.
    fn is(&self, running: &Progress) -> bool {
        running.namespace == self.namespace && running.partition == self.partition
    }
}

impl Running {
    /// Asks how far it is.
    fn look(&mut self) -> Result<(), crate::ending::Trouble> {
        if self.last.done {
            return Ok(());
        }
        let path = path(&[b"repair"], &[("node", self.shard.as_deref())]);
        let state: Repairs = self.node.get(&path)?;
        let found = state.repairs.into_iter().find(|repair| repair.id == self.id);
        // A node that restarted has forgotten it.
        self.last = found.unwrap_or_else(|| Progress { done: true, ..self.last.clone() });
        Ok(())
    }
}

/// Letters of the bar.
const BAR: u64 = 24;

/// How far all nodes are together.
fn bar(all: &[&Progress]) -> String {
    let sum = |figure: fn(&Progress) -> u64| all.iter().map(|it| figure(it)).sum::<u64>();
    let (done, total) = (sum(|it| it.partitions_done), sum(|it| it.partitions).max(1));
    let letter = |at: u64| if at * total < done * BAR { '#' } else { '.' };
    let bar: String = (0..BAR).map(letter).collect();
    let (keys, bytes) = (sum(|it| it.keys), print::bytes(sum(|it| it.bytes)));
    let why = all.iter().find_map(|it| it.last_failure.as_ref().filter(|_| !it.done));
    let why = why.map_or(String::new(), |why| format!("; tried again: {why}"));
    format!("[{bar}] {done} of {total} comparisons, {keys} keys differed, {bytes}{why}")
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
    fn the_bar_speaks_for_all_nodes() {
        let one = Progress { partitions: 8, partitions_done: 3, keys: 2, ..Progress::default() };
        let other = Progress { partitions: 8, partitions_done: 8, bytes: 2_048, ..one.clone() };
        let words = "[#################.......] 11 of 16 comparisons, 4 keys differed, 2.0 KiB";
        assert_eq!(bar(&[&one, &other]), words);
    }

    #[test]
    fn progress_is_one_line() {
        let mut progress = Progress { partitions: 8, partitions_done: 3, ..Progress::default() };
        assert_eq!(line(&progress), "3/8 partitions, 0 keys, 0 bytes");
        progress.done = true;
        progress.running_ms = 2_000;
        assert_eq!(line(&progress), "done in 2s: 3/8 partitions, 0 keys, 0 bytes");
    }
}
