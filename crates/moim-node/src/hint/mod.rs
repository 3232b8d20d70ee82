//! Hinted handoff: what this node keeps for owners that could not be reached, and how it comes to them (Dynamo, section
//! 4.6).
//!
//! A stand-in keeps the object as an ordinary record under its ordinary key, and beside it, in the same batch, an
//! *obligation*: so reads, joins and new versions take the ordinary path of a replica. The obligation ends, and with it
//! the object if this node is no owner, when every *current* owner has acknowledged the object as it is now.
//!
//! Invariants: whatever this node holds of a partition that it does not own is under an obligation (`Node::keep`);
//! a hint that was acknowledged is never dropped, a full store refuses new ones instead (INV-5, INV-8); an obligation
//! is as durable as the acknowledgement that rests on it, because it is in the same batch (INV-2).
//!
//! Copies that a coordinator owes (`replication`) are another thing: nobody counted them, they live in memory and may
//! be forgotten. Left out: choosing who stands in (`coordinator/stand_in`).
//!
//! | file | what |
//! |---|---|
//! | `record` | an obligation's bytes |
//! | `ledger` | which there are, who waits for what |
//! | `handoff` | delivery |

mod handoff;
mod ledger;
mod record;

pub(crate) use handoff::Handoff;
pub(crate) use ledger::Ledger;

use bytes::Bytes;
use moim_core::NodeId;
use moim_storage::{Family, Write};

use crate::api::{BatchId, Effect, ListedPage, Why};
use crate::keyspace;
use crate::node::Node;
use crate::replica::{Asker, Target, Work};
use crate::store::Stored;
use record::{Record, oldest_stamp};

/// Records read at once at the start, so that a turn stays short.
const PAGE_HINTS: usize = 1_024;

/// A coordinator's wish that this node stand in for an owner.
#[derive(Debug)]
pub(crate) struct Wish {
    pub(crate) namespace: moim_core::NamespaceId,
    pub(crate) key: Bytes,
    pub(crate) owner: NodeId,
    pub(crate) object: Bytes,
}

impl Node {
    /// A coordinator wants this node to stand in for an owner.
    pub(crate) fn on_hint(&mut self, asker: Asker, wish: Wish) {
        let owner = wish.owner;
        match self.admit_hint(asker.until_mono_ms, wish) {
            Ok((target, incoming)) => {
                let stands_for = Some(owner);
                self.work(Work::Join { asker, target, incoming, stands_for });
            }
            Err(why) => self.refuse_write(asker, why),
        }
    }

    fn admit_hint(&mut self, until_mono_ms: u64, wish: Wish) -> Result<(Target, Stored), Why> {
        let Wish { namespace, key, object, .. } = wish;
        let target = self.hinted_target(namespace, &key)?;
        if !self.owns(&target) {
            self.hint_room(&target, object.len())?;
        }
        let incoming = self.admit_object(until_mono_ms, namespace, object)?;
        Ok((target, incoming))
    }

    /// Whether this node may keep this many bytes more for a key's owners.
    pub(crate) fn hint_room(&mut self, target: &Target, object_bytes: usize) -> Result<(), Why> {
        if !self.hints.is_read() {
            return Err(Why::NotReady);
        }
        let limit_bytes = self.options.hints_bytes_max;
        if self.hints.has_room(&target.data_key, object_bytes, limit_bytes) {
            return Ok(());
        }
        self.figures.hints_refused += 1;
        Err(Why::HintsFull(limit_bytes))
    }

    /// Writes an object that this node holds: as an owner, or as a stand-in together with the obligation to hand it
    /// over. Returns the batch.
    pub(crate) fn keep(
        &mut self,
        target: Target,
        stored: Stored,
        stands_for: Option<NodeId>,
    ) -> BatchId {
        if !self.owns(&target) {
            self.oblige(&target, &stored, stands_for);
        }
        self.outrank_owed(&target.data_key, &stored.object);
        self.store.put(target.data_key, stored)
    }

    /// Writes that this object is owed to the owners of its key.
    fn oblige(&mut self, target: &Target, stored: &Stored, stands_for: Option<NodeId>) {
        let (key, owners) = (&target.data_key, self.heirs(target));
        let mut record = if let Some(known) = self.hints.record(key) {
            known.clone()
        } else {
            self.figures.hints_stored += 1;
            Record {
                created_ms: self.now.wall_ms,
                oldest: oldest_stamp(&stored.object),
                object_bytes: 0,
                targets: Vec::new(),
            }
        };
        record.oldest = record.oldest.min(oldest_stamp(&stored.object));
        record.object_bytes = u32::try_from(stored.encoded.len()).unwrap_or(u32::MAX);
        if let Some(owner) = stands_for.or_else(|| owners.first().copied()) {
            record.stand_for(owner);
        }
        self.store.write(Write::Put {
            family: Family::Hints,
            key: key.clone(),
            value: record.encode(),
        });
        self.hints.note(key, record, &owners);
        for owner in owners {
            self.hand_off_later(owner, self.options.task_retry_ms);
        }
    }

    /// The owners of a key, in the order of preference; none if its namespace is not defined any more.
    pub(crate) fn owners_of(&self, target: &Target) -> Vec<NodeId> {
        let policy = self.namespaces.get(target.namespace);
        match (&self.record, policy) {
            (Some(record), Some(policy)) => {
                record.ring.owners_of(target.partition, policy.n).collect()
            }
            _ => Vec::new(),
        }
    }

    /// Whether this node is an owner of a key.
    pub(crate) fn owns(&self, target: &Target) -> bool {
        let policy = self.namespaces.get(target.namespace);
        match (&self.record, policy) {
            (Some(record), Some(policy)) => {
                record.ring.owns(self.info.member.node, target.partition, policy.n)
            }
            _ => false,
        }
    }

    /// Goes on reading the obligations of an earlier run, if nothing is on its way.
    pub(crate) fn read_hints(&mut self) {
        let Some(from) = self.hints.unread() else { return };
        let id = self.store.next_read();
        self.hints.begin_page(id, from.clone());
        let to = keyspace::data_end();
        self.effects.push(Effect::List { id, family: Family::Hints, from, to, limit: PAGE_HINTS });
    }

    /// A page of obligations has been read from disk. One that could not be is asked for again with the next tick.
    pub(crate) fn on_hints_listed(&mut self, page: Result<ListedPage, String>) {
        let Ok(page) = page else { return self.hints.fail_page() };
        let last = page.entries.last().map(|(key, _)| key.clone());
        for (key, value) in page.entries {
            match Record::decode(value) {
                Ok(record) => self.resume(&key, record),
                Err(_) => self.figures.undecodable += 1,
            }
        }
        let next = last.filter(|_| page.more).map(|key| keyspace::after(&key));
        self.hints.end_page(next);
        self.read_hints();
        for owner in self.hints.awaited() {
            self.hand_off(owner);
        }
    }

    /// An obligation of an earlier run goes on.
    fn resume(&mut self, key: &Bytes, record: Record) {
        match self.target_of(key) {
            Some(target) => {
                let heirs = self.heirs(&target);
                self.hints.note(key, record, &heirs);
            }
            None => self.figures.undecodable += 1,
        }
    }

    /// Whom this node has to hand a key over to: its owners, but for this node.
    pub(crate) fn heirs(&self, target: &Target) -> Vec<NodeId> {
        let mut owners = self.owners_of(target);
        owners.retain(|&owner| owner != self.info.member.node);
        owners
    }

    pub(crate) fn target_of(&self, persisted: &Bytes) -> Option<Target> {
        let (namespace, _, key) = keyspace::split_data_key(persisted)?;
        let partition = self.record.as_ref()?.ring.partition_of(&key);
        Some(Target::new(namespace, &key, partition))
    }
}
