//! All home nodes of a key are killed; others take its writes, keep them over a kill of their own, and hand them over.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

use super::Verdict;
use super::cluster::{Cluster, await_true};
use super::http;
use super::redis::{Connection, Reply};
use super::stage::Stage;

const NODES: u16 = 5;
/// One partition: all keys have the same home nodes.
const TAG: &str = "{basket}";
/// Written while no home node lives.
const KEYS: u32 = 500;
const DELIVERY: Duration = Duration::from_mins(1);

pub(super) fn play(stage: &Stage) -> Result<Verdict> {
    let cluster = Cluster::start_with(stage, NODES)?;
    cluster.call(1, &["SET", &key(0), "before"])?;
    let homes = homes(&cluster)?;
    let others: Vec<u16> = (1..=NODES).filter(|node| !homes.contains(node)).collect();
    let &[first, second] = &others[..] else { bail!("home nodes {homes:?} of {NODES}") };
    println!("  home nodes of {TAG}: {homes:?}; now all of them are killed");
    cluster.kill(&homes)?;
    cluster.await_connected(&others, others.len() as u64)?;
    refused(&cluster, first)?;
    write_all(&cluster, first)?;
    read_all(&cluster, second, "ONE")?;
    println!("  {KEYS} writes at W=1 are taken, and read at R=1 through node {second}");
    let kept = hints(&cluster, &others)?;
    println!("  hints kept by nodes {others:?}: {kept}");
    ensure!(kept >= u64::from(KEYS), "{kept} hints for {KEYS} writes");
    if Stage::keeps() {
        // One after the other: a cluster of which nothing runs is started whole.
        for &node in &others {
            cluster.kill(&[node])?;
            cluster.restart(&[node])?;
        }
        await_true(DELIVERY, "hints were lost with the kill", || {
            Ok(hints(&cluster, &others)? >= kept)
        })?;
        println!("  killed with -9 and started again, they keep as many");
    }
    cluster.restart(&homes)?;
    deliver(&cluster, &homes)?;
    Ok(Verdict::Shown)
}

/// The home nodes get everything, and nobody keeps anything for them any more.
fn deliver(cluster: &Cluster<'_>, homes: &[u16]) -> Result<()> {
    let all: Vec<u16> = (1..=NODES).collect();
    let back = Instant::now();
    await_true(DELIVERY, "hints are still kept", || Ok(hints(cluster, &all)? == 0))?;
    let seconds = back.elapsed().as_secs_f64();
    println!("  the home nodes are back; the hint store is empty after {seconds:.1} s");
    for number in 0..KEYS {
        let shown = replicas(cluster, homes[0], &key(number))?;
        let held = |replica: &&Value| replica["state"] == "held";
        let equal = shown.iter().all(|replica| replica["versions"] == shown[0]["versions"]);
        ensure!(
            shown.len() == homes.len() && shown.iter().filter(held).count() == homes.len() && equal,
            "not all home nodes hold {}: {shown:?}",
            key(number)
        );
    }
    println!("  every home node holds each of the {KEYS} keys");
    homes.iter().try_for_each(|node| read_all(cluster, *node, "ONE"))?;
    println!("  and each of them alone answers with what was written (R=1)");
    Ok(())
}

fn key(number: u32) -> String {
    format!("{TAG}:{number}")
}

/// The nodes, by their numbers, that own the keys.
fn homes(cluster: &Cluster<'_>) -> Result<Vec<u16>> {
    let owners = replicas(cluster, 1, &key(0))?;
    let mut homes = Vec::new();
    for node in 1..=NODES {
        let status = http::get(cluster.http_port(node), "/v1/status")?.json()?;
        if owners.iter().any(|replica| replica["node"] == status["node"]) {
            homes.push(node);
        }
    }
    Ok(homes)
}

fn replicas(cluster: &Cluster<'_>, node: u16, key: &str) -> Result<Vec<Value>> {
    let key = key.replace('{', "%7B").replace('}', "%7D");
    let path = format!("/v1/ring/key/0/{key}");
    let shown = http::get(cluster.http_port(node), &path)?.json()?;
    shown["replicas"].as_array().cloned().with_context(|| format!("no replicas in {shown}"))
}

/// How many hints these nodes keep.
fn hints(cluster: &Cluster<'_>, nodes: &[u16]) -> Result<u64> {
    let mut kept = 0;
    for node in nodes {
        let status = http::get(cluster.http_port(*node), "/v1/status")?.json()?;
        let hints = status["local"]["hints"].as_u64();
        kept += hints.with_context(|| format!("node {node} does not say how many hints it has"))?;
    }
    Ok(kept)
}

/// A strict namespace, and a level that nobody can stand in for, say so.
fn refused(cluster: &Cluster<'_>, node: u16) -> Result<()> {
    let path = format!("/v1/kv/carts/{}?w=1", key(0).replace('{', "%7B").replace('}', "%7D"));
    let answer = http::put(cluster.http_port(node), &path, &[], "strict")?;
    ensure!(answer.status == 503, "a strict namespace answers {}", answer.status);
    println!("  PUT to the strict namespace carts at w=1  ->  503");
    let reply = level(cluster, node, "ALL")?.call(&["SET", &key(0), "x"])?;
    println!("  SET at ALL  ->  {reply}");
    match reply {
        Reply::Error(text) if text.starts_with("UNAVAILABLE") => Ok(()),
        other => bail!("three stand-ins of two nodes: {other}"),
    }
}

fn level(cluster: &Cluster<'_>, node: u16, level: &str) -> Result<Connection> {
    let mut connection = cluster.redis(node)?;
    let reply = connection.call(&["MOIM.LEVEL", "READ", level, "WRITE", level])?;
    ensure!(reply.error().is_none(), "MOIM.LEVEL: {reply}");
    Ok(connection)
}

fn write_all(cluster: &Cluster<'_>, node: u16) -> Result<()> {
    let mut connection = level(cluster, node, "ONE")?;
    for number in 0..KEYS {
        let reply = connection.call(&["SET", &key(number), &value(number)])?;
        ensure!(reply.error().is_none(), "SET {}: {reply}", key(number));
    }
    Ok(())
}

fn read_all(cluster: &Cluster<'_>, node: u16, at: &str) -> Result<()> {
    let mut connection = level(cluster, node, at)?;
    for number in 0..KEYS {
        let reply = connection.call(&["GET", &key(number)])?;
        let expected = value(number);
        ensure!(
            reply.bytes() == Some(expected.as_bytes()),
            "node {node} has {reply} instead of {expected} for {}",
            key(number)
        );
    }
    Ok(())
}

fn value(number: u32) -> String {
    format!("kept-{number}")
}
