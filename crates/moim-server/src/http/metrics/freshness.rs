//! Names of how stale reads are (REQ-45).

use moim_node::views::{FreshnessView, LAG_BOUNDS_MS};

use super::{Metric, MetricKind, Sample, count};

/// The measured share and age of stale reads.
pub(crate) fn of_freshness(freshness: &FreshnessView) -> Vec<Metric> {
    let FreshnessView { samples, stale, unknown, lag_ms, lags } = *freshness;
    let counter = Metric::counter;
    vec![
        counter(
            "moim_read_staleness_samples_total",
            "Reads looked at again with all owners' copies.",
            samples,
        ),
        counter(
            "moim_read_staleness_stale_total",
            "Of those, reads that missed a version written before they began.",
            stale,
        ),
        counter(
            "moim_read_staleness_unknown_total",
            "Reads looked at again of which it could not be said.",
            unknown,
        ),
        Metric::gauge(
            "moim_read_staleness_ratio",
            "Share of stale reads since the start.",
            if samples == 0 { 0.0 } else { count(stale) / count(samples) },
        ),
        Metric {
            name: "moim_read_staleness_seconds",
            help: "By how much stale reads lagged.",
            kind: MetricKind::Histogram,
            samples: lag_samples(lag_ms, lags),
        },
    ]
}

fn lag_samples(lag_ms: u64, lags: [u64; LAG_BOUNDS_MS.len() + 1]) -> Vec<Sample> {
    let mut below = 0;
    let mut bucket = |lagged: u64, bound: String| {
        below += lagged;
        Sample { suffix: "_bucket", ..Sample::new(count(below)) }.label("le", bound)
    };
    let bounds = LAG_BOUNDS_MS.iter().map(|&ms| (count(ms) / 1e3).to_string());
    let bounds = bounds.chain(std::iter::once("+Inf".to_owned()));
    let mut samples: Vec<_> =
        lags.into_iter().zip(bounds).map(|(lagged, bound)| bucket(lagged, bound)).collect();
    let all = count(lags.iter().sum());
    samples.push(Sample { suffix: "_sum", ..Sample::new(count(lag_ms) / 1e3) });
    samples.push(Sample { suffix: "_count", ..Sample::new(all) });
    samples
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_count_up_and_the_share_is_of_what_is_known() {
        let mut freshness = FreshnessView { samples: 8, stale: 2, ..FreshnessView::default() };
        (freshness.lags[0], freshness.lags[10], freshness.lag_ms) = (1, 1, 400_001);
        let metrics = of_freshness(&freshness);
        let ratio = metrics.iter().find(|metric| metric.name.ends_with("_ratio")).unwrap();
        assert_eq!(ratio.samples[0].value.to_bits(), 0.25_f64.to_bits());
        let values: Vec<_> = metrics[4].samples.iter().map(|sample| sample.value).collect();
        assert_eq!(values[..2], [1.0, 1.0]);
        assert_eq!(values[10..], [2.0, 400.001, 2.0]);
    }
}
