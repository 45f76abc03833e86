// SPDX-License-Identifier: Apache-2.0
//! The documents for developers name files, functions and types: those must exist.

use std::path::{Path, PathBuf};

use super::read;

const DOCUMENTS: [&str; 2] = ["ARCHITECTURE.md", "CONTRIBUTING.md"];
/// Endings of what is a file's name; any other dot makes a word something else.
const FILES: [&str; 5] = [".rs", ".layout", ".toml", ".md", ".sh"];

pub(super) fn check(root: &Path, sources: &[PathBuf]) -> Result<Vec<String>, String> {
    let mut code = String::new();
    for path in sources {
        code.push_str(&read(path)?);
    }
    let mut problems = Vec::new();
    for document in DOCUMENTS {
        let text = read(&root.join(document))?;
        for name in quoted(&text) {
            let exists = if FILES.iter().any(|ending| name.ends_with(ending)) {
                is_file(root, sources, name)
            } else {
                is_in(&code, name)
            };
            if !exists {
                problems.push(format!("{document}: `{name}` is not there"));
            }
        }
    }
    Ok(problems)
}

/// The words in backquotes that name a file, function or type. Blocks of code are left out.
fn quoted(text: &str) -> Vec<&str> {
    let outside = text.split("```").step_by(2);
    let words = outside.flat_map(|part| part.split('`').skip(1).step_by(2));
    let is_name = |word: &&str| {
        let letters = word
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || "_:./-".contains(c));
        let code = word.contains('_') || word.contains("::");
        letters && (code || FILES.iter().any(|ending| word.ends_with(ending)))
    };
    words
        .filter(is_name)
        .filter(|word| !word.starts_with('.'))
        .collect()
}

/// Whether a path below the root or `crates/` is there, or one that ends so.
fn is_file(root: &Path, sources: &[PathBuf], name: &str) -> bool {
    root.join(name).exists()
        || root.join("crates").join(name).exists()
        || sources.iter().any(|path| path.ends_with(name))
        // A file beside a crate's `src`.
        || sources.iter().any(|path| {
            let mut above = path.ancestors();
            above.any(|dir| dir.ends_with("src") && dir.with_file_name(name).exists())
        })
}

/// Whether the last part of a path of names is a word of the code.
fn is_in(code: &str, name: &str) -> bool {
    // `cluster/node` and the like are no names of the code.
    if name.contains(['/', '-', '.']) {
        return true;
    }
    let last = name.rsplit("::").next().unwrap_or(name);
    let is_word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    code.match_indices(last).any(|(at, _)| {
        !code[..at].ends_with(is_word) && !code[at + last.len()..].starts_with(is_word)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_found_in_text() {
        let text = "`a.rs`, `Core::put_ip` and `from_pod`, but not `make test`, `plain`, `x y_z`\n```\n`b.rs`\n```\n`c/d.rs`";
        assert_eq!(quoted(text), ["a.rs", "Core::put_ip", "from_pod", "c/d.rs"]);
    }

    #[test]
    fn whole_words_count() {
        let code = "fn put_ip() {}";
        assert!(is_in(code, "Datapath::put_ip"));
        assert!(!is_in(code, "put_i"));
        assert!(!is_in(code, "ut_ip"));
    }
}
