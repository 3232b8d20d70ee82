//! `INFO`: what clients and dashboards of Redis read, with the truth about this node in it.

use std::fmt::Write as _;

use moim_node::api::DiskRoom;

use super::super::encode::Reply;
use super::super::front::Front;
use super::super::settings::Port;
use super::conversation::REDIS_VERSION;
use super::{Call, Decided, Step};
use crate::memory::Used;

/// A section: its name and what writes it.
type Section = (&'static str, fn(&Front, Port, &mut Lines));

/// The sections of Redis, in its order. `commandstats` and `latencystats` are given when asked for.
const SECTIONS: &[Section] = &[
    ("Server", server),
    ("Clients", clients),
    ("Memory", memory),
    ("Persistence", persistence),
    ("Stats", stats),
    ("Replication", replication),
    ("CPU", cpu),
    ("Modules", |_, _, _| {}),
    ("Errorstats", |_, _, _| {}),
    ("Cluster", cluster),
    ("Keyspace", keyspace),
];

const MORE: &[Section] = &[("Commandstats", commandstats)];

/// The text of a section.
struct Lines(String);

impl Lines {
    fn put(&mut self, name: &str, value: impl std::fmt::Display) {
        write!(self.0, "{name}:{value}\r\n").expect("writing to a string does not fail");
    }
}

pub(super) fn info(call: &Call<'_>) -> Decided {
    let asked: Vec<String> = (1..call.len()).map(|at| call.text(at).to_ascii_lowercase()).collect();
    let asks = |word: &str| asked.iter().any(|asked| asked == word);
    let default = asked.is_empty() || asks("default");
    let all = asks("all") || asks("everything");
    let mut lines = Lines(String::new());
    let default_sections = SECTIONS.iter().map(|section| (section, default || all));
    for ((name, write), given) in default_sections.chain(MORE.iter().map(|section| (section, all)))
    {
        if !given && !asks(&name.to_ascii_lowercase()) {
            continue;
        }
        if !lines.0.is_empty() {
            lines.0.push_str("\r\n");
        }
        lines.0.extend(["# ", name, "\r\n"]);
        write(call.front(), call.connection.port, &mut lines);
    }
    Ok(Step::Done(Reply::Verbatim(lines.0)))
}

fn server(front: &Front, port: Port, lines: &mut Lines) {
    let uptime = front.started.elapsed().as_secs();
    let own = front.store.own();
    let (mode, address) = match port {
        Port::Plain => ("standalone", &own.redis_address),
        Port::Cluster => ("cluster", &own.cluster_address),
    };
    lines.put("redis_version", REDIS_VERSION);
    lines.put("redis_git_sha1", "00000000");
    lines.put("redis_git_dirty", 0);
    lines.put("redis_mode", mode);
    lines.put("os", std::env::consts::OS);
    lines.put("arch_bits", usize::BITS);
    lines.put("multiplexing_api", "tokio");
    lines.put("process_id", std::process::id());
    lines.put("run_id", format_args!("{:040x}", front.run_id));
    lines.put("tcp_port", address.rsplit_once(':').map_or("0", |(_, port)| port));
    lines.put("server_time_usec", front.store.now().wall_ms * 1_000);
    lines.put("uptime_in_seconds", uptime);
    lines.put("uptime_in_days", uptime / 86_400);
    lines.put("hz", 10);
    lines.put("configured_hz", 10);
    lines.put("executable", "moim");
    lines.put("config_file", "");
    lines.put("moim_version", env!("CARGO_PKG_VERSION"));
    lines.put("moim_node", own.member.node);
    let (shard, shards) = front.place();
    lines.put("moim_shard", shard);
    lines.put("moim_shards", shards);
}

fn clients(front: &Front, _port: Port, lines: &mut Lines) {
    lines.put("connected_clients", front.connections());
    lines.put("cluster_connections", front.store.peers().len());
    lines.put("maxclients", front.settings.clients_max);
    lines.put("blocked_clients", 0);
    lines.put("tracking_clients", 0);
}

fn memory(front: &Front, _port: Port, lines: &mut Lines) {
    let figures = front.store.figures();
    let clients = front.counted().buffers_bytes;
    let (used, budget) = match front.memory.get() {
        Some(ledger) => (ledger.used(clients), ledger.budget.total_bytes),
        None => (Used { objects: figures.cache_bytes, clients, ..Used::default() }, 0),
    };
    lines.put("used_memory", used.sum());
    lines.put("used_memory_human", format_args!("{:.2}M", mebibytes(used.sum())));
    if let Some((now, most)) = resident_bytes() {
        lines.put("used_memory_rss", now);
        let ratio = mebibytes(now) / mebibytes(used.sum().max(1));
        lines.put("mem_fragmentation_ratio", format_args!("{ratio:.2}"));
        lines.put("used_memory_peak", most);
    }
    lines.put("used_memory_dataset", used.objects);
    lines.put("used_memory_lua", 0);
    lines.put("maxmemory", budget);
    lines.put("maxmemory_human", format_args!("{:.2}M", mebibytes(budget)));
    lines.put("maxmemory_policy", "noeviction");
    lines.put("mem_allocator", "mimalloc");
    lines.put("moim_cache_objects", figures.cache_objects);
    for (part, bytes) in used.parts() {
        lines.put(&format!("moim_memory_{part}"), bytes);
    }
    lines.put("moim_unsynced_bytes", used.unsynced);
    lines.put("moim_client_buffers_bytes", used.clients);
}

#[expect(clippy::cast_precision_loss, reason = "shown with two digits")]
fn mebibytes(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}

fn persistence(front: &Front, _port: Port, lines: &mut Lines) {
    // A client that waits for loading:0 (as ioredis does) waits until the node serves.
    lines.put("loading", u8::from(front.store.readiness().is_err()));
    lines.put("async_loading", 0);
    lines.put("rdb_changes_since_last_save", 0);
    lines.put("rdb_bgsave_in_progress", 0);
    lines.put("rdb_last_save_time", front.store.now().wall_ms / 1_000);
    lines.put("rdb_last_bgsave_status", "ok");
    lines.put("aof_enabled", 1);
    lines.put("aof_rewrite_in_progress", 0);
    let room = front.store.disk_room();
    let taken = if room == DiskRoom::Exhausted { "err" } else { "ok" };
    lines.put("aof_last_write_status", taken);
    lines.put("moim_disk_room", room);
    lines.put("moim_commits", front.store.figures().commits);
}

fn stats(front: &Front, _port: Port, lines: &mut Lines) {
    let counted = front.counted();
    let figures = front.store.figures();
    lines.put(
        "total_connections_received",
        counted.connections_accepted + counted.connections_refused,
    );
    lines.put("total_commands_processed", counted.calls());
    lines.put("instantaneous_ops_per_sec", front.calls_per_second(counted.calls()));
    lines.put("total_net_input_bytes", counted.input_bytes);
    lines.put("total_net_output_bytes", counted.output_bytes);
    lines.put("rejected_connections", counted.connections_refused);
    lines.put("expired_keys", 0);
    lines.put("evicted_keys", 0);
    lines.put("evicted_clients", counted.connections_overfull);
    lines.put("keyspace_hits", counted.hits);
    lines.put("keyspace_misses", counted.misses);
    lines.put("pubsub_channels", 0);
    lines.put("pubsub_patterns", 0);
    lines.put("total_error_replies", counted.errors);
    lines.put("acl_access_denied_auth", counted.login_failures);
    lines.put("moim_reads", figures.reads);
    lines.put("moim_writes", figures.writes);
    front.store.reads(|reads| {
        for (from, latencies) in [("memory", &reads.memory), ("disk", &reads.disk)] {
            lines.put(&format!("moim_reads_from_{from}"), latencies.count());
            // Upper bounds in microseconds, and how many reads are in each bucket: two of these lines, the one from the
            // other, are the reads between.
            let buckets: Vec<_> =
                latencies.filled().map(|(bound, count)| format!("{bound}={count}")).collect();
            lines.put(&format!("moim_reads_from_{from}_us"), buckets.join(","));
        }
    });
    lines.put("moim_unavailable", figures.unavailable);
    lines.put("moim_overloaded", figures.overloaded);
    lines.put("moim_timeouts", figures.timeouts);
    lines.put("moim_lww_discarded", figures.lww_discarded);
    lines.put("moim_read_repairs", figures.read_repairs);
    lines.put("moim_tasks", figures.tasks);
    lines.put("moim_hints", figures.hints);
    lines.put("moim_hints_bytes", figures.hints_bytes);
    lines.put("moim_sloppy_writes", figures.sloppy_writes);
    lines.put("moim_sloppy_reads", figures.sloppy_reads);
}

fn replication(front: &Front, _port: Port, lines: &mut Lines) {
    lines.put("role", "master");
    lines.put("connected_slaves", 0);
    lines.put("master_failover_state", "no-failover");
    lines.put("master_replid", format_args!("{:040x}", front.run_id));
    lines.put("master_replid2", "0000000000000000000000000000000000000000");
    lines.put("master_repl_offset", 0);
    lines.put("second_repl_offset", -1);
    lines.put("repl_backlog_active", 0);
    lines.put("moim_peers", front.store.peers().len());
    lines.put("moim_peers_reachable", front.store.reachable().len() - 1);
}

fn cpu(_front: &Front, _port: Port, lines: &mut Lines) {
    // User and system time are the fourteenth and fifteenth field, in hundredths of a second; the second is a name in
    // parentheses that may hold spaces. Where there is no such file, nothing is claimed.
    let Ok(text) = std::fs::read_to_string("/proc/self/stat") else { return };
    let fields = text.rsplit_once(')').map_or("", |(_, fields)| fields);
    let mut ticks = fields.split_whitespace().skip(11).map_while(|field| field.parse::<u64>().ok());
    if let (Some(user), Some(system)) = (ticks.next(), ticks.next()) {
        let seconds = |ticks: u64| format!("{}.{:02}0000", ticks / 100, ticks % 100);
        lines.put("used_cpu_sys", seconds(system));
        lines.put("used_cpu_user", seconds(user));
    }
}

/// Bytes of memory that the process has, and the most it has had, where the system tells.
fn resident_bytes() -> Option<(u64, u64)> {
    let text = std::fs::read_to_string("/proc/self/status").ok()?;
    let kibibytes = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name))?;
        line.trim_end_matches("kB").trim().parse::<u64>().ok()
    };
    Some((kibibytes("VmRSS:")? << 10, kibibytes("VmHWM:")? << 10))
}

fn cluster(_front: &Front, port: Port, lines: &mut Lines) {
    lines.put("cluster_enabled", u8::from(port == Port::Cluster));
}

fn keyspace(_front: &Front, _port: Port, lines: &mut Lines) {
    // No node knows how many keys there are without walking all partitions, which DBSIZE does and this must not.
    lines.put("moim_keys", "see DBSIZE");
}

fn commandstats(front: &Front, _port: Port, lines: &mut Lines) {
    for command in front.counted().commands.iter().filter(|command| command.calls > 0) {
        #[expect(clippy::cast_precision_loss, reason = "shown with two digits")]
        let per_call = command.micros as f64 / command.calls as f64;
        lines.put(
            &format!("cmdstat_{}", command.name),
            format_args!(
                "calls={},usec={},usec_per_call={per_call:.2},rejected_calls=0,failed_calls={}",
                command.calls, command.micros, command.failed
            ),
        );
    }
}
