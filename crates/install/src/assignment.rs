// SPDX-License-Identifier: Apache-2.0
//! Assignments of the command line, as Helm takes them: `a.b=1,c={x,y},d[0].e=z`. A backslash takes the letter behind it
//! for what it is.

use std::iter::Peekable;
use std::str::Chars;

use serde_json::{Map, Value};

use crate::Error;

/// Most elements of a list that is written by its places.
const MOST: usize = 1024;

/// A step of a path.
#[derive(Clone, PartialEq, Eq, Debug)]
enum Step {
    Name(String),
    Index(usize),
}

/// One `path=value`.
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct Assignment {
    path: Vec<Step>,
    value: Value,
}

/// All assignments of one argument. Typed: `true`, `false`, `null` and whole numbers are no text.
pub(crate) fn parse(text: &str, is_typed: bool) -> Result<Vec<Assignment>, Error> {
    let mut reader = Reader {
        letters: text.chars().peekable(),
        is_typed,
    };
    reader.all().ok_or_else(|| Error::Assignment {
        text: text.to_owned(),
    })
}

impl Assignment {
    /// The assignment as a document to be merged into `values`. A list whose place is written is that of `values` with
    /// this place changed.
    pub(crate) fn document(self, values: &Value) -> Value {
        let names: Vec<String> = self
            .path
            .iter()
            .map_while(|step| match step {
                Step::Name(name) => Some(name.clone()),
                Step::Index(_) => None,
            })
            .collect();
        let mut value = names
            .iter()
            .try_fold(values, |at, name| at.get(name))
            .cloned()
            .unwrap_or_default();
        put(&mut value, &self.path[names.len()..], self.value);
        let nested = |inner, name| Value::Object(Map::from_iter([(name, inner)]));
        names.into_iter().rev().fold(value, nested)
    }
}

fn put(slot: &mut Value, path: &[Step], value: Value) {
    match path.split_first() {
        None => *slot = value,
        Some((Step::Name(name), rest)) => {
            if !slot.is_object() {
                *slot = Value::Object(Map::new());
            }
            put(&mut slot[name.as_str()], rest, value);
        }
        Some((Step::Index(index), rest)) => {
            if !slot.is_array() {
                *slot = Value::Array(Vec::new());
            }
            if let Value::Array(items) = slot {
                if items.len() <= *index {
                    items.resize(index + 1, Value::Null);
                }
                put(&mut items[*index], rest, value);
            }
        }
    }
}

struct Reader<'a> {
    letters: Peekable<Chars<'a>>,
    is_typed: bool,
}

impl Reader<'_> {
    /// None: it is no assignment.
    fn all(&mut self) -> Option<Vec<Assignment>> {
        let mut all = Vec::new();
        loop {
            let path = self.path()?;
            let value = match self.letters.next_if_eq(&'{') {
                Some(_) => self.list()?,
                None => {
                    let (text, _) = self.until(&[',']);
                    self.value(text)
                }
            };
            all.push(Assignment { path, value });
            match self.letters.next() {
                None => return Some(all),
                Some(',') => {}
                Some(_) => return None,
            }
        }
    }

    /// Up to and with `=`.
    fn path(&mut self) -> Option<Vec<Step>> {
        let mut path = Vec::new();
        loop {
            let (name, end) = self.until(&['.', '[', '=', ',']);
            if name.is_empty() {
                return None;
            }
            path.push(Step::Name(name));
            let mut end = end?;
            while end == '[' {
                self.letters.next();
                let (index, _) = self.until(&[']']);
                let index = index.parse().ok().filter(|index| *index < MOST)?;
                self.letters.next();
                path.push(Step::Index(index));
                end = *self.letters.peek()?;
            }
            match end {
                '=' => {
                    self.letters.next();
                    return Some(path);
                }
                '.' => drop(self.letters.next()),
                _ => return None,
            }
        }
    }

    /// The rest of `{a,b}`.
    fn list(&mut self) -> Option<Value> {
        let mut items = Vec::new();
        loop {
            let (text, end) = self.until(&[',', '}']);
            let text = text.trim().to_owned();
            if !text.is_empty() {
                items.push(self.value(text));
            }
            end?;
            if self.letters.next() == Some('}') {
                return Some(Value::Array(items));
            }
        }
    }

    /// Text up to one of these letters or the end; the letter stays.
    fn until(&mut self, ends: &[char]) -> (String, Option<char>) {
        let mut text = String::new();
        while let Some(letter) = self.letters.peek().copied() {
            if ends.contains(&letter) {
                return (text, Some(letter));
            }
            self.letters.next();
            match letter {
                '\\' => text.extend(self.letters.next()),
                letter => text.push(letter),
            }
        }
        (text, None)
    }

    fn value(&self, text: String) -> Value {
        if !self.is_typed {
            return Value::from(text);
        }
        // What begins with a zero may be a number of another kind: a file mode, a telephone number.
        let is_number = text == "0" || !text.starts_with('0');
        match text.to_ascii_lowercase().as_str() {
            "true" => Value::Bool(true),
            "false" => Value::Bool(false),
            "null" => Value::Null,
            _ => match text.parse::<i64>() {
                Ok(number) if is_number => Value::from(number),
                _ => Value::from(text),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn documents(text: &str, values: &Value) -> Vec<Value> {
        let all = parse(text, true).expect("assignments");
        all.into_iter().map(|one| one.document(values)).collect()
    }

    #[test]
    fn several_assignments_with_lists_and_escapes() {
        let all = documents(
            r"a.b=1,c={x, 2,},d\.e=f\,g,h=,i=0123,j=0,k=https://x?y=z,l={},m=True,n=NULL",
            &Value::Null,
        );
        let expected = [
            json!({"a": {"b": 1}}),
            json!({"c": ["x", 2]}),
            json!({"d.e": "f,g"}),
            json!({"h": ""}),
            json!({"i": "0123"}),
            json!({"j": 0}),
            json!({"k": "https://x?y=z"}),
            json!({"l": []}),
            json!({"m": true}),
            json!({"n": null}),
        ];
        assert_eq!(all, expected);
        let text = parse("a=1", false).expect("an assignment");
        assert_eq!(text[0].value, json!("1"));
    }

    #[test]
    fn a_place_of_a_list_is_changed_in_what_is_there() {
        let values = json!({"a": {"b": [{"k": "x", "v": 1}, 2]}});
        assert_eq!(
            documents("a.b[0].k=y", &values),
            [json!({"a": {"b": [{"k": "y", "v": 1}, 2]}})]
        );
        assert_eq!(
            documents("t[1].k=y", &values),
            [json!({"t": [null, {"k": "y"}]})]
        );
        assert_eq!(
            documents("m[0][1]=y", &values),
            [json!({"m": [[null, "y"]]})]
        );
    }

    #[test]
    fn what_is_no_assignment_is_refused() {
        for text in [
            "",
            "a",
            "=1",
            "a..b=1",
            ".a=1",
            "a=1,b",
            "a=1,",
            "a={x",
            "a={x}y",
            "a[x]=1",
            "a[0=1",
            "a[0]b=1",
            "a[0].=1",
            "a.[0]=1",
            "a[5000]=1",
            "a[-1]=1",
        ] {
            assert!(parse(text, true).is_err(), "{text}");
        }
    }
}
