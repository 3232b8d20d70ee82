//! What must be true when everything works again.

use std::net::SocketAddr;
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
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

/// Has every node compare its Merkle trees with those of all other owners, twice: what the first comparison finds, it
/// repairs; the second must find equal roots everywhere.
pub(in super::super) fn await_equal_roots(lab: &Lab<'_>) -> Result<()> {
    let (mut partitions, mut bytes, mut repaired) = (0, 0, 0);
    for node in lab.all() {
        repaired += repair(lab, node)?["keys"].as_u64().unwrap_or_default();
    }
    for node in lab.all() {
        let done = repair(lab, node)?;
        ensure!(done["keys"] == 0, "node {node} still differs from others: {done}");
        partitions += done["partitions"].as_u64().unwrap_or_default();
        bytes += done["bytes"].as_u64().unwrap_or_default();
    }
    println!(
        "  Merkle roots are equal: {partitions} comparisons of partitions, {bytes} bytes; keys that had still \
         differed when that was asked first: {repaired}"
    );
    Ok(())
}

/// A repair through one node, once it is done.
fn repair(lab: &Lab<'_>, node: u16) -> Result<Value> {
    let begun = lab.post(node, "/v1/repair")?;
    ensure!(begun.status == 202, "POST /v1/repair on node {node}: {}", begun.status);
    let id = newest(&begun.json()?)["id"].clone();
    let mut last = Value::Null;
    let outcome = await_true(CONVERGE, "a repair is not done", || {
        last = newest(&lab.get(node, "/v1/repair")?.json()?).clone();
        ensure!(last["id"] == id, "another repair than {id} was asked for: {last}");
        Ok(last["done"] == true)
    });
    outcome.with_context(|| format!("node {node}: {last}"))?;
    Ok(last)
}

fn newest(repairs: &Value) -> &Value {
    repairs["repairs"].as_array().and_then(|all| all.last()).unwrap_or(&Value::Null)
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
