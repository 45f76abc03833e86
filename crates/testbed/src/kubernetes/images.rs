// SPDX-License-Identifier: Apache-2.0
//! The images that a lab runs: the sandbox of every pod, CoreDNS, agnhost, and a client and server of ours
//! with the tools that people use inside pods.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::image::{Content, Image};
use crate::error::{Doing, LabError, Result};
use crate::process::{PATIENCE, output};

/// The sandbox's image.
pub const PAUSE: &str = "localhost/isthmus-lab/pause:1";
/// CoreDNS.
pub const COREDNS: &str = "localhost/isthmus-lab/coredns:1";
/// `lab serve` with a shell, curl and ping.
pub const TOOLS: &str = "localhost/isthmus-lab/tools:1";
/// The image of Kubernetes' own network tests, under the name that they ask for.
pub const AGNHOST: &str = "registry.k8s.io/e2e-test-images/agnhost:2.56";

/// What `TOOLS` has of the machine's programs.
const PROGRAMS: [&str; 12] = [
    "cat", "curl", "date", "env", "getent", "ip", "ls", "nslookup", "ping", "sh", "sleep", "true",
];

/// Writes the archives of all images into `to`. `from` has the static programs `pause`, `lab`, `coredns`
/// and `agnhost`.
///
/// # Errors
/// A program is missing, or an archive cannot be written.
pub fn write_all(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir_all(to).doing("create", to)?;
    for (stem, name) in [("pause", PAUSE), ("coredns", COREDNS), ("agnhost", AGNHOST)] {
        single(name, stem, from).write(&to.join(stem).with_extension("tar"))?;
    }
    tools(from)?.write(&to.join("tools.tar"))
}

/// An image of one static program.
fn single(name: &str, program: &str, from: &Path) -> Image {
    Image {
        name: name.to_owned(),
        entrypoint: vec![format!("/{program}")],
        files: vec![
            (format!("/{program}"), Content::File(from.join(program))),
            ("/tmp".into(), Content::Directory),
        ],
    }
}

fn tools(from: &Path) -> Result<Image> {
    let mut image = single(TOOLS, "lab", from);
    let mut seen = BTreeSet::new();
    for program in PROGRAMS {
        let Some(found) = find(program) else { continue };
        let link = format!("/bin/{program}");
        for file in closure(&found)? {
            let path = file.display().to_string();
            if seen.insert(path.clone()) {
                let real = fs::canonicalize(&file).doing("resolve", &file)?;
                image.files.push((path, Content::File(real)));
            }
        }
        let found = found.display().to_string();
        if seen.insert(link.clone()) {
            image.files.push((link, Content::Link(found)));
        }
    }
    Ok(image)
}

/// A program of this machine.
fn find(name: &str) -> Option<PathBuf> {
    ["/usr/bin", "/usr/sbin", "/bin", "/sbin"]
        .iter()
        .map(|dir| Path::new(dir).join(name))
        .find(|path| path.is_file())
}

/// A program and every shared library that it is linked with, at the paths where it looks for them.
fn closure(program: &Path) -> Result<Vec<PathBuf>> {
    let mut ldd = Command::new("ldd");
    ldd.arg(program);
    let text = match output(ldd, PATIENCE) {
        Ok(text) => text,
        // A static program: ldd says so with status 1.
        Err(LabError::Command { .. }) => String::new(),
        Err(error) => return Err(error),
    };
    let mut files = vec![program.to_path_buf()];
    files.extend(libraries(&text));
    Ok(files)
}

/// The paths in ldd's answer.
fn libraries(text: &str) -> Vec<PathBuf> {
    text.lines()
        .filter_map(|line| line.split_whitespace().find(|word| word.starts_with('/')))
        .map(PathBuf::from)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn libraries_and_the_loader_are_found() {
        let text = "\tlinux-vdso.so.1 (0x00007ffc)\n\
                    \tlibc.so.6 => /lib/x86_64-linux-gnu/libc.so.6 (0x00007f)\n\
                    \t/lib64/ld-linux-x86-64.so.2 (0x00007f)\n";
        let expected = [
            "/lib/x86_64-linux-gnu/libc.so.6",
            "/lib64/ld-linux-x86-64.so.2",
        ];
        assert_eq!(libraries(text), expected.map(PathBuf::from));
        assert_eq!(libraries("\tstatically linked\n"), Vec::<PathBuf>::new());
    }
}
