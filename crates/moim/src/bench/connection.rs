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
use super::slots::SlotTable;
use crate::ending::Trouble;

/// What to send where.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) addresses: Vec<SocketAddr>,
    pub(crate) password: Option<String>,
    pub(crate) namespace: String,
    /// Who serves which slot, if each key must go to the node that does.
    pub(crate) slots: Option<SlotTable>,
    pub(crate) chooser: Chooser,
    pub(crate) reads: u32,
    pub(crate) writes: u32,
    /// Copies beside the first that writes wait for with `WAIT`; 0: none, without asking.
    pub(crate) wait: u32,
    pub(crate) value_bytes: usize,
    /// How much of a value is the same byte.
    pub(crate) compressible_percent: u8,
    pub(crate) pipeline: usize,
    pub(crate) connections: usize,
    pub(crate) threads: usize,
    /// Requests a second in all.
    pub(crate) rate: Option<u64>,
    /// How long to load before measuring.
    pub(crate) warm_up: Duration,
    pub(crate) duration: Duration,
}

impl Plan {
    /// The node that a connection belongs to, if it is bound to one.
    fn node(&self, connection: usize) -> usize {
        connection % self.addresses.len()
    }

    /// Whether the key may be asked for on this connection.
    fn suits(&self, connection: usize, key: &str) -> bool {
        self.slots.as_ref().is_none_or(|slots| slots.node(key.as_bytes()) == self.node(connection))
    }

    /// What this connection fills: the first key, and the distance to the next.
    fn fill(&self, connection: usize) -> Work {
        let nodes = self.addresses.len();
        let (first, step) = match self.slots {
            None => (connection, self.connections),
            Some(_) => {
                (connection / nodes, (self.node(connection)..self.connections).step_by(nodes).len())
            }
        };
        Work::Fill { next: first as u64, step: step as u64 }
    }

    fn measured_from(&self, begun: Instant) -> Instant {
        begun + self.warm_up
    }
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
/// Draws at the most until a key suits a connection; with fewer keys than nodes none may.
const DRAWS_MAX: u32 = 1_000;
/// How long the server waits for other copies, in milliseconds.
const WAIT_MS: &[u8] = b"5000";
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
        self.run(plan, shared, |connection| plan.fill(connection))
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
        let mut pool = vec![0; plan.value_bytes + POOL_BYTES];
        random.fill(&mut pool);
        let pool: Rc<[u8]> = pool.into();
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
            total.elapsed = plan.measured_from(self.begun).elapsed();
            Ok(total)
        })
    }
}

/// What a connection is for.
#[derive(Clone, Copy, Debug)]
enum Work {
    /// Reads and writes as planned.
    Mix,
    /// Every key whose number is this one plus a multiple of `step`, and that suits the connection.
    Fill { next: u64, step: u64 },
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
            let address = self.plan.addresses[self.plan.node(attempt)];
            let answered = self.tally.answered();
            if let Err(error) = self.converse(address).await {
                self.shared.failed.fetch_add(1, Ordering::Relaxed);
                let kind = format!("connection: {}", error.kind());
                self.tally.error(&kind, &error.to_string(), self.begun.elapsed());
                tokio::time::sleep(RECONNECT_AFTER).await;
            }
            // Nobody else serves its slots.
            attempt += usize::from(self.plan.slots.is_none());
            fruitless = if self.tally.answered() > answered { 0 } else { fruitless + 1 };
        }
        self.tally
    }

    fn is_over(&self) -> bool {
        let done = match self.work {
            Work::Mix => self.plan.measured_from(self.begun).elapsed() >= self.plan.duration,
            Work::Fill { next, .. } => next >= self.plan.chooser.keys(),
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
            let mut answers = Vec::with_capacity(kinds.len());
            for kind in kinds.drain(..) {
                let reply = next_reply(&mut stream, &mut unread).await?;
                answers.push((kind, reply, started.elapsed()));
            }
            if self.waits(&answers) {
                let copies = next_reply(&mut stream, &mut unread).await?;
                self.count_copies(&copies, started, &mut answers);
            }
            for (kind, reply, took) in answers {
                self.note(kind, reply, started, took);
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
            if let Reply::Error(answer) = next_reply(stream, unread).await? {
                let said = String::from_utf8_lossy(words[0]);
                return Err(io::Error::other(format!("{said} was answered with {answer}")));
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
            let Some((kind, key)) = self.next_request() else { break };
            match kind {
                Kind::Read => put_command(&mut self.out, &[b"GET", key.as_bytes()]),
                Kind::Write => self.put_set(&key),
            }
            kinds.push(kind);
        }
        if self.plan.wait > 0 && kinds.contains(&Kind::Write) {
            let copies = self.plan.wait.to_string();
            put_command(&mut self.out, &[b"WAIT", copies.as_bytes(), WAIT_MS]);
        }
    }

    fn put_set(&mut self, key: &str) {
        let value_bytes = self.plan.value_bytes;
        let same = value_bytes * usize::from(self.plan.compressible_percent) / 100;
        let at = self.random.usize(..=self.pool.len() - value_bytes);
        let random = &self.pool[at..at + value_bytes - same];
        put_head(&mut self.out, 3);
        put_word(&mut self.out, b"SET");
        put_word(&mut self.out, key.as_bytes());
        self.out.extend(format!("${value_bytes}\r\n").into_bytes());
        self.out.extend_from_slice(random);
        self.out.extend(std::iter::repeat_n(b'-', same));
        self.out.extend(b"\r\n");
    }

    fn next_request(&mut self) -> Option<(Kind, String)> {
        match &mut self.work {
            Work::Mix => {
                let parts = self.plan.reads + self.plan.writes;
                let reads = self.random.u32(..parts) < self.plan.reads;
                let key = self.draw();
                Some((if reads { Kind::Read } else { Kind::Write }, key))
            }
            Work::Fill { next, step } => loop {
                let number = *next;
                if number >= self.plan.chooser.keys() {
                    return None;
                }
                *next += *step;
                let key = key_of(number);
                if self.plan.suits(self.number, &key) {
                    return Some((Kind::Write, key));
                }
            },
        }
    }

    /// A key that suits this connection. The distribution stays what it is: a cluster client with a connection to each
    /// node would ask for each key as often.
    fn draw(&mut self) -> String {
        let mut key = String::new();
        for _ in 0..DRAWS_MAX {
            key = key_of(self.plan.chooser.next(&mut self.random));
            if self.plan.suits(self.number, &key) {
                break;
            }
        }
        key
    }

    /// Whether a reply to `WAIT` follows these.
    fn waits(&self, answers: &[(Kind, Reply, Duration)]) -> bool {
        self.plan.wait > 0 && answers.iter().any(|(kind, ..)| *kind == Kind::Write)
    }

    /// Writes are done when the copies are there, and failed when they are not.
    fn count_copies(
        &self,
        copies: &Reply,
        begun: Instant,
        answers: &mut [(Kind, Reply, Duration)],
    ) {
        let enough =
            matches!(copies, Reply::Number(number) if *number >= i64::from(self.plan.wait));
        for (_, reply, took) in answers.iter_mut().filter(|(kind, ..)| *kind == Kind::Write) {
            *took = begun.elapsed();
            if !enough && !matches!(reply, Reply::Error(_)) {
                *reply = match copies {
                    Reply::Error(words) => Reply::Error(words.clone()),
                    _ => Reply::Error("WAIT brought too few copies".to_owned()),
                };
            }
        }
    }

    fn note(&mut self, kind: Kind, reply: Reply, started: Instant, took: Duration) {
        match reply {
            Reply::Error(words) => {
                self.shared.failed.fetch_add(1, Ordering::Relaxed);
                let kind = words.split(' ').next().unwrap_or_default();
                self.tally.error(kind, &words, self.begun.elapsed());
            }
            reply => {
                self.shared.answered.fetch_add(1, Ordering::Relaxed);
                if started < self.plan.measured_from(self.begun) {
                    self.tally.warmed_up();
                } else {
                    self.tally.took(kind, reply == Reply::Nothing, took);
                }
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

/// The key of a number.
pub(crate) fn key_of(number: u64) -> String {
    format!("session:{number:012}")
}

/// One command.
pub(crate) fn put_command(out: &mut Vec<u8>, words: &[&[u8]]) {
    put_head(out, words.len());
    for word in words {
        put_word(out, word);
    }
}

fn put_head(out: &mut Vec<u8>, words: usize) {
    out.extend(format!("*{words}\r\n").into_bytes());
}

fn put_word(out: &mut Vec<u8>, word: &[u8]) {
    out.extend(format!("${}\r\n", word.len()).into_bytes());
    out.extend_from_slice(word);
    out.extend(b"\r\n");
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
