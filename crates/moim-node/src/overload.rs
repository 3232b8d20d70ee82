//! Shedding before it is too late: what share of the clients' requests is refused at once because those before them
//! keep this node busy (REQ-46).
//!
//! Requests that cannot be served in time anyway cost what could be spent on others. The measure is how long inputs
//! have waited for their turn: a queue that stands above the target for a while is overload and not a burst, as in
//! `CoDel`; then a share of the requests is refused, raised and lowered in proportion to the excess, as in PIE. Refusing
//! is cheap, so the delay falls back to the target and the others are served within their deadlines. Requests that have
//! waited longer than they may take are refused in any case.
//!
//! Only requests of this node's own clients are shed: peers' messages are work half done, and peers' deadlines drop
//! what comes too late. Deterministic: the share is counted out, not drawn.

use crate::options::Options;

/// A share of everything, in thousandths.
const WHOLE: u32 = 1_000;

/// The largest share that is refused: a few get through and show when it is over.
const SHARE_MAX: u32 = 980;

/// How fast the share may rise, in thousandths a step.
const RISE_MAX: u32 = 400;

/// Time between two steps, in milliseconds: the effect of one is seen before the next.
const STEP_MS: u64 = 20;

/// The controller.
#[derive(Debug, Default)]
pub(crate) struct Shedding {
    share: u32,
    /// Counts up by the share with each request; beyond the whole, that request is refused.
    count: u32,
    above_since_ms: Option<u64>,
    stepped_ms: u64,
}

impl Shedding {
    /// The inputs of this turn have waited for so long.
    pub(crate) fn observe(&mut self, mono_ms: u64, queued_ms: u32, options: &Options) {
        let target_ms = options.turn_delay_target_ms.max(1);
        if queued_ms < target_ms {
            self.above_since_ms = None;
        }
        if mono_ms < self.stepped_ms + STEP_MS || (self.share == 0 && queued_ms < target_ms) {
            return;
        }
        self.stepped_ms = mono_ms;
        if queued_ms < target_ms {
            self.share -= (self.share / 8).max(1);
            return;
        }
        let since_ms = *self.above_since_ms.get_or_insert(mono_ms);
        if mono_ms - since_ms >= u64::from(options.turn_delay_patience_ms) {
            let excess = (queued_ms - target_ms).saturating_mul(WHOLE) / target_ms;
            self.share = (self.share + (excess / 4).clamp(1, RISE_MAX)).min(SHARE_MAX);
        }
    }

    /// Whether to refuse the request at hand.
    pub(crate) fn refuses(&mut self) -> bool {
        self.count += self.share;
        let refused = self.count >= WHOLE;
        if refused {
            self.count -= WHOLE;
        }
        refused
    }

    /// The share that is refused now, in thousandths.
    pub(crate) fn share(&self) -> u32 {
        self.share
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A node that serves a request in 10 µs and refuses one in 1 µs, takes what has come in whole turns, and gets so
    /// many requests a millisecond. Returns served requests a millisecond and the longest wait, from `settled_ms` on.
    fn run(shedding: &mut Shedding, from_ms: u64, arrivals: u64, settled_ms: u64) -> (u64, u32) {
        let options = Options::default();
        let (end_ms, mut now_us) = ((from_ms + 10_000), from_ms * 1_000);
        let (mut served, mut longest_ms, mut turn_us) = (0, 0, 1_000);
        while now_us < end_ms * 1_000 {
            let queued_ms = u32::try_from(turn_us / 1_000).unwrap();
            shedding.observe(now_us / 1_000, queued_ms, &options);
            let requests = arrivals * turn_us / 1_000;
            let refused = (0..requests).filter(|_| shedding.refuses()).count() as u64;
            if now_us > (from_ms + settled_ms) * 1_000 {
                served += requests - refused;
                longest_ms = longest_ms.max(queued_ms);
            }
            // An idle node waits for the next arrivals.
            turn_us = ((requests - refused) * 10 + refused).max(1_000);
            now_us += turn_us;
        }
        (served / (10_000 - settled_ms), longest_ms)
    }

    #[test]
    fn within_capacity_nothing_is_refused() {
        let mut shedding = Shedding::default();
        let (served, longest_ms) = run(&mut shedding, 0, 90, 0);
        assert_eq!((served.div_ceil(10), shedding.share()), (9, 0));
        assert!(longest_ms < 10);
    }

    #[test]
    fn at_thrice_the_capacity_the_delay_stays_near_the_target_and_most_capacity_serves() {
        let mut shedding = Shedding::default();
        let (served, longest_ms) = run(&mut shedding, 0, 300, 5_000);
        let target_ms = Options::default().turn_delay_target_ms;
        assert!(longest_ms < 4 * target_ms, "{longest_ms} ms");
        assert!(served >= 65, "{served} of 100 a millisecond");
    }

    #[test]
    fn after_a_spike_everything_is_served_again() {
        let mut shedding = Shedding::default();
        run(&mut shedding, 0, 300, 0);
        let (served, _) = run(&mut shedding, 10_000, 50, 2_000);
        assert_eq!((served.div_ceil(10), shedding.share()), (5, 0));
    }

    #[test]
    fn a_burst_is_not_overload() {
        let (mut shedding, options) = (Shedding::default(), Options::default());
        shedding.observe(1_000, 3 * options.turn_delay_target_ms, &options);
        assert!((0..100).all(|_| !shedding.refuses()));
    }
}
