//! A cluster on this machine: ports are opened before anybody starts, so that all can be told of all.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use moim_server::config::{Config, EngineKind};
use moim_server::server::{Addresses, Listeners, Running, Server, ServerError, Stop};
use tempfile::TempDir;

use crate::http;

/// How long anything may take before a test gives up.
const PATIENCE: Duration = Duration::from_secs(20);

/// Nodes numbered from 0, each with a directory and ports of its own for as long as the cluster lives.
pub(crate) struct Cluster {
    nodes: Vec<Node>,
    _directory: TempDir,
}

struct Node {
    config: Config,
    addresses: Addresses,
    running: Option<Running>,
}

impl Cluster {
    /// `count` nodes that have founded a cluster and serve. In memory, with the default namespaces and `carts`, which
    /// keeps siblings.
    pub(crate) fn start(count: usize) -> Self {
        Self::start_with(count, |_node, _config| {})
    }

    /// As [`Self::start`], with the last word on each node's configuration.
    pub(crate) fn start_with(count: usize, adjust: impl Fn(usize, &mut Config)) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let mut opened = Vec::new();
        for number in 0..count {
            let mut config = Config::default();
            config.cluster.partitions = moim_core::ring::PartitionCount::new(256).unwrap();
            config.add_namespace("carts:conflict=siblings").unwrap();
            config.node.engine = EngineKind::Memory;
            config.node.data_dir = directory.path().join(number.to_string());
            for listen in [
                &mut config.node.listen_redis,
                &mut config.node.listen_cluster,
                &mut config.node.listen_http,
                &mut config.node.listen_peer,
            ] {
                *listen = SocketAddr::from(([127, 0, 0, 1], 0));
            }
            adjust(number, &mut config);
            let listeners = open(&mut config);
            opened.push((config, listeners));
        }
        let shards = |config: &Config| config.node.shards;
        let mixed = opened.iter().any(|(config, _)| shards(config) != shards(&opened[0].0));
        let peers = |(config, listeners): &(Config, Listeners)| {
            let first = listeners.addresses().peer;
            // Who has more or fewer than others says so.
            let last = u32::from(first.port()) + shards(config) - 1;
            if mixed { format!("{first}-{last}") } else { first.to_string() }
        };
        let found: Vec<_> = opened.iter().map(peers).collect();
        let start = |(mut config, listeners): (Config, Listeners)| {
            let addresses = listeners.addresses();
            config.node.found.clone_from(&found);
            config.node.listen_redis = addresses.redis;
            config.node.listen_cluster = addresses.cluster;
            config.node.listen_http = addresses.http;
            config.node.listen_peer = addresses.peer;
            let server = Server::with_listeners(config.clone(), listeners).unwrap();
            Node { config, addresses, running: Some(server.spawn().unwrap()) }
        };
        let nodes = opened.into_iter().map(start).collect();
        let cluster = Self { nodes, _directory: directory };
        for number in 0..count {
            cluster.until_ready(number);
        }
        cluster
    }

    /// Where a node listens.
    pub(crate) fn addresses(&self, number: usize) -> Addresses {
        self.nodes[number].addresses
    }

    /// Ends a node as if it had been killed.
    pub(crate) fn kill(&mut self, number: usize) {
        self.end(number, Stop::AtOnce);
    }

    /// Ends a node as SIGTERM does.
    pub(crate) fn stop(&mut self, number: usize) {
        self.end(number, Stop::Gently);
    }

    fn end(&mut self, number: usize, how: Stop) {
        self.nodes[number].running.take().expect("it runs").stop(how).unwrap();
    }

    /// Starts a node again at its former addresses, with what its disk kept.
    pub(crate) fn restart(&mut self, number: usize) {
        let node = &mut self.nodes[number];
        assert!(node.running.is_none(), "it has been ended");
        let mut opened = None;
        // Another test's connection may have borrowed the port for a moment.
        until("its ports are free", || {
            opened = match Server::open(node.config.clone()) {
                Err(ServerError::Listen { .. }) => None,
                other => Some(other.unwrap()),
            };
            opened.is_some()
        });
        node.running = opened.map(|server| server.spawn().unwrap());
    }

    /// With what a node is started.
    #[cfg(feature = "rocksdb")]
    pub(crate) fn config(&self, number: usize) -> &Config {
        &self.nodes[number].config
    }

    /// Changes the configuration with which a node that does not run is started next.
    pub(crate) fn adjust(&mut self, number: usize, change: impl FnOnce(&mut Config)) {
        assert!(self.nodes[number].running.is_none(), "it has been ended");
        change(&mut self.nodes[number].config);
    }

    /// Waits until a node serves.
    pub(crate) fn until_ready(&self, number: usize) {
        let at = self.addresses(number).http;
        until(&format!("node {number} serves"), || {
            http::call(at, "GET", "/readyz", b"").is_ok_and(|reply| reply.status == 200)
        });
    }

    /// One HTTP request to a node that must answer.
    pub(crate) fn call(&self, number: usize, method: &str, path: &str, body: &[u8]) -> http::Reply {
        http::call(self.addresses(number).http, method, path, body).unwrap()
    }

    /// Writes a value through a node and asserts that it is acknowledged.
    pub(crate) fn put(&self, number: usize, key: &str, value: &str) {
        let reply = self.call(number, "PUT", &format!("/v1/kv/0/{key}"), value.as_bytes());
        assert_eq!(reply.status, 204, "{reply:?}");
    }

    /// Reads a value through a node; `None` if there is none. Anything else fails the test.
    pub(crate) fn get(&self, number: usize, key: &str) -> Option<String> {
        let reply = self.call(number, "GET", &format!("/v1/kv/0/{key}"), b"");
        match reply.status {
            200 => Some(reply.text()),
            404 => None,
            _ => panic!("{reply:?}"),
        }
    }
}

/// Opens ports, of several shards at numbers in a row.
fn open(config: &mut Config) -> Listeners {
    let node = &mut config.node;
    if node.shards == 1 {
        return Listeners::open(node).unwrap();
    }
    let mut opened = None;
    until("ports in a row are free", || {
        let any = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let count = u16::try_from(node.shards).unwrap();
        node.listen_cluster.set_port(any.saturating_sub(2 * count));
        node.listen_peer.set_port(any.saturating_sub(count));
        opened = match Listeners::open(node) {
            Err(ServerError::Listen { .. }) => None,
            other => Some(other.unwrap()),
        };
        opened.is_some()
    });
    opened.expect("just waited for")
}

/// Waits until something holds.
pub(crate) fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !holds() {
        assert!(begun.elapsed() < PATIENCE, "waited in vain until {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}
