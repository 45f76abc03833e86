// SPDX-License-Identifier: Apache-2.0
//! An editor for `kubectl edit configmap`: it changes the lines that a person would change.

use std::fs;
use std::path::Path;

use crate::error::{Doing, LabError, Result};

/// Sets keys (`key=value`) of the ConfigMap in `file`.
///
/// # Errors
/// The file cannot be read or written, or a setting has no `=`.
pub fn edit_config_map(file: &Path, settings: &[String]) -> Result<()> {
    let mut text = fs::read_to_string(file).doing("read", file)?;
    for setting in settings {
        let (key, value) = setting
            .split_once('=')
            .ok_or_else(|| LabError::Unmet(format!("{setting}: no `=` in it")))?;
        text = set(&text, key, value);
    }
    fs::write(file, text).doing("write", file)
}

/// The YAML of a ConfigMap with `key: value` in its data, in place of the old value if there is one.
fn set(yaml: &str, key: &str, value: &str) -> String {
    // JSON's strings are YAML's.
    let line = format!("  {key}: {}", serde_json::Value::from(value));
    let mut lines = Vec::new();
    let (mut inside, mut replacing, mut done) = (false, false, false);
    for old in yaml.lines() {
        let top = !old.starts_with([' ', '#', '-']) && !old.is_empty();
        if top {
            if inside && !done {
                lines.push(line.clone());
                done = true;
            }
            inside = old == "data:";
        }
        // A value of several lines goes with its key.
        replacing = replacing && old.starts_with("   ");
        if inside && old.starts_with(&format!("  {key}:")) {
            lines.push(line.clone());
            (replacing, done) = (true, true);
        } else if !replacing {
            lines.push(old.to_owned());
        }
    }
    if !done {
        if !inside {
            lines.push("data:".to_owned());
        }
        lines.push(line);
    }
    lines.join("\n") + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAP: &str = "# comment\napiVersion: v1\ndata:\n  a: |\n    two\n    lines\n  b: x\nkind: ConfigMap\n\
                       metadata:\n  name: a\n";

    #[test]
    fn a_value_is_replaced_whole_and_only_in_the_data() {
        let text = set(MAP, "a", "5");
        assert_eq!(
            text,
            MAP.replace("  a: |\n    two\n    lines\n", "  a: \"5\"\n")
        );
        assert_eq!(set(MAP, "b", "y"), MAP.replace("b: x", "b: \"y\""));
    }

    #[test]
    fn a_new_key_joins_the_data() {
        let added = MAP.replace("kind:", "  name: \"n\"\nkind:");
        assert_eq!(set(MAP, "name", "n"), added);
        let empty = "kind: ConfigMap\nmetadata:\n  name: a\n";
        assert_eq!(set(empty, "k", "v"), format!("{empty}data:\n  k: \"v\"\n"));
        assert_eq!(
            set("data:\n  a: b\n", "k", "v"),
            "data:\n  a: b\n  k: \"v\"\n"
        );
    }
}
