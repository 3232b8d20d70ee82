//! What the server says of itself and the cluster.

use super::harness::{Setup, read_reply, with, with_server};
use crate::http::document;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

fn read<T: serde::de::DeserializeOwned>(json: serde_json::Value) -> T {
    serde_json::from_value(json).unwrap()
}

#[test]
fn a_node_alone_describes_its_cluster() {
    with_server(|server| async move {
        let status: document::Status = read(server.get("/v1/status").await.json());
        assert!(status.ready && status.reason.is_none());
        assert_eq!((status.nodes, status.nodes_up, status.machines), (1, 1, 1));
        assert_eq!((status.copies, status.copies_wanted), (1, 3));
        assert_eq!((status.ring_version, status.partitions), (Some(1), Some(256)));
        assert_eq!((status.node.as_str(), status.namespaces), ("0000000000000a11", 17));
        assert!(status.local.memory_bytes > 0);

        let nodes: document::Nodes = read(server.get("/v1/nodes").await.json());
        let [own] = nodes.nodes.as_slice() else { panic!("{nodes:?}") };
        assert!(own.own && own.state == "up" && own.partitions == 256);
        assert!((own.share - 1.0).abs() < 1e-9);
        assert_eq!(own.addresses.redis, "127.0.0.1:7001");

        let ring: document::Ring = read(server.get("/v1/ring").await.json());
        assert_eq!((ring.slots, ring.owner_runs), (16_384, vec![(0, 255, 0)]));
        let tasks: document::Tasks = read(server.get("/v1/tasks").await.json());
        assert_eq!(tasks, document::Tasks::default());
    });
}

#[test]
fn the_owners_of_a_key_say_what_they_hold() {
    with_server(|server| async move {
        let owners = |path: &'static str| async {
            read::<document::KeyOwners>(server.get(path).await.json())
        };
        let before = owners("/v1/ring/key/0/foo").await;
        assert_eq!((before.slot, before.partition), (12_182, 12_182 / 64));
        assert_eq!(before.replicas[0].state, "missing");
        let written = server.ask("PUT /v1/kv/0/foo?ttl=1h", "", "x").await;
        let after = owners("/v1/ring/key/0/foo").await;
        let replica = &after.replicas[0];
        assert_eq!(
            (replica.state.as_str(), replica.address.as_deref()),
            ("held", Some("127.0.0.1:9001"))
        );
        assert_eq!(replica.context.as_deref(), written.header("x-moim-context"));
        assert_eq!(replica.versions[0].version, written.header("x-moim-version").unwrap());
        assert_eq!(replica.versions[0].state, "value");
        assert!(replica.versions[0].expires_ms.is_some());
        server.ask("DELETE /v1/kv/0/foo", "", "").await;
        assert_eq!(owners("/v1/ring/key/0/foo").await.replicas[0].versions[0].state, "deleted");
        server.ask("PUT /v1/kv/carts/foo", "", "x").await;
        let cart = owners("/v1/ring/key/carts/foo").await;
        assert_eq!(cart.replicas[0].clock.values().collect::<Vec<_>>(), ["1"]);
        server.get("/v1/ring/key/nowhere/foo").await.problem(404, "no-such-namespace");
    });
}

#[test]
fn namespaces_are_shown_and_not_changed() {
    with_server(|server| async move {
        let all: document::Namespaces = read(server.get("/v1/namespaces").await.json());
        assert_eq!(all.namespaces.len(), 17);
        let carts: document::Namespace = read(server.get("/v1/namespaces/carts").await.json());
        assert_eq!(
            (carts.conflict.as_str(), carts.mode.as_str(), carts.sloppy),
            ("siblings", "available", false)
        );
        assert_eq!((carts.n, carts.max_pair_bytes, carts.ttl_ms), (3, 10_240, None));
        server.get("/v1/namespaces/nowhere").await.problem(404, "no-such-namespace");
        for method in ["PUT", "DELETE"] {
            let refused = server.ask(&format!("{method} /v1/namespaces/carts"), "", "{}").await;
            let problem = refused.problem(409, "read-only");
            assert!(problem["detail"].as_str().unwrap().contains("configuration"));
        }
    });
}

#[test]
fn metrics_are_well_formed() {
    with_server(|server| async move {
        server.ask("PUT /v1/kv/0/a", "", "x").await;
        server.get("/v1/kv/0/a").await;
        let text = String::from_utf8(server.get("/metrics").await.body).unwrap();
        let mut typed = std::collections::BTreeMap::new();
        for line in text.lines() {
            if let Some(rest) = line.strip_prefix("# TYPE ") {
                let (name, kind) = rest.split_once(' ').unwrap();
                assert!(typed.insert(name.to_owned(), kind.to_owned()).is_none(), "{name} twice");
                assert!(name.starts_with("moim_"), "{name}");
                assert_eq!(name.ends_with("_total"), kind == "counter", "{name} is a {kind}");
            } else if !line.starts_with('#') {
                let (name, value) = line.rsplit_once(' ').unwrap();
                let name = name.split('{').next().unwrap();
                let base = ["_bucket", "_sum", "_count"]
                    .iter()
                    .find_map(|suffix| name.strip_suffix(suffix));
                let known =
                    typed.contains_key(name) || base.is_some_and(|base| typed[base] == "histogram");
                assert!(known, "{name} has no type");
                assert!(value.parse::<f64>().is_ok(), "{line}");
            }
        }
        for figure in [
            "moim_reads_total 1\n",
            "moim_writes_total 1\n",
            "moim_ready 1\n",
            "moim_http_connections ",
        ] {
            assert!(text.contains(figure), "{figure}");
        }
        for name in [
            "moim_storage_log_syncs_total",
            "moim_storage_filter_false_hits_total",
            "moim_storage_memtable_bytes",
        ] {
            assert!(typed.contains_key(name), "{name} (REQ-6)");
        }
    });
}

#[test]
fn a_node_that_waits_for_others_is_alive_and_not_ready() {
    with(Setup { founding_members: 3, ..Setup::default() }, |server| async move {
        assert_eq!(server.get("/healthz").await.status, 200);
        let problem = server.get("/readyz").await.problem(503, "not-ready");
        assert!(problem["detail"].as_str().unwrap().starts_with("1 of 3 founding members"));
        server.get("/v1/kv/0/a").await.problem(503, "not-ready");
        let write = server.ask("PUT /v1/kv/0/a", "", "x").await.problem(503, "not-ready");
        assert_eq!(write["maybe_applied"], false);
        server.get("/v1/keys/0").await.problem(503, "not-ready");
        server.get("/v1/ring").await.problem(503, "not-ready");
        let status: document::Status = read(server.get("/v1/status").await.json());
        assert!(!status.ready && status.reason.unwrap().contains("1 of 3"));
        assert!(server.get("/metrics").await.text().contains("moim_ready 0\n"));
    });
}

#[test]
fn the_dashboard_needs_nothing_from_outside() {
    with_server(|server| async move {
        let page = server.get("/").await;
        assert_eq!(page.header("content-type"), Some("text/html; charset=utf-8"));
        let policy = page.header("content-security-policy").unwrap();
        assert!(policy.starts_with("default-src 'none'") && !policy.contains("unsafe"), "{policy}");
        assert!(policy.contains("http://127.0.0.1:8001 http://localhost:8001"));
        for (path, kind) in [("/dashboard.js", "text/javascript"), ("/dashboard.css", "text/css")] {
            assert!(page.text().contains(path));
            let part = server.get(path).await;
            assert!(part.header("content-type").unwrap().starts_with(kind));
            assert!(!part.text().contains("https://"), "{path} reaches outside");
        }
        assert_eq!(server.get("/openapi.json").await.json()["openapi"], "3.1.0");
    });
}

#[test]
fn links_are_cut_only_where_experiments_are_allowed() {
    with(Setup { faults: true, ..Setup::default() }, |server| async move {
        assert_eq!(server.ask("POST /v1/dev/cut", "", "").await.status, 204);
        assert!(server.is_cut.get());
        assert_eq!(server.ask("POST /v1/dev/heal", "", "").await.status, 204);
        assert!(!server.is_cut.get());
        server.get("/v1/dev/cut").await.problem(405, "method-not-allowed");
        assert_eq!(server.ask("POST /v1/dev/slow-disk?read=50ms", "", "").await.status, 204);
        assert_eq!(server.slow_disk.get(), (50, 0));
        let unclear = server.ask("POST /v1/dev/slow-disk?commit=much", "", "").await;
        unclear.problem(400, "bad-request");
    });
    with_server(|server| async move {
        server.ask("POST /v1/dev/cut", "", "").await.problem(404, "no-such-path");
        assert!(!server.is_cut.get());
    });
}

#[test]
fn stopping_lets_a_request_end_and_idle_connections_go() {
    with_server(|mut server| async move {
        let mut idle = server.connect().await;
        let mut busy = server.connect().await;
        busy.write_all(b"PUT /v1/kv/0/a HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\nx")
            .await
            .unwrap();
        while server.handle.view(|node| node.readiness().is_err())
            || !server.get("/metrics").await.text().contains("moim_http_connections 3")
        {}
        server.stop.take().unwrap().send(()).unwrap();
        let mut rest = Vec::new();
        idle.read_to_end(&mut rest).await.unwrap();
        assert_eq!(rest, b"");
        busy.write_all(b"y").await.unwrap();
        assert_eq!(read_reply(&mut busy, false).await.status, 204);
        (&mut server.serving).await.unwrap();
        assert!(tokio::net::TcpStream::connect(server.address).await.is_err(), "nobody listens");
    });
}
