//! A node is cut off from the others, both ways, and nobody is told: the majority goes on, the minority refuses.

use std::time::Duration;

use anyhow::{Result, ensure};

use super::Verdict;
use super::lab::{
    self, Clients, Lab, Plan, STRICT, Span, Tools, await_equal_replicas, await_equal_roots,
    failures_end, no_failures, now_ms, verify_acknowledged,
};
use super::stage::Stage;

const NODES: u16 = 3;
const WORKERS: usize = 4;
const CALM: Duration = Duration::from_secs(3);
const CUT: Duration = Duration::from_secs(8);
/// Writes to the strict namespace on each side of the cut.
const STRICT_WRITES: usize = 5;

pub(super) fn play(stage: &Stage) -> Result<Verdict> {
    let tools = match Tools::install(stage)? {
        Ok(tools) => tools,
        Err(missing) => return Ok(Verdict::NotBuilt(missing)),
    };
    lab::play(stage, Plan { nodes: NODES, proxied: false }, |lab| part(lab, &tools))
}

fn part(lab: &Lab<'_>, tools: &Tools) -> Result<Verdict> {
    let mut clients = Clients::start(tools, lab, WORKERS)?;
    let begun = now_ms();
    clients.work(CALM)?;
    let mut spans = vec![("undisturbed".to_owned(), begun, now_ms(), false)];
    for minority in [3, 1] {
        let majority: Vec<u16> = lab.all().filter(|node| *node != minority).collect();
        let cut = now_ms();
        lab.cut(&[minority], &majority)?;
        clients.work(CUT / 2)?;
        strict(lab, minority, &majority)?;
        clients.work(CUT / 2)?;
        let healed = now_ms();
        lab.heal()?;
        lab.await_connected(&[1, 2, 3], NODES)?;
        println!("  all see each other {} ms after the cut ended", now_ms() - healed);
        clients.send_home()?;
        clients.work(CALM)?;
        spans.push((format!("node {minority} cut off"), cut, healed, true));
        spans.push((format!("node {minority} back"), healed, now_ms(), false));
    }
    let diary = clients.finish()?;
    for (what, from_ms, until_ms, disturbed) in &spans {
        let span = Span { what, from_ms: *from_ms, until_ms: *until_ms };
        if *disturbed { failures_end(&diary, span)? } else { no_failures(&diary, span)? }
    }
    verify_acknowledged(lab, &diary, &[1, 2, 3])?;
    await_equal_replicas(lab, &diary.acknowledged(), 1)?;
    await_equal_roots(lab)?;
    Ok(Verdict::Shown)
}

/// Where nobody stands in, W=2 is what a majority has and a minority has not.
fn strict(lab: &Lab<'_>, minority: u16, majority: &[u16]) -> Result<()> {
    for number in 0..STRICT_WRITES {
        for node in majority {
            let answer = lab.put(*node, &format!("/v1/kv/{STRICT}/m{node}-{number}?w=2"), "x")?;
            ensure!(answer.status == 204, "node {node} of the majority answers {}", answer.status);
        }
        let answer = lab.put(minority, &format!("/v1/kv/{STRICT}/n{number}?w=2"), "x")?;
        ensure!(answer.status == 503, "the minority answers {}", answer.status);
        if number == 0 {
            let problem = answer.json()?;
            println!("  strict namespace, node {minority}: {}", problem["detail"]);
            ensure!(problem["needed"] == 2 && problem["got"] == 1, "2 needed, 1 got: {problem}");
        }
    }
    println!(
        "  strict namespace: nodes {majority:?} take writes at W=2, node {minority} refuses them"
    );
    Ok(())
}
