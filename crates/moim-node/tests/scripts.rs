//! Scripts: one behaviour a file in `tests/scripts`, commands with the output that was recorded, readable as
//! documentation. `MOIM_RECORD=1 cargo test -p moim-node --test scripts` records anew; read the difference before you
//! keep it.
//!
//! A script drives real nodes over a network and disks that do what they are told: everything is delivered and synced
//! at once, unless a script holds it.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on should stop where it stands")]

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt::Write as _;

use bytes::Bytes;
use moim_core::clock::VersionVector;
use moim_core::object::{Context, Version};
use moim_core::quorum::Level;
use moim_core::ring::{Member, PartitionCount};
use moim_core::{MachineId, NamespaceId, NodeId};
use moim_node::anti_entropy::{Ask, Repair};
use moim_node::api::{
    Action, BatchId, Copy, DiskRoom, Effect, Expiry, Failure, Input, NotReady, Outcome, Request,
};
use moim_node::keyspace::{StoredTrees, TREES_END};
use moim_node::membership::MemberInfo;
use moim_node::message::Message;
use moim_node::namespace::{Conflict, Namespace, Namespaces};
use moim_node::options::Options;
use moim_node::update::{Condition, Reply, Update};
use moim_node::{Boot, Node, Now, RequestId};
use moim_storage::memory::MemoryEngine;
use moim_storage::{Durability, Engine, Family, PageLimit};

const START_MS: u64 = 1_000_000;

struct Machine {
    node: Option<Node>,
    disk: MemoryEngine,
    /// Batches handed over and not yet synced.
    unsynced: VecDeque<(BatchId, moim_storage::Batch)>,
    holds_disk: bool,
    skew_ms: i64,
    inputs: Vec<Input>,
    starts: u64,
}

struct World {
    machines: BTreeMap<u64, Machine>,
    time_ms: u64,
    cut: BTreeSet<(u64, u64)>,
    network: VecDeque<(u64, u64, Message)>,
    next_request: u64,
    answers: BTreeMap<RequestId, Outcome>,
    contexts: BTreeMap<String, Context>,
    /// Old copies of disks.
    backups: BTreeMap<u64, MemoryEngine>,
    options: Options,
    /// Nodes on each machine, by their numbers.
    shards: u64,
    trace: bool,
    /// Bytes of comparisons on the wire.
    exchanged_bytes: usize,
    out: String,
}

fn info(node: u64, machine: u64) -> MemberInfo {
    let member = Member {
        node: NodeId(node),
        machine: MachineId(machine),
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

fn namespaces() -> Namespaces {
    let carts = Namespace { conflict: Conflict::Siblings, sloppy: true, ..Namespace::new("carts") };
    Namespaces::new(&Namespace::new("0"), vec![carts, Namespace::new("strict")])
        .expect("names that can be told apart")
}

impl World {
    /// So many machines, each of so many nodes.
    fn new((machines, shards): (u64, u64), options: Options) -> Self {
        let count = machines * shards;
        let mut world = Self {
            machines: BTreeMap::new(),
            time_ms: START_MS,
            cut: BTreeSet::new(),
            network: VecDeque::new(),
            next_request: 0,
            answers: BTreeMap::new(),
            contexts: BTreeMap::new(),
            backups: BTreeMap::new(),
            options,
            shards,
            trace: false,
            exchanged_bytes: 0,
            out: String::new(),
        };
        for id in 1..=count {
            let machine = Machine {
                node: None,
                disk: MemoryEngine::new(None),
                unsynced: VecDeque::new(),
                holds_disk: false,
                skew_ms: 0,
                inputs: Vec::new(),
                starts: 0,
            };
            world.machines.insert(id, machine);
        }
        for id in 1..=count {
            world.start(id);
        }
        world.settle();
        world
    }

    fn now(&self, id: u64) -> Now {
        let wall_ms = self.time_ms.saturating_add_signed(self.machines[&id].skew_ms);
        Now { mono_ms: self.time_ms, wall_ms }
    }

    fn start(&mut self, id: u64) {
        let now = self.now(id);
        let founding_members = self.machines.len();
        let machine = self.machines.get_mut(&id).expect("known");
        machine.starts += 1;
        let stored =
            |key: &[u8]| machine.disk.get(Family::Meta, key).expect("memory does not fail");
        let mut stored_trees = StoredTrees::default();
        let everything = PageLimit { entries_max: usize::MAX, bytes_max: usize::MAX };
        let page = machine.disk.scan(Family::Trees, &b""[..]..&TREES_END, everything);
        stored_trees.add(&page.expect("memory does not fail").entries).expect("well formed");
        let boot = Boot {
            info: info(id, (id - 1) / self.shards + 1),
            run: id * 0x10 + machine.starts,
            seed: id,
            stored_record: stored(moim_node::keyspace::META_RECORD),
            stored_clock_bound: stored(moim_node::keyspace::META_CLOCK_BOUND),
            stored_filling: stored(moim_node::keyspace::META_FILLING),
            stored_trees,
            stored_generation: stored(moim_node::keyspace::META_GENERATION),
            stored_batch: stored(moim_node::keyspace::META_BATCH),
            founding_members,
            partitions: PartitionCount::new(256).expect("a power of two"),
            namespaces: namespaces(),
            options: self.options.clone(),
        };
        machine.node = Some(Node::new(now, boot).expect("boots"));
        let others: Vec<u64> = self.machines.keys().copied().filter(|&other| other != id).collect();
        for other in others {
            self.connect(id, other);
        }
    }

    fn connect(&mut self, a: u64, b: u64) {
        if self.cut.contains(&(a, b)) || self.cut.contains(&(b, a)) {
            return;
        }
        let hello = |id: u64| self.machines[&id].node.as_ref().map(Node::hello);
        let (Some(hello_a), Some(hello_b)) = (hello(a), hello(b)) else { return };
        self.input(b, Input::PeerUp(Box::new(hello_a)));
        self.input(a, Input::PeerUp(Box::new(hello_b)));
    }

    fn input(&mut self, id: u64, input: Input) {
        self.machines.get_mut(&id).expect("known").inputs.push(input);
    }

    fn turn(&mut self, id: u64) {
        let now = self.now(id);
        let machine = self.machines.get_mut(&id).expect("known");
        let mut inputs = std::mem::take(&mut machine.inputs);
        let Some(node) = &mut machine.node else { return };
        let mut effects = Vec::new();
        node.turn(now, &mut inputs, &mut effects);
        for effect in effects {
            self.apply(id, effect);
        }
    }

    fn apply(&mut self, id: u64, effect: Effect) {
        let machine = self.machines.get_mut(&id).expect("known");
        match effect {
            Effect::Commit(batch, writes) => machine.unsynced.push_back((batch, writes)),
            Effect::Load(read, family, key) => {
                let found = machine.disk.get(family, &key).expect("memory does not fail");
                machine.inputs.push(Input::Loaded(read, Ok(found)));
            }
            Effect::List { id: read, family, from, to, limit } => {
                let limit = PageLimit { entries_max: limit, bytes_max: 1 << 20 };
                let page =
                    machine.disk.scan(family, &from..&to, limit).expect("memory does not fail");
                let page = moim_node::api::ListedPage { entries: page.entries, more: page.more };
                machine.inputs.push(Input::Listed(read, Ok(page)));
            }
            Effect::Send(to, message) => self.network.push_back((id, to.0, message)),
            Effect::Reply(request, outcome) => {
                self.answers.insert(request, outcome);
            }
            Effect::Disconnect(peer, why) => {
                writeln!(self.out, "{id} disconnects {}: {why}", peer.0).unwrap();
            }
            Effect::Adopted(_) => {}
            Effect::Halted(why) => writeln!(self.out, "{id} halts: {why}").unwrap(),
        }
    }

    /// Syncs, delivers and turns until nothing is left to do.
    fn settle(&mut self) {
        loop {
            let ids: Vec<u64> = self.machines.keys().copied().collect();
            for &id in &ids {
                self.sync(id);
                self.turn(id);
            }
            while let Some((from, to, message)) = self.network.pop_front() {
                if self.cut.contains(&(from, to)) {
                    continue;
                }
                if let Message::Exchange { .. } | Message::ExchangeReply { .. } = message {
                    let mut frame = Vec::new();
                    moim_node::wire::encode(&message, &mut frame);
                    self.exchanged_bytes += frame.len();
                }
                if self.trace
                    && !matches!(message, Message::Ping | Message::Pong | Message::Gossip(_))
                {
                    writeln!(self.out, "  {from} -> {to} {}", name(&message)).unwrap();
                }
                self.input(to, Input::Peer(NodeId(from), message));
            }
            let busy = |machine: &Machine| {
                machine.node.is_some()
                    && (!machine.inputs.is_empty()
                        || (!machine.unsynced.is_empty() && !machine.holds_disk))
            };
            if self.network.is_empty() && !self.machines.values().any(busy) {
                return;
            }
        }
    }

    fn sync(&mut self, id: u64) {
        let machine = self.machines.get_mut(&id).expect("known");
        if machine.holds_disk {
            return;
        }
        let groups: Vec<_> = machine.unsynced.drain(..).collect();
        let Some(last) = groups.last().map(|(batch, _)| *batch) else { return };
        let batches: Vec<_> = groups.into_iter().map(|(_, writes)| writes).collect();
        machine.disk.apply(&batches, Durability::Synced).expect("memory does not fail");
        machine.inputs.push(Input::Durable(last));
    }

    /// Lets time pass, in steps that no timer outruns.
    fn pass(&mut self, ms: u64) {
        for _ in 0..ms.div_ceil(10) {
            self.time_ms += 10;
            self.settle();
        }
    }

    fn crash(&mut self, id: u64) {
        let machine = self.machines.get_mut(&id).expect("known");
        machine.node = None;
        machine.unsynced.clear();
        machine.inputs.clear();
        let others: Vec<u64> = self.machines.keys().copied().filter(|&other| other != id).collect();
        for other in others {
            self.input(other, Input::PeerDown(NodeId(id)));
        }
    }

    fn request(&mut self, node: u64, request: Request) -> String {
        self.next_request += 1;
        let id = RequestId(self.next_request);
        let key = String::from_utf8_lossy(&request.key).into_owned();
        self.input(node, Input::Request(id, request));
        self.settle();
        match self.answers.remove(&id) {
            Some(outcome) => self.show(&key, outcome),
            None => format!("(no answer yet to #{})", id.0),
        }
    }

    /// Reads keys in one turn.
    fn get_together(&mut self, node: u64, keys: &[&str]) -> String {
        let first = self.next_request + 1;
        for key in keys {
            self.next_request += 1;
            let request = Request {
                namespace: NamespaceId::of_name("0"),
                key: Bytes::copy_from_slice(key.as_bytes()),
                action: Action::Get,
                r: None,
                w: None,
                timeout_ms: None,
            };
            self.input(node, Input::Request(RequestId(self.next_request), request));
        }
        self.settle();
        let ids = first..=self.next_request;
        let show = |(id, key): (u64, &&str)| {
            let outcome = self.answers.remove(&RequestId(id)).expect("an answer");
            self.show(key, outcome)
        };
        let answers: Vec<_> = ids.zip(keys).map(show).collect();
        answers.join(", ")
    }

    fn show(&mut self, key: &str, outcome: Outcome) -> String {
        match outcome {
            Outcome::Found(found) => {
                let seen = found.context.is_some();
                if let Some(context) = found.context {
                    self.contexts.insert(key.to_owned(), context);
                }
                let values: Vec<_> = found.versions.iter().map(text).collect();
                if values.is_empty() {
                    format!("(nothing{})", if seen { ", but written once" } else { "" })
                } else {
                    values.join(" | ")
                }
            }
            Outcome::Written { context, .. } => {
                self.contexts.insert(format!("{key}'"), context);
                "written".to_owned()
            }
            Outcome::Updated(Reply::Integer(number)) => number.to_string(),
            Outcome::Updated(Reply::Value(value)) => {
                format!("{:?}", value.map(|v| String::from_utf8_lossy(&v).into_owned()))
            }
            Outcome::Updated(Reply::Set { applied, previous }) => {
                format!(
                    "applied {applied}, before {:?}",
                    previous.map(|v| String::from_utf8_lossy(&v).into_owned())
                )
            }
            Outcome::Inspected(inspection) => {
                let copy = |(node, copy): (NodeId, Copy)| match copy {
                    Copy::Missing => format!("{} missing", node.0),
                    Copy::Held(_, versions) => format!("{} holds {}", node.0, versions.len()),
                    Copy::Unknown(why) => format!("{} unknown: {why}", node.0),
                };
                inspection.copies.into_iter().map(copy).collect::<Vec<_>>().join(", ")
            }
            Outcome::Keys(page) => {
                let keys: Vec<_> =
                    page.keys.iter().map(|key| String::from_utf8_lossy(key).into_owned()).collect();
                format!("{keys:?}")
            }
            Outcome::Failed(Failure::Unavailable { level, needed, got, missing, .. }) => {
                let missing: Vec<_> =
                    missing.iter().map(|(node, why)| format!("{} {why}", node.0)).collect();
                format!("unavailable: {level} needs {needed}, got {got}; {}", missing.join(", "))
            }
            Outcome::Failed(failure) => format!("failed: {failure:?}"),
        }
    }

    fn set_room(&mut self, node: u64, word: &str) {
        let rooms = [DiskRoom::Enough, DiskRoom::Low, DiskRoom::Exhausted];
        let room = rooms.into_iter().find(|room| room.to_string() == word).expect("a room");
        self.input(node, Input::DiskRoom(room));
        self.settle();
    }

    /// Runs one command line and returns its output.
    fn command(&mut self, line: &str) -> String {
        let words: Vec<&str> = line.split_whitespace().collect();
        let (options, words): (Vec<&str>, Vec<&str>) =
            words.into_iter().partition(|word| word.contains('='));
        let option = |name: &str| {
            options.iter().find_map(|option| option.strip_prefix(name)?.strip_prefix('='))
        };
        let node = |at: usize| words[at].parse::<u64>().expect("a node");
        match words[0] {
            "trace" => self.trace = words[1] == "on",
            "pass" => self.pass(words[1].parse().expect("milliseconds")),
            "crash" => {
                self.crash(node(1));
                self.settle();
            }
            "start" => {
                self.start(node(1));
                self.settle();
            }
            "stop" => {
                self.input(node(1), Input::Stop);
                self.settle();
            }
            "lose-disk" => {
                self.machines.get_mut(&node(1)).expect("known").disk = MemoryEngine::new(None);
            }
            "copy-disk" => {
                let copy = self.machines[&node(1)].disk.contents_clone();
                self.backups.insert(node(1), copy);
            }
            "put-back-disk" => {
                let copy = self.backups.remove(&node(1)).expect("copied before");
                self.machines.get_mut(&node(1)).expect("known").disk = copy;
            }
            "hold-disk" => self.machines.get_mut(&node(1)).expect("known").holds_disk = true,
            "free-disk" => {
                self.machines.get_mut(&node(1)).expect("known").holds_disk = false;
                self.settle();
            }
            "room" => self.set_room(node(1), words[2]),
            "skew" => {
                self.machines.get_mut(&node(1)).expect("known").skew_ms =
                    words[2].parse().expect("ms");
            }
            "hang" => {
                self.cut.insert((node(1), node(2)));
                self.cut.insert((node(2), node(1)));
            }
            "cut" => {
                self.cut.insert((node(1), node(2)));
                self.cut.insert((node(2), node(1)));
                self.input(node(1), Input::PeerDown(NodeId(node(2))));
                self.input(node(2), Input::PeerDown(NodeId(node(1))));
                self.settle();
            }
            "heal" => {
                self.cut.remove(&(node(1), node(2)));
                self.cut.remove(&(node(2), node(1)));
                self.connect(node(1), node(2));
                self.settle();
            }
            "answer" => {
                let id = RequestId(words[1].trim_start_matches('#').parse().expect("a number"));
                return match self.answers.remove(&id) {
                    Some(outcome) => self.show("?", outcome),
                    None => "(none)".to_owned(),
                };
            }
            _ => return self.look(&words, &option),
        }
        String::new()
    }

    /// Every start of a node is another coordinator: each writes a cart, knowing what went before.
    fn generations(&mut self, key: &str, count: u64) {
        for number in 0..count {
            let id = 1 + number % 3;
            self.crash(id);
            self.start(id);
            self.pass(200);
            let id = id.to_string();
            self.ask(&["get", &id, key], &|name| (name == "ns").then_some("carts"));
            let known = |name: &str| match name {
                "ns" => Some("carts"),
                "context" => Some(key),
                _ => None,
            };
            self.ask(&["put", &id, key, &format!("v{number}")], &known);
        }
    }

    /// What a node shows of itself, and repairs, which show their end.
    fn look<'a>(&mut self, words: &[&str], option: &impl Fn(&str) -> Option<&'a str>) -> String {
        let node: u64 = words.get(1).and_then(|word| word.parse().ok()).unwrap_or(0);
        match words[0] {
            "members" => return self.members(node),
            "hints" => return self.hints(node),
            "repair" => {
                self.input(node, Input::Repair(Repair::default()));
                self.settle();
                return self.repairs(node);
            }
            "repairs" => return self.repairs(node),
            "gets" => return self.get_together(node, &words[2..]),
            "ready" => {
                let node = self.machines[&node].node.as_ref().expect("up");
                return match node.readiness() {
                    Ok(()) => "ready".to_owned(),
                    Err(Failure::NotReady(NotReady::Filling { filled, partitions })) => {
                        format!("not ready: filling {filled} of {partitions}")
                    }
                    Err(failure) => format!("{failure:?}"),
                };
            }
            "exchanged" => {
                let bytes = std::mem::take(&mut self.exchanged_bytes);
                return format!("{bytes} bytes");
            }
            "forgotten" => {
                let figures = self.machines[&node].node.as_ref().expect("up").figures();
                return format!(
                    "{} forgotten, {} refused, {} pairs pruned",
                    figures.forgotten, figures.forgotten_refused, figures.clock_pairs_pruned
                );
            }
            "settled" => {
                let view = self.machines[&node].node.as_ref().expect("up").settled_view();
                let waits = view.held_back_by.map(|node| format!(", waits for {}", node.0));
                let lag = if view.lag_ms > 100_000 { "long ago" } else { "soon" };
                return format!("settled {lag}{}", waits.unwrap_or_default());
            }
            "pairs" => {
                let context = match &self.contexts[words[2]] {
                    Context::Siblings(vector) => vector.len(),
                    Context::Lww(_) => 0,
                };
                return format!("{context} pairs");
            }
            "generations" => self.generations(words[2], words[3].parse().expect("a number")),
            "many" => {
                for number in 0..words[2].parse::<u64>().expect("a number") {
                    let key = format!("key-{number}");
                    self.ask(&["put", words[1], &key, "value"], option);
                }
            }
            "tasks" => {
                return format!(
                    "{} owed",
                    self.machines[&node].node.as_ref().expect("up").figures().tasks
                );
            }
            _ => return self.ask(words, option),
        }
        String::new()
    }

    /// The last repair of a node.
    fn repairs(&self, id: u64) -> String {
        let (_, repairs) = self.machines[&id].node.as_ref().expect("up").repairs();
        let Some(last) = repairs.last() else { return "(none)".to_owned() };
        let ended = if last.ended_mono_ms.is_some() { "done" } else { "running" };
        format!(
            "{ended}: {}/{} peers, {}/{} partitions, {} keys",
            last.peers_done, last.peers, last.partitions_done, last.partitions, last.keys
        )
    }

    /// What a node knows of the members: how each is, and who reports it.
    fn members(&self, node: u64) -> String {
        let node = self.machines[&node].node.as_ref().expect("up");
        let describe = |member: moim_node::views::MemberView| {
            let reporters: Vec<_> =
                member.reporters.iter().map(|reporter| reporter.0.to_string()).collect();
            let reported = if reporters.is_empty() { "" } else { ", reported by " };
            let reporters = reporters.join(" and ");
            format!("{} {:?}{reported}{reporters}", member.info.member.node.0, member.state)
        };
        node.members().into_iter().map(describe).collect::<Vec<_>>().join("; ")
    }

    /// What a node keeps for others, and how many records it has on disk.
    fn hints(&self, id: u64) -> String {
        let machine = &self.machines[&id];
        let records = |family| {
            let limit = PageLimit { entries_max: 100, bytes_max: 1 << 20 };
            let (from, to) = (Bytes::new(), Bytes::from_static(&[0xff; 4]));
            let page = machine.disk.scan(family, &from..&to, limit);
            page.expect("memory does not fail").entries.len()
        };
        let (data, hints) = (records(Family::Data), records(Family::Hints));
        let disk = format!("on disk {data} objects, {hints} hints");
        let Some(node) = &machine.node else { return disk };
        let waits = |peer: &moim_node::views::PeerView| {
            let hints = peer.hints;
            (hints > 0).then(|| format!("{hints} for {}", peer.info.member.node.0))
        };
        let waiting: Vec<_> = node.peers().iter().filter_map(waits).collect();
        let kept = node.figures().hints;
        format!("keeps {kept} ({}); {disk}", waiting.join(", "))
    }

    fn ask<'a>(&mut self, words: &[&str], option: &impl Fn(&str) -> Option<&'a str>) -> String {
        let node: u64 = words[1].parse().expect("a node");
        let level = |name: &str| option(name).map(|text| text.parse::<Level>().expect("a level"));
        let bytes = |text: &str| Bytes::copy_from_slice(text.as_bytes());
        let context = option("context").map(|name| match name {
            "none" => Context::Siblings(VersionVector::new()),
            name => self.contexts[name].clone(),
        });
        let ttl = option("ttl").map(|ms| self.time_ms + ms.parse::<u64>().expect("ms"));
        let expiry = ttl.map_or(Expiry::Default, Expiry::At);
        let key = words.get(2).copied().unwrap_or_default();
        let action = match words[0] {
            "get" => Action::Get,
            "put" => Action::Put { value: bytes(words[3]).into(), expiry, context },
            "del" => Action::Delete { context },
            "incr" => Action::Update(Update::Add(1)),
            "setnx" => Action::Update(Update::Set {
                value: bytes(words[3]),
                expiry: Some(expiry),
                condition: Condition::IfMissing,
            }),
            "getdel" => Action::Update(Update::Delete),
            "append" => Action::Update(Update::Append(bytes(words[3]))),
            "inspect" => Action::Inspect,
            "keys" => {
                let count = PartitionCount::new(256).expect("a power of two");
                let partition = count.of(moim_core::ring::Slot::of_key(key.as_bytes()));
                Action::Keys { partition, from_hash: 0, limit: 100 }
            }
            other => panic!("no command '{other}'"),
        };
        let namespace = NamespaceId::of_name(option("ns").unwrap_or("0"));
        let request = Request {
            namespace,
            key: bytes(key),
            action,
            r: level("r"),
            w: level("w"),
            timeout_ms: None,
        };
        self.request(node, request)
    }
}

fn text(version: &Version) -> String {
    String::from_utf8_lossy(version.value().expect("live")).into_owned()
}

fn name(message: &Message) -> String {
    let text = format!("{message:?}");
    let end = text.find([' ', '{', '(']).unwrap_or(text.len());
    let detail = match message {
        Message::WriteReply { result, .. } => {
            format!(" {}", format!("{result:?}").split('(').next().unwrap_or(""))
        }
        Message::Read { want, .. } => format!(" {want:?}"),
        Message::Exchange { ask, .. } => match &**ask {
            Ask::Spans(spans) => format!(" {} spans", spans.len()),
            ask => format!(" {}", format!("{ask:?}").split(['(', ' ']).next().unwrap_or("")),
        },
        _ => String::new(),
    };
    format!("{}{detail}", &text[..end])
}

fn run(script: &str) -> String {
    let mut world = None;
    let mut out = String::new();
    for line in script.lines() {
        let Some(command) = line.strip_prefix("> ") else {
            if line.starts_with('#') || line.is_empty() {
                writeln!(out, "{line}").unwrap();
            }
            continue;
        };
        writeln!(out, "> {command}").unwrap();
        if let Some(count) = command.strip_prefix("nodes ") {
            let (count, hints_bytes_max) = count.split_once(" hints_bytes_max=").unzip();
            // What is only looked at would stand between the messages that matter.
            let mut options = Options { freshness_one_in: 0, ..Options::default() };
            if let Some(bytes) = hints_bytes_max {
                options.hints_bytes_max = bytes.parse().expect("a number");
            }
            let count = count.unwrap_or_else(|| &command["nodes ".len()..]);
            // Three machines of two nodes are `3x2`.
            let (machines, shards) = count.split_once('x').unwrap_or((count, "1"));
            let number = |text: &str| text.parse().expect("a number");
            world = Some(World::new((number(machines), number(shards)), options));
            continue;
        }
        let world = world.as_mut().expect("a script begins with 'nodes'");
        let answer = world.command(command);
        let said = std::mem::take(&mut world.out);
        out.push_str(&said);
        if !answer.is_empty() {
            writeln!(out, "{answer}").unwrap();
        }
    }
    out
}

#[test]
fn every_script_says_what_was_recorded() {
    let directory = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/scripts");
    let mut paths: Vec<_> =
        std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    assert!(!paths.is_empty(), "no scripts were found");
    let record = std::env::var_os("MOIM_RECORD").is_some();
    for path in paths {
        let script = std::fs::read_to_string(&path).unwrap();
        let output = run(&script);
        if record {
            std::fs::write(&path, &output).unwrap();
        } else {
            assert!(output == script, "{} says now:\n{output}", path.display());
        }
    }
}
