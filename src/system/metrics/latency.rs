//! A histogram of durations whose updates are two atomic additions.
//!
//! The histogram of `prometheus-client` takes a lock for each observation, which the path of images
//! in memory can't afford.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use prometheus_client::encoding::{EncodeMetric, MetricEncoder, NoLabelSet};
use prometheus_client::metrics::exemplar::Exemplar;
use prometheus_client::metrics::{MetricType, TypedMetric};

/// The upper bounds of the buckets in microseconds, and as Prometheus writes them in seconds. They
/// reach from an image in memory to a settlement that never ends.
const BOUNDS: [(u64, f64); 14] = [
    (100, 0.0001),
    (500, 0.0005),
    (1_000, 0.001),
    (5_000, 0.005),
    (10_000, 0.01),
    (25_000, 0.025),
    (50_000, 0.05),
    (100_000, 0.1),
    (250_000, 0.25),
    (500_000, 0.5),
    (1_000_000, 1.0),
    (2_500_000, 2.5),
    (10_000_000, 10.0),
    (30_000_000, 30.0),
];

/// A histogram of durations.
#[derive(Debug, Default)]
#[repr(align(128))]
pub struct Latency {
    buckets: [AtomicU64; BOUNDS.len()],
    above: AtomicU64,
    sum_us: AtomicU64,
}

impl Latency {
    /// Counts a duration.
    pub fn observe(&self, took: Duration) {
        let took = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        let bounds = BOUNDS.iter().zip(&self.buckets);
        let bucket = bounds
            .into_iter()
            .find_map(|((bound, _), bucket)| (took <= *bound).then_some(bucket));
        bucket
            .unwrap_or(&self.above)
            .fetch_add(1, Ordering::Relaxed);
        self.sum_us.fetch_add(took, Ordering::Relaxed);
    }
}

impl super::sharded::Sum for Latency {
    fn add(&mut self, other: &Self) {
        let own = self
            .buckets
            .iter_mut()
            .chain([&mut self.above, &mut self.sum_us]);
        let others = other.buckets.iter().chain([&other.above, &other.sum_us]);
        for (own, other) in own.zip(others) {
            *own.get_mut() += other.load(Ordering::Relaxed);
        }
    }
}

impl EncodeMetric for Latency {
    fn encode(&self, mut encoder: MetricEncoder<'_>) -> Result<(), std::fmt::Error> {
        let bounds = BOUNDS.iter().map(|(_, seconds)| *seconds);
        let counts = self.buckets.iter().chain([&self.above]);
        let buckets: Vec<(f64, u64)> = bounds
            .chain([f64::INFINITY])
            .zip(counts.map(|count| count.load(Ordering::Relaxed)))
            .collect();
        let count = buckets.iter().map(|(_, count)| count).sum();
        let sum = Duration::from_micros(self.sum_us.load(Ordering::Relaxed));
        let exemplars: Option<&HashMap<usize, Exemplar<NoLabelSet, f64>>> = None;
        encoder.encode_histogram(sum.as_secs_f64(), count, &buckets, exemplars)
    }

    fn metric_type(&self) -> MetricType {
        Self::TYPE
    }
}

impl TypedMetric for Latency {
    const TYPE: MetricType = MetricType::Histogram;
}
