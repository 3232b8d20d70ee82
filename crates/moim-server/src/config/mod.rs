//! What a server is told: `moim.toml`, overridden by `MOIM_…` variables, overridden by flags.
//!
//! Two tables: `[cluster]` must be the same on every node and is compared when nodes meet, `[node]` may differ. One
//! list (`keys`) names every key once, with its comment; reading, overriding, printing and suggesting a name for a
//! mistyped one all go through it. What is not served yet is refused, never accepted and ignored.

mod check;
mod error;
mod keys;
mod memory;
mod namespaces;
mod print;
mod setting;
mod shards;

#[cfg(test)]
mod tests;

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};

use moim_core::quorum::Level;
use moim_core::ring::PartitionCount;
use moim_node::namespace::PAIR_BYTES_DEFAULT;
use moim_node::options::Options;
use toml::{Table, Value};

pub use self::error::ConfigError;
use self::keys::KEYS;
pub use self::memory::Memory;
pub use self::namespaces::{Mode, NamespaceConfig};
pub use self::setting::{DurabilityKind, EngineKind};

/// The file that is read when none is named, if it is there.
pub const FILE_DEFAULT: &str = "moim.toml";

/// The configuration of a server.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Config {
    /// `[cluster]`: the same on every node.
    pub cluster: ClusterConfig,
    /// `[node]`: may differ.
    pub node: NodeConfig,
}

/// `[cluster]`. `keys` has a comment for each.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the list of keys documents them, and prints it")]
pub struct ClusterConfig {
    pub name: String,
    pub partitions: PartitionCount,
    pub n: u8,
    pub r: Level,
    pub w: Level,
    pub max_clock_skew_ms: u64,
    pub max_pair_bytes: u64,
    /// `[cluster.namespaces.NAME]`, in the order of their names.
    pub namespaces: Vec<NamespaceConfig>,
}

/// `[node]`. `keys` has a comment for each.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the list of keys documents them, and prints it")]
pub struct NodeConfig {
    pub data_dir: PathBuf,
    pub shards: u32,
    pub engine: EngineKind,
    pub durability: DurabilityKind,
    pub durability_interval_ms: u32,
    pub log_rest_ms: u32,
    pub listen_redis: SocketAddr,
    pub listen_cluster: SocketAddr,
    pub listen_http: SocketAddr,
    pub listen_peer: SocketAddr,
    pub advertise_client: String,
    pub advertise_peer: String,
    pub found: Vec<String>,
    pub join: Vec<String>,
    pub zone: String,
    pub dc: String,
    pub weight: u32,
    pub machine_id: String,
    pub password: String,
    pub password_file: PathBuf,
    pub allow_insecure: bool,
    pub memory_bytes: u64,
    pub cache_bytes: u64,
    pub block_cache_bytes: u64,
    pub memtable_bytes: u64,
    pub disk_used_percent_max: u8,
    pub unsynced_bytes_max: u64,
    pub tasks_bytes_max: u64,
    pub hints_bytes_max: u64,
    pub background_bytes_per_second_min: u64,
    pub background_bytes_per_second_max: u64,
    pub refill_bytes_per_second_min: u64,
    pub operations_max: u32,
    pub redis_connections_max: u32,
    pub http_connections_max: u32,
    pub request_timeout_ms: u32,
    pub stand_in_after_ms: u32,
    pub read_retry_ms: u32,
    pub ping_interval_ms: u32,
    pub silence_ms: u32,
    pub stop_linger_ms: u32,
    pub stop_timeout_ms: u32,
    pub experiments: bool,
}

impl Default for ClusterConfig {
    fn default() -> Self {
        Self {
            name: "moim".to_owned(),
            partitions: PartitionCount::DEFAULT,
            n: 3,
            r: Level::Quorum,
            w: Level::Quorum,
            max_clock_skew_ms: Options::default().max_clock_skew_ms,
            max_pair_bytes: PAIR_BYTES_DEFAULT,
            namespaces: Vec::new(),
        }
    }
}

impl Default for NodeConfig {
    fn default() -> Self {
        let options = Options::default();
        let loopback = |port| SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        Self {
            data_dir: PathBuf::from("moim-data"),
            shards: 1,
            engine: EngineKind::Auto,
            durability: DurabilityKind::Sync,
            durability_interval_ms: 1_000,
            log_rest_ms: 300_000,
            listen_redis: loopback(6379),
            listen_cluster: loopback(6479),
            listen_http: loopback(7379),
            listen_peer: loopback(8379),
            advertise_client: String::new(),
            advertise_peer: String::new(),
            found: Vec::new(),
            join: Vec::new(),
            zone: "default".to_owned(),
            dc: "default".to_owned(),
            weight: 100,
            machine_id: String::new(),
            password: String::new(),
            password_file: PathBuf::new(),
            allow_insecure: false,
            memory_bytes: 1 << 30,
            cache_bytes: 0,
            block_cache_bytes: 0,
            memtable_bytes: 0,
            disk_used_percent_max: options.disk_used_percent_max,
            unsynced_bytes_max: 0,
            tasks_bytes_max: 0,
            hints_bytes_max: options.hints_bytes_max,
            background_bytes_per_second_min: options.background_bytes_per_second_min,
            background_bytes_per_second_max: options.background_bytes_per_second_max,
            refill_bytes_per_second_min: options.refill_bytes_per_second_min,
            operations_max: u32::try_from(options.operations_max).unwrap_or(u32::MAX),
            redis_connections_max: 10_000,
            http_connections_max: 1_000,
            request_timeout_ms: options.request_timeout_ms,
            stand_in_after_ms: options.stand_in_after_ms,
            read_retry_ms: options.read_retry_ms,
            ping_interval_ms: options.ping_interval_ms,
            silence_ms: options.silence_ms,
            stop_linger_ms: 1_000,
            stop_timeout_ms: 10_000,
            experiments: false,
        }
    }
}

/// What flags say. The command line fills it; the last word on a key counts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Overrides {
    file: Option<PathBuf>,
    settings: Vec<(String, String, String)>,
    namespaces: Vec<String>,
}

impl Overrides {
    /// No flags.
    pub fn new() -> Self {
        Self::default()
    }

    /// `--config`: this file, which must exist.
    pub fn file(&mut self, path: impl Into<PathBuf>) -> &mut Self {
        self.file = Some(path.into());
        self
    }

    /// A flag (its name is for errors) that sets a key (as `node.zone`).
    pub fn set(&mut self, flag: &str, key: &str, value: impl Into<String>) -> &mut Self {
        self.settings.push((flag.to_owned(), key.to_owned(), value.into()));
        self
    }

    /// `--namespace NAME:key=value,…`.
    pub fn namespace(&mut self, text: impl Into<String>) -> &mut Self {
        self.namespaces.push(text.into());
        self
    }
}

impl Config {
    /// File, then environment, then flags; checked as a whole.
    pub fn load(
        overrides: &Overrides,
        environment: impl IntoIterator<Item = (String, String)>,
    ) -> Result<Self, ConfigError> {
        let mut config = Self::default();
        match &overrides.file {
            Some(path) => config.read_file(path)?,
            None if Path::new(FILE_DEFAULT).exists() => {
                config.read_file(Path::new(FILE_DEFAULT))?;
            }
            None => {}
        }
        config.read_environment(environment)?;
        for (flag, key, text) in &overrides.settings {
            config.set_text(key, text).map_err(|what| ConfigError::new(flag, what))?;
        }
        for text in &overrides.namespaces {
            config.add_namespace(text).map_err(|what| ConfigError::new("--namespace", what))?;
        }
        config.finish()?;
        Ok(config)
    }

    /// Reads a password file, checks everything.
    fn finish(&mut self) -> Result<(), ConfigError> {
        let path = &self.node.password_file;
        if !path.as_os_str().is_empty() {
            let text = std::fs::read_to_string(path).map_err(|error| {
                ConfigError::new(
                    "node.password_file",
                    format!("cannot read {}: {error}", path.display()),
                )
            })?;
            text.trim_end_matches(['\r', '\n']).clone_into(&mut self.node.password);
        }
        check::check(self)
    }

    fn read_file(&mut self, path: &Path) -> Result<(), ConfigError> {
        let source = path.display().to_string();
        let text = std::fs::read_to_string(path)
            .map_err(|error| ConfigError::new(&source, format!("cannot be read: {error}")))?;
        self.read_toml(&text).map_err(|what| ConfigError::new(&source, what))
    }

    /// Overrides with what a file says.
    fn read_toml(&mut self, text: &str) -> Result<(), String> {
        let tables: Table = text.parse().map_err(|error: toml::de::Error| error.to_string())?;
        for (table, entries) in &tables {
            let known = keys::TABLES.contains(&table.as_str());
            let Some(entries) = entries.as_table().filter(|_| known) else {
                return Err(error::unknown(table, keys::TABLES.iter().copied()));
            };
            for (name, value) in entries {
                match value.as_table().filter(|_| table == "cluster" && name == "namespaces") {
                    Some(namespaces) => self.read_namespaces(namespaces)?,
                    None => self.set(&format!("{table}.{name}"), value)?,
                }
            }
        }
        Ok(())
    }

    fn read_environment(
        &mut self,
        environment: impl IntoIterator<Item = (String, String)>,
    ) -> Result<(), ConfigError> {
        for (name, text) in environment {
            // Other variables of this prefix belong to the commands of clients.
            if !["MOIM_NODE_", "MOIM_CLUSTER_"].iter().any(|prefix| name.starts_with(prefix)) {
                continue;
            }
            let at = |what| ConfigError::new(&name, what);
            if name == "MOIM_CLUSTER_NAMESPACES" {
                for namespace in text.split_whitespace() {
                    self.add_namespace(namespace).map_err(at)?;
                }
                continue;
            }
            let key = KEYS.iter().find(|key| key.variable() == name);
            let key =
                key.ok_or_else(|| at(error::unknown(&name, KEYS.iter().map(keys::Key::variable))))?;
            key.set_text(self, &text).map_err(at)?;
        }
        Ok(())
    }

    fn set(&mut self, path: &str, value: &Value) -> Result<(), String> {
        find(path)?.set(self, value)
    }

    fn set_text(&mut self, path: &str, text: &str) -> Result<(), String> {
        find(path)?.set_text(self, text)
    }
}

fn find(path: &str) -> Result<&'static keys::Key<Config>, String> {
    let key = KEYS.iter().find(|key| key.path() == path);
    key.ok_or_else(|| error::unknown(path, KEYS.iter().map(keys::Key::path)))
}
