// SPDX-License-Identifier: Apache-2.0
//! The network configuration on standard input, as far as it is ours.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Deserializer};

use crate::Error;
use crate::input::{Collect, Command, Living, Request, at_least};
use crate::version::Version;

/// How long ADD waits for the agent unless told otherwise.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(30);
/// Longest wait that can be configured.
const CONNECT_TIMEOUT_MAX: u64 = 300;

/// The network configuration. Unknown keys belong to the runtime and to other plugins.
#[derive(Deserialize)]
#[serde(rename_all = "kebab-case", expecting = "a JSON object")]
pub(crate) struct NetConf {
    #[serde(rename = "cniVersion")]
    pub(crate) cni_version: Option<String>,
    #[serde(rename = "prevResult")]
    pub(crate) prev_result: Option<serde_json::Value>,
    mtu: Option<u32>,
    /// Everything that lives. A runtime without a container says null.
    #[serde(
        rename = "cni.dev/valid-attachments",
        default,
        deserialize_with = "given"
    )]
    valid: Option<Option<BTreeSet<Living>>>,
    chaining_mode: Option<String>,
    ipam: Option<Ipam>,
    enable_debug: Option<bool>,
    log_file: Option<PathBuf>,
    socket_path: Option<PathBuf>,
    run_dir: Option<PathBuf>,
    /// Seconds.
    connect_timeout: Option<u64>,
}

#[derive(Deserialize)]
#[serde(expecting = "ipam as {\"type\": …}")]
struct Ipam {
    #[serde(rename = "type", default)]
    kind: String,
}

/// A null is a value, too.
fn given<'de, D: Deserializer<'de>, T: Deserialize<'de>>(from: D) -> Result<Option<T>, D::Error> {
    T::deserialize(from).map(Some)
}

impl NetConf {
    /// Without the list everything would go, so it has to be there.
    pub(crate) fn collect(&self, version: Version) -> Result<Collect, Error> {
        at_least(version, Version::V1_1_0, "GC")?;
        let valid = self.valid.clone().ok_or_else(|| Error::Config {
            field: "cni.dev/valid-attachments",
            problem: "GC needs the list of what lives".into(),
        })?;
        Ok(Collect {
            valid: valid.unwrap_or_default(),
        })
    }

    pub(crate) fn refuse_unsupported(&self) -> Result<(), Error> {
        let refuse = |field, problem| Err(Error::Unsupported { field, problem });
        if let Some(mode) = self
            .chaining_mode
            .as_deref()
            .filter(|m| !matches!(*m, "" | "none"))
        {
            return refuse(
                "chaining-mode",
                format!("{mode:?}: the plugin is not chained"),
            );
        }
        if let Some(ipam) = self.ipam.as_ref().filter(|ipam| !ipam.kind.is_empty()) {
            let problem = format!("{:?}: addresses come from the agent", ipam.kind);
            return refuse("ipam.type", problem);
        }
        if self
            .prev_result
            .as_ref()
            .is_some_and(|previous| !previous.is_null())
        {
            let problem = "another plugin ran before: the plugin must be the first of its list";
            return refuse("prevResult", problem.into());
        }
        Ok(())
    }

    pub(crate) fn request(
        self,
        command: Command,
        version: Version,
        socket: Option<&str>,
    ) -> Result<Request, Error> {
        let config = |field, problem: String| Err(Error::Config { field, problem });
        let mtu = self.mtu.unwrap_or_default();
        if mtu != 0 && !(576..=65_535).contains(&mtu) {
            return config("mtu", format!("{mtu} is not between 576 and 65535"));
        }
        let connect_timeout = match self.connect_timeout {
            Some(seconds) if seconds > CONNECT_TIMEOUT_MAX => {
                return config("connect-timeout", format!("{seconds} s is more than 300 s"));
            }
            Some(seconds) => Duration::from_secs(seconds),
            None => CONNECT_TIMEOUT,
        };
        let socket = self
            .socket_path
            .or_else(|| socket.map(PathBuf::from))
            .map_or_else(|| api::DEFAULT_SOCKET.into(), api::socket_path);
        let run_dir = self
            .run_dir
            .or_else(|| socket.parent().map(Path::to_owned))
            .unwrap_or_else(|| "/var/run/cilium".into());
        Ok(Request {
            command,
            version,
            socket,
            run_dir,
            connect_timeout,
            mtu,
            log_file: self.log_file.filter(|path| !path.as_os_str().is_empty()),
            debug: self.enable_debug.unwrap_or_default(),
        })
    }
}
