//! `/v1/namespaces`: policies. They come from the configuration, so they can be looked at and not changed.

use hyper::Method;
use hyper::http::request::Parts;
use moim_node::namespace::Namespace;

use super::document;
use super::operation::{no_such_namespace, unexpected};
use super::percent::{self, Plus};
use super::problem::Kind;
use super::query::Query;
use super::reply::{self, Answer};
use super::site::Site;
use super::value::bad_path;

/// Answers a request for all namespaces.
pub(super) fn all(site: &Site, request: &Parts) -> Answer {
    Query::parse(request.uri.query(), &[])?;
    let namespaces =
        site.context.handle.view(|node| node.namespaces().all().map(describe).collect());
    Ok(reply::json(&document::Namespaces { namespaces }))
}

/// Answers a request for one namespace.
pub(super) fn one(site: &Site, request: &Parts, path: &[&str]) -> Answer {
    let &[name] = path else { return Err(unexpected()) };
    let name =
        percent::decode_text(name, Plus::Literal).map_err(|error| bad_path("namespace", &error))?;
    if !matches!(request.method, Method::GET | Method::HEAD) {
        return Err(Kind::ReadOnly.because(
            "namespaces come from the configuration of every node (namespaces in moim.toml, or --namespace): \
             change them there and restart",
        ));
    }
    Query::parse(request.uri.query(), &[])?;
    let found = site.context.handle.view(|node| node.namespaces().by_name(&name).map(describe));
    found.map(|namespace| reply::json(&namespace)).ok_or_else(|| no_such_namespace(&name))
}

fn describe(policy: &Namespace) -> document::Namespace {
    document::Namespace {
        name: policy.name.clone(),
        n: policy.n,
        r: policy.r.to_string(),
        w: policy.w.to_string(),
        conflict: policy.conflict.to_string(),
        mode: "available".to_owned(),
        sloppy: policy.sloppy,
        ttl_ms: policy.ttl_ms,
        max_ttl_ms: policy.max_ttl_ms,
        max_pair_bytes: policy.max_pair_bytes,
    }
}
