//! A node whose disk was lost while its identity survived: not ready until it has compared with enough other owners
//! (INV-6).
//!
//! An acknowledged write is held by W of N owners. So whoever has compared with N−W+1 owners that have all their
//! partitions, or with all others there are, has met every one of them. Partition by partition: reads and writes of the
//! others are answered while the rest still fills. Until then an owner joins what comes, so that nothing new is missed,
//! but neither answers reads (it would say *not found*) nor acknowledges writes (it does not know what outranks them).

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use moim_core::NodeId;
use moim_core::merkle::Trees;
use moim_core::ring::Partition;
use moim_storage::{Family, Write};

use super::{Comparisons, Exchange, RUN_PARTITIONS};
use crate::keyspace;
use crate::node::Node;
use crate::settled::Settling;
use crate::views::FillingView;

/// After a fill failed at one peer, others are tried for so long, in milliseconds.
const RETRY_MS: u64 = 1_000;

/// What is not yet filled.
#[derive(Debug)]
pub(crate) struct Filling {
    /// Peers compared with since, and whether they had all their partitions.
    pending: BTreeMap<Partition, BTreeMap<NodeId, bool>>,
    /// What has been taken of peers before trees were compared ([`super::rest`]), by run of partitions.
    rests: BTreeSet<(NodeId, u16)>,
    partitions: u64,
    /// Whether it was kept on disk by an earlier run of this node. On an old copy of that disk, what is missing here was
    /// filled before the copy was made, and has missed what was written since.
    is_stored: bool,
    /// Bytes that ended exchanges have moved, about.
    bytes: u64,
    changed: bool,
    /// Peers not to be asked before this moment of the monotonic clock.
    paused: BTreeMap<NodeId, u64>,
}

impl Filling {
    pub(crate) fn new(pending: impl Iterator<Item = Partition>) -> Option<Self> {
        let pending: BTreeMap<_, _> =
            pending.map(|partition| (partition, BTreeMap::new())).collect();
        let partitions = pending.len() as u64;
        let (changed, paused, rests) = (true, BTreeMap::new(), BTreeSet::new());
        let (is_stored, bytes) = (false, 0);
        let filling = Self { pending, rests, partitions, is_stored, bytes, changed, paused };
        (partitions > 0).then_some(filling)
    }

    /// What the disk kept.
    pub(crate) fn stored(bits: Option<&Bytes>) -> Option<Self> {
        let filling = Self::new(keyspace::decode_partitions(bits?))?;
        Some(Self { is_stored: true, ..filling })
    }

    /// Bytes that ended exchanges have moved, about.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    pub(crate) fn view(&self) -> FillingView {
        let left = self.pending.len() as u64;
        FillingView { partitions: self.partitions, filled: self.partitions - left }
    }
}

impl Node {
    /// Whether this node has what was acknowledged of a partition.
    pub(crate) fn is_filled(&self, partition: Partition) -> bool {
        self.recall.is_none()
            && self.filling.as_ref().is_none_or(|filling| !filling.pending.contains_key(&partition))
    }

    /// The disk was lost, all of it or what was written last: everything that this node owns is to be filled.
    pub(crate) fn begin_filling(&mut self) {
        let Some(record) = &self.record else { return };
        let own = self.info.member.node;
        let owned: Vec<_> = record
            .ring
            .partitions()
            .all()
            .filter(|&partition| record.ring.owns(own, partition, self.copies_max))
            .filter(|&partition| record.ring.owners_of(partition, self.copies_max).len() > 1)
            .collect();
        self.filling = Filling::new(owned.into_iter());
        self.figures.fillings += u64::from(self.filling.is_some());
    }

    /// Others remember batches of this node that its disk does not have: it was lost, or is an old copy. It says *not
    /// ready* from now on until it is filled. What it holds stays: it may have taken writes before it heard, and they
    /// were acknowledged; and what was deleted meanwhile, even where the deletion is forgotten, the others say when they
    /// compare (`settled`). That it was being filled when the copy was made says nothing of what has been written since:
    /// all of it begins anew. Called when a turn begins.
    pub(crate) fn notice_lost_batches(&mut self) {
        let heard = self.gossip.heard_durable(self.info.member.node);
        let Some(heard) = heard.filter(|&heard| heard > self.store.last_batch()) else { return };
        self.store.continue_above(heard);
        // Without a record the node is on its way into the cluster, and will be filled if it was a member.
        if self.record.is_none() || self.filling.as_ref().is_some_and(|filling| !filling.is_stored)
        {
            return;
        }
        self.comparisons = Comparisons::default();
        self.settling = Settling::default();
        self.begin_filling();
    }

    /// Everything that trees do not count has come from a peer, for the run that begins with this partition.
    pub(super) fn has_rest_of(&mut self, peer: NodeId, first: u16) {
        if let Some(filling) = &mut self.filling {
            filling.rests.insert((peer, first / RUN_PARTITIONS));
        }
    }

    /// A partition was compared with one of its other owners, and what that one held is here.
    pub(super) fn filled_from(&mut self, peer: NodeId, partition: Partition, peer_filled: bool) {
        let Some(filling) = &mut self.filling else { return };
        if !filling.rests.contains(&(peer, partition.get() / RUN_PARTITIONS)) {
            return;
        }
        let Some(compared) = filling.pending.get_mut(&partition) else { return };
        *compared.entry(peer).or_default() |= peer_filled;
        let compared = compared.clone();
        if !self.is_enough(partition, &compared) {
            return;
        }
        if let Some(filling) = &mut self.filling {
            filling.pending.remove(&partition);
            filling.changed = true;
        }
    }

    /// Whether comparing with these means having met every acknowledged write, in every namespace.
    fn is_enough(&self, partition: Partition, compared: &BTreeMap<NodeId, bool>) -> bool {
        let Some(record) = &self.record else { return false };
        let own = self.info.member.node;
        self.namespaces.all().all(|policy| {
            let owners = record.ring.owners_of(partition, policy.n);
            let others: Vec<_> = owners.filter(|&owner| owner != own).collect();
            let copies = u8::try_from(others.len() + 1).unwrap_or(u8::MAX);
            let needed = usize::from(copies.saturating_sub(policy.w.resolve(copies))) + 1;
            let had_all = |peer: &&NodeId| compared.get(peer) == Some(&true);
            others.iter().filter(had_all).count() >= needed
                || others.iter().all(|peer| compared.contains_key(peer))
        })
    }

    /// Keeps on disk what is not yet filled.
    pub(crate) fn keep_filling(&mut self) {
        let Some(filling) = &mut self.filling else { return };
        if !std::mem::take(&mut filling.changed) {
            return;
        }
        let (family, key) = (Family::Meta, Bytes::from_static(keyspace::META_FILLING));
        if filling.pending.is_empty() {
            self.store.write(Write::Delete { family, key });
            self.filling = None;
        } else {
            let value = keyspace::encode_partitions(filling.pending.keys().copied());
            self.store.write(Write::Put { family, key, value });
        }
    }

    /// Whom to compare which run of partitions with next: the first run that is not filled, with an owner that has not
    /// been met there. Run by run and not peer by peer, so that what is filled is served while the rest still fills; two
    /// peers at once, but not in one run, so that what one gives need not come from the other.
    pub(super) fn next_to_fill(&self) -> Option<(NodeId, (u16, u16))> {
        let (filling, count) = (self.filling.as_ref()?, self.partition_count());
        let is_free = |&peer: &NodeId| !self.exchanges.runs_with(peer);
        let may_ask =
            |peer: &NodeId| is_free(peer) && self.can_ask(*peer) && !self.is_paused(*peer);
        let peers: Vec<_> = self.co_owners().into_iter().filter(may_ask).collect();
        let filled = self.exchanges.filled_now();
        let is_idle = |run: u16| !filled.contains(&run);
        let pending = filling.pending.iter();
        let mut pending =
            pending.filter(|(partition, _)| is_idle(partition.get() / RUN_PARTITIONS));
        let next = pending.find_map(|(&partition, compared)| {
            let lacks = |peer: &&NodeId| {
                compared.get(peer) != Some(&true) && self.shares(**peer, partition.get())
            };
            peers.iter().find(lacks).map(|&peer| (peer, partition.get()))
        });
        let (peer, partition) = next?;
        let first = partition - partition % RUN_PARTITIONS;
        Some((peer, (first, (first + (RUN_PARTITIONS - 1)).min(count - 1))))
    }

    /// Whether a peer is not asked to fill just now.
    pub(super) fn is_paused(&self, peer: NodeId) -> bool {
        let paused = self.filling.as_ref().and_then(|filling| filling.paused.get(&peer));
        paused.is_some_and(|&until| until > self.now.mono_ms)
    }

    /// Partitions of a run of which this node holds nothing, as [`super::PageOfRest::empty`] names them.
    pub(super) fn empty_of((first, last): (u16, u16), trees: &Trees) -> [u64; 4] {
        let is_empty = |at: &u16| {
            keyspace::partition(*at).is_some_and(|at| trees.places(at..=at).next().is_none())
        };
        let mut bits = [0; 4];
        for before in (first..=last).filter(is_empty).map(|at| last - at) {
            if let Some(word) = bits.get_mut(usize::from(before / 64)) {
                *word |= 1 << (before % 64);
            }
        }
        bits
    }

    /// An exchange that fills has ended. A peer that could not give all of its run is left alone for a while, so that
    /// others are asked.
    pub(super) fn fill_ended(&mut self, peer: NodeId, exchange: &Exchange) {
        let (first, last) = exchange.span;
        let until = self.now.mono_ms + RETRY_MS;
        let Some(filling) = &mut self.filling else { return };
        filling.bytes += exchange.view.bytes;
        let (Some(first), Some(last)) = (keyspace::partition(first), keyspace::partition(last))
        else {
            return;
        };
        let pending: Vec<_> = filling.pending.range(first..=last).collect();
        let lacks = |compared: &BTreeMap<NodeId, bool>| compared.get(&peer) != Some(&true);
        let left = pending.into_iter().filter(|(_, compared)| lacks(compared));
        let left: Vec<_> = left.map(|(&partition, _)| partition.get()).collect();
        if left.into_iter().any(|at| self.shares(peer, at))
            && let Some(filling) = &mut self.filling
        {
            filling.paused.insert(peer, until);
        }
    }
}

impl Exchange {
    /// Whether it fills this node.
    pub(super) fn fills(&self) -> bool {
        self.reason == crate::views::ExchangeReason::Fill
    }
}
