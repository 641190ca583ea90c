//! Medians, percentiles and trimmed means.

/// What a cell reports about the times it took: all in the unit of the samples.
pub struct Summary {
    pub p50: f64,
    pub p99: f64,
    /// The mean without the slowest hundredth, which on a shared machine is stolen time.
    pub mean: f64,
}

pub fn summary(samples: &mut [f64]) -> Option<Summary> {
    if samples.is_empty() {
        return None;
    }
    samples.sort_unstable_by(f64::total_cmp);
    let kept = (samples.len() * 99).div_ceil(100);
    Some(Summary {
        p50: grouped_median(samples),
        p99: samples[kept.min(samples.len() - 1)],
        mean: samples[..kept].iter().sum::<f64>() / kept as f64,
    })
}

/// The median of sorted samples that a coarse clock has rounded. A counter that steps by 10 ns would
/// otherwise turn 74 ns and 76 ns into the same figure, or into figures 10 ns apart: so the median is
/// placed within its step by how many samples lie below the step and how many on it.
fn grouped_median(sorted: &[f64]) -> f64 {
    let middle = sorted[sorted.len() / 2];
    let below = sorted.partition_point(|&x| x < middle);
    let above = sorted.partition_point(|&x| x <= middle);
    let edge = |neighbour: Option<&f64>| neighbour.map_or(middle, |&x| (x + middle) / 2.0);
    let (low, high) = (edge(below.checked_sub(1).map(|i| &sorted[i])), edge(sorted.get(above)));
    let share = (sorted.len() as f64 / 2.0 - below as f64) / (above - below) as f64;
    low + (high - low) * share
}

/// The median of values from different rounds; 0 rounds have none.
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
