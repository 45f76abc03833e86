// SPDX-License-Identifier: Apache-2.0
//! The functions of Helm that the chart's templates use, with Helm's meaning.

use gtmpl::{Func, FuncError, Value};
use serde_json::Value as Json;

/// All of them by name.
pub(crate) const FUNCTIONS: [(&str, Func); 5] = [
    ("default", default),
    ("join", join),
    ("nindent", nindent),
    ("quote", quote),
    ("toYaml", to_yaml),
];

/// A document as a template sees it.
pub(crate) fn value(json: &Json) -> Value {
    match json {
        Json::Null => Value::Nil,
        Json::Bool(value) => Value::from(*value),
        Json::Number(number) => match number.as_i64() {
            Some(whole) => Value::from(whole),
            None => Value::from(number.as_f64().unwrap_or_default()),
        },
        Json::String(text) => Value::from(text.clone()),
        Json::Array(items) => Value::Array(items.iter().map(value).collect()),
        Json::Object(map) => Value::Map(
            map.iter()
                .map(|(name, item)| (name.clone(), value(item)))
                .collect(),
        ),
    }
}

/// What a template hands to a function, as a document.
fn json(value: &Value) -> Json {
    match value {
        Value::Bool(value) => Json::from(*value),
        Value::String(text) => Json::from(text.as_str()),
        Value::Number(number) => number
            .as_i64()
            .map(Json::from)
            .or_else(|| number.as_f64().map(Json::from))
            .unwrap_or(Json::Null),
        Value::Array(items) => items.iter().map(json).collect(),
        Value::Object(map) | Value::Map(map) => {
            // Names in order, as Helm has them; a hash map has none.
            let sorted: std::collections::BTreeMap<_, _> = map.iter().collect();
            Json::Object(
                sorted
                    .into_iter()
                    .map(|(name, item)| (name.clone(), json(item)))
                    .collect(),
            )
        }
        Value::NoValue | Value::Nil | Value::Function(_) => Json::Null,
    }
}

fn two<'a>(name: &str, args: &'a [Value]) -> Result<(&'a Value, &'a Value), FuncError> {
    match args {
        [first, second] => Ok((first, second)),
        _ => Err(FuncError::Generic(format!("{name} takes two arguments"))),
    }
}

fn text(value: &Value) -> String {
    match json(value) {
        Json::String(text) => text,
        Json::Null => String::new(),
        other => other.to_string(),
    }
}

fn default(args: &[Value]) -> Result<Value, FuncError> {
    let (fallback, given) = two("default", args)?;
    let absent = match given {
        Value::NoValue | Value::Nil => true,
        Value::String(text) => text.is_empty(),
        _ => false,
    };
    Ok(if absent { fallback } else { given }.clone())
}

fn join(args: &[Value]) -> Result<Value, FuncError> {
    let (separator, items) = two("join", args)?;
    let Value::Array(items) = items else {
        return Err(FuncError::Generic("join takes a list".into()));
    };
    let items: Vec<String> = items.iter().map(text).collect();
    Ok(Value::from(items.join(&text(separator))))
}

fn nindent(args: &[Value]) -> Result<Value, FuncError> {
    let (width, block) = two("nindent", args)?;
    let width = json(width).as_u64().unwrap_or_default();
    let indent = " ".repeat(usize::try_from(width).unwrap_or_default());
    let block = text(block);
    let lines: String = block
        .lines()
        .map(|line| format!("\n{indent}{line}"))
        .collect();
    Ok(Value::from(lines))
}

fn quote(args: &[Value]) -> Result<Value, FuncError> {
    let words: Vec<String> = args
        .iter()
        .map(|word| Json::from(text(word)).to_string())
        .collect();
    Ok(Value::from(words.join(" ")))
}

fn to_yaml(args: &[Value]) -> Result<Value, FuncError> {
    let [value] = args else {
        return Err(FuncError::Generic("toYaml takes one argument".into()));
    };
    let yaml = serde_saphyr::to_string(&json(value))
        .map_err(|error| FuncError::Generic(error.to_string()))?;
    Ok(Value::from(yaml.trim_end().to_owned()))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn blocks_are_sorted_and_indented() {
        let map = value(&json!({ "b": [1, "x"], "a": true }));
        let yaml = to_yaml(&[map]).expect("YAML");
        let block = text(&nindent(&[Value::from(2), yaml]).expect("indented"));
        let back: Json = serde_saphyr::from_str(&block).expect("YAML");
        assert_eq!(back, json!({ "a": true, "b": [1, "x"] }));
        assert!(block.starts_with("\n  a: true\n  b:"), "{block}");
    }

    #[test]
    fn quotes_and_defaults() {
        let quoted = |json: Json| text(&quote(&[value(&json)]).expect("quoted"));
        assert_eq!(quoted(json!(5)), "\"5\"");
        assert_eq!(quoted(json!(false)), "\"false\"");
        assert_eq!(quoted(json!("a\"b")), "\"a\\\"b\"");
        let or = |json: Json| text(&default(&[Value::from("x"), value(&json)]).expect("one"));
        assert_eq!((or(json!("")), or(json!("y"))), ("x".into(), "y".into()));
    }
}
