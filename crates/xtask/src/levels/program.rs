// SPDX-License-Identifier: Apache-2.0
//! Running one test program: in bounded time, with its output kept, and with nothing left behind.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use super::leftovers::{self, Before, MARK};
use super::table::{Level, level_of, runs_alone};

/// Longest run of one test program.
const PATIENCE: Duration = Duration::from_secs(600);
/// Parts of lines of output that are worth a look also when all is well: the size of a BPF program, what a
/// test measured.
const FIGURES: [&str; 2] = [" instructions verified", "figure: "];

/// Programs that were run so far.
static RUNS: AtomicUsize = AtomicUsize::new(0);

/// A test program.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Program {
    pub(super) package: String,
    pub(super) target: String,
    pub(super) path: PathBuf,
    /// Where cargo would run it.
    pub(super) directory: PathBuf,
}

impl Program {
    /// Its level of the ladder.
    pub(super) fn level(&self) -> u8 {
        level_of(&self.package, &self.target)
    }

    /// Whether nothing else may run beside it.
    pub(super) fn runs_alone(&self) -> bool {
        runs_alone(&self.package, &self.target)
    }
}

/// Tests by how they ended.
#[derive(Default, Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Count {
    pub(super) passed: usize,
    pub(super) failed: usize,
    pub(super) ignored: usize,
}

impl Count {
    pub(super) fn add(&mut self, other: Count) {
        self.passed += other.passed;
        self.failed += other.failed;
        self.ignored += other.ignored;
    }
}

/// What is to be told of a run.
pub(super) struct Report {
    pub(super) count: Count,
    /// Figures, and what is wrong beyond the program's own tests.
    pub(super) lines: Vec<String>,
}

/// Runs a program; its output goes to `log`. What is wrong beyond its own tests is one failure each.
pub(super) fn run(level: &Level, program: &Program, log: &Path) -> Result<Report, String> {
    let failed = |error: std::io::Error| format!("{}: {error}", log.display());
    let file = fs::File::create(log).map_err(failed)?;
    let sudo = level.needs_root && !is_root()?;
    let as_root = move |name: &str| {
        let mut command = Command::new(if sudo { "sudo" } else { name });
        if sudo {
            command.arg("--preserve-env").arg(name);
        }
        command
    };
    let mark = format!(
        "{}-{}-{}",
        program.package,
        program.target,
        std::process::id()
    );
    let number = RUNS.fetch_add(1, Ordering::Relaxed);
    let before = Before::look(number).map_err(failed)?;
    let mut command = as_root(&program.path.to_string_lossy());
    command
        .current_dir(&program.directory)
        .args(level.arguments)
        .env(MARK, &mark)
        .env("TMPDIR", &before.temporary)
        .stdin(Stdio::null())
        .stdout(file.try_clone().map_err(failed)?)
        .stderr(file);
    let child = command
        .spawn()
        .map_err(|error| format!("{command:?}: {error}"))?;
    let end = wait(child, PATIENCE, || leftovers::end(&mark, &as_root)).map_err(failed)?;
    let text = fs::read_to_string(log).map_err(failed)?;
    let is_figure = |line: &&str| FIGURES.iter().any(|part| line.contains(part));
    let mut lines: Vec<String> = text.lines().filter(is_figure).map(str::to_owned).collect();
    let mut count = count(&text);
    if let Some(problem) = end.problem(&text, count) {
        lines.push(problem);
        count.failed += 1;
    }
    let left = before.clean(&mark, &as_root);
    if !left.is_empty() {
        lines.push(format!("left behind, and removed: {}", left.join(", ")));
        count.failed += 1;
    }
    Ok(Report { count, lines })
}

/// How a program ended.
#[derive(Debug, PartialEq, Eq)]
enum End {
    Well,
    /// Its exit status or signal, in words.
    Badly(String),
    Endless,
}

impl End {
    /// What is wrong that no test of the program said.
    fn problem(&self, text: &str, count: Count) -> Option<String> {
        match self {
            End::Endless => Some(format!(
                "still running after {} s: ended",
                PATIENCE.as_secs()
            )),
            End::Badly(status) if count.failed == 0 => {
                Some(format!("ended before its tests did: {status}"))
            }
            End::Well if !text.contains("test result: ") => {
                Some("said nothing about its tests".to_owned())
            }
            End::Well | End::Badly(_) => None,
        }
    }
}

/// Waits for a program, and has everything of it ended when it takes too long.
fn wait(mut child: Child, patience: Duration, end: impl Fn()) -> std::io::Result<End> {
    let started = Instant::now();
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(if status.success() {
                End::Well
            } else {
                End::Badly(status.to_string())
            });
        }
        if started.elapsed() > patience {
            end();
            // Through sudo it is not ours to kill, and gone with what it started.
            let _not_ours = child.kill();
            child.wait()?;
            return Ok(End::Endless);
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Sums libtest's `test result: ok. 12 passed; 0 failed; 1 ignored; …` lines.
fn count(text: &str) -> Count {
    let mut count = Count::default();
    for line in text
        .lines()
        .filter_map(|line| line.split_once("test result: "))
    {
        let number = |word: &str| {
            let before = line.1.split_once(word)?.0;
            before
                .rsplit([' ', '.', ';'])
                .find(|part| !part.is_empty())?
                .parse::<usize>()
                .ok()
        };
        count.passed += number(" passed").unwrap_or_default();
        count.failed += number(" failed").unwrap_or_default();
        count.ignored += number(" ignored").unwrap_or_default();
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
        let expected = Count {
            passed: 12,
            failed: 3,
            ignored: 1,
        };
        assert_eq!(count(text), expected);
    }

    #[test]
    fn each_bad_end_is_told() {
        let run = |script: &str| {
            let child = Command::new("sh")
                .args(["-c", script])
                .spawn()
                .expect("sh starts");
            wait(child, Duration::from_millis(300), || {}).expect("a child of ours")
        };
        let none = Count::default();
        let good = "test result: ok. 0 passed; 0 failed; 0 ignored";
        assert_eq!(run("exit 0").problem(good, none), None);
        let silent = run("exit 0").problem("", none).expect("told");
        assert!(silent.contains("said nothing"), "{silent}");
        let crashed = run("kill -SEGV $$").problem(good, none).expect("told");
        assert!(crashed.contains("signal: 11"), "{crashed}");
        let one = Count { failed: 1, ..none };
        assert_eq!(run("exit 101").problem(good, one), None);
        assert_eq!(run("exec sleep 60"), End::Endless);
        assert!(End::Endless.problem(good, none).is_some());
    }
}
