//! `/v1/keys/{namespace}`: keys, a page at a time.
//!
//! Keys lie in thousands of partitions, each in the order of their hashes, so a page is gathered partition by
//! partition, several at once. There is no state between pages: the cursor is a partition and a hash. A key that
//! exists all the while is listed once; one written or deleted meanwhile may or may not be.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use bytes::Bytes;
use hyper::http::request::Parts;
use moim_core::NamespaceId;
use moim_core::ring::PartitionCount;
use moim_node::api::{Action, Intent, KeysPage as Page};
use moim_node::{Outcome, Request};

use super::document::KeysPage;
use super::operation::{Place, unexpected};
use super::percent::{self, Plus};
use super::problem::{Kind, Refusal};
use super::query::Query;
use super::reply::{self, Answer};
use super::site::Site;
use super::value::bad_path;

/// Keys in a page when the client does not say.
const LIMIT_DEFAULT: u16 = 100;

/// Keys in a page at the most.
const LIMIT_MAX: u16 = 1_000;

/// Partitions that are asked at once: begins with one and doubles while pages come back thin.
const WAVE_MAX: usize = 64;

/// Keys looked at for one page before it is given out as it is; bounds a prefix that little matches.
const EXAMINED_MAX: usize = 20_000;

/// For how long a page is gathered before it is given out as it is, in milliseconds.
const GATHER_MS_MAX: u64 = 2_000;

/// Where listing goes on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Position {
    partition: u16,
    hash: u32,
}

/// Answers a request for a page of keys.
pub(super) async fn answer(site: &Site, request: &Parts, path: &[&str]) -> Answer {
    let &[namespace] = path else { return Err(unexpected()) };
    let name = percent::decode_text(namespace, Plus::Literal)
        .map_err(|error| bad_path("namespace", &error))?;
    let query = Query::parse(request.uri.query(), &["prefix", "cursor", "limit", "r"])?;
    let namespace = Place::find(site, &name, Bytes::new())?.namespace;
    let Some(partitions) = partitions(site) else {
        let readiness = site.context.handle.view(moim_node::Node::readiness);
        return match readiness {
            Err(failure) => Err(site.refuse(&failure, Intent::Read)),
            Ok(()) => Err(unexpected()),
        };
    };
    let from = query
        .text("cursor")?
        .map(|text| Position::parse(text, partitions))
        .transpose()?
        .unwrap_or_default();
    let _room = site.gather()?;
    let listing = Listing {
        site,
        namespace,
        partitions,
        level: query.level("r")?,
        prefix: query.bytes("prefix").unwrap_or_default(),
        limit: usize::from(query.count("limit", LIMIT_MAX)?.unwrap_or(LIMIT_DEFAULT)),
    };
    let (keys, next) = listing.page(from).await?;
    Ok(reply::json(&document(&keys, next)))
}

fn partitions(site: &Site) -> Option<PartitionCount> {
    site.context.handle.view(|node| node.record().map(|record| record.ring.partitions()))
}

fn document(keys: &[Bytes], next: Option<Position>) -> KeysPage {
    let mut page = KeysPage { cursor: next.map(Position::text), ..KeysPage::default() };
    for key in keys {
        match str::from_utf8(key) {
            Ok(text) => page.keys.push(text.to_owned()),
            Err(_) => page.keys_base64.push(STANDARD.encode(key)),
        }
    }
    page
}

/// One page on its way.
struct Listing<'a> {
    site: &'a Site,
    namespace: NamespaceId,
    partitions: PartitionCount,
    level: Option<moim_core::quorum::Level>,
    prefix: &'a [u8],
    limit: usize,
}

impl Listing<'_> {
    /// Keys from a position on, and where the next page begins.
    async fn page(&self, from: Position) -> Result<(Vec<Bytes>, Option<Position>), Refusal> {
        let deadline_mono_ms = self.now_mono_ms() + GATHER_MS_MAX;
        let (mut keys, mut examined, mut wave) = (Vec::new(), 0, 1);
        let mut at = Some(from);
        while let Some(position) = at {
            let spent = examined >= EXAMINED_MAX || self.now_mono_ms() >= deadline_mono_ms;
            if keys.len() >= self.limit || spent {
                break;
            }
            let pages = self.ask(position, wave, self.limit - keys.len()).await?;
            wave = (wave * 2).min(WAVE_MAX);
            at = self.take(position, pages, &mut keys, &mut examined);
        }
        Ok((keys, at))
    }

    /// Takes pages in the order of their partitions until there are enough keys; says where to go on.
    fn take(
        &self,
        mut at: Position,
        pages: Vec<Page>,
        keys: &mut Vec<Bytes>,
        examined: &mut usize,
    ) -> Option<Position> {
        for page in pages {
            *examined += page.keys.len();
            keys.extend(page.keys.into_iter().filter(|key| key.starts_with(self.prefix)));
            match page.next_hash {
                Some(hash) => return Some(Position { hash, ..at }),
                None => at = Position { partition: at.partition + 1, hash: 0 },
            }
            if at.partition >= self.partitions.get() {
                return None;
            }
            if keys.len() >= self.limit {
                break;
            }
        }
        Some(at)
    }

    /// The next pages of up to `wave` partitions.
    async fn ask(&self, from: Position, wave: usize, limit: usize) -> Result<Vec<Page>, Refusal> {
        let handle = &self.site.context.handle;
        let limit = u16::try_from(limit).unwrap_or(LIMIT_MAX);
        let numbers = (from.partition..self.partitions.get()).take(wave);
        let asked: Vec<_> = numbers
            .filter_map(|number| self.partitions.partition(number))
            .map(|partition| {
                let from_hash = if partition.get() == from.partition { from.hash } else { 0 };
                let request = self.request(Action::Keys { partition, from_hash, limit });
                let handle = handle.clone();
                // All are asked before the first is waited for.
                tokio::task::spawn_local(async move { handle.request(request).await })
            })
            .collect();
        let mut pages = Vec::with_capacity(asked.len());
        for answer in asked {
            match answer.await {
                Ok(Outcome::Keys(page)) => pages.push(page),
                Ok(Outcome::Failed(failure)) => {
                    return Err(self.site.refuse(&failure, Intent::Read));
                }
                Ok(_) | Err(_) => return Err(unexpected()),
            }
        }
        Ok(pages)
    }

    fn request(&self, action: Action) -> Request {
        let namespace = self.namespace;
        Request { namespace, key: Bytes::new(), action, r: self.level, w: None, timeout_ms: None }
    }

    fn now_mono_ms(&self) -> u64 {
        self.site.context.handle.now().mono_ms
    }
}

impl Position {
    /// The cursor as clients see it. Opaque on purpose: it may come to hold more.
    fn text(self) -> String {
        let bytes = [&self.partition.to_be_bytes()[..], &self.hash.to_be_bytes()].concat();
        URL_SAFE_NO_PAD.encode(bytes)
    }

    fn parse(text: &str, partitions: PartitionCount) -> Result<Self, Refusal> {
        let bytes =
            URL_SAFE_NO_PAD.decode(text).ok().and_then(|bytes| <[u8; 6]>::try_from(bytes).ok());
        let position = bytes.map(|[p, q, a, b, c, d]| Self {
            partition: u16::from_be_bytes([p, q]),
            hash: u32::from_be_bytes([a, b, c, d]),
        });
        position.filter(|at| at.partition < partitions.get()).ok_or_else(|| {
            Kind::BadRequest.because("cursor: send it exactly as the page before gave it")
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cursors_return() {
        let position = Position { partition: 4_095, hash: u32::MAX };
        assert_eq!(Position::parse(&position.text(), PartitionCount::DEFAULT).unwrap(), position);
        for bad in ["", "0", "AAAA", "AAAAAAAAAA", "_____wAA", "%"] {
            assert!(Position::parse(bad, PartitionCount::DEFAULT).is_err(), "{bad}");
        }
    }
}
