// SPDX-License-Identifier: Apache-2.0
//! Flags as Go's parsers take them, which scripts made for Cilium rely on: of a repeated one the last counts, a boolean may
//! have a value, durations have fractions and units.

use std::time::Duration;

use clap::{Arg, ArgAction, Command};

/// `command` and everything below it with such flags.
pub(super) fn like_go(command: Command) -> Command {
    command
        .args_override_self(true)
        .mut_args(boolean_with_value)
        .mut_subcommands(like_go)
}

/// `--brief` also as `--brief=false`. Only with an equals sign: what follows a blank is an argument of its own.
fn boolean_with_value(arg: Arg) -> Arg {
    if !matches!(arg.get_action(), ArgAction::SetTrue) {
        return arg;
    }
    arg.action(ArgAction::Set)
        .num_args(0..=1)
        .require_equals(true)
        .default_value("false")
        .default_missing_value("true")
        .hide_default_value(true)
        .value_name("BOOL")
        .value_parser(boolean)
}

/// A boolean.
pub(super) fn boolean(text: &str) -> Result<bool, String> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(false),
        _ => Err("true or false is expected".into()),
    }
}

/// Longest time that anything here waits.
const LONGEST: Duration = Duration::from_secs(86400);

/// How long to wait: a number of seconds, or as Go writes durations: `30`, `500ms`, `1m30s`, `1.5h`.
pub(super) fn duration(text: &str) -> Result<Duration, String> {
    let plain = !text.is_empty() && text.bytes().all(|c| c.is_ascii_digit());
    let seconds = plain.then(|| text.to_owned() + "s");
    parse(seconds.as_deref().unwrap_or(text))
        .filter(|time| !time.is_zero() && *time <= LONGEST)
        .ok_or_else(|| "more than 0 and at most 24h are expected, as 30, 500ms or 1m30s".into())
}

/// The same in whole seconds, rounded up, for steps that the agent counts so.
pub(super) fn step(text: &str) -> Result<u64, String> {
    let time = duration(text).ok();
    let seconds = time.map(|time| time.as_secs() + u64::from(time.subsec_nanos() > 0));
    let seconds = seconds.filter(|n| (1..=10).contains(n));
    seconds.ok_or_else(|| "1s to 10s are expected".into())
}

/// Units in nanoseconds. The micro sign and the Greek letter look the same.
const UNITS: [(&str, u128); 8] = [
    ("ns", 1),
    ("us", 1_000),
    ("\u{b5}s", 1_000),
    ("\u{3bc}s", 1_000),
    ("ms", 1_000_000),
    ("s", 1_000_000_000),
    ("m", 60_000_000_000),
    ("h", 3_600_000_000_000),
];

/// Numbers with units, one after the other. No unit is left out, none is negative.
fn parse(text: &str) -> Option<Duration> {
    let mut rest = text.strip_prefix('+').unwrap_or(text);
    let mut nanos: u128 = 0;
    if rest.is_empty() {
        return None;
    }
    while !rest.is_empty() {
        let number = leading(rest, |c| c.is_ascii_digit() || c == '.');
        rest = &rest[number.len()..];
        let unit = leading(rest, |c| !c.is_ascii_digit() && c != '.');
        rest = &rest[unit.len()..];
        let (_, unit) = UNITS.iter().find(|(name, _)| *name == unit)?;
        nanos = nanos.checked_add(scaled(number, *unit)?)?;
    }
    u64::try_from(nanos).ok().map(Duration::from_nanos)
}

fn leading(text: &str, belongs: impl Fn(char) -> bool) -> &str {
    let end = text.find(|c| !belongs(c)).unwrap_or(text.len());
    &text[..end]
}

/// A decimal number of units. What is below a nanosecond does not count.
fn scaled(number: &str, unit: u128) -> Option<u128> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if whole.is_empty() && fraction.is_empty() || fraction.contains('.') {
        return None;
    }
    let parse = |digits: &str| match digits {
        "" => Some(0),
        digits => digits.parse::<u64>().ok().map(u128::from),
    };
    let fraction = &fraction[..fraction.len().min(15)];
    let part = parse(fraction)? * unit / 10_u128.pow(fraction.len() as u32);
    (parse(whole)? * unit).checked_add(part)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations() {
        for (text, millis) in [
            ("30", 30_000),
            ("30s", 30_000),
            ("+30s", 30_000),
            ("500ms", 500),
            ("1m30s", 90_000),
            ("1h1m1s1ms", 3_661_001),
            ("1.5s", 1_500),
            (".5m", 30_000),
            ("2.h", 7_200_000),
            ("2000us", 2),
            ("2000\u{b5}s", 2),
            ("2000\u{3bc}s", 2),
            ("5000000ns", 5),
            ("1.0000000000000000000000001s", 1_000),
            ("6m", 360_000),
            ("24h", 86_400_000),
        ] {
            assert_eq!(duration(text), Ok(Duration::from_millis(millis)), "{text}");
        }
        for text in [
            "",
            "0",
            "0s",
            "-1",
            "-1s",
            "+",
            "1x",
            "s",
            ".s",
            "1..5s",
            "1.5",
            "1 s",
            "25h",
            "1m30",
            "30\u{fc}",
            "99999999999999999999s",
            "18446744073709551615h",
        ] {
            let error = duration(text).expect_err(text);
            assert!(error.contains("500ms or 1m30s"), "{error}");
        }
        for (text, seconds) in [("1", 1), ("500ms", 1), ("1500ms", 2), ("10s", 10)] {
            assert_eq!(step(text), Ok(seconds), "{text}");
        }
        for text in ["10001ms", "11s", "1m", "x"] {
            assert!(step(text).is_err(), "{text}");
        }
    }

    #[test]
    fn booleans() {
        for word in ["1", "t", "T", "true", "TRUE", "True"] {
            assert_eq!(boolean(word), Ok(true));
        }
        for word in ["0", "f", "F", "false", "FALSE", "False"] {
            assert_eq!(boolean(word), Ok(false));
        }
        assert!(boolean("no").is_err());
    }
}
