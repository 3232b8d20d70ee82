//! Pages of keys, and every replica's copy of one key for people.
//!
//! A page asks R owners of a partition and joins their lists, so that a key whose write was acknowledged is in it even
//! if one of them missed it. Keys are ordered by hash: see [`crate::keyspace`].

use std::collections::BTreeMap;

use bytes::Bytes;
use moim_core::clock::Hlc;
use moim_core::object::{Content, Object, Version};
use moim_core::ring::{Partition, Slot};
use moim_core::{NamespaceId, NodeId};
use moim_storage::Family;

use super::{Job, Operation, unavailable};
use crate::anti_entropy::{PageOfEntries, PageOfRest, Terms};
use crate::api::{Copy, Effect, Inspection, Intent, KeysPage, ListedPage, Outcome, ReadId, Why};
use crate::keyspace;
use crate::message::{KeyEntries, Message, OpId, ReadResult, Want};
use crate::node::Node;
use crate::replica::Asker;

/// Keys in one page at the most, whatever was asked: bounds a turn and a frame.
const PAGE_KEYS_MAX: u16 = 4_096;

/// What a page of the data family is being read for.
#[derive(Debug)]
pub(crate) enum Listing {
    /// A coordinator wants keys.
    Keys(Asker),
    /// This node compares what it holds with a peer.
    Page {
        /// With whom.
        peer: NodeId,
        /// In which exchange.
        exchange: u64,
    },
    /// A peer compares what it holds with this node.
    Asked {
        /// Who asks.
        asker: Asker,
        /// What it asked.
        page: Box<PageOfEntries>,
    },
    /// A peer fills its disk from this node's.
    Rest {
        /// Who asks.
        asker: Asker,
        /// What it asked, and on what terms.
        question: Box<(Terms, PageOfRest)>,
    },
}

/// A listing under way.
#[derive(Debug)]
pub(crate) struct ListingOp {
    job: Job,
    answers: Vec<(NodeId, Option<Result<KeyEntries, Why>>)>,
}

impl ListingOp {
    pub(crate) fn waits_for(&self, node: NodeId) -> bool {
        self.answers.iter().any(|(owner, answer)| *owner == node && answer.is_none())
    }
}

/// An inspection under way.
#[derive(Debug)]
pub(crate) struct InspectOp {
    job: Job,
    copies: Vec<(NodeId, Option<Copy>)>,
}

impl InspectOp {
    pub(crate) fn waits_for(&self, node: NodeId) -> bool {
        self.copies.iter().any(|(owner, copy)| *owner == node && copy.is_none())
    }
}

impl Node {
    pub(crate) fn begin_listing(
        &mut self,
        job: Job,
        partition: Partition,
        from_hash: u32,
        limit: u16,
    ) {
        // All owners are asked at once; the page is answered as soon as R have.
        let owners = job.admitted.owners.clone();
        let (deadline, namespace) = (job.admitted.deadline_mono_ms, job.admitted.target.namespace);
        let answers = owners.iter().map(|&owner| (owner, None)).collect();
        let id = self.register(deadline, Operation::Listing(Box::new(ListingOp { job, answers })));
        let limit = limit.clamp(1, PAGE_KEYS_MAX);
        let budget_ms = self.budget_ms(deadline);
        for owner in owners {
            if self.can_ask(owner) {
                let page =
                    Message::Keys { op: id, namespace, partition, from_hash, limit, budget_ms };
                self.send_plain(owner, page);
            } else {
                self.on_keys_reply(owner, id, Err(self.why_not(owner)));
            }
        }
    }

    /// A coordinator wants a page of what we hold.
    pub(crate) fn on_keys(
        &mut self,
        asker: Asker,
        namespace: NamespaceId,
        page: (Partition, u32, u16),
    ) {
        let (partition, from_hash, limit) = page;
        if asker.until_mono_ms <= self.now.mono_ms {
            self.figures.expired += 1;
            return;
        }
        let refusal = match () {
            () if self.halted.is_some() => Some(Why::Disk),
            () if self.record.is_none() || !self.is_filled(partition) => Some(Why::NotReady),
            () if self.listings.len() >= self.options.listings_max => Some(Why::Overloaded),
            () => None,
        };
        if let Some(why) = refusal {
            let reply = Message::KeysReply { op: asker.op, result: Err(why) };
            return self.send_plain(asker.node, reply);
        }
        let id = self.store.next_read();
        self.listings.insert(id, Listing::Keys(asker));
        let (from, to) = keyspace::data_range(partition, namespace, from_hash);
        let limit = usize::from(limit.clamp(1, PAGE_KEYS_MAX));
        self.effects.push(Effect::List { id, family: Family::Data, from, to, limit });
    }

    /// A page has been read from disk.
    pub(crate) fn on_listed(&mut self, id: ReadId, page: Result<ListedPage, String>) {
        if self.hints.awaits_page(id) {
            return self.on_hints_listed(page);
        }
        if self.on_swept(id, &page) {
            return;
        }
        self.figures.disk_reads_failed += u64::from(page.is_err());
        let asker = match self.listings.remove(&id) {
            None => return,
            Some(Listing::Page { peer, exchange }) => {
                return self.on_own_page(peer, exchange, page);
            }
            Some(Listing::Asked { asker, page: question }) => {
                return self.on_asked_page(asker, &question, page);
            }
            Some(Listing::Rest { asker, question }) => {
                return self.on_asked_rest(asker, &question, page);
            }
            Some(Listing::Keys(asker)) => asker,
        };
        if asker.until_mono_ms <= self.now.mono_ms {
            self.figures.expired += 1;
            return;
        }
        let result = page.map(|page| self.key_entries(page)).map_err(|_unreadable| Why::Disk);
        self.send_plain(asker.node, Message::KeysReply { op: asker.op, result });
    }

    fn key_entries(&mut self, page: ListedPage) -> KeyEntries {
        let mut keys: Vec<(u32, (Bytes, Hlc, bool))> = Vec::with_capacity(page.entries.len());
        for (persisted, encoded) in page.entries {
            let Some((_, hash, key)) = keyspace::split_data_key(&persisted) else { continue };
            match Object::decode(encoded) {
                Ok(object) => {
                    let live = object.live(self.now.wall_ms).next().is_some();
                    keys.push((hash, (key, object.written(), live)));
                }
                Err(_) => self.figures.undecodable += 1,
            }
        }
        let complete_below = page.more.then(|| last_whole_hash(&keys)).flatten();
        let kept =
            keys.into_iter().filter(|(hash, _)| complete_below.is_none_or(|end| *hash < end));
        KeyEntries { keys: kept.map(|(_, entry)| entry).collect(), complete_below }
    }

    pub(crate) fn on_keys_reply(
        &mut self,
        from: NodeId,
        id: OpId,
        result: Result<KeyEntries, Why>,
    ) {
        let Some(Operation::Listing(op)) = self.operations.get_mut(id) else { return };
        if let Some(slot) =
            op.answers.iter_mut().find(|(owner, answer)| *owner == from && answer.is_none())
        {
            slot.1 = Some(result);
        }
        let needed = usize::from(op.job.admitted.needs_r());
        let good = op.answers.iter().filter(|(_, answer)| matches!(answer, Some(Ok(_)))).count();
        let open = op.answers.iter().filter(|(_, answer)| answer.is_none()).count();
        if good >= needed || good + open < needed {
            self.end_listing(id);
        }
    }

    fn end_listing(&mut self, id: OpId) {
        if let Some(Operation::Listing(op)) = self.operations.remove(id) {
            self.answer_listing(*op);
        }
    }

    pub(crate) fn listing_deadline(&mut self, mut op: ListingOp) {
        let waited_ms = self.waited_ms(&op.job.admitted);
        for (_, answer) in &mut op.answers {
            answer.get_or_insert(Err(Why::NoAnswer(waited_ms)));
        }
        self.answer_listing(op);
    }

    fn answer_listing(&mut self, op: ListingOp) {
        let mut pages = Vec::new();
        let mut missing = Vec::new();
        for (node, answer) in op.answers {
            match answer {
                Some(Ok(page)) => pages.push(page),
                Some(Err(why)) => missing.push((node, why)),
                None => {}
            }
        }
        let needed = op.job.admitted.needs_r();
        let got = u8::try_from(pages.len()).expect("owners are at most COPIES_MAX");
        let outcome = if got >= needed {
            Outcome::Keys(join_pages(pages))
        } else {
            unavailable(Intent::Read, op.job.admitted.r, (needed, got), missing.into_iter())
        };
        self.finish(op.job.origin, outcome);
    }

    pub(crate) fn begin_inspect(&mut self, job: Job) {
        let owners = job.admitted.owners.clone();
        let target = job.admitted.target.clone();
        let deadline = job.admitted.deadline_mono_ms;
        let copies = owners.iter().map(|&owner| (owner, None)).collect();
        let id = self.register(deadline, Operation::Inspect(Box::new(InspectOp { job, copies })));
        let budget_ms = self.budget_ms(deadline);
        for owner in owners {
            if self.can_ask(owner) {
                let (namespace, key) = (target.namespace, target.shared_key());
                let message =
                    Message::Read { op: id, namespace, key, want: Want::Object, budget_ms };
                self.send_plain(owner, message);
            } else {
                self.inspect_refused(id, owner, self.why_not(owner));
            }
        }
    }

    pub(crate) fn inspect_reply(&mut self, from: NodeId, id: OpId, result: ReadResult) {
        let copy = match result {
            ReadResult::Object(None) => Copy::Missing,
            ReadResult::Object(Some(encoded)) => match Object::decode(encoded) {
                Ok(object) => {
                    Copy::Held(object.context(), object.versions().iter().map(emptied).collect())
                }
                Err(_) => Copy::Unknown(Why::Unsupported),
            },
            ReadResult::Digest(_) => Copy::Unknown(Why::Unsupported),
            ReadResult::Refused(why) => Copy::Unknown(why),
        };
        self.inspected(from, id, copy);
    }

    pub(crate) fn inspect_refused(&mut self, id: OpId, node: NodeId, why: Why) {
        self.inspected(node, id, Copy::Unknown(why));
    }

    fn inspected(&mut self, node: NodeId, id: OpId, copy: Copy) {
        let Some(Operation::Inspect(op)) = self.operations.get_mut(id) else { return };
        if let Some(slot) =
            op.copies.iter_mut().find(|(owner, copy)| *owner == node && copy.is_none())
        {
            slot.1 = Some(copy);
        }
        if op.copies.iter().all(|(_, copy)| copy.is_some())
            && let Some(Operation::Inspect(op)) = self.operations.remove(id)
        {
            self.answer_inspect(*op, 0);
        }
    }

    pub(crate) fn inspect_deadline(&mut self, op: InspectOp) {
        let waited_ms = self.waited_ms(&op.job.admitted);
        self.answer_inspect(op, waited_ms);
    }

    fn answer_inspect(&mut self, op: InspectOp, waited_ms: u32) {
        let target = &op.job.admitted.target;
        let silent = || Copy::Unknown(Why::NoAnswer(waited_ms));
        let inspection = Inspection {
            slot: Slot::of_key(target.key()).get(),
            partition: target.partition.get(),
            copies: op
                .copies
                .into_iter()
                .map(|(node, copy)| (node, copy.unwrap_or_else(silent)))
                .collect(),
        };
        self.finish(op.job.origin, Outcome::Inspected(inspection));
    }
}

/// The hash of a page's last key: keys below it are all there, keys with it may be cut off. If the whole page has one
/// hash (keys made to collide), it is passed over rather than listed for ever.
pub(crate) fn last_whole_hash<T>(keys: &[(u32, T)]) -> Option<u32> {
    let (first, last) = (keys.first()?.0, keys.last()?.0);
    if first == last { last.checked_add(1) } else { Some(last) }
}

fn emptied(version: &Version) -> Version {
    let content = match &version.content {
        Content::Value(_) => Content::Value(Bytes::new()),
        gone => gone.clone(),
    };
    Version { content, ..version.clone() }
}

/// Joins the replicas' pages up to where all of them are complete; of a key that they hold differently, the newest
/// write decides.
fn join_pages(pages: Vec<KeyEntries>) -> KeysPage {
    let end = pages.iter().filter_map(|page| page.complete_below).min();
    let mut newest: BTreeMap<(u32, Bytes), (Hlc, bool)> = BTreeMap::new();
    for (key, written, live) in pages.into_iter().flat_map(|page| page.keys) {
        let hash = keyspace::key_hash(&key);
        if end.is_none_or(|end| hash < end) {
            let slot = newest.entry((hash, key)).or_insert((written, live));
            *slot = (*slot).max((written, live));
        }
    }
    let keys = newest.into_iter().filter(|(_, (_, live))| *live).map(|((_, key), _)| key).collect();
    KeysPage { keys, next_hash: end }
}
