//! Responses: a few constructors, so that every reply carries the same protective headers.

use bytes::Bytes;
use http_body_util::Full;
use hyper::header::{self, HeaderName, HeaderValue};
use hyper::{Response, StatusCode};
use serde::Serialize;

use super::problem::Refusal;

/// A whole response. Bodies are bounded (see the limits of each call), so none is streamed.
pub(super) type Reply = Response<Full<Bytes>>;

/// What a handler answers.
pub(super) type Answer = Result<Reply, Refusal>;

/// A reply with a body of this type.
pub(super) fn body(
    status: StatusCode,
    content_type: &'static str,
    body: impl Into<Bytes>,
) -> Reply {
    let mut reply = empty(status);
    *reply.body_mut() = Full::new(body.into());
    set(&mut reply, header::CONTENT_TYPE, content_type);
    reply
}

/// A reply with a JSON document.
pub(super) fn json(document: &impl Serialize) -> Reply {
    json_with(StatusCode::OK, document)
}

/// A reply with a JSON document and a status.
pub(super) fn json_with(status: StatusCode, document: &impl Serialize) -> Reply {
    let text =
        serde_json::to_vec(document).expect("documents have no maps with other keys than texts");
    body(status, "application/json", text)
}

/// A reply without a body.
pub(super) fn empty(status: StatusCode) -> Reply {
    let mut reply = Response::new(Full::default());
    *reply.status_mut() = status;
    // Values are anybody's bytes: no browser is to guess that they are a page, nor to keep them.
    set(&mut reply, header::X_CONTENT_TYPE_OPTIONS, "nosniff");
    set(&mut reply, header::CACHE_CONTROL, "no-store");
    reply
}

/// Sets a header to a text that this program made.
pub(super) fn set(reply: &mut Reply, name: HeaderName, value: impl AsRef<str>) {
    // A text that is no header value would be a peer's address with a line break: better left out than sent.
    if let Ok(value) = HeaderValue::from_str(value.as_ref()) {
        reply.headers_mut().insert(name, value);
    }
}
