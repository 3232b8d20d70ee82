//! `moim ring`: who owns what, and what the owners hold of a key.

use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt as _;
use std::time::{SystemTime, UNIX_EPOCH};

use clap::Args;
use moim_server::http::document::{self, KeyOwners, Replica, ReplicaVersion};
use moim_server::http::duration::print_ms;

use super::node::Node;
use super::path;
use crate::Ended;
use crate::ending::Ending;
use crate::options::{Connection, InNamespace};
use crate::print;

/// Width of the widest bar.
const BAR_WIDTH: f64 = 30.0;

/// Show who owns what; with --key, the slot, partition and owners of a key, and what each owner holds of it.
#[derive(Debug, Args)]
pub(crate) struct Ring {
    /// What the store thinks of this key.
    #[arg(long)]
    key: Option<OsString>,
    #[command(flatten)]
    namespace: InNamespace,
    #[command(flatten)]
    connection: Connection,
}

impl Ring {
    pub(crate) fn run(self) -> Ended {
        let node = Node::choose(&self.connection)?;
        match &self.key {
            None => table(&node),
            Some(key) => owners(&node, &self.namespace.namespace, key),
        }
    }
}

fn table(node: &Node) -> Ended {
    let ring: document::Ring = node.get("/v1/ring")?;
    if node.json() {
        print::json(&ring);
        return Ok(Ending::Done);
    }
    print::line(&format!(
        "ring version {}, {} partitions of {} slots\n",
        ring.version, ring.partitions, ring.slots
    ));
    print::raw(print::table(&members(&ring)).as_bytes());
    Ok(Ending::Done)
}

fn members(ring: &document::Ring) -> Vec<Vec<String>> {
    let most = ring.members.iter().map(|member| member.share).fold(f64::MIN_POSITIVE, f64::max);
    let heading = ["node", "machine", "dc", "zone", "weight", "partitions", "share", ""];
    let mut rows = vec![heading.map(str::to_owned).to_vec()];
    for member in &ring.members {
        rows.push(vec![
            member.node.clone(),
            member.machine.clone(),
            member.dc.clone(),
            member.zone.clone(),
            member.weight.to_string(),
            member.partitions.to_string(),
            print::percent(member.share),
            bar(member.share / most),
        ]);
    }
    rows
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "between 0 and the width"
)]
fn bar(part: f64) -> String {
    "█".repeat((part.clamp(0.0, 1.0) * BAR_WIDTH).round() as usize)
}

fn owners(node: &Node, namespace: &str, key: &OsString) -> Ended {
    let key = key.as_bytes();
    let owners: KeyOwners = node.get(&path(&[b"ring", b"key", namespace.as_bytes(), key], &[]))?;
    if node.json() {
        print::json(&owners);
        return Ok(Ending::Done);
    }
    print::line(&format!(
        "key {} of namespace {namespace}: slot {}, partition {}\n",
        print::visible(key),
        owners.slot,
        owners.partition
    ));
    let wall_ms = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis());
    let rows = replicas(&owners.replicas, u64::try_from(wall_ms).unwrap_or(u64::MAX));
    print::raw(print::table(&rows).as_bytes());
    Ok(Ending::Done)
}

fn replicas(replicas: &[Replica], wall_ms: u64) -> Vec<Vec<String>> {
    let heading = ["owner", "peer", "holds", "version", "written", "expires", "dot", "clock"];
    let mut rows = vec![heading.map(str::to_owned).to_vec()];
    for replica in replicas {
        let name =
            [replica.node.clone(), replica.address.clone().unwrap_or_else(|| "–".to_owned())];
        let clock = replica.clock.iter().map(|(actor, counter)| format!("{actor}:{counter}"));
        let clock = clock.collect::<Vec<_>>().join(" ");
        let what = match &replica.why {
            Some(why) => format!("unknown: {why}"),
            None if replica.versions.is_empty() && replica.state == "held" => "deleted".to_owned(),
            None => replica.state.clone(),
        };
        if replica.versions.is_empty() {
            let blank = ["", "", "", ""].map(str::to_owned);
            rows.push([&name[..], &[what], &blank, &[clock]].concat());
            continue;
        }
        for held in &replica.versions {
            rows.push([&name[..], &version(held, wall_ms), std::slice::from_ref(&clock)].concat());
        }
    }
    rows
}

fn version(held: &ReplicaVersion, wall_ms: u64) -> [String; 5] {
    let ago = format!("{} ago", print_ms(wall_ms.saturating_sub(held.written_ms)));
    let expires = match held.expires_ms {
        None => "never".to_owned(),
        Some(ms) if ms <= wall_ms => format!("{} ago", print_ms(wall_ms - ms)),
        Some(ms) => format!("in {}", print_ms(ms - wall_ms)),
    };
    [held.state.clone(), held.version.clone(), ago, expires, held.dot.clone()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_replica_says_what_it_holds() {
        let held = ReplicaVersion {
            dot: "a-1.0-1".to_owned(),
            version: "77".to_owned(),
            state: "value".to_owned(),
            created_ms: 1_000,
            written_ms: 1_000,
            expires_ms: Some(61_000),
        };
        let holds = Replica {
            node: "a".to_owned(),
            state: "held".to_owned(),
            versions: vec![held],
            clock: [("time".to_owned(), "77".to_owned())].into(),
            ..Replica::default()
        };
        let silent = Replica {
            node: "b".to_owned(),
            state: "unknown".to_owned(),
            why: Some("unreachable".to_owned()),
            ..Replica::default()
        };
        let rows = replicas(&[holds, silent], 2_000);
        assert_eq!(
            rows[1][2..],
            ["value", "77", "1s ago", "in 59s", "a-1.0-1", "time:77"].map(str::to_owned)
        );
        assert_eq!(rows[2][2], "unknown: unreachable");
        assert_eq!(bar(1.0).chars().count(), 30);
        assert_eq!(bar(0.0), "");
    }
}
