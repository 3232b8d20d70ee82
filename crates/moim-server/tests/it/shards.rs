//! Servers of several nodes.

use std::collections::BTreeSet;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};

use moim_server::config::Config;
use moim_server::http::document::{KeyOwners, Nodes, Ring, Status};
use serde::de::DeserializeOwned;

use crate::cluster::{Cluster, until};
use crate::http;

fn two_shards(_server: usize, config: &mut Config) {
    config.node.shards = 2;
}

fn read<T: DeserializeOwned>(cluster: &Cluster, server: usize, path: &str) -> T {
    let reply = cluster.call(server, "GET", path, b"");
    assert_eq!(reply.status, 200, "{reply:?}");
    serde_json::from_slice(&reply.body).unwrap()
}

/// One inline command on a connection of its own; what the first read brings.
fn redis(at: SocketAddr, command: &str) -> String {
    let mut stream = TcpStream::connect(at).unwrap();
    stream.write_all(format!("{command}\r\n").as_bytes()).unwrap();
    let mut reply = vec![0; 16 << 10];
    let count = stream.read(&mut reply).unwrap();
    String::from_utf8_lossy(&reply[..count]).into_owned()
}

fn machines_of(cluster: &Cluster, key: &str) -> BTreeSet<String> {
    let ring: Ring = read(cluster, 0, "/v1/ring");
    let owners: KeyOwners = read(cluster, 0, &format!("/v1/ring/key/0/{key}"));
    let machine = |node: &str| {
        ring.members.iter().find(|member| member.node == node).unwrap().machine.clone()
    };
    owners.replicas.iter().map(|replica| machine(&replica.node)).collect()
}

#[test]
fn three_servers_of_two_are_six_nodes_on_three_machines() {
    let mut cluster = Cluster::start_with(3, two_shards);
    let status: Status = read(&cluster, 1, "/v1/status");
    assert_eq!((status.nodes, status.machines, status.copies), (6, 3, 3));
    until("all have met", || read::<Status>(&cluster, 1, "/v1/status").nodes_up == 6);
    for key in 0..40 {
        cluster.put(key % 3, &format!("k{key}"), "v");
        assert_eq!(cluster.get((key + 1) % 3, &format!("k{key}")).as_deref(), Some("v"));
    }
    for key in 0..40 {
        assert_eq!(machines_of(&cluster, &format!("k{key}")).len(), 3);
    }
    cluster.kill(2);
    for key in 0..40 {
        cluster.put(key % 2, &format!("k{key}"), "while away");
    }
    until("both are missed", || read::<Status>(&cluster, 0, "/v1/status").nodes_up == 4);
    cluster.restart(2);
    cluster.until_ready(2);
    until("both are back", || read::<Status>(&cluster, 0, "/v1/status").nodes_up == 6);
    for key in 0..40 {
        assert_eq!(cluster.get(2, &format!("k{key}")).as_deref(), Some("while away"));
    }
}

#[test]
fn one_server_of_three_founds_a_cluster_by_itself_and_names_all_its_nodes() {
    let cluster = Cluster::start_with(1, |_, config| config.node.shards = 3);
    for key in 0..30 {
        cluster.put(0, &format!("k{key}"), "v");
    }
    let status: Status = read(&cluster, 0, "/v1/status");
    assert_eq!((status.nodes, status.machines, status.copies), (3, 1, 1));
    assert_eq!(status.shards.iter().map(|shard| shard.shard).collect::<Vec<_>>(), [0, 1, 2]);
    let nodes: Nodes = read(&cluster, 0, "/v1/nodes");
    let ports = |of: fn(&moim_server::http::document::Addresses) -> &String| -> BTreeSet<String> {
        nodes.nodes.iter().map(|node| of(&node.addresses).clone()).collect()
    };
    assert_eq!(ports(|at| &at.redis).len(), 1);
    assert_eq!((ports(|at| &at.cluster).len(), ports(|at| &at.peer).len()), (3, 3));
    for shard in &status.shards {
        assert!(nodes.nodes.iter().any(|node| node.node == shard.node));
        let path = format!("/v1/nodes?node={}", shard.node);
        let seen: Nodes = read(&cluster, 0, &path);
        let own: Vec<_> =
            seen.nodes.iter().filter(|node| node.own).map(|node| &node.node).collect();
        assert_eq!(own, [&shard.node], "each answers for itself");
    }
    assert_eq!(cluster.call(0, "GET", "/v1/nodes?node=1", b"").status, 400);
    let metrics = cluster.call(0, "GET", "/metrics", b"").text();
    assert_eq!(metrics.matches("\nmoim_writes_total{shard=").count(), 3, "{metrics}");
    assert_eq!(metrics.matches("# TYPE moim_writes_total ").count(), 1);
    assert_eq!(metrics.matches("\nmoim_uptime_seconds ").count(), 1);
}

#[test]
fn servers_share_alike_however_many_nodes_they_have() {
    let cluster = Cluster::start_with(3, |server, config| {
        config.node.shards = [1, 2, 3][server];
    });
    let status: Status = read(&cluster, 0, "/v1/status");
    assert_eq!((status.nodes, status.machines, status.copies), (6, 3, 3));
    let ring: Ring = read(&cluster, 0, "/v1/ring");
    let mut shares = std::collections::BTreeMap::<_, f64>::new();
    for member in &ring.members {
        *shares.entry(&member.machine).or_default() += member.share;
    }
    assert!(shares.values().all(|share| (share - 1.0 / 3.0).abs() < 0.01), "{shares:?}");
    cluster.put(0, "k", "v");
    assert_eq!(cluster.get(2, "k").as_deref(), Some("v"));
}

#[test]
fn redis_clients_are_dealt_out_and_cluster_clients_find_every_node() {
    let cluster = Cluster::start_with(1, two_shards);
    let at = cluster.addresses(0);
    let ids: Vec<_> = (0..4).map(|_| redis(at.redis, "CLUSTER MYID")).collect();
    assert_ne!(ids[0], ids[1]);
    assert_eq!((&ids[0], &ids[1]), (&ids[2], &ids[3]), "in turn");
    let slots = redis(at.cluster, "CLUSTER SLOTS");
    for port in [at.cluster.port(), at.cluster.port() + 1] {
        assert!(slots.contains(&format!(":{port}\r\n")), "{slots}");
    }
    let second = SocketAddr::new(at.cluster.ip(), at.cluster.port() + 1);
    assert_eq!(redis(at.redis, "SET k v"), "+OK\r\n");
    assert_eq!(redis(second, "GET k"), "$1\r\nv\r\n");
}

#[test]
fn a_server_of_several_stops_as_one_of_one_does() {
    let mut cluster = Cluster::start_with(3, two_shards);
    let at = cluster.addresses(1);
    // One connection to each of its nodes, which say nothing more.
    let mut there = [at.redis, at.redis].map(|at| TcpStream::connect(at).unwrap());
    for stream in &mut there {
        stream.write_all(b"SET k v\r\n").unwrap();
        let mut reply = [0; 5];
        stream.read_exact(&mut reply).unwrap();
        assert_eq!(&reply, b"+OK\r\n");
    }
    cluster.stop(1);
    assert!(http::call(at.http, "GET", "/healthz", b"").is_err());
    for stream in &mut there {
        assert_eq!(stream.read(&mut [0]).unwrap(), 0);
    }
    cluster.put(0, "k", "w");
    cluster.restart(1);
    cluster.until_ready(1);
    assert_eq!(cluster.get(1, "k").as_deref(), Some("w"));
}

#[test]
fn a_cut_is_between_servers() {
    let cluster = Cluster::start_with(3, |server, config| {
        two_shards(server, config);
        config.node.experiments = true;
    });
    assert_eq!(cluster.call(2, "POST", "/v1/dev/cut", b"").status, 204);
    until("only its own are there", || {
        read::<Status>(&cluster, 2, "/v1/status").nodes_up == 2
            && read::<Status>(&cluster, 0, "/v1/status").nodes_up == 4
    });
    assert_eq!(cluster.call(2, "POST", "/v1/dev/heal", b"").status, 204);
    until("all are back", || read::<Status>(&cluster, 2, "/v1/status").nodes_up == 6);
}

/// With the storage engine that keeps: what was acknowledged is there after a kill, and the shards are what they were.
#[cfg(feature = "rocksdb")]
#[test]
fn a_server_of_two_comes_back_with_what_it_had() {
    use moim_server::config::EngineKind;
    use moim_server::server::Server;

    let mut cluster = Cluster::start_with(1, |server, config| {
        two_shards(server, config);
        config.node.engine = EngineKind::RocksDb;
    });
    for key in 0..50 {
        cluster.put(0, &format!("k{key}"), &format!("v{key}"));
    }
    let before: Status = read(&cluster, 0, "/v1/status");
    cluster.kill(0);
    let mut alone = cluster.config(0).clone();
    alone.node.shards = 1;
    let error = Server::open(alone).unwrap_err().to_string();
    assert!(error.contains("was made with 2 shards, not with 1"), "{error}");
    cluster.restart(0);
    cluster.until_ready(0);
    let after: Status = read(&cluster, 0, "/v1/status");
    let ids = |status: &Status| status.shards.iter().map(|it| it.node.clone()).collect::<Vec<_>>();
    assert_eq!(ids(&before), ids(&after));
    for key in 0..50 {
        assert_eq!(cluster.get(0, &format!("k{key}")), Some(format!("v{key}")));
    }
}
