//! Whether the measured share of stale reads is the true one: three nodes with slow, uneven links, clients that write
//! and read at weak levels, and a bookkeeper who knows what was acknowledged when. At strict levels both are 0.
//!
//! A world of its own rather than the simulator's, because the bookkeeper must know the truth of each single read.

#![expect(clippy::unwrap_used, reason = "a test world whose every failure is the test's")]
#![expect(clippy::cast_precision_loss, reason = "counts of a few thousand")]
#![expect(clippy::print_stderr, reason = "what a failing run looked like")]

use std::collections::BTreeMap;

use bytes::Bytes;
use moim_core::clock::Hlc;
use moim_core::quorum::Level;
use moim_core::ring::{Member, PartitionCount};
use moim_core::{MachineId, NamespaceId, NodeId};
use moim_node::api::{Action, BatchId, Effect, Expiry, Outcome};
use moim_node::keyspace::StoredTrees;
use moim_node::membership::MemberInfo;
use moim_node::namespace::{Namespace, Namespaces};
use moim_node::options::Options;
use moim_node::views::FreshnessView;
use moim_node::{Boot, Input, Node, Now, Request, RequestId};
use moim_sim::random::Random;
use moim_storage::memory::MemoryEngine;
use moim_storage::{Durability, Engine};

const NODES: usize = 3;
const KEYS: u64 = 200;
/// The longest that a message between two nodes takes, in milliseconds.
const DELAY_MS_MAX: u64 = 40;

/// A request under way.
struct Asked {
    key: u64,
    /// For a read: the newest version that was acknowledged before it began.
    newest_before: Option<Hlc>,
}

struct World {
    random: Random,
    now_ms: u64,
    nodes: Vec<(Node, MemoryEngine)>,
    inputs: BTreeMap<(u64, u64), (usize, Input)>,
    next: u64,
    asked: BTreeMap<RequestId, Asked>,
    acknowledged: BTreeMap<u64, Hlc>,
    reads: u64,
    stale: u64,
}

fn info(id: usize) -> MemberInfo {
    let number = u64::try_from(id).unwrap() + 1;
    MemberInfo {
        member: Member {
            node: NodeId(number),
            machine: MachineId(number),
            zone: String::new(),
            dc: String::new(),
            weight: 1,
        },
        peer_address: format!("{number}"),
        redis_address: String::new(),
        cluster_address: String::new(),
        http_address: String::new(),
    }
}

impl World {
    fn new(seed: u64) -> Self {
        let options = Options { freshness_one_in: 16, ..Options::default() };
        let boot = |id: usize| Boot {
            info: info(id),
            run: 1,
            seed,
            stored_record: None,
            stored_clock_bound: None,
            stored_filling: None,
            stored_trees: StoredTrees::default(),
            stored_batch: None,
            stored_generation: None,
            founding_members: NODES,
            partitions: PartitionCount::new(256).unwrap(),
            namespaces: Namespaces::new(&Namespace::new("0"), vec![]).unwrap(),
            options: options.clone(),
        };
        let now = Now { mono_ms: 1, wall_ms: 1_000_000 };
        let node = |id| (Node::new(now, boot(id)).unwrap(), MemoryEngine::new(None));
        let mut world = Self {
            random: Random::new(seed),
            now_ms: 1,
            nodes: (0..NODES).map(node).collect(),
            inputs: BTreeMap::new(),
            next: 0,
            asked: BTreeMap::new(),
            acknowledged: BTreeMap::new(),
            reads: 0,
            stale: 0,
        };
        for a in 0..NODES {
            for b in (0..NODES).filter(|&b| b != a) {
                let hello = world.nodes[b].0.hello();
                world.plan(0, a, Input::PeerUp(Box::new(hello)));
            }
        }
        world.pass(1_000);
        world
    }

    fn plan(&mut self, in_ms: u64, node: usize, input: Input) {
        self.next += 1;
        self.inputs.insert((self.now_ms + in_ms, self.next), (node, input));
    }

    fn pass(&mut self, ms: u64) {
        for _ in 0..ms {
            self.now_ms += 1;
            for node in 0..NODES {
                self.turn(node);
            }
        }
    }

    fn turn(&mut self, at: usize) {
        let due: Vec<_> = self
            .inputs
            .range(..=(self.now_ms, u64::MAX))
            .filter(|(_, (node, _))| *node == at)
            .map(|(&when, _)| when)
            .collect();
        let mut inputs: Vec<_> =
            due.iter().map(|when| self.inputs.remove(when).unwrap().1).collect();
        let now = Now { mono_ms: self.now_ms, wall_ms: 1_000_000 + self.now_ms };
        let mut effects = Vec::new();
        self.nodes[at].0.turn(now, &mut inputs, &mut effects);
        for effect in effects {
            self.apply(at, effect);
        }
    }

    fn apply(&mut self, at: usize, effect: Effect) {
        match effect {
            Effect::Commit(batch, writes) => {
                self.nodes[at].1.apply(&[writes], Durability::Synced).unwrap();
                self.plan(0, at, Input::Durable(BatchId(batch.0)));
            }
            Effect::Load(id, family, key) => {
                let found = self.nodes[at].1.get(family, &key).unwrap();
                self.plan(0, at, Input::Loaded(id, Ok(found)));
            }
            Effect::Send(to, message) => {
                let to = usize::try_from(to.0).unwrap() - 1;
                let from = NodeId(u64::try_from(at).unwrap() + 1);
                let delay_ms = self.random.between(1, DELAY_MS_MAX);
                self.plan(delay_ms, to, Input::Peer(from, message));
            }
            Effect::Reply(id, outcome) => self.answered(id, outcome),
            _ => {}
        }
    }

    fn answered(&mut self, id: RequestId, outcome: Outcome) {
        let Some(asked) = self.asked.remove(&id) else { return };
        match outcome {
            Outcome::Written { version, .. } => {
                let newest = self.acknowledged.entry(asked.key).or_insert(version);
                *newest = version.max(*newest);
            }
            Outcome::Found(found) => {
                self.reads += 1;
                let seen = found.versions.first().map(|version| version.written);
                self.stale += u64::from(seen < asked.newest_before);
            }
            other => panic!("nothing fails here: {other:?}"),
        }
    }

    fn ask(&mut self, action: Action, level: Level) {
        let key = self.random.between(1, KEYS);
        let at = self.random.index(NODES);
        let newest_before = self.acknowledged.get(&key).copied();
        let request = Request {
            namespace: NamespaceId(0),
            key: Bytes::from(key.to_string()),
            action,
            r: Some(level),
            w: Some(level),
            timeout_ms: None,
        };
        self.next += 1;
        let id = RequestId(self.next);
        self.asked.insert(id, Asked { key, newest_before });
        self.plan(1, at, Input::Request(id, request));
    }

    /// Clients write and read at this level for so long.
    fn work(&mut self, ms: u64, level: Level) -> FreshnessView {
        for _ in 0..ms {
            if self.random.chance(500) {
                let value = Bytes::from_static(b"value");
                self.ask(
                    Action::Put { value: value.into(), expiry: Expiry::Never, context: None },
                    level,
                );
            }
            for _ in 0..3 {
                self.ask(Action::Get, level);
            }
            self.pass(1);
        }
        self.pass(3_000);
        let mut sum = FreshnessView::default();
        for (node, _) in &self.nodes {
            let view = node.freshness();
            sum.samples += view.samples;
            sum.stale += view.stale;
            sum.unknown += view.unknown;
            sum.lag_ms += view.lag_ms;
        }
        sum
    }
}

#[test]
fn the_measured_share_of_stale_reads_is_the_true_one() {
    for seed in 1..=2 {
        let mut world = World::new(seed);
        let view = world.work(20_000, Level::Count(1));
        let share = |part: u64, all: u64| part as f64 / all as f64;
        let (truth, measured) = (share(world.stale, world.reads), share(view.stale, view.samples));
        let error = (truth * (1.0 - truth) / view.samples as f64).sqrt();
        eprintln!("true {truth:.4}, measured {measured:.4} ± {error:.4} of {view:?}");
        assert!(truth > 0.01, "something to measure: {truth}");
        assert!((measured - truth).abs() < 4.0 * error, "{measured} measured, {truth} true");
        assert!(view.unknown < view.samples / 10, "{view:?}");
        let lag_ms = view.lag_ms / view.stale.max(1);
        assert!((1..=2 * DELAY_MS_MAX).contains(&lag_ms), "{lag_ms} ms on average");
    }
}

#[test]
fn at_strict_levels_no_read_is_found_stale() {
    let mut world = World::new(4);
    let view = world.work(20_000, Level::Quorum);
    assert_eq!((world.stale, view.stale), (0, 0), "{view:?}");
    assert!(view.samples > 1_000, "{view:?}");
}
