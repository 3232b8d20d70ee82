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

/// Partitions that one `SCAN` looks at, at the most, before it answers with what it has: bounds the wait for an answer
/// from a store that holds few keys.
const SCAN_PARTITIONS_MAX: usize = 1_024;

/// Keys of one page when all are wanted.
const PAGE_KEYS: u16 = 1_000;

/// What `SCAN` returns when the client does not say how many.
const SCAN_COUNT_DEFAULT: usize = 10;

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
    async fn pages(&self, wanted: &[(Partition, u32)], limit: u16) -> Result<Vec<KeysPage>, Reply> {
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

/// Begins at a random place, so that every key may come up; keys behind a large gap do so more often.
pub(super) fn randomkey(call: &Call<'_>) -> Decided {
    let mut walk = Walk::new(call)?;
    let front = Rc::clone(call.front());
    Ok(Step::Task(Box::pin(async move {
        if walk.partitions.is_empty() {
            return Reply::Null;
        }
        let drawn = front.draw();
        let begin = usize::try_from(drawn % walk.partitions.len() as u64).unwrap_or(0);
        walk.partitions.rotate_left(begin);
        let hash = u32::try_from(drawn >> 32).unwrap_or(0);
        match walk.first_key(hash).await {
            Ok(Some(key)) => Reply::Bulk(key),
            Ok(None) => Reply::Null,
            Err(error) => error,
        }
    })))
}

impl Walk {
    /// The first key from a hash on in the first partition, or else in the others, or else before that hash.
    async fn first_key(&self, hash: u32) -> Result<Option<Bytes>, Reply> {
        let mut wanted: VecDeque<_> =
            self.partitions.iter().map(|partition| (*partition, 0)).collect();
        if let Some(first) = wanted.front_mut() {
            let again = *first;
            first.1 = hash;
            wanted.push_back(again);
        }
        let mut at_once = 1;
        while !wanted.is_empty() {
            let window: Vec<_> = wanted.drain(..wanted.len().min(at_once)).collect();
            let pages = self.pages(&window, 1).await?;
            if let Some(key) = pages.into_iter().flat_map(|page| page.keys).next() {
                return Ok(Some(key));
            }
            at_once = (2 * at_once).min(PARTITIONS_AT_ONCE);
        }
        Ok(None)
    }
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
    /// Keys from a cursor on until there are `count` or enough partitions were looked at; the next cursor comes first.
    async fn scan(&self, cursor: u64, count: usize) -> Result<(u64, Vec<Bytes>), Reply> {
        let (number, hash) = split_cursor(cursor);
        // A partition that is no longer this node's is passed over; its keys are with whom leads it now.
        let begin =
            self.partitions.partition_point(|partition| u64::from(partition.get()) < number);
        let mut open = self.partitions[begin..].iter().copied().peekable();
        let mut from_hash = match open.peek() {
            Some(first) if u64::from(first.get()) == number => hash,
            _ => 0,
        };
        let (mut keys, mut seen, mut at_once) = (Vec::new(), 0, 1);
        while open.peek().is_some() && seen < SCAN_PARTITIONS_MAX {
            let window: Vec<_> = open
                .by_ref()
                .take(at_once)
                .map(|partition| (partition, std::mem::take(&mut from_hash)))
                .collect();
            seen += window.len();
            let limit = u16::try_from(count - keys.len()).unwrap_or(u16::MAX);
            let pages = self.pages(&window, limit).await?;
            for ((partition, _), page) in window.into_iter().zip(pages) {
                keys.extend(page.keys);
                let number = u64::from(partition.get());
                if let Some(next_hash) = page.next_hash {
                    return Ok((number << 32 | u64::from(next_hash), keys));
                }
                if keys.len() >= count {
                    return Ok((self.after(number), keys));
                }
            }
            at_once = next_window(at_once, count - keys.len(), keys.len(), seen);
        }
        let next = open.peek().map_or(0, |partition| u64::from(partition.get()) << 32);
        Ok((next, keys))
    }

    /// The cursor behind a partition; 0 behind the last.
    fn after(&self, number: u64) -> u64 {
        let next = self.partitions.iter().find(|partition| u64::from(partition.get()) > number);
        next.map_or(0, |partition| u64::from(partition.get()) << 32)
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
