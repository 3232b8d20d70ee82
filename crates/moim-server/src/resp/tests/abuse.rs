//! Clients that are slow, greedy, broken or hostile: each hurts itself and nobody else.

use std::time::{Duration, Instant};

use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use tokio::io::AsyncWriteExt;

use super::harness::{Client, Ports, encode, on_loop};
use crate::resp::RespSettings;

/// Runs a test against ports over a fake node.
fn with<F: Future<Output = ()>>(settings: RespSettings, test: impl FnOnce(Ports) -> F) {
    on_loop(async {
        let ports = Ports::of_fake_anew(settings).await;
        test(ports).await;
    });
}

/// Waits until it is so, and says how long that took.
async fn until(so: impl Fn() -> bool) -> Duration {
    let started = Instant::now();
    while !so() {
        assert!(started.elapsed() < Duration::from_secs(20), "it never became so");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    started.elapsed()
}

#[test]
fn a_client_that_does_not_read_stops_being_served_and_is_closed() {
    let settings = RespSettings {
        unread_timeout_ms: 300,
        output_bytes_max: 8 << 20,
        ..RespSettings::default()
    };
    with(settings, |ports| async move {
        let mut greedy = Client::connect(ports.plain).await;
        assert_eq!(greedy.ask(&["SET a «100000»"]).await, ["+OK"]);
        // 20 GB of replies, asked for in 4 MB of requests.
        let asking = encode("GET a").repeat(200_000);
        let (_unread, mut writer) = greedy.stream.into_split();
        tokio::task::spawn_local(async move { drop(writer.write_all(&asking).await) });
        let mut other = Client::connect(ports.plain).await;
        assert_eq!(other.ask(&["PING"]).await, ["+PONG"]);
        let (mut most, mut slowest) = (0, Duration::ZERO);
        let started = Instant::now();
        while ports.front.connections() == 2 {
            let asked = Instant::now();
            assert_eq!(other.ask(&["PING"]).await, ["+PONG"]);
            slowest = slowest.max(asked.elapsed());
            most = most.max(ports.front.figures().buffers_bytes);
            assert!(started.elapsed() < Duration::from_secs(20), "it was never closed");
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        assert_eq!(ports.front.figures().connections_timed_out, 1);
        assert!(most < 4 << 20, "its buffers took {most} bytes");
        assert!(slowest < Duration::from_secs(2), "another client waited {slowest:?}");
        assert_eq!(ports.front.figures().buffers_bytes, 0, "everything was given back");
    });
}

#[test]
fn all_buffers_together_have_a_bound() {
    let settings = RespSettings { buffers_bytes_max: 1 << 20, ..RespSettings::default() };
    with(settings, |ports| async move {
        let mut clients = Vec::new();
        for _ in 0..8 {
            let mut client = Client::connect(ports.plain).await;
            // The beginning of a large value, and never its end.
            let begin =
                [b"*3\r\n$3\r\nSET\r\n$1\r\na\r\n$9000000\r\n".as_slice(), &vec![b'x'; 300_000]];
            drop(client.stream.write_all(&begin.concat()).await);
            clients.push(client);
        }
        until(|| ports.front.figures().connections_overfull > 0).await;
        let mut other = Client::connect(ports.plain).await;
        assert_eq!(other.ask(&["PING"]).await, ["+PONG"]);
        let figures = ports.front.figures();
        assert!(figures.buffers_bytes <= 1 << 20, "{} bytes are held", figures.buffers_bytes);
    });
}

#[test]
fn a_long_pipeline_is_answered_in_order() {
    with(RespSettings::default(), |ports| async move {
        let mut client = Client::connect(ports.plain).await;
        let requests: Vec<u8> = (0..50_000).flat_map(|n| encode(&format!("ECHO {n}"))).collect();
        let (mut reader, mut writer) = client.stream.into_split();
        let writing = tokio::task::spawn_local(async move {
            writer.write_all(&requests).await.unwrap();
            writer
        });
        let mut expected: Vec<u8> = Vec::new();
        for number in 0..50_000 {
            let text = number.to_string();
            expected.extend(format!("${}\r\n{text}\r\n", text.len()).bytes());
        }
        let mut answered = vec![0; expected.len()];
        tokio::io::AsyncReadExt::read_exact(&mut reader, &mut answered).await.unwrap();
        assert!(answered == expected, "replies came in another order");
        client.stream = reader.reunite(writing.await.unwrap()).unwrap();
        assert_eq!(client.ask(&["PING"]).await, ["+PONG"]);
    });
}

#[test]
fn requests_may_come_byte_by_byte() {
    with(RespSettings::default(), |ports| async move {
        let mut client = Client::connect(ports.plain).await;
        let bytes = [encode("SET a \"b c\""), b"GET a\r\n".to_vec(), encode("GET a")].concat();
        for byte in bytes {
            client.stream.write_all(&[byte]).await.unwrap();
            tokio::task::yield_now().await;
        }
        assert_eq!(client.say(b"", 3).await, ["+OK", "\"b c\"", "\"b c\""]);
    });
}

#[test]
fn whoever_leaves_leaves_nothing_behind() {
    with(RespSettings::default(), |ports| async move {
        for request in
            ["MULTI ;; SET a «100000»", "WATCH a", "INCR a", "GET a", "KEYS *", "FLUSHALL"]
        {
            let mut client = Client::connect(ports.plain).await;
            let bytes: Vec<u8> = request.split(" ;; ").flat_map(encode).collect();
            client.stream.write_all(&bytes.repeat(50)).await.unwrap();
        }
        until(|| ports.front.figures().connections_accepted == 6).await;
        until(|| ports.front.connections() == 0).await;
        assert_eq!(ports.front.figures().buffers_bytes, 0);
    });
}

#[test]
fn replies_reach_a_client_that_has_said_all_it_has_to_say() {
    with(RespSettings::default(), |ports| async move {
        let mut client = Client::connect(ports.plain).await;
        client.stream.write_all(b"INCR a\r\nGET a\r\nINCR a\r\nKEYS *\r\n").await.unwrap();
        client.stream.shutdown().await.unwrap();
        assert_eq!(client.say(b"", 5).await, [":1", "\"1\"", ":2", "[\"a\"]", "<closed>"]);
    });
}

#[test]
fn an_idle_client_is_closed_when_it_has_been_told_so() {
    with(RespSettings::default(), |ports| async move {
        let mut idle = Client::connect(ports.plain).await;
        assert_eq!(idle.ask(&["PING"]).await, ["+PONG"]);
        let mut other = Client::connect(ports.plain).await;
        assert_eq!(other.ask(&["CONFIG SET timeout 1"]).await, ["+OK"]);
        assert_eq!(idle.say(b"", 1).await, ["<closed>"]);
        until(|| ports.front.figures().connections_timed_out == 2).await;
    });
}

#[test]
fn a_node_that_drains_answers_what_it_has_begun() {
    with(RespSettings::default(), |ports| async move {
        let mut client = Client::connect(ports.plain).await;
        assert_eq!(client.ask(&["PING"]).await, ["+PONG"]);
        client.stream.write_all(&encode("INCR a")).await.unwrap();
        until(|| ports.front.figures().calls() > 0 && ports.front.figures().input_bytes > 20).await;
        ports.front.drain();
        assert_eq!(client.say(b"", 2).await, [":1", "<closed>"]);
        let mut late = Client::connect(ports.plain).await;
        assert_eq!(late.say(b"", 2).await, ["-NOTREADY this node is stopping", "<closed>"]);
    });
}

#[test]
fn a_node_that_stops_parts_behind_a_reply() {
    with(RespSettings::default(), |ports| async move {
        let mut busy = Client::connect(ports.plain).await;
        let mut careful = Client::connect(ports.plain).await;
        let mut silent = Client::connect(ports.plain).await;
        for client in [&mut busy, &mut careful, &mut silent] {
            assert_eq!(client.ask(&["PING"]).await, ["+PONG"]);
        }
        assert_eq!(careful.ask(&["MULTI"]).await, ["+OK"]);
        ports.front.part();
        // All that it has sent is answered, and then comes the end.
        let pipeline = [encode("SET a 1"), encode("INCR a"), encode("GET a")].concat();
        assert_eq!(busy.say(&pipeline, 4).await, ["+OK", ":2", "\"2\"", "<closed>"]);
        assert_eq!(careful.ask(&["GET a"]).await, ["+QUEUED"]);
        assert_eq!(careful.say(&encode("EXEC"), 2).await, ["[\"2\"]", "<closed>"]);
        assert_eq!(ports.front.connections(), 1, "who says nothing stays");
        assert_eq!(silent.say(&encode("PING"), 2).await, ["+PONG", "<closed>"]);
    });
}

#[test]
fn any_bytes_leave_the_server_serving() {
    let token = prop_oneof![
        4 => prop::sample::select(vec![
            "*1\r\n", "*2\r\n", "*3\r\n", "$3\r\n", "$1\r\n", "$4\r\n", "GET", "SET", "\r\n", "a\r\n", "PING\r\n",
            "MULTI\r\n", "EXEC\r\n", "WATCH a\r\n", "HELLO 3\r\n", "RESET\r\n", "SCAN 0\r\n", "CLIENT REPLY SKIP\r\n",
            "CLIENT LIST\r\n", "COMMAND\r\n", "INFO\r\n", "EVAL x 1 a\r\n", "OBJECT ENCODING a\r\n", "QUIT\r\n",
            "MGET a b\r\n", "INCR a\r\n", "CLUSTER SLOTS\r\n", "MOIM.GET a\r\n", "CONFIG SET timeout 0\r\n",
        ]).prop_map(|text| text.as_bytes().to_vec()),
        1 => any::<Vec<u8>>(),
    ];
    let mut runner = TestRunner::new(Config { cases: 200, ..Config::default() });
    let noise = prop::collection::vec(token, 0..40).prop_map(|tokens| tokens.concat());
    runner
        .run(&noise, |bytes| {
            with(RespSettings::default(), |ports| async move {
                let mut noisy = Client::connect(ports.plain).await;
                drop(noisy.stream.write_all(&bytes).await);
                drop(noisy.stream.shutdown().await);
                let mut other = Client::connect(ports.cluster).await;
                assert_eq!(other.ask(&["PING"]).await, ["+PONG"]);
                drop(noisy);
                until(|| ports.front.connections() == 1).await;
            });
            Ok(())
        })
        .unwrap();
}
