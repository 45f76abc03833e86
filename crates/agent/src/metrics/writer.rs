// SPDX-License-Identifier: Apache-2.0
//! Families of one scrape. A family without a line is left out.

use std::fmt;

use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;

/// Labels of a line.
type Labels = Vec<(&'static str, String)>;

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
        name: &str,
        help: &str,
        lines: impl IntoIterator<Item = (Labels, u64)>,
    ) -> fmt::Result {
        let lines = lines
            .into_iter()
            .map(|(labels, value)| (labels, ConstCounter::new(value)));
        self.family(name, help, MetricType::Counter, lines)
    }

    /// Whole numbers that come and go.
    pub(super) fn gauges(
        &mut self,
        name: &str,
        help: &str,
        lines: impl IntoIterator<Item = (Labels, i64)>,
    ) -> fmt::Result {
        let lines = lines
            .into_iter()
            .map(|(labels, value)| (labels, ConstGauge::new(value)));
        self.family(name, help, MetricType::Gauge, lines)
    }

    /// Other numbers that come and go.
    pub(super) fn shares(
        &mut self,
        name: &str,
        help: &str,
        lines: impl IntoIterator<Item = (Labels, f64)>,
    ) -> fmt::Result {
        let lines = lines
            .into_iter()
            .map(|(labels, value)| (labels, ConstGauge::new(value)));
        self.family(name, help, MetricType::Gauge, lines)
    }

    /// One number without labels.
    pub(super) fn gauge(&mut self, name: &str, help: &str, value: i64) -> fmt::Result {
        self.gauges(name, help, [(Labels::new(), value)])
    }

    fn family<M: EncodeMetric>(
        &mut self,
        name: &str,
        help: &str,
        kind: MetricType,
        lines: impl Iterator<Item = (Labels, M)>,
    ) -> fmt::Result {
        let mut lines = lines.peekable();
        if lines.peek().is_none() {
            return Ok(());
        }
        let mut family = self.encoder.encode_descriptor(name, help, None, kind)?;
        for (labels, value) in lines {
            value.encode(family.encode_family(&labels)?)?;
        }
        Ok(())
    }
}
