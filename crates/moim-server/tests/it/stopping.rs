//! How servers start, stop and come back.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;

use moim_server::config::EngineKind;
use moim_server::server::Server;

use crate::cluster::{Cluster, until};
use crate::http;

#[test]
fn a_node_that_stops_is_gone_and_its_ports_are_free() {
    let mut cluster = Cluster::start(3);
    cluster.stop(1);
    let at = cluster.addresses(1);
    assert!(http::call(at.http, "GET", "/healthz", b"").is_err());
    cluster.put(0, "k", "v");
    cluster.restart(1);
    cluster.until_ready(1);
    assert_eq!(cluster.get(1, "k").as_deref(), Some("v"));
}

/// Whoever connects while it parts from others would wait for a reply that never comes, if the system let it in.
#[test]
fn a_node_that_stops_lets_nobody_in_while_others_are_still_there() {
    let mut cluster = Cluster::start(3);
    let at = cluster.addresses(1);
    let mut there = TcpStream::connect(at.redis).unwrap();
    there.write_all(b"PING\r\n").unwrap();
    let mut pong = [0; 7];
    there.read_exact(&mut pong).unwrap();
    let stopping = std::thread::spawn(move || cluster.stop(1));
    until("nobody is let in", || TcpStream::connect(at.redis).is_err());
    assert!(!stopping.is_finished(), "it waits for the one that says nothing");
    stopping.join().unwrap();
    assert_eq!(there.read(&mut pong).unwrap(), 0);
}

#[test]
fn a_directory_in_use_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let cluster =
        Cluster::start_with(1, |_, config| config.node.data_dir = directory.path().to_owned());
    let mut config = moim_server::config::Config::default();
    config.node.engine = EngineKind::Memory;
    config.node.data_dir = directory.path().to_owned();
    let port_0 = std::net::SocketAddr::from(([127, 0, 0, 1], 0));
    config.node.listen_redis = port_0;
    config.node.listen_cluster = port_0;
    config.node.listen_http = port_0;
    config.node.listen_peer = port_0;
    let error = Server::open(config).unwrap_err().to_string();
    assert!(error.contains("another server uses this data directory"), "{error}");
    drop(cluster);
}

#[test]
fn a_node_with_other_settings_is_not_let_in() {
    let mut cluster = Cluster::start(3);
    cluster.kill(2);
    cluster.adjust(2, |config| config.cluster.max_clock_skew_ms = 77);
    cluster.restart(2);
    std::thread::sleep(std::time::Duration::from_millis(500));
    cluster.put(0, "k", "v");
    assert_ne!(cluster.call(2, "GET", "/v1/kv/0/k", b"").status, 200);
    cluster.kill(2);
    cluster.adjust(2, |config| config.cluster.max_clock_skew_ms = 5_000);
    cluster.restart(2);
    cluster.until_ready(2);
    until("it is let in", || cluster.call(2, "GET", "/v1/kv/0/k", b"").status == 200);
}

#[test]
fn a_node_that_is_cut_off_is_found_again() {
    let cluster = Cluster::start_with(3, |_, config| config.node.experiments = true);
    cluster.put(0, "k", "1");
    assert_eq!(cluster.call(2, "POST", "/v1/dev/cut", b"").status, 204);
    // Another key: a write that is not acknowledged may still come through, then or later.
    assert_eq!(cluster.call(2, "PUT", "/v1/kv/0/other", b"x").status, 503);
    cluster.put(0, "k", "2");
    assert_eq!(cluster.call(2, "POST", "/v1/dev/heal", b"").status, 204);
    until("it is back", || cluster.call(2, "GET", "/v1/kv/0/k", b"").status == 200);
    assert_eq!(cluster.get(2, "k").as_deref(), Some("2"));
}

/// With the storage engine that keeps: all nodes stop and come back with their data, record and identities.
#[cfg(feature = "rocksdb")]
#[test]
fn a_cluster_comes_back_with_what_it_had() {
    let mut cluster = Cluster::start_with(3, |_, config| config.node.engine = EngineKind::RocksDb);
    for number in 0..50 {
        cluster.put(number % 3, &format!("k{number}"), &format!("v{number}"));
    }
    for number in 0..3 {
        if number == 1 {
            cluster.kill(number);
        } else {
            cluster.stop(number);
        }
        // Nobody says which engine: the directory does.
        cluster.adjust(number, |config| config.node.engine = EngineKind::Auto);
    }
    for number in 0..3 {
        cluster.restart(number);
        let directory = &cluster.config(number).node.data_dir;
        let format = std::fs::read_to_string(directory.join("format.toml")).unwrap();
        assert!(format.ends_with("engine = \"rocksdb\"\n"), "{format}");
        assert!(!directory.join("data/commit-log").exists(), "it was taken over");
    }
    for number in 0..3 {
        cluster.until_ready(number);
    }
    until("they have met", || cluster.call(0, "GET", "/v1/kv/0/k0", b"").status == 200);
    for number in 0..50 {
        assert_eq!(
            cluster.get((number + 1) % 3, &format!("k{number}")),
            Some(format!("v{number}"))
        );
    }
}

/// Clients that do not ask whether a node is ready come back as soon as its port is open. Until the others have told it what
/// they remember, they wait in front of the door.
#[cfg(feature = "rocksdb")]
#[test]
fn the_first_commands_at_a_node_that_comes_back_are_served() {
    let mut cluster = Cluster::start_with(3, |_, config| config.node.engine = EngineKind::Lsm);
    for round in 1..=3 {
        cluster.kill(2);
        cluster.restart(2);
        let mut client = TcpStream::connect(cluster.addresses(2).redis).unwrap();
        for key in 0..30 {
            client.write_all(format!("INCR counter-{key}\r\n").as_bytes()).unwrap();
        }
        let expected = format!(":{round}\r\n").repeat(30);
        let mut replies = vec![0; expected.len()];
        client.read_exact(&mut replies).unwrap();
        assert_eq!(String::from_utf8_lossy(&replies), expected, "round {round}");
    }
}
