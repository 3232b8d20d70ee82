//! Commands about all keys: they page through partitions, a bounded number of them at once.
//!
//! A cursor is a partition and a hash, so the server remembers nothing between two calls of `SCAN`, any node takes up
//! where another stopped, and a key that is there all the time is listed at least once, whatever moves meanwhile. On the
//! cluster port these commands speak for the partitions this node leads, so that a client can add the nodes up.

use std::collections::VecDeque;
use std::ops::ControlFlow;
use std::rc::Rc;

use bytes::Bytes;
use moim_core::NamespaceId;
use moim_core::ring::Partition;
use moim_node::api::{Action, KeysPage};
use moim_node::{Outcome, Request};

use super::super::answer::mismatch;
use super::super::encode::Reply;
use super::super::failure;
use super::super::front::Front;
use super::super::glob;
use super::super::store::Store;
use super::{Call, Decided, Step, cluster, reply_too_large, syntax_error};

/// Partitions asked at once.
const PARTITIONS_AT_ONCE: usize = 64;

/// Pages that one `SCAN` looks at, at the most, before it answers with what it has: bounds the wait for an answer from
/// a store that holds few keys.
const SCAN_PAGES_MAX: usize = 1_024;

/// The least keys of a page: entries that are deleted count too, and keys of one hash must fit into one page.
const PAGE_KEYS_MIN: u16 = 16;

/// Keys of one page when all are wanted.
const PAGE_KEYS: u16 = 1_000;

/// What `SCAN` returns when the client does not say how many.
const SCAN_COUNT_DEFAULT: usize = 10;

/// Where a page begins: a partition and a hash.
type Place = (Partition, u32);

/// The partitions a command speaks for, and whose keys it wants.
#[derive(Clone)]
pub(super) struct Walk {
    pub(super) front: Rc<Front>,
    pub(super) partitions: Vec<Partition>,
    /// A request to be made into one for a page.
    pub(super) template: Request,
}

impl Walk {
    /// Over the partitions that a command on this connection speaks for.
    pub(super) fn new(call: &Call<'_>) -> Result<Self, Reply> {
        let store = &call.front().store;
        let partitions = if call.on_cluster_port() {
            cluster::led_partitions(store)
        } else {
            store.record(|record| record.map(|record| record.ring.partitions().all().collect()))
        };
        let partitions = partitions.ok_or_else(|| cluster::not_ready(store))?;
        Ok(Self {
            front: Rc::clone(call.front()),
            partitions,
            template: call.request(b"", Action::Get),
        })
    }

    fn store(&self) -> &Store {
        &self.front.store
    }

    fn request(&self, partition: Partition, from_hash: u32, limit: u16) -> Request {
        Request { action: Action::Keys { partition, from_hash, limit }, ..self.template.clone() }
    }

    /// One page of each of these partitions, in their order.
    async fn pages(&self, wanted: &[Place], limit: u16) -> Result<Vec<KeysPage>, Reply> {
        let requests =
            wanted.iter().map(|(partition, from)| self.request(*partition, *from, limit));
        let outcomes = self.store().all(requests.collect()).await;
        outcomes.into_iter().map(|outcome| self.page(outcome)).collect()
    }

    fn page(&self, outcome: Outcome) -> Result<KeysPage, Reply> {
        match outcome {
            Outcome::Keys(page) => Ok(page),
            Outcome::Failed(failure) => {
                Err(failure::reply(&failure, self.template.namespace, self.store()))
            }
            _ => Err(mismatch()),
        }
    }

    /// All pages of all partitions. `visit` may stop the walk.
    pub(super) async fn each_page(
        &self,
        mut visit: impl AsyncFnMut(Vec<Bytes>) -> Result<ControlFlow<()>, Reply>,
    ) -> Result<(), Reply> {
        let mut open: VecDeque<_> =
            self.partitions.iter().map(|partition| (*partition, 0)).collect();
        while !open.is_empty() {
            let count = open.len().min(PARTITIONS_AT_ONCE);
            let wanted: Vec<_> = open.drain(..count).collect();
            let pages = self.pages(&wanted, PAGE_KEYS).await?;
            for ((partition, _), page) in wanted.into_iter().zip(pages) {
                if let Some(next_hash) = page.next_hash {
                    open.push_front((partition, next_hash));
                }
                if !page.keys.is_empty() && visit(page.keys).await?.is_break() {
                    return Ok(());
                }
            }
        }
        Ok(())
    }
}

fn pattern<'a>(call: &Call<'a>, index: usize) -> Result<&'a [u8], Reply> {
    let pattern = call.get(index);
    if pattern.len() > glob::PATTERN_BYTES_MAX {
        let limit = glob::PATTERN_BYTES_MAX;
        return Err(Reply::error(format!(
            "ERR pattern of {} bytes, the limit is {limit}",
            pattern.len()
        )));
    }
    Ok(pattern)
}

pub(super) fn keys(call: &Call<'_>) -> Decided {
    let pattern = pattern(call, 1)?.to_vec();
    let walk = Walk::new(call)?;
    let bytes_max = call.front().settings.output_bytes_max;
    Ok(Step::Task(Box::pin(async move {
        let (mut listed, mut bytes) = (Vec::new(), 0);
        let collect = async |keys: Vec<Bytes>| {
            for key in keys.into_iter().filter(|key| glob::matches(&pattern, key)) {
                let key = Reply::Bulk(key);
                bytes += key.weight();
                listed.push(key);
            }
            if bytes > bytes_max {
                Err(reply_too_large(bytes_max))
            } else {
                Ok(ControlFlow::Continue(()))
            }
        };
        match walk.each_page(collect).await {
            Ok(()) => Reply::Array(listed),
            Err(error) => error,
        }
    })))
}

pub(super) fn dbsize(call: &Call<'_>) -> Decided {
    let walk = Walk::new(call)?;
    Ok(Step::Task(Box::pin(async move {
        let mut count = 0_usize;
        let add = async |keys: Vec<Bytes>| {
            count += keys.len();
            Ok(ControlFlow::Continue(()))
        };
        match walk.each_page(add).await {
            Ok(()) => Reply::count(count),
            Err(error) => error,
        }
    })))
}

/// Some key near a random place. Every key may come up, those behind a large gap more often.
pub(super) fn randomkey(call: &Call<'_>) -> Decided {
    let mut walk = Walk::new(call)?;
    let front = Rc::clone(call.front());
    Ok(Step::Task(Box::pin(async move {
        let drawn = front.draw();
        let below = |count: usize| usize::try_from(drawn % (count as u64).max(1)).unwrap_or(0);
        let begin = below(walk.partitions.len());
        walk.partitions.rotate_left(begin);
        let mut open: VecDeque<Place> =
            walk.partitions.iter().map(|partition| (*partition, 0)).collect();
        if let Some(first) = open.front_mut() {
            let before = *first;
            first.1 = u32::try_from(drawn >> 32).unwrap_or(0);
            open.push_back(before);
        }
        match walk.gather(&mut open, 1, usize::MAX).await {
            Ok(keys) if keys.is_empty() => Reply::Null,
            Ok(mut keys) => Reply::Bulk(keys.swap_remove(below(keys.len()))),
            Err(error) => error,
        }
    })))
}

/// `FLUSHDB [ASYNC|SYNC]`: deletes what it finds while it walks. What is written meanwhile may stay.
pub(super) fn flushdb(call: &Call<'_>) -> Decided {
    check_flush(call)?;
    let walk = Walk::new(call)?;
    Ok(Step::Task(Box::pin(async move {
        walk.delete_all().await.map_or_else(|error| error, |()| Reply::OK)
    })))
}

/// `FLUSHALL [ASYNC|SYNC]`: as `FLUSHDB`, for every namespace.
pub(super) fn flushall(call: &Call<'_>) -> Decided {
    check_flush(call)?;
    let mut walk = Walk::new(call)?;
    let ids = |namespaces: &moim_node::namespace::Namespaces| {
        namespaces.all().map(moim_node::namespace::Namespace::id).collect::<Vec<NamespaceId>>()
    };
    let namespaces = call.front().store.namespaces(ids);
    Ok(Step::Task(Box::pin(async move {
        for namespace in namespaces {
            walk.template.namespace = namespace;
            if let Err(error) = walk.delete_all().await {
                return error;
            }
        }
        Reply::OK
    })))
}

fn check_flush(call: &Call<'_>) -> Result<(), Reply> {
    match call.len() {
        1 => Ok(()),
        2 if call.is(1, "ASYNC") || call.is(1, "SYNC") => Ok(()),
        _ => Err(syntax_error()),
    }
}

impl Walk {
    async fn delete_all(&self) -> Result<(), Reply> {
        self.each_page(async |keys| {
            let delete = |key| Request {
                key,
                action: Action::Delete { context: None },
                ..self.template.clone()
            };
            for outcome in self.store().all(keys.into_iter().map(delete).collect()).await {
                if let Outcome::Failed(failure) = outcome {
                    let namespace = self.template.namespace;
                    return Err(failure::reply(&failure, namespace, self.store()));
                }
            }
            Ok(ControlFlow::Continue(()))
        })
        .await
    }
}

/// What stands behind the cursor of `SCAN`.
struct ScanOptions {
    pattern: Option<Vec<u8>>,
    count: usize,
    /// Whether a type is asked for that no value has.
    nothing: bool,
}

pub(super) fn scan(call: &Call<'_>) -> Decided {
    let cursor = std::str::from_utf8(call.get(1)).ok().and_then(|text| text.parse::<u64>().ok());
    let cursor = cursor.ok_or_else(|| Reply::error("ERR invalid cursor"))?;
    let options = scan_options(call)?;
    let walk = Walk::new(call)?;
    Ok(Step::Task(Box::pin(async move {
        match walk.scan(cursor, options.count).await {
            Err(error) => error,
            Ok((next, keys)) => {
                let wanted = |key: &Bytes| {
                    !options.nothing
                        && options
                            .pattern
                            .as_ref()
                            .is_none_or(|pattern| glob::matches(pattern, key))
                };
                let keys = keys.into_iter().filter(wanted).map(Reply::Bulk).collect();
                Reply::Array(vec![Reply::text(next.to_string()), Reply::Array(keys)])
            }
        }
    })))
}

fn scan_options(call: &Call<'_>) -> Result<ScanOptions, Reply> {
    let mut options = ScanOptions { pattern: None, count: SCAN_COUNT_DEFAULT, nothing: false };
    for at in (2..call.len()).step_by(2) {
        if at + 1 == call.len() {
            return Err(syntax_error());
        } else if call.is(at, "COUNT") {
            let count = call.integer(at + 1)?;
            options.count =
                usize::try_from(count).ok().filter(|count| *count > 0).ok_or_else(syntax_error)?;
        } else if call.is(at, "MATCH") {
            let pattern = pattern(call, at + 1)?;
            options.pattern = (pattern != b"*").then(|| pattern.to_vec());
        } else if call.is(at, "TYPE") {
            options.nothing = !call.is(at + 1, "string");
        } else {
            return Err(syntax_error());
        }
    }
    Ok(options)
}

/// The partition and hash of a cursor.
fn split_cursor(cursor: u64) -> (u64, u32) {
    (cursor >> 32, u32::try_from(cursor & u64::from(u32::MAX)).unwrap_or(0))
}

impl Walk {
    /// Keys from a cursor on; the next cursor comes first.
    async fn scan(&self, cursor: u64, count: usize) -> Result<(u64, Vec<Bytes>), Reply> {
        let (number, hash) = split_cursor(cursor);
        let number_of = |partition: Partition| u64::from(partition.get());
        // A partition that is no longer this node's is passed over; its keys are with whom leads it now.
        let ahead = self.partitions.iter().filter(|partition| number_of(**partition) >= number);
        let from = |partition| (partition, if number_of(partition) == number { hash } else { 0 });
        let mut open: VecDeque<Place> = ahead.copied().map(from).collect();
        let keys = self.gather(&mut open, count, SCAN_PAGES_MAX).await?;
        let next = open
            .front()
            .map_or(0, |(partition, hash)| number_of(*partition) << 32 | u64::from(*hash));
        Ok((next, keys))
    }

    /// At least `count` keys from the `open` places, or what `pages_max` pages hold of them, or all. Leaves open what
    /// was not looked at, in order.
    async fn gather(
        &self,
        open: &mut VecDeque<Place>,
        count: usize,
        pages_max: usize,
    ) -> Result<Vec<Bytes>, Reply> {
        let (mut keys, mut seen, mut at_once) = (Vec::new(), 0, 1);
        while keys.len() < count && seen < pages_max && !open.is_empty() {
            let window: Vec<Place> = open.drain(..open.len().min(at_once)).collect();
            seen += window.len();
            // One more than is missing, as the last of a full page is left for the next.
            let limit = u16::try_from(count - keys.len()).unwrap_or(u16::MAX).saturating_add(1);
            let pages = self.pages(&window, limit.max(PAGE_KEYS_MIN)).await?;
            let mut left = window.into_iter().zip(pages);
            while let Some(((partition, _), page)) = left.next() {
                keys.extend(page.keys);
                let next = page.next_hash.map(|hash| (partition, hash));
                if next.is_some() || keys.len() >= count {
                    let later: Vec<Place> = left.map(|(place, _)| place).collect();
                    next.into_iter().chain(later).rev().for_each(|place| open.push_front(place));
                    break;
                }
            }
            at_once = next_window(at_once, count.saturating_sub(keys.len()), keys.len(), seen);
        }
        Ok(keys)
    }
}

/// How many partitions to ask next: as many as the keys found so far suggest, or twice as many while there are none.
fn next_window(at_once: usize, missing: usize, found: usize, seen: usize) -> usize {
    let guess = if found == 0 { 2 * at_once } else { (missing * seen).div_ceil(found) };
    guess.clamp(1, PARTITIONS_AT_ONCE)
}

/// The keys of one slot, for `CLUSTER COUNTKEYSINSLOT` and `GETKEYSINSLOT`: up to `limit`.
pub(super) async fn keys_of_slot(walk: Walk, slot: u16, limit: usize) -> Result<Vec<Bytes>, Reply> {
    let mut found = Vec::new();
    let in_slot = |key: &Bytes| moim_core::ring::Slot::of_key(key).get() == slot;
    walk.each_page(async |keys| {
        found.extend(keys.into_iter().filter(in_slot));
        Ok(if found.len() >= limit { ControlFlow::Break(()) } else { ControlFlow::Continue(()) })
    })
    .await?;
    found.truncate(limit);
    Ok(found)
}
