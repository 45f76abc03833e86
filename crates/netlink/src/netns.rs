// SPDX-License-Identifier: Apache-2.0
//! Network namespaces: opened by path, entered only on threads of their own.

use std::fs::{self, File, TryLockError};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::thread;

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, setns, unshare};

use crate::{Error, Result};

const CURRENT: &str = "/proc/thread-self/ns/net";
/// `_IO(0xb7, 3)`: the kind of namespace behind a descriptor.
const NS_GET_NSTYPE: libc::Ioctl = 0xb703;
/// `SO_NETNS_COOKIE` of asm-generic/socket.h.
const SO_NETNS_COOKIE: libc::c_int = 71;

/// A network namespace, kept alive by an open file.
#[derive(Debug)]
pub struct NetNs {
    file: File,
    path: PathBuf,
}

impl NetNs {
    /// Opens the namespace behind a file such as `/var/run/netns/NAME` or `/proc/PID/ns/net`.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        // What is no namespace may be a pipe, which would wait for its other end.
        let file = File::options()
            .read(true)
            .custom_flags(libc::O_NONBLOCK)
            .open(path)
            .map_err(|e| failed("open", path, e))?;
        // SAFETY: the descriptor is open, and this request takes no argument; it only returns a number,
        // or an error for a file that is no namespace.
        let kind = unsafe { libc::ioctl(file.as_raw_fd(), NS_GET_NSTYPE) };
        if kind != libc::CLONE_NEWNET {
            return Err(Error::NotNamespace(path.to_owned()));
        }
        Ok(Self {
            file,
            path: path.to_owned(),
        })
    }

    /// The namespace of the calling thread.
    pub fn current() -> Result<Self> {
        Self::open(CURRENT)
    }

    /// Makes a new namespace and keeps it at `path` (a bind mount), so that it outlives its processes.
    /// Missing directories are made. Nothing may be mounted at `path`.
    pub fn create(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let error = |e: io::Error| failed("create", path, e);
        if let Some(directory) = path.parent() {
            fs::create_dir_all(directory).map_err(error)?;
        }
        File::create_new(path).map_err(error)?;
        let made = on_thread(|| {
            unshare(CloneFlags::CLONE_NEWNET)?;
            mount(
                Some(CURRENT),
                path,
                None::<&str>,
                MsFlags::MS_BIND,
                None::<&str>,
            )
        });
        if let Err(e) = made.and_then(|made| Ok(made?)) {
            // The file is empty and ours: without it the next try can begin afresh.
            let _ = fs::remove_file(path);
            return Err(error(e));
        }
        Self::open(path)
    }

    /// Lets go of the namespace kept at `path`; it ends with its last user. Absent is fine.
    pub fn delete(path: impl AsRef<Path>) -> Result<()> {
        let path = path.as_ref();
        match umount2(path, MntFlags::MNT_DETACH) {
            // EINVAL: a file that nothing is mounted on.
            Ok(()) | Err(nix::errno::Errno::EINVAL) => {}
            Err(nix::errno::Errno::ENOENT) => return Ok(()),
            Err(errno) => return Err(failed("unmount", path, errno.into())),
        }
        match fs::remove_file(path) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => Err(failed("remove", path, e)),
            _ => Ok(()),
        }
    }

    /// Runs `work` on a fresh thread inside the namespace and waits for it. A panic of `work` goes on in
    /// the caller.
    pub fn run<T: Send>(&self, work: impl FnOnce() -> T + Send) -> Result<T> {
        on_thread(|| {
            setns(self.file.as_fd(), CloneFlags::CLONE_NEWNET)
                .map_err(|e| failed("enter", &self.path, e.into()))?;
            Ok(work())
        })
        .map_err(|e| failed("start a thread for", &self.path, e))?
    }

    /// The path by which it was opened.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Its inode number: two files of one namespace have the same.
    pub fn inode(&self) -> Result<u64> {
        Ok(self
            .file
            .metadata()
            .map_err(|e| failed("examine", &self.path, e))?
            .ino())
    }

    /// Locks it for whoever uses this value; `false` while somebody else has done so. The kernel unlocks it when the value is
    /// dropped, and with the process. It keeps out only who asks as well.
    pub fn try_lock(&self) -> Result<bool> {
        match self.file.try_lock() {
            Ok(()) => Ok(true),
            Err(TryLockError::WouldBlock) => Ok(false),
            Err(TryLockError::Error(e)) => Err(failed("lock", &self.path, e)),
        }
    }

    /// Its cookie: a number that the kernel never uses again while it runs.
    pub fn cookie(&self) -> Result<u64> {
        self.run(socket_cookie)?
            .map_err(|e| failed("read the cookie of", &self.path, e))
    }
}

impl AsFd for NetNs {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

/// The cookie of the calling thread's namespace, as a socket in it tells.
fn socket_cookie() -> io::Result<u64> {
    let socket = std::net::UdpSocket::bind(("127.0.0.1", 0))
        .or_else(|_| std::net::UdpSocket::bind(("0.0.0.0", 0)))?;
    let mut cookie = 0u64;
    let mut length = size_of::<u64>() as libc::socklen_t;
    // SAFETY: the descriptor is open; `cookie` and `length` live through the call and `length` says how
    // much room there is.
    let result = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            SO_NETNS_COOKIE,
            (&raw mut cookie).cast(),
            &mut length,
        )
    };
    if result == 0 {
        Ok(cookie)
    } else {
        Err(io::Error::last_os_error())
    }
}

/// Runs `work` on a thread that ends afterwards, so that what it does to itself ends with it.
fn on_thread<T: Send>(work: impl FnOnce() -> T + Send) -> io::Result<T> {
    thread::scope(
        |scope| match thread::Builder::new().spawn_scoped(scope, work)?.join() {
            Ok(value) => Ok(value),
            Err(panic) => std::panic::resume_unwind(panic),
        },
    )
}

fn failed(operation: &'static str, path: &Path, source: io::Error) -> Error {
    Error::Namespace {
        operation,
        path: path.to_owned(),
        source,
    }
}
