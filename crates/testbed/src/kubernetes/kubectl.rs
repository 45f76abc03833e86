// SPDX-License-Identifier: Apache-2.0
//! kubectl as a person at a cluster would use it.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use serde_json::Value;

use crate::error::{Doing, LabError, Result};
use crate::namespace::Place;
use crate::process::{Done, finish, finish_untouched, output, output_with_input};

/// How long a call may take unless it is told to wait.
const PATIENCE: Duration = Duration::from_secs(60);

/// A client of one cluster.
#[derive(Debug, Clone)]
pub struct Kubectl {
    place: Place,
    bin: PathBuf,
    config: PathBuf,
    cache: PathBuf,
}

/// A pod, in the words of its status.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PodStatus {
    /// Its name.
    pub name: String,
    /// Its node, empty before it has one.
    pub node: String,
    /// Its addresses.
    pub addresses: Vec<std::net::IpAddr>,
    /// True if its condition Ready is true and nobody deletes it.
    pub ready: bool,
    /// How often its containers were started again.
    pub restarts: u64,
}

impl Kubectl {
    /// `bin` has `kubectl` and `lab`, `config` says who calls whom, `cache` is for its own use.
    pub(super) fn new(place: Place, bin: PathBuf, config: PathBuf, cache: PathBuf) -> Self {
        Self {
            place,
            bin,
            config,
            cache,
        }
    }

    /// The call with these arguments.
    ///
    /// # Errors
    /// The cluster is gone.
    pub fn command<A: AsRef<OsStr>>(&self, arguments: &[A]) -> Result<Command> {
        let mut command = self.place.command(self.bin.join("kubectl"))?;
        command
            .arg("--kubeconfig")
            .arg(&self.config)
            .arg("--cache-dir")
            .arg(&self.cache)
            .args(arguments);
        Ok(command)
    }

    /// Calls it and returns what it prints.
    ///
    /// # Errors
    /// Its words, if its status is not 0 or it takes longer than 60 s.
    pub fn run(&self, arguments: &[&str]) -> Result<String> {
        output(self.command(arguments)?, PATIENCE)
    }

    /// Calls it whatever its status.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn finish(&self, arguments: &[&str]) -> Result<Done> {
        finish(self.command(arguments)?, &[], PATIENCE)
    }

    /// `kubectl apply -f -`.
    ///
    /// # Errors
    /// The API server refuses.
    pub fn apply(&self, objects: &str) -> Result<String> {
        let command = self.command(&["apply", "--filename", "-"])?;
        output_with_input(command, objects.as_bytes(), PATIENCE)
    }

    /// `kubectl delete -f -`, and waits until all are gone.
    ///
    /// # Errors
    /// The API server refuses.
    pub fn delete(&self, objects: &str) -> Result<String> {
        let command = self.command(&["delete", "--ignore-not-found", "--filename", "-"])?;
        output_with_input(command, objects.as_bytes(), PATIENCE)
    }

    /// An object or a list of objects.
    ///
    /// # Errors
    /// There is none.
    pub fn get(&self, arguments: &[&str]) -> Result<Value> {
        let text = self.run(&[&["get", "--output", "json"], arguments].concat())?;
        serde_json::from_str(&text)
            .map_err(|error| LabError::Unmet(format!("kubectl get {arguments:?}: {error}")))
    }

    /// `kubectl wait --for=CONDITION` in a namespace, for objects as `kubectl get` names them.
    ///
    /// # Errors
    /// Not within `limit`.
    pub fn wait(
        &self,
        namespace: &str,
        condition: &str,
        objects: &[&str],
        limit: Duration,
    ) -> Result<()> {
        let condition = format!("--for={condition}");
        let timeout = format!("--timeout={}s", limit.as_secs());
        let first = ["--namespace", namespace, "wait", &condition, &timeout];
        let command = self.command(&[&first, objects].concat())?;
        output(command, limit + Duration::from_secs(10)).map(drop)
    }

    /// `kubectl rollout status` of `kind/name`.
    ///
    /// # Errors
    /// Not complete within `limit`.
    pub fn rolled_out(&self, namespace: &str, object: &str, limit: Duration) -> Result<()> {
        let timeout = format!("--timeout={}s", limit.as_secs());
        let arguments = [
            "--namespace",
            namespace,
            "rollout",
            "status",
            object,
            &timeout,
        ];
        output(self.command(&arguments)?, limit + Duration::from_secs(10)).map(drop)
    }

    /// `kubectl exec POD -- COMMAND`; `pod` may be `kind/name` too.
    ///
    /// # Errors
    /// The words of command or kubectl, if the status is not 0.
    pub fn exec(&self, namespace: &str, pod: &str, command: &[&str]) -> Result<String> {
        let first = ["--namespace", namespace, "exec", pod, "--"];
        self.run(&[&first, command].concat())
    }

    /// `kubectl exec -ti POD -- COMMAND` at a terminal. Lines end as they do there, with CR and LF.
    ///
    /// # Errors
    /// As [`Kubectl::exec`]; the terminal has both outputs in one.
    pub fn exec_at_terminal(&self, namespace: &str, pod: &str, command: &[&str]) -> Result<String> {
        let first = ["--namespace", namespace, "exec", "-ti", pod, "--"];
        let call = self.command(&[&first, command].concat())?;
        let words = std::iter::once(call.get_program()).chain(call.get_args());
        let line: Vec<_> = words.map(|word| quote(&word.to_string_lossy())).collect();
        let mut script = self.place.command("script")?;
        script.args([
            "--quiet",
            "--return",
            "--command",
            &line.join(" "),
            "/dev/null",
        ]);
        // The end of the input would be typed, and seen.
        finish_untouched(script, PATIENCE)?.output()
    }

    /// `kubectl logs`, all containers.
    ///
    /// # Errors
    /// There is no such pod.
    pub fn logs(&self, namespace: &str, pod: &str) -> Result<String> {
        self.run(&[
            "--namespace",
            namespace,
            "logs",
            "--all-containers",
            "--prefix=false",
            pod,
        ])
    }

    /// The pods that a selector matches; all of the namespace if it is empty.
    ///
    /// # Errors
    /// The API server does not answer.
    pub fn pods(&self, namespace: &str, selector: &str) -> Result<Vec<PodStatus>> {
        let list = self.get(&["--namespace", namespace, "pods", "--selector", selector])?;
        let items = list["items"].as_array().map_or(&[][..], Vec::as_slice);
        Ok(items.iter().map(pod_status).collect())
    }

    /// `kubectl create secret generic NAME --from-file=…`.
    ///
    /// # Errors
    /// It exists, or a file cannot be read.
    pub fn create_secret(&self, namespace: &str, name: &str, files: &[&Path]) -> Result<()> {
        self.run_words(&secret(namespace, name, files)).map(drop)
    }

    /// The same for a Secret that is there: its files are these afterwards.
    ///
    /// # Errors
    /// A file cannot be read.
    pub fn replace_secret(&self, namespace: &str, name: &str, files: &[&Path]) -> Result<()> {
        let mut words = secret(namespace, name, files);
        words.extend(["--dry-run=client", "--output=yaml"].map(str::to_owned));
        let object = self.run_words(&words)?;
        let command = self.command(&["replace", "--filename", "-"])?;
        output_with_input(command, object.as_bytes(), PATIENCE).map(drop)
    }

    fn run_words(&self, words: &[String]) -> Result<String> {
        let words: Vec<_> = words.iter().map(String::as_str).collect();
        self.run(&words)
    }

    /// `kubectl edit configmap`, with an editor that sets keys and saves.
    ///
    /// # Errors
    /// There is no such ConfigMap, or the API server refuses what the editor wrote.
    pub fn edit_config_map(
        &self,
        namespace: &str,
        name: &str,
        values: &[(&str, &str)],
    ) -> Result<String> {
        let mut command = self.command(&["--namespace", namespace, "edit", "configmap", name])?;
        let lab = self.bin.join("lab");
        // kubectl gives this to a shell, with the file's name after it.
        let mut editor = format!("{} edit-config-map", lab.display());
        for (key, value) in values {
            editor += &format!(" --set '{key}={value}'");
        }
        command.env("KUBE_EDITOR", editor);
        output(command, PATIENCE)
    }

    /// The value of a key of a ConfigMap.
    ///
    /// # Errors
    /// There is no such ConfigMap.
    pub fn config_value(&self, namespace: &str, name: &str, key: &str) -> Result<Option<String>> {
        let map = self.get(&["--namespace", namespace, "configmap", name])?;
        Ok(map["data"][key].as_str().map(str::to_owned))
    }

    /// A file that others can pass to a kubectl of their own.
    #[must_use]
    pub fn config(&self) -> &Path {
        &self.config
    }

    /// Writes what it prints to a file, as `kubectl … > file` does.
    ///
    /// # Errors
    /// As [`Kubectl::run`], or the file cannot be written.
    pub fn save(&self, arguments: &[&str], file: &Path) -> Result<()> {
        std::fs::write(file, self.run(arguments)?).doing("write", file)
    }
}

/// `kubectl create secret generic NAME --from-file=…`.
fn secret(namespace: &str, name: &str, files: &[&Path]) -> Vec<String> {
    let first = [
        "--namespace",
        namespace,
        "create",
        "secret",
        "generic",
        name,
    ];
    let files = files
        .iter()
        .map(|file| format!("--from-file={}", file.display()));
    first.map(str::to_owned).into_iter().chain(files).collect()
}

/// A word for a shell.
fn quote(word: &str) -> String {
    format!("'{}'", word.replace('\'', r"'\''"))
}

fn pod_status(pod: &Value) -> PodStatus {
    let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let status = &pod["status"];
    let ready = list(&status["conditions"])
        .iter()
        .any(|condition| condition["type"] == "Ready" && condition["status"] == "True");
    PodStatus {
        name: text(&pod["metadata"]["name"]),
        node: text(&pod["spec"]["nodeName"]),
        addresses: list(&status["podIPs"])
            .iter()
            .filter_map(|address| address["ip"].as_str()?.parse().ok())
            .collect(),
        ready: ready && pod["metadata"]["deletionTimestamp"].is_null(),
        restarts: list(&status["containerStatuses"])
            .iter()
            .filter_map(|container| container["restartCount"].as_u64())
            .sum(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_quoted_word_is_one_word() {
        assert_eq!(quote("a b"), "'a b'");
        assert_eq!(quote("it's"), r"'it'\''s'");
    }

    #[test]
    fn a_pod_that_is_being_deleted_is_not_ready() {
        let mut pod = json!({
            "metadata": {"name": "web"},
            "spec": {"nodeName": "node1"},
            "status": {
                "conditions": [{"type": "Ready", "status": "True"}],
                "podIPs": [{"ip": "10.5.1.2"}, {"ip": "fd10:5::1:2"}],
                "containerStatuses": [{"restartCount": 2}, {"restartCount": 1}],
            },
        });
        let status = pod_status(&pod);
        assert_eq!((status.ready, status.restarts), (true, 3));
        assert_eq!(status.addresses.len(), 2);
        pod["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
        assert!(!pod_status(&pod).ready);
        assert_eq!(pod_status(&json!({})).name, "");
    }
}
