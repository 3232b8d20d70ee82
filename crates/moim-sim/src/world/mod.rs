//! The simulated world: machines, network, clients and faults, moved by one queue of events in one thread.
//!
//! Nothing here knows what a node should do. The world hands a real [`moim_node::Node`] what arrives, carries out the
//! effects, and writes down what clients asked and were told; `check` judges that afterwards.
//!
//! | module | concept |
//! |---|---|
//! | `queue` | what happens next |
//! | `server` | a machine and the node on it |
//! | `disk`, `clock`, `network` | what machines have, and how it fails |
//! | `delivery` | from an event to the node's turn, and from its effects to events |
//! | `clients` | requests on their way, and what comes back |
//! | `faults` | what goes wrong, and when it is mended |
//! | `holders` | who holds what is being acknowledged |
//! | `clocks` | whether owners' version vectors are small |
//! | `trees` | whether owners' Merkle trees are equal |
//! | `watch` | whether members that are heard are held down |

mod clients;
mod clock;
mod clocks;
mod delivery;
pub(crate) mod disk;
mod faults;
mod holders;
mod logged;
mod network;
mod old_disks;
mod queue;
#[cfg(test)]
mod scenarios;
mod server;
mod trees;
mod watch;

use bytes::Bytes;
use moim_core::NodeId;
use moim_core::quorum::Level;
use moim_node::api::ReadId;
use moim_node::membership::Hello;
use moim_node::message::Message;
use moim_node::namespace::{Conflict, Namespace, Namespaces};
use moim_node::options::Options;
use moim_node::{Input, Outcome, Request, RequestId};

use crate::history::{Moment, Operation};
use crate::plan::{Plan, Settings};
use crate::random::Random;
use crate::trace::Trace;
use crate::workload::Client;
use clock::Clock;
use faults::Sequel;
use network::{Connection, Link, Manners, Network};
use old_disks::OldDisks;
use queue::Queue;
use server::{Common, Server};
use watch::Watch;

/// The name of the namespace that keeps siblings.
pub(crate) const CARTS: &str = "carts";

/// The names of the same, with others that stand in for owners.
pub(crate) const SLOPPY: &str = "sloppy";
pub(crate) const SLOPPY_CARTS: &str = "sloppy-carts";

/// No run of a sane size needs more events; a node that asks to be woken without end would.
const EVENTS_MAX: u64 = 50_000_000;

/// Something that happens.
#[derive(Debug)]
enum Event {
    /// A node takes its inbox.
    Turn { node: usize, start: u32 },
    /// A node's timer is due.
    Wake { node: usize, start: u32 },
    /// A sync is over.
    Synced { node: usize, start: u32 },
    /// A read from disk is over.
    DiskRead { node: usize, start: u32, input: Box<Input> },
    /// A read from disk is over, and sees the disk as it is now.
    DiskReadNow { node: usize, start: u32, id: ReadId, key: (moim_storage::Family, Bytes) },
    /// A message arrives.
    Arrive { link: Link, connection: Connection, message: Box<Message> },
    /// A side learns that a connection stands.
    Up { node: usize, peer: usize, connection: Connection, hello: Box<Hello> },
    /// A side learns that a connection is gone.
    Down { node: usize, peer: usize, connection: Connection },
    /// A pair tries to connect.
    Dial { link: Link },
    /// A cut connection times out.
    Break { link: Link, connection: Connection },
    /// A request reaches its coordinator.
    Ask { operation: u64, request: Box<Request> },
    /// An answer reaches its client.
    Answer { operation: u64, outcome: Box<Outcome> },
    /// A client stops waiting.
    GiveUp { operation: u64 },
    /// A client makes its next request.
    Client { client: usize },
    /// Something goes wrong.
    Fault,
    /// A fault goes on or is mended.
    Sequel(Sequel),
    /// Disks compact.
    Compact,
}

/// Everything there is.
#[derive(Debug)]
pub(crate) struct World {
    pub(crate) plan: Plan,
    now_us: u64,
    steps: u64,
    queue: Queue<Event>,
    servers: Vec<Server>,
    common: Common,
    watch: Watch,
    network: Network,
    /// Pairs that were told not to dial before a time.
    banned_until_us: std::collections::BTreeMap<Link, u64>,
    clients: Vec<Client>,
    pub(crate) history: Vec<Operation>,
    /// Requests that clients may still make.
    budget: usize,
    /// Values written so far: the next one is new.
    values: u64,
    faults_on: bool,
    /// The power fails with the next acknowledgement that a client hears.
    power_cut_armed: bool,
    /// Nodes whose disks were lost or replaced, and that may not yet hold again what they held.
    failed_copies: std::collections::BTreeSet<usize>,
    old_disks: OldDisks,
    /// Deadlines up to here were past by more than the grace period when some disk compacted, in Unix milliseconds.
    reclaimed_ms: u64,
    /// Requests outside of the history so far, and the answer to the last.
    looks: u64,
    looked: Option<(u64, Outcome)>,
    /// Acknowledged writes that too few owners held at that moment: the request, how many held it, and how many must.
    pub(crate) unheld: Vec<(u64, u8, u8)>,
    /// When a disk was lost last.
    disk_lost_us: Option<u64>,
    /// What broke the world itself: a node that does not boot.
    pub(crate) broken: Option<String>,
    chance: Chance,
    /// How often each kind of fault struck.
    pub(crate) faults: std::collections::BTreeMap<&'static str, u64>,
    /// How often each other kind of thing happened.
    pub(crate) tally: std::collections::BTreeMap<&'static str, u64>,
    pub(crate) trace: Trace,
}

/// One stream per concern.
#[derive(Debug)]
struct Chance {
    turns: Random,
    disks: Random,
    dials: Random,
    faults: Random,
    clients: Random,
    rooms: Random,
}

impl World {
    /// Machines that are down, and clients that wait.
    pub(crate) fn new(settings: &Settings) -> Self {
        let random = Random::new(settings.seed);
        let plan = Plan::draw(settings, &mut random.fork("plan"));
        let (usual_us, longest_us) = plan.latency_us;
        let [loss, repetition, overtaking] = plan.shape.manners;
        let manners = Manners { usual_us, longest_us, loss, repetition, overtaking };
        let server = |(index, &(offset_ms, drift_ppm)): (usize, &(i64, i64))| {
            let clock = Clock::new(offset_ms, drift_ppm);
            let mut server = Server::new(index, clock, random.fork(&format!("server {index}")));
            if plan.logged {
                server.disk.keep_log(random.fork(&format!("log {index}")));
            }
            server
        };
        let options = plan.options(settings.mutation);
        let servers: Vec<_> = plan.clocks.iter().enumerate().map(server).collect();
        let lowest = servers.iter().map(Server::id).min().expect("a cluster has nodes");
        let namespaces = namespaces(&plan);
        let mut world = Self {
            now_us: 0,
            steps: 0,
            queue: Queue::new(),
            servers,
            common: Common { nodes: plan.nodes, namespaces, options, lowest },
            watch: Watch::default(),
            network: Network::new(random.fork("network"), manners),
            banned_until_us: std::collections::BTreeMap::new(),
            clients: Client::crew(&plan, &random.fork("crew")),
            history: Vec::new(),
            budget: settings.operations,
            values: 0,
            faults_on: false,
            power_cut_armed: false,
            failed_copies: std::collections::BTreeSet::new(),
            old_disks: OldDisks::default(),
            reclaimed_ms: 0,
            looks: 0,
            looked: None,
            unheld: Vec::new(),
            disk_lost_us: None,
            broken: None,
            chance: Chance {
                turns: random.fork("turns"),
                disks: random.fork("disks"),
                dials: random.fork("dials"),
                faults: random.fork("faults"),
                clients: random.fork("clients"),
                rooms: random.fork("rooms"),
            },
            faults: std::collections::BTreeMap::new(),
            tally: std::collections::BTreeMap::new(),
            trace: if settings.trace { Trace::kept() } else { Trace::dropped() },
            plan,
        };
        world.begin();
        world
    }

    /// What nodes are told.
    pub(crate) fn options(&self) -> &Options {
        &self.common.options
    }

    /// Others than usual make the requests.
    pub(crate) fn set_clients(&mut self, clients: Vec<Client>) {
        self.clients = clients;
    }

    /// Plans that every machine starts and every pair dials.
    fn begin(&mut self) {
        self.trace.line(0, format_args!("{:?}", self.plan));
        for node in 0..self.servers.len() {
            let at_us = self.chance.faults.between(0, 300_000);
            self.queue.plan(at_us, Event::Sequel(Sequel::Start(node)));
            for peer in node + 1..self.servers.len() {
                self.queue.plan(at_us, Event::Dial { link: (node, peer) });
            }
        }
        self.queue.plan(1_000_000, Event::Compact);
    }

    /// True time, in microseconds.
    pub(crate) fn now_us(&self) -> u64 {
        self.now_us
    }

    /// Now, as histories say it.
    fn moment(&self) -> Moment {
        Moment { at_us: self.now_us, step: self.steps }
    }

    /// Lets things happen until `done`, but no longer than `limit_us`; answers whether it came to that.
    pub(crate) fn run_until(&mut self, limit_us: u64, mut done: impl FnMut(&Self) -> bool) -> bool {
        let end_us = self.now_us + limit_us;
        while self.broken.is_none() && !done(self) {
            if self.queue.next_us().is_none_or(|next_us| next_us > end_us) {
                self.now_us = end_us;
                return done(self);
            }
            self.step();
        }
        self.broken.is_none()
    }

    fn step(&mut self) {
        let Some((at_us, event)) = self.queue.next() else { return };
        assert!(at_us >= self.now_us, "time went backwards");
        self.now_us = at_us;
        self.steps += 1;
        self.look_around();
        if self.steps > EVENTS_MAX {
            self.broken = Some(format!("more than {EVENTS_MAX} events: something never rests"));
        }
        self.happen(event);
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Turn { node, start } => self.turn(node, start),
            Event::Wake { node, start } => self.wake(node, start),
            Event::Synced { node, start } => self.synced(node, start),
            Event::DiskRead { node, start, input } => self.disk_read(node, start, *input),
            Event::DiskReadNow { node, start, id, key } => {
                self.disk_read_now(node, start, id, &key);
            }
            Event::Arrive { link, connection, message } => self.arrive(link, connection, *message),
            Event::Up { node, peer, connection, hello } => self.up(node, peer, connection, *hello),
            Event::Down { node, peer, connection } => self.down(node, peer, connection),
            Event::Dial { link } => self.dial(link),
            Event::Break { link, connection } => self.break_off(link, connection),
            Event::Ask { operation, request } => self.ask(operation, *request),
            Event::Answer { operation, outcome } => self.answer(operation, *outcome),
            Event::GiveUp { operation } => self.give_up(operation),
            Event::Client { client } => self.client(client),
            Event::Fault => self.fault(),
            Event::Sequel(sequel) => self.sequel(sequel),
            Event::Compact => self.compact(),
        }
    }

    fn count(&mut self, what: &'static str) {
        *self.tally.entry(what).or_default() += 1;
    }

    fn count_fault(&mut self, what: &'static str) {
        *self.faults.entry(what).or_default() += 1;
    }

    /// Adds what became of messages to the faults.
    pub(crate) fn count_spoilt(&mut self) {
        let names = ["messages lost", "messages repeated", "messages overtaken"];
        for (name, count) in names.into_iter().zip(self.network.spoilt).filter(|of| of.1 > 0) {
            self.faults.insert(name, count);
        }
    }

    /// The machine of a node.
    fn index_of(&self, id: NodeId) -> Option<usize> {
        self.servers.iter().position(|server| server.id() == id)
    }

    /// Whether every node runs and serves, and is connected with every other.
    pub(crate) fn is_ready(&self) -> bool {
        let count = self.servers.len();
        self.servers.iter().all(|server| {
            let serves = server.node.as_ref().is_some_and(|node| node.readiness().is_ok());
            serves && server.peers.len() + 1 == count
        })
    }

    /// Copies that nodes still owe to owners, or keep for them.
    pub(crate) fn owed(&self) -> u64 {
        self.nodes().map(|node| node.figures().tasks + node.figures().hints).sum()
    }

    /// Objects that nodes keep for owners that were away.
    pub(crate) fn hints(&self) -> u64 {
        self.nodes().map(|node| node.figures().hints).sum()
    }

    /// Copies that nodes gave up for lack of room.
    pub(crate) fn copies_given_up(&self) -> u64 {
        self.nodes().map(|node| node.figures().tasks_dropped).sum()
    }

    /// Nodes that run.
    pub(crate) fn nodes(&self) -> impl Iterator<Item = &moim_node::Node> {
        self.servers.iter().filter_map(|server| server.node.as_ref())
    }

    /// The most that any node's clock shows, in Unix milliseconds.
    pub(crate) fn wall_ms_max(&self) -> u64 {
        (0..self.servers.len()).map(|node| self.wall_ms(node)).max().unwrap_or(0)
    }

    /// Unix milliseconds that a node's clock shows.
    pub(crate) fn wall_ms(&self, index: usize) -> u64 {
        self.servers[index].clock.wall_ms(self.now_us)
    }
}

/// The numbered namespaces, and one with siblings, and both once more but sloppy, all at the levels of the plan.
fn namespaces(plan: &Plan) -> Namespaces {
    let numbered = Namespace {
        n: plan.shape.n,
        r: Level::Count(plan.shape.r),
        w: Level::Count(plan.shape.w),
        sloppy: false,
        ..Namespace::new("0")
    };
    let named = |name: &str, conflict, sloppy| {
        let name = name.to_owned();
        Namespace { name, conflict, sloppy, ..numbered.clone() }
    };
    let all = vec![
        named(CARTS, Conflict::Siblings, false),
        named(SLOPPY, Conflict::Lww, true),
        named(SLOPPY_CARTS, Conflict::Siblings, true),
    ];
    Namespaces::new(&numbered, all).expect("namespaces that can be told apart")
}

/// A request by its number in the history.
fn request_id(operation: u64) -> RequestId {
    RequestId(operation)
}
