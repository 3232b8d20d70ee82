//! Every number that governs a node, with its unit and what it must exceed.

/// Settings of a node. The defaults serve a data centre; the simulator uses them too.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// How long a request may take, in milliseconds, when the client does not say.
    pub request_timeout_ms: u32,
    /// The longest that a client may ask a request to take, in milliseconds: an operation that waits holds memory.
    pub request_timeout_max_ms: u32,
    /// How long a read waits for a replica before it asks the next one as well, in milliseconds. Below
    /// `request_timeout_ms`, or it would never.
    pub read_retry_ms: u32,
    /// How often a silent peer is asked whether it lives, in milliseconds.
    pub ping_interval_ms: u32,
    /// After how many milliseconds of silence a peer is asked last. Several `ping_interval_ms`.
    pub silence_ms: u32,
    /// After how many requests in a row without an answer a peer is skipped until it says something again.
    pub missed_deadlines_max: u32,
    /// A stamp further ahead of this node's clock than this is refused, in milliseconds.
    pub max_clock_skew_ms: u64,
    /// How far ahead the clock's bound is persisted, in milliseconds: a restart may skip this much hybrid time. Well
    /// below `max_clock_skew_ms` less what clocks really differ by, or a node that restarts has all its stamps refused.
    pub clock_lease_ms: u64,
    /// Decoded objects kept in memory, in bytes.
    pub cache_bytes: u64,
    /// The share of its disk, in percent, above which whoever runs the node says [`crate::api::DiskRoom::Low`]. Only
    /// for the words of a refusal. Compactions need room, so well below 100.
    pub disk_used_percent_max: u8,
    /// Bytes of writes that may wait for their sync; beyond it writes are refused as overload.
    pub unsynced_bytes_max: u64,
    /// Requests that one node coordinates at once; beyond it they are refused as overload.
    pub operations_max: usize,
    /// Updates that may wait for one key; beyond it they are refused as overload.
    pub updates_per_key_max: usize,
    /// Pairs in the clock of one key; a put that would add one beyond is refused. Far below what a stored object may
    /// hold, so that no object becomes unreadable by growing.
    pub clock_pairs_refused: usize,
    /// Copies owed to owners that did not answer, in bytes over all targets; the oldest are left to read repair.
    pub tasks_bytes_max: u64,
    /// Copies in flight to one owner at once.
    pub tasks_in_flight_max: usize,
    /// First wait before a copy is offered again, in milliseconds; doubles up to `task_retry_max_ms`.
    pub task_retry_ms: u32,
    /// Longest wait before a copy is offered again, in milliseconds.
    pub task_retry_max_ms: u32,
    /// What background work (hints, repair, refill, sweeps) may always send, in bytes a second over all of it: it gets on
    /// whatever clients do.
    pub background_bytes_per_second_min: u64,
    /// What background work sends at the most, in bytes a second over all of it. Above
    /// `background_bytes_per_second_min`.
    pub background_bytes_per_second_max: u64,
    /// A rule that is switched off, to see the simulator notice. Always `None` outside of it.
    pub mutation: Option<Mutation>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            request_timeout_ms: 1_000,
            request_timeout_max_ms: 60_000,
            read_retry_ms: 50,
            ping_interval_ms: 100,
            silence_ms: 500,
            missed_deadlines_max: 3,
            max_clock_skew_ms: 5_000,
            clock_lease_ms: 500,
            cache_bytes: 256 << 20,
            disk_used_percent_max: 90,
            unsynced_bytes_max: 64 << 20,
            operations_max: 100_000,
            updates_per_key_max: 1_000,
            clock_pairs_refused: 2_000,
            tasks_bytes_max: 256 << 20,
            tasks_in_flight_max: 128,
            task_retry_ms: 100,
            task_retry_max_ms: 10_000,
            background_bytes_per_second_min: 256 << 10,
            background_bytes_per_second_max: 64 << 20,
            mutation: None,
        }
    }
}

/// Rules that the simulator switches off, one at a time, to show that its checkers bite. No configuration reaches
/// them, and `xtask tidy` checks that the server does not know them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mutation {
    /// Acknowledges before the sync (breaks INV-2).
    AckBeforeSync,
    /// Counts on under an old epoch after a restart (breaks INV-3): the simulator starts the node with the run number of
    /// before, so that its serials and counters begin again where its disk ends.
    ReuseEpoch,
    /// Is content with one acknowledgement fewer than W.
    WriteQuorumShort,
    /// Keeps only the newest sibling when joining (breaks INV-4).
    DropConcurrentSibling,
    /// Replicas accept a write that they outrank without saying so.
    HideSuperseded,
}

/// Every mutation, for the simulator's sweep.
pub const MUTATIONS: [Mutation; 5] = [
    Mutation::AckBeforeSync,
    Mutation::ReuseEpoch,
    Mutation::WriteQuorumShort,
    Mutation::DropConcurrentSibling,
    Mutation::HideSuperseded,
];
