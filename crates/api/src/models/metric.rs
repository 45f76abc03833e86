// SPDX-License-Identifier: Apache-2.0
//! `/metrics`: the values that Prometheus gets too, one by one.

use std::collections::BTreeMap;

use super::*;

model! {
    /// One value.
    "kebab-case" MetricValue {} always {
        name: String,
        labels: BTreeMap<String, String>,
        #[serde(serialize_with = "number")]
        value: f64,
    }
}

/// Whole numbers beyond this cannot be told apart.
const EXACT: f64 = 9_007_199_254_740_992.0;

/// As Go writes it: a whole number has no decimals.
fn number<S: serde::Serializer>(value: &f64, to: S) -> Result<S::Ok, S::Error> {
    if value.fract() == 0.0 && value.abs() <= EXACT {
        to.serialize_i64(*value as i64)
    } else {
        to.serialize_f64(*value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_written_as_go_writes_them() {
        for (value, text) in [(3.0, "3"), (0.25, "0.25"), (-0.0, "0"), (1e300, "1e+300")] {
            let metric = MetricValue {
                name: "cilium_endpoint".into(),
                value,
                ..Default::default()
            };
            let json = serde_json::to_string(&metric).expect("JSON");
            let expected = format!(r#"{{"name":"cilium_endpoint","labels":{{}},"value":{text}}}"#);
            assert_eq!(json, expected);
            let read: MetricValue = serde_json::from_str(&json).expect("a metric");
            assert_eq!(read, metric);
        }
    }
}
