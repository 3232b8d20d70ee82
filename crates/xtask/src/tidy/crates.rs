//! Which crate may see which.
//!
//! The crates exist so that the compiler enforces their rules: what a crate cannot name, it cannot do. This guards the
//! list itself.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};
use serde_json::Value;

use super::Findings;

/// Our crates, and those of ours that each may depend on.
const EDGES: [(&str, &[&str]); 8] = [
    // The allocator of the program: the one crate that may call what the compiler cannot.
    ("moim-alloc", &[]),
    ("moim-core", &[]),
    ("moim-storage", &[]),
    ("moim-node", &["moim-core", "moim-storage"]),
    ("moim-sim", &["moim-core", "moim-storage", "moim-node"]),
    ("moim-server", &["moim-core", "moim-storage", "moim-node"]),
    ("moim", &["moim-alloc", "moim-core", "moim-server"]),
    ("xtask", &[]),
];

/// Crates that run unchanged in the simulator, and the simulator.
pub(super) const STRICT: [&str; 4] = ["moim-core", "moim-storage", "moim-node", "moim-sim"];

const RUNTIMES: [&str; 9] = [
    "async-io",
    "async-std",
    "compio",
    "embassy-executor",
    "futures-executor",
    "mio",
    "monoio",
    "smol",
    "tokio",
];

/// Who depends on whom, by name, development dependencies left out.
#[derive(Default)]
pub(super) struct Graph {
    ours: BTreeSet<String>,
    dependencies: BTreeMap<String, BTreeSet<String>>,
}

impl Graph {
    /// As cargo resolves the workspace.
    pub(super) fn of(checkout: &Path) -> Result<Self> {
        let output = Command::new("cargo")
            .args(["metadata", "--format-version", "1", "--locked"])
            .current_dir(checkout)
            .output()
            .context("run `cargo metadata`")?;
        if !output.status.success() {
            bail!("`cargo metadata` failed: {}", String::from_utf8_lossy(&output.stderr).trim());
        }
        let metadata: Value = serde_json::from_slice(&output.stdout)?;
        Self::parse(&metadata).context("`cargo metadata` has another form than this task knows")
    }

    fn parse(metadata: &Value) -> Option<Self> {
        let mut names = BTreeMap::new();
        for package in metadata["packages"].as_array()? {
            names.insert(package["id"].as_str()?, package["name"].as_str()?);
        }
        let name_of = |id: &Value| names.get(id.as_str()?).map(|name| (*name).to_owned());
        let members = metadata["workspace_members"].as_array()?;
        let ours = members.iter().map(name_of).collect::<Option<_>>()?;
        let mut dependencies: BTreeMap<_, BTreeSet<_>> = BTreeMap::new();
        for node in metadata["resolve"]["nodes"].as_array()? {
            let targets = dependencies.entry(name_of(&node["id"])?).or_default();
            for dependency in node["deps"].as_array()? {
                let kinds = dependency["dep_kinds"].as_array()?;
                if kinds.iter().any(|kind| kind["kind"] != "dev") {
                    targets.insert(name_of(&dependency["pkg"])?);
                }
            }
        }
        Some(Self { ours, dependencies })
    }

    fn dependencies(&self, name: &str) -> impl Iterator<Item = &String> {
        self.dependencies.get(name).into_iter().flatten()
    }

    /// The shortest way from one crate to another.
    fn way(&self, from: &str, to: &str) -> Option<Vec<String>> {
        let mut ways = VecDeque::from([vec![from.to_owned()]]);
        let mut seen = BTreeSet::from([from.to_owned()]);
        while let Some(way) = ways.pop_front() {
            let last = way.last()?;
            if last == to {
                return Some(way);
            }
            for next in self.dependencies(last) {
                if seen.insert(next.clone()) {
                    let mut longer = way.clone();
                    longer.push(next.clone());
                    ways.push_back(longer);
                }
            }
        }
        None
    }
}

/// Our crates depend on each other as the design says.
pub(super) fn edges(graph: &Graph) -> Findings {
    let mut findings = Findings::new();
    for name in &graph.ours {
        let Some((_, allowed)) = EDGES.iter().find(|(crate_name, _)| crate_name == name) else {
            findings.push(format!(
                "the crate {name} has no rule: say in tidy/crates.rs what it may depend on, and why it exists"
            ));
            continue;
        };
        for other in graph.dependencies(name).filter(|other| graph.ours.contains(*other)) {
            if !allowed.contains(&other.as_str()) {
                findings.push(format!(
                    "{name} depends on {other}: the edges between crates keep IO, time and protocols apart"
                ));
            }
        }
    }
    findings
}

/// What runs in the simulator can reach no async runtime: it would bring a clock and threads along.
pub(super) fn no_runtime_below_the_server(graph: &Graph) -> Findings {
    let mut findings = Findings::new();
    for name in STRICT {
        for way in RUNTIMES.iter().filter_map(|runtime| graph.way(name, runtime)) {
            findings.push(format!(
                "{}: an async runtime is reachable, and the simulator could not replay what it does",
                way.join(" -> ")
            ));
        }
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;

    fn graph(edges: &[(&str, &[&str])]) -> Graph {
        let owned = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        let mut graph = Graph::default();
        for (name, dependencies) in edges {
            graph.dependencies.insert((*name).to_owned(), owned(dependencies));
        }
        graph.ours = EDGES.iter().map(|(name, _)| (*name).to_owned()).collect();
        graph
    }

    #[test]
    fn a_forbidden_edge_is_found_and_an_allowed_one_is_not() {
        let fine = graph(&[("moim-node", &["moim-core", "bytes"])]);
        assert_eq!(edges(&fine), Findings::new());
        let upwards = graph(&[("moim-node", &["moim-server"])]);
        assert_eq!(edges(&upwards).len(), 1);
    }

    #[test]
    fn a_crate_without_a_rule_is_found() {
        let mut graph = graph(&[]);
        graph.ours.insert("moim-new".to_owned());
        assert!(edges(&graph)[0].contains("moim-new"));
    }

    #[test]
    fn a_runtime_is_found_however_deep() {
        let deep = [("moim-sim", &["a"][..]), ("a", &["b"]), ("b", &["a", "tokio"])];
        let findings = no_runtime_below_the_server(&graph(&deep));
        assert_eq!(findings.len(), 1);
        assert!(findings[0].starts_with("moim-sim -> a -> b -> tokio:"));
        let above = graph(&[("moim-server", &["tokio"]), ("moim", &["moim-server"])]);
        assert_eq!(no_runtime_below_the_server(&above), Findings::new());
    }

    #[test]
    fn development_dependencies_do_not_count() {
        let metadata = serde_json::json!({
            "packages": [
                {"id": "1", "name": "moim-core"}, {"id": "2", "name": "tokio"}, {"id": "3", "name": "bytes"},
            ],
            "workspace_members": ["1"],
            "resolve": {"nodes": [{"id": "1", "deps": [
                {"pkg": "2", "dep_kinds": [{"kind": "dev"}]},
                {"pkg": "3", "dep_kinds": [{"kind": "dev"}, {"kind": null}]},
            ]}]},
        });
        let graph = Graph::parse(&metadata).unwrap();
        assert_eq!(graph.dependencies("moim-core").collect::<Vec<_>>(), ["bytes"]);
        assert!(graph.ours.contains("moim-core"));
        assert!(Graph::parse(&serde_json::json!({"packages": 7})).is_none());
    }
}
