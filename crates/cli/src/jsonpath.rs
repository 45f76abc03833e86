// SPDX-License-Identifier: Apache-2.0
//! `-o jsonpath=`: paths into the answer, as kubectl writes them: `{.status.state}`, `{[0].id}`, `{.a[*].b}`,
//! `{.a['k.x/y']}`, with text around the braces. No filters and no `range`.

use serde_json::Value;

/// A parsed template.
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct Template(Vec<Part>);

#[derive(Clone, PartialEq, Debug)]
enum Part {
    Text(String),
    Path(Vec<Step>),
}

#[derive(Clone, PartialEq, Debug)]
enum Step {
    Key(String),
    Index(i64),
    All,
}

impl Template {
    /// Parses `text`. The error says what is wrong with it.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let mut parts = Vec::new();
        let mut rest = text;
        if !text.contains('{') {
            return Ok(Self(vec![Part::Path(steps(text)?)]));
        }
        while let Some((before, after)) = rest.split_once('{') {
            if !before.is_empty() {
                parts.push(Part::Text(unescape(before)));
            }
            let (inside, after) = after.split_once('}').ok_or("a '{' is not closed")?;
            parts.push(
                match inside.strip_prefix('"').and_then(|t| t.strip_suffix('"')) {
                    Some(literal) => Part::Text(unescape(literal)),
                    None => Part::Path(steps(inside.trim())?),
                },
            );
            rest = after;
        }
        if !rest.is_empty() {
            parts.push(Part::Text(unescape(rest)));
        }
        Ok(Self(parts))
    }

    /// The template with the values of `root`; what does not exist is left out.
    pub(crate) fn render(&self, root: &Value) -> String {
        let mut out = String::new();
        for part in &self.0 {
            match part {
                Part::Text(text) => out.push_str(text),
                Part::Path(steps) => {
                    let found: Vec<String> = select(root, steps).into_iter().map(word).collect();
                    out.push_str(&found.join(" "));
                }
            }
        }
        out
    }
}

fn unescape(text: &str) -> String {
    text.replace("\\n", "\n").replace("\\t", "\t")
}

fn word(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

fn steps(path: &str) -> Result<Vec<Step>, String> {
    let mut steps = Vec::new();
    let mut rest = path.trim_start_matches(['$', '@']);
    while !rest.is_empty() {
        if let Some(inside) = rest.strip_prefix('[') {
            let (inside, after) = inside.split_once(']').ok_or("a '[' is not closed")?;
            steps.push(bracket(inside)?);
            rest = after;
        } else if let Some(name) = rest.strip_prefix('.') {
            let end = name.find(['.', '[']).unwrap_or(name.len());
            match &name[..end] {
                "" if end == name.len() => {}
                "" => return Err("'..' is not supported".into()),
                "*" => steps.push(Step::All),
                key => steps.push(Step::Key(key.to_owned())),
            }
            rest = &name[end..];
        } else {
            return Err(format!("{path:?} must begin with '.' or '['"));
        }
    }
    Ok(steps)
}

fn bracket(inside: &str) -> Result<Step, String> {
    if inside == "*" {
        return Ok(Step::All);
    }
    for quote in ['\'', '"'] {
        let key = inside
            .strip_prefix(quote)
            .and_then(|t| t.strip_suffix(quote));
        if let Some(key) = key {
            return Ok(Step::Key(key.to_owned()));
        }
    }
    let index = inside.parse().map_err(|_| {
        format!("[{inside}] is not supported: a number, * or a quoted key stands there")
    })?;
    Ok(Step::Index(index))
}

fn select<'a>(root: &'a Value, steps: &[Step]) -> Vec<&'a Value> {
    let mut found = vec![root];
    for step in steps {
        found = found
            .into_iter()
            .flat_map(|value| one(value, step))
            .collect();
    }
    found
}

fn one<'a>(value: &'a Value, step: &Step) -> Vec<&'a Value> {
    match (step, value) {
        (Step::Key(key), Value::Object(map)) => map.get(key).into_iter().collect(),
        (Step::All, Value::Object(map)) => map.values().collect(),
        (Step::All, Value::Array(list)) => list.iter().collect(),
        (Step::Index(at), Value::Array(list)) => {
            let length = i64::try_from(list.len()).unwrap_or(i64::MAX);
            let at = if *at < 0 {
                length.saturating_add(*at)
            } else {
                *at
            };
            let at = usize::try_from(at).ok();
            at.and_then(|at| list.get(at)).into_iter().collect()
        }
        _ => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn paths() {
        let root = json!({"a": [{"b": 1, "c.d": "x"}, {"b": true}], "e": "text"});
        for (template, expected) in [
            ("{.e}", "text"),
            (".e", "text"),
            ("{.a[0].b}", "1"),
            ("{.a[-1].b}", "true"),
            ("{.a[*].b}", "1 true"),
            ("{.a[0]['c.d']}", "x"),
            ("{$.e}{\"\\n\"}", "text\n"),
            ("e={.e}, none={.none.x}", "e=text, none="),
            ("{.a[7]}", ""),
            ("{.a[1]}", "{\"b\":true}"),
        ] {
            let parsed = Template::parse(template).expect(template);
            assert_eq!(parsed.render(&root), expected, "{template}");
        }
        assert!(Template::parse("{.}").expect("all").render(&json!(1)) == "1");
    }

    #[test]
    fn bad_paths_are_refused_in_words() {
        for text in [
            "{.a",
            "{.a[0}",
            "{range .items}",
            "{.a[?(@.b==1)]}",
            "{..a}",
            "e",
        ] {
            assert!(Template::parse(text).is_err(), "{text}");
        }
    }
}
