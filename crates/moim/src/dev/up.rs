//! `moim dev` itself: starts all nodes, says where they are, and waits until it is told to stop.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;

use super::Wishes;
use super::launch::{Launched, launch, wait_until_ready};
use super::plan::Plan;
use super::process::Seen;
use super::state::{Home, State};
use crate::Ended;
use crate::ending::{Ending, Trouble};
use crate::print;

/// How long all nodes together may take to become ready.
const READY_PATIENCE: Duration = Duration::from_mins(1);

/// How long nodes may take to stop: longer than a server lets requests run on.
const STOP_PATIENCE: Duration = Duration::from_secs(15);

/// How often it is looked after the nodes.
const LOOK: Duration = Duration::from_millis(200);

/// Signals that come together are one: whoever ends `make dev` as a group ends this process twice, once directly and once
/// by way of make.
const ONE_SIGNAL: Duration = Duration::from_millis(500);

/// Starts a cluster; unless `detach`, stays until it is stopped.
pub(super) fn run(data: &Path, wishes: &Wishes, detach: bool) -> Ended {
    let home = Home::make(data)?;
    let signals = Signals::listen()?;
    let (state, mut launched) = start_all(&home, wishes, &signals)?;
    print::raw(welcome(&home, &state, detach).as_bytes());
    if detach {
        return Ok(Ending::Done);
    }
    watch(&home, &mut launched, &signals)
}

/// The state to begin with: what is in the directory, and what is wished.
fn prepare(home: &Home, earlier: Option<&State>, wishes: &Wishes) -> Result<State, Trouble> {
    if let Some(state) = earlier
        && let [first, ..] = state.living()[..]
    {
        return Err(Trouble::failed(format!(
            "the cluster in {} is running already (node {first} and perhaps others): `moim dev status` shows it, \
             `moim dev stop` stops it, `moim dev start N` starts one of its nodes",
            home.directory().display()
        )));
    }
    let founded = earlier.filter(|state| state.is_founded).map(|state| &state.plan);
    let plan = Plan::settle(founded, wishes)?;
    for number in plan.numbers() {
        plan.check_ports(number)?;
    }
    Ok(State { is_founded: founded.is_some(), ..State::new(plan) })
}

/// Starts every node and waits until all are ready; if one fails, none is left behind.
fn start_all(
    home: &Home,
    wishes: &Wishes,
    signals: &Signals,
) -> Result<(State, Vec<Launched>), Trouble> {
    let lock = home.lock()?;
    let earlier = home.read()?;
    let mut state = prepare(home, earlier.as_ref(), wishes)?;
    let mut launched = Vec::new();
    let started = launch_all(home, &mut state, &mut launched);
    // Other terminals may play, or stop it all, while the nodes get ready.
    drop(lock);
    let ready = started.and_then(|()| {
        wait_until_ready(home, &state.plan, &mut launched, READY_PATIENCE, || signals.heard())
    });
    if let Err(trouble) = ready {
        stop_processes(&state, || false)?;
        reap(&mut launched);
        let _lock = home.lock()?;
        // What was wished did not work: the next start goes on from what did.
        let before = earlier.unwrap_or_else(|| State::new(Plan::default()));
        home.write(&State { is_stopped: true, ..before })?;
        return Err(trouble);
    }
    let _lock = home.lock()?;
    let founded = State { is_founded: true, ..home.state()? };
    home.write(&founded)?;
    Ok((founded, launched))
}

fn launch_all(home: &Home, state: &mut State, launched: &mut Vec<Launched>) -> Result<(), Trouble> {
    for number in state.plan.numbers() {
        let node = launch(home, &state.plan, number)?;
        state.processes.insert(number, node.process.clone());
        launched.push(node);
        // Before the next one starts: whatever happens to this process, what it started is on record.
        home.write(state)?;
    }
    Ok(())
}

/// Waits for the end, saying what becomes of nodes meanwhile.
fn watch(home: &Home, launched: &mut [Launched], signals: &Signals) -> Ended {
    let mut known = BTreeMap::<u16, Seen>::new();
    loop {
        reap(launched);
        let state = home.state()?;
        for number in state.plan.numbers() {
            let seen = state.look(number);
            let before = known.insert(number, seen).unwrap_or(Seen::Running);
            if seen != before && !state.is_stopped {
                print::note(&news(number, seen));
            }
        }
        if state.living().is_empty() {
            print::note(if state.is_stopped {
                "stopped"
            } else {
                "all nodes are gone; `moim dev` starts them again"
            });
            return Ok(Ending::Done);
        }
        if signals.heard() {
            print::note("stopping (Ctrl-C again to kill)");
            let began = Instant::now();
            let stopped = stop(home, || signals.heard() && began.elapsed() > ONE_SIGNAL);
            reap(launched);
            return stopped;
        }
        std::thread::sleep(LOOK);
    }
}

fn news(number: u16, seen: Seen) -> String {
    match seen {
        Seen::Gone => format!("node {number} is gone; `moim dev start {number}` brings it back"),
        Seen::Paused => format!("node {number} is paused; `moim dev start {number}` lets it go on"),
        Seen::Running => format!("node {number} runs again"),
    }
}

/// Waits for children that have ended, so that nothing of them is left.
fn reap(launched: &mut [Launched]) {
    for node in launched {
        node.child.try_wait().ok();
    }
}

/// Stops a cluster; `hurry` is asked now and then whether to kill at once.
pub(super) fn stop(home: &Home, hurry: impl FnMut() -> bool) -> Ended {
    let _lock = home.lock()?;
    let mut state = home.state()?;
    state.is_stopped = true;
    home.write(&state)?;
    let killed = stop_processes(&state, hurry)?;
    state.processes.clear();
    state.cut.clear();
    home.write(&state)?;
    if !killed.is_empty() {
        let numbers = killed.iter().map(u16::to_string).collect::<Vec<_>>().join(", ");
        print::note(&format!("nodes that did not stop in time were killed: {numbers}"));
    }
    let kept = match state.plan.engine.as_str() {
        "memory" => "the memory engine kept nothing".to_owned(),
        _ => format!("`moim dev{}` goes on from here", data_flag(home)),
    };
    print::note(&format!("stopped; {kept}"));
    Ok(Ending::Done)
}

/// Asks all processes to end, and kills those that do not; says which.
fn stop_processes(state: &State, mut hurry: impl FnMut() -> bool) -> Result<Vec<u16>, Trouble> {
    for process in state.processes.values() {
        process.send(Signal::TERM)?;
        // A paused process hears nothing until it goes on.
        process.send(Signal::CONT)?;
    }
    let began = Instant::now();
    while !state.living().is_empty() && began.elapsed() < STOP_PATIENCE && !hurry() {
        std::thread::sleep(Duration::from_millis(20));
    }
    let mut killed = Vec::new();
    for (&number, process) in &state.processes {
        if process.send(Signal::KILL)? {
            killed.push(number);
        }
    }
    while !state.living().is_empty() && began.elapsed() < 2 * STOP_PATIENCE {
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok(killed)
}

/// Ctrl-C, and the signals that mean the same.
struct Signals {
    heard: std::cell::RefCell<mpsc::Receiver<()>>,
}

impl Signals {
    /// Listens from now on; until then a signal ends this process, and leaves no node behind since none was started.
    fn listen() -> Result<Self, Trouble> {
        let fault =
            |error: std::io::Error| Trouble::failed(format!("signals cannot be caught: {error}"));
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(fault)?;
        let (sender, receiver) = mpsc::channel(16);
        let caught = runtime.block_on(async {
            let kinds = [SignalKind::interrupt(), SignalKind::terminate(), SignalKind::hangup()];
            kinds.map(signal).into_iter().collect::<Result<Vec<_>, _>>()
        });
        let caught = caught.map_err(fault)?;
        std::thread::spawn(move || {
            runtime.block_on(async move {
                let [mut interrupt, mut terminate, mut hangup] =
                    <[_; 3]>::try_from(caught).expect("three were asked for");
                loop {
                    tokio::select! {
                        _ = interrupt.recv() => {}
                        _ = terminate.recv() => {}
                        _ = hangup.recv() => {}
                    }
                    // More than fits has been heard anyway.
                    sender.try_send(()).ok();
                }
            });
        });
        Ok(Self { heard: std::cell::RefCell::new(receiver) })
    }

    /// Whether a signal has come since it was last asked.
    fn heard(&self) -> bool {
        self.heard.borrow_mut().try_recv().is_ok()
    }
}

/// The flag that names the directory, where it must be said.
fn data_flag(home: &Home) -> String {
    let usual =
        Path::new(super::DATA_DEFAULT).canonicalize().is_ok_and(|usual| usual == home.directory());
    if usual { String::new() } else { format!(" --data {}", home.directory().display()) }
}

/// Where everything is, and what to try first.
fn welcome(home: &Home, state: &State, detached: bool) -> String {
    let plan = &state.plan;
    let heading = ["node", "zone", "redis", "cluster", "dashboard", "pid"];
    let mut rows = vec![heading.map(str::to_owned).to_vec()];
    for number in plan.numbers() {
        rows.push(vec![
            number.to_string(),
            plan.zone(number),
            plan.address("redis", number),
            plan.addresses("cluster", number),
            format!("http://{}/", plan.address("http", number)),
            state
                .processes
                .get(&number)
                .map_or_else(String::new, |process| process.pid.to_string()),
        ]);
    }
    let redis = |number: u16| plan.base_port + number.min(plan.nodes);
    let data = home.directory().display();
    let play = data_flag(home);
    let end = if detached {
        format!("`moim dev stop{play}` stops it")
    } else {
        "Ctrl-C stops it".to_owned()
    };
    format!(
        "{}\nData and logs are in {data}. {end}.\n\nTry:\n  \
         redis-cli -p {} SET greeting hello && redis-cli -p {} GET greeting\n  \
         moim dev kill 2{play} && redis-cli -p {} GET greeting && moim dev start 2{play}\n  \
         open http://{}/ in a browser\n",
        print::table(&rows),
        redis(1),
        redis(2),
        redis(1),
        plan.address("http", 1),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_welcome_ends_with_three_lines_to_try() {
        let directory = tempfile::tempdir().unwrap();
        let home = Home::make(directory.path()).unwrap();
        let text = welcome(&home, &State::new(Plan::default()), false);
        let tries: Vec<_> = text.lines().skip_while(|line| *line != "Try:").skip(1).collect();
        assert_eq!(tries.len(), 3, "{text}");
        assert_eq!(
            tries[0].trim(),
            "redis-cli -p 7001 SET greeting hello && redis-cli -p 7002 GET greeting"
        );
        assert!(text.contains("http://127.0.0.1:8003/"), "{text}");
    }

    #[test]
    fn a_taken_port_is_named() {
        let directory = tempfile::tempdir().unwrap();
        let home = Home::make(directory.path()).unwrap();
        let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = taken.local_addr().unwrap().port();
        let wishes = Wishes { base_port: Some(port - 1), ..Wishes::default() };
        if port > 60_000 {
            return;
        }
        let refused = prepare(&home, None, &wishes).unwrap_err();
        assert!(
            refused.words().contains(&format!("node 1 cannot listen on 127.0.0.1:{port} (redis)")),
            "{refused}"
        );
    }
}
