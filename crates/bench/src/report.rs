// SPDX-License-Identifier: Apache-2.0
//! The table on the terminal and the file for machines.

use std::path::Path;

use serde_json::{Value, json};

use crate::error::{Doing, Result};
use crate::judge::{Bound, Figure};

/// What a row gave.
pub(crate) struct Outcome {
    /// Its name on the command line.
    pub(crate) row: &'static str,
    /// Its figures, or why there are none.
    pub(crate) figures: std::result::Result<Vec<Figure>, String>,
    /// Seconds that it took.
    pub(crate) seconds: f64,
}

/// Prints one row's lines.
pub(crate) fn print(outcome: &Outcome) {
    match &outcome.figures {
        Err(reason) => println!("{:<10} FAILED: {reason}", outcome.row),
        Ok(figures) => figures.iter().for_each(|figure| line(outcome.row, figure)),
    }
}

fn line(row: &str, figure: &Figure) {
    let (low, high) = figure.interval;
    let spread = if low == high {
        String::new()
    } else {
        format!("[{} {}]", short(low), short(high))
    };
    println!(
        "{row:<10} {:<52} {:<20} {:>8} {:>8} {spread:<17} {:>3} {:<5} {}",
        figure.what,
        figure.against,
        figure.bound.to_string(),
        short(figure.value),
        figure.rounds,
        figure.verdict.to_string(),
        figure.note
    );
}

/// Three significant digits.
pub(crate) fn short(value: f64) -> String {
    match value.abs() {
        size if size >= 100.0 || value == value.trunc() => format!("{value:.0}"),
        size if size >= 10.0 => format!("{value:.1}"),
        _ => format!("{value:.3}"),
    }
}

/// Writes all rows as JSON.
pub(crate) fn write(path: &Path, outcomes: &[Outcome]) -> Result<()> {
    let rows: Vec<Value> = outcomes.iter().map(row).collect();
    let text = serde_json::to_string_pretty(&json!({ "rows": rows })).expect("plain values");
    if let Some(directory) = path.parent() {
        std::fs::create_dir_all(directory).doing(format!("create {}", directory.display()))?;
    }
    std::fs::write(path, text + "\n").doing(format!("write {}", path.display()))
}

fn row(outcome: &Outcome) -> Value {
    let name = outcome.row;
    match &outcome.figures {
        Err(reason) => json!({ "row": name, "seconds": outcome.seconds, "failed": reason }),
        Ok(figures) => {
            let figures: Vec<Value> = figures.iter().map(figure_value).collect();
            json!({ "row": name, "seconds": outcome.seconds, "figures": figures })
        }
    }
}

fn figure_value(figure: &Figure) -> Value {
    let (kind, bound) = match figure.bound {
        Bound::AtLeast(bound) => ("at least", bound),
        Bound::AtMost(bound) => ("at most", bound),
    };
    json!({
        "what": figure.what, "against": figure.against, "must": kind, "bound": bound,
        "value": figure.value, "low": figure.interval.0, "high": figure.interval.1,
        "rounds": figure.rounds, "verdict": figure.verdict.to_string(), "note": figure.note,
    })
}
