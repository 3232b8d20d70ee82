//! A disk that loses what was not synced: batches are atomic and kept in order, and a crash keeps a random number of
//! the unsynced ones, as a page cache may or may not have been written back.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use moim_node::api::{BatchId, ListedPage};
use moim_node::keyspace;
use moim_storage::{Batch, Family, Reclaim, Write};

use super::logged::Logged;
use crate::random::Random;

pub(super) type State = BTreeMap<(Family, Bytes), Bytes>;

/// One node's disk.
#[derive(Debug, Default)]
pub(crate) struct Disk {
    /// What reads see: everything committed.
    applied: State,
    /// What survives a crash for certain.
    synced: State,
    unsynced: VecDeque<(BatchId, Batch)>,
    /// How many of the unsynced batches the sync in progress covers; 0 when none runs.
    syncing: usize,
    /// The engine that must recover the same, where a run has one.
    logged: Option<Logged>,
}

impl Disk {
    /// From now on an engine with a commit log does the same on files of its own.
    pub(crate) fn keep_log(&mut self, random: Random) {
        self.logged = Some(Logged::new(&self.synced, random));
    }

    /// Takes a batch; reads see it at once.
    pub(crate) fn commit(&mut self, id: BatchId, batch: Batch) {
        apply(&mut self.applied, &batch);
        self.unsynced.push_back((id, batch));
    }

    /// Whether something waits for a sync.
    pub(crate) fn has_unsynced(&self) -> bool {
        !self.unsynced.is_empty()
    }

    /// Begins a sync of everything committed so far, unless one runs or there is nothing to sync.
    pub(crate) fn begin_sync(&mut self) -> bool {
        let idle = self.syncing == 0 && !self.unsynced.is_empty();
        if idle {
            self.syncing = self.unsynced.len();
        }
        idle
    }

    /// The sync in progress is over: the last batch that it made durable.
    pub(crate) fn end_sync(&mut self) -> Option<BatchId> {
        let done: Vec<_> = self.unsynced.drain(..std::mem::take(&mut self.syncing)).collect();
        for (_, batch) in &done {
            apply(&mut self.synced, batch);
        }
        if let Some(logged) = &mut self.logged {
            logged.synced(&batches(&done));
        }
        done.last().map(|&(id, _)| id)
    }

    /// The machine is gone, and with it what was not synced but for a random part. Answers how many batches were lost.
    pub(crate) fn crash(&mut self, random: &mut Random) -> usize {
        let kept = usize::try_from(random.between(0, self.unsynced.len() as u64)).unwrap_or(0);
        let lost = self.unsynced.len() - kept;
        let all = Vec::from(std::mem::take(&mut self.unsynced));
        let (left, gone) = all.split_at(kept);
        for (_, batch) in left {
            apply(&mut self.synced, batch);
        }
        self.logged = self
            .logged
            .take()
            .map(|logged| logged.crash(&batches(left), &batches(gone), &self.synced));
        self.syncing = 0;
        self.applied = self.synced.clone();
        lost
    }

    /// The disk itself is gone, and another in its place: an empty one, or an old copy of it.
    pub(crate) fn replace(&mut self, by: Self) {
        let logged = self.logged.take().map(|logged| logged.replaced(&by.synced));
        *self = Self { logged, ..by };
    }

    /// A copy of what is synced.
    pub(crate) fn copy(&self) -> Self {
        Self { applied: self.synced.clone(), synced: self.synced.clone(), ..Self::default() }
    }

    /// The value of a key that survives a crash.
    pub(crate) fn get_synced(&self, family: Family, key: &[u8]) -> Option<Bytes> {
        self.synced.get(&(family, Bytes::copy_from_slice(key))).cloned()
    }

    /// The value of a key.
    pub(crate) fn get(&self, family: Family, key: &[u8]) -> Option<Bytes> {
        self.applied.get(&(family, Bytes::copy_from_slice(key))).cloned()
    }

    /// Everything in a family.
    pub(crate) fn all(&self, family: Family) -> impl Iterator<Item = (Bytes, Bytes)> {
        let of_family = self.applied.iter().filter(move |((held, _), _)| *held == family);
        of_family.map(|((_, key), value)| (key.clone(), value.clone()))
    }

    /// A page of a family.
    pub(crate) fn list(
        &self,
        family: Family,
        (from, to): (&Bytes, &Bytes),
        limit: usize,
    ) -> ListedPage {
        let range = (family, from.clone())..(family, to.clone());
        let mut found =
            self.applied.range(range).map(|((_, key), value)| (key.clone(), value.clone()));
        let entries: Vec<_> = found.by_ref().take(limit).collect();
        ListedPage { entries, more: found.next().is_some() }
    }

    /// Gives back what the node's own rule lets compaction give back. Answers how many entries shrank.
    pub(crate) fn compact(&mut self, wall_ms: u64, grace_ms: u64) -> usize {
        if let Some(logged) = &mut self.logged {
            logged.compact(wall_ms, grace_ms);
        }
        compact(&mut self.synced, wall_ms, grace_ms);
        compact(&mut self.applied, wall_ms, grace_ms)
    }
}

fn batches(numbered: &[(BatchId, Batch)]) -> Vec<&Batch> {
    numbered.iter().map(|(_, batch)| batch).collect()
}

fn apply(state: &mut State, batch: &Batch) {
    for write in batch {
        match write {
            Write::Put { family, key, value } => {
                state.insert((*family, key.clone()), value.clone());
            }
            Write::Delete { family, key } => {
                state.remove(&(*family, key.clone()));
            }
            Write::DeleteRange { family, from, to } => {
                state.retain(|(held, key), _| held != family || key < from || key >= to);
            }
        }
    }
}

pub(super) fn compact(state: &mut State, wall_ms: u64, grace_ms: u64) -> usize {
    let mut shrunk = 0;
    state.retain(|(family, _), value| {
        if *family != Family::Data {
            return true;
        }
        let verdict = keyspace::reclaim(value, wall_ms, grace_ms);
        shrunk += usize::from(verdict != Reclaim::Keep);
        match verdict {
            Reclaim::Keep => true,
            Reclaim::Remove => false,
            Reclaim::Replace(header) => {
                *value = header.into();
                true
            }
        }
    });
    shrunk
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(key: &'static str, value: &'static str) -> Batch {
        let (key, value) =
            (Bytes::from_static(key.as_bytes()), Bytes::from_static(value.as_bytes()));
        vec![Write::Put { family: Family::Data, key, value }]
    }

    fn held(disk: &Disk, keys: &[&str]) -> usize {
        keys.iter().filter(|key| disk.get(Family::Data, key.as_bytes()).is_some()).count()
    }

    #[test]
    fn a_crash_keeps_the_synced_and_a_prefix_of_the_rest() {
        let keys = ["a", "b", "c", "d"];
        let mut kept = Vec::new();
        for seed in 0..100 {
            let mut disk = Disk::default();
            // It must come to the same.
            if seed % 2 == 0 {
                disk.keep_log(Random::new(seed));
            }
            disk.commit(BatchId(1), put("a", "1"));
            assert!(disk.begin_sync());
            disk.commit(BatchId(2), put("b", "2"));
            assert!(!disk.begin_sync(), "one sync at a time");
            assert_eq!(
                disk.end_sync(),
                Some(BatchId(1)),
                "what came later waits for the next sync"
            );
            disk.commit(BatchId(3), put("c", "3"));
            disk.commit(BatchId(4), put("d", "4"));
            assert_eq!(held(&disk, &keys), 4, "reads see what is not yet synced");
            disk.crash(&mut Random::new(seed));
            let count = held(&disk, &keys);
            assert_eq!(held(&disk, &keys[..count]), count, "a prefix");
            kept.push(count);
        }
        kept.sort_unstable();
        kept.dedup();
        assert_eq!(kept, [1, 2, 3, 4]);
    }

    #[test]
    fn an_old_copy_has_what_was_synced_then() {
        let mut disk = Disk::default();
        disk.commit(BatchId(1), put("a", "1"));
        assert!(disk.begin_sync());
        disk.end_sync();
        disk.commit(BatchId(2), put("b", "2"));
        let copy = disk.copy();
        disk.replace(copy);
        assert_eq!((held(&disk, &["a"]), held(&disk, &["b"])), (1, 0));
        assert!(!disk.begin_sync(), "nothing is left to sync");
        disk.replace(Disk::default());
        assert_eq!(held(&disk, &["a"]), 0);
    }

    #[test]
    fn pages_end_where_the_limit_says() {
        let mut disk = Disk::default();
        for (key, value) in [("a", "1"), ("b", "2"), ("c", "3")] {
            disk.commit(BatchId(1), put(key, value));
        }
        let (from, to) = (Bytes::from_static(b"a"), Bytes::from_static(b"c"));
        let page = disk.list(Family::Data, (&from, &to), 1);
        assert_eq!((page.entries.len(), page.more), (1, true));
        let page = disk.list(Family::Data, (&from, &to), 5);
        assert_eq!((page.entries.len(), page.more), (2, false));
    }
}
