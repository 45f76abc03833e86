// SPDX-License-Identifier: Apache-2.0
//! What a test program leaves on the machine: processes, labs, and in its directory for temporary files mounts, on which
//! namespaces and pinned BPF objects hang. It is removed and named, and counts as a failure. Only what is surely the
//! program's is touched: others may run labs at the same time.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

/// In the environment of a test program and of all that it starts.
pub(super) const MARK: &str = "ISTHMUS_TEST_PROGRAM";
/// Where the testbed keeps labs.
const LABS: &str = "/run/isthmus-lab";
/// How long what was told to end may take.
const GRACE: Duration = Duration::from_secs(3);

/// The place of one run of a program, and what was there before it.
pub(super) struct Before {
    /// Its directory for temporary files. Paths of sockets are short, so this is too.
    pub(super) temporary: PathBuf,
    labs: BTreeSet<String>,
}

impl Before {
    pub(super) fn look(number: usize) -> std::io::Result<Self> {
        let name = format!("ist{}-{number}", std::process::id());
        let temporary = std::env::temp_dir().join(name);
        fs::create_dir_all(&temporary)?;
        Ok(Self {
            temporary,
            labs: names(LABS),
        })
    }

    /// Removes what is there now and was not before, with processes that carry `mark`; says what it was.
    pub(super) fn clean(&self, mark: &str, as_root: &dyn Fn(&str) -> Command) -> Vec<String> {
        let mut found = processes(mark, as_root);
        let labs = names(LABS);
        let new = labs.difference(&self.labs);
        let labs: Vec<PathBuf> = new
            .map(|lab| Path::new(LABS).join(lab))
            .filter(|lab| is_ownerless(lab))
            .collect();
        found.extend(labs.iter().map(|lab| format!("lab {}", lab.display())));
        for place in labs.iter().chain([&self.temporary]) {
            for target in mounts(place) {
                found.push(format!("mount {target}"));
                quietly(as_root("umount").args(["--lazy", &target]));
            }
            quietly(as_root("rm").args(["-rf", "--one-file-system"]).arg(place));
        }
        found
    }
}

/// Whether the process that made a lab is gone, and nobody wanted the lab to stay. A lab gets its record right after its
/// directory, so one that has none for a while never will.
fn is_ownerless(lab: &Path) -> bool {
    let started = Instant::now();
    let text = loop {
        match fs::read(lab.join("lab.json")) {
            Ok(text) => break text,
            Err(_) if !lab.exists() => return false,
            Err(_) if started.elapsed() > GRACE => break Vec::new(),
            Err(_) => std::thread::sleep(Duration::from_millis(20)),
        }
    };
    let record: Value = serde_json::from_slice(&text).unwrap_or_default();
    let lives = |pid: u64| Path::new("/proc").join(pid.to_string()).exists();
    record["keep"] != true && !record["owner"][0].as_u64().is_some_and(lives)
}

/// Ends what still runs. What is ending anyway has a moment for it.
fn processes(mark: &str, as_root: &dyn Fn(&str) -> Command) -> Vec<String> {
    let started = Instant::now();
    let mut told = Vec::new();
    loop {
        let alive = marked(mark);
        if alive.is_empty() || started.elapsed() > 2 * GRACE {
            return told;
        }
        if started.elapsed() > GRACE {
            for (pid, name) in &alive {
                let text = format!("process {pid} ({name})");
                if !told.contains(&text) {
                    told.push(text);
                }
                quietly(as_root("kill").args(["-KILL", pid]));
            }
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Ends everything that carries `mark`, at once.
pub(super) fn end(mark: &str, as_root: &dyn Fn(&str) -> Command) {
    for (pid, _) in marked(mark) {
        quietly(as_root("kill").args(["-KILL", &pid]));
    }
}

/// Number and name of the living processes whose environment has the mark.
fn marked(mark: &str) -> Vec<(String, String)> {
    let wanted = format!("{MARK}={mark}");
    let carries = |pid: &String| {
        let environment = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
        environment
            .split(|byte| *byte == 0)
            .any(|variable| variable == wanted.as_bytes())
    };
    names("/proc")
        .into_iter()
        .filter(|name| name.bytes().all(|byte| byte.is_ascii_digit()))
        .filter(carries)
        .map(|pid| {
            let name = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
            (pid, name.trim().to_owned())
        })
        .collect()
}

/// Mount points below `place`, the latest first: mounts lie in mounts.
fn mounts(place: &Path) -> Vec<String> {
    let table = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let targets = table.lines().filter_map(|line| line.split(' ').nth(4));
    let mut below: Vec<String> = targets
        .filter(|target| Path::new(target).starts_with(place))
        .map(str::to_owned)
        .collect();
    below.reverse();
    below
}

fn names(directory: &str) -> BTreeSet<String> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    entries
        .filter_map(|entry| entry.file_name().into_string().ok())
        .collect()
}

/// Runs a command that may fail: what it was to remove can be gone.
fn quietly(command: &mut Command) {
    let quiet = command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    let _gone_already = quiet.status();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_that_stays_is_found_and_ended() {
        let mark = format!("unit-{}", std::process::id());
        let mut child = Command::new("sleep")
            .arg("600")
            .env(MARK, &mark)
            .spawn()
            .expect("sleep starts");
        let pid = child.id().to_string();
        let started = Instant::now();
        while marked(&mark).is_empty() && started.elapsed() < GRACE {
            std::thread::yield_now();
        }
        assert_eq!(marked(&mark), [(pid, "sleep".to_owned())]);
        end(&mark, &|program| Command::new(program));
        child.wait().expect("it was ours");
        assert_eq!(marked(&mark), []);
    }

    #[test]
    fn a_lab_is_left_behind_when_its_owner_is_gone() {
        let before = Before::look(usize::MAX).expect("a directory");
        let lab = &before.temporary;
        let record = |pid: u32| fs::write(lab.join("lab.json"), format!("{{\"owner\":[{pid},1]}}"));
        assert!(is_ownerless(lab), "without a record");
        record(std::process::id()).expect("written");
        assert!(!is_ownerless(lab));
        record(u32::MAX).expect("written");
        assert!(is_ownerless(lab));
        let left = before.clean("nobody", &|program| Command::new(program));
        assert!(!lab.exists() && left.is_empty(), "{left:?}");
    }
}
