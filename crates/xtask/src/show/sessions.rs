//! Clients that keep sessions in a cluster, and that know of each what was acknowledged last.
//!
//! Every session has one writer, which goes on to the next version only when the last one was acknowledged, and offers
//! the same value again until then. So after the writers have stopped, a session's newest acknowledged version is
//! exactly what a strong read must find.

use std::io;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

use super::redis::{self, Connection, PATIENCE, Reply};

/// What a session weighs, in bytes; half of it compresses well and half not at all.
const VALUE_BYTES: usize = 2_048;
const NOISE_BYTES: usize = VALUE_BYTES / 2;
/// Commands that a client sends before it waits.
const PIPELINE: u32 = 16;
/// How many errors are remembered.
const MISHAPS_MAX: usize = 1_000_000;
/// A client without an acknowledgement for so long has lost its cluster.
const GIVE_UP: Duration = Duration::from_mins(1);
/// A client that was refused tries again after this.
const RETRY: Duration = Duration::from_millis(10);

/// An error that a client saw.
#[derive(Clone)]
pub(super) struct Mishap {
    pub(super) at: Instant,
    /// The node that the client prefers, from 1.
    pub(super) home: usize,
    pub(super) what: String,
}

/// Sessions, their writers' knowledge, and what happened to the writers.
pub(super) struct Sessions {
    name: &'static str,
    /// Redis ports, of node 1 first.
    ports: Vec<u16>,
    /// The newest acknowledged version of each; 0 is none yet.
    acknowledged: Vec<AtomicU32>,
    writes: AtomicU64,
    mishaps: Mutex<Vec<Mishap>>,
    /// The longest time without an acknowledgement that a client saw, in milliseconds.
    pause_ms_max: AtomicU64,
    /// How often clients were sent home.
    calls: AtomicU64,
    enough: AtomicBool,
    failed: AtomicBool,
}

impl Sessions {
    /// `count` sessions, kept under `name`.
    pub(super) fn new(name: &'static str, ports: Vec<u16>, count: u32) -> Self {
        Self {
            name,
            ports,
            acknowledged: (0..count).map(|_| AtomicU32::new(0)).collect(),
            writes: AtomicU64::new(0),
            mishaps: Mutex::default(),
            pause_ms_max: AtomicU64::new(0),
            calls: AtomicU64::new(0),
            enough: AtomicBool::new(false),
            failed: AtomicBool::new(false),
        }
    }

    pub(super) fn count(&self) -> u32 {
        u32::try_from(self.acknowledged.len()).expect("made from a u32")
    }

    /// Sends clients back to the nodes that they prefer, as when these are known to serve again.
    pub(super) fn send_home(&self) {
        self.calls.fetch_add(1, Ordering::Relaxed);
    }

    /// Acknowledged writes so far.
    pub(super) fn writes(&self) -> u64 {
        self.writes.load(Ordering::Relaxed)
    }

    pub(super) fn pause_ms_max(&self) -> u64 {
        self.pause_ms_max.load(Ordering::Relaxed)
    }

    /// Errors so far.
    pub(super) fn seen(&self) -> Vec<Mishap> {
        self.mishaps().clone()
    }

    fn mishaps(&self) -> MutexGuard<'_, Vec<Mishap>> {
        self.mishaps.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Runs writers while `meanwhile` happens; they stop when it is over and each session was written once.
    pub(super) fn write_during<T>(
        &self,
        writers: usize,
        meanwhile: impl FnOnce() -> Result<T>,
    ) -> Result<T> {
        thread::scope(|scope| {
            let writing = (0..writers)
                .map(|writer| scope.spawn(move || Writer::new(self, writer, writers).run()))
                .collect::<Vec<_>>();
            let outcome = meanwhile();
            if outcome.is_err() {
                self.failed.store(true, Ordering::Relaxed);
            }
            self.enough.store(true, Ordering::Relaxed);
            for writer in writing {
                writer.join().expect("writers do not panic")?;
            }
            outcome
        })
    }

    /// Waits until so many writes were acknowledged.
    pub(super) fn await_writes(&self, writes: u64, limit: Duration) -> Result<()> {
        let deadline = Instant::now() + limit;
        while self.writes() < writes {
            if self.failed.load(Ordering::Relaxed) {
                bail!("a client gave up");
            }
            if Instant::now() >= deadline {
                bail!("{} of {writes} writes after {} s", self.writes(), limit.as_secs());
            }
            thread::sleep(RETRY);
        }
        Ok(())
    }

    /// Reads every session on every node at this level; none may be older than acknowledged, or damaged.
    pub(super) fn verify(&self, level: &str) -> Result<()> {
        let findings = thread::scope(|scope| {
            let reading =
                self.ports.iter().map(|port| scope.spawn(|| self.verify_on(*port, level)));
            let reading = reading.collect::<Vec<_>>();
            reading
                .into_iter()
                .map(|reader| reader.join().expect("readers do not panic"))
                .collect::<Result<Vec<_>>>()
        })?;
        let findings: Vec<String> = findings.into_iter().flatten().collect();
        match findings.first() {
            None => Ok(()),
            Some(first) => {
                bail!("{} sessions are not what was acknowledged: {first}", findings.len())
            }
        }
    }

    fn verify_on(&self, port: u16, level: &str) -> Result<Vec<String>> {
        let mut connection = None;
        let mut findings = Vec::new();
        for batch in batches(&(0..self.count()).collect::<Vec<_>>()) {
            let replies = self.read(port, level, &batch, &mut connection)?;
            for (session, reply) in batch.into_iter().zip(replies) {
                let newest = self.newest(session);
                if reply.bytes() != Some(&self.value(session, newest)) {
                    let found = describe(&reply);
                    findings.push(format!(
                        "{} should be version {newest}; port {port} says {found}",
                        self.key(session)
                    ));
                }
            }
        }
        Ok(findings)
    }

    /// Reads a batch as clients do: on a connection that has ended, or a node that says that it is not ready, they try
    /// again for a while. What is read is judged as ever.
    fn read(
        &self,
        port: u16,
        level: &str,
        batch: &[u32],
        connection: &mut Option<Connection>,
    ) -> Result<Vec<Reply>> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let replies = self.try_read(port, level, batch, connection);
            let is_ready = |reply: &Reply| !reply.error().unwrap_or("").starts_with("NOTREADY");
            match replies {
                Ok(replies) if replies.iter().all(is_ready) => return Ok(replies),
                Err(error) if Instant::now() >= deadline => return Err(error.into()),
                Ok(replies) if Instant::now() >= deadline => return Ok(replies),
                Ok(_) => {}
                Err(_ended) => *connection = None,
            }
            thread::sleep(RETRY);
        }
    }

    fn try_read(
        &self,
        port: u16,
        level: &str,
        batch: &[u32],
        connection: &mut Option<Connection>,
    ) -> io::Result<Vec<Reply>> {
        let connection = match connection {
            Some(connection) => connection,
            none => {
                let mut fresh = Connection::open(port)?;
                fresh.call(&["MOIM.LEVEL", "READ", level])?;
                none.insert(fresh)
            }
        };
        let requests = batch.iter().map(|it| redis::command(&["GET", &self.key(*it)]));
        connection.send(&requests.collect::<Vec<_>>().concat())?;
        batch.iter().map(|_| connection.receive()).collect()
    }

    fn newest(&self, session: u32) -> u32 {
        self.acknowledged[session as usize].load(Ordering::Relaxed)
    }

    /// What a session is stored under.
    pub(super) fn key(&self, session: u32) -> String {
        format!("{}:{session}", self.name)
    }

    fn value(&self, session: u32, version: u32) -> Vec<u8> {
        let mut value = format!("{} version {version};", self.key(session)).into_bytes();
        value.resize(VALUE_BYTES - NOISE_BYTES, b' ');
        // SplitMix64: noise that a reader can make again.
        let mut state = (u64::from(session) << 32) | u64::from(version);
        while value.len() < VALUE_BYTES {
            state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mut word = state;
            word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            value.extend_from_slice(&(word ^ (word >> 31)).to_le_bytes());
        }
        value
    }
}

/// One client: a thread, a connection, and sessions of its own.
struct Writer<'a> {
    sessions: &'a Sessions,
    home: usize,
    own: Vec<u32>,
    /// The node that it is connected to or tries next, from 0.
    node: usize,
    connection: Option<Connection>,
    heard: Instant,
    /// Calls home that it has followed.
    calls: u64,
}

impl<'a> Writer<'a> {
    fn new(sessions: &'a Sessions, writer: usize, writers: usize) -> Self {
        let home = writer % sessions.ports.len();
        let own = (0..sessions.count()).skip(writer).step_by(writers).collect();
        Self { sessions, home, own, node: home, connection: None, heard: Instant::now(), calls: 0 }
    }

    fn run(mut self) -> Result<()> {
        let batches = batches(&self.own);
        for pass in 0_u64.. {
            for batch in &batches {
                if pass > 0 && self.sessions.enough.load(Ordering::Relaxed) {
                    return Ok(());
                }
                self.write(batch)?;
            }
        }
        Ok(())
    }

    /// Writes the next version of each, until all are acknowledged.
    fn write(&mut self, batch: &[u32]) -> Result<()> {
        let calls = self.sessions.calls.load(Ordering::Relaxed);
        if calls > self.calls {
            (self.calls, self.node, self.connection) = (calls, self.home, None);
        }
        let mut left = batch.to_vec();
        while !left.is_empty() {
            if self.sessions.failed.load(Ordering::Relaxed) {
                bail!("stopped: something else failed");
            }
            if self.heard.elapsed() > GIVE_UP {
                self.sessions.failed.store(true, Ordering::Relaxed);
                bail!(
                    "a client of node {} had no acknowledgement for {} s",
                    self.home + 1,
                    GIVE_UP.as_secs()
                );
            }
            if let Err(error) = self.offer(&mut left) {
                self.mishap(format!("node {}: {error}", self.node + 1));
                // As clients do that know several nodes: the next one.
                self.connection = None;
                self.node = (self.node + 1) % self.sessions.ports.len();
                thread::sleep(RETRY);
            }
        }
        Ok(())
    }

    /// Offers what is left once, and takes out what is acknowledged.
    fn offer(&mut self, left: &mut Vec<u32>) -> io::Result<()> {
        if self.connection.is_none() {
            let mut fresh = Connection::open(self.sessions.ports[self.node])?;
            let reply = fresh.call(&["MOIM.LEVEL", "WRITE", "2"])?;
            if let Some(error) = reply.error() {
                return Err(io::Error::other(error.to_owned()));
            }
            self.connection = Some(fresh);
        }
        let Some(mut connection) = self.connection.take() else { return Ok(()) };
        let requests = left.iter().map(|&session| {
            let value = self.sessions.value(session, self.sessions.newest(session) + 1);
            redis::command(&[b"SET", self.sessions.key(session).as_bytes(), &value])
        });
        connection.send(&requests.collect::<Vec<_>>().concat())?;
        let offered = std::mem::take(left);
        for (at, &session) in offered.iter().enumerate() {
            match connection.receive() {
                Ok(Reply::Status(_)) => self.acknowledge(session),
                Ok(other) => {
                    self.mishap(format!("node {}: {other}", self.node + 1));
                    left.push(session);
                }
                Err(error) => {
                    left.extend_from_slice(&offered[at..]);
                    return Err(error);
                }
            }
        }
        if !left.is_empty() {
            thread::sleep(RETRY);
        }
        self.connection = Some(connection);
        Ok(())
    }

    fn acknowledge(&mut self, session: u32) {
        self.sessions.acknowledged[session as usize].fetch_add(1, Ordering::Relaxed);
        self.sessions.writes.fetch_add(1, Ordering::Relaxed);
        let pause_ms = u64::try_from(self.heard.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.sessions.pause_ms_max.fetch_max(pause_ms, Ordering::Relaxed);
        self.heard = Instant::now();
    }

    fn mishap(&self, what: String) {
        let mut mishaps = self.sessions.mishaps();
        if mishaps.len() < MISHAPS_MAX {
            mishaps.push(Mishap { at: Instant::now(), home: self.home + 1, what });
        }
    }
}

fn batches(sessions: &[u32]) -> Vec<Vec<u32>> {
    sessions.chunks(PIPELINE as usize).map(<[u32]>::to_vec).collect()
}

/// What stands where a session should stand.
fn describe(reply: &Reply) -> String {
    match reply {
        Reply::Bulk(bytes) => {
            let head = bytes.split(|byte| *byte == b';').next().unwrap_or_default();
            let head = &head[..head.len().min(60)];
            format!("'{}' in {} bytes", head.escape_ascii(), bytes.len())
        }
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_differ_by_session_and_version() {
        let sessions = Sessions::new("s", vec![1], 9);
        let value = |session, version| sessions.value(session, version);
        assert_eq!(value(1, 2).len(), VALUE_BYTES);
        assert_eq!(value(1, 2), value(1, 2));
        assert_ne!(value(1, 2)[NOISE_BYTES..], value(1, 3)[NOISE_BYTES..]);
        assert_ne!(value(1, 2)[NOISE_BYTES..], value(2, 2)[NOISE_BYTES..]);
        assert_eq!(describe(&Reply::Bulk(value(7, 3))), "'s:7 version 3' in 2048 bytes");
    }

    #[test]
    fn every_session_has_one_writer() {
        let sessions = Sessions::new("s", vec![1, 2, 3], 100);
        let mut written: Vec<u32> =
            (0..7).flat_map(|writer| Writer::new(&sessions, writer, 7).own).collect();
        written.sort_unstable();
        assert_eq!(written, (0..100).collect::<Vec<_>>());
    }
}
