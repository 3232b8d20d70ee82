//! Names of what background work was granted.

use moim_node::pace::{LaneView, PaceView, REASONS};

use super::{Metric, MetricKind, Sample, count};

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
