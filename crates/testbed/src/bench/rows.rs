// SPDX-License-Identifier: Apache-2.0
//! A row of the benchmark's table: median, 90 % interval, bound, verdict.

use serde_json::{Value, json};

/// What is promised.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Ratio {
    AtLeast(f64),
    AtMost(f64),
}

/// What came of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// The median meets the bound.
    Met,
    /// The whole interval misses it.
    Short,
    /// The median misses it, part of the interval does not.
    Unclear,
}

pub(super) struct Row {
    name: String,
    unit: &'static str,
    bound: Ratio,
    low: f64,
    median: f64,
    high: f64,
    samples: usize,
    pub(super) verdict: Verdict,
}

impl Row {
    pub(super) fn of_ratios(name: &str, bound: Ratio, ratios: &[f64]) -> Self {
        Self::new(name, "", bound, ratios, 0.5)
    }

    /// A row whose figure is the given quantile of its samples.
    pub(super) fn new(
        name: &str,
        unit: &'static str,
        bound: Ratio,
        samples: &[f64],
        quantile: f64,
    ) -> Self {
        let mut sorted = samples.to_vec();
        sorted.sort_by(f64::total_cmp);
        let (low, high) = (at(&sorted, 0.05), at(&sorted, 0.95));
        let median = at(&sorted, quantile);
        let meets = |value: f64| match bound {
            Ratio::AtLeast(least) => value >= least,
            Ratio::AtMost(most) => value <= most,
        };
        let verdict = if meets(median) {
            Verdict::Met
        } else if meets(low) || meets(high) {
            Verdict::Unclear
        } else {
            Verdict::Short
        };
        Self {
            name: name.to_owned(),
            unit,
            bound,
            low,
            median,
            high,
            samples: samples.len(),
            verdict,
        }
    }

    pub(super) fn to_json(&self) -> Value {
        let (kind, bound) = match self.bound {
            Ratio::AtLeast(bound) => ("at-least", bound),
            Ratio::AtMost(bound) => ("at-most", bound),
        };
        json!({
            "name": self.name, "unit": self.unit, kind: bound, "value": self.median, "low": self.low,
            "high": self.high, "samples": self.samples, "verdict": format!("{:?}", self.verdict).to_lowercase(),
        })
    }
}

impl std::fmt::Display for Row {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let bound = match self.bound {
            Ratio::AtLeast(bound) => format!("≥ {bound}"),
            Ratio::AtMost(bound) => format!("≤ {bound}"),
        };
        let verdict = format!("{:?}", self.verdict).to_lowercase();
        write!(
            f,
            "{:<44} {:>9.3} [{:.3} .. {:.3}] {:<3} {bound:<7} {verdict:<8} {} samples",
            self.name, self.median, self.low, self.high, self.unit, self.samples
        )
    }
}

fn at(sorted: &[f64], quantile: f64) -> f64 {
    let last = sorted.len().saturating_sub(1);
    // A sample that was taken, never a value between two.
    let index = (last as f64 * quantile).round();
    sorted.get(index as usize).copied().unwrap_or(f64::NAN)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_verdict_follows_median_and_interval() {
        let verdict = |samples: &[f64]| Row::of_ratios("x", Ratio::AtLeast(1.0), samples).verdict;
        assert_eq!(verdict(&[0.9, 1.1, 1.2]), Verdict::Met);
        assert_eq!(verdict(&[0.8, 0.9, 1.2]), Verdict::Unclear);
        assert_eq!(verdict(&[0.8, 0.85, 0.9]), Verdict::Short);
        assert_eq!(
            Row::of_ratios("x", Ratio::AtMost(1.0), &[0.9, 0.95, 1.5]).verdict,
            Verdict::Met
        );
    }
}
