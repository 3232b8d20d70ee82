//! Nodes are killed with -9 and frozen while redis-py and ioredis work at W=2.

use std::time::Duration;

use anyhow::Result;

use super::Verdict;
use super::lab::{
    self, Clients, Lab, Plan, Span, Tools, await_equal_replicas, await_equal_roots, failures_end,
    no_failures, now_ms, verify_acknowledged,
};
use super::stage::Stage;

const NODES: u16 = 3;
/// Clients of each library.
const WORKERS: usize = 4;
const CALM: Duration = Duration::from_secs(4);
/// How long a node is away: well beyond when failures must have ended.
const AWAY: Duration = Duration::from_secs(6);

pub(super) fn play(stage: &Stage) -> Result<Verdict> {
    let tools = match Tools::install(stage)? {
        Ok(tools) => tools,
        Err(missing) => return Ok(Verdict::NotBuilt(missing)),
    };
    lab::play(stage, Plan { nodes: NODES, proxied: false }, |lab| interrupt(lab, &tools))
}

fn interrupt(lab: &Lab<'_>, tools: &Tools) -> Result<Verdict> {
    let mut clients = Clients::start(tools, lab, WORKERS)?;
    let begun = now_ms();
    clients.work(CALM)?;

    let killed = now_ms();
    lab.kill(2)?;
    clients.work(AWAY)?;
    let back = now_ms();
    lab.restart(2)?;
    clients.send_home()?;
    clients.work(CALM)?;

    let frozen = now_ms();
    lab.pause(3)?;
    clients.work(AWAY)?;
    let thawed = now_ms();
    lab.resume(3)?;
    clients.send_home()?;
    clients.work(CALM)?;

    let ended = now_ms();
    let diary = clients.finish()?;
    let span = |what, from_ms, until_ms| Span { what, from_ms, until_ms };
    no_failures(&diary, span("undisturbed", begun, killed))?;
    failures_end(&diary, span("node 2 killed", killed, back))?;
    no_failures(&diary, span("node 2 back", back, frozen))?;
    failures_end(&diary, span("node 3 frozen", frozen, thawed))?;
    no_failures(&diary, span("node 3 back", thawed, ended))?;
    lab.await_connected(&[1, 2, 3], NODES)?;
    verify_acknowledged(lab, &diary, &[1, 2, 3])?;
    await_equal_replicas(lab, &diary.acknowledged(), 1)?;
    await_equal_roots(lab)?;
    Ok(Verdict::Shown)
}
