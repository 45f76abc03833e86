// SPDX-License-Identifier: Apache-2.0
//! `metrics list`.
//!
//! The regex crate, because patterns are regular expressions; other crates of the program bring it along anyway.

use api::Client;
use api::models::MetricValue;
use regex::bytes::{Regex, RegexBuilder};

use crate::args::Metrics as Command;
use crate::table::align;
use crate::text::clean;
use crate::{Error, output};

pub(super) async fn run(client: &Client, command: Command) -> Result<(), Error> {
    let Command::List {
        match_pattern,
        output,
    } = command;
    // Before the agent is asked: whether it is there does not matter to a pattern that cannot be right.
    let pattern = pattern(&match_pattern)?;
    let mut values = client.metric_values().await?;
    values.retain(|value| matches(&pattern, value));
    output::answer(output.output.as_ref(), &values, |list| self::list(list))
}

/// Classes such as `\\d` mean ASCII, as they do in Go.
fn pattern(text: &str) -> Result<Regex, Error> {
    let built = RegexBuilder::new(text).unicode(false).build();
    built.map_err(|error| {
        let words = error.to_string();
        // The lines before the last show the pattern and point into it.
        let why = words.lines().last().unwrap_or_default();
        Error::Argument {
            argument: format!("--match-pattern {text}"),
            why: format!(
                "a regular expression is expected: {}",
                why.trim_start_matches("error: ")
            ),
        }
    })
}

/// Whether the name or a label matches, as `name=value`.
fn matches(pattern: &Regex, value: &MetricValue) -> bool {
    pattern.is_match(value.name.as_bytes())
        || pairs(value).any(|pair| pattern.is_match(pair.as_bytes()))
}

fn pairs(value: &MetricValue) -> impl Iterator<Item = String> {
    value.labels.iter().map(|(name, v)| format!("{name}={v}"))
}

/// The table, in the given order.
fn list(values: &[MetricValue]) -> String {
    let mut text = "Metric\tLabels\tValue\n".to_owned();
    for value in values {
        let labels: Vec<String> = pairs(value).collect();
        let (name, labels) = (clean(&value.name), clean(&labels.join(" ")));
        text += &format!("{name}\t{labels}\t{:.6}\n", value.value);
    }
    align(&text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drops() -> MetricValue {
        MetricValue {
            name: "cilium_drop_count_total".into(),
            labels: [("reason".into(), "Policy denied".into())].into(),
            value: 12.0,
        }
    }

    #[test]
    fn names_and_labels_are_matched() {
        for (text, expected) in [
            ("", true),
            ("drop_count", true),
            ("^cilium_drop_[a-z]+_total$", true),
            ("^reason=Policy\\s", true),
            ("(?i)DROP", true),
            ("forward", false),
            ("^denied", false),
            ("\\d", false),
        ] {
            let pattern = pattern(text).expect("a pattern");
            assert_eq!(matches(&pattern, &drops()), expected, "{text}");
        }
        let error = pattern("a(").expect_err("no pattern").to_string();
        assert!(
            error.starts_with("--match-pattern a(: a regular expression is expected: "),
            "{error}"
        );
        assert_eq!(error.lines().count(), 1, "{error}");
    }

    #[test]
    fn table() {
        let endpoints = MetricValue {
            name: "cilium_endpoint".into(),
            value: 0.25,
            ..Default::default()
        };
        assert_eq!(
            list(&[drops(), endpoints]),
            "Metric                    Labels                 Value\n\
             cilium_drop_count_total   reason=Policy denied   12.000000\n\
             cilium_endpoint                                  0.250000\n"
        );
    }
}
