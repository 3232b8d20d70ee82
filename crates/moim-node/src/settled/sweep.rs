//! The sweep: looks through what is stored, a page at a time, for what may be forgotten. Through the node and not by the
//! engine's compaction, so that memory and trees follow, and so that a key is judged by its newest state.

use bytes::Bytes;
use moim_core::ring::Slot;
use moim_storage::Family;

use super::forget::may_be_forgotten;
use crate::api::{Effect, ListedPage, ReadId};
use crate::keyspace;
use crate::node::Node;
use crate::replica::{Target, Work};

/// Where the sweep stands.
#[derive(Debug, Default)]
pub(super) struct Sweep {
    /// A page being read.
    reading: Option<ReadId>,
    /// The next persisted key; empty before the first.
    from: Bytes,
    /// Pages left in this tick.
    pages_left: u32,
    /// When the next pass over everything may begin, on the monotonic clock.
    next_pass_mono_ms: u64,
}

/// Above every persisted key: no partition has this number.
const END: &[u8] = &[0xff; 2];

impl Node {
    /// Goes on with the sweep, if it is time.
    pub(super) fn sweep_on(&mut self) {
        self.settling.sweep.pages_left = self.options.sweep_pages_per_tick;
        let begins = self.settling.sweep.from.is_empty();
        if begins && self.now.mono_ms < self.settling.sweep.next_pass_mono_ms {
            return;
        }
        if begins {
            let next = self.now.mono_ms + u64::from(self.options.sweep_period_ms);
            self.settling.sweep.next_pass_mono_ms = next;
        }
        self.read_page();
    }

    fn read_page(&mut self) {
        let sweep = &mut self.settling.sweep;
        if sweep.reading.is_some() || sweep.pages_left == 0 {
            return;
        }
        sweep.pages_left -= 1;
        let id = self.store.next_read();
        sweep.reading = Some(id);
        let (from, to) = (sweep.from.clone(), Bytes::from_static(END));
        let (family, limit) = (Family::Data, self.options.sweep_page_keys);
        self.effects.push(Effect::List { id, family, from, to, limit });
    }

    /// A page for the sweep has been read. Returns whether it was one.
    pub(crate) fn on_swept(&mut self, id: ReadId, page: &Result<ListedPage, String>) -> bool {
        if self.settling.sweep.reading != Some(id) {
            return false;
        }
        self.settling.sweep.reading = None;
        // Damage is for others to report and repair: the sweep begins again with its next pass.
        let Ok(page) = page else {
            self.settling.sweep.from = Bytes::new();
            return true;
        };
        for (key, encoded) in &page.entries {
            if may_be_forgotten(encoded, self.now.wall_ms) {
                self.look_closer(key);
            }
        }
        let last = page.entries.last().map(|(key, _)| key).filter(|_| page.more);
        self.settling.sweep.from = last.map_or_else(Bytes::new, keyspace::after);
        if last.is_some() {
            self.read_page();
        }
        true
    }

    /// The page may be older than what memory holds: the key is judged by its present state.
    fn look_closer(&mut self, data_key: &Bytes) {
        let Some((namespace, _, key)) = keyspace::split_data_key(data_key) else { return };
        let Some(record) = &self.record else { return };
        let partition = record.ring.partitions().of(Slot::of_key(&key));
        let own = self.info.member.node;
        let copies = self.namespaces.get(namespace).map_or(0, |policy| policy.n);
        // A copy kept for others has an obligation of its own, which says when it goes.
        if record.ring.owns(own, partition, copies) {
            let target = Target::new(namespace, &key, partition);
            self.work(Work::Forget { target });
        }
    }
}
