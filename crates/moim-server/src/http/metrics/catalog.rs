//! Names of the node's and the engine's figures. A figure that is added there does not compile here until it is named.

use std::time::Duration;

use moim_node::views::Figures;
use moim_storage::Figures as EngineFigures;

use super::{Metric, MetricKind, Sample, count};

/// What the node counts.
#[expect(clippy::too_many_lines, reason = "a table, one row a figure")]
pub(crate) fn of_node(figures: &Figures) -> Vec<Metric> {
    // Taken apart in full, so that a new figure cannot be forgotten.
    let Figures {
        reads,
        writes,
        unavailable,
        timeouts,
        overloaded,
        shed_per_mille,
        expired,
        lww_discarded,
        restamped,
        read_mismatches,
        read_repairs,
        read_retries,
        read_hedges_won,
        cache_hits,
        cache_misses,
        cache_bytes,
        cache_objects,
        commits,
        unsynced_bytes,
        operations,
        tasks,
        tasks_bytes,
        tasks_dropped,
        tasks_done,
        tasks_outranked,
        hints,
        hints_bytes,
        hints_oldest_ms,
        hints_stored,
        hints_delivered,
        hints_refused,
        sloppy_writes,
        sloppy_reads,
        clock_skew_refused,
        exchanges,
        exchanges_failed,
        exchanged_keys,
        tree_cells,
        fillings,
        unfilled_partitions,
        forgotten,
        settled_lag_ms,
        forgotten_refused,
        clock_pairs_pruned,
        clocks_above_max,
        undecodable,
        disk_reads_failed,
        disk_full_refused,
        gossip_sent,
        gossip_received,
        suspicions,
        pauses,
        rival_words,
    } = *figures;
    let counter = Metric::counter;
    let gauge = |name, help, value| Metric::gauge(name, help, count(value));
    vec![
        counter("moim_reads_total", "Reads coordinated here.", reads),
        counter(
            "moim_writes_total",
            "Writes coordinated here, deletes and updates included.",
            writes,
        ),
        counter("moim_unavailable_total", "Requests that ended as unavailable.", unavailable),
        counter("moim_timeouts_total", "Requests that ended as timeout.", timeouts),
        counter("moim_overloaded_total", "Requests refused as overload.", overloaded),
        gauge(
            "moim_shed_per_mille",
            "Share of requests refused because others keep the node busy, in thousandths.",
            shed_per_mille,
        ),
        counter(
            "moim_expired_total",
            "Requests, and work for peers, dropped because nobody waited for it any more.",
            expired,
        ),
        counter(
            "moim_lww_discarded_total",
            "Acknowledged lww writes that a concurrent write outranked.",
            lww_discarded,
        ),
        counter("moim_restamped_total", "Writes stamped anew above a version they met.", restamped),
        counter(
            "moim_read_mismatches_total",
            "Reads whose replicas did not agree.",
            read_mismatches,
        ),
        counter("moim_read_repairs_total", "Copies brought up to date by reads.", read_repairs),
        counter(
            "moim_read_retries_total",
            "Reads that asked one more replica because another was late.",
            read_retries,
        ),
        counter(
            "moim_read_hedges_won_total",
            "Reads in which the additional replica answered before the late one.",
            read_hedges_won,
        ),
        counter("moim_cache_hits_total", "Objects that a request found in memory.", cache_hits),
        counter("moim_cache_misses_total", "Objects that had to be read from disk.", cache_misses),
        gauge("moim_cache_bytes", "Bytes of objects in memory.", cache_bytes),
        gauge("moim_cache_objects", "Objects in memory.", cache_objects),
        counter("moim_commits_total", "Batches handed to the disk.", commits),
        gauge("moim_unsynced_bytes", "Bytes of writes that wait for their sync.", unsynced_bytes),
        gauge("moim_operations", "Requests in progress.", operations),
        gauge("moim_tasks", "Copies owed to owners.", tasks),
        gauge("moim_tasks_bytes", "Bytes of the copies owed to owners.", tasks_bytes),
        counter(
            "moim_tasks_dropped_total",
            "Copies owed that were given up for lack of room; read repair brings them.",
            tasks_dropped,
        ),
        counter(
            "moim_tasks_done_total",
            "Copies owed that arrived, or that their owner needs no more.",
            tasks_done,
        ),
        counter(
            "moim_tasks_outranked_total",
            "Copies owed that were given up because a newer version is known.",
            tasks_outranked,
        ),
        gauge("moim_hints", "Objects kept for owners that are away.", hints),
        gauge(
            "moim_hints_bytes",
            "Bytes of the hint store; hints_bytes_max bounds it.",
            hints_bytes,
        ),
        Metric::gauge(
            "moim_hints_oldest_seconds",
            "How long the oldest hint has been kept.",
            count(hints_oldest_ms) / 1_000.0,
        ),
        counter("moim_hints_stored_total", "Objects taken to be kept for owners.", hints_stored),
        counter("moim_hints_delivered_total", "Hints that every owner has got.", hints_delivered),
        counter(
            "moim_hints_refused_total",
            "Hints refused because the store was full.",
            hints_refused,
        ),
        counter(
            "moim_sloppy_writes_total",
            "Writes acknowledged with the help of stand-ins: what strict quorums promise does not hold for them.",
            sloppy_writes,
        ),
        counter(
            "moim_sloppy_reads_total",
            "Reads answered with the help of stand-ins: what strict quorums promise does not hold for them.",
            sloppy_reads,
        ),
        counter(
            "moim_clock_skew_refused_total",
            "Messages refused because their stamp was too far ahead of this node's clock.",
            clock_skew_refused,
        ),
        counter(
            "moim_exchanges_total",
            "Comparisons with other owners that this node began and that came to an end.",
            exchanges,
        ),
        counter(
            "moim_exchanges_failed_total",
            "Comparisons that ended early and are tried again.",
            exchanges_failed,
        ),
        counter(
            "moim_exchanged_keys_total",
            "Keys that comparisons found different.",
            exchanged_keys,
        ),
        gauge("moim_tree_cells", "Cells of the Merkle trees in memory.", tree_cells),
        counter("moim_fillings_total", "Times this node had lost its data.", fillings),
        gauge(
            "moim_unfilled_partitions",
            "Partitions not served until the other owners have filled them.",
            unfilled_partitions,
        ),
        counter(
            "moim_forgotten_total",
            "Tombstones and headers forgotten, because nothing that they replaced can come back.",
            forgotten,
        ),
        gauge(
            "moim_settled_lag_milliseconds",
            "How far behind now deletions and expired values are forgotten. Minutes: a member is away, and they pile up.",
            settled_lag_ms,
        ),
        counter(
            "moim_forgotten_refused_total",
            "Versions refused because they were replaced and forgotten long ago.",
            forgotten_refused,
        ),
        counter(
            "moim_clock_pairs_pruned_total",
            "Pairs removed from clocks that had grown beyond clock_pairs_max.",
            clock_pairs_pruned,
        ),
        counter(
            "moim_clocks_above_max_total",
            "Times a clock stayed beyond clock_pairs_max, because its oldest pairs were not settled.",
            clocks_above_max,
        ),
        counter("moim_undecodable_total", "Stored objects that could not be decoded.", undecodable),
        counter(
            "moim_disk_reads_failed_total",
            "Reads that the disk could not answer; replicas on other nodes did.",
            disk_reads_failed,
        ),
        counter(
            "moim_disk_full_refused_total",
            "Values refused because the disk is full.",
            disk_full_refused,
        ),
        counter("moim_gossip_sent_total", "Gossip lists sent.", gossip_sent),
        counter("moim_gossip_received_total", "Gossip lists received.", gossip_received),
        counter("moim_suspicions_total", "Members that this node began to suspect.", suspicions),
        counter(
            "moim_pauses_total",
            "Times that this node stood still for so long that it judged nobody by that time.",
            pauses,
        ),
        counter(
            "moim_rival_words_total",
            "Times that another process spoke under this node's id.",
            rival_words,
        ),
    ]
}

/// What the storage engine counts (REQ-6).
pub(crate) fn of_engine(figures: &EngineFigures) -> Vec<Metric> {
    let EngineFigures {
        log_syncs,
        log_bytes,
        memtable_bytes,
        tables,
        tables_bytes,
        filter_hits,
        filter_false_hits,
        cache_bytes,
        keys_estimate,
        compaction_pending_bytes,
        background_errors,
        corruptions,
        io_errors,
        full_errors,
        ..
    } = *figures;
    let counter = Metric::counter;
    let gauge = |name, help, value| Metric::gauge(name, help, count(value));
    let mut metrics = vec![
        counter("moim_storage_log_syncs_total", "Syncs of the commit log.", log_syncs),
        counter("moim_storage_log_bytes_total", "Bytes written to the commit log.", log_bytes),
        gauge("moim_storage_memtable_bytes", "Bytes in memory tables.", memtable_bytes),
        gauge("moim_storage_tables", "Sorted-string tables.", tables),
        gauge("moim_storage_tables_bytes", "Bytes of sorted-string tables.", tables_bytes),
        counter(
            "moim_storage_filter_hits_total",
            "Reads that a Bloom filter spared a table.",
            filter_hits,
        ),
        counter(
            "moim_storage_filter_false_hits_total",
            "Reads that a Bloom filter let through in vain.",
            filter_false_hits,
        ),
        gauge("moim_storage_block_cache_bytes", "Bytes of block cache in use.", cache_bytes),
        gauge("moim_storage_keys", "Keys on disk, roughly.", keys_estimate),
        gauge(
            "moim_storage_compaction_pending_bytes",
            "Bytes waiting to be compacted.",
            compaction_pending_bytes,
        ),
        counter(
            "moim_storage_background_errors_total",
            "Faults in the background.",
            background_errors,
        ),
        faults(corruptions, io_errors, full_errors),
    ];
    metrics.extend(of_compaction(figures));
    metrics
}

/// What flushes and compactions do, and what they cost writers.
fn of_compaction(figures: &EngineFigures) -> Vec<Metric> {
    let EngineFigures {
        compaction_written_bytes,
        live_bytes,
        files_bytes,
        stall_micros,
        writes_stopped,
        ..
    } = *figures;
    let counter = Metric::counter;
    let gauge = |name, help, value| Metric::gauge(name, help, count(value));
    vec![
        counter(
            "moim_storage_compaction_written_bytes_total",
            "Bytes that flushes and compactions wrote.",
            compaction_written_bytes,
        ),
        gauge(
            "moim_storage_live_bytes",
            "What compaction would leave of the tables, roughly; the rest is overwritten or deleted.",
            live_bytes,
        ),
        gauge(
            "moim_storage_files_bytes",
            "Bytes of all tables on disk, those included that only readers still hold.",
            files_bytes,
        ),
        seconds(
            "moim_storage_stall_seconds_total",
            "Time that writers waited for flushes and compactions.",
            stall_micros,
        ),
        gauge(
            "moim_storage_writes_stopped",
            "1 while all writes wait for flushes and compactions.",
            writes_stopped,
        ),
    ]
}

/// Microseconds so far, as seconds.
fn seconds(name: &'static str, help: &'static str, micros: u64) -> Metric {
    let spent = Duration::from_micros(micros).as_secs_f64();
    Metric { kind: MetricKind::Counter, ..Metric::gauge(name, help, spent) }
}

fn faults(corruptions: u64, io_errors: u64, full_errors: u64) -> Metric {
    let kinds = [("corruption", corruptions), ("io", io_errors), ("full", full_errors)];
    let sample = |(kind, so_far)| Sample::new(count(so_far)).label("kind", kind);
    Metric {
        name: "moim_storage_faults_total",
        help: "Reads and writes that the storage engine failed: a checksum that does not hold, an error of the system, or \
               no room.",
        kind: MetricKind::Counter,
        samples: kinds.map(sample).to_vec(),
    }
}
