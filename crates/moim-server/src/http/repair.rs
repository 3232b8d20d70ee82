//! `/v1/repair`: comparisons with other owners, those that run and those that were asked for.

use std::time::Duration;

use hyper::http::request::Parts;
use hyper::{Method, StatusCode};
use moim_node::anti_entropy::Repair;
use moim_node::views::{ExchangeReason, ExchangeView, RepairView};
use moim_node::{Input, Node};
use tokio::time::sleep;

use super::document;
use super::operation::{no_such_namespace, unexpected};
use super::problem::{Kind, Refusal};
use super::query::Query;
use super::reply::{self, Answer};
use super::site::Site;

/// The loop takes what it is told within a turn; this often is looked whether it has.
const LOOK: Duration = Duration::from_millis(2);

/// Looks until something must be wrong.
const LOOKS_MAX: usize = 2_500;

/// Answers a request to repair, or to see how repairs go.
pub(super) async fn answer(site: &Site, request: &Parts) -> Answer {
    if request.method == Method::POST {
        return begin(site, request).await;
    }
    Query::parse(request.uri.query(), &[])?;
    Ok(reply::json(&site.context.handle.view(|node| state(site, node))))
}

async fn begin(site: &Site, request: &Parts) -> Answer {
    let query = Query::parse(request.uri.query(), &["namespace", "partition"])?;
    let repair = wanted(site, &query)?;
    let handle = &site.context.handle;
    if let Err(failure) = handle.view(Node::readiness)
        && handle.view(|node| node.record().is_none())
    {
        return Err(site.refuse(&failure, moim_node::api::Intent::Read));
    }
    let last = || handle.view(|node| node.repairs().1.last().map(|repair| repair.id));
    let before = last();
    handle.input(Input::Repair(repair));
    for _ in 0..LOOKS_MAX {
        if last() != before {
            let mut reply = reply::json(&handle.view(|node| state(site, node)));
            *reply.status_mut() = StatusCode::ACCEPTED;
            return Ok(reply);
        }
        sleep(LOOK).await;
    }
    Err(unexpected())
}

fn wanted(site: &Site, query: &Query) -> Result<Repair, Refusal> {
    let handle = &site.context.handle;
    let namespace = match query.text("namespace")? {
        None => None,
        Some(name) => {
            let found = handle.view(|node| {
                node.namespaces().by_name(name).map(moim_node::namespace::Namespace::id)
            });
            Some(found.ok_or_else(|| no_such_namespace(name))?)
        }
    };
    let partition = match query.text("partition")? {
        None => None,
        Some(text) => {
            let partitions = handle.view(|node| node.record().map(|it| it.ring.partitions()));
            let found = text.parse().ok().zip(partitions).and_then(|(at, all)| all.partition(at));
            let unknown = || Kind::BadRequest.because(format!("there is no partition '{text}'"));
            Some(found.ok_or_else(unknown)?)
        }
    };
    Ok(Repair { partition, namespace })
}

fn state(site: &Site, node: &Node) -> document::Repairs {
    let mono_ms = site.context.handle.now().mono_ms;
    let (exchanges, repairs) = node.repairs();
    document::Repairs {
        unfilled_partitions: node.figures().unfilled_partitions,
        exchanges: exchanges.iter().map(|exchange| self::exchange(exchange, mono_ms)).collect(),
        repairs: repairs.iter().map(|repair| self::repair(node, repair, mono_ms)).collect(),
    }
}

fn exchange(view: &ExchangeView, mono_ms: u64) -> document::Exchange {
    document::Exchange {
        peer: view.peer.to_string(),
        reason: match view.reason {
            ExchangeReason::Schedule => "schedule".to_owned(),
            ExchangeReason::Demand(id) => format!("repair {id}"),
            ExchangeReason::Fill => "fill".to_owned(),
        },
        running_ms: mono_ms.saturating_sub(view.began_mono_ms),
        partitions: view.partitions,
        partitions_done: view.partitions_done,
        keys: view.keys,
        bytes: view.bytes,
    }
}

fn repair(node: &Node, view: &RepairView, mono_ms: u64) -> document::Repair {
    let namespace = view.repair.namespace.and_then(|id| node.namespaces().get(id));
    let until = view.ended_mono_ms.unwrap_or(mono_ms);
    document::Repair {
        id: view.id,
        namespace: namespace.map(|policy| policy.name.clone()),
        partition: view.repair.partition.map(moim_core::ring::Partition::get),
        done: view.ended_mono_ms.is_some(),
        running_ms: until.saturating_sub(view.began_mono_ms),
        peers: view.peers,
        peers_done: view.peers_done,
        partitions: view.partitions,
        partitions_done: view.partitions_done,
        keys: view.keys,
        bytes: view.bytes,
        attempts_failed: view.attempts_failed,
        last_failure: view.last_failure.as_ref().map(|(peer, why)| format!("{peer}: {why}")),
    }
}
