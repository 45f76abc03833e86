// SPDX-License-Identifier: Apache-2.0
//! The test ladder: all tests are built once, then run level by level; ends with `N passed, N failed`.

mod table;

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::{cargo, dist};
use table::{LEVELS, Level, level_of};

/// Longest run of one test program.
const PATIENCE: Duration = Duration::from_secs(600);
/// Part of a line of output that is worth a look also when all is well: the size of a BPF program.
const FIGURE: &str = " instructions verified";

/// A test program.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Program {
    package: String,
    target: String,
    path: PathBuf,
    /// Where cargo would run it.
    directory: PathBuf,
}

/// Tests that passed and failed.
#[derive(Default, Clone, Copy)]
struct Count {
    passed: usize,
    failed: usize,
}

/// Runs the named levels, all if none is named.
pub(crate) fn run(root: &Path, names: &[&str]) -> Result<(), String> {
    let parse = |name: &&str| {
        name.parse::<u8>()
            .ok()
            .filter(|level| (1..=4).contains(level))
    };
    let named = names
        .iter()
        .map(|name| parse(name).ok_or_else(|| format!("there is no level {name}: 1 to 4")));
    let mut wanted = named.collect::<Result<Vec<_>, _>>()?;
    if wanted.is_empty() {
        wanted = vec![1, 2, 3, 4];
    }
    let programs = build(root)?;
    if wanted.contains(&4) && std::env::var_os("ISTHMUS_BIN").is_none() {
        dist::build(root)?;
    }
    let logs = cargo::target(root).join("test-logs");
    fs::create_dir_all(&logs).map_err(|error| format!("{}: {error}", logs.display()))?;
    let mut total = Count::default();
    let mut summary = Vec::new();
    for level in LEVELS.iter().filter(|level| wanted.contains(&level.number)) {
        let started = Instant::now();
        let count = run_level(level, &programs, &logs)?;
        total.passed += count.passed;
        total.failed += count.failed;
        summary.push(format!(
            "level {} ({}): {} passed, {} failed, {:.1} s",
            level.number,
            level.name,
            count.passed,
            count.failed,
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

/// Builds all tests of the workspace with one call, so that features are unified once.
fn build(root: &Path) -> Result<Vec<Program>, String> {
    let started = Instant::now();
    let mut cargo = cargo::command(root);
    cargo.args([
        "test",
        "--workspace",
        "--no-run",
        "--message-format",
        "json-render-diagnostics",
    ]);
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
        let count = run_program(level, program, &log)?;
        let time = started.elapsed().as_secs_f64();
        if count.passed + count.failed > 0 {
            println!(
                "  {name:<28} {:>4} passed {:>3} failed {time:>7.1} s",
                count.passed, count.failed
            );
        }
        if count.failed > 0 {
            let text = fs::read_to_string(&log).unwrap_or_default();
            println!("{text}");
        }
        total.passed += count.passed;
        total.failed += count.failed;
    }
    Ok(total)
}

fn run_program(level: &Level, program: &Program, log: &Path) -> Result<Count, String> {
    let failed = |error: std::io::Error| format!("{}: {error}", log.display());
    let file = fs::File::create(log).map_err(failed)?;
    let mut command = if level.needs_root && !is_root()? {
        let mut sudo = Command::new("sudo");
        sudo.arg("--preserve-env").arg(&program.path);
        sudo
    } else {
        Command::new(&program.path)
    };
    command
        .current_dir(&program.directory)
        .args(level.arguments);
    command
        .stdin(Stdio::null())
        .stdout(file.try_clone().map_err(failed)?)
        .stderr(file);
    let success = run_bounded(&mut command)?;
    let text = fs::read_to_string(log).map_err(failed)?;
    for figure in text.lines().filter(|line| line.contains(FIGURE)) {
        println!("    {figure}");
    }
    let mut count = count(&text);
    if !success && count.failed == 0 {
        // It died before it could say which test failed.
        count.failed = 1;
    }
    Ok(count)
}

/// Whether the program ended well in time.
fn run_bounded(command: &mut Command) -> Result<bool, String> {
    let failed = |error: std::io::Error| format!("{error}");
    let mut child = command.spawn().map_err(failed)?;
    let started = Instant::now();
    loop {
        if let Some(status) = child.try_wait().map_err(failed)? {
            return Ok(status.success());
        }
        if started.elapsed() > PATIENCE {
            println!("  still running after {} s: ended", PATIENCE.as_secs());
            child.kill().map_err(failed)?;
            child.wait().map_err(failed)?;
            return Ok(false);
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// Sums libtest's `test result: ok. 12 passed; 0 failed; …` lines.
fn count(text: &str) -> Count {
    let mut count = Count::default();
    for line in text
        .lines()
        .filter_map(|line| line.strip_prefix("test result: "))
    {
        let number = |word: &str| {
            let before = line.split_once(word)?.0;
            before
                .rsplit([' ', '.', ';'])
                .find(|part| !part.is_empty())?
                .parse::<usize>()
                .ok()
        };
        count.passed += number(" passed").unwrap_or_default();
        count.failed += number(" failed").unwrap_or_default();
    }
    count
}

fn is_root() -> Result<bool, String> {
    let output = Command::new("id")
        .arg("-u")
        .output()
        .map_err(|error| format!("id: {error}"))?;
    Ok(output.stdout.trim_ascii() == b"0")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_are_summed() {
        let text = "running 2 tests\ntest result: ok. 2 passed; 0 failed; 0 ignored; finished in 0.1s\n\
                    test result: FAILED. 10 passed; 3 failed; 1 ignored; finished in 0.1s\n";
        let count = count(text);
        assert_eq!((count.passed, count.failed), (12, 3));
    }

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
