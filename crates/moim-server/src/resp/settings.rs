//! What an operator can set about the Redis ports.

use moim_node::namespace::PAIR_BYTES_MAX;

use super::login::PasswordDigest;
use crate::config::{Config, Memory};

/// Which of the two Redis ports a connection came in on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Port {
    /// Behaves as one big Redis: never redirects, keyspace commands speak for the whole cluster.
    Plain,
    /// Behaves as a master of a Redis Cluster: hints at a new ring, keyspace commands speak for what this node leads.
    Cluster,
}

/// Limits and policies of the Redis ports. Lengths are in bytes, times in milliseconds.
#[derive(Clone, Debug)]
pub struct RespSettings {
    /// The digest of the password of the user `default`; `None` (the default) lets everybody in whom `protected` does.
    pub password: Option<PasswordDigest>,
    /// Whether clients from other machines are refused while there is no password. Default: yes. The configuration
    /// refuses such a node already; this holds when a port is forwarded to it.
    pub protected: bool,
    /// Connections at once, both ports together. Default 10,000.
    pub clients_max: usize,
    /// The longest argument, in bytes; a longer one closes the connection, as it cannot be skipped safely. Must exceed
    /// the largest pair limit of a namespace, so that a value over *that* gets an error which names it. Default: the
    /// largest pair limit that can be set (16 MiB) and 1 MiB.
    pub bulk_bytes_max: usize,
    /// Bytes of a command that has not arrived whole; must exceed `bulk_bytes_max`. Default 64 MiB.
    pub query_bytes_max: usize,
    /// Unsent bytes of replies at which a connection stops executing commands until some are sent. Far below
    /// `output_bytes_max`. Default 256 KiB.
    pub output_bytes_soft: usize,
    /// Unsent bytes of replies at which a connection is closed. Default 64 MiB.
    pub output_bytes_max: usize,
    /// Bytes that the buffers of all connections hold together; a connection that would go beyond it is closed, unless
    /// it holds no more than its share of 64 KiB. Default 1 GiB.
    pub buffers_bytes_max: usize,
    /// Commands of one connection that run at once; the next ones wait in its buffer. Default 1,000.
    pub pipeline_max: usize,
    /// Bytes of commands queued by one `MULTI`. Default 16 MiB.
    pub transaction_bytes_max: usize,
    /// After how many milliseconds without a command a connection is closed; 0 (the default) for never, as in Redis.
    pub idle_timeout_ms: u64,
    /// After how many milliseconds of silence the system asks whether a client's machine is still there, so that a
    /// connection whose other end has vanished is noticed; 0 for never. Whole seconds. Default 300,000, as in Redis.
    pub keepalive_ms: u64,
    /// How long somebody who has to log in may take, in milliseconds. Default 10,000.
    pub login_timeout_ms: u64,
    /// How long the rest of a command may be awaited without a byte arriving, in milliseconds. Default 60,000.
    pub unfinished_timeout_ms: u64,
    /// How long a client may leave its replies unread while some wait, in milliseconds. Default 60,000.
    pub unread_timeout_ms: u64,
    /// How long the answer to a wrong password is held back, in milliseconds. Default 100.
    pub login_delay_ms: u64,
}

impl Default for RespSettings {
    fn default() -> Self {
        let pair_bytes_max = usize::try_from(PAIR_BYTES_MAX).expect("16 MiB fit into an address");
        Self {
            password: None,
            protected: true,
            clients_max: 10_000,
            bulk_bytes_max: pair_bytes_max + (1 << 20),
            query_bytes_max: 64 << 20,
            output_bytes_soft: 256 << 10,
            output_bytes_max: 64 << 20,
            buffers_bytes_max: 1 << 30,
            pipeline_max: 1_000,
            transaction_bytes_max: 16 << 20,
            idle_timeout_ms: 0,
            keepalive_ms: 300_000,
            login_timeout_ms: 10_000,
            unfinished_timeout_ms: 60_000,
            unread_timeout_ms: 60_000,
            login_delay_ms: 100,
        }
    }
}

impl From<&Config> for RespSettings {
    fn from(config: &Config) -> Self {
        let node = &config.node;
        Self {
            password: (!node.password.is_empty())
                .then(|| PasswordDigest::of(node.password.as_bytes())),
            protected: !node.allow_insecure,
            clients_max: node.redis_connections_max as usize,
            buffers_bytes_max: usize::try_from(Memory::of(node).clients_bytes)
                .unwrap_or(usize::MAX),
            ..Self::default()
        }
    }
}
