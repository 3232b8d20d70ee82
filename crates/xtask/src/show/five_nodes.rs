//! Five nodes, N=3: two at once are killed, cut off and frozen; then all owners of a key are down.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use super::Verdict;
use super::cluster::await_true;
use super::lab::{
    self, Clients, Event, Lab, Plan, STRICT, Span, Tools, await_equal_replicas, await_equal_roots,
    failures_end_unless_strict, no_failures, now_ms, verify_acknowledged,
};
use super::stage::Stage;

const NODES: u16 = 5;
const WORKERS: usize = 3;
const CALM: Duration = Duration::from_secs(3);
const AWAY: Duration = Duration::from_secs(7);
const ALL: [u16; 5] = [1, 2, 3, 4, 5];
const MINORITY: [u16; 2] = [1, 2];
/// Until hints are delivered.
const DELIVERY: Duration = Duration::from_secs(30);

pub(super) fn play(stage: &Stage) -> Result<Verdict> {
    let tools = match Tools::install(stage)? {
        Ok(tools) => tools,
        Err(missing) => return Ok(Verdict::NotBuilt(missing)),
    };
    lab::play(stage, Plan { nodes: NODES, proxied: false }, |lab| disturb(lab, &tools))
}

fn disturb(lab: &Lab<'_>, tools: &Tools) -> Result<Verdict> {
    let mut clients = Clients::start(tools, lab, WORKERS)?;
    clients.add_strict(tools, lab, 1)?;
    clients.work(CALM)?;
    let mut spans: Vec<(_, _, &[u16])> = Vec::new();

    let began = now_ms();
    lab.kill(4)?;
    lab.kill(5)?;
    clients.work(AWAY)?;
    let back = now_ms();
    lab.restart(4)?;
    lab.restart(5)?;
    let healed = await_healed(lab, &mut clients)?;
    spans.push(("nodes 4 and 5 killed", [began, back, healed, now_ms()], &[]));

    let began = now_ms();
    lab.cut(&MINORITY, &[3, 4, 5])?;
    clients.work(AWAY)?;
    let back = now_ms();
    lab.heal()?;
    let healed = await_healed(lab, &mut clients)?;
    spans.push(("nodes 1 and 2 cut off", [began, back, healed, now_ms()], &MINORITY));

    let began = now_ms();
    // Not two in a row: clients go through their list, and wait a second at each frozen node before they find it so.
    lab.pause(2)?;
    lab.pause(4)?;
    clients.work(AWAY)?;
    let back = now_ms();
    lab.resume(2)?;
    lab.resume(4)?;
    let healed = await_healed(lab, &mut clients)?;
    spans.push(("nodes 2 and 4 frozen", [began, back, healed, now_ms()], &[]));

    let diary = clients.finish()?;
    for (what, [began, back, healed, after], cut_off) in spans {
        let span = Span { what, from_ms: began, until_ms: back };
        failures_end_unless_strict(&diary, span, |event| is_beyond_reach(lab, event, cut_off))?;
        let what = "all back, and what was kept for them under way";
        let span = Span { what, from_ms: back, until_ms: healed };
        failures_end_unless_strict(&diary, span, |_| Ok(false))?;
        no_failures(&diary, Span { what: "healed", from_ms: healed, until_ms: after })?;
    }
    let strict = diary.strictly_read();
    ensure!(strict > 0, "nothing was read where nobody stands in");
    println!("  {strict} reads in a strict namespace found what was acknowledged, all the time");
    verify_acknowledged(lab, &diary, &ALL)?;
    await_equal_replicas(lab, &diary.acknowledged(), 1)?;
    await_equal_roots(lab)?;
    all_owners_down(lab)?;
    Ok(Verdict::Shown)
}

/// Whether a read was refused because it must be: it asked a node of those cut off for a key whose owners are all on the
/// other side. Few keys are such, so that clients may meet the first of them late.
fn is_beyond_reach(lab: &Lab<'_>, event: &Event, cut_off: &[u16]) -> Result<bool> {
    let asked = |node: &&u16| event.what.starts_with(&format!("node {node}: "));
    if cut_off.iter().find(asked).is_none() || !event.what.contains("UNAVAILABLE read") {
        return Ok(false);
    }
    Ok(owners(lab, &event.key)?.iter().all(|owner| !cut_off.contains(owner)))
}

/// Waits until all nodes see each other and what was kept for some is handed over, and lets clients work for a while then.
/// Returns when that was.
fn await_healed(lab: &Lab<'_>, clients: &mut Clients) -> Result<u64> {
    lab.await_connected(&ALL, NODES)?;
    clients.send_home()?;
    await_no_hints(lab)?;
    let healed = now_ms();
    clients.work(CALM)?;
    Ok(healed)
}

fn await_no_hints(lab: &Lab<'_>) -> Result<()> {
    await_true(DELIVERY, "hints are left", || {
        for node in lab.all() {
            if hints(lab, node)? != 0.0 {
                return Ok(false);
            }
        }
        Ok(true)
    })
}

/// A write at W=1 of a key whose owners are all down is taken by a stand-in, and delivered later.
fn all_owners_down(lab: &Lab<'_>) -> Result<()> {
    const KEY: &str = "homeless";
    let owners = owners(lab, KEY)?;
    let others: Vec<u16> = lab.all().filter(|node| !owners.contains(node)).collect();
    for owner in &owners {
        lab.kill(*owner)?;
    }
    let through = *others.first().context("five nodes have three owners a key")?;
    let mut last = 0;
    await_true(Duration::from_secs(5), "the write is not taken", || {
        last = lab.put(through, &format!("/v1/kv/0/{KEY}?w=1"), "taken")?.status;
        Ok(last == 204)
    })?;
    println!("  all owners {owners:?} of a key are down: node {through} takes a write at W=1");
    let refused = lab.put(through, &format!("/v1/kv/{STRICT}/{KEY}?w=1"), "refused")?;
    ensure!(refused.status == 503, "the strict namespace answers {}", refused.status);
    for owner in &owners {
        lab.restart(*owner)?;
    }
    lab.await_connected(&ALL, NODES)?;
    await_true(DELIVERY, "the write is not delivered", || {
        let shown = lab.get(through, &format!("/v1/ring/key/0/{KEY}"))?.json()?;
        let replicas = shown["replicas"].as_array().map_or(&[][..], Vec::as_slice);
        Ok(replicas.len() == 3 && replicas.iter().all(|replica| replica["state"] == "held"))
    })?;
    await_no_hints(lab)?;
    println!("  it is delivered to all of them, and no node keeps a hint");
    Ok(())
}

fn owners(lab: &Lab<'_>, key: &str) -> Result<Vec<u16>> {
    let shown = lab.get(1, &format!("/v1/ring/key/0/{key}"))?.json()?;
    let members = lab.members(1)?;
    let replicas = shown["replicas"].as_array().context("no replicas")?;
    replicas.iter().map(|replica| number(&members, &replica["node"])).collect()
}

/// The number here of a node, by its address.
fn number(members: &[Value], id: &Value) -> Result<u16> {
    let member = members.iter().find(|member| member["node"] == *id).context("an unknown node")?;
    let address = member["addresses"]["redis"].as_str().context("no address")?;
    let host = address.rsplit_once(':').map_or(address, |(host, _)| host);
    let last = host.rsplit_once('.').and_then(|(_, last)| last.parse().ok());
    last.with_context(|| format!("whose address is {address}?"))
}

/// Hints that a node keeps.
fn hints(lab: &Lab<'_>, node: u16) -> Result<f64> {
    let metrics = lab.get(node, "/metrics")?.body;
    let metrics = String::from_utf8_lossy(&metrics);
    let line = metrics.lines().find_map(|line| line.strip_prefix("moim_hints "));
    line.and_then(|figure| figure.trim().parse().ok()).context("no metric moim_hints")
}
