//! What a request costs in the node alone: processor time of three nodes with N=3 and R=W=2, peer frames encoded and
//! decoded as over a socket, without sockets, disk or clients.
//!
//! `cargo bench -p moim-node --bench turn -- [set|get|mix] [requests a turn] [requests]`. The instructions that one
//! request takes do not depend on what else the machine does: `valgrind --tool=callgrind --toggle-collect='*measured*'` on the
//! binary counts them.
#![expect(clippy::print_stdout, reason = "the result")]

use bytes::{Bytes, BytesMut};
use moim_core::object::Draft;
use moim_core::ring::{Member, PartitionCount};
use moim_core::{MachineId, NamespaceId, NodeId};
use moim_node::api::{Action, Expiry, ListedPage};
use moim_node::keyspace::StoredTrees;
use moim_node::membership::MemberInfo;
use moim_node::namespace::{Namespace, Namespaces};
use moim_node::options::Options;
use moim_node::{Boot, Effect, Input, Node, Now, Outcome, Request, RequestId, wire};

const NODES: usize = 3;
const KEYS: u64 = 10_000;
const VALUE_BYTES: usize = 2_048;

struct Machine {
    node: Node,
    inputs: Vec<Input>,
    effects: Vec<Effect>,
    /// Frames for each peer, by its number less one.
    out: Vec<Vec<u8>>,
}

struct Cluster {
    machines: Vec<Machine>,
    now: Now,
    answered: u64,
}

fn info(node: u64) -> MemberInfo {
    let member = Member {
        node: NodeId(node),
        machine: MachineId(node),
        zone: "z".to_owned(),
        dc: "dc".to_owned(),
        weight: 1,
    };
    let address = |port: u64| format!("10.0.0.{node}:{port}");
    MemberInfo {
        member,
        peer_address: address(1),
        redis_address: address(2),
        cluster_address: address(3),
        http_address: address(4),
    }
}

fn machine(node: u64, now: Now) -> Machine {
    let boot = Boot {
        info: info(node),
        run: node,
        seed: node,
        stored_record: None,
        stored_clock_bound: None,
        stored_filling: None,
        stored_trees: StoredTrees::default(),
        stored_generation: None,
        stored_batch: None,
        founding_members: NODES,
        partitions: PartitionCount::DEFAULT,
        namespaces: Namespaces::new(&Namespace::new("0"), Vec::new()).expect("one namespace"),
        options: Options::default(),
    };
    let node = Node::new(now, boot).expect("boots");
    let out = vec![Vec::new(); NODES];
    Machine { node, inputs: Vec::new(), effects: Vec::new(), out }
}

impl Cluster {
    fn founded() -> Self {
        let now = Now { mono_ms: 1_000, wall_ms: 1_700_000_000_000 };
        let machines: Vec<_> = (1..).take(NODES).map(|node| machine(node, now)).collect();
        let mut cluster = Self { machines, now, answered: 0 };
        let hellos: Vec<_> = cluster.machines.iter().map(|machine| machine.node.hello()).collect();
        for (at, machine) in cluster.machines.iter_mut().enumerate() {
            let others = hellos.iter().enumerate().filter(|(other, _)| *other != at);
            machine.inputs.extend(others.map(|(_, hello)| Input::PeerUp(Box::new(hello.clone()))));
        }
        while cluster.machines.iter().any(|machine| machine.node.readiness().is_err()) {
            cluster.pass();
            cluster.now.mono_ms += 1;
            cluster.now.wall_ms += 1;
        }
        cluster
    }

    /// Every node turns once; what it sends is with its peers afterwards.
    fn pass(&mut self) {
        for at in 0..self.machines.len() {
            let machine = &mut self.machines[at];
            machine.node.turn(self.now, &mut machine.inputs, &mut machine.effects);
            for effect in machine.effects.drain(..) {
                match effect {
                    Effect::Commit(batch, _) => machine.inputs.push(Input::Durable(batch)),
                    Effect::Load(id, ..) => machine.inputs.push(Input::Loaded(id, Ok(None))),
                    Effect::List { id, .. } => {
                        let page = ListedPage { entries: Vec::new(), more: false };
                        machine.inputs.push(Input::Listed(id, Ok(page)));
                    }
                    Effect::Send(to, message) => {
                        let to = usize::try_from(to.0 - 1).expect("small");
                        wire::encode(&message, &mut machine.out[to]);
                    }
                    Effect::Reply(_, outcome) => {
                        assert!(!matches!(outcome, Outcome::Failed(_)), "{outcome:?}");
                        self.answered += 1;
                    }
                    Effect::Disconnect(..) | Effect::Adopted(_) | Effect::Halted(_) => {}
                }
            }
            for to in 0..self.machines.len() {
                let mut frames = Bytes::from(BytesMut::from(&self.machines[at].out[to][..]));
                self.machines[at].out[to].clear();
                while !frames.is_empty() {
                    let length = u32::from_be_bytes(frames[..4].try_into().expect("four bytes"));
                    let mut frame = frames.split_to(length as usize + wire::LENGTH_BYTES);
                    let body = frame.split_off(wire::LENGTH_BYTES);
                    let message = wire::decode(body).expect("a frame");
                    let from = NodeId(at as u64 + 1);
                    self.machines[to].inputs.push(Input::Peer(from, message));
                }
            }
        }
    }

    /// Clients of the first node ask `per_turn` requests at a time, `requests` in all.
    fn run(&mut self, requests: u64, per_turn: u64, request: impl Fn(u64) -> Request) {
        let mut asked = 0;
        self.answered = 0;
        while asked < requests {
            for _ in 0..per_turn {
                self.machines[0].inputs.push(Input::Request(RequestId(asked), request(asked)));
                asked += 1;
            }
            while self.answered < asked {
                self.pass();
            }
            // About what a loaded node sees.
            if asked % 64 == 0 {
                self.now.mono_ms += 1;
                self.now.wall_ms += 1;
            }
        }
    }
}

/// Time that this thread was on a processor, in nanoseconds: what else the machine does is left out.
fn processor_ns() -> u64 {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").expect("Linux");
    text.split(' ').next().and_then(|field| field.parse().ok()).expect("a number")
}

fn request(number: u64, action: Action) -> Request {
    let key = Bytes::from(format!("key:{:012}", number.wrapping_mul(7_919) % KEYS));
    Request { namespace: NamespaceId(0), key, action, r: None, w: None, timeout_ms: None }
}

/// What is measured, by a name of its own for `--toggle-collect`.
#[inline(never)]
fn measured(
    cluster: &mut Cluster,
    (requests, per_turn): (u64, u64),
    request: impl Fn(u64) -> Request,
) {
    cluster.run(requests, per_turn, request);
}

fn main() {
    let mut arguments = std::env::args().skip(1).filter(|argument| !argument.starts_with("--"));
    let only = arguments.next();
    let number = |text: Option<String>| text.and_then(|text| text.parse().ok());
    let (per_turn, requests) = (number(arguments.next()), number(arguments.next()));
    let requests = requests.unwrap_or(50_000);
    let value = Bytes::from(vec![7; VALUE_BYTES]);
    let set = |at| {
        let (value, expiry) = (Draft::new(&value), Expiry::Default);
        request(at, Action::Put { value, expiry, context: None })
    };
    let get = |at| request(at, Action::Get);
    let mut cluster = Cluster::founded();
    cluster.run(KEYS, 64, set);
    for name in
        ["set", "get"].into_iter().filter(|&name| only.as_deref().is_none_or(|only| only == name))
    {
        for per_turn in per_turn.map_or_else(|| vec![1, 16, 256], |per_turn| vec![per_turn]) {
            let before = processor_ns();
            if name == "set" {
                measured(&mut cluster, (requests, per_turn), set);
            } else {
                measured(&mut cluster, (requests, per_turn), get);
            }
            let each_ns = (processor_ns() - before) / requests;
            println!(
                "{name}, {per_turn:3} requests a turn: {each_ns:5} ns of processor time a request on all three nodes"
            );
        }
    }
}
