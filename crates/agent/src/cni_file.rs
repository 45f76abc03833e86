// SPDX-License-Identifier: Apache-2.0
//! The network configuration that the container runtime reads: written once this node can give pods addresses, kept
//! as long as the agent runs, and left in place when it ends. Where this agent is to be the only plugin, the files of
//! others are set aside under another name.

use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use config::CniFile;
use serde_json::json;

use crate::service::Service;

/// Appended to the names of files that are set aside.
const ASIDE: &str = "cilium_bak";
/// Endings that container runtimes read.
const READ: [&str; 3] = ["conf", "conflist", "json"];
/// The directory is looked at so often: others may write there at any time.
const INTERVAL: Duration = Duration::from_secs(5);

/// The file's text.
fn text(file: &CniFile) -> String {
    let mut plugins = vec![json!({ "type": "cilium-cni", "log-file": file.log_file })];
    if file.portmap {
        plugins.push(json!({ "type": "portmap", "capabilities": { "portMappings": true } }));
    }
    let mut all = json!({ "cniVersion": "1.0.0", "name": "cilium", "plugins": plugins });
    if !file.portmap {
        // Runtimes that know the field and 1.1 ask for STATUS and GC. Not with others' plugins, which may be older.
        all["cniVersions"] = json!(["1.0.0", "1.1.0"]);
    }
    format!("{all:#}\n")
}

/// What problems with it are noted under.
pub(crate) fn subject(file: &CniFile) -> String {
    format!("CNI configuration {}", file.path.display())
}

/// Writes the file if it is not there as it should be, in one step, and sets others aside.
fn ensure(cni: &CniFile) -> io::Result<()> {
    let text = text(cni);
    if fs::read_to_string(&cni.path).ok().as_ref() != Some(&text) {
        let new = cni.path.with_extension("new");
        let mut file = fs::OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&new)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        fs::rename(&new, &cni.path)?;
    }
    if cni.exclusive {
        set_others_aside(cni)?;
    }
    Ok(())
}

fn set_others_aside(cni: &CniFile) -> io::Result<()> {
    let Some(dir) = cni.path.parent() else {
        return Ok(());
    };
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        if path == cni.path || !is_read(&path) {
            continue;
        }
        let mut aside = path.clone().into_os_string();
        aside.push(".");
        aside.push(ASIDE);
        fs::rename(&path, &aside)?;
        tracing::info!(file = %path.display(), "another network's configuration is set aside; --cni-exclusive=false leaves it");
    }
    Ok(())
}

fn is_read(path: &Path) -> bool {
    let ending = path.extension().and_then(|ending| ending.to_str());
    ending.is_some_and(|ending| READ.contains(&ending))
}

/// Keeps the file once the agent is ready, for ever.
pub(crate) async fn keep(service: Arc<Service>, file: CniFile) {
    service.until_ready().await;
    loop {
        let result = ensure(&file);
        service.core().note(&subject(&file), result.err());
        tokio::time::sleep(INTERVAL).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(dir: &Path) -> CniFile {
        CniFile {
            path: dir.join("05-cilium.conflist"),
            exclusive: true,
            log_file: "/var/run/cilium/cilium-cni.log".into(),
            portmap: false,
        }
    }

    #[test]
    fn the_file_comes_back_and_others_are_set_aside() {
        let dir = tempfile::tempdir().expect("a directory");
        let others = [
            "10-bridge.conf",
            "x.conflist",
            "keep.txt",
            "y.conf.cilium_bak",
        ];
        for name in others {
            fs::write(dir.path().join(name), "{}").expect("written");
        }
        let file = file(dir.path());
        ensure(&file).expect("written");
        ensure(&file).expect("nothing to do");
        let names: std::collections::BTreeSet<String> = fs::read_dir(dir.path())
            .expect("listed")
            .map(|entry| {
                entry
                    .expect("an entry")
                    .file_name()
                    .to_string_lossy()
                    .into_owned()
            })
            .collect();
        let want = [
            "05-cilium.conflist",
            "10-bridge.conf.cilium_bak",
            "keep.txt",
            "x.conflist.cilium_bak",
            "y.conf.cilium_bak",
        ];
        assert_eq!(names, want.map(str::to_owned).into());
        fs::write(&file.path, "garbage").expect("written");
        ensure(&file).expect("repaired");
        assert_eq!(fs::read_to_string(&file.path).expect("read"), text(&file));
    }

    #[test]
    fn portmap_comes_behind_and_sets_the_version() {
        let mut file = file(Path::new("/x"));
        let value = |file: &CniFile| -> serde_json::Value {
            serde_json::from_str(&text(file)).expect("JSON")
        };
        assert_eq!(value(&file)["cniVersions"], json!(["1.0.0", "1.1.0"]));
        file.portmap = true;
        let value = value(&file);
        assert_eq!(value["cniVersions"], serde_json::Value::Null);
        assert_eq!(value["plugins"][0]["type"], "cilium-cni");
        assert_eq!(value["plugins"][1]["type"], "portmap");
    }
}
