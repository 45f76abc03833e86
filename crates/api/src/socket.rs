// SPDX-License-Identifier: Apache-2.0
//! The socket of the agent: who may use it, what becomes of one that a dead agent left, and of one that somebody removes.

use std::fs::{self, Permissions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, chown};
use std::os::unix::net;
use std::path::{Path, PathBuf};
use std::task::{Context, Poll};
use std::time::Duration;

use nix::unistd::Group;
use tokio::net::{UnixListener, UnixStream};
use tokio::time::{Interval, MissedTickBehavior, interval};

use crate::Error;

/// Group whose members may use the socket.
const GROUP: &str = "cilium";

/// How often it is asked whether the path still leads to the socket.
const LOOK: Duration = Duration::from_secs(2);

/// A socket that clients find at its path for as long as it lives, also when somebody removes the file.
#[derive(Debug)]
pub struct Socket {
    path: PathBuf,
    listener: UnixListener,
    /// Device and inode of what was bound.
    file: Option<(u64, u64)>,
    look: Interval,
    /// Why the path does not lead here.
    lost: Option<String>,
}

impl Socket {
    /// The next client. Those who found the socket before it was removed come first.
    pub(crate) fn poll_accept(
        &mut self,
        context: &mut Context<'_>,
    ) -> Poll<io::Result<UnixStream>> {
        loop {
            if let Poll::Ready(accepted) = self.listener.poll_accept(context) {
                return Poll::Ready(accepted.map(|(stream, _)| stream));
            }
            if self.look.poll_tick(context).is_pending() {
                return Poll::Pending;
            }
            self.keep();
        }
    }

    /// Listens at the path again if it leads elsewhere. What clients have open is theirs.
    fn keep(&mut self) {
        if file(&self.path) == self.file {
            return;
        }
        match listen(&self.path) {
            Ok(listener) => {
                tracing::warn!(path = %self.path.display(), "somebody removed the API's socket; it is there again");
                (self.listener, self.file) = (listener, file(&self.path));
                self.lost = None;
            }
            Err(error) => {
                let error = error.to_string();
                if self.lost.as_ref() != Some(&error) {
                    tracing::error!(error, "somebody removed the API's socket");
                    self.lost = Some(error);
                }
            }
        }
    }
}

fn file(path: &Path) -> Option<(u64, u64)> {
    let meta = fs::symlink_metadata(path).ok()?;
    Some((meta.dev(), meta.ino()))
}

/// The socket that `path` names: clients of Cilium may write a scheme before it.
pub fn socket_path(path: PathBuf) -> PathBuf {
    let bare = path.to_str().and_then(|text| text.strip_prefix("unix://"));
    bare.map(PathBuf::from).unwrap_or(path)
}

/// Listens on `path`: mode 0660, group `cilium` if it exists. A socket that nobody listens on is replaced; one that
/// somebody listens on is an error. Missing directories are made. Must run inside a tokio runtime.
pub fn bind(path: &Path) -> Result<Socket, Error> {
    let listener = listen(path)?;
    let mut look = interval(LOOK);
    look.set_missed_tick_behavior(MissedTickBehavior::Delay);
    Ok(Socket {
        path: path.into(),
        listener,
        file: file(path),
        look,
        lost: None,
    })
}

fn listen(path: &Path) -> Result<UnixListener, Error> {
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
    match net::UnixStream::connect(path) {
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
