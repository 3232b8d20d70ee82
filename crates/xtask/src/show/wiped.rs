//! A node loses its disk and keeps its identity: it says *not ready* rather than *not found* and is filled by the others
//! while they serve. Then it loses everything, and is a stranger.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

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
/// Keys that are asked for again and again while the node is being filled.
const ASKED: usize = 50;
/// How long filling may take here.
const FILL: Duration = Duration::from_secs(75);
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
    await_equal_replicas(lab, &keys, 1)?;
    await_equal_roots(lab)?;
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
        "  until it was filled ({:.1} s), it answered for {not_ready} keys that it is not ready, for {found_nothing} \
         that there is nothing",
        took.as_secs_f64()
    );
    ensure!(found_nothing == 0, "{found_nothing} reads of keys that exist found nothing");
    ensure!(not_ready > 0, "the node was never seen being filled: nothing was shown");
    Ok(Verdict::Shown)
}

struct Filling {
    found_nothing: usize,
    not_ready: usize,
    took: Duration,
}

/// Watches a node until it holds all of these keys, which exist.
fn watch(lab: &Lab<'_>, keys: &[&str]) -> Result<Filling> {
    let began = Instant::now();
    let mut filling = Filling { found_nothing: 0, not_ready: 0, took: Duration::ZERO };
    let mut said = String::new();
    loop {
        let mut held = 0;
        for key in keys {
            match copy(lab, key)?.as_str() {
                "held" => held += 1,
                "missing" => filling.found_nothing += 1,
                "not ready" => filling.not_ready += 1,
                _unreachable => {}
            }
            // It serves clients meanwhile, from what others hold.
            if let Ok(Reply::Array(parts)) = lab.call(WIPED, &["MOIM.GET", key, "R", "ONE"]) {
                filling.found_nothing += usize::from(parts.len() < 2);
            }
        }
        let words = readiness(lab);
        // The figures in it change all the time.
        let gist = words.replace(|letter: char| letter.is_ascii_digit(), "");
        if said != gist {
            println!("  /readyz of node {WIPED}: {words}");
            said = gist;
        }
        filling.took = began.elapsed();
        if held == keys.len() {
            return Ok(filling);
        }
        ensure!(filling.took < FILL, "it is not filled; it holds {held} of {} keys", keys.len());
    }
}

/// What the node has of a key, as it tells another: `held`, `missing`, or why that is not known.
fn copy(lab: &Lab<'_>, key: &str) -> Result<String> {
    let shown = lab.get(1, &format!("/v1/ring/key/0/{key}"))?.json()?;
    let host = format!("{}:", lab.redis(WIPED).ip());
    let replicas = shown["replicas"].as_array().map_or(&[][..], Vec::as_slice);
    let own = |replica: &&Value| {
        replica["address"].as_str().is_some_and(|address| address.starts_with(&host))
    };
    let replica = replicas.iter().find(own).with_context(|| format!("no such node in {shown}"))?;
    let words = if replica["why"].is_null() { &replica["state"] } else { &replica["why"] };
    Ok(words.as_str().unwrap_or_default().to_owned())
}

fn readiness(lab: &Lab<'_>) -> String {
    match lab.get(WIPED, "/readyz") {
        Err(_not_yet) => "no answer".to_owned(),
        Ok(answer) if answer.status == 200 => "ready".to_owned(),
        Ok(answer) => {
            let problem = answer.json().unwrap_or_default();
            format!("{} {}", answer.status, problem["detail"])
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
