// SPDX-License-Identifier: Apache-2.0
//! The socket of the agent: who may use it, and what becomes of one that a dead agent left.

use std::fs::{self, Permissions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{FileTypeExt, PermissionsExt, chown};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use nix::unistd::Group;
use tokio::net::UnixListener;

use crate::Error;

/// Group whose members may use the socket.
const GROUP: &str = "cilium";

/// The socket that `path` names: clients of Cilium may write a scheme before it.
pub fn socket_path(path: PathBuf) -> PathBuf {
    let bare = path.to_str().and_then(|text| text.strip_prefix("unix://"));
    bare.map(PathBuf::from).unwrap_or(path)
}

/// Listens on `path`: mode 0660, group `cilium` if it exists. A socket that nobody listens on is replaced; one that
/// somebody listens on is an error. Missing directories are made. Must run inside a tokio runtime.
pub fn bind(path: &Path) -> Result<UnixListener, Error> {
    let step = |step| {
        move |source| Error::Bind {
            step,
            path: path.into(),
            source,
        }
    };
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent).map_err(step("make the directory of"))?;
    }
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => {}
        Err(error) => return Err(step("look at")(error)),
        Ok(meta) if !meta.file_type().is_socket() => {
            return Err(Error::NotASocket { path: path.into() });
        }
        Ok(_) if is_live(path).map_err(step("try"))? => {
            return Err(Error::AgentRunning { path: path.into() });
        }
        Ok(_) => fs::remove_file(path).map_err(step("remove the dead socket"))?,
    }
    let listener = UnixListener::bind(path).map_err(|error| match error.kind() {
        ErrorKind::AddrInUse => Error::AgentRunning { path: path.into() },
        _ => step("listen on")(error),
    })?;
    fs::set_permissions(path, Permissions::from_mode(0o660)).map_err(step("set the mode of"))?;
    if let Ok(Some(group)) = Group::from_name(GROUP) {
        chown(path, None, Some(group.gid.as_raw())).map_err(step("set the group of"))?;
    }
    Ok(listener)
}

/// Whether somebody listens: also one whose queue is full.
fn is_live(path: &Path) -> io::Result<bool> {
    match UnixStream::connect(path) {
        Ok(_) => Ok(true),
        Err(error) => match error.kind() {
            ErrorKind::ConnectionRefused | ErrorKind::NotFound => Ok(false),
            ErrorKind::WouldBlock => Ok(true),
            _ => Err(error),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_dead_socket_is_replaced_and_a_live_one_is_not() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("deep/cilium.sock");
        let first = bind(&path).expect("the first agent listens");
        let mode = fs::metadata(&path).expect("a file").permissions().mode();
        assert_eq!(mode & 0o777, 0o660);
        let second = bind(&path).expect_err("a second agent must not start");
        assert!(
            second
                .to_string()
                .contains("only one agent can run on a node")
        );
        drop(first);
        bind(&path).expect("the dead socket is replaced");
    }

    #[tokio::test]
    async fn a_file_is_not_removed() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("file");
        fs::write(&path, "precious").expect("a file");
        let error = bind(&path).expect_err("a file is no socket");
        assert!(error.to_string().contains("is not a socket"));
        assert_eq!(fs::read_to_string(&path).expect("it is kept"), "precious");
    }
}
