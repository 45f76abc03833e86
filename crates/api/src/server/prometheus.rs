// SPDX-License-Identifier: Apache-2.0
//! The text format 0.0.4 of Prometheus, which every reader of metrics knows, out of OpenMetrics. Readers of the one take
//! the counters of the other for values without a type.

/// `open_metrics` in the text format: counters are declared under the name of their lines, and nothing marks the end.
pub(super) fn text(open_metrics: &str) -> String {
    let mut out = String::with_capacity(open_metrics.len() + 1024);
    let mut lines = open_metrics.lines().peekable();
    while let Some(line) = lines.next() {
        let declared = line.strip_prefix('#').unwrap_or_default();
        match declared.trim_start().split_once(' ') {
            Some(("HELP", rest)) => {
                let (name, help) = rest.split_once(' ').unwrap_or((rest, ""));
                let counter = lines
                    .peek()
                    .is_some_and(|next| **next == format!("# TYPE {name} counter"));
                let total = if counter { "_total" } else { "" };
                // Quotes are escaped in OpenMetrics only.
                let help = help.replace("\\\"", "\"");
                out += &format!("# HELP {name}{total} {help}\n");
            }
            Some(("TYPE", rest)) => match rest.strip_suffix(" counter") {
                Some(name) => out += &format!("# TYPE {name}_total counter\n"),
                None => out += &format!("{line}\n"),
            },
            _ if line.starts_with('#') => {}
            _ => out += &format!("{line}\n"),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use prometheus_client::encoding::text::encode;
    use prometheus_client::metrics::{counter::Counter, family::Family, gauge::Gauge};
    use prometheus_client::registry::{Registry, Unit};

    use super::*;

    #[test]
    fn counters_are_declared_as_they_are_written() {
        let mut registry = Registry::with_prefix("cilium");
        let drops = Family::<Vec<(&str, &str)>, Counter>::default();
        drops
            .get_or_create(&vec![("reason", "a \"b\" # c")])
            .inc_by(3);
        registry.register("drop_count", "Packets \"dropped\"", drops);
        registry.register_with_unit("age", "How old", Unit::Seconds, Gauge::<i64>::default());
        let mut open = String::new();
        encode(&mut open, &registry).expect("a string takes everything");
        assert_eq!(
            text(&open),
            r##"# HELP cilium_drop_count_total Packets "dropped".
# TYPE cilium_drop_count_total counter
cilium_drop_count_total{reason="a \"b\" # c"} 3
# HELP cilium_age_seconds How old.
# TYPE cilium_age_seconds gauge
cilium_age_seconds 0
"##
        );
    }
}
