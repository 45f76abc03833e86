// SPDX-License-Identifier: Apache-2.0
//! Families of one scrape. A family without a line is left out.

use std::fmt;

use api::models::MetricValue;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;

use super::families::Family;

/// Values of a line's labels, in the order of its family.
type Labels = Vec<String>;

/// What every name begins with; the registry of the text format adds it itself.
pub(super) const PREFIX: &str = "cilium";

/// Writes families: as text for Prometheus, or as a list.
pub(super) enum Writer<'a> {
    Text(DescriptorEncoder<'a>),
    List(&'a mut Vec<MetricValue>),
}

impl Writer<'_> {
    /// Values that only grow; the format adds `_total` to the name.
    pub(super) fn counters(
        &mut self,
        family: &Family,
        lines: impl IntoIterator<Item = (Labels, u64)>,
    ) -> fmt::Result {
        let lines = lines
            .into_iter()
            .map(|(labels, value)| (labels, value as f64, ConstCounter::new(value)));
        self.family(family, MetricType::Counter, lines)
    }

    /// Whole numbers that come and go.
    pub(super) fn gauges(
        &mut self,
        family: &Family,
        lines: impl IntoIterator<Item = (Labels, i64)>,
    ) -> fmt::Result {
        let lines = lines
            .into_iter()
            .map(|(labels, value)| (labels, value as f64, ConstGauge::new(value)));
        self.family(family, MetricType::Gauge, lines)
    }

    /// Other numbers that come and go.
    pub(super) fn shares(
        &mut self,
        family: &Family,
        lines: impl IntoIterator<Item = (Labels, f64)>,
    ) -> fmt::Result {
        let lines = lines
            .into_iter()
            .map(|(labels, value)| (labels, value, ConstGauge::new(value)));
        self.family(family, MetricType::Gauge, lines)
    }

    /// One number without labels.
    pub(super) fn gauge(&mut self, family: &Family, value: i64) -> fmt::Result {
        self.gauges(family, [(Labels::new(), value)])
    }

    fn family<M: EncodeMetric>(
        &mut self,
        family: &Family,
        kind: MetricType,
        lines: impl Iterator<Item = (Labels, f64, M)>,
    ) -> fmt::Result {
        let mut lines = lines.peekable();
        if lines.peek().is_none() {
            return Ok(());
        }
        let names = family.labels.iter().copied();
        match self {
            Writer::Text(encoder) => {
                let mut encoder =
                    encoder.encode_descriptor(family.name, family.help, None, kind)?;
                for (values, _, metric) in lines {
                    let labels: Vec<(&str, String)> = names.clone().zip(values).collect();
                    metric.encode(encoder.encode_family(&labels)?)?;
                }
            }
            Writer::List(list) => {
                let total = match kind {
                    MetricType::Counter => "_total",
                    _ => "",
                };
                let name = format!("{PREFIX}_{}{total}", family.name);
                list.extend(lines.map(|(values, value, _)| MetricValue {
                    name: name.clone(),
                    labels: names.clone().map(str::to_owned).zip(values).collect(),
                    value,
                }));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use prometheus_client::collector::Collector;
    use prometheus_client::encoding::text::encode;
    use prometheus_client::registry::Registry;

    use super::super::families as family;
    use super::*;

    fn write(w: &mut Writer<'_>) -> fmt::Result {
        let labels = vec!["Policy denied".to_owned(), "INGRESS".to_owned()];
        w.counters(&family::DROP_COUNT, [(labels, 12)])?;
        w.counters(&family::FORWARD_COUNT, [])?;
        w.gauge(&family::ENDPOINT, 3)?;
        w.shares(&family::MAP_PRESSURE, [(vec!["ist_flows".into()], 0.25)])
    }

    #[derive(Debug)]
    struct Source;

    impl Collector for Source {
        fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
            write(&mut Writer::Text(encoder))
        }
    }

    #[test]
    fn the_list_holds_the_lines_of_the_text() {
        let mut registry = Registry::with_prefix(PREFIX);
        registry.register_collector(Box::new(Source));
        let mut text = String::new();
        encode(&mut text, &registry).expect("a string takes everything");
        let lines: Vec<_> = text.lines().filter(|l| !l.starts_with('#')).collect();
        let mut list = Vec::new();
        write(&mut Writer::List(&mut list)).expect("a list takes everything");
        let order = family::DROP_COUNT.labels;
        let line = |m: &MetricValue| {
            let pair = |name: &&str| Some(format!("{name}={:?}", m.labels.get(*name)?));
            let labels: Vec<_> = order
                .iter()
                .chain(["map_name"].iter())
                .filter_map(pair)
                .collect();
            format!("{}{{{}}} {}", m.name, labels.join(","), m.value)
        };
        assert_eq!(lines, list.iter().map(line).collect::<Vec<_>>());
    }
}
