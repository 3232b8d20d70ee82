//! The four ports of a node, open before anything else begins: whoever finds one of them taken changes nothing.

use std::net::{IpAddr, SocketAddr, TcpListener};

use moim_node::membership::MemberInfo;
use tokio::net::TcpSocket;

use super::error::ServerError;
use crate::config::NodeConfig;

/// Connections that may wait to be accepted: clients come back all at once after a restart.
const BACKLOG: u32 = 1_024;

/// The open ports of a node.
#[derive(Debug)]
pub struct Listeners {
    pub(super) redis: TcpListener,
    pub(super) cluster: TcpListener,
    pub(super) http: TcpListener,
    pub(super) peer: TcpListener,
    addresses: Addresses,
}

/// Where a node listens; real ports, also where 0 was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Addresses {
    /// Redis clients.
    pub redis: SocketAddr,
    /// Redis Cluster clients.
    pub cluster: SocketAddr,
    /// HTTP clients.
    pub http: SocketAddr,
    /// Other nodes.
    pub peer: SocketAddr,
}

impl Listeners {
    /// Opens the ports that a configuration names.
    pub fn open(node: &NodeConfig) -> Result<Self, ServerError> {
        let (redis, redis_at) = listen("node.listen_redis", node.listen_redis)?;
        let (cluster, cluster_at) = listen("node.listen_cluster", node.listen_cluster)?;
        let (http, http_at) = listen("node.listen_http", node.listen_http)?;
        let (peer, peer_at) = listen("node.listen_peer", node.listen_peer)?;
        let addresses =
            Addresses { redis: redis_at, cluster: cluster_at, http: http_at, peer: peer_at };
        Ok(Self { redis, cluster, http, peer, addresses })
    }

    /// The same ports once more: whoever serves them may end, and another go on, without letting go of them.
    pub(super) fn duplicate(&self) -> Result<Self, ServerError> {
        let again = |listener: &TcpListener| {
            let what = "duplicate a listening socket";
            listener.try_clone().map_err(|error| ServerError::System { what, error })
        };
        Ok(Self {
            redis: again(&self.redis)?,
            cluster: again(&self.cluster)?,
            http: again(&self.http)?,
            peer: again(&self.peer)?,
            addresses: self.addresses,
        })
    }

    /// Where they are.
    pub fn addresses(&self) -> Addresses {
        self.addresses
    }
}

impl Addresses {
    /// Fills in the addresses that others are told.
    pub(super) fn announce(&self, node: &NodeConfig, info: &mut MemberInfo) {
        info.redis_address = announced(&node.advertise_client, self.redis);
        info.cluster_address = announced(&node.advertise_client, self.cluster);
        info.http_address = announced(&node.advertise_client, self.http);
        info.peer_address = announced(&node.advertise_peer, self.peer);
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
