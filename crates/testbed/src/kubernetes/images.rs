// SPDX-License-Identifier: Apache-2.0
//! The images that a lab runs: the sandbox of every pod, CoreDNS, a client and server of ours with the tools that
//! people use inside pods, and those of Kubernetes' own network tests.

use std::collections::BTreeSet;
use std::fs;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::image::{Content, Image};
use crate::error::{Doing, LabError, Result};
use crate::pki::{Authority, Role};
use crate::process::{PATIENCE, output};

/// The sandbox's image.
pub const PAUSE: &str = "localhost/isthmus-lab/pause:1";
/// CoreDNS.
pub const COREDNS: &str = "localhost/isthmus-lab/coredns:1";
/// `lab serve` with a shell, curl and ping.
pub const TOOLS: &str = "localhost/isthmus-lab/tools:1";
/// The server and client of Kubernetes' own network tests, under the name that they ask for.
pub const AGNHOST: &str = "registry.k8s.io/e2e-test-images/agnhost:2.56";
/// Another image with their tools for names: they ask twice, because libraries differ.
pub const DNSUTILS: &str = "registry.k8s.io/e2e-test-images/jessie-dnsutils:1.7";

/// (stem of the archive, name).
pub(super) const TEST_IMAGES: [(&str, &str); 4] = [
    ("agnhost", AGNHOST),
    ("dnsutils", DNSUTILS),
    (
        "busybox",
        "registry.k8s.io/e2e-test-images/busybox:1.37.0-1",
    ),
    ("test-pause", "registry.k8s.io/pause:3.10.1"),
];

/// What `TOOLS` has of the machine's programs.
const PROGRAMS: [&str; 11] = [
    "cat", "curl", "date", "env", "getent", "ip", "ls", "ping", "sh", "sleep", "true",
];
/// What the images of Kubernetes' network tests have of them: what its cases call.
const TEST_PROGRAMS: [&str; 27] = [
    "cat", "curl", "cut", "date", "dd", "dig", "echo", "env", "getent", "grep", "hostname", "ip",
    "ls", "nc", "nslookup", "seq", "sh", "sleep", "sort", "ss", "tail", "test", "timeout", "tr",
    "true", "wc", "wget",
];

/// Writes the archives of all images into `to`. `from` has the static programs `pause`, `lab`, `coredns`
/// and `agnhost`.
///
/// # Errors
/// A program is missing, or an archive cannot be written.
pub fn write_all(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir_all(to).doing("create", to)?;
    for (stem, name) in [("pause", PAUSE), ("coredns", COREDNS)] {
        single(name, stem, from).write(&to.join(stem).with_extension("tar"))?;
    }
    with_programs(single(TOOLS, "lab", from), &PROGRAMS)?.write(&to.join("tools.tar"))
}

/// Writes the archives of the images of Kubernetes' own network tests into `to`. `from` has the static programs
/// `agnhost` and `coredns`.
///
/// # Errors
/// A program is missing, or an archive cannot be written.
pub fn write_test_images(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir_all(to).doing("create", to)?;
    let names = ["localhost"];
    let role = Role::NamedServer(&[Ipv4Addr::LOCALHOST.into()], &names);
    let files = Authority::new("network tests")?.issue(to, "localhost", role)?;
    for (stem, name) in TEST_IMAGES {
        let image = match stem {
            "test-pause" => single(name, "pause", from),
            "busybox" => with_programs(bare(name), &TEST_PROGRAMS)?,
            _ => {
                let mut image = single(name, "agnhost", from);
                image.arguments = vec!["pause".into()];
                // Name servers of the tests themselves, and the certificate of servers with TLS.
                image.files.extend([
                    ("/coredns".into(), Content::File(from.join("coredns"))),
                    ("/localhost.crt".into(), Content::File(files.cert.clone())),
                    ("/localhost.key".into(), Content::File(files.key.clone())),
                ]);
                with_programs(image, &TEST_PROGRAMS)?
            }
        };
        image.write(&to.join(stem).with_extension("tar"))?;
    }
    Ok(())
}

/// An image of one static program.
fn single(name: &str, program: &str, from: &Path) -> Image {
    let path = format!("/{program}");
    let mut image = bare(name);
    image.entrypoint = vec![path.clone()];
    image.files.push((path, Content::File(from.join(program))));
    image
}

fn bare(name: &str) -> Image {
    Image {
        name: name.to_owned(),
        files: vec![("/tmp".into(), Content::Directory)],
        ..Image::default()
    }
}

/// An image with programs of this machine, and what they are linked with, added.
fn with_programs(mut image: Image, programs: &[&str]) -> Result<Image> {
    let mut seen = BTreeSet::new();
    for program in programs {
        let found = find(program)?;
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
fn find(name: &str) -> Result<PathBuf> {
    let mut paths = ["/usr/bin", "/usr/sbin", "/bin", "/sbin"]
        .iter()
        .map(|dir| Path::new(dir).join(name));
    paths
        .find(|path| path.is_file())
        .ok_or_else(|| LabError::Missing {
            what: "a program for images",
            path: name.into(),
            advice: "run `tools/install.sh kubernetes`",
        })
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
