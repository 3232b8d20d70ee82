//! A pipeline is executed as if its commands came one by one.

use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

use super::harness::{Client, Ports, on_loop};
use crate::resp::RespSettings;

/// Commands over few keys, so that they meet.
fn command() -> impl Strategy<Value = String> {
    let key = || prop::sample::select(vec!["a", "b", "c"]);
    prop_oneof![
        (key(), 0..9_u8).prop_map(|(key, value)| format!("SET {key} {value}")),
        key().prop_map(|key| format!("GET {key}")),
        key().prop_map(|key| format!("INCR {key}")),
        key().prop_map(|key| format!("APPEND {key} 1")),
        key().prop_map(|key| format!("DEL {key}")),
        key().prop_map(|key| format!("GETDEL {key}")),
        key().prop_map(|key| format!("STRLEN {key}")),
        (key(), key()).prop_map(|(a, b)| format!("MGET {a} {b}")),
        (key(), key()).prop_map(|(a, b)| format!("MSET {a} 1 {b} 2")),
        (key(), key()).prop_map(|(a, b)| format!("MSETNX {a} 3 {b} 4")),
        (key(), key()).prop_map(|(a, b)| format!("RENAME {a} {b}")),
        (key(), key()).prop_map(|(a, b)| format!("EXISTS {a} {b}")),
        (key(), key()).prop_map(|(a, b)| format!("DEL {a} {b}")),
        key().prop_map(|key| format!("SET {key} 7 NX GET")),
        Just("MULTI".to_owned()),
        Just("EXEC".to_owned()),
        Just("SELECT 1".to_owned()),
        Just("SELECT 0".to_owned()),
        Just("PING".to_owned()),
        Just("DBSIZE".to_owned()),
    ]
}

async fn one_by_one(ports: &Ports, commands: &[&str]) -> Vec<String> {
    let mut client = Client::connect(ports.plain).await;
    let mut replies = Vec::new();
    for command in commands {
        replies.append(&mut client.ask(&[command]).await);
    }
    replies
}

async fn at_once(ports: &Ports, commands: &[&str]) -> Vec<String> {
    Client::connect(ports.plain).await.ask(commands).await
}

#[test]
fn a_pipeline_equals_its_commands_one_by_one() {
    let mut runner = TestRunner::new(Config { cases: 150, ..Config::default() });
    let commands = prop::collection::vec(command(), 1..40);
    let small = prop_oneof![Just(1_000_usize), 1..5_usize];
    runner
        .run(&(commands, small), |(commands, pipeline_max)| {
            let settings = RespSettings { pipeline_max, ..RespSettings::default() };
            let commands: Vec<&str> = commands.iter().map(String::as_str).collect();
            let fake = || Ports::of_fake_anew(settings.clone());
            let expected = on_loop(async { one_by_one(&fake().await, &commands).await });
            let answered = on_loop(async { at_once(&fake().await, &commands).await });
            prop_assert_eq!(&answered, &expected, "over a fake node");
            let real = || Ports::of_node(settings.clone());
            let answered = on_loop(async { at_once(&real().await, &commands).await });
            prop_assert_eq!(&answered, &expected, "over a real node");
            Ok(())
        })
        .unwrap();
}

#[test]
fn a_scan_meets_every_key_whatever_its_pages() {
    for count in ["1", "7", "100", "5000"] {
        on_loop(async {
            let ports = Ports::of_node(RespSettings::default()).await;
            let mut client = Client::connect(ports.plain).await;
            for begin in (0..2_000).step_by(100) {
                let pairs: Vec<_> = (begin..begin + 100).map(|n| format!("key:{n} {n}")).collect();
                assert_eq!(client.ask(&[&format!("MSET {}", pairs.join(" "))]).await, ["+OK"]);
            }
            // Deleted keys are passed over, and do not end a page for good.
            for begin in (0..1_000).step_by(100) {
                let keys: Vec<_> = (begin..begin + 100).map(|n| format!("key:{n}")).collect();
                assert_eq!(client.ask(&[&format!("DEL {}", keys.join(" "))]).await, [":100"]);
            }
            let (mut cursor, mut keys) = ("0".to_owned(), Vec::new());
            loop {
                let page = client.ask(&[&format!("SCAN {cursor} COUNT {count}")]).await.concat();
                let (next, rest) = page.trim_start_matches("[\"").split_once('"').unwrap();
                keys.extend(
                    rest.split('"').filter(|key| key.starts_with("key:")).map(str::to_owned),
                );
                next.clone_into(&mut cursor);
                if next == "0" {
                    break;
                }
            }
            keys.sort_by_key(|key| key[4..].parse::<u32>().unwrap());
            let expected: Vec<String> = (1_000..2_000).map(|n| format!("key:{n}")).collect();
            assert!(keys == expected, "COUNT {count}: {} keys", keys.len());
            assert_eq!(client.ask(&["DBSIZE"]).await, [":1000"]);
            assert!(client.ask(&["RANDOMKEY"]).await[0].starts_with("\"key:1"));
            assert_eq!(client.ask(&["FLUSHDB", "RANDOMKEY"]).await, ["+OK", "nil"]);
        });
    }
}
