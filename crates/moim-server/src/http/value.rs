//! `/v1/kv/{namespace}/{key}`: one value, raw.

use bytes::Bytes;
use hyper::body::Incoming;
use hyper::header::{self, HeaderMap, HeaderName};
use hyper::http::request::Parts;
use hyper::{Method, StatusCode};
use moim_core::object::Version;
use moim_node::api::{Action, Found};

use super::body::{self, BodyRefused};
use super::document::Siblings;
use super::failure::too_large;
use super::operation::{self, Place, Wanted, Written, deadline};
use super::percent::{self, Plus};
use super::problem::{Kind, Refusal, respond};
use super::query::Query;
use super::reply::{self, Answer, Reply};
use super::site::Site;

const CONTEXT: HeaderName = HeaderName::from_static("x-moim-context");
const VERSION: HeaderName = HeaderName::from_static("x-moim-version");
const CREATED: HeaderName = HeaderName::from_static("x-moim-created");
const WRITTEN: HeaderName = HeaderName::from_static("x-moim-written");
const EXPIRES: HeaderName = HeaderName::from_static("x-moim-expires");

/// Answers a request for a value.
pub(super) async fn answer(site: &Site, request: &Parts, path: &[&str], body: Incoming) -> Answer {
    let &[namespace, key] = path else { return Err(operation::unexpected()) };
    let place = place(site, namespace, key)?;
    match request.method {
        Method::PUT => put(site, request, &place, body).await,
        Method::DELETE => delete(site, request, &place).await,
        _ => get(site, request, &place).await,
    }
}

/// The key that a path names.
pub(super) fn place(site: &Site, namespace: &str, key: &str) -> Result<Place, Refusal> {
    let name = percent::decode_text(namespace, Plus::Literal)
        .map_err(|error| bad_path("namespace", &error))?;
    let key = percent::decode(key, Plus::Literal).map_err(|error| bad_path("key", &error))?;
    Place::find(site, &name, key.into())
}

/// The problem that a part of a path cannot be decoded.
pub(super) fn bad_path(what: &str, error: &str) -> Refusal {
    Kind::BadRequest.because(format!("the {what} in the path: {error}"))
}

async fn get(site: &Site, request: &Parts, place: &Place) -> Answer {
    let query = Query::parse(request.uri.query(), &["r", "timeout"])?;
    let wanted = Wanted { r: query.level("r")?, w: None, timeout_ms: query.timeout_ms()? };
    let found = operation::read(site, place, wanted).await?;
    let mut reply = match found.versions.as_slice() {
        [] => respond(&absent(&found)),
        [version] => one(request, version),
        several => reply::json_with(
            StatusCode::MULTIPLE_CHOICES,
            &Siblings {
                context: found
                    .context
                    .as_ref()
                    .map_or_else(String::new, |seen| place.context_text(seen)),
                siblings: operation::siblings(several),
            },
        ),
    };
    if let Some(context) = &found.context {
        reply::set(&mut reply, CONTEXT, place.context_text(context));
    }
    Ok(reply)
}

fn absent(found: &Found) -> Refusal {
    Kind::NoSuchKey.because(match found.context {
        None => "the key has no value",
        Some(_) => "the key was deleted or has expired; X-Moim-Context covers that",
    })
}

fn one(request: &Parts, version: &Version) -> Reply {
    // The time alone does not name a version: two nodes may have stamped alike.
    let tag = format!("\"{:x}-{}\"", version.written.as_u64(), version.dot);
    let known = request.headers.get_all(header::IF_NONE_MATCH).iter();
    let unchanged = known.filter_map(|tags| tags.to_str().ok()).any(|tags| names(tags, &tag));
    let mut reply = if unchanged {
        reply::empty(StatusCode::NOT_MODIFIED)
    } else {
        let value = version.value().cloned().unwrap_or_default();
        reply::body(StatusCode::OK, "application/octet-stream", value)
    };
    reply::set(&mut reply, header::ETAG, tag);
    reply::set(&mut reply, VERSION, version.written.as_u64().to_string());
    reply::set(&mut reply, CREATED, version.created_ms.to_string());
    reply::set(&mut reply, WRITTEN, version.written.millis().to_string());
    if let Some(expires_ms) = deadline(version) {
        reply::set(&mut reply, EXPIRES, expires_ms.to_string());
    }
    reply
}

/// Whether a list of entity tags names this one. Weak tags count: to read is to compare weakly (RFC 9110, 13.1.2).
fn names(list: &str, tag: &str) -> bool {
    list.split(',')
        .map(str::trim)
        .any(|item| item == "*" || item.strip_prefix("W/").unwrap_or(item) == tag)
}

async fn put(site: &Site, request: &Parts, place: &Place, body: Incoming) -> Answer {
    let query = Query::parse(request.uri.query(), &["w", "ttl", "timeout"])?;
    let wanted = Wanted { r: None, w: query.level("w")?, timeout_ms: query.timeout_ms()? };
    let context = seen(request, place)?;
    unconditional(&request.headers)?;
    plain(&request.headers)?;
    let value = take(site, place, body).await?;
    // Counted from the moment the value is whole, not from when a slow client began to send it.
    let expiry = operation::expiry(site, query.text("ttl")?)?;
    let action = Action::Put { value: value.into(), expiry, context };
    Ok(written(&operation::write(site, place, action, wanted).await?))
}

async fn delete(site: &Site, request: &Parts, place: &Place) -> Answer {
    let query = Query::parse(request.uri.query(), &["r", "w", "timeout"])?;
    let wanted =
        Wanted { r: query.level("r")?, w: query.level("w")?, timeout_ms: query.timeout_ms()? };
    unconditional(&request.headers)?;
    let action = Action::Delete { context: seen(request, place)? };
    Ok(written(&operation::write(site, place, action, wanted).await?))
}

fn written(written: &Written) -> Reply {
    let mut reply = reply::empty(StatusCode::NO_CONTENT);
    reply::set(&mut reply, CONTEXT, &written.context);
    reply::set(&mut reply, VERSION, written.version.as_u64().to_string());
    reply
}

/// The context that the client sent.
fn seen(request: &Parts, place: &Place) -> Result<Option<moim_core::object::Context>, Refusal> {
    let mut sent = request.headers.get_all(CONTEXT).iter();
    let context = sent.next();
    if sent.next().is_some() {
        return Err(Kind::BadContext.because("X-Moim-Context is there twice: send the last one"));
    }
    let Some(context) = context else { return Ok(None) };
    let text = context.to_str().map_err(|error| Kind::BadContext.because(error.to_string()))?;
    place.context(text).map(Some)
}

/// A condition that is not kept must not be accepted.
fn unconditional(headers: &HeaderMap) -> Result<(), Refusal> {
    let condition = [header::IF_MATCH, header::IF_NONE_MATCH, header::IF_UNMODIFIED_SINCE]
        .into_iter()
        .find(|name| headers.contains_key(name));
    match condition {
        None => Ok(()),
        Some(name) => Err(Kind::NotServed.because(format!(
            "{name}: comparing and setting in one needs a consistent namespace, and those are not served yet. \
             In a siblings namespace, send X-Moim-Context to replace exactly what you read"
        ))),
    }
}

/// Values are stored as they come, so an encoding would come back to clients that did not ask for it.
fn plain(headers: &HeaderMap) -> Result<(), Refusal> {
    match headers.get(header::CONTENT_ENCODING) {
        Some(encoding) if encoding != "identity" => Err(Kind::MediaType
            .because("Content-Encoding is not served: send the value as it is to be stored")),
        _ => Ok(()),
    }
}

async fn take(site: &Site, place: &Place, body: Incoming) -> Result<Bytes, Refusal> {
    let room = place.value_room()?;
    let patience = site.context.settings.body_patience;
    body::read(body, room, patience).await.map_err(|refused| match refused {
        BodyRefused::TooLarge(value_bytes) => {
            too_large(value_bytes.saturating_add(place.key.len() as u64), place.limit_bytes)
        }
        BodyRefused::Other(refusal) => refusal,
    })
}
