// SPDX-License-Identifier: Apache-2.0
//! Where text leaves the program: the only place that prints.

use std::io::Write;

use serde::Serialize;
use serde_json::Value;

use crate::Error;
use crate::jsonpath::Template;
use crate::text::clean;

/// How an answer is written.
#[derive(Clone, PartialEq, Debug)]
pub(crate) enum Format {
    /// JSON, keys sorted, indented.
    Json,
    /// YAML, keys sorted.
    Yaml,
    /// Some values of it.
    JsonPath(Template),
}

/// Parses the argument of `-o`.
pub(crate) fn parse_format(text: &str) -> Result<Format, String> {
    match text {
        "json" => Ok(Format::Json),
        "yaml" => Ok(Format::Yaml),
        _ => match text.strip_prefix("jsonpath=") {
            Some(path) => Ok(Format::JsonPath(Template::parse(path)?)),
            None => Err("json, yaml or jsonpath='{.path}' is expected".into()),
        },
    }
}

impl Format {
    /// `model` as text.
    pub(crate) fn text(&self, model: &impl Serialize) -> Result<String, Error> {
        let failed = |format, why: String| Error::Format { format, why };
        let value = serde_json::to_value(model).map_err(|e| failed("JSON", e.to_string()))?;
        let value = sort(value);
        match self {
            Format::Json => {
                let text = serde_json::to_string_pretty(&value);
                let text = text.map_err(|e| failed("JSON", e.to_string()))?;
                Ok(escape(&text) + "\n\n")
            }
            Format::Yaml => {
                serde_saphyr::to_string(&value).map_err(|e| failed("YAML", e.to_string()))
            }
            Format::JsonPath(template) => Ok(template.render(&value) + "\n"),
        }
    }
}

/// As Go writes JSON: these characters occur inside strings only.
fn escape(json: &str) -> String {
    json.replace('<', "\\u003c")
        .replace('>', "\\u003e")
        .replace('&', "\\u0026")
}

fn sort(value: Value) -> Value {
    match value {
        Value::Object(map) => {
            let mut entries: Vec<_> = map.into_iter().map(|(k, v)| (k, sort(v))).collect();
            entries.sort_by(|a, b| a.0.cmp(&b.0));
            Value::Object(entries.into_iter().collect())
        }
        Value::Array(list) => Value::Array(list.into_iter().map(sort).collect()),
        other => other,
    }
}

/// Writes `text` to standard output and flushes it.
pub(crate) fn print(text: &str) -> Result<(), Error> {
    let mut out = std::io::stdout().lock();
    out.write_all(text.as_bytes())
        .and_then(|()| out.flush())
        .map_err(|source| Error::Write { source })
}

/// Writes `model` in `format`, or else the text that `table` makes.
pub(crate) fn answer<T: Serialize>(
    format: Option<&Format>,
    model: &T,
    table: impl FnOnce(&T) -> String,
) -> Result<(), Error> {
    match format {
        Some(format) => print(&format.text(model)?),
        None => print(&table(model)),
    }
}

/// One line on standard error. Some of it may be another's words.
pub(crate) fn error(text: &str) {
    // Nobody is left to read it if this fails.
    let _ = writeln!(std::io::stderr(), "Error: {}", clean(text));
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn formats() {
        let model = json!({"b": [1, "<x>"], "a": null});
        let text = |format: &str| {
            let format = parse_format(format).expect("a format");
            format.text(&model).expect("text")
        };
        assert_eq!(
            text("json"),
            "{\n  \"a\": null,\n  \"b\": [\n    1,\n    \"\\u003cx\\u003e\"\n  ]\n}\n\n"
        );
        assert_eq!(text("jsonpath={.b[1]}"), "<x>\n");
        let yaml = text("yaml");
        assert!(yaml.starts_with("a: null\nb:\n"), "{yaml}");
        assert!(parse_format("xml").is_err());
    }
}
