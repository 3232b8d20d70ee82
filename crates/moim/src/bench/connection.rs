//! The connections of one thread, and the requests on each.

use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::Shared;
use super::keys::Chooser;
use super::reply::{self, Reply};
use super::report::{Kind, Tally};
use crate::ending::Trouble;

/// What to send where.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) addresses: Vec<SocketAddr>,
    pub(crate) password: Option<String>,
    pub(crate) namespace: String,
    pub(crate) chooser: Chooser,
    pub(crate) reads: u32,
    pub(crate) writes: u32,
    pub(crate) value_bytes: usize,
    pub(crate) pipeline: usize,
    pub(crate) connections: usize,
    pub(crate) threads: usize,
    /// Requests a second in all.
    pub(crate) rate: Option<u64>,
    pub(crate) duration: Duration,
}

/// How long a connection is waited for.
const CONNECT_PATIENCE: Duration = Duration::from_secs(5);
/// How long replies are waited for before the connection counts as broken.
const REPLY_PATIENCE: Duration = Duration::from_secs(30);
/// How long until a broken connection is tried again, elsewhere.
const RECONNECT_AFTER: Duration = Duration::from_millis(100);
/// Failures to connect in a row, with nothing ever answered, after which a connection gives up.
const FRUITLESS_MAX: u32 = 20;
/// Requests sent together while filling.
const FILL_PIPELINE: usize = 16;
/// Bytes that values are cut from at random places, so that no two are alike.
const POOL_BYTES: usize = 1 << 20;

/// One thread's part.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Thread {
    pub(crate) number: usize,
    pub(crate) begun: Instant,
}

impl Thread {
    /// Loads for as long as planned.
    pub(crate) fn measure(self, plan: &Arc<Plan>, shared: &Arc<Shared>) -> Result<Tally, Trouble> {
        self.run(plan, shared, |_connection| Work::Mix)
    }

    /// Writes this thread's keys once.
    pub(crate) fn fill(self, plan: &Arc<Plan>, shared: &Arc<Shared>) -> Result<Tally, Trouble> {
        self.run(plan, shared, |connection| Work::Fill { next: connection as u64 })
    }

    fn run(
        self,
        plan: &Arc<Plan>,
        shared: &Arc<Shared>,
        work: impl Fn(usize) -> Work,
    ) -> Result<Tally, Trouble> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(|error| Trouble::failed(format!("no runtime: {error}")))?;
        let mut random = fastrand::Rng::new();
        let pool: Rc<[u8]> =
            std::iter::repeat_with(|| random.u8(..)).take(plan.value_bytes + POOL_BYTES).collect();
        let local = tokio::task::LocalSet::new();
        let running: Vec<_> = (self.number..plan.connections)
            .step_by(plan.threads)
            .map(|number| {
                let connection = Connection {
                    plan: Arc::clone(plan),
                    shared: Arc::clone(shared),
                    number,
                    begun: self.begun,
                    random: random.fork(),
                    pool: Rc::clone(&pool),
                    work: work(number),
                    out: Vec::with_capacity(plan.pipeline * (plan.value_bytes + 64)),
                    tally: Tally::new(),
                };
                local.spawn_local(connection.drive())
            })
            .collect();
        local.block_on(&runtime, async {
            let mut total = Tally::new();
            for connection in running {
                let tally = connection.await;
                total.add(&tally.map_err(|_panic| Trouble::failed("a connection's task ended"))?);
            }
            total.elapsed = self.begun.elapsed();
            Ok(total)
        })
    }
}

/// What a connection is for.
#[derive(Clone, Copy, Debug)]
enum Work {
    /// Reads and writes as planned.
    Mix,
    /// Every key whose number is this one plus a multiple of the connections.
    Fill { next: u64 },
}

/// One connection, and when it breaks the next.
struct Connection {
    plan: Arc<Plan>,
    shared: Arc<Shared>,
    number: usize,
    begun: Instant,
    random: fastrand::Rng,
    /// Values are cut out of it.
    pool: Rc<[u8]>,
    work: Work,
    out: Vec<u8>,
    tally: Tally,
}

impl Connection {
    /// Loads until it is time, and hands over what was measured.
    async fn drive(mut self) -> Tally {
        let mut fruitless = 0;
        let mut attempt = self.number;
        while !self.is_over() && fruitless < FRUITLESS_MAX {
            let address = self.plan.addresses[attempt % self.plan.addresses.len()];
            let answered = self.tally.answered();
            if let Err(error) = self.converse(address).await {
                self.shared.failed.fetch_add(1, Ordering::Relaxed);
                self.tally.error(&format!("connection: {}", error.kind()));
                tokio::time::sleep(RECONNECT_AFTER).await;
            }
            attempt += 1;
            fruitless = if self.tally.answered() > answered { 0 } else { fruitless + 1 };
        }
        self.tally
    }

    fn is_over(&self) -> bool {
        let done = match self.work {
            Work::Mix => self.begun.elapsed() >= self.plan.duration,
            Work::Fill { next } => next >= self.plan.chooser.keys(),
        };
        done || self.shared.stop.load(Ordering::Relaxed)
    }

    /// Sends requests on one connection until it is time or the connection breaks.
    async fn converse(&mut self, address: SocketAddr) -> io::Result<()> {
        let connecting = tokio::time::timeout(CONNECT_PATIENCE, TcpStream::connect(address));
        let mut stream = connecting.await??;
        stream.set_nodelay(true)?;
        let mut unread = Unread::default();
        self.introduce(&mut stream, &mut unread).await?;
        let mut kinds = Vec::new();
        let mut turn = self.first_turn();
        while !self.is_over() {
            let started = match &mut turn {
                None => Instant::now(),
                Some(turn) => turn.wait().await,
            };
            self.compose(&mut kinds);
            stream.write_all(&self.out).await?;
            for kind in kinds.drain(..) {
                let reply = next_reply(&mut stream, &mut unread).await?;
                self.note(kind, reply, started.elapsed());
            }
        }
        Ok(())
    }

    /// Password and namespace.
    async fn introduce(&self, stream: &mut TcpStream, unread: &mut Unread) -> io::Result<()> {
        let mut greeting: Vec<[&[u8]; 2]> = Vec::new();
        if let Some(password) = &self.plan.password {
            greeting.push([b"AUTH", password.as_bytes()]);
        }
        if self.plan.namespace != "0" {
            greeting.push([b"SELECT", self.plan.namespace.as_bytes()]);
        }
        for words in greeting {
            let mut out = Vec::new();
            put_command(&mut out, &words);
            stream.write_all(&out).await?;
            if let Reply::Error(word) = next_reply(stream, unread).await? {
                let said = String::from_utf8_lossy(words[0]);
                return Err(io::Error::other(format!("{said} was answered with {word}")));
            }
        }
        Ok(())
    }

    fn first_turn(&self) -> Option<Turn> {
        let (rate, Work::Mix) = (self.plan.rate?, self.work) else { return None };
        let together = u64::try_from(self.plan.connections * self.plan.pipeline).ok()?;
        #[expect(clippy::cast_precision_loss, reason = "a time between requests")]
        let interval = Duration::from_secs_f64(together as f64 / rate as f64);
        let part = u32::try_from(self.number).ok()?;
        let offset = interval * part / u32::try_from(self.plan.connections).ok()?;
        let mut next = self.begun + offset;
        // A connection that comes late begins with what is planned from now on.
        while next < Instant::now() {
            next += interval;
        }
        Some(Turn { next, interval })
    }

    /// The next requests, in `out`.
    fn compose(&mut self, kinds: &mut Vec<Kind>) {
        self.out.clear();
        let together = match self.work {
            Work::Mix => self.plan.pipeline,
            Work::Fill { .. } => FILL_PIPELINE,
        };
        for _ in 0..together {
            let Some((kind, key)) = self.next_request() else { return };
            let key = format!("session:{key:012}");
            match kind {
                Kind::Read => put_command(&mut self.out, &[b"GET", key.as_bytes()]),
                Kind::Write => {
                    let at = self.random.usize(..=self.pool.len() - self.plan.value_bytes);
                    let value = &self.pool[at..at + self.plan.value_bytes];
                    put_command(&mut self.out, &[b"SET", key.as_bytes(), value]);
                }
            }
            kinds.push(kind);
        }
    }

    fn next_request(&mut self) -> Option<(Kind, u64)> {
        match &mut self.work {
            Work::Mix => {
                let parts = self.plan.reads + self.plan.writes;
                let reads = self.random.u32(..parts) < self.plan.reads;
                let key = self.plan.chooser.next(&mut self.random);
                Some((if reads { Kind::Read } else { Kind::Write }, key))
            }
            Work::Fill { next } => {
                let key = *next;
                *next += self.plan.connections as u64;
                (key < self.plan.chooser.keys()).then_some((Kind::Write, key))
            }
        }
    }

    fn note(&mut self, kind: Kind, reply: Reply, took: Duration) {
        match reply {
            Reply::Error(word) => {
                self.shared.failed.fetch_add(1, Ordering::Relaxed);
                self.tally.error(&word);
            }
            reply => {
                self.shared.answered.fetch_add(1, Ordering::Relaxed);
                self.tally.took(kind, reply == Reply::Nothing, took);
            }
        }
    }
}

/// When the next requests are to be sent.
struct Turn {
    next: Instant,
    interval: Duration,
}

impl Turn {
    /// Waits for the planned moment and returns from when to measure: from the plan if the connection was still busy
    /// then, otherwise from now, for how late this program's own timer wakes is no fault of the server's.
    async fn wait(&mut self) -> Instant {
        let planned = self.next;
        self.next += self.interval;
        if planned <= Instant::now() {
            return planned;
        }
        tokio::time::sleep_until(planned.into()).await;
        Instant::now()
    }
}

fn put_command(out: &mut Vec<u8>, words: &[&[u8]]) {
    out.extend(format!("*{}\r\n", words.len()).into_bytes());
    for word in words {
        out.extend(format!("${}\r\n", word.len()).into_bytes());
        out.extend_from_slice(word);
        out.extend(b"\r\n");
    }
}

/// What has been received, and how much of it is taken.
#[derive(Default)]
struct Unread {
    bytes: Vec<u8>,
    taken: usize,
}

/// The next reply; what follows it stays in `unread`.
async fn next_reply(stream: &mut TcpStream, unread: &mut Unread) -> io::Result<Reply> {
    loop {
        let taken = reply::take(&unread.bytes[unread.taken..])
            .map_err(|_no_reply| io::Error::other("this is no Redis server"))?;
        if let Some((reply, length)) = taken {
            unread.taken += length;
            return Ok(reply);
        }
        unread.bytes.drain(..std::mem::take(&mut unread.taken));
        let reading = tokio::time::timeout(REPLY_PATIENCE, stream.read_buf(&mut unread.bytes));
        if reading.await?? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
}
