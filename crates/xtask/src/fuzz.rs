// SPDX-License-Identifier: Apache-2.0
//! Fuzzing with libFuzzer: our crates are compiled with its counters by `tools/rustc-fuzz.sh`, and a target begins with
//! the files in `crates/fuzz/seeds`. A short run has a fixed number of executions and a fixed seed and keeps nothing;
//! a long one adds to a corpus in `target/fuzz`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use crate::cargo;

/// Targets with the executions of a short run, a few seconds each.
const TARGETS: [(&str, u32); 9] = [
    ("packets", 10_000),
    ("labels", 5000),
    ("values", 5000),
    ("etcd-config", 3000),
    ("rows", 8000),
    ("manifests", 250),
    ("options", 100),
    ("plugin", 8000),
    ("requests", 400),
];
/// Longest input, bytes.
const LONGEST: u32 = 2048;
/// Seconds after which one execution counts as endless.
const PATIENCE: u32 = 20;
/// Megabytes of memory that no target needs.
const MEMORY: u32 = 1024;

/// How a target ended.
pub(crate) struct Outcome {
    pub(crate) target: &'static str,
    pub(crate) runs: u32,
    pub(crate) time: Duration,
    /// What was found, in words.
    pub(crate) problem: Option<String>,
}

/// The program with all targets.
pub(crate) fn build(root: &Path) -> Result<PathBuf, String> {
    let mut build = cargo::command(root);
    // With the features of the whole workspace, so that libraries are those of the tests' build.
    build
        .args(["build", "--workspace", "--bin", "fuzz"])
        .env("RUSTC_WORKSPACE_WRAPPER", root.join("tools/rustc-fuzz.sh"));
    cargo::run(build)?;
    // The next ordinary build puts another file there.
    let built = cargo::target(root).join("debug/fuzz");
    let own = directory(root).join("fuzz");
    fs::create_dir_all(directory(root)).map_err(failed(&own))?;
    fs::copy(&built, &own).map_err(failed(&own))?;
    Ok(own)
}

/// Runs every target for its executions, one per processor at a time.
pub(crate) fn short(root: &Path, program: &Path) -> Result<Vec<Outcome>, String> {
    let next = AtomicUsize::new(0);
    let outcomes = Mutex::new(Vec::new());
    let work = || {
        while let Some((target, runs)) = TARGETS.get(next.fetch_add(1, Ordering::Relaxed)) {
            let outcome = short_run(root, program, target, *runs);
            outcomes
                .lock()
                .expect("nobody panics with it")
                .push(outcome);
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(work);
        }
    });
    outcomes
        .into_inner()
        .expect("nobody panics with it")
        .into_iter()
        .collect()
}

fn short_run(
    root: &Path,
    program: &Path,
    target: &'static str,
    runs: u32,
) -> Result<Outcome, String> {
    let corpus = directory(root).join("short").join(target);
    if corpus.exists() {
        fs::remove_dir_all(&corpus).map_err(failed(&corpus))?;
    }
    let limits = [format!("-runs={runs}"), "-seed=1".to_owned()];
    run(root, program, target, &corpus, &limits, Stdio::null())
}

/// Runs the named targets, all if none is named, for `FUZZ_SECONDS` each (60 if it is not set).
pub(crate) fn long(root: &Path, names: &[&str]) -> Result<(), String> {
    if let Some(name) = names
        .iter()
        .find(|name| TARGETS.iter().all(|(target, _)| target != *name))
    {
        let all = TARGETS.map(|(target, _)| target).join(", ");
        return Err(format!("there is no fuzz target {name}: {all}"));
    }
    let seconds = std::env::var("FUZZ_SECONDS").unwrap_or_else(|_| "60".to_owned());
    let limit = format!("-max_total_time={seconds}");
    let program = build(root)?;
    let mut problems = Vec::new();
    for (target, _) in TARGETS
        .iter()
        .filter(|(target, _)| names.is_empty() || names.contains(target))
    {
        println!("{target}: {seconds} s");
        let corpus = directory(root).join("corpus").join(target);
        let outcome = run(
            root,
            &program,
            target,
            &corpus,
            std::slice::from_ref(&limit),
            Stdio::inherit(),
        )?;
        problems.extend(outcome.problem);
    }
    if problems.is_empty() {
        Ok(())
    } else {
        Err(problems.join("\n"))
    }
}

fn run(
    root: &Path,
    program: &Path,
    target: &'static str,
    corpus: &Path,
    limits: &[String],
    output: Stdio,
) -> Result<Outcome, String> {
    fs::create_dir_all(corpus).map_err(failed(corpus))?;
    let found = directory(root).join("found").join(target);
    fs::create_dir_all(&found).map_err(failed(&found))?;
    let log = directory(root).join(format!("{target}.log"));
    let mut command = Command::new(program);
    command
        .arg(corpus)
        .args(limits)
        .args([
            format!("-max_len={LONGEST}"),
            format!("-timeout={PATIENCE}"),
            format!("-rss_limit_mb={MEMORY}"),
        ])
        .args([
            "-print_final_stats=1".to_owned(),
            format!("-artifact_prefix={}/", found.display()),
        ])
        .env("FUZZ_TARGET", target)
        .env("FUZZ_CORPUS", corpus)
        .env("RUST_BACKTRACE", "0")
        .current_dir(root)
        .stdin(Stdio::null())
        .stdout(output)
        .stderr(fs::File::create(&log).map_err(failed(&log))?);
    let started = Instant::now();
    let status = command
        .status()
        .map_err(|error| format!("{command:?}: {error}"))?;
    let text = fs::read_to_string(&log).map_err(failed(&log))?;
    let number = |name: &str| {
        text.lines()
            .find_map(|line| line.strip_prefix(name)?.trim().parse().ok())
    };
    let problem = (!status.success())
        .then(|| problem(target, &text, root))
        .transpose()?;
    Ok(Outcome {
        target,
        runs: number("stat::number_of_executed_units:").unwrap_or(0),
        time: started.elapsed(),
        problem,
    })
}

/// What a run found: the end of its output, and the input as a seed that makes the test fail until it is mended.
fn problem(target: &str, text: &str, root: &Path) -> Result<String, String> {
    let lines: Vec<&str> = text
        .lines()
        .filter(|line| !line.starts_with("stat::"))
        .collect();
    let told = lines[lines.len().saturating_sub(30)..].join("\n");
    let written = text
        .lines()
        .find_map(|line| line.split_once("Test unit written to ")?.1.into());
    let Some(artifact) = written.map(|path: &str| Path::new(path.trim()).to_path_buf()) else {
        return Ok(format!("{target}: {told}"));
    };
    let bytes = fs::read(&artifact).map_err(failed(&artifact))?;
    let digits: Vec<String> = bytes
        .chunks(32)
        .map(|line| line.iter().map(|byte| format!("{byte:02x}")).collect())
        .collect();
    let hex = artifact.with_extension("hex");
    fs::write(&hex, digits.join("\n") + "\n").map_err(failed(&hex))?;
    Ok(format!(
        "{target}: {told}\nto keep it as a test: cp {} crates/fuzz/seeds/{target}/ && cargo test -p fuzz",
        hex.strip_prefix(root).unwrap_or(&hex).display()
    ))
}

fn directory(root: &Path) -> PathBuf {
    cargo::target(root).join("fuzz")
}

fn failed(path: &Path) -> impl Fn(std::io::Error) -> String {
    let path = path.display().to_string();
    move |error| format!("{path}: {error}")
}
