//! When a read asks one more replica, and how often reads may: hedged requests, as in Dean and Barroso's "The Tail at
//! Scale".
//!
//! Each replica's recent answers give its p95; a read that waits longer than that asks one more. Because that doubles
//! the work just when there is too much of it, hedges are limited to a twentieth of all reads. After `read_retry_ms` a
//! read asks again in any case if who was asked has not said a word since, for it may be dead; if it talks and is only
//! slow, such retries are limited to a fifth of all reads. At half its time a read asks once more whatever that costs.
//! A replica whose p95 has grown to `read_retry_ms` is asked last, until it has not been asked for a while.

use std::collections::BTreeMap;

use moim_core::NodeId;

use crate::latency::Latencies;
use crate::options::Options;

/// Answers that make a p95 worth heeding.
const SAMPLES_MIN: u32 = 20;

/// What was seen of a replica counts for so long after its last answer, in milliseconds; then it gets a new chance.
const MEMORY_MS: u64 = 5_000;

/// A read earns hedges and retries in these hundredths.
const WHOLE: u32 = 100;
const HEDGE_SHARE: u32 = 5;
const RETRY_SHARE: u32 = 20;

/// Hedges, or retries, that may be saved up.
const SAVED_MAX: u32 = 10;

/// Latencies of replicas as seen from here, and what may still be asked twice.
#[derive(Debug)]
pub(crate) struct Hedging {
    by_node: BTreeMap<NodeId, Replica>,
    hedges: u32,
    retries: u32,
}

/// What was seen of one replica. There is one for each member that was ever asked.
#[derive(Debug, Default)]
struct Replica {
    latencies: Latencies,
    last_mono_ms: u64,
}

impl Default for Hedging {
    fn default() -> Self {
        let saved = SAVED_MAX * WHOLE;
        Self { by_node: BTreeMap::new(), hedges: saved, retries: saved }
    }
}

impl Hedging {
    /// A read began: so much more may be asked twice.
    pub(crate) fn earn(&mut self) {
        let earn = |saved: &mut u32, share: u32| *saved = (*saved + share).min(SAVED_MAX * WHOLE);
        earn(&mut self.hedges, HEDGE_SHARE);
        earn(&mut self.retries, RETRY_SHARE);
    }

    /// Takes one hedge, if there is one.
    pub(crate) fn take_hedge(&mut self) -> bool {
        take(&mut self.hedges)
    }

    /// Takes one retry, if there is one.
    pub(crate) fn take_retry(&mut self) -> bool {
        take(&mut self.retries)
    }

    /// A replica answered after so long, or has not answered for so long.
    pub(crate) fn observe(&mut self, node: NodeId, mono_ms: u64, latency_ms: u64) {
        let replica = self.by_node.entry(node).or_default();
        if mono_ms.saturating_sub(replica.last_mono_ms) > MEMORY_MS {
            replica.latencies.clear();
        }
        replica.last_mono_ms = mono_ms;
        replica.latencies.record(latency_ms);
    }

    /// After how many milliseconds a read that asked this replica asks one more as well.
    pub(crate) fn delay_ms(&self, node: NodeId, mono_ms: u64, options: &Options) -> u32 {
        match self.p95_ms(node, mono_ms) {
            // The clock may be a millisecond off either way.
            Some(p95_ms) => (p95_ms + 1)
                .clamp(options.read_hedge_ms_min.min(options.read_retry_ms), options.read_retry_ms),
            None => options.read_retry_ms,
        }
    }

    /// Whether others are asked before it.
    pub(crate) fn is_slow(&self, node: NodeId, mono_ms: u64, options: &Options) -> bool {
        self.p95_ms(node, mono_ms).is_some_and(|p95_ms| p95_ms >= options.read_retry_ms)
    }

    /// The p95 of its recent answers, in milliseconds, if there were enough.
    pub(crate) fn p95_ms(&self, node: NodeId, mono_ms: u64) -> Option<u32> {
        let replica = self.by_node.get(&node)?;
        let fresh = mono_ms.saturating_sub(replica.last_mono_ms) <= MEMORY_MS;
        let enough = replica.latencies.count() >= SAMPLES_MIN;
        if fresh && enough { replica.latencies.quantile_ms(950) } else { None }
    }
}

fn take(saved: &mut u32) -> bool {
    let left = saved.checked_sub(WHOLE);
    *saved = left.unwrap_or(*saved);
    left.is_some()
}

#[cfg(test)]
mod tests {
    use super::*;

    const NODE: NodeId = NodeId(1);

    #[test]
    fn the_delay_follows_the_p95_between_its_bounds() {
        let (mut hedging, options) = (Hedging::default(), Options::default());
        assert_eq!(hedging.delay_ms(NODE, 0, &options), options.read_retry_ms, "nothing known");
        for at_ms in 0..100 {
            hedging.observe(NODE, at_ms, if at_ms % 10 == 0 { 12 } else { 3 });
        }
        assert_eq!(hedging.delay_ms(NODE, 100, &options), 13);
        for at_ms in 100..3_000 {
            hedging.observe(NODE, at_ms, 0);
        }
        assert_eq!(hedging.delay_ms(NODE, 3_000, &options), options.read_hedge_ms_min);
        for at_ms in 3_000..4_000 {
            hedging.observe(NODE, at_ms, 400);
        }
        assert_eq!(hedging.delay_ms(NODE, 4_000, &options), options.read_retry_ms);
        assert!(hedging.is_slow(NODE, 4_000, &options));
        assert!(!hedging.is_slow(NODE, 4_000 + MEMORY_MS, &options), "it gets a new chance");
    }

    #[test]
    fn hedges_are_a_twentieth_of_reads_and_retries_a_fifth() {
        let mut hedging = Hedging::default();
        let (mut hedges, mut retries) = (0, 0);
        for _ in 0..10_000 {
            hedging.earn();
            hedges += u32::from(hedging.take_hedge());
            retries += u32::from(hedging.take_retry());
        }
        assert!((500..=500 + SAVED_MAX).contains(&hedges), "{hedges}");
        assert!((2_000..=2_000 + SAVED_MAX).contains(&retries), "{retries}");
    }
}
