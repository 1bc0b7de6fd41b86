//! A family of metrics whose series may have several shards, which are summed when they are read.
//!
//! A worker that counts very often has shards of its own, so that it shares no cache line with
//! other workers.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use prometheus_client::encoding::{EncodeLabelSet, EncodeMetric, MetricEncoder, NoLabelSet};
use prometheus_client::metrics::exemplar::Exemplar;
use prometheus_client::metrics::{MetricType, TypedMetric};

/// A metric whose shards can be summed.
pub(super) trait Sum: Default {
    /// Adds what another shard has counted.
    fn add(&mut self, other: &Self);
}

/// A counter, alone on its cache lines.
#[derive(Debug, Default)]
#[repr(align(128))]
pub struct Count(AtomicU64);

impl Count {
    /// Counts one.
    pub fn increase(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

impl Sum for Count {
    fn add(&mut self, other: &Self) {
        *self.0.get_mut() += other.0.load(Ordering::Relaxed);
    }
}

impl EncodeMetric for Count {
    fn encode(&self, mut encoder: MetricEncoder<'_>) -> Result<(), std::fmt::Error> {
        let exemplar: Option<&Exemplar<NoLabelSet, u64>> = None;
        encoder.encode_counter(&self.0.load(Ordering::Relaxed), exemplar)
    }

    fn metric_type(&self) -> MetricType {
        Self::TYPE
    }
}

impl TypedMetric for Count {
    const TYPE: MetricType = MetricType::Counter;
}

/// The shards of each series.
type Series<S, M> = HashMap<S, Vec<Arc<M>>>;

/// A family of sharded metrics.
#[derive(Debug)]
pub(super) struct Sharded<S, M>(Arc<RwLock<Series<S, M>>>);

impl<S, M> Default for Sharded<S, M> {
    fn default() -> Self {
        Self(Arc::default())
    }
}

impl<S, M> Clone for Sharded<S, M> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<S: Clone + Eq + Hash, M: Default> Sharded<S, M> {
    /// The shard of a series that everybody shares.
    pub(super) fn shared(&self, labels: &S) -> Arc<M> {
        let known = self.0.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(shard) = known.get(labels).and_then(|shards| shards.first()) {
            return Arc::clone(shard);
        }
        drop(known);
        let mut series = self.0.write().unwrap_or_else(PoisonError::into_inner);
        let shards = series.entry(labels.clone()).or_default();
        if let Some(shard) = shards.first() {
            return Arc::clone(shard);
        }
        let shard = Arc::new(M::default());
        shards.push(Arc::clone(&shard));
        shard
    }

    /// A new shard of a series. It is never removed, so a worker asks for it once.
    pub(super) fn own(&self, labels: &S) -> Arc<M> {
        let shard = Arc::new(M::default());
        let mut series = self.0.write().unwrap_or_else(PoisonError::into_inner);
        let shards = series.entry(labels.clone()).or_default();
        shards.push(Arc::clone(&shard));
        shard
    }
}

impl<S, M> EncodeMetric for Sharded<S, M>
where
    S: Clone + Eq + Hash + EncodeLabelSet,
    M: Sum + EncodeMetric + TypedMetric,
{
    fn encode(&self, mut encoder: MetricEncoder<'_>) -> Result<(), std::fmt::Error> {
        let series = self.0.read().unwrap_or_else(PoisonError::into_inner);
        for (labels, shards) in series.iter() {
            let mut sum = M::default();
            for shard in shards {
                sum.add(shard);
            }
            sum.encode(encoder.encode_family(labels)?)?;
        }
        Ok(())
    }

    fn metric_type(&self) -> MetricType {
        M::TYPE
    }

    fn is_empty(&self) -> bool {
        let series = self.0.read().unwrap_or_else(PoisonError::into_inner);
        series.is_empty()
    }
}
