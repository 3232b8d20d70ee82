//! `moim server`: flags become overrides of the configuration; everything else is the server's own.

use std::path::PathBuf;

use moim_server::config::{Config, Overrides};

use crate::Ended;
use crate::ending::{Ending, Trouble};
use crate::print;

/// Run one server. Settings come from moim.toml, then MOIM_… variables, then these flags.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Read this file instead of moim.toml.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Keep everything of this node here: identity, lock, data.
    #[arg(long, value_name = "DIR")]
    data: Option<String>,
    /// Run so many nodes in this server, at most one a core.
    #[arg(long, value_name = "K", env = "MOIM_SHARDS")]
    shards: Option<String>,
    /// Listen for Redis clients here.
    #[arg(long, value_name = "IP:PORT")]
    listen_redis: Option<String>,
    /// Listen for Redis Cluster clients here.
    #[arg(long, value_name = "IP:PORT")]
    listen_cluster: Option<String>,
    /// Listen for HTTP clients here: values, metrics, dashboard.
    #[arg(long, value_name = "IP:PORT")]
    listen_http: Option<String>,
    /// Listen for other nodes here.
    #[arg(long, value_name = "IP:PORT")]
    listen_peer: Option<String>,
    /// Host name or address at which clients and other nodes reach this node.
    #[arg(long, value_name = "HOST")]
    advertise: Option<String>,
    /// Found a cluster with the servers at these peer addresses, this one included; the same list on each.
    #[arg(long, value_name = "HOST:PORT,…", conflicts_with = "join")]
    found: Option<String>,
    /// Enter the living cluster that one of these peer addresses belongs to.
    #[arg(long, value_name = "HOST:PORT,…")]
    join: Option<String>,
    /// The data centre of this node.
    #[arg(long, value_name = "NAME")]
    dc: Option<String>,
    /// The rack or availability zone of this node; copies spread over zones.
    #[arg(long, value_name = "NAME")]
    zone: Option<String>,
    /// The capacity of this node relative to the others.
    #[arg(long, value_name = "N")]
    weight: Option<String>,
    /// Define a namespace, as carts:conflict=siblings,sloppy=false; may be repeated; the same on every node.
    #[arg(long, value_name = "NAME:KEY=VALUE,…")]
    namespace: Vec<String>,
    /// Where data is kept: lsm or rocksdb, on disk; memory, nowhere; or auto, what the data was made with, lsm if it is new.
    #[arg(long, value_name = "ENGINE")]
    engine: Option<String>,
    /// A file with the password that clients must give.
    #[arg(long, value_name = "FILE")]
    password_file: Option<String>,
    /// Set any other key of the configuration, as `node.cache_bytes=1073741824`; may be repeated.
    #[arg(long, value_name = "TABLE.KEY=VALUE")]
    set: Vec<String>,
    /// Print the whole configuration, commented, and end.
    #[arg(long)]
    print_config: bool,
    /// Let HTTP cut this node off from its peers.
    #[arg(long, hide = true)]
    dev_faults: bool,
}

impl Arguments {
    pub(crate) fn run(self) -> Ended {
        let overrides = self.overrides()?;
        let config = Config::load(&overrides, environment())
            .map_err(|error| Trouble::usage(format!("configuration: {error}")))?;
        if self.print_config {
            print::raw(config.print().as_bytes());
            return Ok(Ending::Done);
        }
        match moim_server::server::run(config) {
            Ok(()) => Ok(Ending::Done),
            Err(error) => Err(Trouble::failed(error.to_string())),
        }
    }

    fn overrides(&self) -> Result<Overrides, Trouble> {
        let mut overrides = Overrides::new();
        if let Some(path) = &self.config {
            overrides.file(path);
        }
        let flags = [
            ("--data", "node.data_dir", &self.data),
            ("--shards", "node.shards", &self.shards),
            ("--listen-redis", "node.listen_redis", &self.listen_redis),
            ("--listen-cluster", "node.listen_cluster", &self.listen_cluster),
            ("--listen-http", "node.listen_http", &self.listen_http),
            ("--listen-peer", "node.listen_peer", &self.listen_peer),
            ("--advertise", "node.advertise_client", &self.advertise),
            ("--advertise", "node.advertise_peer", &self.advertise),
            ("--found", "node.found", &self.found),
            ("--join", "node.join", &self.join),
            ("--dc", "node.dc", &self.dc),
            ("--zone", "node.zone", &self.zone),
            ("--weight", "node.weight", &self.weight),
            ("--engine", "node.engine", &self.engine),
            ("--password-file", "node.password_file", &self.password_file),
        ];
        for (flag, key, value) in flags {
            if let Some(value) = value {
                overrides.set(flag, key, value);
            }
        }
        for setting in &self.set {
            let Some((key, value)) = setting.split_once('=') else {
                return Err(Trouble::usage(format!(
                    "--set {setting}: TABLE.KEY=VALUE is expected"
                )));
            };
            overrides.set("--set", key, value);
        }
        for namespace in &self.namespace {
            overrides.namespace(namespace);
        }
        if self.dev_faults {
            overrides.set("--dev-faults", "node.experiments", "true");
        }
        Ok(overrides)
    }
}

/// Variables that are text; others cannot be ours.
fn environment() -> impl Iterator<Item = (String, String)> {
    std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        arguments: Arguments,
    }

    fn load(line: &str) -> Result<Config, String> {
        let words = std::iter::once("server").chain(line.split(' '));
        let arguments = Line::try_parse_from(words).map_err(|error| error.to_string())?.arguments;
        let overrides = arguments.overrides().map_err(|trouble| trouble.words().to_owned())?;
        Config::load(&overrides, []).map_err(|error| error.to_string())
    }

    #[test]
    fn flags_reach_the_configuration() {
        let config = load(
            "--data d --listen-http 127.0.0.1:1 --listen-redis 127.0.0.1:2 --listen-cluster 127.0.0.1:30 \
             --listen-peer 127.0.0.1:40 --advertise h --found a:1,b:2 --dc D --zone Z --weight 7 --engine memory \
             --namespace carts:conflict=siblings,sloppy=false --set node.operations_max=5 --shards 2 --dev-faults",
        )
        .unwrap();
        let node = &config.node;
        assert_eq!(node.data_dir.to_str(), Some("d"));
        let ports = [node.listen_http, node.listen_redis, node.listen_cluster, node.listen_peer];
        assert_eq!(ports.map(|address| address.port()), [1, 2, 30, 40]);
        assert_eq!((node.advertise_client.as_str(), node.advertise_peer.as_str()), ("h", "h"));
        assert_eq!(node.found, ["a:1", "b:2"]);
        assert_eq!((node.shards, node.founding_members()), (2, 4));
        assert_eq!((node.dc.as_str(), node.zone.as_str(), node.weight), ("D", "Z", 7));
        assert_eq!((node.operations_max, node.experiments), (5, true));
        assert_eq!(config.cluster.namespaces[0].name, "carts");
    }

    #[test]
    fn mistakes_name_the_flag() {
        assert!(load("--weight heavy").unwrap_err().contains("--weight"));
        assert!(load("--set node.cache=1").unwrap_err().contains("nearest"));
        assert!(load("--set nonsense").unwrap_err().contains("TABLE.KEY=VALUE"));
        assert!(load("--found a:1 --join b:2").unwrap_err().contains("cannot be used with"));
        assert!(load("--namespace carts:conflict=crdt").unwrap_err().contains("--namespace"));
    }
}
