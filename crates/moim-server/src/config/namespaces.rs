//! Namespaces as they are configured, before the cluster's defaults are filled in.

use moim_core::quorum::Level;
use moim_node::namespace::{Conflict, Namespace, Namespaces};
use toml::{Table, Value};

use super::keys::NAMESPACE_KEYS;
use super::setting::Setting;
use super::{ClusterConfig, Config, error, keys};

/// Bytes of a namespace's name.
const NAME_BYTES_MAX: usize = 64;

/// `[cluster.namespaces.NAME]`. `keys` has a comment for each.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the list of keys documents them")]
pub struct NamespaceConfig {
    pub name: String,
    pub conflict: Conflict,
    pub n: Option<u8>,
    pub r: Option<Level>,
    pub w: Option<Level>,
    pub ttl_ms: u64,
    pub max_ttl_ms: u64,
    pub max_pair_bytes: Option<u64>,
    pub sloppy: Option<bool>,
    pub mode: Mode,
}

/// What a part of the cluster without a majority does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// It goes on, and what was written on both sides is reconciled later.
    Available,
}

impl Setting for Mode {
    fn show(&self) -> Value {
        Value::String("available".to_owned())
    }

    fn read(value: &Value) -> Result<Self, String> {
        match String::read(value)?.as_str() {
            "available" => Ok(Self::Available),
            "consistent" => Err("'consistent' is not served yet; use 'available'".to_owned()),
            _ => Err("'available' is expected".to_owned()),
        }
    }
}

impl NamespaceConfig {
    pub(super) fn new(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            conflict: Conflict::Lww,
            n: None,
            r: None,
            w: None,
            ttl_ms: 0,
            max_ttl_ms: 0,
            max_pair_bytes: None,
            sloppy: None,
            mode: Mode::Available,
        }
    }

    /// With the cluster's defaults where nothing else is said.
    pub(super) fn filled(self, cluster: &ClusterConfig) -> Self {
        Self {
            n: self.n.or(Some(cluster.n)),
            r: self.r.or(Some(cluster.r)),
            w: self.w.or(Some(cluster.w)),
            max_pair_bytes: self.max_pair_bytes.or(Some(cluster.max_pair_bytes)),
            sloppy: Some(self.sloppy.unwrap_or_else(|| Namespace::new(&self.name).sloppy)),
            ..self
        }
    }

    /// The policy, with the cluster's defaults where nothing else is said.
    fn policy(&self, cluster: &ClusterConfig) -> Namespace {
        let limit = |ms: u64| (ms > 0).then_some(ms);
        let usual = Namespace::new(&self.name);
        Namespace {
            sloppy: self.sloppy.unwrap_or(usual.sloppy),
            name: usual.name,
            conflict: self.conflict,
            n: self.n.unwrap_or(cluster.n),
            r: self.r.unwrap_or(cluster.r),
            w: self.w.unwrap_or(cluster.w),
            ttl_ms: limit(self.ttl_ms),
            max_ttl_ms: limit(self.max_ttl_ms),
            max_pair_bytes: self.max_pair_bytes.unwrap_or(cluster.max_pair_bytes),
        }
    }
}

impl ClusterConfig {
    /// Policies of the numbered and the named namespaces.
    pub fn namespaces(&self) -> Result<Namespaces, String> {
        let numbered = NamespaceConfig::new("0").policy(self);
        let named = self.namespaces.iter().map(|namespace| namespace.policy(self)).collect();
        Namespaces::new(&numbered, named).map_err(|error| error.to_string())
    }

    /// The namespace with this name, made if need be.
    fn namespace_mut(&mut self, name: &str) -> Result<&mut NamespaceConfig, String> {
        let known = |letter: char| letter.is_ascii_alphanumeric() || "_-.".contains(letter);
        if name.is_empty() || name.len() > NAME_BYTES_MAX || !name.chars().all(known) {
            return Err(format!(
                "'{name}' is no name for a namespace: use 1 to {NAME_BYTES_MAX} letters, digits, '_', '-' and '.'"
            ));
        }
        let at =
            match self.namespaces.binary_search_by(|namespace| namespace.name.as_str().cmp(name)) {
                Ok(at) => at,
                Err(at) => {
                    self.namespaces.insert(at, NamespaceConfig::new(name));
                    at
                }
            };
        Ok(&mut self.namespaces[at])
    }
}

impl Config {
    /// `[cluster.namespaces]` of a file.
    pub(super) fn read_namespaces(&mut self, namespaces: &Table) -> Result<(), String> {
        for (name, entries) in namespaces {
            let namespace = self.cluster.namespace_mut(name)?;
            let in_namespace = |what: String| format!("namespace '{name}': {what}");
            let entries =
                entries.as_table().ok_or_else(|| in_namespace("a table is expected".to_owned()))?;
            for (key, value) in entries {
                find(key).and_then(|key| key.set(namespace, value)).map_err(in_namespace)?;
            }
        }
        Ok(())
    }

    /// Defines or redefines a namespace by `NAME:key=value,…`, as flags and variables have it.
    pub fn add_namespace(&mut self, text: &str) -> Result<(), String> {
        let (name, settings) = text.split_once(':').unwrap_or((text, ""));
        let namespace = self.cluster.namespace_mut(name)?;
        for setting in settings.split(',').filter(|setting| !setting.is_empty()) {
            let in_namespace = |what: String| format!("namespace '{name}': {what}");
            let (key, value) = setting
                .split_once('=')
                .ok_or_else(|| in_namespace(format!("'{setting}' is not of the form key=value")))?;
            find(key).and_then(|key| key.set_text(namespace, value)).map_err(in_namespace)?;
        }
        Ok(())
    }
}

fn find(name: &str) -> Result<&'static keys::Key<NamespaceConfig>, String> {
    let key = NAMESPACE_KEYS.iter().find(|key| key.name == name);
    key.ok_or_else(|| error::unknown(name, NAMESPACE_KEYS.iter().map(|key| key.name)))
}
