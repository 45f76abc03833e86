// SPDX-License-Identifier: Apache-2.0
//! Families of one scrape. A family without a line is left out.

use std::fmt;

use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;

use super::families::Family;

/// Values of a line's labels, in the order of its family.
type Labels = Vec<String>;

/// Writes families.
pub(super) struct Writer<'a> {
    encoder: DescriptorEncoder<'a>,
}

impl<'a> Writer<'a> {
    pub(super) fn new(encoder: DescriptorEncoder<'a>) -> Self {
        Self { encoder }
    }

    /// Values that only grow; the format adds `_total` to the name.
    pub(super) fn counters(
        &mut self,
        family: &Family,
        lines: impl IntoIterator<Item = (Labels, u64)>,
    ) -> fmt::Result {
        let lines = lines
            .into_iter()
            .map(|(labels, value)| (labels, ConstCounter::new(value)));
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
            .map(|(labels, value)| (labels, ConstGauge::new(value)));
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
            .map(|(labels, value)| (labels, ConstGauge::new(value)));
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
        lines: impl Iterator<Item = (Labels, M)>,
    ) -> fmt::Result {
        let mut lines = lines.peekable();
        if lines.peek().is_none() {
            return Ok(());
        }
        let mut encoder = self
            .encoder
            .encode_descriptor(family.name, family.help, None, kind)?;
        for (values, value) in lines {
            let names = family.labels.iter().copied();
            let labels: Vec<(&str, String)> = names.zip(values).collect();
            value.encode(encoder.encode_family(&labels)?)?;
        }
        Ok(())
    }
}
