// SPDX-License-Identifier: Apache-2.0
//! What an option is, and finding one by its name or by what somebody may have meant.

use super::defs::options;

/// What a value must look like.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Kind {
    /// `true` or `false`; a flag without value is `true`.
    Bool,
    /// A number of seconds, or Go's notation: `15m`, `1m30s`, `500ms`.
    Duration,
    /// A whole number.
    Number,
    /// Any text; a path, a name, an address.
    Text,
    /// Text that may be given several times or separated by commas.
    List,
    /// `key=value`, several times or separated by commas.
    Map,
}

/// One option.
#[derive(Debug)]
pub(crate) struct Def {
    pub(crate) name: &'static str,
    pub(crate) kind: Kind,
    pub(crate) default: &'static str,
    pub(crate) section: &'static str,
    pub(crate) help: &'static str,
}

/// An option of a section.
pub(super) const fn def(
    section: &'static str,
    name: &'static str,
    kind: Kind,
    default: &'static str,
    help: &'static str,
) -> Def {
    Def {
        name,
        kind,
        default,
        section,
        help,
    }
}

/// The definition of `name`.
pub(crate) fn find(name: &str) -> Option<&'static Def> {
    options().find(|def| def.name == name)
}

/// The known name nearest to `name`, if one is near.
pub(crate) fn nearest(name: &str) -> Option<&'static str> {
    let scored = options().map(|def| (distance(name, def.name), def.name));
    scored
        .min()
        .filter(|(distance, known)| *distance <= known.len() / 3)
        .map(|(_, known)| known)
}

/// Levenshtein distance in bytes.
fn distance(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.bytes().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, y) in b.bytes().enumerate() {
            let substitute = diagonal + usize::from(x != y);
            diagonal = row[j + 1];
            row[j + 1] = substitute.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nearest_names() {
        assert_eq!(nearest("cluster-nam"), Some("cluster-name"));
        assert_eq!(nearest("clustermesh-confg"), Some("clustermesh-config"));
        assert_eq!(nearest("hubble-listen-address"), None);
    }
}
