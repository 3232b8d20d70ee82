//! What a node keeps in memory is accounted for, in every place the same.

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;

use crate::cluster::Cluster;

/// The fields of `INFO memory` that are whole numbers.
fn info(cluster: &Cluster) -> BTreeMap<String, u64> {
    let mut stream = TcpStream::connect(cluster.addresses(0).redis).unwrap();
    stream.write_all(b"INFO memory\r\nQUIT\r\n").unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    let fields = text.lines().filter_map(|line| line.split_once(':'));
    fields.filter_map(|(name, value)| Some((name.to_owned(), value.parse().ok()?))).collect()
}

#[test]
fn parts_add_up_to_what_is_used_within_the_budget() {
    let cluster = Cluster::start_with(1, |_, config| config.node.memory_bytes = 64 << 20);
    for number in 0..50 {
        cluster.put(0, &format!("k{number}"), &"v".repeat(5_000));
    }
    let info = info(&cluster);
    assert_eq!(info["maxmemory"], 64 << 20);
    let parts = info.iter().filter(|(name, _)| name.starts_with("moim_memory_"));
    assert_eq!(parts.map(|(_, bytes)| bytes).sum::<u64>(), info["used_memory"]);
    assert!(info["moim_memory_objects"] > 50 * 5_000, "{info:?}");
    assert!(info["used_memory"] < info["maxmemory"], "{info:?}");
    let metrics = cluster.call(0, "GET", "/metrics", b"").text();
    let objects =
        metrics.lines().find(|line| line.starts_with("moim_memory_bytes{part=\"objects\"}"));
    assert!(objects.is_some(), "{metrics}");
    let limits: f64 = metrics
        .lines()
        .filter(|line| line.starts_with("moim_memory_limit_bytes{"))
        .filter_map(|line| line.rsplit_once(' ')?.1.parse::<f64>().ok())
        .sum();
    assert!((limits - f64::from(64 << 20)).abs() < 64.0, "{limits}");
}
