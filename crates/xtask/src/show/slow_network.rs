//! Slow, lossy and stalled links between nodes.

use std::time::Duration;

use anyhow::{Result, ensure};

use super::Verdict;
use super::lab::{
    self, Clients, Lab, Plan, Span, Tools, Weather, await_equal_replicas, await_equal_roots,
    failures_end, no_failures, now_ms, verify_acknowledged,
};
use super::stage::Stage;

const NODES: u16 = 3;
const WORKERS: usize = 4;
const CALM: Duration = Duration::from_secs(3);
const BAD: Duration = Duration::from_secs(8);
/// The node whose links are bad.
const FAR: u16 = 3;
/// One way; twice that must fit into what a peer may take to answer a ping.
const DELAY: Duration = Duration::from_millis(60);
const LOST_PER_MILLE: u64 = 20;

pub(super) fn play(stage: &Stage) -> Result<Verdict> {
    let tools = match Tools::install(stage)? {
        Ok(tools) => tools,
        Err(missing) => return Ok(Verdict::NotBuilt(missing)),
    };
    lab::play(stage, Plan { nodes: NODES, proxied: true }, |lab| disturb(lab, &tools))
}

fn disturb(lab: &Lab<'_>, tools: &Tools) -> Result<Verdict> {
    let slow = Weather { delay: DELAY, ..Weather::default() };
    let lossy = Weather { delay: Duration::from_millis(2), lost_per_mille: LOST_PER_MILLE, ..slow };
    let stalled = Weather { stalled: true, ..Weather::default() };
    let far = |weather: Weather| {
        move |from, to| if from == FAR || to == FAR { weather } else { Weather::default() }
    };
    let mut clients = Clients::start(tools, lab, WORKERS)?;
    let mut spans = vec![("undisturbed".to_owned(), clients.work(CALM)?, false)];
    let delay = format!("{} ms each way", DELAY.as_millis());
    let loss = format!("{LOST_PER_MILLE} of 1,000 pieces lost");

    lab.set_weather(far(slow));
    spans.push((format!("links of node {FAR}: {delay}"), clients.work(BAD)?, false));
    lab.set_weather(|_, _| slow);
    spans.push((format!("all links: {delay}"), clients.work(BAD)?, false));
    lab.set_weather(|_, _| lossy);
    spans.push((format!("all links: {loss}"), clients.work(BAD)?, false));
    lab.set_weather(far(stalled));
    spans.push((format!("links of node {FAR} stall"), clients.work(BAD)?, true));
    lab.set_weather(|_, _| Weather::default());
    let healed = now_ms();
    lab.await_connected(&[1, 2, 3], NODES)?;
    println!("  all see each other {} ms after all links are good again", now_ms() - healed);
    clients.send_home()?;
    spans.push(("good links".to_owned(), clients.work(CALM)?, false));

    let diary = clients.finish()?;
    for (what, (from_ms, until_ms), may_fail) in &spans {
        let span = Span { what, from_ms: *from_ms, until_ms: *until_ms };
        if *may_fail {
            failures_end(&diary, span)?;
        } else {
            no_failures(&diary, span)?;
        }
        ensure!(
            diary.count(lab::Kind::Acknowledged, *from_ms, *until_ms) > 0,
            "{what}: nothing was acknowledged"
        );
    }
    verify_acknowledged(lab, &diary, &[1, 2, 3])?;
    await_equal_replicas(lab, &diary.acknowledged(), 1)?;
    await_equal_roots(lab)?;
    Ok(Verdict::Shown)
}
