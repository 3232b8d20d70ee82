//! Who is in the cluster: members and their addresses, the record that keeps them, and how founding members agree on
//! the first one.
//!
//! Left out: who lives (`gossip`, and `peers` for what this node sees by itself), and changes of the record.

mod founding;
mod meeting;

pub use founding::{Founding, FoundingStep};

use moim_core::NodeId;
use moim_core::ring::{Member, Ring};

/// Version of the peer protocol. Peers with another major part (the upper byte) are refused.
pub const PROTOCOL: u16 = 0x0100;

/// A member, and where it listens. Addresses are texts (`host:port`): names are resolved by whoever dials.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemberInfo {
    /// What placement knows.
    pub member: Member,
    /// Where peers reach it.
    pub peer_address: String,
    /// Where Redis clients reach it.
    pub redis_address: String,
    /// Where Redis Cluster clients reach it.
    pub cluster_address: String,
    /// Where HTTP clients reach it.
    pub http_address: String,
}

impl MemberInfo {
    /// Takes over where another description says that the member listens; answers whether that changed anything.
    pub(crate) fn take_addresses(&mut self, other: &Self) -> bool {
        let before = self.clone();
        self.peer_address.clone_from(&other.peer_address);
        self.redis_address.clone_from(&other.redis_address);
        self.cluster_address.clone_from(&other.cluster_address);
        self.http_address.clone_from(&other.http_address);
        *self != before
    }
}

/// The cluster record: everything that all members agree on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// The cluster's identity: a hash of the founding members.
    pub cluster: u64,
    /// The ring.
    pub ring: Ring,
    /// The ring's members, in its order, with addresses.
    pub members: Vec<MemberInfo>,
}

impl Record {
    /// The member with this id.
    pub fn member(&self, node: NodeId) -> Option<&MemberInfo> {
        self.members.iter().find(|info| info.member.node == node)
    }
}

/// The first thing said on a connection between nodes, by both sides.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hello {
    /// [`PROTOCOL`] of the speaker.
    pub protocol: u16,
    /// The cluster it belongs to, if it has adopted a record.
    pub cluster: Option<u64>,
    /// Hash of the settings that must be the same on every node.
    pub settings: u64,
    /// Drawn at random when the process started: two live processes with one node id are told apart by it.
    pub run: u64,
    /// Who speaks, and where it listens.
    pub info: MemberInfo,
}

/// Why a peer is not let in. The text goes to the log on both sides.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HelloRefused {
    /// It speaks another major version.
    Protocol(u16),
    /// It belongs to another cluster.
    Cluster(u64),
    /// Its `[cluster]` settings or namespaces differ.
    Settings,
    /// It has this node's own id.
    Duplicate,
    /// It is no member of the cluster.
    Stranger,
}

impl std::fmt::Display for HelloRefused {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Protocol(theirs) => {
                write!(f, "it speaks protocol {theirs:#06x}, this node {PROTOCOL:#06x}: upgrade the older one")
            }
            Self::Cluster(theirs) => write!(f, "it belongs to another cluster ({theirs:016x}): check its peers' addresses"),
            Self::Settings => f.write_str(
                "its [cluster] settings or namespaces differ from this node's: make them the same on every node",
            ),
            Self::Duplicate => f.write_str(
                "it has this node's own id: a data directory was copied; give the copy a fresh directory",
            ),
            Self::Stranger => f.write_str("it is no member of this cluster"),
        }
    }
}
