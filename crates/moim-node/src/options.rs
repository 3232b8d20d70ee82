//! Every number that governs a node, with its unit and what it must exceed.

/// Settings of a node. The defaults serve a data centre; the simulator uses them too.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// How long a request may take, in milliseconds, when the client does not say.
    pub request_timeout_ms: u32,
    /// The longest that a client may ask a request to take, in milliseconds: an operation that waits holds memory.
    pub request_timeout_max_ms: u32,
    /// How long a read waits at the most for a replica before it asks the next one as well, in milliseconds: sooner
    /// after the p95 of that replica's recent answers. Below `request_timeout_ms`, or it would never.
    pub read_retry_ms: u32,
    /// How long a read waits at least before it asks one more, in milliseconds. Below `read_retry_ms`.
    pub read_hedge_ms_min: u32,
    /// How often a silent peer is asked whether it lives, in milliseconds.
    pub ping_interval_ms: u32,
    /// Pings to all peers together, a second; with more peers than fit each is asked less often.
    pub pings_per_second_max: u32,
    /// After how many milliseconds without an answer to a ping a peer is skipped. Several `ping_interval_ms`.
    pub silence_ms: u32,
    /// After how many requests in a row without an answer a peer is skipped until it says something again.
    pub missed_deadlines_max: u32,
    /// A turn that comes this much later than it was due means that this node itself stood still, in milliseconds:
    /// nobody is judged by that time. Below `silence_ms` plus `ping_interval_ms`, or a pause makes all peers silent.
    pub pause_ms: u32,
    /// How often the own heartbeat is raised and sent, in milliseconds.
    pub gossip_period_ms: u32,
    /// Peers that each heartbeat is sent to; from 2 on, news reaches n members in about log n periods.
    pub gossip_fanout: usize,
    /// A list is sent in messages of at most this many bytes, so that none keeps requests waiting.
    pub gossip_message_bytes_max: usize,
    /// Suspicions in one word.
    pub gossip_suspects_max: usize,
    /// Profiles in one list.
    pub gossip_profiles_max: usize,
    /// The phi at which a member is suspected: a heartbeat that comes so late or later has a chance of ten to the minus
    /// this.
    pub suspicion_phi: u32,
    /// The same for a member whose connection is gone, which is evidence of its own. Below `suspicion_phi`.
    pub suspicion_phi_lost: u32,
    /// The smallest deviation of heartbeats' intervals that phi reckons with, in milliseconds. Above what scheduling and
    /// garbage in the network do to a message.
    pub suspicion_deviation_min_ms: u32,
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
    /// How long inputs may wait for their turn before requests are refused as overload, in milliseconds. Well above what
    /// many clients with many requests each make of it, below `request_timeout_ms`.
    pub turn_delay_target_ms: u32,
    /// How long they must have waited longer than that, without a break, in milliseconds: a burst is no overload.
    pub turn_delay_patience_ms: u32,
    /// One read in so many is looked at again to see whether it was stale, and at least one a second; 0 for none.
    pub freshness_one_in: u32,
    /// Reads that are looked at again at once.
    pub freshness_checks_max: usize,
    /// Work that may wait for reads from disk; beyond it replicas refuse it as overload.
    pub reads_waiting_max: usize,
    /// Pages of keys that may be read from disk at once; beyond it replicas refuse them as overload.
    pub listings_max: usize,
    /// Messages that may wait until what they reveal is durable; beyond it replicas refuse as overload. Above
    /// `operations_max`: this node's own come on top of its peers'.
    pub held_max: usize,
    /// Updates that may wait for one key; beyond it they are refused as overload.
    pub updates_per_key_max: usize,
    /// Pairs in the clock of one key; a put that would add one beyond is refused. Far below what a stored object may
    /// hold, so that no object becomes unreadable by growing.
    pub clock_pairs_refused: usize,
    /// Pairs of a clock beyond which the oldest that are settled are removed (REQ-17). Below `clock_pairs_refused`.
    pub clock_pairs_max: usize,
    /// How often a node looks how far things have settled, in milliseconds.
    pub settle_tick_ms: u32,
    /// Keys that the sweep for forgettable objects reads in one page.
    pub sweep_page_keys: usize,
    /// Pages that the sweep reads in one `settle_tick_ms`.
    pub sweep_pages_per_tick: u32,
    /// The least time between the beginnings of two sweeps over everything, in milliseconds.
    pub sweep_period_ms: u32,
    /// Copies owed to owners that did not answer, in bytes over all targets; the oldest are left to read repair.
    pub tasks_bytes_max: u64,
    /// Copies in flight to one owner at once.
    pub tasks_in_flight_max: usize,
    /// First wait before a copy is offered again, in milliseconds; doubles up to `task_retry_max_ms`.
    pub task_retry_ms: u32,
    /// Longest wait before a copy is offered again, in milliseconds.
    pub task_retry_max_ms: u32,
    /// How long a request to a sloppy namespace waits for owners that can be reached but do not answer, in milliseconds,
    /// before others stand in for them. Well below `request_timeout_ms`, or it would never.
    pub stand_in_after_ms: u32,
    /// Objects kept for owners that are away, in bytes; beyond it new ones are refused and none is dropped. Each costs
    /// about half a kilobyte of it beside its size, because so much of it is in memory.
    pub hints_bytes_max: u64,
    /// Objects on their way to one owner at once, of those that were kept for it.
    pub hints_in_flight_max: usize,
    /// What background work (hints, repair, refill, sweeps) may always send, in bytes a second over all of it: it gets on
    /// whatever clients do.
    pub background_bytes_per_second_min: u64,
    /// What filling a lost disk may always take of it, in bytes a second, at a node that gives as at the one that is
    /// filled, whatever else asks: one copy of everything is missing until it ends. Ten gigabytes in eighty minutes
    /// where two give to a node while clients cannot bear more.
    pub refill_bytes_per_second_min: u64,
    /// What background work sends at the most, in bytes a second over all of it. Above
    /// `background_bytes_per_second_min`.
    pub background_bytes_per_second_max: u64,
    /// How often every pair of owners compares what it holds, in milliseconds; each time a quarter more or less.
    pub exchange_interval_ms: u32,
    /// How long an answer within a comparison may take before the comparison ends, in milliseconds: pages of entries
    /// are read from disk.
    pub exchange_answer_ms: u32,
    /// A rule that is switched off, to see the simulator notice. Always `None` outside of it.
    pub mutation: Option<Mutation>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            request_timeout_ms: 1_000,
            request_timeout_max_ms: 60_000,
            read_retry_ms: 50,
            read_hedge_ms_min: 3,
            ping_interval_ms: 100,
            pings_per_second_max: 1_000,
            silence_ms: 300,
            missed_deadlines_max: 3,
            pause_ms: 250,
            gossip_period_ms: 1_000,
            gossip_fanout: 3,
            gossip_message_bytes_max: 32 << 10,
            gossip_suspects_max: 16,
            gossip_profiles_max: 32,
            suspicion_phi: 8,
            suspicion_phi_lost: 1,
            suspicion_deviation_min_ms: 300,
            max_clock_skew_ms: 5_000,
            clock_lease_ms: 500,
            cache_bytes: 256 << 20,
            disk_used_percent_max: 90,
            unsynced_bytes_max: 64 << 20,
            operations_max: 100_000,
            turn_delay_target_ms: 100,
            turn_delay_patience_ms: 200,
            freshness_one_in: 256,
            freshness_checks_max: 64,
            reads_waiting_max: 100_000,
            listings_max: 1_000,
            held_max: 200_000,
            updates_per_key_max: 1_000,
            clock_pairs_refused: 2_000,
            clock_pairs_max: 32,
            settle_tick_ms: 1_000,
            sweep_page_keys: 256,
            sweep_pages_per_tick: 4,
            sweep_period_ms: 10_000,
            tasks_bytes_max: 256 << 20,
            tasks_in_flight_max: 128,
            task_retry_ms: 100,
            task_retry_max_ms: 10_000,
            stand_in_after_ms: 300,
            hints_bytes_max: 512 << 20,
            hints_in_flight_max: 64,
            background_bytes_per_second_min: 1 << 20,
            refill_bytes_per_second_min: 1 << 20,
            background_bytes_per_second_max: 64 << 20,
            exchange_interval_ms: 10_000,
            exchange_answer_ms: 5_000,
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
    /// Stand-ins forget what they keep for owners instead of handing it over (breaks INV-5).
    DropHints,
    /// Tombstones and headers go when they are a few seconds old, whoever may not have heard of them (breaks INV-7).
    RetireTombstonesByAge,
    /// Read repair writes a value that it met as if it were new, also where a deletion has outranked it (breaks INV-7).
    RepairResurrects,
    /// One reporter makes a member down, and its suspicion outlives the heartbeat that it named: whoever one member has
    /// lost sight of is up and down for all, as often as that one changes its mind.
    OneReporter,
    /// Expiry slices that have passed keep counting in the Merkle trees, and are compared: replicas that gave values back
    /// at different moments never agree.
    ExpiryStaysInTrees,
    /// One node says what its disk has not synced (breaks INV-2): the simulator tells only the one with the lowest id.
    FsyncSkippedOnOneNode,
}

/// Every mutation, for the simulator's sweep.
pub const MUTATIONS: [Mutation; 11] = [
    Mutation::AckBeforeSync,
    Mutation::ReuseEpoch,
    Mutation::WriteQuorumShort,
    Mutation::DropConcurrentSibling,
    Mutation::HideSuperseded,
    Mutation::DropHints,
    Mutation::RetireTombstonesByAge,
    Mutation::RepairResurrects,
    Mutation::OneReporter,
    Mutation::ExpiryStaysInTrees,
    Mutation::FsyncSkippedOnOneNode,
];
