//! A node loses its disk and keeps its identity: it says *not ready* rather than *not found* and is filled by the others
//! while they serve. Then it loses everything, and is a stranger.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};

use super::Verdict;
use super::lab::{
    self, Clients, Lab, Plan, Span, Tools, await_equal_replicas, await_equal_roots, no_failures,
    now_ms, verify_acknowledged,
};
use super::redis::Reply;
use super::stage::Stage;

const NODES: u16 = 3;
const WORKERS: usize = 4;
const BEFORE: Duration = Duration::from_secs(6);
const AFTER: Duration = Duration::from_secs(3);
const WIPED: u16 = 2;
/// Keys that are asked for again and again on the node alone, while it is being filled.
const ASKED: usize = 50;
/// How long filling may take here.
const FILL: Duration = Duration::from_secs(40);
/// How long a stranger is looked at.
const STRANGER: Duration = Duration::from_secs(3);

pub(super) fn play(stage: &Stage) -> Result<Verdict> {
    let tools = match Tools::install(stage)? {
        Ok(tools) => tools,
        Err(missing) => return Ok(Verdict::NotBuilt(missing)),
    };
    lab::play(stage, Plan { nodes: NODES, proxied: false }, |lab| wipe(lab, &tools))
}

fn wipe(lab: &Lab<'_>, tools: &Tools) -> Result<Verdict> {
    let mut clients = Clients::start(tools, lab, WORKERS)?;
    clients.work(BEFORE)?;
    lab.kill(WIPED)?;
    lab.wipe_engine(WIPED)?;
    let written = clients.diary()?;
    let keys = written.acknowledged();
    let keys: Vec<&str> = keys.iter().copied().step_by((keys.len() / ASKED).max(1)).collect();
    clients.work(AFTER)?;

    let began = now_ms();
    lab.start_node(WIPED)?;
    let filling = watch(lab, &keys)?;
    clients.work(AFTER)?;
    let filled = now_ms();

    lab.kill(WIPED)?;
    lab.wipe(WIPED)?;
    let stranger = look_at_stranger(lab, &keys)?;
    clients.work(AFTER)?;
    let diary = clients.finish()?;
    let span = Span { what: "a wiped node is filled", from_ms: began, until_ms: filled };
    no_failures(&diary, span)?;
    println!("  {stranger}");
    verify_acknowledged(lab, &diary, &[1, 3])?;
    let Filling { found_nothing, not_ready, took } = filling;
    println!(
        "  while it was filled ({:.1} s): {not_ready} answers 'not ready', {found_nothing} times 'not found'",
        took.as_secs_f64()
    );
    if found_nothing > 0 {
        return Ok(Verdict::NotBuilt(format!(
            "the filling of a node that lost its data: {found_nothing} reads at R=1 found nothing"
        )));
    }
    ensure!(not_ready > 0, "the node was never seen being filled: nothing was shown");
    Ok(Verdict::Shown)
}

struct Filling {
    found_nothing: usize,
    not_ready: usize,
    took: Duration,
}

/// Asks a node alone for keys that exist, until it has all of them.
fn watch(lab: &Lab<'_>, keys: &[&str]) -> Result<Filling> {
    let began = Instant::now();
    let mut filling = Filling { found_nothing: 0, not_ready: 0, took: Duration::ZERO };
    let mut said = String::new();
    loop {
        let mut found = 0;
        for key in keys {
            // R=1 through the node itself: it answers from what it has.
            let Ok(Reply::Array(parts)) = lab.call(WIPED, &["MOIM.GET", key, "R", "ONE"]) else {
                filling.not_ready += 1;
                break;
            };
            if parts.len() > 1 { found += 1 } else { filling.found_nothing += 1 }
        }
        if let Ok(answer) = lab.get(WIPED, "/readyz")
            && answer.status != 200
        {
            let words = answer.json().map(|problem| problem["detail"].to_string());
            let words = words.unwrap_or_default();
            if said != words {
                println!("  /readyz of node {WIPED}: {} {words}", answer.status);
                said = words;
            }
        }
        filling.took = began.elapsed();
        if found == keys.len() {
            await_equal_replicas(lab, keys, 1)?;
            drop(await_equal_roots(lab)?);
            return Ok(filling);
        }
        if filling.took > FILL || filling.found_nothing > ASKED * 100 {
            return Ok(filling);
        }
    }
}

/// With its identity gone, the node is nobody that the others know.
fn look_at_stranger(lab: &Lab<'_>, keys: &[&str]) -> Result<String> {
    lab.start_node(WIPED)?;
    let began = Instant::now();
    let mut words = String::from("a node without its identity does not answer");
    while began.elapsed() < STRANGER {
        if let Some(how) = lab.ended(WIPED)? {
            return Ok(format!("a node without its identity ended: {how}"));
        }
        for key in keys.iter().take(3) {
            match lab.call(WIPED, &["GET", key]) {
                Ok(Reply::Nil) => {
                    anyhow::bail!("a node that nobody knows says that {key} does not exist")
                }
                Ok(reply) => words = format!("a node without its identity answers {reply}"),
                Err(_not_yet) => {}
            }
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    Ok(words)
}
