// SPDX-License-Identifier: Apache-2.0
//! Builds `crates/ebpf` for the BPF target and leaves the object in `OUT_DIR` for `src/object.rs`.
//!
//! A second cargo with a target directory of its own, because target, standard library (`core` only) and
//! linker differ from the host build.

use std::env;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;

const TARGET: &str = "bpfel-unknown-none";
const OBJECT: &str = "isthmus";

fn main() {
    if let Err(message) = build() {
        println!("cargo::error={message}");
    }
}

fn build() -> Result<(), String> {
    let out = PathBuf::from(variable("OUT_DIR")?);
    let own = PathBuf::from(variable("CARGO_MANIFEST_DIR")?);
    let crates = own
        .parent()
        .ok_or("datapath is not below crates/")?
        .to_path_buf();
    let workspace = crates
        .parent()
        .ok_or("crates/ has no parent")?
        .to_path_buf();
    watch(&crates);
    let linker = linker(&workspace)?;
    let other_layout = env::var_os("CARGO_FEATURE_OTHER_LAYOUT").is_some();
    let target_dir = target_dir(&out, other_layout);
    compile(
        &crates.join("ebpf"),
        &workspace,
        &linker,
        &target_dir,
        other_layout,
    )?;
    let object = target_dir.join(TARGET).join("release").join(OBJECT);
    let copy = out.join("isthmus.bpf.o");
    std::fs::copy(&object, &copy)
        .map_err(|e| format!("copying {} to {}: {e}", object.display(), copy.display()))?;
    Ok(())
}

fn variable(name: &str) -> Result<OsString, String> {
    env::var_os(name).ok_or_else(|| format!("{name} is not set: run by cargo only"))
}

fn watch(crates: &Path) {
    println!("cargo::rerun-if-env-changed=ISTHMUS_BPF_LINKER");
    println!("cargo::rerun-if-changed=build.rs");
    for (name, parts) in [
        ("ebpf", &["src", "Cargo.toml", "Cargo.lock"][..]),
        ("fastpath", &["src", "Cargo.toml"]),
        ("abi", &["src", "Cargo.toml"]),
    ] {
        for part in parts {
            println!(
                "cargo::rerun-if-changed={}",
                crates.join(name).join(part).display()
            );
        }
    }
}

fn linker(workspace: &Path) -> Result<PathBuf, String> {
    let path = env::var_os("ISTHMUS_BPF_LINKER")
        .map_or_else(|| workspace.join(".tools/bin/bpf-linker"), PathBuf::from);
    if path.is_file() {
        return Ok(path);
    }
    Err(format!(
        "no BPF linker at {}: run `make tools`, or name one in ISTHMUS_BPF_LINKER",
        path.display()
    ))
}

/// A directory beside the host build's, shared by all its profiles; below `OUT_DIR` if cargo's layout is unknown.
fn target_dir(out: &Path, other_layout: bool) -> PathBuf {
    out.ancestors()
        .find(|dir| dir.join("CACHEDIR.TAG").is_file())
        .unwrap_or(out)
        .join(if other_layout { "ebpf-other" } else { "ebpf" })
}

fn compile(
    ebpf: &Path,
    workspace: &Path,
    linker: &Path,
    target_dir: &Path,
    other_layout: bool,
) -> Result<(), String> {
    let cargo = variable("CARGO")?;
    let flags = [
        format!("-Clinker={}", linker.display()),
        "-Cdebuginfo=2".into(),
        "-Clink-arg=--btf".into(),
        // The linker's default turns every small copy into a call of a byte loop.
        "-Clink-arg=--disable-expand-memcpy-in-order".into(),
        format!("--remap-path-prefix={}=.", workspace.display()),
    ];
    let mut command = Command::new(cargo);
    for (name, _) in env::vars_os().filter(|(name, _)| of_outer_build(name)) {
        command.env_remove(name);
    }
    command
        .current_dir(ebpf)
        .env("RUSTC_BOOTSTRAP", "1")
        .env("CARGO_ENCODED_RUSTFLAGS", flags.join("\u{1f}"))
        .args(["build", "--release", "--locked", "--target", TARGET])
        .args(["-Z", "build-std=core"])
        .arg("--target-dir")
        .arg(target_dir);
    if other_layout {
        command.args(["--features", "other-layout"]);
    }
    let output = command
        .output()
        .map_err(|e| format!("starting cargo for crates/ebpf: {e}"))?;
    if output.status.success() {
        return Ok(());
    }
    eprintln!("{}", String::from_utf8_lossy(&output.stderr));
    Err(format!(
        "building crates/ebpf for {TARGET}: {}",
        output.status
    ))
}

/// What the outer cargo set for us and would mean something else to the inner one.
fn of_outer_build(name: &OsString) -> bool {
    let name = name.to_string_lossy();
    let kept = ["CARGO_HOME", "CARGO_HTTP_CAINFO", "CARGO_NET_OFFLINE"];
    let outer = [
        "RUSTFLAGS",
        "RUSTC",
        "RUSTDOC",
        "TARGET",
        "HOST",
        "PROFILE",
        "OPT_LEVEL",
        "DEBUG",
    ];
    (name.starts_with("CARGO") && !kept.contains(&&*name) && !name.starts_with("CARGO_REGISTR"))
        || name.starts_with("RUSTC_")
        || outer.contains(&&*name)
}
