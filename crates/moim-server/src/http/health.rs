//! `/healthz`, `/readyz` and `/metrics`: for those who watch from outside.

use std::rc::Rc;

use hyper::StatusCode;
use hyper::http::request::Parts;
use moim_node::Node;
use moim_node::api::Intent;
use moim_node::views::{MemberState, MemberView};

use super::cluster::engine_figures;
use super::metrics::{self, Metric, MetricKind, Sample, count};
use super::neighbours;
use super::problem::Refusal;
use super::query::Query;
use super::reply::{self, Answer, Reply};
use super::site::Site;

const TEXT: &str = "text/plain; charset=utf-8";

/// The process turns its loop: that this is answered shows it.
pub(super) fn alive() -> Reply {
    reply::body(StatusCode::OK, TEXT, "alive\n")
}

/// Whether all nodes of this server serve. It does not depend on other nodes once the cluster is founded: one bad node must not take
/// all the others out of a load balancer.
pub(super) async fn ready(site: &Rc<Site>) -> Answer {
    let readiness = neighbours::everywhere(site, |site| async move {
        let readiness = site.context.handle.readiness();
        readiness.map_err(|failure| site.refuse(&failure, Intent::Read))
    });
    for (number, readiness) in readiness.await.into_iter().enumerate() {
        readiness.ok_or_else(|| neighbours::silent(number))??;
    }
    Ok(reply::body(StatusCode::OK, TEXT, "ready\n"))
}

/// All figures, of all nodes of this server.
pub(super) async fn figures(site: &Rc<Site>, request: &Parts) -> Answer {
    Query::parse(request.uri.query(), &[])?;
    let _room = site.gather()?;
    let mut all = vec![build(), uptime(site)];
    let several = site.context.shard.count() > 1;
    let shards = neighbours::everywhere(site, |site| async move { of_shard(&site).await }).await;
    for (number, metrics) in shards.into_iter().enumerate() {
        // One that does not run has none.
        let Some((node, metrics)) = metrics.transpose()? else { continue };
        let labels = several.then(|| [("shard", number.to_string()), ("node", node)]);
        metrics::merge(&mut all, metrics, labels.as_ref().map_or(&[], |labels| labels.as_slice()));
    }
    all.extend(traffic(site));
    all.extend(metrics::of_process());
    Ok(reply::body(
        StatusCode::OK,
        "text/plain; version=0.0.4; charset=utf-8",
        metrics::print(&all),
    ))
}

/// The figures of the node of this thread, and its id.
async fn of_shard(site: &Site) -> Result<(String, Vec<Metric>), Refusal> {
    let engine = engine_figures(site).await?;
    let mut all = vec![ready_gauge(site)];
    all.extend(metrics::of_node(&site.context.handle.view(Node::figures)));
    all.extend(metrics::of_freshness(&site.context.handle.view(Node::freshness)));
    all.extend(metrics::of_pace(&site.context.handle.view(Node::pace)));
    let transfers = site.context.handle.view(Node::transfers);
    all.extend(metrics::of_transfers(&transfers, site.context.handle.now().mono_ms));
    all.push(peers(site));
    all.extend(members(site));
    all.extend(metrics::of_engine(&engine));
    all.extend((site.context.front_figures)());
    Ok((site.context.handle.view(|node| node.info().member.node.to_string()), all))
}

fn build() -> Metric {
    let version = Sample::new(1.0).label("version", env!("CARGO_PKG_VERSION"));
    Metric {
        samples: vec![version],
        ..Metric::gauge("moim_build_info", "The program's version.", 1.0)
    }
}

fn ready_gauge(site: &Site) -> Metric {
    let ready = site.context.handle.readiness().is_ok();
    Metric::gauge("moim_ready", "1 if this node serves.", f64::from(u8::from(ready)))
}

fn uptime(site: &Site) -> Metric {
    let seconds = site.context.started.elapsed().as_secs_f64();
    Metric::gauge("moim_uptime_seconds", "Time since the process started.", seconds)
}

fn peers(site: &Site) -> Metric {
    let samples = site.context.handle.view(|node| {
        let label = |peer: &moim_node::views::PeerView| {
            let up = peer.state == moim_node::views::PeerState::Up;
            Sample::new(f64::from(u8::from(up))).label("peer", peer.info.member.node.to_string())
        };
        node.peers().iter().map(label).collect()
    });
    Metric {
        samples,
        ..Metric::gauge(
            "moim_peer_up",
            "1 if the peer is connected and talking, seen from here.",
            0.0,
        )
    }
}

/// What gossip says of the other members.
fn members(site: &Site) -> [Metric; 3] {
    let members = site.context.handle.view(Node::members);
    let gauge = |name, help, value: &dyn Fn(&MemberView) -> f64| {
        let others = members.iter().filter(|member| !member.own);
        let sample = |member: &MemberView| {
            Sample::new(value(member)).label("peer", member.info.member.node.to_string())
        };
        Metric { samples: others.map(sample).collect(), ..Metric::gauge(name, help, 0.0) }
    };
    [
        gauge("moim_member_down", "1 if members agree that the member is down.", &|member| {
            f64::from(u8::from(member.state == MemberState::Down))
        }),
        gauge(
            "moim_member_phi",
            "How suspicious the member's silence is here: -log10 of the chance that a heartbeat comes even later.",
            &|member| member.phi,
        ),
        gauge(
            "moim_member_reporters",
            "Live members that report the member's latest heartbeat as the last.",
            &|member| count(member.reporters.len() as u64),
        ),
    ]
}

fn traffic(site: &Site) -> Vec<Metric> {
    let traffic = &site.traffic;
    let by_class = (1..).zip(&traffic.replies).map(|(class, counter)| {
        Sample::new(count(counter.get())).label("class", format!("{class}xx"))
    });
    vec![
        Metric {
            name: "moim_http_replies_total",
            help: "HTTP replies by the class of their status.",
            kind: MetricKind::Counter,
            samples: by_class.collect(),
        },
        traffic
            .durations
            .metric("moim_http_request_seconds", "Time from a request's head to its reply."),
        Metric::gauge(
            "moim_http_connections",
            "HTTP connections.",
            count(traffic.connections.get() as u64),
        ),
        Metric::counter(
            "moim_http_connections_refused_total",
            "HTTP connections turned away for lack of room.",
            traffic.connections_refused.get(),
        ),
    ]
}
