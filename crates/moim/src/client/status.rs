//! `moim status` and `moim nodes`: the cluster as one node sees it, with each node's own figures beside.

use std::collections::BTreeMap;
use std::time::Duration;

use clap::Args;
use moim_server::http::document::{self, Local, Transfer};
use moim_server::http::duration::print_ms;
use serde::Serialize;

use super::node::Node;
use crate::Ended;
use crate::ending::{Ending, Trouble};
use crate::options::Connection;
use crate::print;

/// How long another node may take to say what it holds.
const NEIGHBOUR_PATIENCE: Duration = Duration::from_millis(1_500);

/// Nodes asked at once.
const NEIGHBOURS_AT_ONCE: usize = 32;

/// Show the cluster at a glance.
#[derive(Debug, Args)]
pub(crate) struct Status {
    #[command(flatten)]
    connection: Connection,
}

/// Show the members of the cluster, and where to reach them.
#[derive(Debug, Args)]
pub(crate) struct Nodes {
    #[command(flatten)]
    connection: Connection,
}

/// What `status --json` prints.
#[derive(Serialize)]
struct Document {
    status: document::Status,
    nodes: Vec<Member>,
}

/// A member, and what it says of itself.
#[derive(Serialize)]
struct Member {
    #[serde(flatten)]
    node: document::Node,
    local: Option<Local>,
}

impl Status {
    pub(crate) fn run(self) -> Ended {
        let node = Node::choose(&self.connection)?;
        let status: document::Status = node.get("/v1/status")?;
        let members = members(&node, &status)?;
        if node.json() {
            print::json(&Document { status, nodes: members });
        } else {
            print::line(&summary(&status, &members));
            print::raw(print::table(&rows(&members)).as_bytes());
            for line in transfers(&members) {
                print::line(&line);
            }
        }
        Ok(Ending::Done)
    }
}

impl Nodes {
    pub(crate) fn run(self) -> Ended {
        let node = Node::choose(&self.connection)?;
        let nodes: document::Nodes = node.get("/v1/nodes")?;
        if node.json() {
            print::json(&nodes);
        } else {
            print::raw(print::table(&addresses(&nodes)).as_bytes());
        }
        Ok(Ending::Done)
    }
}

/// The members, each with its own figures; a member that does not answer has none. Each server is asked once, for all of
/// its nodes.
fn members(asked: &Node, own: &document::Status) -> Result<Vec<Member>, Trouble> {
    let document::Nodes { nodes } = asked.get("/v1/nodes")?;
    let mut servers = BTreeMap::new();
    for node in &nodes {
        let server = servers.entry(node.addresses.http.as_str()).or_insert(None);
        if node.own {
            *server = Some(own.clone());
        }
    }
    let unknown: Vec<_> =
        servers.iter().filter(|(_, known)| known.is_none()).map(|(&at, _)| at).collect();
    for group in unknown.chunks(NEIGHBOURS_AT_ONCE) {
        let answers = std::thread::scope(|scope| {
            let threads: Vec<_> =
                group.iter().map(|at| scope.spawn(move || status_at(asked, at))).collect();
            threads.into_iter().map(|thread| thread.join().ok().flatten()).collect::<Vec<_>>()
        });
        servers.extend(group.iter().copied().zip(answers));
    }
    let figures = |node: &document::Node| {
        let status = servers.get(node.addresses.http.as_str())?.as_ref()?;
        local_of(status, &node.node)
    };
    Ok(nodes.iter().map(|node| Member { node: node.clone(), local: figures(node) }).collect())
}

fn status_at(asked: &Node, address: &str) -> Option<document::Status> {
    asked.beside(address.to_owned(), NEIGHBOUR_PATIENCE).get("/v1/status").ok()
}

/// What a node of a server holds. A program from before there were several tells of the one that answers.
fn local_of(status: &document::Status, node: &str) -> Option<Local> {
    let shard = status.shards.iter().find(|shard| shard.node == node);
    let own = || (status.node == node).then(|| status.local.clone());
    shard.map(|shard| shard.local.clone()).or_else(own)
}

fn summary(status: &document::Status, members: &[Member]) -> String {
    let total = |figure: fn(&Local) -> f64| -> f64 {
        members.iter().filter_map(|member| member.local.as_ref()).map(figure).sum()
    };
    let ready = match &status.reason {
        None => "serving".to_owned(),
        Some(reason) => format!("not ready: {reason}"),
    };
    let ring = match (status.ring_version, status.partitions) {
        (Some(version), Some(partitions)) => format!("version {version}, {partitions} partitions"),
        _ => "none yet".to_owned(),
    };
    let rows = [
        ("state", ready),
        ("nodes", nodes_in_words(status)),
        ("copies", format!("{} of {}", status.copies, status.copies_wanted)),
        ("ring", ring),
        (
            "traffic",
            format!(
                "{} reads/s, {} writes/s, {} failures/s",
                print::rate(total(|local| local.reads_per_second)),
                print::rate(total(|local| local.writes_per_second)),
                print::rate(total(|local| local.failures_per_second)),
            ),
        ),
        (
            "owed",
            format!("{:.0} copies to nodes that missed a write", total(|local| whole(local.tasks))),
        ),
        ("disks", disks_in_words(members)),
        ("hints", format!("{:.0} kept for nodes that are away", total(|local| whole(local.hints)))),
        (
            "asked",
            format!(
                "node {}, version {}, up {}",
                status.node,
                status.version,
                print_ms(status.uptime_ms)
            ),
        ),
    ];
    print::table(&rows.map(|(name, value)| vec![name.to_owned(), value]))
}

/// What is being brought to somebody, a line each; what does not get on says so.
fn transfers(members: &[Member]) -> Vec<String> {
    let of = |member: &Member| {
        let transfers = member.local.iter().flat_map(|local| &local.transfers);
        transfers.map(|it| format!("{}: {}", member.node.node, transfer(it))).collect::<Vec<_>>()
    };
    members.iter().flat_map(of).collect()
}

fn transfer(it: &Transfer) -> String {
    let Transfer { left, total, bytes, .. } = it;
    let parts = format!("{left} of {total} partitions left, {} moved", print::bytes(*bytes));
    let what = match (it.reason.as_str(), &it.peer) {
        ("refill", _) => format!("its lost disk is being filled, {parts}"),
        ("hint", Some(peer)) => format!("hands {left} kept copies over to {peer}"),
        (reason, _) => format!("{reason}, {parts}"),
    };
    let alarm = if it.stalled {
        format!("; ALARM: no progress for {}", print_ms(it.idle_ms))
    } else {
        String::new()
    };
    format!("{what}, for {}{alarm}", print_ms(it.running_ms))
}

fn nodes_in_words(status: &document::Status) -> String {
    let document::Status { nodes_up, nodes, nodes_down, machines, .. } = status;
    let down = if *nodes_down > 0 { format!(", {nodes_down} down") } else { String::new() };
    format!("{nodes_up} of {nodes} up{down}, on {machines} machines")
}

/// What an operator has to look after, by node; in a word if there is nothing.
fn disks_in_words(members: &[Member]) -> String {
    let mut cares = Vec::new();
    for Member { node, local } in members {
        let Some(local) = local else { continue };
        let name = node.node.get(..8).unwrap_or(&node.node);
        let left = print::bytes(local.disk_available_bytes);
        match local.disk_room.as_str() {
            "low" => cares.push(format!("{name} takes no new values, {left} left")),
            "exhausted" => cares.push(format!("{name} is full, its writes wait")),
            _ => {}
        }
        if let Some(last_s) = local.set_aside_s.last() {
            let count = local.set_aside_s.len();
            cares.push(format!(
                "{name} keeps {count} damaged data directories to look at and remove, the last data.corrupt-{last_s}"
            ));
        }
    }
    if cares.is_empty() { "enough room".to_owned() } else { cares.join("; ") }
}

/// What members agree on of one, and if it is under suspicion, how much and by whom.
fn agreement(node: &document::Node) -> String {
    let since = format!("{} {}", node.agreed, print_ms(node.agreed_for_ms));
    match node.reporters.as_slice() {
        [] => since,
        reporters => {
            let names: Vec<_> =
                reporters.iter().map(|name| name.get(..8).unwrap_or(name)).collect();
            format!("{since}, phi {:.1}, reported by {}", node.phi, names.join(" "))
        }
    }
}

#[expect(clippy::cast_precision_loss, reason = "a count for people")]
fn whole(count: u64) -> f64 {
    count as f64
}

fn rows(members: &[Member]) -> Vec<Vec<String>> {
    let heading = [
        "node", "state", "for", "dc", "zone", "share", "keys", "reads/s", "writes/s", "p99",
        "disk", "room", "memory", "owed", "hints", "agreed",
    ];
    let mut rows = vec![heading.map(str::to_owned).to_vec()];
    for Member { node, local } in members {
        let figure =
            |shown: &dyn Fn(&Local) -> String| local.as_ref().map_or_else(|| "–".to_owned(), shown);
        rows.push(vec![
            format!("{}{}", node.node, if node.own { " *" } else { "" }),
            node.state.clone(),
            print_ms(node.state_for_ms),
            node.dc.clone(),
            node.zone.clone(),
            print::percent(node.share),
            figure(&|local| local.keys_estimate.to_string()),
            figure(&|local| print::rate(local.reads_per_second)),
            figure(&|local| print::rate(local.writes_per_second)),
            figure(&|local| local.p99_ms.map_or_else(|| "–".to_owned(), |ms| format!("{ms} ms"))),
            figure(&|local| print::bytes(local.disk_bytes)),
            figure(&|local| print::bytes(local.disk_available_bytes)),
            figure(&|local| print::bytes(local.memory_bytes)),
            node.tasks.to_string(),
            figure(&|local| local.hints.to_string()),
            agreement(node),
        ]);
    }
    rows
}

fn addresses(nodes: &document::Nodes) -> Vec<Vec<String>> {
    let heading = [
        "node", "state", "for", "dc", "zone", "weight", "share", "redis", "cluster", "http", "peer",
    ];
    let mut rows = vec![heading.map(str::to_owned).to_vec()];
    for node in &nodes.nodes {
        rows.push(vec![
            format!("{}{}", node.node, if node.own { " *" } else { "" }),
            node.state.clone(),
            print_ms(node.state_for_ms),
            node.dc.clone(),
            node.zone.clone(),
            node.weight.to_string(),
            print::percent(node.share),
            node.addresses.redis.clone(),
            node.addresses.cluster.clone(),
            node.addresses.http.clone(),
            node.addresses.peer.clone(),
        ]);
    }
    rows
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_transfer_that_does_not_get_on_is_an_alarm() {
        let mut it = Transfer {
            reason: "refill".to_owned(),
            left: 812,
            total: 4_096,
            bytes: 3 << 20,
            running_ms: 90_400,
            ..Transfer::default()
        };
        let words =
            "its lost disk is being filled, 812 of 4096 partitions left, 3.0 MiB moved, for 1m 30s";
        assert_eq!(transfer(&it), words);
        it.stalled = true;
        it.idle_ms = 61_000;
        assert_eq!(transfer(&it), format!("{words}; ALARM: no progress for 1m 1s"));
    }

    #[test]
    fn figures_are_those_of_the_node() {
        let local = |keys_estimate| Local { keys_estimate, ..Local::default() };
        let shard = |node: &str, keys| document::Shard {
            node: node.to_owned(),
            local: local(keys),
            ..Default::default()
        };
        let mut status = document::Status {
            node: "a".to_owned(),
            local: local(1),
            shards: vec![shard("a", 1), shard("b", 2)],
            ..Default::default()
        };
        let keys = |status: &_, node| local_of(status, node).map(|local| local.keys_estimate);
        assert_eq!((keys(&status, "b"), keys(&status, "c")), (Some(2), None));
        status.shards.clear();
        assert_eq!((keys(&status, "a"), keys(&status, "b")), (Some(1), None));
    }

    #[test]
    fn a_member_without_figures_is_shown_all_the_same() {
        let node = document::Node {
            node: "a1".to_owned(),
            state: "unreachable".to_owned(),
            ..Default::default()
        };
        let members = [Member { node, local: None }];
        let table = print::table(&rows(&members));
        assert!(table.lines().nth(1).unwrap().contains("unreachable"), "{table}");
        assert!(table.contains('–'));
        let suspect = document::Node {
            agreed: "suspect".to_owned(),
            agreed_for_ms: 2_000,
            phi: 8.25,
            reporters: vec!["00000000000000a1".to_owned()],
            ..Default::default()
        };
        let words = agreement(&suspect);
        assert!(words.contains("suspect 2s, phi 8.2, reported by 00000000"), "{words}");
        let status = document::Status {
            reason: Some("1 of 3".to_owned()),
            nodes: 3,
            nodes_up: 1,
            ..Default::default()
        };
        let text = summary(&status, &members);
        assert!(text.contains("enough room"), "{text}");
        assert!(text.contains("not ready: 1 of 3") && text.contains("1 of 3 up"), "{text}");
    }

    #[test]
    fn disks_that_want_looking_after_are_named() {
        let of = |name: &str, room: &str, set_aside_s: &[u64]| Member {
            node: document::Node { node: name.to_owned(), ..Default::default() },
            local: Some(Local {
                disk_room: room.to_owned(),
                disk_available_bytes: 3 << 30,
                set_aside_s: set_aside_s.to_vec(),
                ..Default::default()
            }),
        };
        let well = of("a", "enough", &[]);
        assert_eq!(disks_in_words(&[well]), "enough room");
        let words = disks_in_words(&[of("a", "low", &[]), of("b", "exhausted", &[7, 9])]);
        for part in ["a takes no new values", "b is full", "b keeps 2 damaged", "data.corrupt-9"] {
            assert!(words.contains(part), "{words}");
        }
    }
}
