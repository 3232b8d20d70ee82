//! Two clients write one key on nodes that are cut off from each other. `carts` keeps both; namespace 0 keeps the last,
//! everywhere the same.

use std::time::Duration;

use anyhow::{Result, bail, ensure};

use super::Verdict;
use super::cluster::{Cluster, NODES, await_true};
use super::http;
use super::redis::Reply;
use super::stage::Stage;

const AGREEMENT: Duration = Duration::from_secs(30);
const CART: &str = "cart:7";
const CART_PATH: &str = "/v1/kv/carts/cart:7";
/// The values in base64, as they come over HTTP.
const APPLES: &str = "YXBwbGVz";
const PEARS: &str = "cGVhcnM=";

pub(super) fn play(stage: &Stage) -> Result<Verdict> {
    let cluster = Cluster::start(stage)?;
    cluster.cut(1)?;
    cluster.await_connected(&[1], 1)?;
    cluster.await_connected(&[2, 3], u64::from(NODES) - 1)?;
    write_apart(&cluster)?;
    cluster.heal()?;
    cluster.await_connected(&[1, 2, 3], u64::from(NODES))?;
    both_come_back(&cluster)?;
    resolve(&cluster)?;
    resolve_over_http(&cluster)?;
    last_writer_wins(&cluster)?;
    Ok(Verdict::Shown)
}

fn write_apart(cluster: &Cluster<'_>) -> Result<()> {
    for (node, fruit, colour) in [(1, "apples", "red"), (2, "pears", "green")] {
        let context = put(cluster, node, &[CART, fruit, "W", "ONE"])?;
        println!("  node {node}: MOIM.PUT {CART} {fruit} W ONE  ->  {context}");
        let mut connection = cluster.redis(node)?;
        connection.call(&["MOIM.LEVEL", "WRITE", "ONE"])?;
        let reply = connection.call(&["SET", "colour", colour])?;
        ensure!(reply == Reply::Status("OK".to_owned()), "SET colour {colour}: {reply}");
        println!("  node {node}: SET colour {colour} in namespace 0 at ONE  ->  {reply}");
    }
    Ok(())
}

fn both_come_back(cluster: &Cluster<'_>) -> Result<()> {
    let cart = get(cluster, 3, &["R", "ALL"])?;
    println!("  node 3: MOIM.GET {CART} R ALL  ->  {:?}, context {}", cart.values, cart.context);
    for node in 1..=NODES {
        // At the default level once the copies have met.
        await_true(AGREEMENT, &format!("node {node} does not have both"), || {
            Ok(get(cluster, node, &[])?.values == ["apples", "pears"])
        })?;
        let context = get(cluster, node, &[])?.context;
        ensure!(context == cart.context, "node {node} has another context: {context}");
    }
    println!("  every node gives both, with that one context");
    let answer = http::get(cluster.http_port(2), CART_PATH)?;
    let siblings = answer.json()?;
    println!("  GET {CART_PATH}  ->  {} {siblings}", answer.status);
    ensure!(answer.status == 300, "status 300 was expected, not {}", answer.status);
    let mut values = [0, 1].map(|at| siblings["siblings"][at]["value"].as_str().unwrap_or(""));
    values.sort_unstable();
    ensure!(values == [APPLES, PEARS], "both values were expected: {siblings}");
    let contexts = (siblings["context"].as_str(), answer.header("x-moim-context"));
    let expected = Some(cart.context.as_str());
    ensure!(contexts == (expected, expected), "other contexts over HTTP: {contexts:?}");
    plain_get(cluster)
}

fn plain_get(cluster: &Cluster<'_>) -> Result<()> {
    let mut connection = cluster.redis(1)?;
    connection.call(&["SELECT", "carts"])?;
    let reply = connection.call(&["GET", CART])?;
    println!("  GET {CART}  ->  {reply}");
    ensure!(reply.error().is_some_and(|text| text.starts_with("CONFLICT 2")), "GET: {reply}");
    Ok(())
}

fn resolve(cluster: &Cluster<'_>) -> Result<()> {
    let context = get(cluster, 3, &[])?.context;
    put(cluster, 3, &[CART, "both", "CONTEXT", &context])?;
    expect_everywhere(cluster, &["both"])?;
    println!("  MOIM.PUT {CART} both CONTEXT …  ->  one is left, on every node");
    put(cluster, 2, &[CART, "more"])?;
    expect_everywhere(cluster, &["both", "more"])?;
    println!("  MOIM.PUT {CART} more  ->  without a context one is added, on every node");
    Ok(())
}

fn resolve_over_http(cluster: &Cluster<'_>) -> Result<()> {
    let port = cluster.http_port(1);
    let read = http::get(port, CART_PATH)?;
    let Some(context) = read.header("x-moim-context") else { bail!("no X-Moim-Context") };
    let written = http::put(port, CART_PATH, &[("X-Moim-Context", context)], "all")?;
    ensure!(written.status == 204, "PUT with a context: {}", written.status);
    expect_everywhere(cluster, &["all"])?;
    println!("  PUT {CART_PATH} with X-Moim-Context  ->  one is left, on every node");
    Ok(())
}

fn expect_everywhere(cluster: &Cluster<'_>, values: &[&str]) -> Result<()> {
    for node in 1..=NODES {
        let cart = get(cluster, node, &[])?;
        ensure!(cart.values == values, "node {node} has {:?}, not {values:?}", cart.values);
    }
    Ok(())
}

fn last_writer_wins(cluster: &Cluster<'_>) -> Result<()> {
    let mut held = Vec::new();
    await_true(AGREEMENT, "replicas of 'colour' differ", || {
        held.clear();
        for node in 1..=NODES {
            let mut connection = cluster.redis(node)?;
            connection.call(&["MOIM.LEVEL", "READ", "ONE"])?;
            held.push(connection.call(&["GET", "colour"])?.to_string());
        }
        Ok(held.iter().all(|colour| *colour == held[0]))
    })?;
    println!("  namespace 0: GET colour at ONE on every node  ->  {}", held.join(" "));
    ensure!(["\"red\"", "\"green\""].contains(&held[0].as_str()), "neither was kept: {}", held[0]);
    Ok(())
}

/// What a `MOIM.GET` says.
struct Cart {
    context: String,
    /// Sorted.
    values: Vec<String>,
}

fn get(cluster: &Cluster<'_>, node: u16, options: &[&str]) -> Result<Cart> {
    let reply = in_carts(cluster, node, &[&["MOIM.GET", CART], options].concat())?;
    let Reply::Array(items) = &reply else { bail!("MOIM.GET gave {reply}") };
    let Some((Some(context), siblings)) =
        items.split_first().map(|(context, rest)| (text(context), rest))
    else {
        bail!("MOIM.GET gave no context: {reply}")
    };
    let value = |sibling: &Reply| match sibling {
        Reply::Array(fields) => fields.first().and_then(text),
        _ => None,
    };
    let Some(mut values) = siblings.iter().map(value).collect::<Option<Vec<_>>>() else {
        bail!("MOIM.GET gave a sibling without a value: {reply}")
    };
    values.sort_unstable();
    Ok(Cart { context, values })
}

/// Returns the new context.
fn put(cluster: &Cluster<'_>, node: u16, words: &[&str]) -> Result<String> {
    let reply = in_carts(cluster, node, &[&["MOIM.PUT"], words].concat())?;
    match text(&reply) {
        Some(context) => Ok(context),
        None => bail!("MOIM.PUT {} gave no context: {reply}", words.join(" ")),
    }
}

fn in_carts(cluster: &Cluster<'_>, node: u16, words: &[&str]) -> Result<Reply> {
    let mut connection = cluster.redis(node)?;
    let selected = connection.call(&["SELECT", "carts"])?;
    ensure!(selected.error().is_none(), "SELECT carts: {selected}");
    let reply = connection.call(words)?;
    match reply.error() {
        Some(error) => bail!("{} on node {node}: {error}", words.join(" ")),
        None => Ok(reply),
    }
}

fn text(reply: &Reply) -> Option<String> {
    Some(String::from_utf8_lossy(reply.bytes()?).into_owned())
}
