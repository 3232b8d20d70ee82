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

use moim_node::{Boot, BootError, Effect, Input, Node, Now, Outcome};
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
    /// The time of this pass.
    now: Now,
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
        let now = handle.now();
        let (inputs, effects, ended) = (Vec::new(), Vec::new(), Vec::new());
        Self { handle, disk, links, now, inputs, effects, ended }
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
        Some(shared.clock.instant(wake_mono_ms.max(self.now.mono_ms + 1)))
    }

    fn pass(&mut self) {
        let handle = self.handle.clone();
        let shared = handle.shared();
        self.now = shared.clock.now();
        let waited_ms = shared.inbox.waited(Instant::now()).as_millis();
        if waited_ms > 0 {
            self.inputs.push(Input::Queued(u32::try_from(waited_ms).unwrap_or(u32::MAX)));
        }
        let heard = shared.inbox.take_heard();
        shared.figures.heard(heard);
        self.disk.turned(heard);
        for _ in 0..ROUNDS_MAX {
            shared.inbox.take(&mut self.inputs);
            shared.figures.turned(self.inputs.len());
            shared.node.borrow_mut().turn(self.now, &mut self.inputs, &mut self.effects);
            assert!(self.inputs.is_empty(), "a turn takes all inputs");
            self.act();
            if shared.inbox.is_empty() {
                break;
            }
        }
        // Peers first: their answers take longest.
        self.links.flush();
        for Ended(reply, outcome) in self.ended.drain(..) {
            reply(outcome);
        }
        shared.inbox.end_pass();
    }

    /// Does what the node said, in its order.
    fn act(&mut self) {
        let mut now = None;
        for effect in self.effects.drain(..) {
            match effect {
                Effect::Commit(id, batch) => self.disk.commit(id, batch),
                Effect::Load(id, family, key) => self.disk.load(id, family, key),
                Effect::List { id, family, from, to, limit } => {
                    self.disk.list(id, family, (from, to), limit);
                }
                Effect::Send(peer, message) => self.links.send(peer, message),
                Effect::Disconnect(peer, why) => self.links.disconnect(peer, &why),
                Effect::Adopted(record) => self.links.adopt(&record),
                Effect::Reply(id, outcome) => {
                    let shared = self.handle.shared();
                    let Some(waiter) = shared.waiting.borrow_mut().remove(id) else { continue };
                    if let Outcome::Found(found) = &outcome {
                        let now = *now.get_or_insert_with(std::time::Instant::now);
                        let took = now.saturating_duration_since(waiter.since);
                        shared.figures.reads.observe(found.from_disk, took);
                    }
                    self.ended.push(Ended(waiter.reply, outcome));
                }
                Effect::Halted(why) => error!("this node no longer serves: {why}"),
            }
        }
        self.disk.flush();
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use moim_core::ring::{Member, PartitionCount};
    use moim_core::{MachineId, NamespaceId, NodeId};
    use moim_node::Request;
    use moim_node::api::{Action, Expiry, Found};
    use moim_node::keyspace::StoredTrees;
    use moim_node::membership::MemberInfo;
    use moim_node::namespace::Namespaces;
    use moim_node::options::Options;
    use moim_storage::memory::MemoryEngine;
    use tokio::task::LocalSet;

    use super::*;

    fn boot() -> Boot {
        let member = Member {
            node: NodeId(1),
            machine: MachineId(1),
            zone: "z".to_owned(),
            dc: "d".to_owned(),
            weight: 1,
        };
        let info = MemberInfo {
            member,
            peer_address: "127.0.0.1:1".to_owned(),
            redis_address: String::new(),
            cluster_address: String::new(),
            http_address: String::new(),
        };
        Boot {
            info,
            run: 1,
            seed: 1,
            stored_record: None,
            stored_clock_bound: None,
            stored_filling: None,
            stored_trees: StoredTrees::default(),
            stored_generation: None,
            stored_batch: None,
            founding_members: 1,
            partitions: PartitionCount::DEFAULT,
            namespaces: Namespaces::default(),
            options: Options::default(),
        }
    }

    fn request(action: Action) -> Request {
        let key = Bytes::from_static(b"key");
        Request { namespace: NamespaceId(0), key, action, r: None, w: None, timeout_ms: None }
    }

    fn put(value: &'static str) -> Request {
        request(Action::Put { value: value.into(), expiry: Expiry::Default, context: None })
    }

    fn run<F: Future>(test: impl FnOnce(NodeHandle) -> F) -> F::Output {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let local = LocalSet::new();
        local.block_on(&runtime, async {
            let (handle, task) = alone(boot(), Arc::new(MemoryEngine::new(None))).unwrap();
            drop(tokio::task::spawn_local(task));
            test(handle).await
        })
    }

    fn value(outcome: Outcome) -> Option<Bytes> {
        match outcome {
            Outcome::Found(Found { versions, .. }) => {
                versions.into_iter().next().and_then(|version| version.value().cloned())
            }
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_node_alone_keeps_what_it_is_given() {
        run(|handle| async move {
            while handle.view(|node| node.readiness().is_err()) {
                tokio::task::yield_now().await;
            }
            assert_eq!(value(handle.request(request(Action::Get)).await), None);
            let written = handle.request(put("1")).await;
            assert!(matches!(written, Outcome::Written { .. }), "{written:?}");
            assert_eq!(value(handle.request(request(Action::Get)).await).unwrap(), "1");
        });
    }

    #[test]
    fn requests_of_one_pass_share_a_turn_and_callbacks_may_ask_again() {
        run(|handle| async move {
            while handle.view(|node| node.readiness().is_err()) {
                tokio::task::yield_now().await;
            }
            // The first write also brings the key into memory and persists the clock's bound.
            handle.request(put("0")).await;
            let before = handle.view(|node| node.figures().commits);
            let (sender, receiver) = tokio::sync::oneshot::channel();
            for _ in 0..10 {
                handle.submit(put("1"), Box::new(|_| {}));
            }
            let again = handle.clone();
            handle.submit(
                put("2"),
                Box::new(move |_| {
                    let got = move |outcome| sender.send(outcome).unwrap();
                    again.submit(request(Action::Get), Box::new(got));
                }),
            );
            assert_eq!(value(receiver.await.unwrap()).unwrap(), "2");
            assert_eq!(handle.view(|node| node.figures().commits) - before, 1, "one batch for all");
        });
    }

    #[test]
    fn the_turn_runs_behind_all_tasks_that_are_ready() {
        run(|handle| async move {
            while handle.view(|node| node.readiness().is_err()) {
                tokio::task::yield_now().await;
            }
            handle.request(put("0")).await;
            let before = handle.view(|node| node.figures().commits);
            let ask = |handle: NodeHandle| async move { handle.request(put("1")).await };
            let tasks: Vec<_> =
                (0..50).map(|_| tokio::task::spawn_local(ask(handle.clone()))).collect();
            for task in tasks {
                assert!(matches!(task.await.unwrap(), Outcome::Written { .. }));
            }
            let commits = handle.view(|node| node.figures().commits) - before;
            assert_eq!(commits, 1, "fifty connections, one batch");
        });
    }
}
