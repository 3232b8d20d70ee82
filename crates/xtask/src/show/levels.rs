//! What the levels ask for while a node is down, and how a refusal is worded.

use anyhow::{Context, Result, ensure};

use super::Verdict;
use super::cluster::{Cluster, NODES};
use super::http;
use super::redis::Reply;
use super::stage::Stage;

const DOWN: u16 = 3;

pub(super) fn play(stage: &Stage) -> Result<Verdict> {
    let cluster = Cluster::start(stage)?;
    let status = http::get(cluster.http_port(DOWN), "/v1/status")?.json()?;
    let missing = status["node"].as_str().context("a node's status has no node id")?.to_owned();
    cluster.call(1, &["SET", "level", "before"])?;
    cluster.kill(&[DOWN])?;
    cluster.await_connected(&[1, 2], u64::from(NODES) - 1)?;
    for (level, works) in [("ALL", false), ("THREE", false), ("QUORUM", true), ("ONE", true)] {
        for node in [1, 2] {
            over_redis(&cluster, node, level, works, &missing)?;
            over_http(&cluster, node, level, works, &missing)?;
        }
    }
    exit_code(&cluster)?;
    cluster.restart(&[DOWN])?;
    cluster.await_connected(&[1, 2, 3], u64::from(NODES))?;
    over_redis(&cluster, 1, "ALL", true, &missing)?;
    println!("  with node {DOWN} back, ALL works again");
    Ok(Verdict::Shown)
}

fn over_redis(
    cluster: &Cluster<'_>,
    node: u16,
    level: &str,
    works: bool,
    missing: &str,
) -> Result<()> {
    let mut connection = cluster.redis(node)?;
    connection.call(&["MOIM.LEVEL", "READ", level, "WRITE", level])?;
    for words in [&["SET", "level", level][..], &["GET", "level"]] {
        let reply = connection.call(words)?;
        if node == 1 {
            println!("  {} at {level}  ->  {reply}", words.join(" "));
        }
        match &reply {
            Reply::Error(text) if !works => {
                let parts = ["UNAVAILABLE ", level, " 3 ", " 2", missing];
                let lacks = parts.iter().find(|part| !text.contains(**part));
                ensure!(lacks.is_none(), "'{}' is not in: {text}", lacks.unwrap_or(&""));
            }
            other => {
                ensure!(
                    works && other.error().is_none(),
                    "{words:?} at {level} on {node}: {other}"
                );
            }
        }
    }
    Ok(())
}

fn over_http(
    cluster: &Cluster<'_>,
    node: u16,
    level: &str,
    works: bool,
    missing: &str,
) -> Result<()> {
    let port = cluster.http_port(node);
    let put = http::put(port, &format!("/v1/kv/0/level?w={level}"), &[], level)?;
    let get = http::get(port, &format!("/v1/kv/0/level?r={level}"))?;
    if works {
        let statuses = (put.status, get.status);
        ensure!(statuses == (204, 200), "PUT and GET at {level} over HTTP: {statuses:?}");
        return Ok(());
    }
    for (verb, answer) in [("PUT", put), ("GET", get)] {
        let problem = answer.json()?;
        if node == 1 {
            println!("  {verb} at {level}  ->  {} {problem}", answer.status);
        }
        ensure!(answer.status == 503, "{verb} at {level} over HTTP: {}", answer.status);
        ensure!(answer.header("retry-after").is_some(), "no Retry-After");
        ensure!(problem["level"] == level, "the level is not named: {problem}");
        ensure!(problem["needed"] == 3 && problem["got"] == 2, "needed 3, got 2: {problem}");
        ensure!(problem["missing"][0]["node"] == missing, "{missing} is not named: {problem}");
    }
    Ok(())
}

fn exit_code(cluster: &Cluster<'_>) -> Result<()> {
    let address = format!("127.0.0.1:{}", cluster.http_port(1));
    let finished = cluster.moim(&["put", "level", "value", "--w", "ALL", "--addr", &address])?;
    println!(
        "  moim put --w ALL  ->  exit code {:?}: {}",
        finished.status.code(),
        finished.stderr.trim()
    );
    ensure!(finished.status.code() == Some(5), "exit code 5 was expected: {}", finished.stderr);
    Ok(())
}
