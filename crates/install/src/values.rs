// SPDX-License-Identifier: Apache-2.0
//! Values: the chart's defaults, files and assignments over them, every name and type checked against the defaults.

use std::path::PathBuf;

use serde_json::{Map, Value};

use crate::args::InstallArgs;
use crate::{Error, assignment, schema};

/// The chart's own values, with their meaning in comments.
pub(crate) const DEFAULTS: &str = include_str!("../../../deploy/chart/values.yaml");

/// Defaults, files and assignments, in this order.
pub(crate) fn read(args: &InstallArgs) -> Result<Value, Error> {
    let mut values: Value = serde_saphyr::from_str(DEFAULTS).map_err(|error| Error::Template {
        name: "values.yaml",
        problem: error.to_string(),
    })?;
    let defaults = values.clone();
    for path in &args.values {
        merge("", &mut values, file(path)?, &defaults)?;
    }
    let typed = args.set.iter().map(|text| (text, true));
    let texts = args.set_string.iter().map(|text| (text, false));
    for (text, is_typed) in typed.chain(texts) {
        for assignment in assignment::parse(text, is_typed)? {
            let document = assignment.document(&values);
            merge("", &mut values, document, &defaults)?;
        }
    }
    check(&values)?;
    Ok(values)
}

fn file(path: &PathBuf) -> Result<Value, Error> {
    let text = std::fs::read_to_string(path).map_err(|source| Error::ReadValues {
        path: path.clone(),
        source,
    })?;
    let problem = |problem: String| Error::ParseValues {
        path: path.clone(),
        problem,
    };
    let value: Value = serde_saphyr::from_str(&text).map_err(|error| problem(error.to_string()))?;
    match value {
        Value::Object(_) => Ok(value),
        Value::Null => Ok(Value::Object(Map::new())),
        _ => Err(problem("expected a map of values".into())),
    }
}

/// Puts `over` into `values`. What the schema says nothing about, the members of a map that takes any, takes every value.
fn merge(at: &str, values: &mut Value, over: Value, defaults: &Value) -> Result<(), Error> {
    let takes_any = defaults.is_object() && schema::takes_any_name(at)?;
    let (Value::Object(into), Value::Object(from), Value::Object(known)) =
        (&mut *values, &over, defaults)
    else {
        *values = match (&over, defaults) {
            // Nothing, where there may be nothing.
            (Value::Null, Value::Array(_)) => Value::Array(Vec::new()),
            (Value::Null, Value::String(_)) => Value::String(String::new()),
            (Value::Null, Value::Object(_)) if takes_any => Value::Object(Map::new()),
            _ => {
                check_type(at, &over, defaults)?;
                over
            }
        };
        return Ok(());
    };
    if takes_any {
        overlay(values, over);
        return Ok(());
    }
    for (name, value) in from {
        let full = if at.is_empty() {
            name.clone()
        } else {
            format!("{at}.{name}")
        };
        match known.get(name) {
            Some(default) => {
                let slot = into.entry(name.clone()).or_insert(Value::Null);
                merge(&full, slot, value.clone(), default)?;
            }
            None => {
                let near = nearest(name, known.keys());
                let nearest = near.map(|near| full[..full.len() - name.len()].to_owned() + near);
                return Err(Error::UnknownValue {
                    name: full,
                    nearest,
                });
            }
        }
    }
    Ok(())
}

/// Puts `over` into `values` member by member; null takes a member away.
fn overlay(values: &mut Value, over: Value) {
    let Value::Object(from) = over else {
        *values = over;
        return;
    };
    if !values.is_object() {
        *values = Value::Object(Map::new());
    }
    let into = values.as_object_mut().expect("it was made one");
    for (name, value) in from {
        if value.is_null() {
            into.remove(&name);
        } else {
            overlay(into.entry(name).or_insert(Value::Null), value);
        }
    }
}

fn check_type(name: &str, given: &Value, default: &Value) -> Result<(), Error> {
    // A port may be given as a number where its default is no port at all.
    let number_as_text = default.is_string() && given.is_number();
    if kind(given) == kind(default) || number_as_text {
        return Ok(());
    }
    Err(Error::ValueType {
        name: name.to_owned(),
        given: kind(given),
        expected: kind(default),
    })
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "nothing",
        Value::Bool(_) => "true or false",
        Value::Number(_) => "a number",
        Value::String(_) => "text",
        Value::Array(_) => "a list",
        Value::Object(_) => "a map",
    }
}

fn nearest<'a>(name: &str, known: impl Iterator<Item = &'a String>) -> Option<&'a str> {
    let alike = |a: &str, b: &str| {
        let (a, b) = (a.to_ascii_lowercase(), b.to_ascii_lowercase());
        a.starts_with(&b) || b.starts_with(&a)
    };
    known.map(String::as_str).find(|known| alike(name, known))
}

/// What the schema refuses, and what cannot work in combination.
fn check(values: &Value) -> Result<(), Error> {
    schema::check(values)?;
    let etcd = &values["etcd"];
    let no_endpoint = etcd["endpoints"].as_array().is_none_or(Vec::is_empty);
    if etcd["enabled"] == true && no_endpoint {
        return Err(Error::Values {
            problem: "etcd.endpoints is empty: name this cluster's etcd, e.g. --set etcd.endpoints={https://10.0.0.10:2379}, or set etcd.enabled=false for nodes without a mesh".into(),
        });
    }
    if values["ipv4"]["enabled"] == false && values["ipv6"]["enabled"] == false {
        return Err(Error::Values {
            problem: "ipv4.enabled and ipv6.enabled are both false: pods need one of them".into(),
        });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn args(set: &[&str]) -> InstallArgs {
        InstallArgs {
            namespace: "kube-system".into(),
            values: Vec::new(),
            set: set.iter().map(|text| (*text).to_owned()).collect(),
            set_string: vec!["extraConfig.x=1".into()],
            show_values: false,
        }
    }

    const ETCD: &str = "etcd.endpoints={https://10.0.0.1:2379,https://10.0.0.2:2379}";

    #[test]
    fn later_values_win_and_free_maps_take_any_name() {
        let set = ["cluster.name=east", "cluster.id=5", ETCD, "podLabels.a=b"];
        let values = read(&args(&set)).expect("good values");
        assert_eq!(values["cluster"], json!({ "name": "east", "id": 5 }));
        assert_eq!(values["extraConfig"], json!({ "x": "1" }));
        assert_eq!(values["podLabels"], json!({ "a": "b" }));
        assert_eq!(values["etcd"]["endpoints"][1], "https://10.0.0.2:2379");
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("values.yaml");
        std::fs::write(&path, "cluster:\n  name: west\ntunnelPort: 9\n").expect("written");
        let mut args = args(&[ETCD, "cluster.name=east"]);
        args.values.push(path);
        let values = read(&args).expect("good values");
        assert_eq!(
            (&values["cluster"]["name"], &values["tunnelPort"]),
            (&json!("east"), &json!(9))
        );
    }

    #[test]
    fn maps_with_defaults_take_more_names_where_the_schema_names_none() {
        let set = [
            ETCD,
            r"nodeSelector.example\.com/network=yes",
            "updateStrategy.rollingUpdate.maxSurge=0",
            r"podAnnotations.example\.com/a\.b=c",
        ];
        let values = read(&args(&set)).expect("good values");
        let selector = json!({ "kubernetes.io/os": "linux", "example.com/network": "yes" });
        assert_eq!(values["nodeSelector"], selector);
        let rolling = json!({ "maxUnavailable": 2, "maxSurge": 0 });
        assert_eq!(values["updateStrategy"]["rollingUpdate"], rolling);
        assert_eq!(values["podAnnotations"], json!({ "example.com/a.b": "c" }));
    }

    #[test]
    fn members_of_free_maps_are_put_together_of_any_type_and_taken_away_by_null() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("values.yaml");
        std::fs::write(&path, "resources:\n  limits:\n    cpu: 2\n").expect("written");
        let mut args = args(&[
            ETCD,
            "resources.requests.cpu=100m,resources.requests.memory=64Mi",
            "resources.limits.memory=1Gi",
            "updateStrategy.rollingUpdate.maxUnavailable=10%",
            r"nodeSelector.kubernetes\.io/os=null,nodeSelector.a=b",
            "operator.nodeSelector=null,tolerations=null,priorityClassName=null",
        ]);
        args.values.push(path);
        let values = read(&args).expect("good values");
        let resources = json!({
            "requests": { "cpu": "100m", "memory": "64Mi" },
            "limits": { "cpu": 2, "memory": "1Gi" },
        });
        assert_eq!(values["resources"], resources);
        let rolling = &values["updateStrategy"]["rollingUpdate"];
        assert_eq!(rolling["maxUnavailable"], "10%");
        assert_eq!(values["nodeSelector"], json!({ "a": "b" }));
        assert_eq!(values["operator"]["nodeSelector"], json!({}));
        assert_eq!(values["tolerations"], json!([]));
        assert_eq!(values["priorityClassName"], "");
    }

    #[test]
    fn wrong_names_types_and_combinations_are_told() {
        let refusal = |set: &[&str]| read(&args(set)).expect_err("refused").to_string();
        let text = refusal(&["cluster.nam=east"]);
        assert!(
            text.contains("cluster.nam is not known; did you mean cluster.name?"),
            "{text}"
        );
        let text = refusal(&["cluster.id=five"]);
        assert_eq!(text, "value cluster.id is text, expected a number");
        let text = refusal(&["cluster=null"]);
        assert_eq!(text, "value cluster is nothing, expected a map");
        assert!(refusal(&["cluster"]).contains("expected name=value"));
        assert!(refusal(&[]).contains("etcd.endpoints is empty"));
        assert!(refusal(&[ETCD, "ipv4.enabled=false"]).contains("pods need one of them"));
    }
}
