//! Namespaces and their policies. Until a cluster record keeps them, they come from the configuration and are
//! read-only; every node must have the same ones, which [`Namespaces::fingerprint`] checks when nodes meet.

use std::collections::BTreeMap;
use std::fmt;

use moim_core::NamespaceId;
use moim_core::quorum::Level;

/// How versions that do not know each other become one. Fixed when the namespace is founded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Conflict {
    /// The last writer wins, by hybrid time; concurrent losers are dropped and counted.
    Lww,
    /// All are kept and handed to the client.
    Siblings,
}

impl fmt::Display for Conflict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Lww => "lww",
            Self::Siblings => "siblings",
        })
    }
}

/// The policy of one namespace.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Namespace {
    /// Its name as users write it.
    pub name: String,
    /// What becomes of concurrent versions.
    pub conflict: Conflict,
    /// Copies wanted; there are never more than machines.
    pub n: u8,
    /// Default read level.
    pub r: Level,
    /// Default write level.
    pub w: Level,
    /// Whether the next healthy nodes stand in for owners that cannot be reached, and count in R and W. Without it a
    /// request that reaches too few owners is refused.
    pub sloppy: bool,
    /// Life of a value written without an expiry, in milliseconds; `None` for ever.
    pub ttl_ms: Option<u64>,
    /// The longest life a value may be given, in milliseconds; longer ones are cut to it. Bounds how long headers of
    /// expired values and tombstones must be kept; `None` keeps them until every replica is known to have them.
    pub max_ttl_ms: Option<u64>,
    /// Key and value together, in bytes.
    pub max_pair_bytes: u64,
}

/// Key and value together, in bytes, unless a namespace says otherwise (REQ-2).
pub const PAIR_BYTES_DEFAULT: u64 = 10_240;

/// The largest limit that can be set: 16 MiB, so that a few siblings of that size still fit into one frame.
pub const PAIR_BYTES_MAX: u64 = 16 * 1024 * 1024;

/// Named namespaces beside the numbered ones.
pub const NAMESPACES_MAX: usize = 1_000;

impl Namespace {
    /// The defaults of a namespace with this name: last writer wins, three copies, quorums; sloppy if it is a numbered
    /// one, where a session store would rather go on, strict if it is named.
    pub fn new(name: impl Into<String>) -> Self {
        let name = name.into();
        Self {
            sloppy: NamespaceId::of_name(&name).0 < NamespaceId::NUMBERED,
            name,
            conflict: Conflict::Lww,
            n: 3,
            r: Level::Quorum,
            w: Level::Quorum,
            ttl_ms: None,
            max_ttl_ms: None,
            max_pair_bytes: PAIR_BYTES_DEFAULT,
        }
    }

    /// Its id in stored keys.
    pub fn id(&self) -> NamespaceId {
        NamespaceId::of_name(&self.name)
    }
}

/// All namespaces of a cluster: `0` to `15` and the named ones.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Namespaces {
    by_id: BTreeMap<NamespaceId, Namespace>,
    /// Said in every greeting; printing all policies each time would cost more than the greeting.
    fingerprint: u64,
}

/// Why a set of namespaces cannot be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NamespacesError {
    /// Two names hash to one id, or one name is there twice.
    Collision(String, String),
    /// More than [`NAMESPACES_MAX`].
    TooMany(usize),
}

impl fmt::Display for NamespacesError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Collision(a, b) if a == b => write!(f, "namespace '{a}' is defined twice"),
            Self::Collision(a, b) => {
                write!(
                    f,
                    "namespaces '{a}' and '{b}' cannot be told apart in stored keys: rename one"
                )
            }
            Self::TooMany(count) => write!(f, "{count} namespaces, the limit is {NAMESPACES_MAX}"),
        }
    }
}

impl std::error::Error for NamespacesError {}

impl Namespaces {
    /// The numbered namespaces like `numbered` (its name is ignored), and the named ones, which may redefine
    /// numbered ones.
    pub fn new(numbered: &Namespace, named: Vec<Namespace>) -> Result<Self, NamespacesError> {
        if named.len() > NAMESPACES_MAX {
            return Err(NamespacesError::TooMany(named.len()));
        }
        let mut by_id = BTreeMap::<NamespaceId, Namespace>::new();
        for namespace in named {
            let name = namespace.name.clone();
            if let Some(other) = by_id.insert(namespace.id(), namespace) {
                return Err(NamespacesError::Collision(other.name, name));
            }
        }
        for number in 0..NamespaceId::NUMBERED {
            let namespace = Namespace { name: number.to_string(), ..numbered.clone() };
            by_id.entry(NamespaceId(number)).or_insert(namespace);
        }
        let policies: Vec<_> = by_id.values().collect();
        let fingerprint = moim_core::fingerprint(format!("{policies:?}").as_bytes());
        Ok(Self { by_id, fingerprint })
    }

    /// The policy of a namespace.
    pub fn get(&self, id: NamespaceId) -> Option<&Namespace> {
        self.by_id.get(&id)
    }

    /// The namespace with this name.
    pub fn by_name(&self, name: &str) -> Option<&Namespace> {
        self.by_id.get(&NamespaceId::of_name(name)).filter(|namespace| namespace.name == name)
    }

    /// All of them, in the order of their ids.
    pub fn all(&self) -> impl Iterator<Item = &Namespace> {
        self.by_id.values()
    }

    /// Equal on two nodes exactly when their namespaces are.
    pub fn fingerprint(&self) -> u64 {
        self.fingerprint
    }
}

impl Default for Namespaces {
    fn default() -> Self {
        Self::new(&Namespace::new("0"), Vec::new()).expect("the numbered namespaces do not collide")
    }
}
