//! What one setting demands of another, and what no setting may be.

use std::net::SocketAddr;

use moim_core::quorum::{COPIES_MAX, Level};
use moim_node::namespace::PAIR_BYTES_MAX;

use super::{Config, ConfigError, NodeConfig, memory, shards};

/// Bytes of a name that travels in a hello.
const TEXT_BYTES_MAX: usize = 255;

/// Links are given up after 5 s of silence; pings must come several times as often.
const PING_INTERVAL_MS_MAX: u32 = 1_000;

/// Others forget that a node had something a minute or two after it said so.
const DURABILITY_INTERVAL_MS_MAX: u32 = 60_000;

/// The log is looked at so often.
const LOG_REST_MS_MIN: u32 = 2_000;

pub(super) fn check(config: &Config) -> Result<(), ConfigError> {
    check_cluster(config)?;
    check_namespaces(config)?;
    check_node(&config.node)?;
    shards::check(&config.node)?;
    memory::check(&config.node)?;
    check_times(&config.node)?;
    check_reach(&config.node)?;
    check_security(&config.node)
}

fn fail(key: &str, what: impl Into<String>) -> Result<(), ConfigError> {
    Err(ConfigError::new(key, what))
}

fn check_cluster(config: &Config) -> Result<(), ConfigError> {
    let cluster = &config.cluster;
    if cluster.name.is_empty() || cluster.name.len() > TEXT_BYTES_MAX {
        return fail("cluster.name", format!("a name of 1 to {TEXT_BYTES_MAX} bytes is expected"));
    }
    if cluster.max_clock_skew_ms == 0 {
        return fail("cluster.max_clock_skew_ms", "must be at least 1: clocks differ");
    }
    Ok(())
}

fn check_namespaces(config: &Config) -> Result<(), ConfigError> {
    let policies =
        config.cluster.namespaces().map_err(|what| ConfigError::new("cluster.namespaces", what))?;
    for policy in policies.all() {
        let named = config.cluster.namespaces.iter().any(|namespace| namespace.name == policy.name);
        let key = if named {
            format!("cluster.namespaces.{}", policy.name)
        } else {
            "cluster".to_owned()
        };
        if policy.n == 0 || policy.n > COPIES_MAX {
            return fail(&key, format!("n = {}: 1 to {COPIES_MAX} copies are possible", policy.n));
        }
        for (name, level) in [("r", policy.r), ("w", policy.w)] {
            if let Level::Count(count) = level
                && count > policy.n
            {
                return fail(
                    &key,
                    format!("{name} = {level} can never be reached with n = {}", policy.n),
                );
            }
        }
        if policy.max_pair_bytes == 0 || policy.max_pair_bytes > PAIR_BYTES_MAX {
            return fail(&key, format!("max_pair_bytes must be 1 to {PAIR_BYTES_MAX}"));
        }
        if let (Some(ttl_ms), Some(max_ttl_ms)) = (policy.ttl_ms, policy.max_ttl_ms)
            && ttl_ms > max_ttl_ms
        {
            return fail(&key, format!("ttl_ms = {ttl_ms} exceeds max_ttl_ms = {max_ttl_ms}"));
        }
    }
    Ok(())
}

fn check_node(node: &NodeConfig) -> Result<(), ConfigError> {
    let texts = [
        ("node.zone", &node.zone),
        ("node.dc", &node.dc),
        ("node.advertise_client", &node.advertise_client),
        ("node.advertise_peer", &node.advertise_peer),
    ];
    for (key, text) in texts {
        if text.len() > TEXT_BYTES_MAX {
            return fail(key, format!("at most {TEXT_BYTES_MAX} bytes are expected"));
        }
    }
    if node.weight == 0 {
        return fail("node.weight", "must be at least 1");
    }
    if !node.machine_id.is_empty() && u64::from_str_radix(&node.machine_id, 16).is_err() {
        return fail("node.machine_id", "up to 16 hexadecimal digits are expected");
    }
    if !node.join.is_empty() {
        return fail(
            "node.join",
            "entering a living cluster is not served yet: name all of its nodes in node.found (--found) on each",
        );
    }
    if !(1..=100).contains(&node.disk_used_percent_max) {
        return fail("node.disk_used_percent_max", "must be 1 to 100");
    }
    let limits = [
        ("node.operations_max", u64::from(node.operations_max)),
        ("node.redis_connections_max", u64::from(node.redis_connections_max)),
        ("node.http_connections_max", u64::from(node.http_connections_max)),
    ];
    match limits.iter().find(|(_, limit)| *limit == 0) {
        Some((key, _)) => fail(key, "must be at least 1, or nothing is served"),
        None => Ok(()),
    }
}

fn check_times(node: &NodeConfig) -> Result<(), ConfigError> {
    if !(1..=DURABILITY_INTERVAL_MS_MAX).contains(&node.durability_interval_ms) {
        let range = format!("must be 1 to {DURABILITY_INTERVAL_MS_MAX}");
        return fail("node.durability_interval_ms", range);
    }
    if node.log_rest_ms < LOG_REST_MS_MIN {
        return fail("node.log_rest_ms", format!("must be at least {LOG_REST_MS_MIN}"));
    }
    if node.read_retry_ms >= node.request_timeout_ms {
        return fail(
            "node.read_retry_ms",
            "must be below request_timeout_ms, or no read is ever tried again",
        );
    }
    if node.ping_interval_ms == 0 || node.ping_interval_ms > PING_INTERVAL_MS_MAX {
        return fail("node.ping_interval_ms", format!("must be 1 to {PING_INTERVAL_MS_MAX}"));
    }
    if node.silence_ms / 2 < node.ping_interval_ms {
        return fail(
            "node.silence_ms",
            "must be at least twice ping_interval_ms, or every peer looks silent",
        );
    }
    Ok(())
}

/// An announced address that nobody can reach is the commonest complaint about clustered stores.
fn check_reach(node: &NodeConfig) -> Result<(), ConfigError> {
    let everywhere = |listen: &SocketAddr| listen.ip().is_unspecified();
    let clients = [node.listen_redis, node.listen_cluster, node.listen_http];
    if node.advertise_client.is_empty() && clients.iter().any(everywhere) {
        return fail(
            "node.advertise_client",
            "listening on every address does not say at which one clients reach this node: set it (--advertise)",
        );
    }
    if node.advertise_peer.is_empty() && everywhere(&node.listen_peer) {
        return fail(
            "node.advertise_peer",
            "listening on every address does not say at which one other nodes reach this node: set it (--advertise)",
        );
    }
    Ok(())
}

fn check_security(node: &NodeConfig) -> Result<(), ConfigError> {
    let listeners = [
        ("node.listen_redis", node.listen_redis),
        ("node.listen_cluster", node.listen_cluster),
        ("node.listen_http", node.listen_http),
        ("node.listen_peer", node.listen_peer),
    ];
    let open = listeners.iter().find(|(_, address)| !address.ip().is_loopback());
    match open {
        Some((key, address)) if node.password.is_empty() && !node.allow_insecure => fail(
            key,
            format!(
                "{address} can be reached from other machines, and there is no password: set node.password_file \
                 (MOIM_NODE_PASSWORD_FILE), listen on 127.0.0.1, or say node.allow_insecure = true"
            ),
        ),
        _ => Ok(()),
    }
}
