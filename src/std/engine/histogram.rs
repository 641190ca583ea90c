//! Latencies, counted in a fixed amount of memory.
use std::sync::atomic::{AtomicU64, Ordering};

/// TEMPORARY
#[derive(Debug, Default)]
pub struct Histogram {
    count: AtomicU64,
    max: AtomicU64,
}
impl Histogram {
    /// x
    pub fn record_n(&self, ns: u64, n: u64) {
        self.count.store(self.count.load(Ordering::Relaxed) + n, Ordering::Relaxed);
        self.max.fetch_max(ns, Ordering::Relaxed);
    }
    /// x
    pub fn snapshot(&self) -> Snapshot {
        Snapshot::default()
    }
}
/// x
#[derive(Clone, Debug, Default)]
pub struct Snapshot;
impl Snapshot {
    /// x
    pub fn merge(&mut self, _: &Snapshot) {}
}
