//! The doors for clients: two Redis ports, which share a limit of connections, and HTTP.
//!
//! Of a server's nodes the first has the port of Redis clients, and deals their connections out, one each in turn. So
//! that all have the same number, which a socket for each (`SO_REUSEPORT`) leaves to a hash of addresses; and only one
//! process can have the port. It has the HTTP port as well, and asks the others for what they alone know.

use std::cell::Cell;
use std::net::{Shutdown, TcpListener};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use moim_node::Node;
use moim_node::membership::Hello;
use socket2::SockRef;
use tokio::net::TcpStream;
use tokio::sync::{Notify, mpsc};
use tokio::task::{AbortHandle, spawn_local};

use super::accept::{self, accept_forever};
use super::error::ServerError;
use super::listeners::{Shared, again};
use super::session::Session;
use crate::config::Memory;
use crate::handle::NodeHandle;
use crate::http::metrics::{Metric, count};
use crate::http::{self, Errand, Requests};
use crate::inbox::Mailbox;
use crate::memory::Ledger;
use crate::resp::{Front, Port, RespSettings};
use crate::shards::{ON_THEIR_WAY_MAX, Seat, Shard};

/// How often it is looked whether all clients have gone.
const LOOK: Duration = Duration::from_millis(5);

/// Open doors.
pub(super) struct Clients {
    redis: Vec<Door>,
    front: Rc<Front>,
    close_http: Rc<Notify>,
    http: Option<TcpListener>,
}

/// Where what the first node hands over arrives.
pub(super) struct Desk {
    clients: mpsc::Receiver<std::net::TcpStream>,
    errands: mpsc::Receiver<Errand>,
}

impl Desk {
    /// A desk, and how others reach it and its node.
    pub(super) fn new(hello: Hello, mailbox: Arc<Mailbox>) -> (Self, Seat) {
        let (clients, clients_arrive) = mpsc::channel(ON_THEIR_WAY_MAX);
        let (errands, errands_arrive) = mpsc::channel(ON_THEIR_WAY_MAX);
        let desk = Self { clients: clients_arrive, errands: errands_arrive };
        (desk, Seat { hello, mailbox, clients, errands })
    }
}

/// A port of Redis clients.
struct Door {
    accepting: AbortHandle,
    /// The same socket: the server keeps it open in case that the node begins anew, so it has to be shut by name.
    listener: TcpListener,
}

impl Door {
    /// Whoever connects from now on is told so at once, and not when this process ends: until then the system would go
    /// on letting clients in, whose first command nobody reads.
    fn close(&self) {
        self.accepting.abort();
        shut(&self.listener);
    }
}

/// Ends listening.
fn shut(listener: &TcpListener) {
    // It can fail only if it has ended already.
    drop(SockRef::from(listener).shutdown(Shutdown::Both));
}

impl Clients {
    /// Lets clients in: at the node's own port, at those of all nodes if it has them, and over the desk.
    pub(super) fn open(
        session: &Session,
        (shared, cluster): (Option<Shared>, TcpListener),
        desk: Desk,
    ) -> Result<Self, ServerError> {
        let front = Front::new(session.handle.clone(), RespSettings::from(&session.config));
        let ledger = Ledger::new(
            Memory::of(&session.config.node),
            session.handle.clone(),
            &session.engine,
            Rc::clone(&session.links),
        );
        front.memory.set(ledger.clone()).expect("it is said once");
        front.shard.set(session.shard.clone()).expect("it is said once");
        let max = session.config.node.redis_connections_max;
        let room = Rc::new(Room { taken: Cell::new(0), max });
        let (redis, http) = shared.map(|shared| (shared.redis, shared.http)).unzip();
        let handle = &session.handle;
        let to_cluster = seated(Port::Cluster, &front, &room);
        let mut doors = vec![open_door(handle, cluster, "cluster", to_cluster)?];
        let serve = seated(Port::Plain, &front, &room);
        if let Some(redis) = redis {
            let dealt_out = dealt_out(session.shard.clone(), serve.clone());
            doors.push(open_door(handle, redis, "redis", dealt_out)?);
        }
        spawn_local(receive(desk.clients, serve));
        let close_http = Rc::<Notify>::default();
        let closed = Rc::clone(&close_http);
        let counted = Rc::downgrade(&front);
        let memory = move || {
            let clients = counted.upgrade().map_or(0, |front| front.counted().buffers_bytes);
            ledger.metrics(clients)
        };
        let context = Rc::new(http_context(session, memory));
        let serving = http.as_ref().map(|http| accept::adopt(again(http)?)).transpose()?;
        let requests = Requests { listener: serving, errands: desk.errands };
        spawn_local(http::serve(requests, context, async move { closed.notified().await }));
        Ok(Self { redis: doors, front, close_http, http })
    }

    /// Parts from clients so that none of them has a command fail: nobody is let in any more, and Redis clients see
    /// their connection end behind a reply. Those who say nothing for so long are closed in the middle of saying
    /// nothing. HTTP stays open meanwhile, for whoever asks whether this node is ready: it is not.
    pub(super) async fn part(&self, linger: Duration) {
        self.close_doors();
        // Who was handed over before is let in first.
        tokio::time::sleep(LOOK).await;
        self.front.part();
        let begun = Instant::now();
        while self.front.connections() > 0 && begun.elapsed() < linger {
            tokio::time::sleep(LOOK).await;
        }
        self.front.drain();
        self.close_http();
    }

    /// Lets nobody in any more; those who are in stay.
    pub(super) fn close(&self) {
        self.close_doors();
        self.close_http();
    }

    /// Lets no Redis clients in any more.
    pub(super) fn close_doors(&self) {
        self.redis.iter().for_each(Door::close);
    }

    fn close_http(&self) {
        self.http.iter().for_each(shut);
        self.close_http.notify_one();
    }
}

/// Room for connections of Redis clients.
struct Room {
    taken: Cell<u32>,
    max: u32,
}

/// A place in a room; given back when dropped.
struct Place(Rc<Room>);

impl Room {
    fn seat(self: &Rc<Self>) -> Option<Place> {
        (self.taken.get() < self.max).then(|| {
            self.taken.set(self.taken.get() + 1);
            Place(Rc::clone(self))
        })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.taken.set(self.0.taken.get() - 1);
    }
}

/// Who comes before a node that starts has heard what the others remember waits in front of the door, for a second at the
/// most: the first commands of clients that do not ask whether it is ready would meet an error for want of a few
/// milliseconds.
fn open_door(
    handle: &NodeHandle,
    listener: TcpListener,
    name: &'static str,
    serve: impl FnMut(TcpStream) + 'static,
) -> Result<Door, ServerError> {
    let accepted = accept::adopt(again(&listener)?)?;
    let handle = handle.clone();
    let accepting = spawn_local(async move {
        while handle.view(Node::is_recalling) {
            tokio::time::sleep(LOOK).await;
        }
        accept_forever(accepted, name, serve).await;
    });
    let accepting = accepting.abort_handle();
    Ok(Door { accepting, listener })
}

/// Serves connections as far as there is room.
fn seated(port: Port, front: &Rc<Front>, room: &Rc<Room>) -> impl Fn(TcpStream) + Clone + 'static {
    let (front, room) = (Rc::clone(front), Rc::clone(room));
    move |stream| match room.seat() {
        Some(seat) => {
            let front = Rc::clone(&front);
            spawn_local(async move {
                front.serve(stream, port).await;
                drop(seat);
            });
        }
        None => refuse(stream),
    }
}

/// Gives every node of the server a connection in turn. One that cannot be handed over is served here.
fn dealt_out(shard: Shard, serve: impl Fn(TcpStream)) -> impl Fn(TcpStream) {
    let next = Cell::new(shard.number());
    move |stream| {
        let to = next.replace((next.get() + 1) % shard.count());
        if to == shard.number() {
            return serve(stream);
        }
        let kept = stream.into_std().and_then(|stream| match shard.hand_over(to, stream) {
            Ok(()) => Ok(None),
            Err(stream) => TcpStream::from_std(stream).map(Some),
        });
        // A connection that the event loop does not take has ended.
        kept.ok().flatten().into_iter().for_each(&serve);
    }
}

/// Serves what the first node hands over, for ever.
async fn receive(mut clients: mpsc::Receiver<std::net::TcpStream>, serve: impl Fn(TcpStream)) {
    while let Some(client) = clients.recv().await {
        TcpStream::from_std(client).into_iter().for_each(&serve);
    }
}

/// Says why, in Redis' words, and closes.
fn refuse(stream: TcpStream) {
    spawn_local(async move {
        // Best effort: whoever is gone by now has no use for it.
        if stream.writable().await.is_ok() {
            stream.try_write(b"-ERR max number of clients reached\r\n").ok();
        }
    });
}

fn http_context(session: &Session, memory: impl Fn() -> Vec<Metric> + 'static) -> http::Context {
    let node = &session.config.node;
    let links = Rc::clone(&session.links);
    let slowness = Arc::clone(&session.slowness);
    let experiments = http::Experiments {
        cut: Rc::new(move |cut| links.cut(cut)),
        slow_disk: Rc::new(move |read_ms, commit_ms| slowness.set(read_ms, commit_ms)),
    };
    let (handle, links) = (session.handle.clone(), Rc::clone(&session.links));
    let (disk, space) = (Arc::clone(&session.disk), session.space.clone());
    let compaction = Arc::clone(&session.compaction);
    let watched = session.space.clone();
    let set_aside = session.set_aside.len() as u64;
    let figures = move || {
        let parts = [
            handle.shared().figures.metrics(),
            disk.metrics(),
            vec![compaction.metric()],
            space.metrics(),
            vec![Metric::gauge(
                "moim_storage_set_aside",
                "Directories of damaged data that were set aside and not removed since.",
                count(set_aside),
            )],
            links.figures().metrics(),
            memory(),
        ];
        parts.into_iter().flatten().collect()
    };
    http::Context {
        handle: session.handle.clone(),
        engine: Arc::clone(&session.engine),
        front_figures: Rc::new(figures),
        disk_space: Rc::new(move || watched.space()),
        set_aside_s: session.set_aside.clone(),
        started: Instant::now(),
        settings: http::Settings {
            password: (!node.password.is_empty()).then(|| node.password.clone()),
            connections_max: node.http_connections_max as usize,
            ..http::Settings::default()
        },
        experiments: node.experiments.then_some(experiments),
        shard: session.shard.clone(),
    }
}
