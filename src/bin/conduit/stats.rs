//! Percentiles, means and deviations.

/// Counts of times in nanoseconds, in buckets that are at most 1.6 % wide.
#[derive(Clone)]
pub struct Histogram {
    counts: Vec<u64>,
    total: u64,
    least: u64,
    most: u64,
}

/// Buckets to each power of two.
const STEPS: u64 = 64;

impl Histogram {
    pub fn new() -> Self {
        Histogram { counts: vec![0; (bucket(u64::MAX) + 1) as usize], total: 0, least: u64::MAX, most: 0 }
    }

    pub fn add(&mut self, nanoseconds: u64) {
        self.counts[bucket(nanoseconds) as usize] += 1;
        self.total += 1;
        self.least = self.least.min(nanoseconds);
        self.most = self.most.max(nanoseconds);
    }

    pub fn merge(&mut self, other: &Histogram) {
        self.counts.iter_mut().zip(&other.counts).for_each(|(mine, theirs)| *mine += theirs);
        self.total += other.total;
        self.least = self.least.min(other.least);
        self.most = self.most.max(other.most);
    }

    pub fn clear(&mut self) {
        *self = Self::new();
    }

    pub fn count(&self) -> u64 {
        self.total
    }

    pub fn max(&self) -> Option<u64> {
        (self.total > 0).then_some(self.most)
    }

    /// The time that `share` of all times do not exceed: 0.5 is the median.
    pub fn percentile(&self, share: f64) -> Option<u64> {
        let rank = ((self.total as f64 * share).ceil() as u64).max(1);
        let mut seen = 0;
        let at = self.counts.iter().position(|count| {
            seen += count;
            seen >= rank
        })?;
        (self.total > 0).then(|| upper_edge(at as u64).clamp(self.least, self.most))
    }
}

/// The bucket of a value: small ones have one each, larger ones share by their leading bits.
fn bucket(value: u64) -> u64 {
    if value < STEPS {
        return value;
    }
    let shift = 63 - u64::from(value.leading_zeros()) - STEPS.trailing_zeros() as u64;
    (shift << STEPS.trailing_zeros()) + (value >> shift)
}

/// The largest value of a bucket.
fn upper_edge(bucket: u64) -> u64 {
    if bucket < STEPS {
        return bucket;
    }
    let shift = (bucket >> STEPS.trailing_zeros()) - 1;
    let leading = (bucket & (STEPS - 1)) + STEPS;
    ((u128::from(leading + 1) << shift) - 1).min(u64::MAX.into()) as u64
}

/// Mean and standard deviation of values that are not kept.
#[derive(Clone, Copy, Default)]
pub struct Spread {
    count: u64,
    mean: f64,
    squares: f64,
    least: f64,
    most: f64,
}

impl Spread {
    pub fn add(&mut self, value: f64) {
        self.count += 1;
        (self.least, self.most) = match self.count {
            1 => (value, value),
            _ => (self.least.min(value), self.most.max(value)),
        };
        let delta = value - self.mean;
        self.mean += delta / self.count as f64;
        self.squares += delta * (value - self.mean);
    }

    pub fn mean(&self) -> Option<f64> {
        (self.count > 0).then_some(self.mean)
    }

    pub fn deviation(&self) -> Option<f64> {
        (self.count > 1).then(|| (self.squares / self.count as f64).sqrt())
    }

    pub fn min(&self) -> Option<f64> {
        (self.count > 0).then_some(self.least)
    }

    pub fn max(&self) -> Option<f64> {
        (self.count > 0).then_some(self.most)
    }
}

/// The value that `share` of sorted values do not exceed.
pub fn percentile(sorted: &[u64], share: f64) -> Option<u64> {
    let rank = ((sorted.len() as f64 * share).ceil() as usize).max(1);
    sorted.get(rank - 1).copied()
}

/// The median of some values.
pub fn median(values: &[f64]) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_unstable_by(f64::total_cmp);
    let half = sorted.len() / 2;
    match sorted.len() {
        0 => None,
        n if n % 2 == 1 => Some(sorted[half]),
        _ => Some((sorted[half - 1] + sorted[half]) / 2.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_percentile_is_at_most_a_bucket_above_the_exact_one() {
        let mut histogram = Histogram::new();
        let mut values: Vec<u64> = (0..10_000).map(|at| at * at * 37 + at % 7).collect();
        values.iter().for_each(|&value| histogram.add(value));
        values.sort_unstable();
        for share in [0.0, 0.01, 0.5, 0.9, 0.99, 0.999, 1.0] {
            let exact = percentile(&values, share).unwrap();
            let found = histogram.percentile(share).unwrap();
            assert!(found >= exact && found as f64 <= exact as f64 * 1.016 + 1.0, "{share}: {found}, exactly {exact}");
        }
        assert_eq!(histogram.max(), values.last().copied());
    }

    #[test]
    fn every_value_has_a_bucket_whose_edge_is_not_below_it() {
        for value in (0..64).flat_map(|bit| [0, 1, 2].map(|off| (1u64 << bit).wrapping_add(off))).chain([u64::MAX]) {
            assert!(upper_edge(bucket(value)) >= value, "{value}");
            assert_eq!(bucket(upper_edge(bucket(value))), bucket(value), "{value}");
        }
    }

    #[test]
    fn nothing_has_no_percentile() {
        assert_eq!(Histogram::new().percentile(0.5), None);
        assert_eq!((percentile(&[], 0.5), median(&[])), (None, None));
        let spread = Spread::default();
        assert_eq!((spread.mean(), spread.deviation(), spread.min(), spread.max()), (None, None, None, None));
    }

    #[test]
    fn a_spread_is_that_of_its_values() {
        let mut spread = Spread::default();
        [2.0, 4.0, 4.0, 4.0, 5.0, 5.0, 7.0, 9.0].into_iter().for_each(|value| spread.add(value));
        assert_eq!((spread.mean(), spread.deviation()), (Some(5.0), Some(2.0)));
        assert_eq!((spread.min(), spread.max()), (Some(2.0), Some(9.0)));
    }
}
