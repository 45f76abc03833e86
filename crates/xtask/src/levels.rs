// SPDX-License-Identifier: Apache-2.0
//! The test ladder: all tests are built once, then run level by level; ends with `N passed, N failed`.

mod leftovers;
mod program;
mod table;

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::Stdio;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use serde_json::Value;

use crate::{cargo, dist, fuzz, image, kubernetes, other_layout};
use program::{Count, Program};
use table::{LEVELS, Level};

/// What to run.
struct Selection<'a> {
    levels: Vec<u8>,
    /// Test programs by the names of their targets.
    programs: Vec<&'a str>,
}

impl<'a> Selection<'a> {
    /// From words: levels, and names of test programs; levels 1 to 4 if there is none.
    fn new(words: &[&'a str]) -> Self {
        let (mut levels, mut programs) = (Vec::new(), Vec::new());
        for word in words {
            match word.parse() {
                Ok(level) => levels.push(level),
                Err(_) => programs.push(*word),
            }
        }
        if words.is_empty() {
            levels = vec![1, 2, 3, 4];
        }
        Self { levels, programs }
    }

    fn has(&self, program: &Program) -> bool {
        self.levels.contains(&program.level()) || self.programs.contains(&program.target.as_str())
    }

    /// Whether all of it is in the crate of the labs.
    fn is_of_labs(&self, root: &Path) -> bool {
        let labs = root.join("crates/testbed/tests");
        let is_lab = |name: &&str| labs.join(name).with_extension("rs").is_file();
        self.levels.iter().all(|level| *level == 5) && self.programs.iter().all(is_lab)
    }

    /// The first word that names nothing.
    fn unknown(&self, programs: &[Program]) -> Option<String> {
        let level = self.levels.iter().find(|level| !(1..=5).contains(*level));
        let is_there = |name: &&&str| !programs.iter().any(|program| program.target == **name);
        level
            .map(u8::to_string)
            .or_else(|| Some((*self.programs.iter().find(is_there)?).to_owned()))
    }
}

/// Runs levels, and test programs by their names; see [`Selection::new`].
pub(crate) fn run(root: &Path, words: &[&str]) -> Result<(), String> {
    let selection = Selection::new(words);
    let mut programs = build(root, selection.is_of_labs(root))?;
    if let Some(word) = selection.unknown(&programs) {
        return Err(format!(
            "{word}: neither a level, 1 to 5, nor a test program"
        ));
    }
    programs.retain(|program| selection.has(program));
    let fuzzer = match selection.levels.contains(&1) {
        true => Some(fuzz::build(root)?),
        false => None,
    };
    prepare(root, &programs)?;
    let logs = cargo::target(root).join("test-logs");
    fs::create_dir_all(&logs).map_err(|error| format!("{}: {error}", logs.display()))?;
    let mut total = Count::default();
    let mut summary = Vec::new();
    let is_wanted = |level: &&Level| programs.iter().any(|p| p.level() == level.number);
    for level in LEVELS.iter().filter(is_wanted) {
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

/// Builds what programs of levels 4 and 5 run.
fn prepare(root: &Path, programs: &[Program]) -> Result<(), String> {
    let any = |level| programs.iter().any(|program| program.level() == level);
    let is_there = |name| programs.iter().any(|program| program.target == name);
    if any(5) {
        kubernetes::build(root)?;
        image::build(root)?;
    } else if any(4) && std::env::var_os("ISTHMUS_BIN").is_none() {
        dist::build(root)?;
    }
    if is_there("kubernetes_chart") {
        kubernetes::build_helm(root)?;
    }
    if is_there("kubernetes_change") {
        other_layout::build_image(root)?;
    }
    if is_there("mesh_layouts") {
        other_layout::build(root)?;
    }
    Ok(())
}

/// Builds the tests with one call, so that features are unified once: of the whole workspace, or of the labs alone,
/// because people who run one lab wait for it.
fn build(root: &Path, labs_only: bool) -> Result<Vec<Program>, String> {
    let started = Instant::now();
    let mut cargo = cargo::command(root);
    cargo.args([
        "test",
        "--no-run",
        "--message-format",
        "json-render-diagnostics",
    ]);
    if labs_only {
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

/// Runs the programs of a level, as many at a time as it says; those that run alone come last.
fn run_level(level: &Level, programs: &[Program], logs: &Path) -> Result<Count, String> {
    println!("\nlevel {}: {}", level.number, level.name);
    let of_level = programs.iter().filter(|p| p.level() == level.number);
    let (alone, others): (Vec<_>, Vec<_>) = of_level.partition(|program| program.runs_alone());
    let mut total = run_lanes(level, &others, level.lanes, logs)?;
    total.add(run_lanes(level, &alone, 1, logs)?);
    Ok(total)
}

/// Runs programs, `lanes` at a time. After an error no further one begins.
fn run_lanes(
    level: &Level,
    programs: &[&Program],
    lanes: usize,
    logs: &Path,
) -> Result<Count, String> {
    let next = AtomicUsize::new(0);
    let total = Mutex::new(Ok(Count::default()));
    let work = || {
        while let Some(program) = programs.get(next.fetch_add(1, Ordering::Relaxed)) {
            let outcome = run_program(level, program, logs);
            let mut total = total.lock().expect("nobody panics with it");
            match (total.as_mut(), outcome) {
                (Ok(total), Ok(count)) => total.add(count),
                (Ok(_), Err(error)) => {
                    *total = Err(error);
                    return;
                }
                (Err(_), _) => return,
            }
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..lanes {
            scope.spawn(work);
        }
    });
    total.into_inner().expect("nobody panics with it")
}

/// Runs a program, and tells how it went in one piece.
fn run_program(level: &Level, program: &Program, logs: &Path) -> Result<Count, String> {
    let started = Instant::now();
    let name = format!("{} {}", program.package, program.target);
    let log = logs.join(format!("{}-{}.log", program.package, program.target));
    let report = program::run(level, program, &log)?;
    let count = report.count;
    let mut text = String::new();
    for line in &report.lines {
        text.push_str(&format!("    {line}\n"));
    }
    if count != Count::default() {
        let time = started.elapsed().as_secs_f64();
        text.push_str(&format!(
            "  {name:<28} {:>4} passed {:>3} failed {time:>7.1} s{}\n",
            count.passed,
            count.failed,
            ignored(count)
        ));
    }
    if count.failed > 0 {
        text.push_str(&fs::read_to_string(&log).unwrap_or_default());
    }
    print!("{text}");
    Ok(count)
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
    fn levels_and_programs_are_chosen_by_name() {
        let program = |package: &str, target: &str| Program {
            package: package.to_owned(),
            target: target.to_owned(),
            path: "/".into(),
            directory: "/".into(),
        };
        let all = [
            program("policy", "lib"),
            program("datapath", "resize"),
            program("testbed", "node_repair"),
            program("testbed", "kubernetes_page"),
        ];
        let chosen = |words: &[&str]| {
            let selection = Selection::new(words);
            let names = all.iter().filter(|program| selection.has(program));
            let names: Vec<_> = names.map(|program| program.target.as_str()).collect();
            (names.join(" "), selection.unknown(&all))
        };
        assert_eq!(chosen(&[]), ("lib resize node_repair".to_owned(), None));
        let words = ["1", "kubernetes_page"];
        assert_eq!(chosen(&words), ("lib kubernetes_page".to_owned(), None));
        assert_eq!(chosen(&["6"]).1.as_deref(), Some("6"));
        assert_eq!(chosen(&["nothing"]).1.as_deref(), Some("nothing"));
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
