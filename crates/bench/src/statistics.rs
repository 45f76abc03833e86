// SPDX-License-Identifier: Apache-2.0
//! Medians, percentiles, and the 90 % interval of a median from order statistics.

/// Value below which `share` (0 to 1) of the sorted values lie; the nearest rank. 0 without values.
pub(crate) fn percentile(sorted: &[f64], share: f64) -> f64 {
    if sorted.is_empty() {
        return 0.0;
    }
    let rank = (share * sorted.len() as f64).ceil().max(1.0) as usize;
    sorted[rank.min(sorted.len()) - 1]
}

/// Sorted copy.
pub(crate) fn sorted(values: &[f64]) -> Vec<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted
}

/// The median: of an even number of values, the mean of the middle two.
pub(crate) fn median(values: &[f64]) -> f64 {
    let sorted = sorted(values);
    let middle = sorted.len() / 2;
    match sorted.len() {
        0 => 0.0,
        length if length % 2 == 0 => f64::midpoint(sorted[middle - 1], sorted[middle]),
        _ => sorted[middle],
    }
}

/// Values between which the median lies with at least 90 %: the k-th smallest and k-th largest, by the
/// binomial distribution. The whole range if there are too few values.
pub(crate) fn median_interval(values: &[f64]) -> (f64, f64) {
    let sorted = sorted(values);
    let n = sorted.len();
    if n == 0 {
        return (0.0, 0.0);
    }
    // Probability of at most `cut` heads of n tosses, kept below 5 % on each side.
    let mut term = 0.5f64.powi(i32::try_from(n).unwrap_or(i32::MAX));
    let (mut below, mut cut) = (term, 0);
    while below <= 0.05 && cut < n / 2 {
        term *= (n - cut) as f64 / (cut + 1) as f64;
        below += term;
        cut += 1;
    }
    let skip = cut.saturating_sub(1);
    (sorted[skip], sorted[n - 1 - skip])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_values_that_occurred() {
        let values = sorted(&[5.0, 1.0, 4.0, 2.0, 3.0]);
        assert_eq!(percentile(&values, 0.5), 3.0);
        assert_eq!(percentile(&values, 0.99), 5.0);
        assert_eq!(percentile(&[], 0.5), 0.0);
        assert_eq!(median(&[1.0, 2.0, 4.0, 3.0]), 2.5);
    }

    #[test]
    fn the_interval_follows_the_binomial_table() {
        // Of 30 values the 11th smallest and largest hold 90 %; of 5 the range (94 %).
        let thirty: Vec<f64> = (1..=30).map(f64::from).collect();
        assert_eq!(median_interval(&thirty), (11.0, 20.0));
        let five: Vec<f64> = (1..=5).map(f64::from).collect();
        assert_eq!(median_interval(&five), (1.0, 5.0));
        assert_eq!(median_interval(&[7.0]), (7.0, 7.0));
    }
}
