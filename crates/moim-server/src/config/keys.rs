//! Every key, once: its place, its comment, how it is read and shown.

use toml::Value;

use super::Config;
use super::namespaces::NamespaceConfig;
use super::setting::Setting;

/// The tables of a file.
pub(super) const TABLES: [&str; 2] = ["cluster", "node"];

/// A key of `T`.
pub(super) struct Key<T> {
    pub(super) table: &'static str,
    pub(super) name: &'static str,
    /// What it means; its unit is in its name.
    pub(super) comment: &'static str,
    show: fn(&T) -> Value,
    set: fn(&mut T, &Value) -> Result<(), String>,
}

impl<T> Key<T> {
    /// As in `node.zone`.
    pub(super) fn path(&self) -> String {
        format!("{}.{}", self.table, self.name)
    }

    /// As in `MOIM_NODE_ZONE`.
    pub(super) fn variable(&self) -> String {
        format!("MOIM_{}_{}", self.table, self.name).to_ascii_uppercase()
    }

    pub(super) fn show(&self, of: &T) -> Value {
        (self.show)(of)
    }

    pub(super) fn set(&self, of: &mut T, value: &Value) -> Result<(), String> {
        (self.set)(of, value).map_err(|expected| format!("{} = {value}: {expected}", self.name))
    }

    /// Sets from a variable or flag, where everything is text.
    pub(super) fn set_text(&self, of: &mut T, text: &str) -> Result<(), String> {
        let value = match self.show(of) {
            Value::Array(_) => {
                let items = text.split(',').map(str::trim).filter(|item| !item.is_empty());
                Value::Array(items.map(|item| Value::String(item.to_owned())).collect())
            }
            Value::Boolean(_) => {
                text.parse().map_or_else(|_| Value::String(text.to_owned()), Value::Boolean)
            }
            // Settings that are not set yet look like texts; those that are something else take it as such.
            _ => {
                let number = text.parse().map(Value::Integer);
                let number_or_bool = number.or_else(|_| text.parse().map(Value::Boolean));
                number_or_bool.unwrap_or_else(|_| Value::String(text.to_owned()))
            }
        };
        let as_text = || Value::String(text.to_owned());
        match (self.set)(of, &value) {
            Err(_) if value.is_integer() || value.is_bool() => self.set(of, &as_text()),
            Err(expected) => Err(format!("{} = '{text}': {expected}", self.name)),
            Ok(()) => Ok(()),
        }
    }
}

macro_rules! key {
    ($table:ident.$name:ident, $comment:literal) => {
        Key {
            table: stringify!($table),
            name: stringify!($name),
            comment: $comment,
            show: |config| Setting::show(&config.$table.$name),
            set: |config, value| Setting::read(value).map(|read| config.$table.$name = read),
        }
    };
    ($name:ident, $comment:literal) => {
        Key {
            table: "namespace",
            name: stringify!($name),
            comment: $comment,
            show: |namespace| Setting::show(&namespace.$name),
            set: |namespace, value| Setting::read(value).map(|read| namespace.$name = read),
        }
    };
}

/// The keys of `[cluster]` and `[node]`, in the order in which they are printed.
pub(super) const KEYS: &[Key<Config>] = &[
    key!(cluster.name, "What people call this cluster."),
    key!(
        cluster.partitions,
        "Pieces that the hash slots are cut into: a power of two from 256 to 16384. Fixed when the cluster is founded."
    ),
    key!(
        cluster.n,
        "Copies of every value, on distinct machines; there are never more than machines. 1 to 16."
    ),
    key!(
        cluster.r,
        "Copies that a read hears from: ONE, TWO, THREE, QUORUM, ALL, LOCAL_ONE, LOCAL_QUORUM, EACH_QUORUM or a number. With r + w > n a read sees every acknowledged write."
    ),
    key!(cluster.w, "Copies that hold a write before it is acknowledged: as r."),
    key!(
        cluster.max_clock_skew_ms,
        "A write stamped further ahead of a node's clock than this is refused."
    ),
    key!(
        cluster.max_pair_bytes,
        "Key and value together, where a namespace does not say otherwise. At most 16777216."
    ),
    key!(
        node.data_dir,
        "Everything that this server keeps: identity, lock and data. One directory a server, never copied to another."
    ),
    key!(
        node.shards,
        "Nodes in this server, each with a loop, an engine and a share of the data of its own; at most one a core. They share the machine (copies never meet on it), memory, weight and the ports for Redis and HTTP; listen_cluster and listen_peer are the first of as many ports. Fixed when data_dir is made."
    ),
    key!(
        node.engine,
        "Where data is kept: 'lsm' on disk, in a commit log of our own above RocksDB's tables; 'rocksdb' on disk, in RocksDB alone; 'memory' nowhere (for trying things out). 'auto': what data_dir was made with, 'lsm' if it is new."
    ),
    key!(
        node.durability,
        "When a write counts as kept: 'sync', after the fsync of its group; 'interval', once the operating system has it, which is made to sync at intervals; 'os', once the operating system has it. Only 'sync' survives the loss of power on all nodes at once."
    ),
    key!(
        node.durability_interval_ms,
        "How often 'interval' syncs at least, 1 to 60000: what nodes that lose power together may lose. It also does once 1 MiB is not synced."
    ),
    key!(
        node.log_rest_ms,
        "After so long without much being written ('lsm'), what memory tables hold is written out, compressed, and the commit log gives its segments back to the disk. A store that goes on then pays for new ones: longer than it pauses. At least 2000."
    ),
    key!(
        node.listen_redis,
        "Where Redis clients connect. The node behaves as one big Redis there."
    ),
    key!(node.listen_cluster, "Where Redis Cluster clients connect."),
    key!(node.listen_http, "Where HTTP clients connect: JSON, metrics, dashboard."),
    key!(
        node.listen_peer,
        "Where other nodes connect. It knows no password: keep it inside a private network."
    ),
    key!(
        node.advertise_client,
        "Host name or address that clients are told to reach this node at; empty: that of the listen_… settings."
    ),
    key!(
        node.advertise_peer,
        "Host name or address that other nodes reach this node at; empty: that of listen_peer."
    ),
    key!(
        node.found,
        "Peer addresses (host:port) of all servers that found the cluster, this one included: the same list on each. Each is taken to have as many shards as this one; if they differ, say all of its ports (host:8379-8382). Empty: a cluster of one. Not read once there is a cluster."
    ),
    key!(
        node.join,
        "Peer addresses of a living cluster to enter. Not served yet: found the cluster with all of its nodes."
    ),
    key!(node.zone, "Rack or availability zone; copies spread over zones while there are enough."),
    key!(node.dc, "Data centre."),
    key!(
        node.weight,
        "Capacity relative to other servers: the share of data is in proportion to it. At least 1 for each shard."
    ),
    key!(
        node.machine_id,
        "The machine, as 16 hexadecimal digits, where copies must not meet; empty: drawn once and kept in data_dir. For trying out placement on one machine."
    ),
    key!(
        node.password,
        "Asked of every client (AUTH, HTTP Bearer or Basic); empty: none. Listening beyond this machine needs one."
    ),
    key!(node.password_file, "A file with the password; overrides password."),
    key!(node.allow_insecure, "Lets this node listen beyond this machine without a password."),
    key!(
        node.memory_bytes,
        "What this server keeps in memory, all together: the next five keys share it with clients' buffers (a sixteenth) and everything else (an eighth). Its shards have equal parts of each. At least 67108864 for each shard."
    ),
    key!(
        node.cache_bytes,
        "Memory for the objects used last; a hit needs no storage engine. 0: a share of memory_bytes, 5/16."
    ),
    key!(
        node.block_cache_bytes,
        "Memory of the storage engine: blocks read, filters, and memory tables. 0: a share of memory_bytes, 3/8."
    ),
    key!(
        node.memtable_bytes,
        "One memory table of the storage engine; up to two (lsm) or three (rocksdb) are in use, within block_cache_bytes. 0: a fifth of that."
    ),
    key!(
        node.unsynced_bytes_max,
        "Writes that wait for their sync; beyond it writes are refused as overload. 0: a share of memory_bytes, 1/16."
    ),
    key!(
        node.tasks_bytes_max,
        "Copies owed to nodes that do not answer; beyond it the oldest are left to read repair. 0: a share of memory_bytes, 1/16."
    ),
    key!(
        node.disk_used_percent_max,
        "How much of the disk may be in use, by anything, before this node takes no new values; reads and deletions go on. Compactions need the rest. 100: until it is full."
    ),
    key!(
        node.hints_bytes_max,
        "What this node keeps for other nodes that are away; beyond it new hints are refused as overload, none is dropped."
    ),
    key!(
        node.background_bytes_per_second_min,
        "What hints, repair, refill and sweeps may send together whatever clients feel of it, so that they get on. Above that they yield: the p99 of clients' requests is watched."
    ),
    key!(
        node.background_bytes_per_second_max,
        "What hints, repair, refill and sweeps send together at the most."
    ),
    key!(
        node.refill_bytes_per_second_min,
        "As background_bytes_per_second_min, for filling a node that lost its disk: one copy of everything is missing meanwhile."
    ),
    key!(
        node.operations_max,
        "Requests that this node coordinates at once; beyond it they are refused as overload."
    ),
    key!(
        node.redis_connections_max,
        "Connections of Redis and Redis Cluster clients together; beyond it they are closed with an error."
    ),
    key!(
        node.http_connections_max,
        "Connections of HTTP clients; beyond it they are answered 503."
    ),
    key!(node.request_timeout_ms, "How long a request may take when the client does not say."),
    key!(
        node.stand_in_after_ms,
        "How long a request to a sloppy namespace waits for owners that do not answer before others stand in. Below request_timeout_ms."
    ),
    key!(
        node.read_retry_ms,
        "How long a read waits for a copy before it asks the next one as well. Below request_timeout_ms."
    ),
    key!(node.ping_interval_ms, "How often a silent peer is asked whether it lives. At most 1000."),
    key!(
        node.silence_ms,
        "How long a ping may go unanswered before a peer is skipped. At least twice ping_interval_ms."
    ),
    key!(
        node.stop_linger_ms,
        "How long a node that stops waits for Redis clients that say nothing; the others see their connection end behind a reply. Meanwhile /readyz says no: behind a load balancer, more than the time between two of its checks."
    ),
    key!(node.stop_timeout_ms, "How long requests in progress may take when this node stops."),
    key!(
        node.experiments,
        "Lets HTTP cut this node off from its peers, to see what happens. Never where data matters."
    ),
];

/// The keys of `[cluster.namespaces.NAME]`.
pub(super) const NAMESPACE_KEYS: &[Key<NamespaceConfig>] = &[
    key!(
        conflict,
        "What becomes of concurrent writes: 'lww', the last one wins, or 'siblings', all are kept and handed to the client."
    ),
    key!(n, "Copies of every value; as [cluster]."),
    key!(r, "Copies that a read hears from; as [cluster]."),
    key!(w, "Copies that hold a write before it is acknowledged; as [cluster]."),
    key!(ttl_ms, "Life of a value written without an expiry; 0: for ever."),
    key!(
        max_ttl_ms,
        "The longest life that a value may be given, longer ones are cut to it; 0: any."
    ),
    key!(max_pair_bytes, "Key and value together; as [cluster]."),
    key!(
        sloppy,
        "Whether the next healthy nodes stand in for owners that are away, and count in r and w. Unless told otherwise true for 0 to 15, false for others."
    ),
    key!(
        mode,
        "What a part of the cluster without a majority does: 'available', it goes on. ('consistent', it refuses, is not served yet.)"
    ),
];
