// SPDX-License-Identifier: Apache-2.0
//! What Kubernetes labs run, in `target/kubernetes`: Kubernetes, CoreDNS, Helm and Kubernetes' own network tests
//! from pinned Go modules, and the archives of the lab's images. A cold build takes minutes, so each program is built again only
//! if what it is made from has changed, once for all working copies of a user.

use std::fs;
use std::hash::{DefaultHasher, Hasher};
use std::path::Path;
use std::process::Command;
use std::time::Instant;

use crate::{cache, cargo, dist};

/// A Go program.
struct Program {
    name: &'static str,
    /// The module, below `tools/kubernetes`.
    module: &'static str,
    package: &'static str,
}

const PROGRAMS: [Program; 2] = [
    Program {
        name: "kubernetes",
        module: ".",
        package: ".",
    },
    Program {
        name: "coredns",
        module: "coredns",
        package: ".",
    },
];
/// What tests of the chart compare with.
const HELM: Program = Program {
    name: "helm",
    module: "helm",
    package: "helm.sh/helm/v3/cmd/helm",
};
/// Those of Kubernetes' own network tests: the suite, and what its pods run.
const TESTS: [Program; 2] = [
    Program {
        name: "e2e",
        module: "e2e",
        package: ".",
    },
    Program {
        name: "agnhost",
        module: ".",
        package: "k8s.io/kubernetes/test/images/agnhost",
    },
];
/// Programs of this workspace that go into images.
const OWN: [&str; 2] = ["lab", "pause"];
/// Where Kubernetes' programs keep their version.
const VERSION: &str = "k8s.io/component-base/version";

/// Go leaves out what debuggers need, also while it compiles.
const FLAGS: [&str; 4] = [
    "-mod=readonly",
    "-trimpath",
    "-buildvcs=false",
    "-gcflags=all=-dwarf=false",
];

/// Builds what is missing or old of what runs in labs.
pub(crate) fn build(root: &Path) -> Result<(), String> {
    let target = root.join("target/kubernetes");
    fs::create_dir_all(&target).map_err(|error| format!("{}: {error}", target.display()))?;
    for program in &PROGRAMS {
        go(root, program, &target)?;
    }
    dist::build(root)?;
    let built = dist::built(root);
    for name in OWN {
        dist::install(&built.join(name), &target.join(name))?;
    }
    images(&built.join("lab"), &target, &[])
}

/// Builds Helm, if it is missing or old.
pub(crate) fn build_helm(root: &Path) -> Result<(), String> {
    let target = root.join("target/kubernetes");
    fs::create_dir_all(&target).map_err(|error| format!("{}: {error}", target.display()))?;
    go(root, &HELM, &target)
}

/// As [`build`], and Kubernetes' own network tests with their images.
pub(crate) fn build_tests(root: &Path) -> Result<(), String> {
    build(root)?;
    let target = root.join("target/kubernetes");
    for program in &TESTS {
        go(root, program, &target)?;
    }
    images(&dist::built(root).join("lab"), &target, &["--tests"])
}

fn go(root: &Path, program: &Program, target: &Path) -> Result<(), String> {
    let module = root.join("tools/kubernetes").join(program.module);
    let flags = linker_flags(&read(&module.join("go.mod"))?);
    let mut key = DefaultHasher::new();
    for file in ["go.mod", "go.sum"] {
        key.write(read(&module.join(file))?.as_bytes());
    }
    if program.package == "." {
        key.write(read(&module.join("main.go"))?.as_bytes());
    }
    for flag in FLAGS.iter().chain([&flags.as_str()]) {
        key.write(flag.as_bytes());
    }
    let key = format!("{:016x}", key.finish());
    let (output, mark) = (
        target.join(program.name),
        target.join(format!("{}.key", program.name)),
    );
    if output.is_file() && fs::read_to_string(&mark).is_ok_and(|old| old == key) {
        return Ok(());
    }
    let failed = |error: std::io::Error| format!("{}: {error}", output.display());
    if cache::fetch(program.name, &key, &output)? {
        return fs::write(&mark, key).map_err(failed);
    }
    println!(
        "building {} (minutes, if Go has not cached it)",
        program.name
    );
    let started = Instant::now();
    let new = target.join(format!("{}.new", program.name));
    let mut build = Command::new("go");
    build
        .current_dir(&module)
        .arg("build")
        .args(FLAGS)
        .args(["-ldflags", &flags, "-o"])
        .arg(&new)
        .arg(program.package)
        // Static, because they run in images that hold nothing else.
        .env("CGO_ENABLED", "0");
    cargo::run(build)?;
    fs::rename(&new, &output).map_err(failed)?;
    cache::keep(program.name, &key, &output);
    fs::write(&mark, key).map_err(failed)?;
    println!(
        "target/kubernetes/{} built in {:.0} s",
        program.name,
        started.elapsed().as_secs_f64()
    );
    Ok(())
}

/// Symbols are left out, and Kubernetes' programs are told the version of the module: they compare it.
fn linker_flags(module: &str) -> String {
    let mut flags = "-s -w".to_owned();
    let version = module.lines().find_map(|line| {
        let mut words = line.split_whitespace();
        (words.next() == Some("k8s.io/kubernetes")).then(|| words.next())?
    });
    if let Some(version) = version {
        let mut numbers = version.trim_start_matches('v').split('.');
        let major = numbers.next().unwrap_or_default();
        let minor = numbers.next().unwrap_or_default();
        flags += &format!(
            " -X {VERSION}.gitVersion={version} -X {VERSION}.gitMajor={major} -X {VERSION}.gitMinor={minor}"
        );
    }
    flags
}

/// The archives are the lab's own work. They are written each time: that takes a second.
fn images(lab: &Path, target: &Path, which: &[&str]) -> Result<(), String> {
    let mut command = Command::new(lab);
    command
        .args(["kubernetes", "images"])
        .args(which)
        .arg(target)
        .arg(target.join("images"));
    cargo::run(command)
}

fn read(path: &Path) -> Result<String, String> {
    fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_comes_from_the_module() {
        let module =
            "module m\n\nrequire (\n\tk8s.io/kubectl v0.34.4\n\tk8s.io/kubernetes v1.34.4\n)\n";
        let flags = linker_flags(module);
        assert!(flags.contains("version.gitVersion=v1.34.4"), "{flags}");
        assert!(flags.contains("version.gitMinor=34"), "{flags}");
        assert_eq!(linker_flags("module m\n"), "-s -w");
    }
}
