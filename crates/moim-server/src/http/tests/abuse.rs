//! What strangers may send, and what becomes of it: an answer below 500 or the end of the connection, never a hang.
//! After each, the server still serves.

use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::time::timeout;

use super::harness::{Server, Setup, read_reply, with, with_server};
use crate::http::Settings;

/// Impatient, so that tests of patience are quick.
fn impatient() -> Setup {
    let patience = Duration::from_millis(500);
    let settings = Settings {
        head_patience: patience,
        body_patience: patience,
        send_patience: patience,
        ..Settings::default()
    };
    Setup { settings, ..Setup::default() }
}

async fn still_serves(server: &Server) {
    assert_eq!(server.get("/healthz").await.text(), "alive\n");
}

#[test]
fn paths_that_are_not_understood_are_refused() {
    with_server(|server| async move {
        for (path, status) in [
            ("/v1/kv/0/%", 400),
            ("/v1/kv/0/%zz", 400),
            ("/v1/kv/0/a?r=%", 400),
            ("/v1/kv/%00/a", 404),
            ("/v1/kv/%ff/a", 400),
            ("/v1/kv/16/a", 404),
            ("/v1/kv/0", 404),
            ("/v1/kv/0/a?unknown=1", 400),
            ("/v1/kv/0/a?r=1&r=1", 400),
            ("/v1/kv/0/a?timeout=10", 400),
            ("/v1/kv/0/a?timeout=1d", 400),
            ("/nothing", 404),
            ("/v1/../healthz", 404),
            ("/v1/dev/cut", 404),
            ("/v1/status?pretty", 400),
        ] {
            let reply = server.get(path).await;
            assert_eq!(reply.status, status, "{path}: {}", reply.text());
            assert_eq!(reply.header("content-type"), Some("application/problem+json"), "{path}");
        }
        still_serves(&server).await;
    });
}

#[test]
fn a_wrong_method_names_the_right_ones() {
    with_server(|server| async move {
        for (line, allow) in [
            ("POST /v1/kv/0/a", "GET, HEAD, PUT, DELETE"),
            ("DELETE /v1/status", "GET, HEAD"),
            ("GET /v1/batch", "POST"),
            ("BREW /metrics", "GET, HEAD"),
        ] {
            let reply = server.ask(line, "", "").await;
            reply.problem(405, "method-not-allowed");
            assert_eq!(reply.header("allow"), Some(allow));
        }
    });
}

#[test]
fn a_value_beyond_the_limit_is_refused_however_it_comes() {
    with_server(|server| async move {
        let fits = "x".repeat(10_239);
        assert_eq!(server.ask("PUT /v1/kv/0/k", "", &fits).await.status, 204);
        let problem = server.ask("PUT /v1/kv/0/kk", "", &fits).await.problem(413, "too-large");
        assert_eq!(
            (&problem["limit_bytes"], &problem["maybe_applied"]),
            (&10_240.into(), &false.into())
        );
        // Declared only: refused before anything is sent, and nothing of that size is put aside for it.
        let declared = "PUT /v1/kv/0/k HTTP/1.1\r\nHost: x\r\nContent-Length: 999999999999\r\n\r\n";
        server.send(declared).await.problem(413, "too-large");
        let chunks = format!("2000\r\n{}\r\n", "x".repeat(0x2000)).repeat(3);
        let streamed = format!(
            "PUT /v1/kv/0/k HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n{chunks}0\r\n\r\n"
        );
        server.send(streamed).await.problem(413, "too-large");
        let long_key = format!("PUT /v1/kv/0/{}", "k".repeat(10_241));
        server.ask(&long_key, "", "").await.problem(413, "too-large");
        server
            .ask("PUT /v1/kv/0/k", "Content-Encoding: gzip\r\n", "x")
            .await
            .problem(415, "media-type");
        assert_eq!(
            server.get("/v1/kv/0/k").await.body.len(),
            fits.len(),
            "nothing was overwritten"
        );
    });
}

#[test]
fn conditions_are_refused_rather_than_ignored() {
    with_server(|server| async move {
        for condition in ["If-Match: \"1\"\r\n", "If-None-Match: *\r\n"] {
            let problem =
                server.ask("PUT /v1/kv/0/a", condition, "x").await.problem(400, "not-served");
            assert!(problem["detail"].as_str().unwrap().contains("consistent namespace"));
            server.ask("DELETE /v1/kv/0/a", condition, "").await.problem(400, "not-served");
        }
        server.get("/v1/kv/0/a").await.problem(404, "no-such-key");
    });
}

#[test]
fn bytes_that_are_no_request_end_the_connection() {
    with_server(|server| async move {
        let long_line = format!("GET /{} HTTP/1.1\r\nHost: x\r\n\r\n", "a".repeat(1 << 20));
        let long_header =
            format!("GET / HTTP/1.1\r\nHost: x\r\nX: {}\r\n\r\n", "a".repeat(1 << 20));
        let many = format!("GET / HTTP/1.1\r\nHost: x\r\n{}\r\n", "X: y\r\n".repeat(100));
        for (bytes, statuses) in [
            ("*1\r\n$4\r\nPING\r\n", &[400][..]),
            ("\x16\x03\x01\x02\x00\x01\x00\x01\u{fc}\x03\x03", &[400]),
            ("GET /v1/kv/0/a b HTTP/1.1\r\nHost: x\r\n\r\n", &[400]),
            ("GET / HTTP/1.1\r\nHost: x\r\nBad\x00: y\r\n\r\n", &[400]),
            ("GET / HTTP/1.1\r\nHost: x\r\n: y\r\n\r\n", &[400]),
            (long_line.as_str(), &[414, 431]),
            (long_header.as_str(), &[431]),
            (many.as_str(), &[431]),
            (
                "PUT /v1/kv/0/a HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
                &[400],
            ),
            ("PUT /v1/kv/0/a HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n", &[400]),
            ("PUT /v1/kv/0/a HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: gzip\r\n\r\n", &[400]),
            (
                "PUT /v1/kv/0/a HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
                &[400],
            ),
        ] {
            let reply = server.send(bytes).await;
            assert!(
                statuses.contains(&reply.status),
                "{:?}: {}",
                &bytes[..60.min(bytes.len())],
                reply.status
            );
        }
        still_serves(&server).await;
    });
}

#[test]
fn a_length_beside_chunks_smuggles_nothing() {
    with_server(|server| async move {
        let mut stream = server.connect().await;
        let smuggled = "GET /v1/status HTTP/1.1\r\nHost: x\r\n\r\n";
        let bytes = format!(
            "PUT /v1/kv/0/a HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n{smuggled}",
            smuggled.len() + 5
        );
        stream.write_all(bytes.as_bytes()).await.unwrap();
        let mut replies = Vec::new();
        drop(timeout(Duration::from_millis(500), stream.read_to_end(&mut replies)).await);
        let text = String::from_utf8_lossy(&replies);
        assert_eq!(
            text.matches("HTTP/1.1 ").count(),
            1,
            "one request, one answer, and an end: {text}"
        );
    });
}

#[test]
fn slow_heads_and_bodies_are_given_up() {
    with(impatient(), |server| async move {
        let mut idle = server.connect().await;
        let mut head = server.connect().await;
        head.write_all(b"GET /healthz HT").await.unwrap();
        let mut body = server.connect().await;
        body.write_all(b"PUT /v1/kv/0/a HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nabc")
            .await
            .unwrap();
        read_reply(&mut body, false).await.problem(408, "slow-body");
        for stream in [&mut idle, &mut head] {
            let mut rest = Vec::new();
            timeout(Duration::from_secs(5), stream.read_to_end(&mut rest))
                .await
                .expect("closed")
                .unwrap();
        }
        still_serves(&server).await;
    });
}

#[test]
fn a_client_that_does_not_read_is_cut() {
    with(impatient(), |server| async move {
        let mut stream = server.connect().await;
        let request = b"GET /dashboard.js HTTP/1.1\r\nHost: x\r\n\r\n";
        let flood = async {
            loop {
                if stream.write_all(&request.repeat(100)).await.is_err() {
                    return;
                }
            }
        };
        timeout(Duration::from_secs(10), flood).await.expect("the server hangs up");
        still_serves(&server).await;
    });
}

#[test]
fn connections_beyond_the_limit_are_told_so() {
    let settings = Settings { connections_max: 2, connections_reserved: 1, ..Settings::default() };
    with(Setup { settings, ..Setup::default() }, |server| async move {
        let held = [server.connect().await, server.connect().await, server.connect().await];
        let mut extra = server.connect().await;
        read_reply(&mut extra, false).await.problem(503, "overloaded");
        drop(held);
        while server.get("/healthz").await.status != 200 {}
    });
}

#[test]
fn pages_of_other_sites_change_nothing() {
    with_server(|server| async move {
        let foreign = "Origin: http://evil.example\r\n";
        server.ask("PUT /v1/kv/0/a", foreign, "x").await.problem(403, "foreign-origin");
        server.ask("POST /v1/batch", foreign, "{}").await.problem(403, "foreign-origin");
        server.get("/v1/kv/0/a").await.problem(404, "no-such-key");
        // A name that was made to resolve to this server.
        let rebound = "PUT /v1/kv/0/a HTTP/1.1\r\nHost: evil.example\r\nOrigin: http://evil.example\r\nContent-Length: 1\r\n\r\nx";
        server.send(rebound).await.problem(403, "foreign-origin");
        let member = format!(
            "GET /v1/status HTTP/1.1\r\nHost: {}\r\nOrigin: http://localhost:8001\r\n\r\n",
            server.address
        );
        let reply = server.send(member).await;
        assert_eq!(reply.header("access-control-allow-origin"), Some("http://localhost:8001"));
    });
}

#[test]
fn a_password_is_asked_for_everywhere_but_at_the_probes() {
    let settings = Settings {
        password: Some("s3cret".to_owned()),
        password_penalty: Duration::from_millis(1),
        ..Settings::default()
    };
    with(Setup { settings, ..Setup::default() }, |server| async move {
        for path in ["/", "/metrics", "/v1/status", "/v1/kv/0/a", "/nothing"] {
            let refused = server.get(path).await;
            refused.problem(401, "unauthorized");
            assert!(refused.header("www-authenticate").unwrap().starts_with("Basic"));
        }
        let wrong = server.ask("GET /v1/status", "Authorization: Bearer guess\r\n", "").await;
        assert!(!wrong.problem(401, "unauthorized").to_string().contains("s3cret"));
        assert_eq!(
            server.ask("GET /v1/status", "Authorization: Bearer s3cret\r\n", "").await.status,
            200
        );
        assert_eq!(server.get("/healthz").await.status, 200);
        assert_eq!(server.get("/readyz").await.status, 200);
    });
}
