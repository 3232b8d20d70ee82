//! The ports of a server, two for all its nodes and two for each, open before anything else begins: whoever finds one of them taken changes nothing.

use std::net::{IpAddr, SocketAddr, TcpListener};

use moim_node::membership::MemberInfo;
use tokio::net::TcpSocket;

use super::error::ServerError;
use crate::config::NodeConfig;

/// Connections that may wait to be accepted: clients come back all at once after a restart.
const BACKLOG: u32 = 1_024;

/// The open ports of a server.
#[derive(Debug)]
pub struct Listeners {
    shared: Shared,
    own: Vec<Own>,
    addresses: Vec<Addresses>,
}

/// Ports that all nodes of a server share; the first one has them.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) redis: TcpListener,
    pub(super) http: TcpListener,
}

/// Ports of one node.
#[derive(Debug)]
pub(super) struct Own {
    pub(super) cluster: TcpListener,
    pub(super) peer: TcpListener,
}

/// Where a node listens; real ports, also where 0 was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Addresses {
    /// Redis clients; of all nodes of the server.
    pub redis: SocketAddr,
    /// Redis Cluster clients.
    pub cluster: SocketAddr,
    /// HTTP clients; of all nodes of the server.
    pub http: SocketAddr,
    /// Other nodes.
    pub peer: SocketAddr,
}

impl Listeners {
    /// Opens the ports that a configuration names.
    pub fn open(node: &NodeConfig) -> Result<Self, ServerError> {
        let (redis, redis_at) = listen("node.listen_redis", node.listen_redis)?;
        let (http, http_at) = listen("node.listen_http", node.listen_http)?;
        let (mut own, mut addresses) = (Vec::new(), Vec::new());
        for shard in 0..node.shards {
            let node = node.of_shard(shard);
            let (cluster, cluster_at) = listen("node.listen_cluster", node.listen_cluster)?;
            let (peer, peer_at) = listen("node.listen_peer", node.listen_peer)?;
            own.push(Own { cluster, peer });
            addresses.push(Addresses {
                redis: redis_at,
                cluster: cluster_at,
                http: http_at,
                peer: peer_at,
            });
        }
        Ok(Self { shared: Shared { redis, http }, own, addresses })
    }

    /// Where the first node listens.
    pub fn addresses(&self) -> Addresses {
        self.addresses[0]
    }

    /// The ports for all, which go to the first node, and those of each.
    pub(super) fn into_parts(self) -> (Option<Shared>, Vec<Own>, Vec<Addresses>) {
        (Some(self.shared), self.own, self.addresses)
    }

    /// Where each node listens.
    pub fn of_shards(&self) -> &[Addresses] {
        &self.addresses
    }
}

impl Shared {
    /// The same ports once more: whoever serves them may end, and another go on, without letting go of them.
    pub(super) fn duplicate(&self) -> Result<Self, ServerError> {
        Ok(Self { redis: again(&self.redis)?, http: again(&self.http)? })
    }
}

impl Own {
    /// As for what is shared.
    pub(super) fn duplicate(&self) -> Result<Self, ServerError> {
        Ok(Self { cluster: again(&self.cluster)?, peer: again(&self.peer)? })
    }
}

/// Another handle of the same socket.
pub(super) fn again(listener: &TcpListener) -> Result<TcpListener, ServerError> {
    let what = "duplicate a listening socket";
    listener.try_clone().map_err(|error| ServerError::System { what, error })
}

impl Addresses {
    /// Where others reach the node.
    pub(super) fn announced_peer(&self, node: &NodeConfig) -> String {
        announced(&node.advertise_peer, self.peer)
    }

    /// Fills in the addresses that others are told.
    pub(super) fn announce(&self, node: &NodeConfig, info: &mut MemberInfo) {
        info.redis_address = announced(&node.advertise_client, self.redis);
        info.cluster_address = announced(&node.advertise_client, self.cluster);
        info.http_address = announced(&node.advertise_client, self.http);
        info.peer_address = self.announced_peer(node);
    }
}

fn announced(host: &str, listen: SocketAddr) -> String {
    match host {
        "" => listen.to_string(),
        ip if ip.parse::<IpAddr>().is_ok_and(|ip| ip.is_ipv6()) => {
            format!("[{ip}]:{}", listen.port())
        }
        host => format!("{host}:{}", listen.port()),
    }
}

fn listen(
    setting: &'static str,
    address: SocketAddr,
) -> Result<(TcpListener, SocketAddr), ServerError> {
    let open = || {
        // The standard library's own way has a short backlog that cannot be set.
        let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
        let listener = runtime.block_on(async {
            let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
            // A restart must not wait for the connections of the last run to be forgotten.
            socket.set_reuseaddr(true)?;
            socket.bind(address)?;
            socket.listen(BACKLOG)?.into_std()
        })?;
        let address = listener.local_addr()?;
        Ok((listener, address))
    };
    open().map_err(|error| ServerError::Listen { setting, address, error })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn announced_addresses_have_the_real_port() {
        let listen = SocketAddr::from(([0, 0, 0, 0], 7001));
        assert_eq!(announced("db1", listen), "db1:7001");
        assert_eq!(announced("10.0.0.1", listen), "10.0.0.1:7001");
        assert_eq!(announced("fd00::1", listen), "[fd00::1]:7001");
        assert_eq!(announced("", SocketAddr::from(([127, 0, 0, 1], 1))), "127.0.0.1:1");
    }

    #[test]
    fn a_taken_port_is_named() {
        let loopback = SocketAddr::from(([127, 0, 0, 1], 0));
        let (_listener, taken) = listen("node.listen_http", loopback).unwrap();
        let error = listen("node.listen_http", taken).unwrap_err().to_string();
        assert!(
            error.starts_with(&format!("cannot listen on {taken} (node.listen_http): ")),
            "{error}"
        );
    }
}
