//! The loop of one node: takes what has arrived, turns the node, does what it says.
//!
//! Connections and links only hand inputs in. The first one wakes the turn task, which is thereby queued behind every
//! task that is ready now: it runs last in a pass of the scheduler and sees all of their inputs at once. So batches,
//! group commits and coalesced writes come about by themselves, without a timer: each pass ends with one write a peer.
//!
//! Invariants: effects are done in the order in which the node gave them; callbacks run outside of any borrow.

use std::future::Future;
use std::rc::Rc;
use std::sync::Arc;

use moim_node::{Boot, BootError, Effect, Input, Node, Outcome};
use moim_storage::Engine;
use tokio::time::Instant;
use tracing::error;

use crate::clock::Clock;
use crate::disk::Disk;
use crate::handle::{NodeHandle, ReplyCallback};
use crate::inbox::Inbox;
use crate::links::Links;

/// Turns in one pass, when effects are answered at once (a read that needs no disk, a memory engine). Beyond it the
/// rest waits for the next pass, so that no chain of answers keeps connections from being read.
const ROUNDS_MAX: usize = 8;

/// The task that turns a node.
#[derive(Debug)]
pub(crate) struct TurnTask {
    handle: NodeHandle,
    disk: Disk,
    links: Rc<Links>,
    inputs: Vec<Input>,
    effects: Vec<Effect>,
    ended: Vec<Ended>,
}

struct Ended(ReplyCallback, Outcome);

impl std::fmt::Debug for Ended {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.1.fmt(f)
    }
}

/// A node without peers on the current thread: for tests of what stands on a [`NodeHandle`], and embedding. The future
/// is its loop; spawn it on the `LocalSet` of the thread.
pub fn alone(
    boot: Boot,
    engine: Arc<dyn Engine>,
) -> Result<(NodeHandle, impl Future<Output = ()> + 'static), BootError> {
    let clock = Clock::start();
    let node = Node::new(clock.now(), boot)?;
    let inbox = Rc::<Inbox>::default();
    let disk = Disk::inline(engine, Rc::clone(&inbox));
    let handle = NodeHandle::new(node, clock, inbox);
    let links = handle.links(0);
    Ok((handle.clone(), TurnTask::new(handle, disk, links).run()))
}

impl TurnTask {
    pub(crate) fn new(handle: NodeHandle, disk: Disk, links: Rc<Links>) -> Self {
        Self { handle, disk, links, inputs: Vec::new(), effects: Vec::new(), ended: Vec::new() }
    }

    /// Turns whenever something has arrived or is due. Never ends.
    pub(crate) async fn run(mut self) {
        self.pass();
        let sleep = tokio::time::sleep_until(Instant::now());
        tokio::pin!(sleep);
        let mut armed: Option<Instant> = None;
        let inbox = Rc::clone(&self.handle.shared().inbox);
        loop {
            // Setting a timer costs more than a turn in vain: one that came out too early is left to go off.
            if let Some(due) = self.due().filter(|&due| armed.is_none_or(|at| due < at)) {
                sleep.as_mut().reset(due);
                armed = Some(due);
            }
            tokio::select! {
                biased;
                () = inbox.arrived() => {}
                () = &mut sleep, if armed.is_some() => armed = None,
            }
            self.pass();
        }
    }

    /// When the node wants a turn though nothing arrives; in the future, whatever it says.
    fn due(&self) -> Option<Instant> {
        let shared = self.handle.shared();
        let wake_mono_ms = shared.node.borrow().wake_mono_ms()?;
        Some(shared.clock.instant(wake_mono_ms.max(shared.clock.now().mono_ms + 1)))
    }

    fn pass(&mut self) {
        let now = self.handle.now();
        for _ in 0..ROUNDS_MAX {
            self.handle.shared().inbox.take(&mut self.inputs);
            self.handle.shared().node.borrow_mut().turn(now, &mut self.inputs, &mut self.effects);
            assert!(self.inputs.is_empty(), "a turn takes all inputs");
            self.act();
            if self.handle.shared().inbox.is_empty() {
                break;
            }
        }
        // Peers first: their answers take longest.
        self.links.flush();
        for Ended(reply, outcome) in self.ended.drain(..) {
            reply(outcome);
        }
        self.handle.shared().inbox.end_pass();
    }

    /// Does what the node said, in its order.
    fn act(&mut self) {
        for effect in self.effects.drain(..) {
            match effect {
                Effect::Commit(id, batch) => self.disk.commit(id, batch),
                Effect::Load(id, family, key) => self.disk.load(id, family, key),
                Effect::List { id, from, to, limit } => self.disk.list(id, from, to, limit),
                Effect::Send(peer, message) => self.links.send(peer, &message),
                Effect::Disconnect(peer, why) => self.links.disconnect(peer, &why),
                Effect::Adopted(record) => self.links.adopt(&record),
                Effect::Reply(id, outcome) => {
                    let reply = self.handle.shared().waiting.borrow_mut().remove(id);
                    self.ended.extend(reply.map(|reply| Ended(reply, outcome)));
                }
                Effect::Halted(why) => error!(why, "this node no longer serves: its disk failed"),
            }
        }
        self.disk.flush();
    }
}
