//! Links that carry one way only, which is what half of all network faults are: one link, then everything that a node
//! sends, then everything that it should hear.

use std::time::Duration;

use anyhow::Result;

use super::Verdict;
use super::lab::{
    self, Clients, Lab, Plan, Span, Tools, await_equal_replicas, await_equal_roots, failures_end,
    no_failures, now_ms, verify_acknowledged,
};
use super::stage::Stage;

const NODES: u16 = 3;
const WORKERS: usize = 4;
const CALM: Duration = Duration::from_secs(3);
const CUT: Duration = Duration::from_secs(8);
/// From and to, by what is said of it.
const CUTS: [(&str, &[(u16, u16)]); 3] = [
    ("node 2 hears nothing of node 1", &[(1, 2)]),
    ("nobody hears node 3", &[(3, 1), (3, 2)]),
    ("node 3 hears nobody", &[(1, 3), (2, 3)]),
];

pub(super) fn play(stage: &Stage) -> Result<Verdict> {
    let tools = match Tools::install(stage)? {
        Ok(tools) => tools,
        Err(missing) => return Ok(Verdict::NotBuilt(missing)),
    };
    lab::play(stage, Plan { nodes: NODES, proxied: false }, |lab| disturb(lab, &tools))
}

fn disturb(lab: &Lab<'_>, tools: &Tools) -> Result<Verdict> {
    let mut clients = Clients::start(tools, lab, WORKERS)?;
    clients.work(CALM)?;
    let mut spans = Vec::new();
    for (what, links) in CUTS {
        let cut = now_ms();
        for (from, to) in links {
            lab.cut_one_way(*from, *to)?;
        }
        println!("  {what}");
        clients.work(CUT)?;
        let healed = now_ms();
        lab.heal()?;
        lab.await_connected(&[1, 2, 3], NODES)?;
        println!("  all see each other {} ms after that", now_ms() - healed);
        clients.send_home()?;
        clients.work(CALM)?;
        spans.push((what, cut, healed, now_ms()));
    }
    let diary = clients.finish()?;
    for (what, cut, healed, after) in spans {
        failures_end(&diary, Span { what, from_ms: cut, until_ms: healed })?;
        no_failures(&diary, Span { what: "whole again", from_ms: healed, until_ms: after })?;
    }
    verify_acknowledged(lab, &diary, &[1, 2, 3])?;
    await_equal_replicas(lab, &diary.acknowledged(), 1)?;
    await_equal_roots(lab)?;
    Ok(Verdict::Shown)
}
