//! The pace of background work: hints, repair, refill and sweeps send only what is granted here, so that they yield to
//! clients and still always get on (REQ-46).
//!
//! Watched is the p99 of the requests that this node coordinates. While it stays near what it is when nothing runs in
//! the background, the rate that clients bear rises; when it exceeds that, the rate is halved, down to a floor, below
//! which it never falls (as TCP does and as Cassandra's and Riak's fixed throttles cannot). It rises by a quarter in each
//! window, and near the rate at which clients last suffered by a thirty-second: there it stays for most of the time
//! (Ha, Rhee, Xu: CUBIC, 2008).
//!
//! Where no client asks anything there is nothing to yield to: the rate doubles, and what clients bear is remembered
//! meanwhile. The first request brings it back at once, so that nobody pays for what was learnt while nobody asked.
//!
//! A node that is being filled serves nobody and sees no latencies: those who give to it are paced as well, by their own.
//!
//! Refill has a floor of its own, above: while one copy of everything is missing, what clients feel of its return
//! is the lesser evil.
//!
//! Invariants: with a grant refused, another follows within [`WAIT_MS_MAX`] (progress); what is granted in any second
//! is at most the rate (or the floor of refill beside it) and one burst, plus one grant of whatever size (bounded); the same calls give the same answers
//! (deterministic: time is an argument, and nothing wakes up for it). Left out: who asks for what, in which order, and
//! how much may be in flight, which each kind of background work bounds by itself.

use crate::latency::Latencies;
use crate::options::Options;

/// Why something is sent in the background.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reason {
    /// A copy that an owner missed.
    Hint,
    /// Copies compared, and those that differ exchanged.
    Repair,
    /// A replica without its disk is filled, or a new owner.
    Refill,
    /// Own data is read through: trees rebuilt, what has expired or is settled dropped.
    Sweep,
}

/// Every reason, in the order of [`PaceView::lanes`].
pub const REASONS: [Reason; 4] = [Reason::Hint, Reason::Repair, Reason::Refill, Reason::Sweep];

impl Reason {
    /// As metrics and status pages name it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Hint => "hint",
            Self::Repair => "repair",
            Self::Refill => "refill",
            Self::Sweep => "sweep",
        }
    }

    fn at(self) -> usize {
        match self {
            Self::Hint => 0,
            Self::Repair => 1,
            Self::Refill => 2,
            Self::Sweep => 3,
        }
    }

    /// The part of the rate that it gets while others ask as well. Refill most: until it ends, one copy of everything is
    /// missing. A sweep can wait.
    fn weight(self) -> u64 {
        match self {
            Self::Hint => 4,
            Self::Repair => 2,
            Self::Refill => 8,
            Self::Sweep => 1,
        }
    }
}

/// Whether something may be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Grant {
    /// Now.
    Go,
    /// Not before so many milliseconds have passed, from 1 to [`WAIT_MS_MAX`]; then ask again.
    Wait(u32),
}

/// The longest that anybody is told to wait, in milliseconds.
pub const WAIT_MS_MAX: u32 = 1_000;

/// Bytes that one message costs beside what it carries: a flood of small ones is work too.
const MESSAGE_BYTES: u64 = 512;

/// Credit that an idle reason saves up, in milliseconds of its rate.
const BURST_MS: u64 = 50;

/// A reason that has not asked for so long, in milliseconds, leaves its part to the others.
const ACTIVE_MS: u64 = 1_000;

/// How long latencies are gathered before they are judged, in milliseconds.
const WINDOW_MS: u64 = 500;

/// With fewer than [`SAMPLES_MIN`] a window goes on for so long, in milliseconds. Must exceed [`WINDOW_MS`].
const WINDOW_MS_MAX: u64 = 2_000;

/// Latencies that make a p99 worth judging.
const SAMPLES_MIN: u32 = 50;

/// The part by which the rate rises in a good window.
const RISE: u64 = 4;

/// The same from [`NEAR_PERCENT`] of the rate on at which clients last suffered.
const RISE_NEAR: u64 = 32;
const NEAR_PERCENT: u64 = 75;

/// The least rise, as a part of the ceiling.
const RISE_MIN: u64 = 1_024;

const _: () = assert!(WINDOW_MS < WINDOW_MS_MAX, "a window with few samples is a longer one");

/// The controller.
#[derive(Debug)]
pub struct Pace {
    rate_min: u64,
    rate_max: u64,
    /// Below this, refill does not go whatever its part of the rate.
    refill_min: u64,
    /// Bytes a second over all reasons that clients bear, as far as is known.
    borne: u64,
    /// The rate instead while nobody asks.
    free: Option<u64>,
    /// Where clients suffered when the rate last was too high. Forgotten once it is exceeded in peace.
    suffered: Option<u64>,
    window: Latencies,
    window_since_ms: u64,
    granted_in_window: bool,
    /// Somebody was told to wait: the rate was what limited the work, so that more of it may be tried.
    limited_in_window: bool,
    p99_ms: Option<u32>,
    quiet_p99_ms: Option<u32>,
    lanes: [Lane; REASONS.len()],
}

/// One reason's share.
#[derive(Debug, Default)]
struct Lane {
    /// Bytes that may be sent; below zero after a grant that exceeded it.
    credit: i64,
    credited_ms: u64,
    asked_ms: Option<u64>,
    view: LaneView,
}

/// What one reason was granted since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LaneView {
    /// Messages granted.
    pub grants: u64,
    /// Bytes granted.
    pub bytes: u64,
    /// How often the answer was to wait.
    pub waits: u64,
}

/// What the controller does now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PaceView {
    /// Bytes a second that background work may send, over all reasons.
    pub rate_bytes_per_second: u64,
    /// The p99 of client requests in the last window, in milliseconds.
    pub p99_ms: Option<u32>,
    /// The same while nothing ran in the background.
    pub quiet_p99_ms: Option<u32>,
    /// By reason, in the order of [`REASONS`].
    pub lanes: [LaneView; REASONS.len()],
}

impl PaceView {
    /// Whether clients wait longer than usual; `None` while nobody asks for anything.
    pub fn is_suffered_by_clients(&self) -> Option<bool> {
        let usual_ms = self.quiet_p99_ms;
        self.p99_ms.map(|p99_ms| usual_ms.is_none_or(|usual_ms| p99_ms > tolerated_ms(usual_ms)))
    }
}

impl Pace {
    /// Begins with what is always sent: what the clients' usual p99 is has to be seen first.
    pub fn new(mono_ms: u64, options: &Options) -> Self {
        let rate_min = options.background_bytes_per_second_min.max(1);
        let rate_max = options.background_bytes_per_second_max.max(rate_min);
        Self {
            rate_min,
            rate_max,
            refill_min: options.refill_bytes_per_second_min,
            borne: rate_min,
            free: None,
            suffered: None,
            window: Latencies::default(),
            window_since_ms: mono_ms,
            granted_in_window: false,
            limited_in_window: false,
            p99_ms: None,
            quiet_p99_ms: None,
            lanes: Default::default(),
        }
    }

    /// Time has passed, whether or not anybody asks for anything.
    pub fn pass(&mut self, mono_ms: u64) {
        self.roll(mono_ms);
    }

    /// A client's request was answered after so many milliseconds.
    pub fn observe(&mut self, mono_ms: u64, latency_ms: u64) {
        self.roll(mono_ms);
        if self.free.take().is_some() {
            // What was sent while nobody asked says nothing of what clients bear.
            self.begin_window(mono_ms);
        }
        self.window.record(latency_ms);
    }

    /// Whether a message of so many bytes may be sent now for this reason. What is granted counts as sent.
    pub fn grant(&mut self, mono_ms: u64, reason: Reason, bytes: u64) -> Grant {
        self.roll(mono_ms);
        self.lanes[reason.at()].asked_ms = Some(mono_ms);
        let rate = self.rate_of(mono_ms, reason);
        let lane = &mut self.lanes[reason.at()];
        lane.credit_up_to(mono_ms, rate);
        if lane.credit <= 0 {
            lane.view.waits += 1;
            self.limited_in_window = true;
            let missing = lane.credit.unsigned_abs() + 1;
            let wait_ms = missing.saturating_mul(1_000).div_ceil(rate);
            return Grant::Wait(u32::try_from(wait_ms).unwrap_or(u32::MAX).clamp(1, WAIT_MS_MAX));
        }
        let cost = MESSAGE_BYTES.saturating_add(bytes);
        lane.credit = lane.credit.saturating_sub_unsigned(cost);
        lane.view.grants += 1;
        lane.view.bytes += bytes;
        self.granted_in_window = true;
        Grant::Go
    }

    /// For status pages and metrics.
    pub fn view(&self) -> PaceView {
        PaceView {
            rate_bytes_per_second: self.rate(),
            p99_ms: self.p99_ms,
            quiet_p99_ms: self.quiet_p99_ms,
            lanes: std::array::from_fn(|at| self.lanes[at].view),
        }
    }

    fn rate(&self) -> u64 {
        self.free.unwrap_or(self.borne)
    }

    /// The part of the rate that this reason has, among those that asked lately.
    fn rate_of(&self, mono_ms: u64, reason: Reason) -> u64 {
        let active = |other: &&Reason| {
            self.lanes[other.at()].asked_ms.is_some_and(|at| mono_ms < at + ACTIVE_MS)
        };
        let weights: u64 = REASONS.iter().filter(active).map(|other| other.weight()).sum();
        assert!(weights >= reason.weight(), "who asks counts itself");
        let part = (self.rate() * reason.weight() / weights).max(1);
        if reason == Reason::Refill { part.max(self.refill_min) } else { part }
    }

    /// Judges the window that has ended, if one has.
    fn roll(&mut self, mono_ms: u64) {
        let lasted_ms = mono_ms.saturating_sub(self.window_since_ms);
        let few = (1..SAMPLES_MIN).contains(&self.window.count());
        if lasted_ms < WINDOW_MS || (few && lasted_ms < WINDOW_MS_MAX) {
            return;
        }
        let p99_ms = self.window.quantile_ms(990);
        match p99_ms {
            // Nobody is in the way.
            None => self.free = Some(self.rate().saturating_mul(2).min(self.rate_max)),
            Some(p99_ms) => self.judge(p99_ms),
        }
        self.p99_ms = p99_ms;
        self.begin_window(mono_ms);
    }

    fn begin_window(&mut self, mono_ms: u64) {
        self.window.clear();
        self.window_since_ms = mono_ms;
        self.granted_in_window = false;
        self.limited_in_window = false;
    }

    fn judge(&mut self, p99_ms: u32) {
        let quiet = !self.granted_in_window || self.borne == self.rate_min;
        if self.quiet_p99_ms.is_none_or(|quiet_ms| p99_ms > tolerated_ms(quiet_ms)) && !quiet {
            self.suffered = Some(self.borne);
            self.borne = (self.borne / 2).max(self.rate_min);
        } else if self.granted_in_window && self.limited_in_window {
            self.rise();
        }
        if quiet {
            self.quiet_p99_ms = Some(match self.quiet_p99_ms {
                // One bad moment is soon forgotten, a new normal is learnt within seconds.
                Some(before) if p99_ms > before => before + (p99_ms - before).div_ceil(8),
                Some(before) => before - (before - p99_ms).div_ceil(2),
                None => p99_ms,
            });
        }
    }

    fn rise(&mut self) {
        let is_near = |suffered| self.borne >= suffered / 100 * NEAR_PERCENT;
        let part = if self.suffered.is_some_and(is_near) { RISE_NEAR } else { RISE };
        let step = (self.borne / part).max(self.rate_max / RISE_MIN).max(1);
        self.borne = self.borne.saturating_add(step).min(self.rate_max);
        self.suffered = self.suffered.filter(|suffered| self.borne <= *suffered);
    }
}

/// A tenth above the usual, and the millisecond by which the clock may be off.
fn tolerated_ms(quiet_p99_ms: u32) -> u32 {
    quiet_p99_ms + quiet_p99_ms / 10 + 1
}

impl Lane {
    fn credit_up_to(&mut self, mono_ms: u64, rate: u64) {
        let earned = rate.saturating_mul(mono_ms.saturating_sub(self.credited_ms)) / 1_000;
        if earned == 0 {
            // Not enough time for a whole byte: it goes on counting.
            return;
        }
        self.credited_ms = mono_ms;
        let burst = i64::try_from((rate * BURST_MS / 1_000).max(1)).unwrap_or(i64::MAX);
        self.credit = self.credit.saturating_add_unsigned(earned).min(burst);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIN: u64 = 100_000;
    const MAX: u64 = 10_000_000;
    const REFILL_MIN: u64 = 300_000;
    const MESSAGE: u64 = 4_096;

    fn pace() -> Pace {
        let options = Options {
            background_bytes_per_second_min: MIN,
            background_bytes_per_second_max: MAX,
            refill_bytes_per_second_min: REFILL_MIN,
            ..Options::default()
        };
        Pace::new(0, &options)
    }

    /// Asks for all it can get during these milliseconds, with a client's request a millisecond that takes as long as
    /// `latency_ms` says, given the bytes granted in that millisecond. Returns the bytes granted.
    fn run(
        pace: &mut Pace,
        ms: std::ops::Range<u64>,
        reasons: &[Reason],
        latency_ms: impl Fn(u64) -> Option<u64>,
    ) -> u64 {
        let mut all = 0;
        for now_ms in ms {
            let mut bytes = 0;
            for &reason in reasons {
                while pace.grant(now_ms, reason, MESSAGE) == Grant::Go {
                    bytes += MESSAGE;
                }
            }
            if let Some(latency_ms) = latency_ms(bytes) {
                pace.observe(now_ms, latency_ms);
            }
            all += bytes;
        }
        all
    }

    #[test]
    fn without_clients_it_runs_at_the_ceiling() {
        let mut pace = pace();
        run(&mut pace, 0..20_000, &[Reason::Repair], |_| None);
        assert_eq!(pace.view().rate_bytes_per_second, MAX);
        let bytes = run(&mut pace, 20_000..30_000, &[Reason::Repair], |_| None);
        let most = 10 * MAX + MAX / 10;
        assert!((7 * MAX..most).contains(&bytes), "{bytes} bytes in ten seconds");
    }

    #[test]
    fn clients_that_suffer_slow_it_to_the_floor_and_never_below() {
        let mut pace = pace();
        run(&mut pace, 0..2_000, &[], |_| Some(3));
        assert_eq!(pace.view().quiet_p99_ms, Some(3));
        // Anything at all in the background triples the latency: the floor is where it must end.
        run(&mut pace, 2_000..12_000, &[Reason::Repair], |_| Some(9));
        let bytes = run(&mut pace, 12_000..13_000, &[Reason::Repair], |_| Some(30));
        assert!(bytes >= MIN / 2, "{bytes} bytes: no progress");
        assert!(pace.view().rate_bytes_per_second < MAX / 4);
    }

    #[test]
    fn refill_has_a_floor_of_its_own() {
        let mut pace = pace();
        let slow = |_: u64| Some(30);
        run(&mut pace, 0..2_000, &[], |_| Some(3));
        run(&mut pace, 2_000..12_000, &[Reason::Repair], slow);
        let [_, repair, refill, _] = pace.view().lanes;
        run(&mut pace, 12_000..14_000, &[Reason::Repair, Reason::Refill], slow);
        let [_, repair_after, refill_after, _] = pace.view().lanes;
        assert!(refill_after.bytes - refill.bytes > REFILL_MIN, "{refill_after:?}");
        assert!(repair_after.bytes - repair.bytes > 0, "{repair_after:?}");
    }

    #[test]
    fn it_settles_where_clients_begin_to_notice() {
        let mut pace = pace();
        // A disk that does 2 MB a second beside the clients: what is sent faster than that queues up before them.
        let queued = std::cell::Cell::new(0);
        let latency = |bytes: u64| {
            queued.set((queued.get() + bytes).saturating_sub(2_000));
            Some(2 + queued.get() / 2_000)
        };
        run(&mut pace, 0..2_000, &[], |_| Some(2));
        run(&mut pace, 2_000..30_000, &[Reason::Refill], latency);
        let bytes = run(&mut pace, 30_000..60_000, &[Reason::Refill], latency);
        assert!(bytes > 30 * 500_000, "a quarter of what there is at least: {bytes}");
        assert!(bytes < 30 * 2_000_000, "does not trample on clients: {bytes}");
        assert!(queued.get() < 2_000_000, "the queue is short: {}", queued.get());
    }

    #[test]
    fn clients_that_come_back_find_what_they_bore() {
        let mut pace = pace();
        run(&mut pace, 0..2_000, &[], |_| Some(3));
        assert_eq!(pace.view().is_suffered_by_clients(), Some(false));
        run(&mut pace, 2_000..3_500, &[Reason::Repair], |_| Some(9));
        assert_eq!(pace.view().is_suffered_by_clients(), Some(true));
        run(&mut pace, 3_500..12_000, &[Reason::Repair], |_| Some(9));
        // The window that goes on may still be a good one.
        let borne = pace.view().rate_bytes_per_second * 5 / 4;
        run(&mut pace, 12_000..30_000, &[Reason::Repair], |_| None);
        assert_eq!(pace.view().is_suffered_by_clients(), None);
        assert_eq!(pace.view().rate_bytes_per_second, MAX, "nobody asks");
        pace.observe(30_000, 3);
        assert!(pace.view().rate_bytes_per_second <= borne, "{:?}", pace.view());
        // The burst that was saved up at the higher rate is not theirs to pay, either.
        let bytes = run(&mut pace, 30_001..30_101, &[Reason::Repair], |_| Some(3));
        assert!(bytes <= borne / 5 + MESSAGE, "{bytes} bytes at once");
    }

    #[test]
    fn what_was_never_sent_is_not_known_to_be_borne() {
        let mut pace = pace();
        // A tenth of the floor, for a minute.
        for now_ms in (1_000..60_000).step_by(400) {
            assert_eq!(pace.grant(now_ms, Reason::Hint, MESSAGE), Grant::Go);
            pace.observe(now_ms, 3);
        }
        assert_eq!(pace.view().rate_bytes_per_second, MIN);
    }

    #[test]
    fn a_new_normal_is_learnt() {
        let mut pace = pace();
        run(&mut pace, 0..2_000, &[], |_| Some(1));
        // Clients themselves became slower, whatever the background does.
        run(&mut pace, 2_000..60_000, &[Reason::Repair], |_| Some(20));
        assert!(pace.view().rate_bytes_per_second > MAX / 8, "{:?}", pace.view());
    }

    #[test]
    fn reasons_share_by_weight_and_take_over_from_the_idle() {
        let mut pace = pace();
        run(&mut pace, 0..20_000, &[Reason::Hint, Reason::Repair], |_| None);
        let [hint, repair, ..] = pace.view().lanes;
        let ratio = hint.bytes * 10 / repair.bytes;
        assert!((17..=23).contains(&ratio), "hints get twice as much: {ratio} tenths");
        let before = pace.view().lanes[1].bytes;
        run(&mut pace, 30_000..31_000, &[Reason::Repair], |_| None);
        assert!(pace.view().lanes[1].bytes - before > MAX / 2, "alone it has everything");
    }

    #[test]
    fn a_large_message_is_paid_off_and_the_wait_is_bounded() {
        let mut pace = pace();
        let huge = 100 * MAX;
        assert_eq!(pace.grant(10, Reason::Sweep, huge), Grant::Go);
        assert_eq!(pace.grant(11, Reason::Sweep, 1), Grant::Wait(WAIT_MS_MAX));
        assert_eq!(pace.grant(11, Reason::Hint, 1), Grant::Go, "others are not held up");
        assert_eq!(pace.view().lanes[3], LaneView { grants: 1, bytes: huge, waits: 1 });
    }
}
