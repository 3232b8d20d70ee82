//! Names of what background work was granted.

use moim_node::pace::{LaneView, PaceView, REASONS};
use moim_node::views::{TransferReason, TransferView};

use super::{Metric, MetricKind, Sample, count};

/// What is being brought to somebody, by reason.
pub(crate) fn of_transfers(transfers: &[TransferView], mono_ms: u64) -> Vec<Metric> {
    let reasons = [TransferReason::Refill, TransferReason::Repair(0), TransferReason::Hints];
    let gauge = |name, help, value: &dyn Fn(&TransferView) -> u64| Metric {
        samples: reasons
            .iter()
            .map(|reason| {
                let same = transfers.iter().filter(|it| it.reason.name() == reason.name());
                Sample::new(count(same.map(value).sum())).label("reason", reason.name())
            })
            .collect(),
        ..Metric::gauge(name, help, 0.0)
    };
    vec![
        gauge("moim_transfers", "Refills, repairs and deliveries of hints under way.", &|_| 1),
        gauge(
            "moim_transfers_stalled",
            "Those that have not got on for a minute: an alarm.",
            &|transfer| u64::from(transfer.is_stalled(mono_ms)),
        ),
        gauge("moim_transfers_left", "Partitions that are left, of hints objects.", &|transfer| {
            transfer.left
        }),
    ]
}

/// How background work yields to clients, by reason.
pub(crate) fn of_pace(pace: &PaceView) -> Vec<Metric> {
    let lanes = |name, help, value: fn(&LaneView) -> u64| Metric {
        name,
        help,
        kind: MetricKind::Counter,
        samples: REASONS
            .iter()
            .zip(&pace.lanes)
            .map(|(reason, lane)| Sample::new(count(value(lane))).label("reason", reason.name()))
            .collect(),
    };
    let seconds = |ms: Option<u32>| f64::from(ms.unwrap_or(0)) / 1e3;
    vec![
        Metric::gauge(
            "moim_background_rate_bytes",
            "Bytes a second that background work may send now.",
            count(pace.rate_bytes_per_second),
        ),
        Metric::gauge(
            "moim_foreground_p99_seconds",
            "The p99 of clients' requests in the last window, which background work watches.",
            seconds(pace.p99_ms),
        ),
        Metric::gauge(
            "moim_foreground_quiet_p99_seconds",
            "The same while nothing ran in the background.",
            seconds(pace.quiet_p99_ms),
        ),
        lanes("moim_background_bytes_total", "Bytes that background work was granted.", |lane| {
            lane.bytes
        }),
        lanes("moim_background_grants_total", "Messages that it was granted.", |lane| lane.grants),
        lanes("moim_background_waits_total", "How often it had to wait.", |lane| lane.waits),
    ]
}
