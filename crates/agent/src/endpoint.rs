// SPDX-License-Identifier: Apache-2.0
//! An endpoint as the agent keeps it, and its file: what a restart needs to go on with a pod as if nothing had
//! happened. One file per endpoint, replaced atomically.

use std::collections::VecDeque;
use std::io::{self, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use api::models::EndpointState;
use model::{EndpointId, Labels, NumericIdentity, Pod, PodKey};
use netlink::Mac;
use serde::{Deserialize, Serialize};

/// Version of the file.
const FORMAT: u32 = 1;
/// Largest file that is read.
const MAX_FILE: u64 = 1 << 20;
/// Entries of an endpoint's log.
const MAX_LOG: usize = 64;

/// What does not change while the endpoint lives.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Attachment {
    pub(crate) id: EndpointId,
    pub(crate) container_id: String,
    pub(crate) container_interface: String,
    pub(crate) netns: String,
    /// Host side.
    pub(crate) interface: String,
    pub(crate) ifindex: u32,
    pub(crate) mac: Mac,
    pub(crate) host_mac: Mac,
    pub(crate) ipv4: Option<Ipv4Addr>,
    pub(crate) ipv6: Option<Ipv6Addr>,
    pub(crate) pod: PodKey,
    pub(crate) uid: String,
}

/// An endpoint.
#[derive(Clone, Debug)]
pub(crate) struct Endpoint {
    pub(crate) attachment: Attachment,
    pub(crate) labels: Labels,
    pub(crate) identity: NumericIdentity,
    /// Counts as a use of its identity: that is to be released with it. Not yet so after a restart.
    pub(crate) counted: bool,
    pub(crate) state: EndpointState,
    /// Newest first.
    pub(crate) log: VecDeque<LogEntry>,
}

/// A line of an endpoint's log.
#[derive(Clone, Debug)]
pub(crate) struct LogEntry {
    pub(crate) at: SystemTime,
    pub(crate) ok: bool,
    pub(crate) state: EndpointState,
    pub(crate) message: String,
}

#[derive(Serialize, Deserialize)]
struct File {
    format: u32,
    id: u16,
    container_id: String,
    container_interface: String,
    netns: String,
    interface: String,
    ifindex: u32,
    mac: [u8; 6],
    host_mac: [u8; 6],
    ipv4: Option<Ipv4Addr>,
    ipv6: Option<Ipv6Addr>,
    namespace: String,
    pod: String,
    uid: String,
    labels: String,
    identity: u32,
}

impl Attachment {
    /// The addresses.
    pub(crate) fn ips(&self) -> impl Iterator<Item = IpAddr> + use<> {
        self.ipv4
            .map(IpAddr::from)
            .into_iter()
            .chain(self.ipv6.map(IpAddr::from))
    }

    /// Whether `pod` is the one that the endpoint was made for, and not another one of its name: who deletes a pod
    /// without waiting may make the next one while the first still runs.
    pub(crate) fn is_of(&self, pod: &Pod) -> bool {
        self.pod == pod.key && pod.is_run_as(&self.uid)
    }

    /// `<container id>:<interface>`.
    pub(crate) fn cni_id(&self) -> String {
        format!("{}:{}", self.container_id, self.container_interface)
    }
}

impl Endpoint {
    /// Notes a change of state.
    pub(crate) fn enter(&mut self, state: EndpointState, ok: bool, message: impl Into<String>) {
        self.state = state;
        self.log.push_front(LogEntry {
            at: SystemTime::now(),
            ok,
            state,
            message: message.into(),
        });
        self.log.truncate(MAX_LOG);
    }

    /// Writes the endpoint's file below `dir`.
    pub(crate) fn save(&self, dir: &Path) -> io::Result<()> {
        let a = &self.attachment;
        let file = File {
            format: FORMAT,
            id: a.id.0,
            container_id: a.container_id.clone(),
            container_interface: a.container_interface.clone(),
            netns: a.netns.clone(),
            interface: a.interface.clone(),
            ifindex: a.ifindex,
            mac: a.mac.0,
            host_mac: a.host_mac.0,
            ipv4: a.ipv4,
            ipv6: a.ipv6,
            namespace: a.pod.namespace.to_string(),
            pod: a.pod.name.to_string(),
            uid: a.uid.clone(),
            labels: self.labels.canonical(),
            identity: self.identity.0,
        };
        std::fs::create_dir_all(dir)?;
        let path = path(dir, a.id);
        let new = path.with_extension("new");
        let mut out = std::fs::File::create(&new)?;
        out.write_all(&serde_json::to_vec(&file)?)?;
        drop(out);
        std::fs::rename(new, path)
    }
}

/// Removes the endpoint's file.
pub(crate) fn forget(dir: &Path, id: EndpointId) -> io::Result<()> {
    match std::fs::remove_file(path(dir, id)) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Where the endpoint's file is.
pub(crate) fn path(dir: &Path, id: EndpointId) -> PathBuf {
    dir.join(format!("{id}.json"))
}

/// A file of an endpoint that cannot be read.
#[derive(Clone, Debug)]
pub(crate) struct Damaged {
    pub(crate) path: PathBuf,
    /// Of the endpoint, as the file's name says.
    pub(crate) id: Option<EndpointId>,
    pub(crate) reason: String,
}

/// Reads all endpoints below `dir`. Files that are damaged are left alone.
///
/// # Errors
/// The directory cannot be read, or the machine is short of something: what is there is not known then, and none of it is
/// gone.
pub(crate) fn restore(dir: &Path) -> io::Result<(Vec<Endpoint>, Vec<Damaged>)> {
    let (mut endpoints, mut damaged) = (Vec::new(), Vec::new());
    let entries = match std::fs::read_dir(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok((endpoints, damaged)),
        entries => entries?,
    };
    for entry in entries {
        let path = entry?.path();
        if path.extension().is_none_or(|e| e != "json") {
            continue;
        }
        let bytes = match bytes(&path) {
            Err(error) if is_shortage(&error) => return Err(error),
            bytes => bytes.map_err(|error| error.to_string()),
        };
        match bytes.and_then(|bytes| parse(&bytes)) {
            Ok(endpoint) => endpoints.push(endpoint),
            Err(reason) => {
                let name = path.file_stem().and_then(|name| name.to_str());
                let id = name.and_then(|name| name.parse().ok()).map(EndpointId);
                damaged.push(Damaged { path, id, reason });
            }
        }
    }
    endpoints.sort_by_key(|endpoint| endpoint.attachment.id);
    Ok((endpoints, damaged))
}

/// Whether the same may succeed a moment later, whatever is in the file.
fn is_shortage(error: &io::Error) -> bool {
    let number = error.raw_os_error();
    matches!(number, Some(libc::EMFILE | libc::ENFILE | libc::ENOMEM))
}

fn bytes(path: &Path) -> io::Result<Vec<u8>> {
    let size = std::fs::metadata(path)?.len();
    if size > MAX_FILE {
        let text = format!("{size} bytes, at most {MAX_FILE} are read");
        return Err(io::Error::other(text));
    }
    std::fs::read(path)
}

fn parse(bytes: &[u8]) -> Result<Endpoint, String> {
    let file: File = serde_json::from_slice(bytes).map_err(|e| e.to_string())?;
    if file.format != FORMAT {
        return Err(format!(
            "format {}, this version reads {FORMAT}",
            file.format
        ));
    }
    if file.id == 0 || u32::from(file.id) >= abi::MAX_ENDPOINTS {
        return Err(format!("endpoint id {} is out of range", file.id));
    }
    let labels = Labels::parse(file.labels.as_bytes()).map_err(|e| e.to_string())?;
    let attachment = Attachment {
        id: EndpointId(file.id),
        container_id: file.container_id,
        container_interface: file.container_interface,
        netns: file.netns,
        interface: file.interface,
        ifindex: file.ifindex,
        mac: Mac(file.mac),
        host_mac: Mac(file.host_mac),
        ipv4: file.ipv4,
        ipv6: file.ipv6,
        pod: PodKey {
            namespace: file.namespace.into(),
            name: file.pod.into(),
        },
        uid: file.uid,
    };
    let mut endpoint = Endpoint {
        attachment,
        labels,
        identity: NumericIdentity(file.identity),
        counted: false,
        state: EndpointState::Restoring,
        log: VecDeque::new(),
    };
    endpoint.enter(EndpointState::Restoring, true, "Restored from disk");
    Ok(endpoint)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn endpoint(labels: Labels) -> Endpoint {
        let attachment = Attachment {
            id: EndpointId(7),
            container_id: "abc".into(),
            container_interface: "eth0".into(),
            netns: "/run/netns/x".into(),
            interface: "lxc1".into(),
            ifindex: 9,
            mac: Mac([2, 0, 0, 0, 0, 1]),
            host_mac: Mac([2, 0, 0, 0, 0, 2]),
            ipv4: Some(Ipv4Addr::new(10, 0, 0, 2)),
            ipv6: None,
            pod: PodKey {
                namespace: "demo".into(),
                name: "web".into(),
            },
            uid: String::new(),
        };
        Endpoint {
            attachment,
            labels,
            identity: NumericIdentity(70000),
            counted: true,
            state: EndpointState::Ready,
            log: VecDeque::new(),
        }
    }

    #[test]
    fn a_saved_endpoint_comes_back_and_a_damaged_file_is_named() {
        let dir = tempfile::tempdir().expect("temp dir");
        let endpoint = endpoint(Labels::parse(b"k8s:app=web;").expect("labels"));
        endpoint.save(dir.path()).expect("saved");
        std::fs::write(dir.path().join("9.json"), "{").expect("write");
        let (restored, damaged) = restore(dir.path()).expect("readable");
        assert_eq!(restored[0].attachment, endpoint.attachment);
        assert_eq!(restored[0].labels, endpoint.labels);
        assert_eq!(damaged.len(), 1);
        assert_eq!(damaged[0].id, Some(EndpointId(9)));
        forget(dir.path(), EndpointId(7)).expect("removed");
        forget(dir.path(), EndpointId(7)).expect("absent is fine");
    }

    #[test]
    fn a_pod_with_as_many_and_as_long_labels_as_can_be_comes_back() {
        let all = || (0..256).map(|n| (format!("{n:0317}"), format!("{n:063}")));
        let namespace = model::Namespace {
            name: "n".repeat(63),
            labels: all().collect(),
        };
        let pod = Pod {
            key: PodKey {
                namespace: namespace.name.as_str().into(),
                name: "p".repeat(253).into(),
            },
            uid: "".into(),
            mirrored: "".into(),
            node: "".into(),
            service_account: "a".repeat(253).into(),
            host_network: false,
            labels: all().collect(),
            named_ports: [].into(),
        };
        let cluster = model::ClusterName::new(&"c".repeat(32)).expect("valid");
        let filter = model::LabelFilter::default();
        let endpoint = endpoint(pod.identity_labels(Some(&namespace), &cluster, &filter));
        assert_eq!(endpoint.labels.len(), 2 * 256 + 3);
        let dir = tempfile::tempdir().expect("temp dir");
        endpoint.save(dir.path()).expect("saved");
        let (restored, damaged) = restore(dir.path()).expect("readable");
        assert_eq!(damaged.len(), 0, "{}", damaged[0].reason);
        assert_eq!(restored[0].labels, endpoint.labels);
    }

    /// All pods would be forgotten.
    #[test]
    fn what_cannot_be_read_is_not_taken_for_nothing() {
        let dir = tempfile::tempdir().expect("temp dir");
        let missing = restore(&dir.path().join("new")).expect("nothing yet");
        assert!(missing.0.is_empty() && missing.1.is_empty());
        let other = dir.path().join("other");
        std::fs::write(&other, "").expect("write");
        assert!(restore(&other).is_err());
    }
}
