// SPDX-License-Identifier: Apache-2.0
//! `-o jsonpath=`: paths into the answer, as kubectl writes them: `{.status.state}`, `{[0].id}`, `{.a[*].b}`,
//! `{.a['k.x/y']}`, `{.a[?(@.b=="x")].c}`, `{range [*]}{.id}{"\n"}{end}`, with text around the braces.

use std::cmp::Ordering;

use serde_json::Value;

/// A parsed template.
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct Template(Vec<Part>);

#[derive(Clone, PartialEq, Debug)]
enum Part {
    Text(String),
    Path(Vec<Step>),
    /// The parts once for every value of the path.
    Range(Vec<Step>, Vec<Part>),
}

#[derive(Clone, PartialEq, Debug)]
enum Step {
    Key(String),
    Index(i64),
    All,
    /// Elements whose value at the path compares so with the literal, or exists.
    Filter(Vec<Step>, Option<(Compare, Value)>),
}

#[derive(Clone, Copy, PartialEq, Debug)]
enum Compare {
    Equal,
    Unequal,
    AtMost,
    AtLeast,
    Below,
    Above,
}

/// How deep ranges may stand in each other.
const MAX_DEPTH: usize = 16;

impl Template {
    /// Parses `text`. The error says what is wrong with it.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        if !text.contains('{') {
            return Ok(Self(vec![Part::Path(steps(text)?)]));
        }
        let mut rest = text;
        let parts = parts(&mut rest, 0)?;
        Ok(Self(parts))
    }

    /// The template with the values of `root`; what does not exist is left out.
    pub(crate) fn render(&self, root: &Value) -> String {
        let mut out = String::new();
        render(&self.0, root, &mut out);
        out
    }
}

/// Up to the end of the range, or of the text at depth 0.
fn parts(rest: &mut &str, depth: usize) -> Result<Vec<Part>, String> {
    let mut parts = Vec::new();
    while let Some((before, after)) = rest.split_once('{') {
        if !before.is_empty() {
            parts.push(Part::Text(unescape(before)));
        }
        let end = closing(after, '}').ok_or("a '{' is not closed")?;
        let inside = after[..end].trim();
        *rest = &after[end + 1..];
        match (unquote(inside), inside.strip_prefix("range ")) {
            (Some(literal), _) => parts.push(Part::Text(unescape(literal))),
            (None, _) if inside == "end" && depth > 0 => return Ok(parts),
            (None, _) if inside == "end" => return Err("{end} without {range …}".into()),
            (None, Some(_)) if depth >= MAX_DEPTH => return Err("too many ranges".into()),
            (None, Some(path)) => {
                let path = steps(path.trim())?;
                parts.push(Part::Range(path, self::parts(rest, depth + 1)?));
            }
            (None, None) => parts.push(Part::Path(steps(inside)?)),
        }
    }
    if depth > 0 {
        return Err("{range …} without {end}".into());
    }
    if !rest.is_empty() {
        parts.push(Part::Text(unescape(rest)));
    }
    Ok(parts)
}

/// Where `close` stands in `text`, outside of quotes and of what is opened after it.
fn closing(text: &str, close: char) -> Option<usize> {
    let open = match close {
        '}' => '{',
        _ => '[',
    };
    let (mut depth, mut quote, mut escaped) = (0_usize, None, false);
    for (at, c) in text.char_indices() {
        match (quote, c) {
            _ if escaped => escaped = false,
            (Some(_), '\\') => escaped = true,
            (Some(q), c) if q == c => quote = None,
            (Some(_), _) => {}
            (None, '"' | '\'') => quote = Some(c),
            (None, c) if c == close && depth == 0 => return Some(at),
            (None, c) if c == close => depth -= 1,
            (None, c) if c == open => depth += 1,
            (None, _) => {}
        }
    }
    None
}

fn render(parts: &[Part], at: &Value, out: &mut String) {
    for part in parts {
        match part {
            Part::Text(text) => out.push_str(text),
            Part::Path(steps) => {
                let found: Vec<String> = select(at, steps).into_iter().map(word).collect();
                out.push_str(&found.join(" "));
            }
            Part::Range(steps, parts) => {
                for value in select(at, steps) {
                    render(parts, value, out);
                }
            }
        }
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
            let end = closing(inside, ']').ok_or("a '[' is not closed")?;
            steps.push(bracket(inside[..end].trim())?);
            rest = &inside[end + 1..];
        } else if let Some(name) = rest.strip_prefix('.') {
            let end = end_of(name);
            match &name[..end] {
                "" if end == name.len() || name.starts_with('[') => {}
                "" => return Err("'..' is not supported".into()),
                "*" => steps.push(Step::All),
                key => steps.push(Step::Key(key.replace('\\', ""))),
            }
            rest = &name[end..];
        } else {
            return Err(format!("{path:?} must begin with '.' or '['"));
        }
    }
    Ok(steps)
}

/// Where the key at the begin of `text` ends; what follows a backslash is part of it.
fn end_of(text: &str) -> usize {
    let mut escaped = false;
    let end = text.find(|c| {
        let end = !escaped && matches!(c, '.' | '[');
        escaped = !escaped && c == '\\';
        end
    });
    end.unwrap_or(text.len())
}

fn bracket(inside: &str) -> Result<Step, String> {
    if inside == "*" {
        return Ok(Step::All);
    }
    if let Some(condition) = inside.strip_prefix("?(").and_then(|t| t.strip_suffix(')')) {
        return filter(condition.trim());
    }
    if let Some(key) = unquote(inside) {
        return Ok(Step::Key(key.to_owned()));
    }
    let index = inside.parse().map_err(|_| {
        format!("[{inside}] is not supported: a number, *, a quoted key or ?(@.path==\"x\") stands there")
    })?;
    Ok(Step::Index(index))
}

fn unquote(text: &str) -> Option<&str> {
    let inside = |quote: char| text.strip_prefix(quote)?.strip_suffix(quote);
    inside('\'').or_else(|| inside('"'))
}

/// The first comparison outside of quotes: what is before it, itself, what is after it.
fn comparison(condition: &str) -> Option<(&str, Compare, &str)> {
    const WORDS: [(&str, Compare); 6] = [
        ("==", Compare::Equal),
        ("!=", Compare::Unequal),
        ("<=", Compare::AtMost),
        (">=", Compare::AtLeast),
        ("<", Compare::Below),
        (">", Compare::Above),
    ];
    let mut quote = None;
    for (at, c) in condition.char_indices() {
        match quote {
            Some(q) if q == c => quote = None,
            Some(_) => {}
            None if matches!(c, '"' | '\'') => quote = Some(c),
            None => {
                for (word, compare) in WORDS {
                    if let Some(after) = condition[at..].strip_prefix(word) {
                        return Some((&condition[..at], compare, after));
                    }
                }
            }
        }
    }
    None
}

fn filter(condition: &str) -> Result<Step, String> {
    if !condition.starts_with('@') {
        return Err(format!("?({condition}) must begin with '@'"));
    }
    let Some((path, compare, literal)) = comparison(condition) else {
        return Ok(Step::Filter(steps(condition)?, None));
    };
    let literal = literal.trim();
    let value = match unquote(literal) {
        Some(text) => Value::String(text.to_owned()),
        None => serde_json::from_str(literal)
            .map_err(|_| format!("{literal:?} is neither quoted nor a number, true or false"))?,
    };
    Ok(Step::Filter(steps(path.trim())?, Some((compare, value))))
}

fn holds(value: &Value, compare: Compare, literal: &Value) -> bool {
    let order = match (value, literal) {
        (Value::Number(a), Value::Number(b)) => a
            .as_f64()
            .zip(b.as_f64())
            .and_then(|(a, b)| a.partial_cmp(&b)),
        (Value::String(a), Value::String(b)) => Some(a.cmp(b)),
        _ => (value == literal).then_some(Ordering::Equal),
    };
    match compare {
        Compare::Equal => order == Some(Ordering::Equal),
        Compare::Unequal => order != Some(Ordering::Equal),
        Compare::AtMost => order.is_some_and(Ordering::is_le),
        Compare::AtLeast => order.is_some_and(Ordering::is_ge),
        Compare::Below => order == Some(Ordering::Less),
        Compare::Above => order == Some(Ordering::Greater),
    }
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
        (Step::Filter(path, condition), Value::Array(list)) => {
            let fits = |element: &&Value| {
                let mut values = select(element, path).into_iter();
                match condition {
                    None => values.next().is_some(),
                    Some((compare, literal)) => values.any(|v| holds(v, *compare, literal)),
                }
            };
            list.iter().filter(fits).collect()
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
            (r"{.a[0].c\.d}", "x"),
            ("{$.e}{\"\\n\"}", "text\n"),
            ("{$.e}{'\\n'}", "text\n"),
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
    fn ranges_and_filters() {
        let root = json!([
            {"id": 61, "s": {"name": "web}", "ok": true}, "l": [1, 2]},
            {"id": 133, "s": {"name": "host", "ok": false}, "l": []},
            {"id": 490, "s": {}},
        ]);
        for (template, expected) in [
            (
                r#"{range [*]}{.id}{"="}{@.s.name}{"\n"}{end}"#,
                "61=web}\n133=host\n490=\n",
            ),
            (
                r#"{range [*]}{.id}:{range .l[*]}<{@}>{end} {end}."#,
                "61:<1><2> 133: 490: .",
            ),
            (r#"{[?(@.s.name=="web}")].id}"#, "61"),
            (r"{[?(@.s.name=='host')].id}", "133"),
            (r"{[?(@.s.ok)].id}", "61 133"),
            (r"{[?(@.s.ok==true)].id}", "61"),
            (r"{[?(@.id>=133)].id}", "133 490"),
            (r"{[?(@.id < 133)].id}", "61"),
            (r"{[?(@.s.name!='host')].id}", "61"),
            (r"{[?(@.l[0]==1)].id}", "61"),
            (r"{[?(@.s.name<'i<=j==k')].id}", "133"),
            (r"{[?(@.s['a==b']!='x')].id}", ""),
            (r"{range [?(@.id>1000)]}x{end}", ""),
        ] {
            let parsed = Template::parse(template).expect(template);
            assert_eq!(parsed.render(&root), expected, "{template}");
        }
    }

    #[test]
    fn bad_paths_are_refused_in_words() {
        for text in [
            "{.a",
            "{.a[0}",
            "{range .items}",
            "{end}",
            "{range .a}{range .b}{end}",
            "{.a[?(b==1)]}",
            "{.a[?(@.b==x)]}",
            "{.a[1:2]}",
            "{..a}",
            "e",
        ] {
            assert!(Template::parse(text).is_err(), "{text}");
        }
    }
}
