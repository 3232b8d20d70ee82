//! Figures of the loop, the disk and the links, for `/metrics`. Kept where they arise, gathered here.

use std::cell::Cell;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::http::metrics::Metric;
use crate::latency::Reads;

/// What the loop did since the start.
#[derive(Debug, Default)]
pub(crate) struct LoopFigures {
    /// Turns of the node.
    pub(crate) turns: Cell<u64>,
    /// Inputs that they took.
    pub(crate) inputs: Cell<u64>,
    /// Clients' connections that brought something, each counted once a pass.
    pub(crate) heard: Cell<u64>,
    /// How long reads took.
    pub(crate) reads: Reads,
}

/// What the committer did since the start.
#[derive(Debug, Default)]
pub(crate) struct DiskFigures {
    groups: AtomicU64,
    batches: AtomicU64,
    micros: AtomicU64,
    retries: AtomicU64,
    syncs: AtomicU64,
    sync_micros: AtomicU64,
}

/// What went over the links since the start, and what they hold now.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct LinkFigures {
    /// Connections now, and links to other nodes of this server.
    pub(crate) links: usize,
    /// Messages to other nodes of this server, since the start.
    pub(crate) local_messages: u64,
    /// Connections since the start.
    pub(crate) connects: u64,
    /// Bytes that the kernel took.
    pub(crate) sent_bytes: u64,
    /// Bytes that arrived.
    pub(crate) received_bytes: u64,
    /// Bytes that wait for peers to read, now.
    pub(crate) waiting_bytes: usize,
}

impl LoopFigures {
    pub(crate) fn turned(&self, inputs: usize) {
        self.turns.set(self.turns.get() + 1);
        self.inputs.set(self.inputs.get() + inputs as u64);
    }

    /// So many clients' connections have brought something for a pass.
    pub(crate) fn heard(&self, connections: usize) {
        self.heard.set(self.heard.get() + connections as u64);
    }

    pub(crate) fn metrics(&self) -> Vec<Metric> {
        vec![
            Metric::counter("moim_turns_total", "Turns of the node's loop.", self.turns.get()),
            Metric::counter(
                "moim_turn_inputs_total",
                "Requests, messages and completions that turns took.",
                self.inputs.get(),
            ),
            Metric::counter(
                "moim_turn_connections_total",
                "Connections of clients that turns had something of, each counted every time.",
                self.heard.get(),
            ),
            self.reads.metric(),
        ]
    }
}

impl DiskFigures {
    /// A group of this many batches became durable in this time.
    pub(crate) fn committed(&self, batches: usize, took: Duration) {
        self.groups.fetch_add(1, Ordering::Relaxed);
        self.batches.fetch_add(batches as u64, Ordering::Relaxed);
        self.micros.fetch_add(micros(took), Ordering::Relaxed);
    }

    /// What was written beside the groups' own syncs was synced in this time.
    pub(crate) fn synced(&self, took: Duration) {
        self.syncs.fetch_add(1, Ordering::Relaxed);
        self.sync_micros.fetch_add(micros(took), Ordering::Relaxed);
    }

    /// A group that had not fit on the disk was offered again.
    pub(crate) fn retried(&self) {
        self.retries.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn metrics(&self) -> Vec<Metric> {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let seconds = |name, help, counter| {
            let seconds = Duration::from_micros(read(counter)).as_secs_f64();
            let mut spent = Metric::gauge(name, help, seconds);
            spent.kind = crate::http::metrics::MetricKind::Counter;
            spent
        };
        vec![
            Metric::counter(
                "moim_commit_groups_total",
                "Groups of batches made durable, as durability says.",
                read(&self.groups),
            ),
            Metric::counter(
                "moim_commit_batches_total",
                "Batches in those groups.",
                read(&self.batches),
            ),
            seconds(
                "moim_commit_seconds_total",
                "Time that groups took to become durable.",
                &self.micros,
            ),
            Metric::counter(
                "moim_interval_syncs_total",
                "Syncs beside those of groups: with durability = \"interval\".",
                read(&self.syncs),
            ),
            seconds("moim_interval_sync_seconds_total", "Time that they took.", &self.sync_micros),
            Metric::counter(
                "moim_commit_retries_total",
                "Times that a group which had not fit on the disk was offered again.",
                read(&self.retries),
            ),
        ]
    }
}

fn micros(took: Duration) -> u64 {
    u64::try_from(took.as_micros()).unwrap_or(u64::MAX)
}

impl LinkFigures {
    #[expect(clippy::cast_precision_loss, reason = "levels, exact up to 2^53")]
    pub(crate) fn metrics(&self) -> Vec<Metric> {
        vec![
            Metric::gauge("moim_peer_links", "Connections to peers.", self.links as f64),
            Metric::counter(
                "moim_peer_connects_total",
                "Connections to peers made so far.",
                self.connects,
            ),
            Metric::counter("moim_peer_sent_bytes_total", "Bytes sent to peers.", self.sent_bytes),
            Metric::counter(
                "moim_peer_received_bytes_total",
                "Bytes received from peers.",
                self.received_bytes,
            ),
            Metric::counter(
                "moim_peer_local_messages_total",
                "Messages to other nodes of this server, which take no connection.",
                self.local_messages,
            ),
            Metric::gauge(
                "moim_peer_waiting_bytes",
                "Bytes that wait for peers to read them.",
                self.waiting_bytes as f64,
            ),
        ]
    }
}
