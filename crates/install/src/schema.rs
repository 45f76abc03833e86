// SPDX-License-Identifier: Apache-2.0
//! Values against the chart's schema: Helm refuses by the same file, so what one takes the other takes too.
//!
//! The regex crate, because the schema's patterns are regular expressions; kube brings it along anyway.

use regex::Regex;
use serde_json::Value;

use crate::Error;

const SCHEMA: &str = include_str!("../../../deploy/chart/values.schema.json");

fn root() -> Result<Value, Error> {
    serde_json::from_str(SCHEMA).map_err(|error| Error::Template {
        name: "values.schema.json",
        problem: error.to_string(),
    })
}

/// Whether the map `name` (with dots; empty: all values) may have members that the schema does not name.
pub(crate) fn takes_any_name(name: &str) -> Result<bool, Error> {
    let root = root()?;
    let parts = name.split('.').filter(|part| !part.is_empty());
    let map = parts.fold(&root, |map, part| {
        let member = &map["properties"][part];
        let named = member["$ref"].as_str();
        named
            .and_then(|named| root.pointer(named.trim_start_matches('#')))
            .unwrap_or(member)
    });
    Ok(map["additionalProperties"] != false)
}

/// Names the first value that the schema has something against.
pub(crate) fn check(values: &Value) -> Result<(), Error> {
    let root = root()?;
    problem("", values, &root, &root).map_or(Ok(()), |problem| Err(Error::Values { problem }))
}

fn problem(at: &str, value: &Value, schema: &Value, root: &Value) -> Option<String> {
    if let Some(name) = schema["$ref"].as_str() {
        return problem(at, value, root.pointer(name.trim_start_matches('#'))?, root);
    }
    let wrong = |expected: String| Some(format!("value {at} is {value}: expected {expected}"));
    if let Some(allowed) = schema["enum"].as_array()
        && !allowed.contains(value)
    {
        let words: Vec<_> = allowed.iter().map(Value::to_string).collect();
        return wrong(words.join(" or "));
    }
    let types = match &schema["type"] {
        Value::Array(types) => types.as_slice(),
        Value::Null => &[],
        one => std::slice::from_ref(one),
    };
    if !types.is_empty() && !types.iter().any(|name| is_a(value, name)) {
        let words: Vec<_> = types.iter().map(Value::to_string).collect();
        return wrong(words.join(" or "));
    }
    if let Some(number) = value.as_i64() {
        if let Some(least) = schema["minimum"].as_i64().filter(|least| number < *least) {
            return wrong(format!("at least {least}"));
        }
        if let Some(most) = schema["maximum"].as_i64().filter(|most| number > *most) {
            return wrong(format!("at most {most}"));
        }
    }
    if let Some(text) = value.as_str() {
        if schema["minLength"]
            .as_u64()
            .is_some_and(|least| text.len() < least as usize)
        {
            return wrong("some text".into());
        }
        let pattern = schema["pattern"].as_str();
        if let Some(pattern) = pattern.filter(|pattern| !matches(pattern, text)) {
            return wrong(format!("what matches {pattern}"));
        }
    }
    let mut items = value.as_array().into_iter().flatten().enumerate();
    let in_items = items.find_map(|(number, item)| {
        problem(&format!("{at}[{number}]"), item, &schema["items"], root)
    });
    let mut members = value.as_object().into_iter().flatten();
    in_items.or_else(|| {
        members.find_map(|(name, member)| {
            let known = &schema["properties"][name];
            let schema = if known.is_null() {
                &schema["additionalProperties"]
            } else {
                known
            };
            let full = if at.is_empty() {
                name.clone()
            } else {
                format!("{at}.{name}")
            };
            problem(&full, member, schema, root)
        })
    })
}

fn is_a(value: &Value, name: &Value) -> bool {
    match name.as_str() {
        Some("object") => value.is_object(),
        Some("array") => value.is_array(),
        Some("string") => value.is_string(),
        Some("integer") => value.is_i64() || value.is_u64(),
        Some("boolean") => value.is_boolean(),
        _ => false,
    }
}

fn matches(pattern: &str, text: &str) -> bool {
    Regex::new(pattern).is_ok_and(|pattern| pattern.is_match(text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_wrong_value_is_named() {
        let defaults: Value = serde_saphyr::from_str(crate::values::DEFAULTS).expect("YAML");
        check(&defaults).expect("the defaults are good");
        let refusals = [
            (
                "/cluster/id",
                Value::from(600),
                "value cluster.id is 600: expected at most 511",
            ),
            (
                "/cluster/name",
                "Five".into(),
                "value cluster.name is \"Five\": expected what matches ^[a-z0-9]",
            ),
            (
                "/cni/chainingMode",
                "bridge".into(),
                "expected \"none\" or \"portmap\"",
            ),
            (
                "/etcd/endpoints",
                vec!["etcd:2379"].into(),
                "value etcd.endpoints[0] is \"etcd:2379\"",
            ),
            (
                "/etcd/leaseTTL",
                "soon".into(),
                "value etcd.leaseTTL is \"soon\"",
            ),
            ("/etcd/secretName", "".into(), "expected some text"),
            (
                "/MTU",
                true.into(),
                "value MTU is true: expected \"integer\"",
            ),
        ];
        for (pointer, value, expected) in refusals {
            let mut values = defaults.clone();
            *values.pointer_mut(pointer).expect("a value") = value;
            let text = check(&values).expect_err("refused").to_string();
            assert!(text.contains(expected), "{text}");
        }
    }

    /// What `problem` does not know would be checked by Helm alone.
    #[test]
    fn every_keyword_of_the_schema_is_known() {
        const KNOWN: [&str; 13] = [
            "$ref",
            "$schema",
            "additionalProperties",
            "definitions",
            "enum",
            "items",
            "maximum",
            "minLength",
            "minimum",
            "pattern",
            "properties",
            "title",
            "type",
        ];
        fn walk(schema: &Value) {
            for (name, inner) in schema.as_object().into_iter().flatten() {
                match name.as_str() {
                    "properties" | "definitions" => {
                        inner.as_object().expect("a map").values().for_each(walk);
                    }
                    // Defaults are there for all that is required.
                    "required" => {}
                    name => {
                        assert!(KNOWN.contains(&name), "{name}");
                        walk(inner);
                    }
                }
            }
        }
        walk(&serde_json::from_str(SCHEMA).expect("JSON"));
    }
}
