//! What any terminal can do to a running cluster.

use std::path::Path;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde::Serialize;
use ureq::http::Method;

use super::launch::{Answer, Launched, ask, launch, wait_until_ready};
use super::process::Seen;
use super::state::{Home, State};
use super::up;
use crate::Ended;
use crate::client::node::{Call, Node};
use crate::ending::{Ending, Trouble};
use crate::options::Output;
use crate::print;

/// How long one node may take to become ready.
const READY_PATIENCE: Duration = Duration::from_secs(30);

/// How long a node may take to cut or heal its links.
const CUT_PATIENCE: Duration = Duration::from_secs(5);

/// How long the system may take to clear away a killed node: its memory is given back first.
const DEATH_PATIENCE: Duration = Duration::from_secs(10);

/// How often it is looked whether a killed node is gone.
const DEATH_LOOK: Duration = Duration::from_millis(5);

/// `moim dev stop`.
pub(super) fn stop(data: &Path) -> Ended {
    up::stop(&Home::find(data)?, || false)
}

/// `moim dev kill`. Returns when nothing is left of them, so that what comes next finds their ports free.
pub(super) fn kill(data: &Path, nodes: &[u16]) -> Ended {
    signal(data, nodes, Signal::KILL, |number| {
        format!(
            "node {number} is killed: the others go on without it; `moim dev start {number}` brings it back"
        )
    })?;
    let state = Home::find(data)?.state()?;
    let began = Instant::now();
    while let Some(number) = nodes.iter().find(|number| state.look(**number) != Seen::Gone) {
        if began.elapsed() > DEATH_PATIENCE {
            return Err(Trouble::failed(format!(
                "node {number} is killed and does not end: does its disk answer?"
            )));
        }
        std::thread::sleep(DEATH_LOOK);
    }
    Ok(Ending::Done)
}

/// `moim dev pause`.
pub(super) fn pause(data: &Path, nodes: &[u16]) -> Ended {
    signal(data, nodes, Signal::STOP, |number| {
        format!(
            "node {number} is paused: it keeps its connections and answers nothing; `moim dev start {number}` \
                 lets it go on"
        )
    })
}

fn signal(data: &Path, nodes: &[u16], signal: Signal, done: impl Fn(u16) -> String) -> Ended {
    let home = Home::find(data)?;
    let _lock = home.lock()?;
    let state = home.state()?;
    for &number in nodes {
        state.plan.check(number)?;
        let process = state.processes.get(&number);
        if !process.map_or(Ok(false), |process| process.send(signal))? {
            return Err(not_running(number));
        }
        print::note(&done(number));
    }
    Ok(Ending::Done)
}

fn not_running(number: u16) -> Trouble {
    Trouble::failed(format!("node {number} is not running: `moim dev start {number}` starts it"))
}

/// `moim dev start`.
pub(super) fn start(data: &Path, nodes: &[u16]) -> Ended {
    let home = Home::find(data)?;
    let lock = home.lock()?;
    let mut state = home.state()?;
    if state.living().is_empty() {
        return Err(Trouble::failed("no node runs: `moim dev` starts the whole cluster"));
    }
    let mut launched = Vec::new();
    for &number in nodes {
        state.plan.check(number)?;
        match (state.look(number), state.processes.get(&number)) {
            (Seen::Running, _) => print::note(&format!("node {number} is running already")),
            (Seen::Paused, Some(process)) => {
                process.send(Signal::CONT)?;
                print::note(&format!("node {number} goes on"));
            }
            _ => launched.push(start_one(&home, &mut state, number)?),
        }
    }
    drop(lock);
    wait_until_ready(&home, &state.plan, &mut launched, READY_PATIENCE, || false)?;
    for node in launched {
        print::note(&format!("node {} is ready again, process {}", node.number, node.process.pid));
    }
    Ok(Ending::Done)
}

fn start_one(home: &Home, state: &mut State, number: u16) -> Result<Launched, Trouble> {
    state.plan.check_ports(number)?;
    let launched = launch(home, &state.plan, number)?;
    state.processes.insert(number, launched.process.clone());
    state.cut.remove(&number);
    home.write(state)?;
    Ok(launched)
}

/// `moim dev cut`.
pub(super) fn cut(data: &Path, nodes: &[u16]) -> Ended {
    set_cut(data, nodes, true)
}

/// `moim dev heal`.
pub(super) fn heal(data: &Path, nodes: &[u16]) -> Ended {
    set_cut(data, nodes, false)
}

fn set_cut(data: &Path, nodes: &[u16], away: bool) -> Ended {
    let home = Home::find(data)?;
    let _lock = home.lock()?;
    let mut state = home.state()?;
    let all = if nodes.is_empty() { state.living() } else { nodes.to_vec() };
    for number in all {
        state.plan.check(number)?;
        if state.look(number) != Seen::Running {
            return Err(not_running(number));
        }
        tell(&state, number, if away { "/v1/dev/cut" } else { "/v1/dev/heal" })?;
        if away {
            state.cut.insert(number)
        } else {
            state.cut.remove(&number)
        };
        home.write(&state)?;
        print::note(&if away {
            format!(
                "node {number} is cut off from the others; clients still reach it; `moim dev heal {number}` ends it"
            )
        } else {
            format!("node {number} reaches the others again")
        });
    }
    Ok(Ending::Done)
}

fn tell(state: &State, number: u16, path: &str) -> Result<(), Trouble> {
    let node = Node::at(state.plan.address("http", number), CUT_PATIENCE);
    let reply =
        node.call(Call { method: Method::POST, path: path.to_owned(), ..Call::default() })?;
    if reply.status == 204 { Ok(()) } else { Err(node.refused(&reply)) }
}

/// What `moim dev status --json` prints for each node.
#[derive(Serialize)]
struct NodeState {
    node: u16,
    state: &'static str,
    ready: bool,
    cut: bool,
    pid: Option<i32>,
    zone: String,
    redis: String,
    cluster: String,
    http: String,
    peer: String,
    log: String,
}

/// `moim dev status`.
pub(super) fn status(data: &Path, output: Output) -> Ended {
    let home = Home::find(data)?;
    let state = home.state()?;
    let nodes: Vec<_> =
        state.plan.numbers().map(|number| describe(&home, &state, number)).collect();
    if output.json {
        print::json(&nodes);
        return Ok(Ending::Done);
    }
    let heading = ["node", "state", "zone", "redis", "cluster", "dashboard", "pid"];
    let mut rows = vec![heading.map(str::to_owned).to_vec()];
    for node in &nodes {
        let mut words = node.state.to_owned();
        words.push_str(match (node.state, node.ready, node.cut) {
            ("running", true, true) => ", cut off",
            ("running", false, _) => ", not ready",
            _ => "",
        });
        rows.push(vec![
            node.node.to_string(),
            words,
            node.zone.clone(),
            node.redis.clone(),
            node.cluster.clone(),
            format!("http://{}/", node.http),
            node.pid.map_or_else(|| "–".to_owned(), |pid| pid.to_string()),
        ]);
    }
    print::raw(print::table(&rows).as_bytes());
    Ok(Ending::Done)
}

fn describe(home: &Home, state: &State, number: u16) -> NodeState {
    let (plan, seen) = (&state.plan, state.look(number));
    NodeState {
        node: number,
        state: match seen {
            Seen::Running => "running",
            Seen::Paused => "paused",
            Seen::Gone => "gone",
        },
        ready: seen == Seen::Running && ask(plan, number) == Answer::Ready,
        cut: state.cut.contains(&number),
        pid: state.processes.get(&number).filter(|_| seen != Seen::Gone).map(|process| process.pid),
        zone: plan.zone(number),
        redis: plan.address("redis", number),
        cluster: plan.address("cluster", number),
        http: plan.address("http", number),
        peer: plan.address("peer", number),
        log: home.log(number).display().to_string(),
    }
}
