//! Disks that damage, lose or cannot take what they are given.

#![cfg(feature = "rocksdb")]

use std::fs;
use std::path::PathBuf;

use moim_server::config::EngineKind;
use moim_server::server::{Server, ServerError};

use crate::cluster::{Cluster, until};

fn start(nodes: usize) -> Cluster {
    Cluster::start_with(nodes, |_, config| config.node.engine = EngineKind::RocksDb)
}

fn files(cluster: &Cluster, node: usize, is_wanted: impl Fn(&str) -> bool) -> Vec<PathBuf> {
    let entries = fs::read_dir(cluster.config(node).node.data_dir.join("data")).unwrap();
    let paths = entries.map(|entry| entry.unwrap().path());
    paths.filter(|path| is_wanted(&path.file_name().unwrap().to_string_lossy())).collect()
}

/// Names of what was set aside.
fn set_aside(cluster: &Cluster, node: usize) -> Vec<String> {
    let entries = fs::read_dir(&cluster.config(node).node.data_dir).unwrap();
    let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    names.filter(|name| name.starts_with("data.corrupt-")).collect()
}

fn metric(cluster: &Cluster, node: usize, name: &str) -> f64 {
    let text = cluster.call(node, "GET", "/metrics", b"").text();
    let line = text.lines().find(|line| line.starts_with(&format!("{name} "))).unwrap();
    line.rsplit(' ').next().unwrap().parse().unwrap()
}

fn until_served(cluster: &Cluster, node: usize, key: &str) {
    cluster.until_ready(node);
    let path = format!("/v1/kv/0/{key}");
    until("it is let in", || cluster.call(node, "GET", &path, b"").status == 200);
}

#[test]
fn damage_found_at_the_start_is_set_aside() {
    let mut cluster = start(3);
    cluster.put(0, "k", "v");
    cluster.stop(2);
    for manifest in files(&cluster, 2, |name| name.starts_with("MANIFEST")) {
        fs::write(manifest, [7; 5_000]).unwrap();
    }
    cluster.restart(2);
    until_served(&cluster, 2, "k");
    assert_eq!(cluster.get(2, "k").as_deref(), Some("v"));
    assert_eq!(set_aside(&cluster, 2).len(), 1, "kept for whoever wants to look at it");
    assert!((metric(&cluster, 2, "moim_storage_set_aside") - 1.0).abs() < 0.1);
    let status = cluster.call(2, "GET", "/v1/status", b"").text();
    assert!(!status.contains("\"set_aside_s\":[]"), "{status}");
}

#[test]
fn a_damaged_commit_log_is_set_aside_and_a_whole_one_is_replayed() {
    let mut cluster = Cluster::start_with(3, |_, config| config.node.engine = EngineKind::Lsm);
    cluster.put(0, "k", "v");
    cluster.stop(2);
    cluster.restart(2);
    until_served(&cluster, 2, "k");
    assert_eq!(set_aside(&cluster, 2).len(), 0);
    cluster.put(0, "k", "w");
    cluster.stop(2);
    for log in files(&cluster, 2, |name| name == "commit-log") {
        fs::write(log.join("control"), [7; 8_192]).unwrap();
    }
    cluster.restart(2);
    until_served(&cluster, 2, "k");
    assert_eq!(cluster.get(2, "k").as_deref(), Some("w"));
    assert_eq!(set_aside(&cluster, 2).len(), 1);
}

#[test]
fn damage_found_while_serving_is_set_aside_without_a_restart() {
    let mut cluster = start(3);
    // Of several blocks, so that reading one key does not bring the others into the cache.
    let value = |number: usize| format!("{number:_>2000}");
    for number in 0..100 {
        cluster.put(number % 3, &format!("k{number}"), &value(number));
    }
    // What the log held is in tables after a start, and no longer in memory.
    cluster.stop(2);
    cluster.restart(2);
    until_served(&cluster, 2, "k0");
    for table in
        files(&cluster, 2, |name| name.rsplit_once('.').is_some_and(|(_, kind)| kind == "sst"))
    {
        let mut bytes = fs::read(&table).unwrap();
        let half = bytes.len() / 2;
        bytes[..half].iter_mut().for_each(|byte| *byte ^= 0x55);
        // In place: the engine has the file open.
        fs::write(&table, bytes).unwrap();
    }
    // Whatever is read meanwhile is right: this node says that its disk failed, others answer.
    for number in 0..100 {
        let reply = cluster.call(0, "GET", &format!("/v1/kv/0/k{number}?r=ALL"), b"");
        assert!(reply.status != 200 || reply.text() == value(number), "{reply:?}");
    }
    until("it is set aside", || set_aside(&cluster, 2).len() == 1);
    until_served(&cluster, 2, "k0");
    for number in 0..100 {
        let found = cluster.get(2, &format!("k{number}"));
        assert_eq!(found, Some(value(number)));
    }
}

#[test]
fn a_directory_that_is_lost_begins_empty_under_the_same_identity() {
    let mut cluster = start(3);
    cluster.put(0, "k", "v");
    let identity = || fs::read(cluster.config(2).node.data_dir.join("identity.toml")).unwrap();
    let before = identity();
    let data = cluster.config(2).node.data_dir.join("data");
    cluster.stop(2);
    fs::remove_dir_all(data).unwrap();
    cluster.restart(2);
    until_served(&cluster, 2, "k");
    assert_eq!(cluster.get(2, "k").as_deref(), Some("v"));
    let after = fs::read(cluster.config(2).node.data_dir.join("identity.toml")).unwrap();
    assert_eq!(after, before);
}

#[test]
fn a_node_without_others_keeps_its_damaged_data_where_it_is() {
    let mut cluster = start(1);
    cluster.put(0, "k", "v");
    cluster.stop(0);
    for manifest in files(&cluster, 0, |name| name.starts_with("MANIFEST")) {
        fs::write(manifest, [7; 5_000]).unwrap();
    }
    let error = Server::open(cluster.config(0).clone()).unwrap_err();
    assert!(matches!(error, ServerError::Damaged { .. }), "{error}");
    assert!(error.to_string().contains("no others to be filled from"), "{error}");
    assert!(set_aside(&cluster, 0).is_empty());
}

#[test]
fn a_disk_that_damages_again_and_again_is_the_operators() {
    let mut cluster = start(3);
    cluster.put(0, "k", "v");
    let damage = |cluster: &Cluster| {
        for manifest in files(cluster, 2, |name| name.starts_with("MANIFEST")) {
            fs::write(manifest, [7; 5_000]).unwrap();
        }
    };
    for _ in 0..3 {
        cluster.stop(2);
        damage(&cluster);
        cluster.restart(2);
        until_served(&cluster, 2, "k");
    }
    cluster.stop(2);
    damage(&cluster);
    let error = Server::open(cluster.config(2).clone()).unwrap_err();
    assert!(matches!(error, ServerError::DamagedAgain { times: 3, .. }), "{error}");
    assert_eq!(set_aside(&cluster, 2).len(), 3);
}

/// One node of three has little room: the others take its values, it reads, deletes and coordinates.
#[test]
fn above_the_limit_values_are_for_others() {
    let cluster = Cluster::start_with(3, |number, config| {
        config.node.engine = EngineKind::RocksDb;
        if number == 0 {
            config.node.disk_used_percent_max = 1;
        }
    });
    until("it is seen", || metric(&cluster, 0, "moim_disk_low") > 0.5);
    cluster.put(0, "k", "v");
    assert_eq!(cluster.get(0, "k").as_deref(), Some("v"));
    let all = cluster.call(1, "PUT", "/v1/kv/0/k?w=ALL", b"w");
    assert_eq!(all.status, 507, "{all:?}");
    assert!(all.text().contains("its disk is full"), "{all:?}");
    let siblings = cluster.call(0, "PUT", "/v1/kv/carts/c", b"apple");
    assert_eq!(siblings.status, 204, "{siblings:?}");
    assert_eq!(cluster.call(0, "DELETE", "/v1/kv/0/k?w=ALL", b"").status, 204);
    assert!(metric(&cluster, 0, "moim_disk_full_refused_total") > 0.5);
}

/// Alone, there is nobody else to take them.
#[test]
fn above_the_limit_a_node_alone_refuses_values_with_words() {
    let cluster = Cluster::start_with(1, |_, config| {
        config.node.engine = EngineKind::RocksDb;
        config.node.disk_used_percent_max = 1;
    });
    until("it is refused", || cluster.call(0, "PUT", "/v1/kv/0/k", b"v").status == 507);
    let siblings = cluster.call(0, "PUT", "/v1/kv/carts/c", b"apple");
    assert_eq!(siblings.status, 507, "{siblings:?}");
    assert!(siblings.text().contains("node.disk_used_percent_max"), "{siblings:?}");
    assert_ne!(cluster.call(0, "GET", "/v1/kv/0/k", b"").status, 507);
    assert_eq!(cluster.call(0, "DELETE", "/v1/kv/0/k", b"").status, 204);
}
