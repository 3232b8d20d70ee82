//! A server of several nodes: what each of them is told, and how others name them all.

use std::net::SocketAddr;

use moim_core::ring::MEMBERS_MAX;

use super::{ConfigError, NodeConfig};

/// More would not fit between the default ports, and no machine for which this is made has more cores.
const SHARDS_MAX: u32 = 100;

impl NodeConfig {
    /// What one node of the server is told, counted from 0: its ports, its directory, and its share of what the server
    /// has. With one shard that is everything.
    #[must_use]
    pub fn of_shard(&self, shard: u32) -> Self {
        if self.shards == 1 {
            return self.clone();
        }
        let shares = u64::from(self.shards);
        let bytes = |all: u64| if all == 0 { 0 } else { (all / shares).max(1) };
        let of = |all: u32| all.div_ceil(self.shards);
        Self {
            data_dir: self.data_dir.join(format!("shard-{shard}")),
            listen_cluster: beside(self.listen_cluster, shard),
            listen_peer: beside(self.listen_peer, shard),
            // What does not divide goes to the first, so that all of it is there.
            weight: self.weight / self.shards + u32::from(shard < self.weight % self.shards),
            memory_bytes: bytes(self.memory_bytes),
            cache_bytes: bytes(self.cache_bytes),
            block_cache_bytes: bytes(self.block_cache_bytes),
            memtable_bytes: bytes(self.memtable_bytes),
            unsynced_bytes_max: bytes(self.unsynced_bytes_max),
            tasks_bytes_max: bytes(self.tasks_bytes_max),
            hints_bytes_max: bytes(self.hints_bytes_max),
            background_bytes_per_second_min: bytes(self.background_bytes_per_second_min),
            background_bytes_per_second_max: bytes(self.background_bytes_per_second_max),
            refill_bytes_per_second_min: bytes(self.refill_bytes_per_second_min),
            operations_max: of(self.operations_max),
            redis_connections_max: of(self.redis_connections_max),
            ..self.clone()
        }
    }

    /// Peer addresses of all nodes that found the cluster; none if this server founds it alone.
    pub fn founders(&self) -> Result<Vec<String>, String> {
        let mut nodes = Vec::new();
        for address in &self.found {
            let (host, ports) = ports(address, self.shards).ok_or_else(|| {
                format!("'{address}' is no peer address: host:port is expected, or host:first-last for its shards")
            })?;
            nodes.extend(ports.map(|port| format!("{host}:{port}")));
        }
        if nodes.len() > MEMBERS_MAX {
            return Err(format!(
                "{} nodes are named; at most {MEMBERS_MAX} are possible",
                nodes.len()
            ));
        }
        match nodes.iter().enumerate().find(|(at, node)| nodes[..*at].contains(node)) {
            Some((_, node)) => Err(format!("'{node}' is there twice")),
            None => Ok(nodes),
        }
    }

    /// How many nodes found the cluster.
    pub fn founding_members(&self) -> usize {
        let nodes = self.founders().map_or(0, |nodes| nodes.len());
        nodes.max(self.shards as usize)
    }

    /// Whether there are nodes on other machines, which hold copies of what this server may lose.
    pub fn has_others(&self) -> bool {
        self.founding_members() > self.shards as usize
    }
}

/// The port of a node behind that of the first; each one gets a free one where that is asked for.
fn beside(first: SocketAddr, shard: u32) -> SocketAddr {
    let port = u32::from(first.port());
    let port = if port == 0 { 0 } else { u16::try_from(port + shard).unwrap_or(u16::MAX) };
    SocketAddr::new(first.ip(), port)
}

/// The host and the ports that an address names: as many as it says, or `shards`.
fn ports(address: &str, shards: u32) -> Option<(&str, std::ops::RangeInclusive<u32>)> {
    let (host, ports) = address.rsplit_once(':')?;
    let port = |text: &str| text.parse::<u16>().ok().map(u32::from);
    let range = match ports.split_once('-') {
        Some((first, last)) => port(first)?..=port(last)?,
        None => port(ports)?..=port(ports)? + shards - 1,
    };
    (!host.is_empty() && !range.is_empty() && u16::try_from(*range.end()).is_ok())
        .then_some((host, range))
}

pub(super) fn check(node: &NodeConfig) -> Result<(), ConfigError> {
    let fail = |key: &str, what: String| Err(ConfigError::new(key, what));
    if !(1..=SHARDS_MAX).contains(&node.shards) {
        return fail("node.shards", format!("must be 1 to {SHARDS_MAX}"));
    }
    if node.weight < node.shards {
        return fail(
            "node.weight",
            format!("must be at least {}, one for each shard", node.shards),
        );
    }
    let runs =
        [("node.listen_cluster", node.listen_cluster), ("node.listen_peer", node.listen_peer)];
    for (key, first) in runs {
        if u32::from(first.port()) + node.shards - 1 > u32::from(u16::MAX) {
            return fail(
                key,
                format!("{first} is the first of {} ports, and there are not so many", node.shards),
            );
        }
        let taken = |other: SocketAddr| {
            let distance = u32::from(other.port()).checked_sub(u32::from(first.port()));
            other.ip() == first.ip()
                && first.port() != 0
                && distance.is_some_and(|distance| (1..node.shards).contains(&distance))
        };
        let all = [node.listen_redis, node.listen_cluster, node.listen_http, node.listen_peer];
        if let Some(other) = all.into_iter().find(|&other| taken(other)) {
            return fail(
                key,
                format!(
                    "{first} is the first of {} ports, of which {other} is another's",
                    node.shards
                ),
            );
        }
    }
    node.founders().map(|_| ()).or_else(|what| fail("node.found", what))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(shards: u32) -> NodeConfig {
        NodeConfig { shards, ..NodeConfig::default() }
    }

    fn found(shards: u32, found: &[&str]) -> Result<Vec<String>, String> {
        let found = found.iter().map(|&address| address.to_owned()).collect();
        NodeConfig { found, ..of(shards) }.founders()
    }

    #[test]
    fn one_shard_is_the_whole_server() {
        assert_eq!(of(1).of_shard(0), of(1));
        assert_eq!(of(1).founding_members(), 1);
        assert!(!of(1).has_others());
    }

    #[test]
    fn shards_share_what_the_server_has() {
        let server = NodeConfig { weight: 100, cache_bytes: 9, ..of(3) };
        let shards = [0, 1, 2].map(|shard| server.of_shard(shard));
        assert_eq!(shards.iter().map(|shard| shard.weight).sum::<u32>(), 100);
        assert_eq!(shards[2].memory_bytes, server.memory_bytes / 3);
        assert_eq!((shards[2].cache_bytes, shards[2].tasks_bytes_max), (3, 0));
        assert_eq!(shards[2].data_dir.to_str(), Some("moim-data/shard-2"));
        let ports = |node: &NodeConfig| {
            [node.listen_redis, node.listen_cluster, node.listen_http, node.listen_peer]
                .map(|address| address.port())
        };
        assert_eq!(ports(&shards[0]), [6379, 6479, 7379, 8379]);
        assert_eq!(ports(&shards[2]), [6379, 6481, 7379, 8381]);
    }

    #[test]
    fn founders_are_nodes_not_servers() {
        assert_eq!(found(2, &["a:8", "b:8"]).unwrap(), ["a:8", "a:9", "b:8", "b:9"]);
        assert_eq!(found(2, &["a:8", "b:7-7"]).unwrap(), ["a:8", "a:9", "b:7"]);
        assert_eq!(found(1, &["[::1]:8-9", "b:8"]).unwrap(), ["[::1]:8", "[::1]:9", "b:8"]);
        assert_eq!(of(2).founding_members(), 2);
        assert!(!of(2).has_others());
        for wrong in ["a", "a:", ":8", "a:9-8", "a:65535", "a:8-70000"] {
            assert!(found(2, &[wrong]).unwrap_err().contains("is no peer address"), "{wrong}");
        }
        assert!(found(2, &["a:8", "a:9"]).unwrap_err().contains("'a:9' is there twice"));
        assert!(found(1, &["a:1-2000"]).unwrap_err().contains("at most 1000"));
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let refused = |node: NodeConfig| check(&node).unwrap_err().to_string();
        assert!(check(&of(8)).is_ok());
        assert!(refused(of(0)).contains("1 to 100"));
        assert!(refused(NodeConfig { weight: 3, ..of(4) }).contains("at least 4"));
        let near = SocketAddr::from(([127, 0, 0, 1], 6481));
        assert!(refused(NodeConfig { listen_http: near, ..of(4) }).contains("is another's"));
        let last = SocketAddr::from(([127, 0, 0, 1], u16::MAX));
        assert!(refused(NodeConfig { listen_peer: last, ..of(2) }).contains("not so many"));
    }
}
