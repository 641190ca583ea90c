//! How long things take: counts by duration, in buckets whose width grows with the duration.

use std::sync::atomic::{AtomicU64, Ordering};

/// Buckets per power of two: what tells how exact it is.
const LINEAR: usize = 8;
const LINEAR_BITS: u32 = LINEAR.trailing_zeros();
/// Durations of this many bits have buckets of their own, 18 minutes; longer ones share the last.
const BITS: u32 = 40;
const BUCKETS: usize = (BITS - LINEAR_BITS + 1) as usize * LINEAR;

/// A histogram of durations in nanoseconds. It has a bucket for each of the first 8, and then 8 for each power of two up to
/// 2^40 (18 minutes), so that a quantile is never less than the truth, and never more than 12.5 % above it. 2.4 KiB, whatever
/// it is told.
///
/// One thread at a time records, any number of threads look: recording is a few loads and stores, without the locked
/// instruction that several writers need, and so two that record at once lose counts.
///
/// ```
/// use conduit::engine::Histogram;
///
/// let latency = Histogram::new();
/// latency.record(250);
/// latency.record_n(1_000, 98);
/// latency.record(40_000);
///
/// let seen = latency.snapshot();
/// assert_eq!((seen.count(), seen.sum(), seen.max()), (100, 138_250, 40_000));
/// assert!((1_000..=1_125).contains(&seen.quantile(0.5)));
/// assert_eq!(seen.quantile(1.0), 40_000);
/// assert_eq!(seen.cumulative(&[500, 10_000]).collect::<Vec<_>>(), [1, 99]);
/// ```
#[derive(Debug)]
pub struct Histogram {
    /// How many durations fell into each bucket. Written by the recording thread alone, read by any. Relaxed, as are the two
    /// below: each is a number of its own, and a snapshot taken meanwhile may have one of them from before.
    buckets: [AtomicU64; BUCKETS],
    /// All durations together, in nanoseconds; `u64::MAX` once it is that much. Written by the recording thread alone.
    sum: AtomicU64,
    /// The longest duration. Written by the recording thread alone.
    max: AtomicU64,
}

impl Histogram {
    /// Nothing recorded.
    pub const fn new() -> Self {
        Histogram { buckets: [const { AtomicU64::new(0) }; BUCKETS], sum: AtomicU64::new(0), max: AtomicU64::new(0) }
    }

    /// Something took this many nanoseconds.
    #[inline]
    pub fn record(&self, nanoseconds: u64) {
        self.record_n(nanoseconds, 1);
    }

    /// Each of `count` took this many nanoseconds.
    #[inline]
    pub fn record_n(&self, nanoseconds: u64, count: u64) {
        if count == 0 {
            return;
        }
        let bucket = &self.buckets[bucket_of(nanoseconds)];
        bucket.store(bucket.load(Ordering::Relaxed).wrapping_add(count), Ordering::Relaxed);
        let sum = self.sum.load(Ordering::Relaxed).saturating_add(nanoseconds.saturating_mul(count));
        self.sum.store(sum, Ordering::Relaxed);
        if nanoseconds > self.max.load(Ordering::Relaxed) {
            self.max.store(nanoseconds, Ordering::Relaxed);
        }
    }

    /// What was recorded so far.
    pub fn snapshot(&self) -> Snapshot {
        let mut buckets = [0; BUCKETS];
        for (to, from) in buckets.iter_mut().zip(&self.buckets) {
            *to = from.load(Ordering::Relaxed);
        }
        // What is in a bucket has been recorded, whether or not it is in `max` yet.
        let highest = buckets.iter().rposition(|&count| count > 0).map_or(0, lowest_of);
        Snapshot {
            count: buckets.iter().fold(0, |sum: u64, &count| sum.wrapping_add(count)),
            buckets: Box::new(buckets),
            sum: self.sum.load(Ordering::Relaxed),
            max: self.max.load(Ordering::Relaxed).max(highest),
        }
    }
}

impl Default for Histogram {
    fn default() -> Self {
        Self::new()
    }
}

/// What a [`Histogram`] had recorded, or several together.
///
/// ```
/// use conduit::engine::{Histogram, Snapshot};
///
/// let workers = [Histogram::new(), Histogram::new()];
/// workers[0].record(100);
/// workers[1].record(5_000);
/// let all = workers.iter().fold(Snapshot::default(), |all, worker| all.and(&worker.snapshot()));
/// assert_eq!((all.count(), all.max()), (2, 5_000));
/// ```
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Snapshot {
    buckets: Box<[u64; BUCKETS]>,
    count: u64,
    sum: u64,
    max: u64,
}

impl Default for Snapshot {
    /// Of nothing.
    fn default() -> Self {
        Snapshot { buckets: Box::new([0; BUCKETS]), count: 0, sum: 0, max: 0 }
    }
}

impl Snapshot {
    /// How many durations there are.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// All of them together, in nanoseconds; `u64::MAX` for that and more.
    pub fn sum(&self) -> u64 {
        self.sum
    }

    /// The longest; 0 if there is none.
    pub fn max(&self) -> u64 {
        self.max
    }

    /// A duration that at least this share of them, from 0 to 1, does not exceed: 0.5 for the median, 0.99 for what one of a
    /// hundred exceeds. Never less than what exact counting would give, and never more than 12.5 % above it. 0 if there is
    /// none; above 2^40 ns it is the longest.
    pub fn quantile(&self, share: f64) -> u64 {
        let rank = ((share.clamp(0.0, 1.0) * self.count as f64).ceil() as u64).clamp(1, self.count.max(1));
        let mut seen: u64 = 0;
        for (bucket, count) in self.buckets.iter().enumerate() {
            seen = seen.saturating_add(*count);
            if seen >= rank {
                return highest_of(bucket).min(self.max);
            }
        }
        self.max
    }

    /// How many lasted no longer than each of `bounds`, which are in nanoseconds and rise: the buckets of a Prometheus
    /// histogram. A bound within a bucket counts as the end of the one before, at most 12.5 % below.
    pub fn cumulative<'a>(&'a self, bounds: &'a [u64]) -> impl Iterator<Item = u64> + 'a {
        let (mut bucket, mut count) = (0, 0_u64);
        bounds.iter().map(move |&bound| {
            while bucket < BUCKETS && highest_of(bucket) <= bound {
                count = count.saturating_add(self.buckets[bucket]);
                bucket += 1;
            }
            count
        })
    }

    /// Both together.
    #[must_use]
    pub fn and(mut self, other: &Snapshot) -> Snapshot {
        for (into, from) in self.buckets.iter_mut().zip(other.buckets.iter()) {
            *into = into.saturating_add(*from);
        }
        self.count = self.count.saturating_add(other.count);
        self.sum = self.sum.saturating_add(other.sum);
        self.max = self.max.max(other.max);
        self
    }
}

#[inline]
fn bucket_of(nanoseconds: u64) -> usize {
    let nanoseconds = nanoseconds.min((1 << BITS) - 1);
    // The lowest three bits below the highest one say which of the eight; `| LINEAR` makes the first eight one power of two.
    let shift = (nanoseconds | LINEAR as u64).ilog2() - LINEAR_BITS;
    shift as usize * LINEAR + (nanoseconds >> shift) as usize
}

/// The shortest duration of a bucket.
fn lowest_of(bucket: usize) -> u64 {
    let shift = (bucket / LINEAR).saturating_sub(1);
    ((bucket - shift * LINEAR) as u64) << shift
}

/// The longest one.
fn highest_of(bucket: usize) -> u64 {
    if bucket + 1 == BUCKETS { u64::MAX } else { lowest_of(bucket + 1) - 1 }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Of every order of magnitude, and the edges of buckets more often than not.
    fn duration() -> impl Strategy<Value = u64> {
        (0..BITS, any::<u64>()).prop_map(|(bits, random)| random & ((1 << bits) - 1)).boxed().prop_union(
            (0..BITS, 0..=2_u64)
                .prop_map(|(bits, near)| ((1 << bits) + near).saturating_sub(1).min((1 << BITS) - 1))
                .boxed(),
        )
    }

    fn recorded(durations: &[u64]) -> Snapshot {
        let histogram = Histogram::new();
        durations.iter().for_each(|&duration| histogram.record(duration));
        histogram.snapshot()
    }

    #[test]
    fn buckets_follow_each_other_without_a_gap_and_hold_what_they_say() {
        assert_eq!((lowest_of(0), BUCKETS), (0, 304));
        for bucket in 0..BUCKETS {
            assert_eq!(bucket_of(lowest_of(bucket)), bucket);
            assert_eq!(bucket_of(highest_of(bucket)), bucket);
            let width = highest_of(bucket).min((1 << BITS) - 1) - lowest_of(bucket);
            assert!(width * 8 <= lowest_of(bucket), "{bucket} is {width} wide at {}", lowest_of(bucket));
        }
    }

    #[test]
    fn what_takes_longer_than_the_last_bucket_says_is_counted_in_it() {
        let seen = recorded(&[1 << 40, u64::MAX, 5]);
        assert_eq!((seen.count(), seen.quantile(0.5), seen.max(), seen.sum()), (3, u64::MAX, u64::MAX, u64::MAX));
        assert_eq!(seen.cumulative(&[5, 1 << 39, u64::MAX]).collect::<Vec<_>>(), [1, 1, 3]);
    }

    #[test]
    fn an_empty_one_answers_zero() {
        let seen = Histogram::new().snapshot();
        assert_eq!(seen, Snapshot::default());
        assert_eq!((seen.quantile(0.5), seen.quantile(f64::NAN), seen.max(), seen.count()), (0, 0, 0, 0));
        assert_eq!(seen.cumulative(&[1, u64::MAX]).collect::<Vec<_>>(), [0, 0]);
    }

    #[test]
    fn several_at_once_are_as_good_as_one_after_the_other() {
        let histogram = Histogram::new();
        histogram.record_n(77, 3);
        histogram.record_n(1_000_000, 0);
        assert_eq!(histogram.snapshot(), recorded(&[77, 77, 77]));
    }

    proptest! {
        #[test]
        fn a_quantile_is_never_below_the_truth_nor_an_eighth_above_it(
            mut durations in proptest::collection::vec(duration(), 1..400),
            shares in proptest::collection::vec(0.0..=1.0_f64, 1..20),
        ) {
            let seen = recorded(&durations);
            durations.sort_unstable();
            for share in shares.into_iter().chain([0.0, 0.5, 0.99, 1.0]) {
                let rank = ((share * durations.len() as f64).ceil() as usize).max(1);
                let (truth, found) = (durations[rank - 1], seen.quantile(share));
                prop_assert!(found >= truth, "{} below {} at {}", found, truth, share);
                prop_assert!((found - truth) * 8 <= truth, "{} above {} at {}", found, truth, share);
            }
            prop_assert_eq!(seen.max(), durations[durations.len() - 1]);
            prop_assert_eq!(seen.sum(), durations.iter().sum::<u64>());
        }

        #[test]
        fn parts_together_are_the_whole(
            one in proptest::collection::vec(duration(), 0..50),
            other in proptest::collection::vec(duration(), 0..50),
        ) {
            prop_assert_eq!(recorded(&one).and(&recorded(&other)), recorded(&[one, other].concat()));
        }

        #[test]
        fn counts_up_to_a_bound_rise_and_leave_out_no_more_than_an_eighth_below_it(
            durations in proptest::collection::vec(duration(), 0..200),
            mut bounds in proptest::collection::vec(duration(), 1..10),
        ) {
            bounds.sort_unstable();
            let seen = recorded(&durations);
            let counts = seen.cumulative(&bounds).collect::<Vec<_>>();
            prop_assert!(counts.is_sorted());
            for (&bound, count) in bounds.iter().zip(counts) {
                let up_to = |bound| durations.iter().filter(|&&duration| duration <= bound).count() as u64;
                prop_assert!(count <= up_to(bound));
                prop_assert!(count >= up_to(bound - bound.div_ceil(8)) || bound == 0, "{} at {}", count, bound);
            }
        }
    }
}
