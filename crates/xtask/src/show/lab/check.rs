//! What must be true when everything works again.

use std::net::SocketAddr;
use std::thread;
use std::time::Duration;

use anyhow::{Result, bail, ensure};
use serde_json::Value;

use super::super::cluster::await_true;
use super::super::redis::{self, Connection, Reply};
use super::{Diary, Lab};

/// What clients write, in bytes; see `client.py`.
const VALUE_BYTES: usize = 2_048;
/// Commands sent before the first reply is read.
const PIPELINE: usize = 32;
/// Keys that are looked at on every replica.
const SAMPLE: usize = 300;
/// Until replicas are equal again.
const CONVERGE: Duration = Duration::from_mins(1);

/// The value that clients write under a key.
pub(super) fn value(key: &str) -> Vec<u8> {
    let mut value = format!("{key};").into_bytes().repeat(VALUE_BYTES / key.len().max(1));
    value.truncate(VALUE_BYTES);
    value
}

/// Reads every acknowledged write through each of these nodes at R=2.
pub(in super::super) fn verify_acknowledged(
    lab: &Lab<'_>,
    diary: &Diary,
    through: &[u16],
) -> Result<()> {
    let keys = diary.acknowledged();
    let missing = thread::scope(|scope| {
        let reading: Vec<_> = through
            .iter()
            .map(|node| (lab.redis(*node), &keys))
            .map(|(place, keys)| scope.spawn(move || missing(place, keys)))
            .collect();
        let reading =
            reading.into_iter().map(|reader| reader.join().expect("readers do not panic"));
        reading.collect::<Result<Vec<_>>>()
    })?;
    let missing: Vec<String> = missing.into_iter().flatten().collect();
    if let Some(first) = missing.first() {
        bail!("{} reads do not find what was acknowledged: {first}", missing.len());
    }
    println!(
        "  all {} acknowledged writes are there, at R=2 through nodes {through:?}",
        keys.len()
    );
    Ok(())
}

fn missing(place: SocketAddr, keys: &[&str]) -> Result<Vec<String>> {
    let mut connection = Connection::open(place)?;
    if let Some(error) = connection.call(&["MOIM.LEVEL", "READ", "2"])?.error() {
        bail!("{error}");
    }
    let mut missing = Vec::new();
    for batch in keys.chunks(PIPELINE) {
        let requests = batch.iter().map(|key| redis::command(&["GET", key]));
        connection.send(&requests.collect::<Vec<_>>().concat())?;
        for key in batch {
            let reply = connection.receive()?;
            if reply.bytes() != Some(&value(key)[..]) {
                let found = match reply {
                    Reply::Bulk(bytes) => format!("another value of {} bytes", bytes.len()),
                    other => other.to_string(),
                };
                missing.push(format!("{key} through {place}: {found}"));
            }
        }
    }
    Ok(missing)
}

/// Waits until every owner of a sample of keys holds the same, and says how long that took.
pub(in super::super) fn await_equal_replicas(
    lab: &Lab<'_>,
    keys: &[&str],
    asked: u16,
) -> Result<()> {
    let sample: Vec<&str> = keys.iter().copied().step_by((keys.len() / SAMPLE).max(1)).collect();
    ensure!(!sample.is_empty(), "there is nothing to compare");
    let began = std::time::Instant::now();
    let mut differing = String::new();
    let copies = usize::from(lab.plan.nodes.min(3));
    let outcome = await_true(CONVERGE, "replicas still differ", || {
        for key in &sample {
            let shown = lab.get(asked, &format!("/v1/ring/key/0/{key}"))?.json()?;
            if !equal(&shown, copies) {
                differing = format!("{key}: {shown}");
                return Ok(false);
            }
        }
        Ok(true)
    });
    if outcome.is_err() {
        bail!("replicas still differ after {} s: {differing}", CONVERGE.as_secs());
    }
    println!(
        "  all {copies} replicas of {} sampled keys are equal ({:.1} s after that was asked first)",
        sample.len(),
        began.elapsed().as_secs_f64()
    );
    Ok(())
}

fn equal(shown: &Value, copies: usize) -> bool {
    let replicas = shown["replicas"].as_array().map_or(&[][..], Vec::as_slice);
    let held = |replica: &Value| {
        replica["state"] == "held"
            && replica["clock"] == replicas[0]["clock"]
            && replica["versions"] == replicas[0]["versions"]
    };
    replicas.len() == copies && replicas.iter().all(held)
}

/// What is not shown because nodes do not show it yet.
pub(in super::super) fn await_equal_roots(lab: &Lab<'_>) -> Result<Option<String>> {
    let status = lab.get(1, "/v1/status")?.json()?;
    if status["merkle"].is_null() {
        let missing = "Merkle roots in /v1/status";
        println!("  not built: {missing}");
        return Ok(Some(missing.to_owned()));
    }
    await_true(CONVERGE, "Merkle roots still differ", || {
        let mut roots = Vec::new();
        for node in lab.all() {
            roots.push(lab.get(node, "/v1/status")?.json()?["merkle"].clone());
        }
        Ok(roots.windows(2).all(|pair| pair[0] == pair[1]))
    })?;
    println!("  all Merkle roots are equal");
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_as_long_as_clients_make_them() {
        for key in ["redis-py:0:0", "ioredis-cluster:3:12345"] {
            assert_eq!(value(key).len(), VALUE_BYTES);
            assert!(value(key).starts_with(format!("{key};").as_bytes()));
        }
    }

    #[test]
    fn replicas_are_equal_when_all_hold_the_same() {
        let shown = |other: &str| {
            serde_json::json!({"replicas": [
                {"state": "held", "clock": {"time": "1"}, "versions": [1]},
                {"state": "held", "clock": {"time": other}, "versions": [1]},
            ]})
        };
        assert!(equal(&shown("1"), 2));
        assert!(!equal(&shown("2"), 2) && !equal(&shown("1"), 3));
    }
}
