// SPDX-License-Identifier: Apache-2.0
//! Heads, sizes and unsafe code of every Rust file.

use std::path::{Path, PathBuf};

use super::read;

const LICENCE: &str = "// SPDX-License-Identifier: Apache-2.0";

/// What becomes part of the BPF programs: the kernel wants those under the GPL.
const KERNEL_LICENCE: &str = "// SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only";
const KERNEL_CRATES: [&str; 3] = ["crates/abi/", "crates/ebpf/", "crates/fastpath/"];

/// Lines of a file that can still be read in one go.
const LIMIT: usize = 400;

/// (file, lines, why it is one thing).
const LONG: [(&str, usize, &str); 4] = [
    (
        "crates/clustermesh/tests/common/mod.rs",
        450,
        "one simulated mesh: its parts know each other",
    ),
    (
        "crates/clustermesh/tests/lifecycle.rs",
        500,
        "a cluster's life in order, with its setting",
    ),
    (
        "crates/fastpath/tests/pod.rs",
        460,
        "all cases of one entry point",
    ),
    (
        "crates/policy/tests/property.rs",
        420,
        "generators and properties use each other",
    ),
];

/// (directory, why it may hold unsafe code). Everywhere else it is forbidden.
const UNSAFE: [(&str, &str); 6] = [
    ("crates/ebpf/", "kernel helpers and packet pointers"),
    ("crates/datapath/", "BPF system calls and shared memory"),
    (
        "crates/isthmus/src/memory.rs",
        "options of the C allocator, and pages of the program",
    ),
    ("crates/netlink/", "namespaces and raw sockets"),
    (
        "crates/testbed/",
        "entering namespaces between fork and exec",
    ),
    (
        "crates/clustermesh/tests/memory.rs",
        "an allocator that counts bytes per row",
    ),
];

pub(super) fn check(root: &Path, sources: &[PathBuf]) -> Result<Vec<String>, String> {
    let mut problems = Vec::new();
    for path in sources {
        let name = path
            .strip_prefix(root)
            .unwrap_or(path)
            .display()
            .to_string();
        let text = read(path)?;
        problems.extend(head(&name, &text));
        problems.extend(size(&name, text.lines().count()));
        problems.extend(unsafe_code(&name, &text));
    }
    Ok(problems)
}

fn head(name: &str, text: &str) -> Option<String> {
    let mut lines = text.lines();
    let licence = licence(name);
    if lines.next() != Some(licence) {
        return Some(format!("{name}:1: the first line must be `{licence}`"));
    }
    match lines.next() {
        Some(line) if line.starts_with("//! ") => None,
        _ => Some(format!(
            "{name}:2: say in a `//!` head what the file is for"
        )),
    }
}

fn licence(name: &str) -> &'static str {
    if KERNEL_CRATES.iter().any(|place| name.starts_with(place)) {
        KERNEL_LICENCE
    } else {
        LICENCE
    }
}

fn size(name: &str, lines: usize) -> Option<String> {
    let limit = LONG
        .iter()
        .find(|(file, ..)| *file == name)
        .map_or(LIMIT, |(_, lines, _)| *lines);
    (lines > limit).then(|| format!("{name}: {lines} lines, at most {limit}: is it two things?"))
}

fn unsafe_code(name: &str, text: &str) -> Option<String> {
    if UNSAFE.iter().any(|(place, _)| name.starts_with(place)) {
        return None;
    }
    // Split, so that this file does not find itself.
    let words = [
        concat!("unsafe", " {"),
        concat!("unsafe", " fn"),
        concat!("unsafe", " impl"),
        concat!("#[", "unsafe("),
    ];
    let found = |line: &str| {
        words.iter().any(|word| line.contains(word)) && !line.trim_start().starts_with("//")
    };
    let line = text.lines().position(found)?;
    Some(format!(
        "{name}:{}: unsafe code is allowed in few places, see crates/xtask/src/tidy/files.rs",
        line + 1
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_of_problem_is_found() {
        assert!(head("a.rs", "//! no licence\n").is_some());
        assert!(head("a.rs", &format!("{LICENCE}\nfn main() {{}}\n")).is_some());
        assert!(head("a.rs", &format!("{LICENCE}\n//! Fine.\n")).is_none());
        let kernel = format!("{KERNEL_LICENCE}\n//! Fine.\n");
        assert!(head("crates/ebpf/src/a.rs", &kernel).is_none());
        assert!(head("crates/ebpf/src/a.rs", &format!("{LICENCE}\n//! Fine.\n")).is_some());
        assert!(head("crates/cli/src/a.rs", &kernel).is_some());
        assert!(size("a.rs", LIMIT + 1).is_some());
        let code = concat!("fn f() { unsafe", " { g() } }");
        assert!(unsafe_code("crates/model/src/a.rs", code).is_some());
        assert!(unsafe_code("crates/netlink/src/a.rs", code).is_none());
        assert!(unsafe_code("crates/model/src/a.rs", &format!("// {code}")).is_none());
    }
}
