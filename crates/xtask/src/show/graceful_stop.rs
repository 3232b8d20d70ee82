//! One node after the other is stopped with SIGTERM and started again, as an upgrade does, while redis-py and ioredis
//! work at W=2: SET and GET, and commands that must be done once: INCR, SET NX, APPEND, puts with a context.

use std::time::Duration;

use anyhow::{Result, ensure};

use super::Verdict;
use super::lab::{
    self, Clients, Kind, Lab, Plan, Span, Tools, await_equal_replicas, await_equal_roots,
    no_failures, now_ms, verify_acknowledged,
};
use super::stage::Stage;

const NODES: u16 = 3;
const WORKERS: usize = 4;
const CALM: Duration = Duration::from_secs(2);
const AWAY: Duration = Duration::from_secs(3);
/// A stop that waits for nobody in particular takes less.
const STOP_MAX: Duration = Duration::from_secs(5);

pub(super) fn play(stage: &Stage) -> Result<Verdict> {
    let tools = match Tools::install(stage)? {
        Ok(tools) => tools,
        Err(missing) => return Ok(Verdict::NotBuilt(missing)),
    };
    lab::play(stage, Plan { nodes: NODES, proxied: false }, |lab| upgrade(lab, &tools))
}

fn upgrade(lab: &Lab<'_>, tools: &Tools) -> Result<Verdict> {
    let mut clients = Clients::start_updating(tools, lab, WORKERS)?;
    clients.work(CALM)?;
    let mut spans = Vec::new();
    for node in lab.all() {
        let from_ms = now_ms();
        let took = lab.stop(node)?;
        println!("  node {node} ended {} ms after SIGTERM, exit code 0", took.as_millis());
        ensure!(took <= STOP_MAX, "node {node} took {:.1} s to stop", took.as_secs_f64());
        clients.work(AWAY)?;
        lab.restart(node)?;
        clients.send_home()?;
        clients.work(CALM)?;
        spans.push((format!("node {node} stopped and started"), from_ms, now_ms()));
    }
    let diary = clients.finish()?;
    for (what, from_ms, until_ms) in &spans {
        no_failures(&diary, Span { what, from_ms: *from_ms, until_ms: *until_ms })?;
    }
    let moved = diary.count(Kind::Moved, 0, u64::MAX);
    ensure!(moved > 0, "no client was at a node that stopped: nothing was shown");
    let updates = diary.count(Kind::Did, 0, u64::MAX);
    ensure!(updates > 0, "no command that reads and writes was done: nothing was shown");
    println!("  all {updates} commands that read and write were done, and each once");
    lab.await_connected(&[1, 2, 3], NODES)?;
    verify_acknowledged(lab, &diary, &[1, 2, 3])?;
    await_equal_replicas(lab, &diary.acknowledged(), 1)?;
    await_equal_roots(lab)?;
    Ok(Verdict::Shown)
}
