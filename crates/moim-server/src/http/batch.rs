//! `POST /v1/batch`: many gets, puts and deletes in one request, each with its own outcome. No transaction, no order.

use std::cell::Cell;
use std::rc::Rc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use hyper::body::Incoming;
use hyper::header;
use hyper::http::request::Parts;
use moim_node::api::{Action, Found};
use tokio::task::JoinSet;

use super::body::{self, BodyRefused};
use super::document::{Batch, BatchResults, Operation, OperationResult, Verb};
use super::operation::{self, Place, Wanted, Written};
use super::problem::{Kind, Refusal};
use super::query::{Query, level};
use super::reply::{self, Answer};
use super::site::Site;

/// Operations in a batch at the most.
const OPERATIONS_MAX: usize = 1_000;

/// Bytes of a batch at the most.
const BODY_BYTES_MAX: u64 = 8 << 20;

/// Bytes of values that a batch brings back at the most; gets beyond are told to ask again.
const VALUES_BYTES_MAX: usize = 16 << 20;

/// Operations of one batch that run at once.
const RUNNING_MAX: usize = 64;

/// Answers a batch.
pub(super) async fn answer(site: &Rc<Site>, request: &Parts, body: Incoming) -> Answer {
    let query = Query::parse(request.uri.query(), &["timeout"])?;
    let timeout_ms = query.timeout_ms()?;
    let _room = site.gather()?;
    let batch = parse(request, &take(site, body).await?)?;
    let namespace: Rc<str> = batch.namespace.as_deref().unwrap_or("0").into();
    let results = run(site, &namespace, batch.operations, timeout_ms).await?;
    Ok(reply::json(&BatchResults { results }))
}

async fn take(site: &Site, body: Incoming) -> Result<Bytes, Refusal> {
    let patience = site.context.settings.body_patience;
    body::read(body, BODY_BYTES_MAX, patience).await.map_err(|refused| match refused {
        BodyRefused::TooLarge(_) => limit(
            format!("a batch may have {BODY_BYTES_MAX} bytes and {OPERATIONS_MAX} operations: send several"),
            BODY_BYTES_MAX,
        ),
        BodyRefused::Other(refusal) => refusal,
    })
}

fn parse(request: &Parts, body: &Bytes) -> Result<Batch, Refusal> {
    let content_type =
        request.headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let essence = content_type.unwrap_or_default().split(';').next().unwrap_or_default().trim();
    let encoded = request.headers.contains_key(header::CONTENT_ENCODING);
    if !essence.eq_ignore_ascii_case("application/json") || encoded {
        return Err(Kind::MediaType
            .because("send Content-Type: application/json, without Content-Encoding"));
    }
    let batch: Batch = serde_json::from_slice(body)
        .map_err(|error| Kind::BadRequest.because(format!("the batch cannot be read: {error}")))?;
    if batch.operations.len() > OPERATIONS_MAX {
        return Err(Kind::TooLarge.because(format!(
            "{} operations, a batch may have {OPERATIONS_MAX} (and {BODY_BYTES_MAX} bytes): send several",
            batch.operations.len()
        )));
    }
    Ok(batch)
}

async fn run(
    site: &Rc<Site>,
    namespace: &Rc<str>,
    operations: Vec<Operation>,
    timeout_ms: Option<u32>,
) -> Result<Vec<OperationResult>, Refusal> {
    let mut results = vec![OperationResult::default(); operations.len()];
    let room = Rc::new(Cell::new(VALUES_BYTES_MAX));
    let mut waiting = operations.into_iter().enumerate();
    let mut running = JoinSet::new();
    loop {
        while running.len() < RUNNING_MAX {
            let Some((at, operation)) = waiting.next() else { break };
            let (site, namespace, room) = (Rc::clone(site), Rc::clone(namespace), Rc::clone(&room));
            running.spawn_local(async move {
                (at, one(&site, &namespace, operation, timeout_ms, &room).await)
            });
        }
        match running.join_next().await {
            None => return Ok(results),
            Some(Ok((at, result))) => results[at] = result,
            Some(Err(_)) => return Err(operation::unexpected()),
        }
    }
}

async fn one(
    site: &Site,
    namespace: &str,
    operation: Operation,
    timeout_ms: Option<u32>,
    room: &Cell<usize>,
) -> OperationResult {
    match attempt(site, namespace, operation, timeout_ms, room).await {
        Ok(result) => result,
        Err(problem) => OperationResult {
            status: problem.status,
            problem: Some(*problem),
            ..OperationResult::default()
        },
    }
}

async fn attempt(
    site: &Site,
    namespace: &str,
    operation: Operation,
    timeout_ms: Option<u32>,
    room: &Cell<usize>,
) -> Result<OperationResult, Refusal> {
    let name = operation.namespace.as_deref().unwrap_or(namespace);
    let key = either("key", operation.key.as_deref(), operation.key_base64.as_deref())?;
    let place = Place::find(site, name, key.ok_or_else(|| missing("key or key_base64"))?)?;
    let wanted = wanted(&operation, timeout_ms)?;
    let context = operation.context.as_deref().map(|text| place.context(text)).transpose()?;
    match operation.op {
        Verb::Get => {
            none(&operation, &["context", "w", "value", "ttl"])?;
            let found = operation::read(site, &place, wanted).await?;
            found_result(&place, &found, room)
        }
        Verb::Delete => {
            none(&operation, &["value", "ttl"])?;
            Ok(written(operation::write(site, &place, Action::Delete { context }, wanted).await?))
        }
        Verb::Put => {
            none(&operation, &["r"])?;
            let value =
                either("value", operation.value_text.as_deref(), operation.value.as_deref())?;
            let value = value.ok_or_else(|| missing("value (base64) or value_text"))?;
            let expiry = operation::expiry(site, operation.ttl.as_deref())?;
            let action = Action::Put { value: value.into(), expiry, context };
            Ok(written(operation::write(site, &place, action, wanted).await?))
        }
    }
}

fn wanted(operation: &Operation, timeout_ms: Option<u32>) -> Result<Wanted, Refusal> {
    let r = operation.r.as_deref().map(|text| level("r", text)).transpose()?;
    let w = operation.w.as_deref().map(|text| level("w", text)).transpose()?;
    Ok(Wanted { r, w, timeout_ms })
}

/// Refuses members that mean nothing to this operation.
fn none(operation: &Operation, foreign: &[&str]) -> Result<(), Refusal> {
    let present = |name: &str| match name {
        "context" => operation.context.is_some(),
        "r" => operation.r.is_some(),
        "w" => operation.w.is_some(),
        "ttl" => operation.ttl.is_some(),
        _ => operation.value.is_some() || operation.value_text.is_some(),
    };
    match foreign.iter().find(|name| present(name)) {
        None => Ok(()),
        Some(name) => {
            let verb = format!("{:?}", operation.op).to_lowercase();
            Err(Kind::BadRequest.because(format!("'{name}' means nothing to a {verb}")))
        }
    }
}

fn either(what: &str, text: Option<&str>, base64: Option<&str>) -> Result<Option<Bytes>, Refusal> {
    match (text, base64) {
        (Some(_), Some(_)) => {
            Err(Kind::BadRequest
                .because(format!("the {what} is there twice: as text and in base64")))
        }
        (Some(text), None) => Ok(Some(Bytes::copy_from_slice(text.as_bytes()))),
        (None, Some(encoded)) => match STANDARD.decode(encoded) {
            Ok(bytes) => Ok(Some(bytes.into())),
            Err(error) => {
                Err(Kind::BadRequest.because(format!("the {what} is not base64: {error}")))
            }
        },
        (None, None) => Ok(None),
    }
}

fn missing(what: &str) -> Refusal {
    Kind::BadRequest.because(format!("the operation lacks {what}"))
}

fn limit(detail: String, limit_bytes: u64) -> Refusal {
    let mut problem = Kind::TooLarge.because(detail);
    problem.limit_bytes = Some(limit_bytes);
    problem
}

fn found_result(
    place: &Place,
    found: &Found,
    room: &Cell<usize>,
) -> Result<OperationResult, Refusal> {
    let status = match found.versions.len() {
        0 => 404,
        1 => 200,
        _ => 300,
    };
    let bytes: usize =
        found.versions.iter().filter_map(|version| version.value()).map(Bytes::len).sum();
    let Some(left) = room.get().checked_sub(bytes) else {
        return Err(limit(
            format!(
                "the values of this batch exceed {VALUES_BYTES_MAX} bytes: get this key again by itself"
            ),
            VALUES_BYTES_MAX as u64,
        ));
    };
    room.set(left);
    let context = found.context.as_ref().map(|seen| place.context_text(seen));
    let siblings = operation::siblings(&found.versions);
    Ok(OperationResult { status, context, siblings, ..OperationResult::default() })
}

fn written(written: Written) -> OperationResult {
    let version = Some(written.version.as_u64().to_string());
    OperationResult {
        status: 204,
        context: Some(written.context),
        version,
        ..OperationResult::default()
    }
}
