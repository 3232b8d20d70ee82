//! One get, put or delete, however it came in: by its own path or as a part of a batch.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use moim_core::NamespaceId;
use moim_core::clock::Hlc;
use moim_core::object::{Context, Version};
use moim_core::quorum::Level;
use moim_node::api::{Action, Expiry, Found, Intent};
use moim_node::{Outcome, Request};

use super::document::Sibling;
use super::duration;
use super::failure::too_large;
use super::problem::{Kind, Refusal};
use super::site::Site;
use crate::context_text;

/// A key in its namespace.
#[derive(Clone, Debug)]
pub(super) struct Place {
    pub(super) namespace: NamespaceId,
    pub(super) key: Bytes,
    /// Key and value together may have this many bytes.
    pub(super) limit_bytes: u64,
}

/// How many replicas are to answer, and how long the client waits.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Wanted {
    pub(super) r: Option<Level>,
    pub(super) w: Option<Level>,
    pub(super) timeout_ms: Option<u32>,
}

/// A write that was acknowledged.
#[derive(Debug)]
pub(super) struct Written {
    pub(super) context: String,
    pub(super) version: Hlc,
}

impl Place {
    /// The key in the namespace of this name, if there is one.
    pub(super) fn find(site: &Site, namespace: &str, key: Bytes) -> Result<Self, Refusal> {
        let policy = site.context.handle.view(|node| {
            let found = node.namespaces().by_name(namespace);
            found.map(|policy| (policy.id(), policy.max_pair_bytes))
        });
        let (id, limit_bytes) = policy.ok_or_else(|| no_such_namespace(namespace))?;
        Ok(Self { namespace: id, key, limit_bytes })
    }

    /// Bytes that are left for the value.
    pub(super) fn value_room(&self) -> Result<u64, Refusal> {
        let key_bytes = self.key.len() as u64;
        self.limit_bytes
            .checked_sub(key_bytes)
            .ok_or_else(|| too_large(key_bytes, self.limit_bytes))
    }

    /// A context as this key's clients see it.
    pub(super) fn context_text(&self, context: &Context) -> String {
        context_text::encode(self.namespace, &self.key, context)
    }

    /// A context that a client sent.
    pub(super) fn context(&self, text: &str) -> Result<Context, Refusal> {
        context_text::decode(self.namespace, &self.key, text).map_err(|error| {
            Kind::BadContext
                .because(format!("{error}: send a context of this key exactly as you received it"))
        })
    }

    fn request(&self, action: Action, wanted: Wanted) -> Request {
        let Wanted { r, w, timeout_ms } = wanted;
        Request { namespace: self.namespace, key: self.key.clone(), action, r, w, timeout_ms }
    }
}

/// The problem that a name is no namespace's.
pub(super) fn no_such_namespace(name: &str) -> Refusal {
    let shown: String = name.chars().take(64).collect();
    Kind::NoSuchNamespace
        .because(format!("no namespace is called '{shown}': GET /v1/namespaces lists them"))
}

/// Reads a key.
pub(super) async fn read(site: &Site, place: &Place, wanted: Wanted) -> Result<Found, Refusal> {
    match site.context.handle.request(place.request(Action::Get, wanted)).await {
        Outcome::Found(found) => Ok(found),
        Outcome::Failed(failure) => Err(site.refuse(&failure, Intent::Read)),
        _ => Err(unexpected()),
    }
}

/// Puts or deletes a key.
pub(super) async fn write(
    site: &Site,
    place: &Place,
    action: Action,
    wanted: Wanted,
) -> Result<Written, Refusal> {
    match site.context.handle.request(place.request(action, wanted)).await {
        Outcome::Written { context, version } => {
            Ok(Written { context: place.context_text(&context), version })
        }
        Outcome::Failed(failure) => Err(site.refuse(&failure, Intent::Write)),
        _ => Err(unexpected()),
    }
}

/// The problem that a node answered something else than it was asked.
pub(super) fn unexpected() -> Refusal {
    Kind::Internal
        .because("the node answered another question than it was asked: please report this")
}

/// When a value with this time to live expires.
pub(super) fn expiry(site: &Site, ttl: Option<&str>) -> Result<Expiry, Refusal> {
    let Some(text) = ttl else { return Ok(Expiry::Default) };
    if text == "never" {
        return Ok(Expiry::Never);
    }
    match duration::parse_ms(text) {
        Ok(0) => {
            Err(Kind::BadRequest
                .because("ttl: 0 would delete the value at once; delete it instead"))
        }
        Ok(ms) => Ok(Expiry::At(site.context.handle.now().wall_ms.saturating_add(ms))),
        Err(error) => Err(Kind::BadRequest.because(format!("ttl: {error}; or never"))),
    }
}

/// Versions as documents, with their values.
pub(super) fn siblings(versions: &[Version]) -> Vec<Sibling> {
    versions.iter().map(sibling).collect()
}

fn sibling(version: &Version) -> Sibling {
    Sibling {
        value: STANDARD.encode(version.value().map_or(&[][..], |value| value)),
        dot: version.dot.to_string(),
        version: version.written.as_u64().to_string(),
        created_ms: version.created_ms,
        written_ms: version.written.millis(),
        expires_ms: deadline(version),
    }
}

/// When a version expires, in Unix milliseconds.
pub(super) fn deadline(version: &Version) -> Option<u64> {
    (version.expires_ms != 0).then_some(version.expires_ms)
}
