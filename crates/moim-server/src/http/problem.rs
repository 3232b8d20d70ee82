//! Problem documents (RFC 9457): one table of kinds, each with its name, title and status.

use hyper::{StatusCode, header};

use super::document::Problem;
use super::reply::{self, Reply};

/// A problem on its way out. Boxed: results carry it through every handler, and it is rare.
pub(super) type Refusal = Box<Problem>;

/// Every kind of problem that this server reports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    BadRequest,
    BadContext,
    NotServed,
    Unauthorized,
    ForeignOrigin,
    NoSuchKey,
    NoSuchNamespace,
    NoSuchPath,
    MethodNotAllowed,
    SlowBody,
    Conflict,
    ReadOnly,
    TooLarge,
    MediaType,
    TooManyRequests,
    Internal,
    Unavailable,
    Overloaded,
    NotReady,
    Timeout,
    DiskFull,
}

impl Kind {
    /// Name, title and status.
    const fn facts(self) -> (&'static str, &'static str, StatusCode) {
        match self {
            Self::BadRequest => {
                ("bad-request", "The request is not understood", StatusCode::BAD_REQUEST)
            }
            Self::BadContext => {
                ("bad-context", "The context does not fit", StatusCode::BAD_REQUEST)
            }
            Self::NotServed => ("not-served", "This is not served yet", StatusCode::BAD_REQUEST),
            Self::Unauthorized => {
                ("unauthorized", "A password is needed", StatusCode::UNAUTHORIZED)
            }
            Self::ForeignOrigin => {
                ("foreign-origin", "The request comes from another site", StatusCode::FORBIDDEN)
            }
            Self::NoSuchKey => ("no-such-key", "There is no such key", StatusCode::NOT_FOUND),
            Self::NoSuchNamespace => {
                ("no-such-namespace", "There is no such namespace", StatusCode::NOT_FOUND)
            }
            Self::NoSuchPath => ("no-such-path", "There is no such path", StatusCode::NOT_FOUND),
            Self::MethodNotAllowed => (
                "method-not-allowed",
                "The path does not take this method",
                StatusCode::METHOD_NOT_ALLOWED,
            ),
            Self::SlowBody => {
                ("slow-body", "The body did not arrive in time", StatusCode::REQUEST_TIMEOUT)
            }
            Self::Conflict => ("conflict", "There are siblings", StatusCode::CONFLICT),
            Self::ReadOnly => {
                ("read-only", "This cannot be changed on a running cluster", StatusCode::CONFLICT)
            }
            Self::TooLarge => {
                ("too-large", "A size limit is exceeded", StatusCode::PAYLOAD_TOO_LARGE)
            }
            Self::MediaType => (
                "media-type",
                "The body has a type or encoding that is not served",
                StatusCode::UNSUPPORTED_MEDIA_TYPE,
            ),
            Self::TooManyRequests => {
                ("too-many-requests", "Too much is asked of one key", StatusCode::TOO_MANY_REQUESTS)
            }
            Self::Internal => {
                ("internal", "The server made a mistake", StatusCode::INTERNAL_SERVER_ERROR)
            }
            Self::Unavailable => {
                ("unavailable", "Too few replicas answered", StatusCode::SERVICE_UNAVAILABLE)
            }
            Self::Overloaded => {
                ("overloaded", "The node has too much to do", StatusCode::SERVICE_UNAVAILABLE)
            }
            Self::NotReady => {
                ("not-ready", "The node does not serve yet", StatusCode::SERVICE_UNAVAILABLE)
            }
            Self::DiskFull => {
                ("disk-full", "There is no room for the value", StatusCode::INSUFFICIENT_STORAGE)
            }
            Self::Timeout => {
                ("timeout", "There was no answer in time", StatusCode::GATEWAY_TIMEOUT)
            }
        }
    }

    /// A problem of this kind.
    pub(super) fn because(self, detail: impl Into<String>) -> Refusal {
        let (name, title, status) = self.facts();
        Box::new(Problem {
            kind: format!("urn:moim:problem:{name}"),
            title: title.to_owned(),
            status: status.as_u16(),
            detail: detail.into(),
            ..Problem::default()
        })
    }
}

/// The problem as a response.
pub(super) fn respond(problem: &Problem) -> Reply {
    let status = StatusCode::from_u16(problem.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let mut reply = reply::json_with(status, problem);
    reply::set(&mut reply, header::CONTENT_TYPE, "application/problem+json");
    if let Some(seconds) = problem.retry_after_s {
        reply::set(&mut reply, header::RETRY_AFTER, seconds.to_string());
    }
    if status == StatusCode::UNAUTHORIZED {
        reply::set(&mut reply, header::WWW_AUTHENTICATE, "Basic realm=\"moim\", charset=\"UTF-8\"");
    }
    reply
}
