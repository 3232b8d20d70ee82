//! What a cluster is like: how many nodes, where they listen, and with which flags they run.

use std::ffi::OsString;
use std::net::TcpListener;
use std::ops::RangeInclusive;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::Wishes;
use crate::ending::Trouble;

/// Memory of each server, modest: they share one machine. Of several shards, each wants half of that.
const MODEST_BYTES: u64 = 256 << 20;

/// Distances of a node's ports from its base, by what listens there.
const PORTS: [(&str, u16); 4] = [("redis", 0), ("cluster", 100), ("http", 1_000), ("peer", 2_000)];

/// A cluster on this machine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Plan {
    pub(super) nodes: u16,
    /// Nodes in each server; what is called a node elsewhere here is then a server of so many.
    #[serde(default = "one")]
    pub(super) shards: u16,
    pub(super) zones: u16,
    pub(super) base_port: u16,
    pub(super) namespaces: Vec<String>,
    pub(super) engine: String,
}

/// What clusters had that were founded before there were several.
fn one() -> u16 {
    1
}

impl Default for Plan {
    fn default() -> Self {
        Self {
            nodes: 3,
            shards: 1,
            zones: 1,
            base_port: 7_000,
            namespaces: vec!["carts:conflict=siblings,sloppy=false".to_owned()],
            // A build without RocksDB can only keep nothing.
            engine: if cfg!(feature = "rocksdb") { "lsm" } else { "memory" }.to_owned(),
        }
    }
}

impl Plan {
    /// The cluster as it was `founded`, changed by what is wished. What cannot be changed is refused.
    pub(super) fn settle(founded: Option<&Self>, wishes: &Wishes) -> Result<Self, Trouble> {
        let before = founded.cloned().unwrap_or_default();
        let plan = Self {
            nodes: wishes.nodes.unwrap_or(before.nodes),
            shards: wishes.shards.unwrap_or(before.shards),
            zones: wishes.zones.unwrap_or(before.zones),
            base_port: wishes.base_port.unwrap_or(before.base_port),
            namespaces: if wishes.namespace.is_empty() {
                before.namespaces.clone()
            } else {
                wishes.namespace.clone()
            },
            engine: wishes.engine.clone().unwrap_or_else(|| before.engine.clone()),
        };
        let fixed = [
            ("nodes", plan.nodes.to_string(), before.nodes.to_string()),
            ("shards", plan.shards.to_string(), before.shards.to_string()),
            ("zones", plan.zones.to_string(), before.zones.to_string()),
            ("base-port", plan.base_port.to_string(), before.base_port.to_string()),
            ("engine", plan.engine.clone(), before.engine.clone()),
        ];
        // A memory engine keeps nothing, the cluster's shape included.
        let is_fixed = founded.is_some() && before.engine != "memory";
        if let Some((flag, wished, was)) =
            fixed.iter().find(|(_, wished, was)| is_fixed && wished != was)
        {
            return Err(Trouble::usage(format!(
                "--{flag} {wished}: the cluster in this directory was founded with {was}, which cannot be changed \
                 yet; found another one in another directory (--data)"
            )));
        }
        match plan.base_port.checked_add(2_000 + plan.nodes * plan.shards) {
            Some(_) => Ok(plan),
            None => Err(Trouble::usage(format!(
                "--base-port {}: the highest port would exceed 65535",
                plan.base_port
            ))),
        }
    }

    /// The numbers of its nodes.
    pub(super) fn numbers(&self) -> impl Iterator<Item = u16> + use<> {
        1..=self.nodes
    }

    /// Checks that a node is there.
    pub(super) fn check(&self, number: u16) -> Result<(), Trouble> {
        if (1..=self.nodes).contains(&number) {
            return Ok(());
        }
        Err(Trouble::usage(format!(
            "there is no node {number}: this cluster has nodes 1 to {}",
            self.nodes
        )))
    }

    /// Where a node listens for this.
    pub(super) fn address(&self, what: &str, number: u16) -> String {
        format!("127.0.0.1:{}", self.ports(what, number).start())
    }

    /// All the ports at which a node listens for this: of several shards, some have one each.
    fn ports(&self, what: &str, number: u16) -> RangeInclusive<u16> {
        let distance =
            PORTS.iter().find(|(name, _)| *name == what).map_or(0, |&(_, distance)| distance);
        let each = if matches!(what, "cluster" | "peer") { self.shards } else { 1 };
        let first = self.base_port + distance + (number - 1) * each + 1;
        first..=first + each - 1
    }

    /// Where a node listens for this, all ports of it, for people.
    pub(super) fn addresses(&self, what: &str, number: u16) -> String {
        let ports = self.ports(what, number);
        let more = if ports.len() > 1 { format!("-{}", ports.end()) } else { String::new() };
        format!("127.0.0.1:{}{more}", ports.start())
    }

    /// The zone of a node.
    pub(super) fn zone(&self, number: u16) -> String {
        format!("zone-{}", (number - 1) % self.zones + 1)
    }

    /// The command line of a node that keeps its data in `directory`.
    pub(super) fn arguments(&self, number: u16, directory: &Path) -> Vec<OsString> {
        let mut arguments: Vec<OsString> = vec!["server".into(), "--data".into(), directory.into()];
        let mut add = |flag: &str, value: String| arguments.extend([flag.into(), value.into()]);
        for (what, _) in PORTS {
            add(&format!("--listen-{what}"), self.address(what, number));
        }
        // Passed again when the cluster goes on: nodes that have a record do not read it.
        add(
            "--found",
            self.numbers().map(|other| self.address("peer", other)).collect::<Vec<_>>().join(","),
        );
        // Said also when it is one: a variable of whoever started this is not meant for it.
        add("--shards", self.shards.to_string());
        add("--zone", self.zone(number));
        add("--engine", self.engine.clone());
        for namespace in &self.namespaces {
            add("--namespace", namespace.clone());
        }
        let memory_bytes = MODEST_BYTES.max(MODEST_BYTES / 2 * u64::from(self.shards));
        add("--set", format!("node.memory_bytes={memory_bytes}"));
        arguments.push("--dev-faults".into());
        arguments
    }

    /// Checks that nobody else listens where a node will.
    pub(super) fn check_ports(&self, number: u16) -> Result<(), Trouble> {
        let ports = |what| self.ports(what, number).map(move |port| (what, port));
        for (what, port) in PORTS.iter().flat_map(|&(what, _)| ports(what)) {
            let address = format!("127.0.0.1:{port}");
            if let Err(error) = TcpListener::bind(&address) {
                return Err(Trouble::failed(format!(
                    "node {number} cannot listen on {address} ({what}): {error}; stop what runs there, or choose \
                     other ports with --base-port"
                )));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_are_those_of_the_contract() {
        let plan = Plan::default();
        assert_eq!(plan.address("redis", 1), "127.0.0.1:7001");
        assert_eq!(plan.address("cluster", 2), "127.0.0.1:7102");
        assert_eq!(plan.address("http", 3), "127.0.0.1:8003");
        assert_eq!(plan.address("peer", 1), "127.0.0.1:9001");
    }

    #[test]
    fn shards_have_ports_in_a_row() {
        let plan = Plan { shards: 2, ..Plan::default() };
        assert_eq!(plan.addresses("cluster", 2), "127.0.0.1:7103-7104");
        assert_eq!(plan.addresses("redis", 2), "127.0.0.1:7002");
        assert_eq!(plan.address("peer", 3), "127.0.0.1:9005");
        let arguments = plan.arguments(1, Path::new("/d"));
        let line =
            arguments.iter().map(|word| word.to_str().unwrap()).collect::<Vec<_>>().join(" ");
        assert!(
            line.contains("--found 127.0.0.1:9001,127.0.0.1:9003,127.0.0.1:9005 --shards 2"),
            "{line}"
        );
        let old = serde_json::to_string(&Plan::default()).unwrap().replace("\"shards\":1,", "");
        assert_eq!(serde_json::from_str::<Plan>(&old).unwrap(), Plan::default());
    }

    #[test]
    fn nodes_are_spread_over_zones_and_told_of_each_other() {
        let plan = Plan { nodes: 3, zones: 2, ..Plan::default() };
        assert_eq!([1, 2, 3].map(|number| plan.zone(number)), ["zone-1", "zone-2", "zone-1"]);
        let arguments = plan.arguments(2, Path::new("/d"));
        let line =
            arguments.iter().map(|word| word.to_str().unwrap()).collect::<Vec<_>>().join(" ");
        assert!(line.starts_with("server --data /d --listen-redis 127.0.0.1:7002"), "{line}");
        assert!(
            line.contains(
                "--found 127.0.0.1:9001,127.0.0.1:9002,127.0.0.1:9003 --shards 1 --zone zone-2"
            ),
            "{line}"
        );
        assert!(line.contains("--namespace carts:conflict=siblings,sloppy=false"), "{line}");
    }

    #[test]
    fn a_founded_cluster_keeps_its_shape() {
        let founded = Plan { nodes: 5, engine: "rocksdb".to_owned(), ..Plan::default() };
        let as_it_was = Plan::settle(Some(&founded), &Wishes::default()).unwrap();
        assert_eq!(as_it_was, founded);
        let larger = Wishes { nodes: Some(6), ..Wishes::default() };
        let refused = Plan::settle(Some(&founded), &larger).unwrap_err();
        assert!(refused.words().contains("founded with 5"), "{refused}");
        assert_eq!(Plan::settle(None, &larger).unwrap().nodes, 6);
        let forgetful = Plan { engine: "memory".to_owned(), ..founded };
        assert_eq!(Plan::settle(Some(&forgetful), &larger).unwrap().nodes, 6);
        let high = Wishes { base_port: Some(64_000), ..Wishes::default() };
        assert!(Plan::settle(None, &high).unwrap_err().words().contains("65535"));
    }
}
