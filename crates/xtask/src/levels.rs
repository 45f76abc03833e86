// SPDX-License-Identifier: Apache-2.0
//! The test ladder: all tests are built once, then run level by level; ends with `N passed, N failed`.

mod leftovers;
mod program;
mod table;

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::Stdio;
use std::time::Instant;

use serde_json::Value;

use crate::{cargo, dist, fuzz, image, kubernetes, other_layout};
use program::{Count, Program};
use table::{LEVELS, Level, level_of};

/// Runs the named levels, 1 to 4 if none is named.
pub(crate) fn run(root: &Path, names: &[&str]) -> Result<(), String> {
    let parse = |name: &&str| {
        name.parse::<u8>()
            .ok()
            .filter(|level| (1..=5).contains(level))
    };
    let named = names
        .iter()
        .map(|name| parse(name).ok_or_else(|| format!("there is no level {name}: 1 to 5")));
    let mut wanted = named.collect::<Result<Vec<_>, _>>()?;
    if wanted.is_empty() {
        wanted = vec![1, 2, 3, 4];
    }
    let programs = build(root, &wanted)?;
    let fuzzer = match wanted.contains(&1) {
        true => Some(fuzz::build(root)?),
        false => None,
    };
    if wanted.contains(&5) {
        kubernetes::build(root)?;
        image::build(root)?;
        other_layout::build_image(root)?;
    } else if wanted.contains(&4) && std::env::var_os("ISTHMUS_BIN").is_none() {
        dist::build(root)?;
    }
    if wanted.contains(&4) {
        other_layout::build(root)?;
    }
    let logs = cargo::target(root).join("test-logs");
    fs::create_dir_all(&logs).map_err(|error| format!("{}: {error}", logs.display()))?;
    let mut total = Count::default();
    let mut summary = Vec::new();
    for level in LEVELS.iter().filter(|level| wanted.contains(&level.number)) {
        let started = Instant::now();
        let mut count = run_level(level, &programs, &logs)?;
        if let Some(fuzzer) = fuzzer.as_ref().filter(|_| level.number == 1) {
            count.add(run_fuzzer(root, fuzzer)?);
        }
        total.add(count);
        summary.push(format!(
            "level {} ({}): {} passed, {} failed{}, {:.1} s",
            level.number,
            level.name,
            count.passed,
            count.failed,
            ignored(count),
            started.elapsed().as_secs_f64()
        ));
    }
    println!(
        "\n{}\n{} passed, {} failed",
        summary.join("\n"),
        total.passed,
        total.failed
    );
    if total.failed == 0 {
        Ok(())
    } else {
        Err(String::new())
    }
}

/// Builds all tests of the workspace with one call, so that features are unified once. Level 5 alone is
/// of one crate, and people who run it alone wait for it.
fn build(root: &Path, wanted: &[u8]) -> Result<Vec<Program>, String> {
    let started = Instant::now();
    let mut cargo = cargo::command(root);
    cargo.args([
        "test",
        "--no-run",
        "--message-format",
        "json-render-diagnostics",
    ]);
    if wanted == [5] {
        cargo.args(["--package", "testbed"]);
    } else {
        cargo.arg("--workspace");
    }
    let mut child = cargo
        .stdout(Stdio::piped())
        .spawn()
        .map_err(|error| format!("{cargo:?}: {error}"))?;
    let output = BufReader::new(child.stdout.take().expect("piped above"));
    let mut programs: Vec<Program> = output
        .lines()
        .map_while(Result::ok)
        .filter_map(|line| program(&line))
        .collect();
    let status = child
        .wait()
        .map_err(|error| format!("{cargo:?}: {error}"))?;
    if !status.success() {
        return Err(format!("the tests do not build: {cargo:?}: {status}"));
    }
    programs.sort();
    println!(
        "{} test programs built in {:.1} s",
        programs.len(),
        started.elapsed().as_secs_f64()
    );
    Ok(programs)
}

/// The test program that a line of cargo's messages tells of.
fn program(line: &str) -> Option<Program> {
    let message: Value = serde_json::from_str(line).ok()?;
    if message["reason"] != "compiler-artifact" || message["profile"]["test"] != true {
        return None;
    }
    let directory = Path::new(message["manifest_path"].as_str()?)
        .parent()?
        .to_path_buf();
    let kind = message["target"]["kind"][0].as_str()?;
    let name = message["target"]["name"].as_str()?;
    Some(Program {
        package: directory.file_name()?.to_str()?.to_owned(),
        target: if kind == "test" {
            name.to_owned()
        } else {
            kind.to_owned()
        },
        path: message["executable"].as_str()?.into(),
        directory,
    })
}

fn run_level(level: &Level, programs: &[Program], logs: &Path) -> Result<Count, String> {
    println!("\nlevel {}: {}", level.number, level.name);
    let mut total = Count::default();
    for program in programs
        .iter()
        .filter(|program| level_of(&program.package, &program.target) == level.number)
    {
        let started = Instant::now();
        let name = format!("{} {}", program.package, program.target);
        let log = logs.join(format!("{}-{}.log", program.package, program.target));
        let count = program::run(level, program, &log)?;
        let time = started.elapsed().as_secs_f64();
        if count != Count::default() {
            println!(
                "  {name:<28} {:>4} passed {:>3} failed {time:>7.1} s{}",
                count.passed,
                count.failed,
                ignored(count)
            );
        }
        if count.failed > 0 {
            let text = fs::read_to_string(&log).unwrap_or_default();
            println!("{text}");
        }
        total.add(count);
    }
    Ok(total)
}

/// A test that nobody runs is said, so that nobody counts on it.
fn ignored(count: Count) -> String {
    match count.ignored {
        0 => String::new(),
        some => format!(", {some} ignored"),
    }
}

/// Short runs of all fuzz targets; each counts as one test.
fn run_fuzzer(root: &Path, fuzzer: &Path) -> Result<Count, String> {
    let mut total = Count::default();
    for outcome in fuzz::short(root, fuzzer)? {
        let name = format!("fuzz {}", outcome.target);
        let (passed, failed) = match outcome.problem {
            None => (1, 0),
            Some(_) => (0, 1),
        };
        println!(
            "  {name:<28} {passed:>4} passed {failed:>3} failed {:>7.1} s, {} inputs",
            outcome.time.as_secs_f64(),
            outcome.runs
        );
        if let Some(problem) = outcome.problem {
            println!("{problem}");
        }
        total.passed += passed;
        total.failed += failed;
    }
    Ok(total)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_test_artifacts_are_programs() {
        let line = r#"{"reason":"compiler-artifact","manifest_path":"/w/crates/kvstore/Cargo.toml",
            "target":{"kind":["test"],"name":"etcd"},"profile":{"test":true},"executable":"/w/t/etcd-1"}"#;
        let program = program(line).expect("a program");
        assert_eq!(
            (program.package.as_str(), program.target.as_str()),
            ("kvstore", "etcd")
        );
        assert_eq!(super::program(&line.replace("true", "false")), None);
    }
}
