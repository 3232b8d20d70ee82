//! `/v1/status`, `/v1/nodes`, `/v1/tasks`: the cluster as this node sees it.

use std::rc::Rc;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hyper::http::request::Parts;
use moim_node::Node;
use moim_node::membership::{MemberInfo, Record};
use moim_node::views::{MemberState, MemberView, PeerState, PeerView, TaskView, TransferView};
use moim_storage::Figures;

use super::document::{self, Addresses, Local, Nodes, Status, Task, Tasks};
use super::failure;
use super::metrics;
use super::neighbours;
use super::problem::{Kind, Refusal};
use super::query::Query;
use super::reply::{self, Answer};
use super::ring::Shares;
use super::site::Site;

/// Tasks shown at the most.
const TASKS_MAX: usize = 1_000;

/// Answers a request for the cluster at a glance.
pub(super) async fn status(site: &Rc<Site>, request: &Parts) -> Answer {
    Query::parse(request.uri.query(), &[])?;
    let shards = neighbours::everywhere(site, |site| async move { shard(&site).await }).await;
    let shards = shards.into_iter().flatten().collect::<Result<Vec<_>, _>>()?;
    let uptime_ms = u64::try_from(site.context.started.elapsed().as_millis()).unwrap_or(u64::MAX);
    let mut status = site.context.handle.view(glance);
    status.uptime_ms = uptime_ms;
    let number = site.context.shard.number();
    if let Some(own) = shards.iter().find(|shard| shard.shard == number) {
        status.local = own.local.clone();
    }
    if let Some(waiting) = shards.iter().find(|shard| !shard.ready).filter(|_| status.ready) {
        let reason = waiting.reason.as_deref().unwrap_or_default();
        (status.ready, status.reason) = (false, Some(format!("shard {}: {reason}", waiting.shard)));
    }
    status.shards = shards;
    Ok(reply::json(&status))
}

/// What the node of this thread holds and does.
async fn shard(site: &Site) -> Result<document::Shard, Refusal> {
    let local = local(site, &engine_figures(site).await?);
    let readiness = site.context.handle.readiness();
    Ok(document::Shard {
        shard: site.context.shard.number(),
        node: site.context.handle.view(|node| node.info().member.node.to_string()),
        ready: readiness.is_ok(),
        reason: readiness.err().map(|failure| failure::waiting(&failure)),
        local,
    })
}

/// The engine's figures; gathering them may block, so it happens on another thread.
pub(super) async fn engine_figures(site: &Site) -> Result<Figures, Refusal> {
    let engine = Arc::clone(&site.context.engine);
    tokio::task::spawn_blocking(move || engine.figures())
        .await
        .map_err(|error| Kind::Internal.because(format!("the engine's figures: {error}")))
}

fn local(site: &Site, engine: &Figures) -> Local {
    let (figures, settled) = site.context.handle.view(|node| (node.figures(), node.settled_view()));
    let (reads_per_second, writes_per_second, failures_per_second) =
        site.rates.borrow().per_second();
    let (disk_available_bytes, disk_size_bytes) = (site.context.disk_space)();
    Local {
        keys_estimate: engine.keys_estimate,
        disk_bytes: engine.tables_bytes,
        set_aside_s: site.context.set_aside_s.clone(),
        disk_available_bytes,
        disk_size_bytes,
        disk_room: site.context.handle.view(Node::disk_room).to_string(),
        cache_bytes: figures.cache_bytes,
        reads_per_second,
        writes_per_second,
        failures_per_second,
        p99_ms: site.context.handle.view(Node::pace).p99_ms,
        operations: figures.operations,
        tasks: figures.tasks,
        settled_lag_ms: settled.lag_ms,
        settled_held_back_by: settled.held_back_by.map(|node| node.to_string()),
        hints: figures.hints,
        hints_bytes: figures.hints_bytes,
        hints_oldest_ms: figures.hints_oldest_ms,
        transfers: site.context.handle.view(|node| {
            let mono_ms = site.context.handle.now().mono_ms;
            node.transfers().iter().map(|view| transfer(view, mono_ms)).collect()
        }),
        memory_bytes: metrics::memory_bytes(),
    }
}

fn transfer(view: &TransferView, mono_ms: u64) -> document::Transfer {
    document::Transfer {
        reason: view.reason.name().to_owned(),
        peer: view.peer.map(|peer| peer.to_string()),
        left: view.left,
        total: view.total,
        bytes: view.bytes,
        running_ms: mono_ms.saturating_sub(view.began_mono_ms),
        idle_ms: mono_ms.saturating_sub(view.moved_mono_ms),
        stalled: view.is_stalled(mono_ms),
    }
}

fn glance(node: &Node) -> Status {
    let readiness = node.readiness();
    let record = node.record();
    let ring = record.map(|record| &record.ring);
    let copies_wanted = node.namespaces().by_name("0").map_or(0, |namespace| namespace.n);
    let connected = |peer: &PeerView| peer.state != PeerState::Unreachable;
    Status {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        node: node.info().member.node.to_string(),
        cluster: record.map(|record| format!("{:016x}", record.cluster)),
        ready: readiness.is_ok(),
        reason: readiness.err().map(|failure| failure::waiting(&failure)),
        ring_version: ring.map(moim_core::ring::Ring::version),
        partitions: ring.map(|ring| ring.partitions().get()),
        nodes: record.map_or(1, |record| record.members.len()),
        nodes_up: 1 + node.peers().iter().filter(|peer| connected(peer)).count(),
        nodes_down: node.members().iter().filter(|one| one.state == MemberState::Down).count(),
        machines: ring.map_or(1, moim_core::ring::Ring::machines),
        copies_wanted,
        copies: ring.map_or(1, |ring| ring.copies(copies_wanted)),
        namespaces: node.namespaces().all().count(),
        ..Status::default()
    }
}

/// Answers a request for the members.
pub(super) fn nodes(site: &Site, request: &Parts) -> Answer {
    Query::parse(request.uri.query(), &[])?;
    let uptime_ms = u64::try_from(site.context.started.elapsed().as_millis()).unwrap_or(u64::MAX);
    let now_mono_ms = site.context.handle.now().mono_ms;
    let nodes = site.context.handle.view(|node| {
        let shares = node.record().map(|record| Shares::of(&record.ring, copies(node)));
        let (peers, members) = (node.peers(), node.members());
        let describe = |info: &MemberInfo| {
            let own = info.member.node == node.info().member.node;
            let peer = peers.iter().find(|peer| peer.info.member.node == info.member.node);
            let (state, state_for_ms) = match peer {
                _ if own => (PeerState::Up, uptime_ms),
                Some(peer) => (peer.state, now_mono_ms.saturating_sub(peer.since_mono_ms)),
                None => (PeerState::Unreachable, uptime_ms),
            };
            let told = members.iter().find(|told| told.info.member.node == info.member.node);
            let described = member(info, shares.as_ref());
            let described = gossiped(described, told, now_mono_ms);
            document::Node {
                own,
                state: name(state).to_owned(),
                state_for_ms,
                tasks: peer.map_or(0, |peer| peer.tasks),
                hints: peer.map_or(0, |peer| peer.hints),
                ..described
            }
        };
        known_members(node.record(), node.info(), &peers).iter().map(describe).collect()
    });
    Ok(reply::json(&Nodes { nodes }))
}

/// Adds what members agree on.
fn gossiped(node: document::Node, told: Option<&MemberView>, now_mono_ms: u64) -> document::Node {
    let Some(told) = told else { return document::Node { agreed: "unknown".to_owned(), ..node } };
    document::Node {
        agreed: agreed(told.state).to_owned(),
        agreed_for_ms: now_mono_ms.saturating_sub(told.since_mono_ms),
        phi: (told.phi * 100.0).round() / 100.0,
        reporters: told.reporters.iter().map(ToString::to_string).collect(),
        generation: told.generation,
        heartbeat: told.heartbeat,
        heartbeat_age_ms: told.heartbeat_age_ms,
        load: told.load,
        ..node
    }
}

/// What members agree on, in a word.
pub(super) fn agreed(of: MemberState) -> &'static str {
    match of {
        MemberState::Unknown => "unknown",
        MemberState::Alive => "alive",
        MemberState::Stopping => "stopping",
        MemberState::Suspect => "suspect",
        MemberState::Down => "down",
    }
}

/// Copies of a key in the default namespace.
pub(super) fn copies(node: &Node) -> u8 {
    node.namespaces().by_name("0").map_or(1, |namespace| namespace.n)
}

/// The ring's members; before there is a ring, those that were met.
fn known_members(record: Option<&Record>, own: &MemberInfo, peers: &[PeerView]) -> Vec<MemberInfo> {
    match record {
        Some(record) => record.members.clone(),
        None => [own].into_iter().chain(peers.iter().map(|peer| &peer.info)).cloned().collect(),
    }
}

fn name(of: PeerState) -> &'static str {
    match of {
        PeerState::Up => "up",
        PeerState::Silent => "silent",
        PeerState::Skipped => "skipped",
        PeerState::Unreachable => "unreachable",
    }
}

fn member(info: &MemberInfo, shares: Option<&Shares>) -> document::Node {
    let id = info.member.node;
    document::Node {
        node: id.to_string(),
        machine: info.member.machine.to_string(),
        dc: info.member.dc.clone(),
        zone: info.member.zone.clone(),
        weight: info.member.weight,
        partitions: shares.map_or(0, |shares| shares.partitions(id)),
        share: shares.map_or(0.0, |shares| shares.share(id)),
        addresses: Addresses {
            redis: info.redis_address.clone(),
            cluster: info.cluster_address.clone(),
            http: info.http_address.clone(),
            peer: info.peer_address.clone(),
        },
        ..document::Node::default()
    }
}

/// Answers a request for the copies that are still owed.
pub(super) fn tasks(site: &Site, request: &Parts) -> Answer {
    Query::parse(request.uri.query(), &[])?;
    let _room = site.gather()?;
    let tasks = site.context.handle.view(|node| Tasks {
        total: node.figures().tasks,
        tasks: node.tasks(TASKS_MAX).iter().map(|owed| task(node, owed)).collect(),
    });
    Ok(reply::json(&tasks))
}

fn task(node: &Node, owed: &TaskView) -> Task {
    let namespace = node.namespaces().get(owed.namespace);
    let (key, key_base64) = match String::from_utf8(owed.key.to_vec()) {
        Ok(text) => (Some(text), None),
        Err(_) => (None, Some(STANDARD.encode(&owed.key))),
    };
    Task {
        id: owed.id,
        namespace: namespace
            .map_or_else(|| format!("#{}", owed.namespace.0), |policy| policy.name.clone()),
        key,
        key_base64,
        target: owed.target.to_string(),
        created_ms: owed.created_ms,
        attempts: owed.attempts,
    }
}
