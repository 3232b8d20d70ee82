//! Nodes in network namespaces of their own, on a bridge: links between them can be cut in one direction or both, and
//! nobody is told.
//!
//! A cut is a rule of the receiver's that drops what comes from the sender ("blackhole"). So a sender sees what it would
//! see of a pulled cable: nothing. The rules stand before the table of local addresses, which every namespace consults
//! first otherwise.
//!
//! Addresses are of 198.18.0.0/15, which is set aside for tests of networks (RFC 2544) and leads nowhere.

use std::net::Ipv4Addr;
use std::os::unix::fs::MetadataExt as _;
use std::process::{self, Command};
use std::time::Duration;
use std::{fs, thread};

use anyhow::{Context, Result, bail};

use super::super::guard::Guard;
use super::super::process::run;

const COMMAND: Duration = Duration::from_secs(20);
/// The last parts of addresses. Nodes have their numbers.
const CLIENTS: u8 = 200;
const BRIDGE: u8 = 254;
/// Where proxies for nodes stand: on the bridge, so many above the node.
const PROXIES: u8 = 100;
/// The place of the table of local addresses among the rules, behind those of cuts.
const LOCAL_RULE: &str = "1000";
/// How long a bridge may take until it passes frames on.
const SETTLE: Duration = Duration::from_millis(200);

/// Namespaces for nodes and for clients, gone when dropped.
pub(in super::super) struct Network {
    /// The beginning of all names.
    tag: String,
    subnet: u8,
    nodes: u16,
    _guard: Guard,
}

impl Network {
    /// Why there can be none here, if that is so.
    pub(super) fn missing() -> Option<String> {
        let is_root = fs::metadata("/proc/self").is_ok_and(|own| own.uid() == 0);
        if !is_root {
            return Some(
                "network namespaces, which only root may make: run `cargo xtask show` as root (sudo)"
                    .to_owned(),
            );
        }
        let name = format!("moim{}-try", process::id());
        let tried = ip(&["netns", "add", &name]).and_then(|()| ip(&["netns", "del", &name]));
        let why = tried.err()?;
        Some(format!("network namespaces (`ip netns add`, of iproute2): {why:#}"))
    }

    /// A namespace for each node and one for clients, all connected. In the end, the shell that undoes it also does
    /// `last`.
    pub(super) fn lay(nodes: u16, last: String) -> Result<Self> {
        let pid = process::id();
        let (tag, subnet) = (format!("moim{pid}"), u8::try_from(pid % 256)?);
        let mut lines = undo(&tag, nodes);
        lines.push(last);
        let guard = Guard::new(&lines)?;
        let network = Self { tag, subnet, nodes, _guard: guard };
        network.make().context("make network namespaces")?;
        Ok(network)
    }

    fn make(&self) -> Result<()> {
        let (tag, bridge) = (&self.tag, self.bridge());
        ip(&["link", "add", &bridge, "type", "bridge"])?;
        ip(&["link", "set", &bridge, "up"])?;
        self.assign(BRIDGE)?;
        for node in 1..=self.nodes {
            self.assign(u8::try_from(node)? + PROXIES)?;
        }
        for (place, last) in places(self.nodes) {
            let (space, outer) = (format!("{tag}-{place}"), format!("{tag}v{place}"));
            ip(&["netns", "add", &space])?;
            ip(&["link", "add", &outer, "type", "veth", "peer", "name", "eth0", "netns", &space])?;
            ip(&["link", "set", &outer, "master", &bridge, "up"])?;
            let address = format!("{}/24", self.at(last));
            for words in [
                &["link", "set", "lo", "up"][..],
                &["link", "set", "eth0", "up"],
                &["addr", "add", &address, "dev", "eth0"],
                &["rule", "add", "pref", LOCAL_RULE, "lookup", "local"],
                &["rule", "del", "pref", "0"],
            ] {
                ip(&[&["-n", &space], words].concat())?;
            }
        }
        thread::sleep(SETTLE);
        Ok(())
    }

    fn assign(&self, last: u8) -> Result<()> {
        ip(&["addr", "add", &format!("{}/24", self.at(last)), "dev", &self.bridge()])
    }

    fn bridge(&self) -> String {
        format!("{}br", self.tag)
    }

    fn at(&self, last: u8) -> Ipv4Addr {
        Ipv4Addr::new(198, 18, self.subnet, last)
    }

    /// The address of a node.
    pub(super) fn address(&self, node: u16) -> Ipv4Addr {
        self.at(u8::try_from(node).expect("nodes are few"))
    }

    /// An address of this process's, at which a proxy for a node can listen.
    pub(super) fn proxy_address(&self, node: u16) -> Ipv4Addr {
        self.at(u8::try_from(node).expect("nodes are few") + PROXIES)
    }

    /// A program that will run beside a node.
    pub(super) fn beside(&self, node: u16, program: &str) -> Command {
        self.inside(&node.to_string(), program)
    }

    /// A program that will run where clients are.
    pub(super) fn among_clients(&self, program: &str) -> Command {
        self.inside("c", program)
    }

    /// `ip` becomes the program, so that its process id is the program's.
    fn inside(&self, place: &str, program: &str) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &format!("{}-{place}", self.tag), program]);
        command
    }

    /// From now on, nothing that one node sends reaches the other. Nobody is told.
    pub(super) fn cut(&self, from: u16, to: u16) -> Result<()> {
        let (space, sender) = (format!("{}-{to}", self.tag), self.address(from).to_string());
        ip(&["-n", &space, "rule", "add", "pref", &from.to_string(), "from", &sender, "blackhole"])
    }

    /// Ends all cuts.
    pub(super) fn heal(&self) -> Result<()> {
        for to in 1..=self.nodes {
            let space = format!("{}-{to}", self.tag);
            let listed = run(Command::new("ip").args(["-n", &space, "rule", "list"]), COMMAND)?
                .successful()?
                .stdout;
            for rule in listed.lines().filter(|rule| rule.contains("blackhole")) {
                let Some((place, _)) = rule.split_once(':') else { bail!("what is {rule}?") };
                ip(&["-n", &space, "rule", "del", "pref", place])?;
            }
        }
        Ok(())
    }
}

/// What a namespace is called, and the last part of its address.
fn places(nodes: u16) -> Vec<(String, u8)> {
    let numbered =
        (1..=nodes).filter_map(|node| Some((node.to_string(), u8::try_from(node).ok()?)));
    numbered.chain([("c".to_owned(), CLIENTS)]).collect()
}

fn undo(tag: &str, nodes: u16) -> Vec<String> {
    let places = places(nodes);
    let spaces = || places.iter().map(|(place, _)| format!("{tag}-{place}"));
    let end = spaces().map(|space| format!("ip netns pids {space} | xargs -r kill -9"));
    let remove = spaces().map(|space| format!("ip netns del {space}"));
    let unplug = places.iter().map(|(place, _)| format!("ip link del {tag}v{place}"));
    end.chain(remove).chain(unplug).chain([format!("ip link del {tag}br")]).collect()
}

fn ip(words: &[&str]) -> Result<()> {
    run(Command::new("ip").args(words), COMMAND)
        .and_then(super::super::process::Finished::successful)
        .with_context(|| format!("ip {}", words.join(" ")))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_that_is_made_is_undone() {
        let undone = undo("moim7", 2).join("\n");
        for thing in
            ["netns del moim7-1", "netns del moim7-2", "netns del moim7-c", "link del moim7br"]
        {
            assert!(undone.contains(thing), "{thing}");
        }
    }

    /// Interfaces have at most 15 letters, whatever the process id (at most 2^22).
    #[test]
    fn names_fit() {
        assert!(format!("moim{}br", 1 << 22).len() <= 15);
        assert!(format!("moim{}vc", 1 << 22).len() <= 15);
    }
}
