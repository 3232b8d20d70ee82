//! [`Front`]: what all Redis connections of one node share.

use std::cell::{Cell, OnceCell, Ref, RefCell};
use std::collections::BTreeMap;
use std::hash::{BuildHasher, Hasher};
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::{Duration, Instant};

use socket2::{SockRef, TcpKeepalive};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use super::command::{self, Configuration, Scripts};
use super::connection::{Closing, Connection};
use super::figures::{CommandFigures, RespFigures};
use super::settings::{Port, RespSettings};
use super::store::Store;
use super::worker;
use crate::NodeHandle;
use crate::memory::Ledger;
use crate::shards::Shard;

/// Buffers kept for connections that have something to say; idle ones hold none.
const POOL_BUFFERS_MAX: usize = 64;

/// The shortest time over which a rate is taken, in milliseconds.
const RATE_WINDOW_MS: u64 = 100;

/// Bytes that a connection's buffers may take without being counted.
pub(crate) const SHARE_BYTES: usize = 64 << 10;

/// How far a node that stops has got.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Leaving {
    Stays,
    /// Connections end behind their next reply.
    Parts,
    /// No more commands are taken.
    Drains,
}

/// The Redis ports of one node: settings, connections and figures. Stays on the node's thread.
#[derive(Debug)]
pub struct Front {
    pub(crate) store: Store,
    pub(crate) settings: RespSettings,
    /// What `CONFIG SET` has changed.
    pub(crate) configuration: RefCell<Configuration>,
    /// Scripts that `SCRIPT LOAD` and `EVAL` have named.
    pub(crate) scripts: RefCell<Scripts>,
    /// What the node's parts keep in memory, once the server has said where to look.
    pub(crate) memory: OnceCell<Ledger>,
    /// Which of the server's nodes this is, once the server has said so; without that, its only one.
    pub(crate) shard: OnceCell<Shard>,
    pub(crate) started: Instant,
    /// Drawn at the start: tells runs of this process apart in `INFO`.
    pub(crate) run_id: u64,
    connections: RefCell<BTreeMap<u64, Rc<Connection>>>,
    last_id: Cell<u64>,
    leaving: Cell<Leaving>,
    figures: RefCell<RespFigures>,
    pool: RefCell<Vec<Vec<u8>>>,
    chance: Cell<u64>,
    /// When the rate of commands was last asked for, how many there had been, and what was answered.
    rate: Cell<(Instant, u64, u64)>,
}

impl Front {
    /// The Redis ports of the node behind `handle`.
    pub fn new(handle: NodeHandle, settings: RespSettings) -> Rc<Self> {
        Self::over(Store::Node(handle), settings)
    }

    pub(crate) fn over(store: Store, settings: RespSettings) -> Rc<Self> {
        // A hasher's keys are drawn at random for each process.
        let chance = std::hash::RandomState::new().build_hasher().finish();
        let commands = command::all().map(|command| CommandFigures::new(command.name)).collect();
        Rc::new(Self {
            store,
            configuration: RefCell::new(Configuration::new(&settings)),
            settings,
            scripts: RefCell::default(),
            memory: OnceCell::new(),
            shard: OnceCell::new(),
            started: Instant::now(),
            run_id: chance,
            connections: RefCell::default(),
            last_id: Cell::new(0),
            leaving: Cell::new(Leaving::Stays),
            figures: RefCell::new(RespFigures { commands, ..RespFigures::default() }),
            pool: RefCell::default(),
            chance: Cell::new(chance),
            rate: Cell::new((Instant::now(), 0, 0)),
        })
    }

    /// Serves a connection until it ends. Dropping the future ends it too.
    pub async fn serve(self: &Rc<Self>, mut stream: TcpStream, port: Port) {
        let Some(guest) = self.admit(&stream, port) else { return };
        match guest {
            Ok(guest) => worker::run(&guest.connection, stream).await,
            // The client may be gone already: then nobody is left to tell.
            Err(refusal) => drop(stream.write_all(refusal.as_bytes()).await),
        }
    }

    /// What the ports have counted.
    pub fn figures(&self) -> RespFigures {
        let mut figures = self.figures.borrow().clone();
        figures.connections = self.connections.borrow().len() as u64;
        figures.commands.retain(|command| command.calls > 0);
        figures
    }

    /// From now on a connection ends behind a reply, when nothing more has come in: so a client that waits for its
    /// replies reads its last one and the end together, and has nothing on its way that would stay unanswered.
    /// Connections that say nothing stay.
    pub fn part(&self) {
        if self.leaving.get() == Leaving::Stays {
            self.leaving.set(Leaving::Parts);
        }
    }

    /// Takes no more commands; connections end once what they have in progress is answered.
    pub fn drain(&self) {
        self.leaving.set(Leaving::Drains);
        self.each(|connection| connection.wake());
    }

    /// How many connections there are.
    pub fn connections(&self) -> usize {
        self.connections.borrow().len()
    }

    pub(crate) fn is_draining(&self) -> bool {
        self.leaving.get() == Leaving::Drains
    }

    pub(crate) fn is_parting(&self) -> bool {
        self.leaving.get() == Leaving::Parts
    }

    /// Looks at every connection, in the order of their ids. `look` may close them.
    pub(crate) fn each(&self, mut look: impl FnMut(&Rc<Connection>)) {
        let connections: Vec<_> = self.connections.borrow().values().cloned().collect();
        connections.iter().for_each(&mut look);
    }

    /// Changes the figures.
    pub(crate) fn count(&self, change: impl FnOnce(&mut RespFigures)) {
        change(&mut self.figures.borrow_mut());
    }

    /// Looks at the figures without copying them.
    pub(crate) fn counted(&self) -> Ref<'_, RespFigures> {
        self.figures.borrow()
    }

    /// A command has ended.
    pub(crate) fn ended(&self, command: usize, took: Duration, failed: bool) {
        let mut figures = self.figures.borrow_mut();
        figures.errors += u64::from(failed);
        figures.commands[command].add(took, failed);
    }

    /// Begins counting anew (`CONFIG RESETSTAT`); levels stay.
    pub(crate) fn reset_figures(&self) {
        let mut figures = self.figures.borrow_mut();
        let commands = figures.commands.iter().map(|old| CommandFigures::new(old.name)).collect();
        let buffers_bytes = figures.buffers_bytes;
        *figures = RespFigures { buffers_bytes, commands, ..RespFigures::default() };
    }

    /// An empty buffer.
    pub(crate) fn lend(&self) -> Vec<u8> {
        let kept = self.pool.borrow_mut().pop();
        kept.unwrap_or_else(|| Vec::with_capacity(SHARE_BYTES))
    }

    /// Takes a buffer back; large ones and those beyond the pool go.
    pub(crate) fn give_back(&self, mut buffer: Vec<u8>) {
        let mut pool = self.pool.borrow_mut();
        if buffer.capacity() == SHARE_BYTES && pool.len() < POOL_BUFFERS_MAX {
            buffer.clear();
            pool.push(buffer);
        }
    }

    /// Commands a second since this was last asked, a tenth of a second ago or more; `calls` is how many there were.
    pub(crate) fn calls_per_second(&self, calls: u64) -> u64 {
        let (since, before, answered) = self.rate.get();
        let elapsed_ms = u64::try_from(since.elapsed().as_millis()).unwrap_or(u64::MAX);
        if elapsed_ms < RATE_WINDOW_MS {
            return answered;
        }
        let rate = calls.saturating_sub(before).saturating_mul(1_000) / elapsed_ms;
        self.rate.set((Instant::now(), calls, rate));
        rate
    }

    /// A number that nobody foresees well; for a random key, not for secrets.
    pub(crate) fn draw(&self) -> u64 {
        let next = moim_core::fingerprint(&self.chance.get().to_be_bytes());
        self.chance.set(next);
        next
    }

    /// Lets a connection in, or says why not. `None` if it is gone already.
    fn admit(self: &Rc<Self>, stream: &TcpStream, port: Port) -> Option<Result<Guest, String>> {
        let peer = stream.peer_addr().ok()?;
        let local = stream.local_addr().ok()?;
        self.set_options(stream);
        if let Some(refusal) = self.refusal(peer) {
            self.count(|figures| figures.connections_refused += 1);
            return Some(Err(format!("-{refusal}\r\n")));
        }
        let id = self.next_id();
        let connection = Connection::new(self, id, port, (peer, local));
        self.connections.borrow_mut().insert(id, Rc::clone(&connection));
        self.count(|figures| figures.connections_accepted += 1);
        Some(Ok(Guest { connection }))
    }

    /// Ids of connections are those of the server: its nodes take turns with them.
    fn next_id(&self) -> u64 {
        let (number, count) = self.place();
        let id = match self.last_id.get() {
            0 => number + 1,
            last => last + count,
        };
        self.last_id.set(id);
        id
    }

    /// Which of the server's nodes this is, counted from 0, and how many there are.
    pub(crate) fn place(&self) -> (u64, u64) {
        self.shard.get().map_or((0, 1), |shard| (shard.number() as u64, shard.count() as u64))
    }

    /// A socket that cannot be set so still works, so failures are passed over.
    fn set_options(&self, stream: &TcpStream) {
        // Replies are whole when they are written; waiting for more would only delay them.
        drop(stream.set_nodelay(true));
        if self.settings.keepalive_ms > 0 {
            let silence = Duration::from_millis(self.settings.keepalive_ms);
            let keepalive = TcpKeepalive::new().with_time(silence);
            drop(SockRef::from(stream).set_tcp_keepalive(&keepalive));
        }
    }

    fn refusal(&self, peer: SocketAddr) -> Option<&'static str> {
        let open = self.settings.password.is_none() && !peer.ip().to_canonical().is_loopback();
        match () {
            () if self.is_draining() => Some("NOTREADY this node is stopping"),
            () if self.settings.protected && open => Some(
                "DENIED this node has no password, so it only serves clients on its own machine; set one, or turn \
                 protection off in the configuration",
            ),
            () if self.connections() >= self.settings.clients_max => {
                Some("ERR max number of clients reached")
            }
            () => None,
        }
    }
}

/// A connection that is let in; dropping it shows it out, however it ends.
struct Guest {
    connection: Rc<Connection>,
}

impl Drop for Guest {
    fn drop(&mut self) {
        let front = &self.connection.front;
        self.connection.close(Closing::Now);
        self.connection.charge(0);
        front.connections.borrow_mut().remove(&self.connection.id);
    }
}
