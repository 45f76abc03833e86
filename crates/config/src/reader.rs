// SPDX-License-Identifier: Apache-2.0
//! Option texts → values, with every complaint gathered.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use crate::options::Values;

/// Reads values and gathers errors and warnings.
pub(super) struct Reader<'a> {
    pub(super) values: &'a Values,
    pub(super) errors: Vec<String>,
    pub(super) warnings: Vec<String>,
}

impl Reader<'_> {
    pub(super) fn text(&self, name: &str) -> &str {
        self.values.get(name)
    }

    pub(super) fn fail(&mut self, name: &str, problem: impl fmt::Display) {
        self.errors
            .push(format!("{}: {problem}", self.values.named(name)));
    }

    pub(super) fn bool(&mut self, name: &str) -> bool {
        match self.text(name).trim().to_ascii_lowercase().as_str() {
            "true" | "t" | "1" | "enabled" => true,
            "false" | "f" | "0" | "disabled" => false,
            _ => {
                self.fail(name, "expected true or false");
                false
            }
        }
    }

    pub(super) fn number(&mut self, name: &str, low: u32, high: u32) -> u32 {
        match self.text(name).trim().parse::<u32>() {
            Ok(number) if (low..=high).contains(&number) => number,
            _ => {
                self.fail(name, format!("expected a number of {low} to {high}"));
                low
            }
        }
    }

    pub(super) fn duration(&mut self, name: &str, low: Duration, high: Duration) -> Duration {
        match parse_duration(self.text(name)) {
            Some(duration) if (low..=high).contains(&duration) => duration,
            Some(_) => {
                self.fail(
                    name,
                    format!("expected {} to {}", in_words(low), in_words(high)),
                );
                low
            }
            None => {
                self.fail(name, "expected a duration such as 30s, 15m or 1h30m");
                low
            }
        }
    }

    /// `None` if the value is empty or `auto`.
    pub(super) fn parsed<T: FromStr>(&mut self, name: &str, expected: &str) -> Option<T> {
        let text = self.text(name).trim().to_owned();
        if text.is_empty() || text == "auto" {
            return None;
        }
        text.parse()
            .map_err(|_| self.fail(name, format!("expected {expected}")))
            .ok()
    }

    pub(super) fn choice<T: Copy>(&mut self, name: &str, choices: &[(&str, T)]) -> T {
        let text = self.text(name).trim().to_ascii_lowercase();
        match choices.iter().find(|(word, _)| *word == text) {
            Some((_, choice)) => *choice,
            None => {
                let words = choices
                    .iter()
                    .map(|(word, _)| *word)
                    .collect::<Vec<_>>()
                    .join(", ");
                self.fail(name, format!("expected one of: {words}"));
                choices[0].1
            }
        }
    }

    pub(super) fn path(&self, name: &str) -> Option<PathBuf> {
        let text = self.text(name).trim();
        (!text.is_empty()).then(|| PathBuf::from(text))
    }
}

/// `90s`, `24h`: the largest unit that needs no fraction.
fn in_words(duration: Duration) -> String {
    match duration.as_secs() {
        0 => "0s".into(),
        seconds if seconds % 3600 == 0 => format!("{}h", seconds / 3600),
        seconds if seconds % 60 == 0 => format!("{}m", seconds / 60),
        seconds => format!("{seconds}s"),
    }
}

/// Go's duration notation, or a bare number of seconds.
pub(super) fn parse_duration(text: &str) -> Option<Duration> {
    let text = text.trim();
    if let Ok(seconds) = text.parse::<u64>() {
        return Some(Duration::from_secs(seconds));
    }
    let mut total = Duration::ZERO;
    let mut rest = text;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let number: f64 = rest[..digits].parse().ok()?;
        let unit_len = rest[digits..]
            .find(|c: char| c.is_ascii_digit())
            .unwrap_or(rest.len() - digits);
        let unit = match &rest[digits..digits + unit_len] {
            "ns" => 1e-9,
            "us" | "µs" => 1e-6,
            "ms" => 0.001,
            "s" => 1.0,
            "m" => 60.0,
            "h" => 3600.0,
            _ => return None,
        };
        total = total.checked_add(Duration::try_from_secs_f64(number * unit).ok()?)?;
        rest = &rest[digits + unit_len..];
    }
    (!text.is_empty()).then_some(total)
}
