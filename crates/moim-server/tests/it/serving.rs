//! What a cluster does while all is well, and while one node is away.

use crate::cluster::{Cluster, until};

#[test]
fn a_node_alone_serves() {
    let cluster = Cluster::start(1);
    assert_eq!(cluster.get(0, "k"), None);
    cluster.put(0, "k", "v");
    assert_eq!(cluster.get(0, "k").as_deref(), Some("v"));
}

#[test]
fn every_node_serves_every_key() {
    let cluster = Cluster::start(3);
    for key in 0..30 {
        cluster.put(key % 3, &format!("k{key}"), &format!("v{key}"));
    }
    for key in 0..30 {
        assert_eq!(cluster.get((key + 1) % 3, &format!("k{key}")), Some(format!("v{key}")));
    }
}

#[test]
fn siblings_are_kept_and_resolved_with_their_context() {
    let cluster = Cluster::start(3);
    let path = "/v1/kv/carts/alice";
    for (node, value) in [(0, "milk"), (1, "bread")] {
        assert_eq!(cluster.call(node, "PUT", path, value.as_bytes()).status, 204);
    }
    let both = cluster.call(2, "GET", path, b"");
    assert_eq!(both.status, 300, "{both:?}");
    let context = both.header("x-moim-context").unwrap().to_owned();
    let head = format!("PUT {path} HTTP/1.1\r\nX-Moim-Context: {context}\r\n");
    let resolved =
        crate::http::call_with(cluster.addresses(1).http, &head, b"milk and bread").unwrap();
    assert_eq!(resolved.status, 204, "{resolved:?}");
    let one = cluster.call(0, "GET", path, b"");
    assert_eq!((one.status, one.text().as_str()), (200, "milk and bread"));
}

#[test]
fn two_of_three_go_on_and_the_third_catches_up() {
    let mut cluster = Cluster::start(3);
    cluster.put(0, "before", "1");
    cluster.kill(2);
    for number in 0..20 {
        cluster.put(number % 2, &format!("k{number}"), "while away");
        assert_eq!(
            cluster.get((number + 1) % 2, &format!("k{number}")).as_deref(),
            Some("while away")
        );
    }
    cluster.restart(2);
    cluster.until_ready(2);
    for number in 0..20 {
        assert_eq!(cluster.get(2, &format!("k{number}")).as_deref(), Some("while away"));
    }
    assert_eq!(cluster.get(2, "before").as_deref(), Some("1"));
}

#[test]
fn without_a_quorum_nothing_is_acknowledged() {
    let mut cluster = Cluster::start(3);
    cluster.put(0, "k", "v");
    cluster.kill(1);
    cluster.kill(2);
    until("the loss is seen", || cluster.call(0, "PUT", "/v1/kv/0/k", b"w").status == 503);
    assert_eq!(cluster.call(0, "GET", "/v1/kv/0/k", b"").status, 503);
    // Nodes in memory come back with nothing: alone, one of them cannot know what it may have acknowledged.
    cluster.restart(1);
    assert_eq!(cluster.call(0, "PUT", "/v1/kv/0/k", b"x").status, 503);
    cluster.restart(2);
    until("there is a quorum again", || cluster.call(0, "PUT", "/v1/kv/0/k", b"x").status == 204);
    cluster.until_ready(1);
    assert_eq!(cluster.get(1, "k").as_deref(), Some("x"));
}
