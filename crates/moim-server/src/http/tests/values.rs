//! Keys and values: what clients get for what they send.

use super::harness::{read_reply, with_server};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use tokio::io::AsyncWriteExt as _;

#[test]
fn a_value_comes_back_as_it_was_stored() {
    with_server(|server| async move {
        let missing = server.get("/v1/kv/0/greeting").await;
        missing.problem(404, "no-such-key");
        assert_eq!(missing.header("x-moim-context"), None, "never written");

        let value = b"\x00\xffhello\r\n\r\n";
        let written = server.ask("PUT /v1/kv/0/greeting", "", value).await;
        assert_eq!((written.status, written.body.len()), (204, 0));
        let version = written.header("x-moim-version").unwrap().to_owned();

        let found = server.get("/v1/kv/0/greeting?r=quorum").await;
        assert_eq!((found.status, found.body.as_slice()), (200, &value[..]));
        assert_eq!(found.header("x-moim-version"), Some(version.as_str()));
        assert_eq!(found.header("x-moim-context"), written.header("x-moim-context"));
        assert_eq!(found.header("content-type"), Some("application/octet-stream"));
        assert_eq!(found.header("x-content-type-options"), Some("nosniff"));
        assert_eq!(found.header("x-moim-expires"), None);
        let written_ms: u64 = found.header("x-moim-written").unwrap().parse().unwrap();
        assert!(found.header("x-moim-created").unwrap().parse::<u64>().unwrap() <= written_ms);
        assert_eq!(version.parse::<u64>().unwrap() >> 16, written_ms);

        let tag = found.header("etag").unwrap().to_owned();
        let head = server.send("HEAD /v1/kv/0/greeting HTTP/1.1\r\nHost: x\r\n\r\n").await;
        assert_eq!((head.status, head.header("etag")), (200, Some(tag.as_str())));
        assert_eq!(head.header("content-length"), Some("11"));
        let known = format!("If-None-Match: W/\"old\", {tag}\r\n");
        assert_eq!(server.ask("GET /v1/kv/0/greeting", &known, "").await.status, 304);
        assert_eq!(
            server.ask("GET /v1/kv/0/greeting", "If-None-Match: \"old\"\r\n", "").await.status,
            200
        );
    });
}

#[test]
fn a_deleted_key_leaves_a_context() {
    with_server(|server| async move {
        server.ask("PUT /v1/kv/0/a", "", "1").await;
        let deleted = server.ask("DELETE /v1/kv/0/a?w=ONE", "", "").await;
        assert_eq!(deleted.status, 204);
        let gone = server.get("/v1/kv/0/a").await;
        gone.problem(404, "no-such-key");
        assert_eq!(gone.header("x-moim-context"), deleted.header("x-moim-context"));
    });
}

#[test]
fn keys_are_bytes() {
    with_server(|server| async move {
        for key in [
            "%00",
            "a%2Fb",
            "user/7",
            "%ff%FE",
            "",
            "..%2f..",
            "%2e%2e/x",
            "a+b",
            "a%20b",
            "%EC%9E%A5",
        ] {
            let put = server.ask(&format!("PUT /v1/kv/0/{key}"), "", key).await;
            assert_eq!(put.status, 204, "{key}: {}", put.text());
        }
        assert_eq!(server.get("/v1/kv/0/a/b").await.body, b"a%2Fb", "a slash may stay as it is");
        assert_eq!(server.get("/v1/kv/0/%61+b").await.body, b"a+b", "a plus is a plus");
        assert_eq!(server.get("/v1/kv/0/").await.body, b"", "the empty key holds the empty value");
        assert_eq!(server.get("/v1/kv/0/").await.status, 200);
        let listed = server.get("/v1/keys/0").await.json();
        assert_eq!(listed["keys"].as_array().unwrap().len(), 9);
        assert_eq!(listed["keys_base64"], serde_json::json!([STANDARD.encode(b"\xff\xfe")]));
    });
}

#[test]
fn a_ttl_is_kept() {
    with_server(|server| async move {
        assert_eq!(server.ask("PUT /v1/kv/0/a?ttl=30m", "", "1").await.status, 204);
        let found = server.get("/v1/kv/0/a").await;
        let ms = |name| found.header(name).unwrap().parse::<u64>().unwrap();
        let life_ms = ms("x-moim-expires") - ms("x-moim-written");
        assert!((1_790_000..=1_800_000).contains(&life_ms), "{life_ms}");
        assert_eq!(server.ask("PUT /v1/kv/0/b?ttl=20ms", "", "1").await.status, 204);
        tokio::time::sleep(std::time::Duration::from_millis(30)).await;
        let gone = server.get("/v1/kv/0/b").await;
        gone.problem(404, "no-such-key");
        assert!(gone.header("x-moim-context").is_some());
        for bad in ["0s", "10", "soon", "-1s", "1w"] {
            let refused = server.ask(&format!("PUT /v1/kv/0/a?ttl={bad}"), "", "2").await;
            assert!(
                refused.problem(400, "bad-request")["detail"]
                    .as_str()
                    .unwrap()
                    .starts_with("ttl: ")
            );
        }
        assert_eq!(server.ask("PUT /v1/kv/0/a?ttl=never", "", "1").await.status, 204);
        assert_eq!(server.get("/v1/kv/0/a").await.header("x-moim-expires"), None);
    });
}

#[test]
fn siblings_are_shown_and_resolved_by_their_context() {
    with_server(|server| async move {
        server.ask("PUT /v1/kv/carts/7", "", "milk").await;
        let one = server.get("/v1/kv/carts/7").await;
        assert_eq!((one.status, one.text()), (200, "milk"));
        server.ask("PUT /v1/kv/carts/7?ttl=1h", "", "eggs").await;
        let several = server.get("/v1/kv/carts/7").await;
        assert_eq!(several.status, 300);
        let shown = several.json();
        let context = shown["context"].as_str().unwrap();
        assert_eq!(several.header("x-moim-context"), Some(context));
        let siblings = shown["siblings"].as_array().unwrap();
        let mut values: Vec<_> = siblings
            .iter()
            .map(|sibling| STANDARD.decode(sibling["value"].as_str().unwrap()).unwrap())
            .collect();
        values.sort();
        assert_eq!(values, [b"eggs", b"milk"]);
        for sibling in siblings {
            assert!(sibling["version"].as_str().unwrap().parse::<u64>().is_ok());
            assert!(sibling["dot"].as_str().unwrap().starts_with("0000000000000a11-"));
            assert!(sibling["written_ms"].is_u64() && sibling["created_ms"].is_u64());
        }
        assert_eq!(siblings.iter().filter(|sibling| sibling["expires_ms"].is_null()).count(), 1);

        let seen = format!("X-Moim-Context: {context}\r\n");
        assert_eq!(server.ask("PUT /v1/kv/carts/7", &seen, "milk, eggs").await.status, 204);
        let merged = server.get("/v1/kv/carts/7").await;
        assert_eq!((merged.status, merged.text()), (200, "milk, eggs"));
        // A late client with the old context adds what it did not see replaced.
        assert_eq!(server.ask("PUT /v1/kv/carts/7", &seen, "late").await.status, 204);
        assert_eq!(server.get("/v1/kv/carts/7").await.status, 300);
    });
}

#[test]
fn a_context_of_another_key_or_kind_is_refused() {
    with_server(|server| async move {
        let lww = server.ask("PUT /v1/kv/0/a", "", "1").await;
        let context = format!("X-Moim-Context: {}\r\n", lww.header("x-moim-context").unwrap());
        assert_eq!(server.ask("PUT /v1/kv/0/a", &context, "2").await.status, 204);
        for (line, header) in [
            ("PUT /v1/kv/0/b", context.as_str()),
            ("PUT /v1/kv/1/a", context.as_str()),
            ("DELETE /v1/kv/carts/a", context.as_str()),
            ("PUT /v1/kv/0/a", "X-Moim-Context: nonsense!\r\n"),
            ("PUT /v1/kv/0/a", "X-Moim-Context: \r\n"),
            ("PUT /v1/kv/0/a", "X-Moim-Context: AA\r\nX-Moim-Context: AA\r\n"),
        ] {
            server.ask(line, header, "2").await.problem(400, "bad-context");
        }
    });
}

#[test]
fn a_level_that_cannot_be_reached_says_so() {
    with_server(|server| async move {
        let refused = server.ask("PUT /v1/kv/0/a?w=THREE", "", "1").await;
        assert_eq!(refused.header("retry-after"), Some("1"));
        let problem = refused.problem(503, "unavailable");
        assert_eq!((&problem["needed"], &problem["level"]), (&3.into(), &"THREE".into()));
        assert!(problem["maybe_applied"].is_boolean());
        let unread = server.get("/v1/kv/0/a?r=2").await.problem(503, "unavailable");
        assert_eq!((&unread["needed"], unread.get("maybe_applied")), (&2.into(), None));
        let unknown = server.get("/v1/kv/0/a?r=most").await.problem(400, "bad-request");
        assert!(unknown["detail"].as_str().unwrap().contains("'most' is no consistency level"));
    });
}

#[test]
fn keys_are_listed_page_by_page() {
    with_server(|server| async move {
        for number in 0..250 {
            let name = if number % 5 == 0 { "odd" } else { "user" };
            server.ask(&format!("PUT /v1/kv/3/{name}:{number}"), "", "x").await;
        }
        let mut keys = Vec::new();
        let mut path = "/v1/keys/3?limit=30".to_owned();
        loop {
            let page = server.get(&path).await.json();
            let listed = page["keys"].as_array().unwrap();
            assert!(listed.len() <= 60, "about thirty, not {}", listed.len());
            keys.extend(listed.iter().map(|key| key.as_str().unwrap().to_owned()));
            match page["cursor"].as_str() {
                Some(cursor) => path = format!("/v1/keys/3?limit=30&cursor={cursor}"),
                None => break,
            }
        }
        keys.sort();
        let listed = keys.len();
        keys.dedup();
        assert_eq!((keys.len(), listed), (250, 250), "each key once");
        let odd = server.get("/v1/keys/3?prefix=odd%3A&limit=1000").await.json();
        assert_eq!(odd["keys"].as_array().unwrap().len(), 50);
        assert_eq!(server.get("/v1/keys/4").await.json(), serde_json::json!({"keys": []}));
        server.get("/v1/keys/3?cursor=nonsense").await.problem(400, "bad-request");
        server.get("/v1/keys/3?limit=1001").await.problem(400, "bad-request");
        server.get("/v1/keys/nowhere").await.problem(404, "no-such-namespace");
    });
}

#[test]
fn each_operation_of_a_batch_has_its_own_outcome() {
    with_server(|server| async move {
        let json = "Content-Type: application/json\r\n";
        let puts = serde_json::json!({"operations": [
            {"op": "put", "key": "a", "value_text": "1"},
            {"op": "put", "key_base64": STANDARD.encode([0xff]), "value": STANDARD.encode("2"), "ttl": "1h"},
            {"op": "put", "namespace": "carts", "key": "c", "value_text": "x"},
            {"op": "put", "namespace": "carts", "key": "c", "value_text": "y"},
            {"op": "put", "key": "big", "value_text": "x".repeat(20_000)},
            {"op": "put", "key": "no value"},
            {"op": "put", "key": "a", "value_text": "1", "w": "most"},
            {"op": "get", "key": "a", "w": "ONE"},
            {"op": "put", "namespace": "nowhere", "key": "a", "value_text": ""},
        ]});
        let reply = server.ask("POST /v1/batch", json, puts.to_string()).await.json();
        let statuses: Vec<_> = reply["results"]
            .as_array()
            .unwrap()
            .iter()
            .map(|result| result["status"].as_u64().unwrap())
            .collect();
        assert_eq!(statuses, [204, 204, 204, 204, 413, 400, 400, 400, 404]);
        assert!(reply["results"][0]["version"].is_string());
        assert_eq!(reply["results"][4]["problem"]["limit_bytes"], 10_240);

        let gets = serde_json::json!({"namespace": "carts", "operations": [
            {"op": "get", "key": "c"},
            {"op": "get", "key": "a", "namespace": "0"},
            {"op": "get", "key": "missing"},
            {"op": "delete", "key": "a", "namespace": "0", "context": reply["results"][0]["context"]},
        ]});
        let reply = server.ask("POST /v1/batch", json, gets.to_string()).await.json();
        let results = &reply["results"];
        assert_eq!(
            (&results[0]["status"], results[0]["siblings"].as_array().unwrap().len()),
            (&300.into(), 2)
        );
        assert!(results[0]["context"].is_string());
        assert_eq!(results[1]["siblings"][0]["value"], STANDARD.encode("1"));
        assert_eq!((&results[2]["status"], &results[3]["status"]), (&404.into(), &204.into()));
        assert_eq!(server.get("/v1/kv/0/%ff").await.text(), "2");
    });
}

#[test]
fn a_batch_that_cannot_be_read_is_refused_whole() {
    with_server(|server| async move {
        let json = "Content-Type: application/json; charset=utf-8\r\n";
        server.ask("POST /v1/batch", "", "{}").await.problem(415, "media-type");
        server
            .ask("POST /v1/batch", "Content-Type: text/plain\r\n", "{}")
            .await
            .problem(415, "media-type");
        let deep = "[".repeat(100_000);
        for bad in [
            "",
            "{",
            "[]",
            "{}",
            r#"{"operations":[{"op":"touch"}]}"#,
            r#"{"operations":[],"w":1}"#,
            &deep,
        ] {
            server.ask("POST /v1/batch", json, bad).await.problem(400, "bad-request");
        }
        let many =
            format!(r#"{{"operations":[{}]}}"#, vec![r#"{"op":"get","key":"a"}"#; 1_001].join(","));
        let problem = server.ask("POST /v1/batch", json, many).await.problem(413, "too-large");
        assert!(problem["detail"].as_str().unwrap().contains("1000"));
        assert_eq!(
            server.ask("POST /v1/batch", json, r#"{"operations":[]}"#).await.json()["results"],
            serde_json::json!([])
        );
    });
}

#[test]
fn requests_in_a_row_share_a_connection() {
    with_server(|server| async move {
        let mut stream = server.connect().await;
        for _ in 0..3 {
            stream
                .write_all(b"PUT /v1/kv/0/a HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\n\r\nx")
                .await
                .unwrap();
            assert_eq!(read_reply(&mut stream, false).await.status, 204);
        }
    });
}
