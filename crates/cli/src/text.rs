// SPDX-License-Identifier: Apache-2.0
//! Words for values: ages, lists, texts that came from elsewhere.

use std::time::Duration;

use api::Timestamp;

/// How long ago, as Go writes durations: `2m30s ago`, or `never`.
pub(crate) fn ago(time: Timestamp, now: Timestamp) -> String {
    match time.age(now) {
        Some(age) => format!("{} ago", duration(age)),
        None => "never".to_owned(),
    }
}

/// Whole seconds as Go writes them: `1h0m5s`.
pub(crate) fn duration(duration: Duration) -> String {
    let seconds = duration.as_secs();
    let (h, m, s) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    match (h, m) {
        (0, 0) => format!("{s}s"),
        (0, _) => format!("{m}m{s}s"),
        _ => format!("{h}h{m}m{s}s"),
    }
}

/// `text` without characters that control a terminal: it may come from another cluster.
pub(crate) fn clean(text: &str) -> String {
    text.chars()
        .map(|c| if controls(c) { '\u{fffd}' } else { c })
        .collect()
}

/// Whether `c` is a control character, ends a line, or turns the direction of the text around it.
fn controls(c: char) -> bool {
    let others = ['\u{61c}', '\u{200e}', '\u{200f}'];
    c.is_control()
        || others.contains(&c)
        || matches!(c, '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// The same for lists.
pub(crate) fn clean_all(texts: &[String]) -> Vec<String> {
    texts.iter().map(|text| clean(text)).collect()
}

/// Sorted and cleaned.
pub(crate) fn sorted(texts: &[String]) -> Vec<String> {
    let mut texts = clean_all(texts);
    texts.sort();
    texts
}

/// `on` or `off` in the words of the status.
pub(crate) fn enabled(on: bool) -> &'static str {
    if on { "Enabled" } else { "Disabled" }
}

/// Name of a reserved identity, else its number.
pub(crate) fn identity(id: u32, numeric: bool) -> String {
    let name = match id {
        0 => "unknown",
        1 => "host",
        2 => "world",
        3 => "unmanaged",
        4 => "health",
        5 => "init",
        6 => "remote-node",
        7 => "kube-apiserver",
        8 => "ingress",
        9 => "world-ipv4",
        10 => "world-ipv6",
        _ => "",
    };
    if numeric || name.is_empty() {
        id.to_string()
    } else {
        name.to_owned()
    }
}

/// Address and port: `10.0.0.1:80`, `[fd00::1]:80`.
pub(crate) fn endpoint(address: &str, port: u16) -> String {
    if address.contains(':') {
        format!("[{}]:{port}", clean(address))
    } else {
        format!("{}:{port}", clean(address))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations() {
        for (seconds, text) in [(0, "0s"), (59, "59s"), (150, "2m30s"), (3600, "1h0m0s")] {
            assert_eq!(duration(Duration::from_secs(seconds)), text);
        }
    }

    #[test]
    fn control_characters_do_not_reach_the_terminal() {
        assert_eq!(clean("a\x1b[2J\nb"), "a\u{fffd}[2J\u{fffd}b");
        assert_eq!(
            clean("né\u{202e}lortnoc\u{2069}"),
            "né\u{fffd}lortnoc\u{fffd}"
        );
    }
}
