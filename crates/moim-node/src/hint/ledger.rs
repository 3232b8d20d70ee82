//! Which obligations there are, and what of them each owner waits for. In memory, and complete: on disk there is a
//! record for each (`record`), from which this is made anew at every start.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use moim_core::NodeId;
use moim_core::clock::Hlc;

use super::record::Record;
use crate::api::ReadId;

/// Bytes that an obligation costs in memory and on disk beside its object: so many small ones are bounded as well.
const HINT_OVERHEAD_BYTES: u64 = 512;

/// Obligations in the order in which they arose: creation in Unix milliseconds, then a serial.
type Order = (u64, u64);

/// One key that is kept for its owners.
#[derive(Debug)]
struct Obligation {
    record: Record,
    serial: u64,
    /// Counts changes of the object: an owner that has acknowledged an earlier one has to get this one as well.
    generation: u64,
    /// Owners that have the object as it is now.
    acknowledged: Vec<NodeId>,
}

impl Obligation {
    fn order(&self) -> Order {
        (self.record.created_ms, self.serial)
    }

    fn bytes(&self) -> u64 {
        HINT_OVERHEAD_BYTES + u64::from(self.record.object_bytes)
    }

    /// Which of `owners` get it next: those that were stood in for, then all others. Nobody: it is discharged.
    fn due<'a>(&'a self, owners: &'a [NodeId]) -> impl Iterator<Item = NodeId> + 'a {
        let targets_first = self.targets_first(owners);
        let is_due = move |owner: &NodeId| {
            self.lacks(*owner) && (!targets_first || self.record.targets.contains(owner))
        };
        owners.iter().copied().filter(is_due)
    }

    /// Whether somebody who was stood in for has it still to get.
    fn targets_first(&self, owners: &[NodeId]) -> bool {
        owners.iter().any(|&owner| self.lacks(owner) && self.record.targets.contains(&owner))
    }

    fn lacks(&self, owner: NodeId) -> bool {
        !self.acknowledged.contains(&owner)
    }
}

/// What one owner waits for.
#[derive(Debug, Default)]
struct Queue {
    waiting: BTreeMap<Order, Bytes>,
    in_flight: usize,
    /// Refusals and silences in a row.
    failures: u32,
    /// When it is offered something again; there is one timer for it.
    retry_mono_ms: Option<u64>,
}

/// How far the records on disk have been read since the start.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Reading {
    /// Records from this key on have not been asked for.
    From(Bytes),
    /// Those from this key on are on their way.
    Page(ReadId, Bytes),
    /// All are known.
    Done,
}

/// All obligations of this node.
#[derive(Debug)]
pub(crate) struct Ledger {
    by_key: BTreeMap<Bytes, Obligation>,
    queues: BTreeMap<NodeId, Queue>,
    orders: BTreeSet<Order>,
    stamps: BTreeSet<(Hlc, u64)>,
    bytes: u64,
    next: u64,
    reading: Reading,
}

/// Something to offer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Next {
    pub(crate) key: Bytes,
    pub(crate) generation: u64,
    /// Of the object.
    pub(crate) bytes: u64,
}

impl Ledger {
    pub(crate) fn new() -> Self {
        Self {
            by_key: BTreeMap::new(),
            queues: BTreeMap::new(),
            orders: BTreeSet::new(),
            stamps: BTreeSet::new(),
            bytes: 0,
            next: 0,
            reading: Reading::From(Bytes::new()),
        }
    }

    /// Whether an object of this many bytes may be added to what is kept under `key`.
    pub(crate) fn has_room(&self, key: &Bytes, object_bytes: usize, bytes_max: u64) -> bool {
        let overhead = if self.by_key.contains_key(key) { 0 } else { HINT_OVERHEAD_BYTES };
        self.bytes + overhead + object_bytes as u64 <= bytes_max
    }

    /// The record of `key`, if it is kept for its owners.
    pub(crate) fn record(&self, key: &Bytes) -> Option<&Record> {
        self.by_key.get(key).map(|obligation| &obligation.record)
    }

    /// Keeps `record`: the object under `key` is new or has changed, so no owner is known to have it.
    pub(crate) fn note(&mut self, key: &Bytes, record: Record, owners: &[NodeId]) {
        // It is kept for long, and what came with the request is not.
        let key = &Bytes::copy_from_slice(key);
        let (serial, generation) = if let Some(before) = self.by_key.remove(key) {
            self.uncount(&before);
            (before.serial, before.generation + 1)
        } else {
            self.next += 1;
            (self.next, 0)
        };
        let obligation = Obligation { record, serial, generation, acknowledged: Vec::new() };
        self.bytes += obligation.bytes();
        self.orders.insert(obligation.order());
        self.stamps.insert((obligation.record.oldest, serial));
        self.by_key.insert(key.clone(), obligation);
        self.enqueue(key, owners);
    }

    /// Lets the owners that are next wait for it. Returns them.
    fn enqueue(&mut self, key: &Bytes, owners: &[NodeId]) -> Vec<NodeId> {
        let Some(obligation) = self.by_key.get(key) else { return Vec::new() };
        let due: Vec<_> = obligation.due(owners).collect();
        for &owner in &due {
            let queue = self.queues.entry(owner).or_default();
            queue.waiting.insert(obligation.order(), key.clone());
        }
        due
    }

    /// The oldest obligation that `owner` waits for, if more may be in flight to it.
    pub(crate) fn next(&mut self, owner: NodeId, in_flight_max: usize) -> Option<Next> {
        let queue = self.queues.get_mut(&owner)?;
        while queue.in_flight < in_flight_max {
            let first = queue.waiting.first_entry()?;
            let key = first.get().clone();
            match self.by_key.get(&key) {
                Some(obligation) if obligation.lacks(owner) => {
                    let bytes = u64::from(obligation.record.object_bytes);
                    let generation = obligation.generation;
                    return Some(Next { key, generation, bytes });
                }
                // It has ended, or was acknowledged on another occasion.
                _ => first.remove(),
            };
        }
        None
    }

    /// What `next` named is on its way.
    pub(crate) fn take_off(&mut self, owner: NodeId) {
        if let Some(queue) = self.queues.get_mut(&owner) {
            queue.waiting.pop_first();
            queue.in_flight += 1;
        }
    }

    /// Counts changes of the object under `key`.
    pub(crate) fn generation(&self, key: &Bytes) -> Option<u64> {
        self.by_key.get(key).map(|obligation| obligation.generation)
    }

    /// `owner` has the object of this generation. Answers who is offered it next: nobody if that was the last owner.
    pub(crate) fn acknowledge(
        &mut self,
        (owner, key): (NodeId, &Bytes),
        generation: u64,
        owners: &[NodeId],
    ) -> Vec<NodeId> {
        self.land(owner);
        if let Some(queue) = self.queues.get_mut(&owner) {
            queue.failures = 0;
        }
        let Some(obligation) = self.by_key.get_mut(key) else { return Vec::new() };
        if obligation.generation != generation || obligation.acknowledged.contains(&owner) {
            return obligation.due(owners).collect();
        }
        let targets_first = obligation.targets_first(owners);
        obligation.acknowledged.push(owner);
        if targets_first && !obligation.targets_first(owners) {
            return self.enqueue(key, owners);
        }
        obligation.due(owners).collect()
    }

    /// `owner` did not take it, or did not answer: it waits again, behind the others, so that one key that cannot be
    /// handed over does not stop the rest. Returns failures in a row.
    pub(crate) fn fail(&mut self, owner: NodeId, key: &Bytes, wall_ms: u64) -> u32 {
        self.land(owner);
        let Some(queue) = self.queues.get_mut(&owner) else { return 0 };
        queue.failures = queue.failures.saturating_add(1);
        if let Some(obligation) = self.by_key.get(key) {
            queue.waiting.insert((wall_ms, obligation.serial), key.clone());
        }
        queue.failures
    }

    /// Something is no longer on its way to `owner`.
    pub(crate) fn land(&mut self, owner: NodeId) {
        if let Some(queue) = self.queues.get_mut(&owner) {
            queue.in_flight = queue.in_flight.saturating_sub(1);
        }
    }

    /// Whether every owner has the object under `key`.
    pub(crate) fn is_discharged(&self, key: &Bytes, owners: &[NodeId]) -> bool {
        self.by_key.get(key).is_some_and(|obligation| obligation.due(owners).next().is_none())
    }

    /// Nothing is known to have arrived any more: all owners are offered it again.
    pub(crate) fn reopen(&mut self, key: &Bytes, owners: &[NodeId]) {
        if let Some(obligation) = self.by_key.get_mut(key) {
            obligation.acknowledged.clear();
            self.enqueue(key, owners);
        }
    }

    /// The obligation is over.
    pub(crate) fn forget(&mut self, key: &Bytes) {
        if let Some(obligation) = self.by_key.remove(key) {
            self.uncount(&obligation);
        }
    }

    fn uncount(&mut self, obligation: &Obligation) {
        self.bytes -= obligation.bytes();
        self.orders.remove(&obligation.order());
        self.stamps.remove(&(obligation.record.oldest, obligation.serial));
    }

    /// Whether a timer is needed to offer again at this moment; an earlier one that is set already will do.
    pub(crate) fn arm(&mut self, owner: NodeId, at_mono_ms: u64) -> bool {
        let Some(queue) = self.queues.get_mut(&owner) else { return false };
        let needed = queue.retry_mono_ms.is_none_or(|set| at_mono_ms < set);
        if needed {
            queue.retry_mono_ms = Some(at_mono_ms);
        }
        needed
    }

    /// The timer rang.
    pub(crate) fn disarm(&mut self, owner: NodeId, mono_ms: u64) {
        if let Some(queue) = self.queues.get_mut(&owner)
            && queue.retry_mono_ms.is_some_and(|at| at <= mono_ms)
        {
            queue.retry_mono_ms = None;
        }
    }

    /// Owners that wait for something.
    pub(crate) fn awaited(&self) -> Vec<NodeId> {
        let waits = self.queues.iter().filter(|(_, queue)| !queue.waiting.is_empty());
        waits.map(|(&owner, _)| owner).collect()
    }

    /// Objects that `owner` waits for.
    pub(crate) fn count_for(&self, owner: NodeId) -> u64 {
        let count = |queue: &Queue| (queue.waiting.len() + queue.in_flight) as u64;
        self.queues.get(&owner).map_or(0, count)
    }

    pub(crate) fn count(&self) -> u64 {
        self.by_key.len() as u64
    }

    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// When the oldest obligation arose, in Unix milliseconds.
    pub(crate) fn oldest_ms(&self) -> Option<u64> {
        self.orders.first().map(|&(created_ms, _)| created_ms)
    }

    /// Nothing older than this is still to be handed over; `None` if nothing is. While the records on disk are being
    /// read, anything may be.
    pub(crate) fn oldest(&self) -> Option<Hlc> {
        match self.reading {
            Reading::Done => self.stamps.first().map(|&(oldest, _)| oldest),
            _ => Some(Hlc::default()),
        }
    }

    /// Whether all records on disk are known.
    pub(crate) fn is_read(&self) -> bool {
        self.reading == Reading::Done
    }

    /// Where to go on reading, if nothing is on its way.
    pub(crate) fn unread(&self) -> Option<Bytes> {
        match &self.reading {
            Reading::From(key) => Some(key.clone()),
            Reading::Page(..) | Reading::Done => None,
        }
    }

    /// A page is on its way.
    pub(crate) fn begin_page(&mut self, id: ReadId, from: Bytes) {
        self.reading = Reading::Page(id, from);
    }

    /// Whether this read is the page that is on its way.
    pub(crate) fn awaits_page(&self, id: ReadId) -> bool {
        matches!(self.reading, Reading::Page(awaited, _) if awaited == id)
    }

    /// The page could not be read: it is asked for again.
    pub(crate) fn fail_page(&mut self) {
        if let Reading::Page(_, from) = &self.reading {
            self.reading = Reading::From(from.clone());
        }
    }

    /// The page is here, and the next begins at `from`; `None` after the last.
    pub(crate) fn end_page(&mut self, from: Option<Bytes>) {
        self.reading = from.map_or(Reading::Done, Reading::From);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OWNERS: [NodeId; 3] = [NodeId(1), NodeId(2), NodeId(3)];

    fn take(ledger: &mut Ledger, owner: u64, in_flight_max: usize) -> Option<Bytes> {
        let next = ledger.next(NodeId(owner), in_flight_max)?;
        ledger.take_off(NodeId(owner));
        Some(next.key)
    }

    fn key(name: &'static str) -> Bytes {
        Bytes::from_static(name.as_bytes())
    }

    fn record(created_ms: u64, target: u64) -> Record {
        let targets = vec![NodeId(target)];
        Record { created_ms, oldest: Hlc::from_millis(created_ms), object_bytes: 100, targets }
    }

    #[test]
    fn targets_get_it_first_then_the_other_owners_then_it_is_discharged() {
        let mut ledger = Ledger::new();
        ledger.note(&key("k"), record(5, 2), &OWNERS);
        assert_eq!(take(&mut ledger, 1, 9), None);
        assert_eq!(take(&mut ledger, 2, 9), Some(key("k")));
        let next = ledger.acknowledge((NodeId(2), &key("k")), 0, &OWNERS);
        assert_eq!(next, [NodeId(1), NodeId(3)]);
        assert!(!ledger.is_discharged(&key("k"), &OWNERS));
        for owner in next {
            assert!(take(&mut ledger, owner.0, 9).is_some());
            ledger.acknowledge((owner, &key("k")), 0, &OWNERS);
        }
        assert!(ledger.is_discharged(&key("k"), &OWNERS));
        ledger.forget(&key("k"));
        assert_eq!((ledger.count(), ledger.bytes(), ledger.oldest_ms()), (0, 0, None));
    }

    #[test]
    fn an_object_that_changed_meanwhile_is_owed_anew() {
        let mut ledger = Ledger::new();
        ledger.note(&key("k"), record(5, 2), &OWNERS[1..2]);
        assert!(take(&mut ledger, 2, 9).is_some());
        ledger.note(&key("k"), record(5, 2), &OWNERS[1..2]);
        ledger.acknowledge((NodeId(2), &key("k")), 0, &OWNERS[1..2]);
        assert!(!ledger.is_discharged(&key("k"), &OWNERS[1..2]));
        assert!(take(&mut ledger, 2, 9).is_some());
        ledger.acknowledge((NodeId(2), &key("k")), 1, &OWNERS[1..2]);
        assert!(ledger.is_discharged(&key("k"), &OWNERS[1..2]));
    }

    #[test]
    fn the_oldest_goes_first_and_few_are_in_flight() {
        let mut ledger = Ledger::new();
        for (name, created_ms) in [("b", 2), ("c", 3), ("a", 1)] {
            ledger.note(&key(name), record(created_ms, 2), &OWNERS);
        }
        assert_eq!(take(&mut ledger, 2, 2), Some(key("a")));
        assert_eq!(take(&mut ledger, 2, 2), Some(key("b")));
        assert_eq!(take(&mut ledger, 2, 2), None);
        assert_eq!(ledger.fail(NodeId(2), &key("a"), 9), 1);
        assert_eq!(take(&mut ledger, 2, 2), Some(key("c")), "a waits behind it");
        assert_eq!(ledger.count_for(NodeId(2)), 3);
    }
}
