// SPDX-License-Identifier: Apache-2.0
//! Rows of the table: a bound, what was measured, and the verdict.

use std::fmt;

use crate::error::Result;
use crate::statistics::{median, median_interval};

/// What a figure must hold.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Bound {
    /// At least.
    AtLeast(f64),
    /// At most.
    AtMost(f64),
}

impl Bound {
    fn holds(self, value: f64) -> bool {
        match self {
            Self::AtLeast(bound) => value >= bound,
            Self::AtMost(bound) => value <= bound,
        }
    }
}

impl fmt::Display for Bound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AtLeast(bound) => write!(f, "≥ {bound}"),
            Self::AtMost(bound) => write!(f, "≤ {bound}"),
        }
    }
}

/// How a figure stands against its bound.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It holds.
    Met,
    /// It does not hold.
    Short,
    /// The median misses it, the interval does not, and the rounds are used up.
    Open,
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Met => "met",
            Self::Short => "short",
            Self::Open => "open",
        })
    }
}

/// One line of the table.
#[derive(Debug, Clone)]
pub(crate) struct Figure {
    /// What was measured.
    pub(crate) what: String,
    /// Against what in the same run, or the unit.
    pub(crate) against: String,
    /// What it must hold.
    pub(crate) bound: Bound,
    /// The figure.
    pub(crate) value: f64,
    /// 90 % interval.
    pub(crate) interval: (f64, f64),
    /// How many rounds or samples.
    pub(crate) rounds: usize,
    /// Absolute values and other remarks.
    pub(crate) note: String,
    /// The verdict.
    pub(crate) verdict: Verdict,
}

impl Figure {
    /// A figure that is what it is: a count, a percentile, a time.
    pub(crate) fn plain(what: &str, unit: &str, bound: Bound, value: f64, rounds: usize) -> Self {
        let verdict = if bound.holds(value) {
            Verdict::Met
        } else {
            Verdict::Short
        };
        Self {
            what: what.to_owned(),
            against: unit.to_owned(),
            bound,
            value,
            interval: (value, value),
            rounds,
            note: String::new(),
            verdict,
        }
    }

    /// The median of samples against a bound.
    pub(crate) fn of_median(what: &str, unit: &str, bound: Bound, samples: &[f64]) -> Self {
        let mut figure = Self::plain(what, unit, bound, median(samples), samples.len());
        figure.interval = median_interval(samples);
        if figure.verdict == Verdict::Short
            && (bound.holds(figure.interval.0) || bound.holds(figure.interval.1))
        {
            figure.verdict = Verdict::Open;
        }
        figure
    }

    /// The same with a remark.
    pub(crate) fn noted(mut self, note: impl Into<String>) -> Self {
        self.note = note.into();
        self
    }
}

/// How many rounds are run.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Rounds {
    /// Before the first look.
    pub(crate) least: usize,
    /// At most.
    pub(crate) most: usize,
}

/// A row of ratios: `sides` names the baselines and their bounds, `round` measures ours first, then each
/// baseline, adjacent in time. `higher` values of `unit` are printed; the ratio is ours to the baseline.
pub(crate) fn ratios(
    what: &str,
    sides: &[(&str, Bound)],
    unit: &str,
    rounds: Rounds,
    mut round: impl FnMut(usize) -> Result<Vec<f64>>,
) -> Result<Vec<Figure>> {
    let mut values: Vec<Vec<f64>> = vec![Vec::new(); sides.len() + 1];
    loop {
        let number = values[0].len();
        for (kept, value) in values.iter_mut().zip(round(number)?) {
            kept.push(value);
        }
        let figures: Vec<_> = sides
            .iter()
            .zip(&values[1..])
            .map(|((against, bound), theirs)| {
                ratio(what, against, *bound, unit, &values[0], theirs)
            })
            .collect();
        let decided = figures.iter().all(|figure| figure.verdict != Verdict::Open);
        let done = values[0].len();
        if (done >= rounds.least && decided) || done >= rounds.most {
            return Ok(figures);
        }
    }
}

fn ratio(
    what: &str,
    against: &str,
    bound: Bound,
    unit: &str,
    ours: &[f64],
    theirs: &[f64],
) -> Figure {
    let ratios: Vec<f64> = ours.iter().zip(theirs).map(|(a, b)| a / b).collect();
    let note = format!("{:.4} / {:.4} {unit}", median(ours), median(theirs));
    Figure::of_median(what, against, bound, &ratios).noted(note)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(value: impl Fn(usize) -> f64) -> Figure {
        let rounds = Rounds { least: 5, most: 30 };
        let sides = [("a wall", Bound::AtLeast(1.0))];
        ratios("x", &sides, "u", rounds, |n| Ok(vec![value(n), 1.0]))
            .expect("measured")
            .remove(0)
    }

    #[test]
    fn clear_rows_end_early_and_unclear_ones_go_on() {
        let met = run(|_| 1.1);
        assert_eq!((met.verdict, met.rounds), (Verdict::Met, 5));
        let short = run(|_| 0.9);
        assert_eq!((short.verdict, short.rounds), (Verdict::Short, 5));
        let open = run(|n| if n % 5 == 0 { 1.2 } else { 0.99 });
        assert_eq!((open.verdict, open.rounds > 5), (Verdict::Short, true));
    }
}
