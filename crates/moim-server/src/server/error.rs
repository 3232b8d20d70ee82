//! Why a server does not start, or ended.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;

use moim_node::BootError;
use moim_storage::StorageError;

use crate::config::ConfigError;

/// Why a server does not start, or ended; each says what happened to what, and what to do.
#[derive(Debug)]
pub enum ServerError {
    /// The configuration is wrong.
    Config(ConfigError),
    /// A port cannot be listened on.
    Listen {
        /// The setting that names it.
        setting: &'static str,
        /// The address.
        address: SocketAddr,
        /// What the system says.
        error: std::io::Error,
    },
    /// The data directory cannot be used.
    Directory {
        /// Which file or directory.
        path: PathBuf,
        /// What is wrong with it.
        what: String,
    },
    /// The storage engine cannot be opened or read.
    Storage(StorageError),
    /// What is on disk is damaged, and there is no other node to be filled from. It was left where it is.
    Damaged {
        /// What the engine says.
        error: String,
        /// Where the data is.
        data: PathBuf,
    },
    /// What is on disk was damaged again and again.
    DamagedAgain {
        /// What the engine says.
        error: String,
        /// How often data was set aside within the last hour.
        times: usize,
    },
    /// This program was built without the storage engine that the configuration names.
    NoSuchEngine,
    /// The node cannot begin with what its disk kept.
    Boot(BootError),
    /// The operating system refused something else that a server needs.
    System {
        /// What was tried.
        what: &'static str,
        /// What the system says.
        error: std::io::Error,
    },
    /// The node's loop ended by a fault of this program.
    Crashed(String),
}

impl fmt::Display for ServerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Config(error) => error.fmt(f),
            Self::Listen { setting, address, error } => write!(
                f,
                "cannot listen on {address} ({setting}): {error}; is another server running there?"
            ),
            Self::Directory { path, what } => write!(f, "{}: {what}", path.display()),
            Self::Storage(error) => error.fmt(f),
            Self::Damaged { error, data } => write!(
                f,
                "{error}; this node has no others to be filled from. Bring back a backup, or move {} away and start \
                 again: the node begins empty",
                data.display()
            ),
            Self::DamagedAgain { error, times } => write!(
                f,
                "{error}; data was set aside {times} times within an hour, so the disk or the memory of this machine is \
                 at fault: check them (smartctl, memtest, the kernel's log) before starting again"
            ),
            Self::NoSuchEngine => f.write_str(
                "node.engine: this program was built without RocksDB; use a build with it, or engine = \"memory\", \
                 which keeps nothing",
            ),
            Self::Boot(error) => error.fmt(f),
            Self::System { what, error } => write!(f, "cannot {what}: {error}"),
            Self::Crashed(what) => write!(f, "the node stopped by a fault of this program, please report it: {what}"),
        }
    }
}

impl std::error::Error for ServerError {}

impl From<ConfigError> for ServerError {
    fn from(error: ConfigError) -> Self {
        Self::Config(error)
    }
}

impl From<StorageError> for ServerError {
    fn from(error: StorageError) -> Self {
        Self::Storage(error)
    }
}

impl From<BootError> for ServerError {
    fn from(error: BootError) -> Self {
        Self::Boot(error)
    }
}
