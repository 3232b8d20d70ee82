//! Slow and lossy links, for kernels without `netem`: what nodes say to each other goes through proxies of this
//! process's, one for each node.
//!
//! A proxy holds every piece back for the delay of its link. A lost piece is one that TCP sends again: it comes a
//! retransmission timeout later, and so does all that was sent after it. Left out: a proxy acknowledges what it has not
//! delivered yet, so senders do not see what their system knows of a bad link.

use std::collections::BTreeMap;
use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use super::PEER;
use super::network::Network;

/// The largest piece.
const PIECE_BYTES: usize = 16 << 10;
/// Pieces on their way in one direction of a connection; beyond it the sender has to wait.
const PIECES_MAX: usize = 1_024;
/// The shortest retransmission timeout of Linux.
const RETRANSMISSION: Duration = Duration::from_millis(200);
const POLL: Duration = Duration::from_millis(20);
const CONNECT: Duration = Duration::from_secs(1);

/// One direction between two nodes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Link {
    pub(super) from: u16,
    pub(super) to: u16,
}

/// How a link behaves.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in super::super) struct Weather {
    /// How long everything takes, one way.
    pub(in super::super) delay: Duration,
    /// How many pieces of a thousand are lost, and sent again.
    pub(in super::super) lost_per_mille: u64,
    /// Nothing comes through, and nobody is told.
    pub(in super::super) stalled: bool,
}

/// Proxies for all nodes.
pub(super) struct Proxies {
    shared: Arc<Shared>,
    doors: Vec<JoinHandle<()>>,
}

#[derive(Default)]
struct Shared {
    weather: Mutex<BTreeMap<Link, Weather>>,
    /// Nodes by their addresses, fixed at the start.
    nodes: BTreeMap<Ipv4Addr, u16>,
    dice: AtomicU64,
    closed: AtomicBool,
}

impl Proxies {
    pub(super) fn start(network: &Network, nodes: u16) -> Result<Self> {
        let known = (1..=nodes).map(|node| (network.address(node), node)).collect();
        let shared = Arc::new(Shared { nodes: known, ..Shared::default() });
        let mut doors = Vec::new();
        for to in 1..=nodes {
            let listener = TcpListener::bind((network.proxy_address(to), PEER))
                .with_context(|| format!("listen for node {to}"))?;
            listener.set_nonblocking(true)?;
            let (shared, target) = (Arc::clone(&shared), (network.address(to), PEER).into());
            doors.push(thread::spawn(move || shared.accept(&listener, to, target)));
        }
        Ok(Self { shared, doors })
    }

    pub(super) fn set(&self, link: Link, weather: Weather) {
        self.shared.weather().insert(link, weather);
    }
}

impl Drop for Proxies {
    fn drop(&mut self) {
        self.shared.closed.store(true, Ordering::Relaxed);
        for door in self.doors.drain(..) {
            drop(door.join());
        }
    }
}

impl Shared {
    fn weather(&self) -> std::sync::MutexGuard<'_, BTreeMap<Link, Weather>> {
        self.weather.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn of(&self, link: Link) -> Weather {
        self.weather().get(&link).copied().unwrap_or_default()
    }

    fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Relaxed)
    }

    fn accept(self: &Arc<Self>, listener: &TcpListener, to: u16, target: SocketAddr) {
        while !self.is_closed() {
            match listener.accept() {
                Ok((stream, SocketAddr::V4(peer))) => {
                    let Some(&from) = self.nodes.get(peer.ip()) else { continue };
                    let shared = Arc::clone(self);
                    // A node that does not listen is one that closes at once.
                    thread::spawn(move || drop(shared.connect(&stream, Link { from, to }, target)));
                }
                Ok(_) => {}
                Err(_none_or_gone) => thread::sleep(POLL),
            }
        }
    }

    fn connect(self: &Arc<Self>, near: &TcpStream, link: Link, target: SocketAddr) -> Result<()> {
        while self.of(link).stalled && !self.is_closed() {
            thread::sleep(POLL);
        }
        let far = TcpStream::connect_timeout(&target, CONNECT)?;
        let back = Link { from: link.to, to: link.from };
        near.set_nonblocking(false)?;
        for (from, to, link) in [(near, &far, link), (&far, near, back)] {
            from.set_nodelay(true)?;
            from.set_read_timeout(Some(Duration::from_millis(200)))?;
            let (reader, writer) = (from.try_clone()?, to.try_clone()?);
            let (sender, receiver) = sync_channel(PIECES_MAX);
            let (shared, again) = (Arc::clone(self), Arc::clone(self));
            thread::spawn(move || shared.take(reader, &sender, link));
            thread::spawn(move || again.give(writer, &receiver, link));
        }
        Ok(())
    }

    /// Takes what a node sends, and decides when it comes.
    fn take(&self, mut reader: TcpStream, sender: &SyncSender<(Instant, Vec<u8>)>, link: Link) {
        let mut piece = vec![0; PIECE_BYTES];
        while !self.is_closed() {
            match reader.read(&mut piece) {
                Ok(0) => break,
                Ok(count) => {
                    let due = Instant::now() + self.time(link);
                    if sender.send((due, piece[..count].to_vec())).is_err() {
                        break;
                    }
                }
                Err(error)
                    if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
                Err(_gone) => break,
            }
        }
        // The other side is told when what is on its way has come.
    }

    fn time(&self, link: Link) -> Duration {
        let Weather { delay, lost_per_mille, .. } = self.of(link);
        let lost = self.dice() % 1_000 < lost_per_mille;
        if lost { delay + RETRANSMISSION } else { delay }
    }

    /// `SplitMix64`: quality does not matter here, a dependency would.
    fn dice(&self) -> u64 {
        let step = 0x9e37_79b9_7f4a_7c15_u64;
        let mut word = self.dice.fetch_add(step, Ordering::Relaxed).wrapping_add(step);
        word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        word ^ (word >> 31)
    }

    /// Delivers in order, each piece not before it is due.
    fn give(&self, mut writer: TcpStream, receiver: &Receiver<(Instant, Vec<u8>)>, link: Link) {
        while !self.is_closed() {
            let (due, piece) = match receiver.recv_timeout(POLL) {
                Ok(next) => next,
                Err(RecvTimeoutError::Timeout) => continue,
                Err(RecvTimeoutError::Disconnected) => break,
            };
            thread::sleep(due.saturating_duration_since(Instant::now()));
            while self.of(link).stalled && !self.is_closed() {
                thread::sleep(POLL);
            }
            if writer.write_all(&piece).is_err() {
                break;
            }
        }
        // Both ways: a node that hears nothing more from here need not go on.
        drop(writer.shutdown(Shutdown::Both));
    }
}
