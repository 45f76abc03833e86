// SPDX-License-Identifier: Apache-2.0
//! The demo's running commentary and its closing table: a spinner on a terminal, plain lines otherwise.

use std::io::{IsTerminal, stdout};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

use crate::error::Result;

/// What was promised, what was seen.
struct Row {
    step: u8,
    expectation: String,
    observed: String,
    time: Duration,
    held: bool,
}

/// Collects the rows of the demo.
pub(super) struct Report {
    rows: Vec<Row>,
    spinner: Option<ProgressBar>,
    started: Instant,
}

impl Report {
    pub(super) fn new() -> Self {
        let spinner = stdout().is_terminal().then(|| {
            let style = ProgressStyle::with_template("{spinner:.cyan} {msg} {elapsed:.dim}")
                .expect("a literal");
            let spinner = ProgressBar::new_spinner().with_style(style);
            spinner.enable_steady_tick(Duration::from_millis(80));
            spinner
        });
        Self {
            rows: Vec::new(),
            spinner,
            started: Instant::now(),
        }
    }

    /// Says that a new step of the demo begins.
    pub(super) fn heading(&self, step: u8, text: &str) {
        self.line(&format!("\n{step}. {text}"));
    }

    /// Prints a text of several lines, indented.
    pub(super) fn show(&self, text: &str) {
        for line in text.trim_end().lines() {
            self.line(&format!("     {line}"));
        }
    }

    /// Runs one part of a step. Its text is what was observed; its error is what did not hold. Returns
    /// true if it held.
    pub(super) fn check(
        &mut self,
        step: u8,
        expectation: impl Into<String>,
        part: impl FnOnce() -> Result<String>,
    ) -> bool {
        let expectation = expectation.into();
        if let Some(spinner) = &self.spinner {
            spinner.reset_elapsed();
            spinner.set_message(expectation.clone());
        }
        let started = Instant::now();
        let result = part();
        let time = started.elapsed();
        let held = result.is_ok();
        let observed = result.unwrap_or_else(|error| error.to_string());
        let (mark, time_text) = (mark(held), seconds(time));
        let first = observed.lines().next().unwrap_or_default();
        self.line(&format!("   {mark} {expectation}: {first} ({time_text})"));
        if !held {
            self.show(&observed.lines().skip(1).collect::<Vec<_>>().join("\n"));
        }
        self.rows.push(Row {
            step,
            expectation,
            observed,
            time,
            held,
        });
        held
    }

    /// The table and the total; true if every row held.
    pub(super) fn finish(self) -> bool {
        if let Some(spinner) = &self.spinner {
            spinner.finish_and_clear();
        }
        let width = |text: &str| text.chars().count();
        let expected = self
            .rows
            .iter()
            .map(|row| width(&row.expectation))
            .max()
            .unwrap_or_default();
        let observed = self
            .rows
            .iter()
            .map(|row| width(&short(&row.observed)))
            .max()
            .unwrap_or_default();
        println!(
            "\n  Step  {:expected$}  {:observed$}  Time",
            "Expectation", "Observed"
        );
        for row in &self.rows {
            let (mark, time) = (mark(row.held), seconds(row.time));
            println!(
                "{mark} {:<4}  {:expected$}  {:observed$}  {time}",
                row.step,
                row.expectation,
                short(&row.observed)
            );
        }
        let failed = self.rows.iter().filter(|row| !row.held).count();
        let total = self.rows.len();
        println!(
            "\n{} of {total} hold, in {}",
            total - failed,
            seconds(self.started.elapsed())
        );
        failed == 0
    }

    fn line(&self, text: &str) {
        match &self.spinner {
            Some(spinner) => spinner.suspend(|| println!("{text}")),
            None => println!("{text}"),
        }
    }
}

fn mark(held: bool) -> &'static str {
    if held { "✓" } else { "✗" }
}

fn seconds(time: Duration) -> String {
    format!("{:.2} s", time.as_secs_f64())
}

/// What fits a row of the table.
fn short(text: &str) -> String {
    const WIDTH: usize = 72;
    let line = text.lines().next().unwrap_or_default();
    if line.chars().count() <= WIDTH {
        return line.to_owned();
    }
    line.chars().take(WIDTH - 1).chain(['…']).collect()
}
