// SPDX-License-Identifier: Apache-2.0
//! Kernel switches below `/proc/sys`. Those of the network belong to the namespace of the thread.

use std::path::PathBuf;
use std::{fs, io};

use crate::{Error, NetNs, Result};

/// Reads a switch of the calling thread's namespace. `key` is a path below `/proc/sys` with slashes
/// (`net/ipv4/ip_forward`), because device names may have dots.
pub fn read(key: &str) -> Result<String> {
    let failed = |source| Error::Sysctl {
        operation: "read",
        key: key.to_owned(),
        source,
    };
    let text = fs::read_to_string(path(key).map_err(failed)?).map_err(failed)?;
    Ok(text.trim_end().to_owned())
}

/// Sets a switch of the calling thread's namespace to `value`.
pub fn write(key: &str, value: &str) -> Result<()> {
    let failed = |source| Error::Sysctl {
        operation: "set",
        key: format!("{key}={value}"),
        source,
    };
    fs::write(path(key).map_err(failed)?, value).map_err(failed)
}

/// Sets a switch only where it differs: writing is a change of state even of the same value for some.
pub fn ensure(key: &str, value: &str) -> Result<()> {
    if read(key).is_ok_and(|now| now == value) {
        Ok(())
    } else {
        write(key, value)
    }
}

/// Reads a switch of `netns`.
pub fn read_in(netns: &NetNs, key: &str) -> Result<String> {
    netns.run(|| read(key))?
}

/// Sets several switches of `netns`, in order; stops at the first that fails.
pub fn write_in(netns: &NetNs, switches: &[(&str, &str)]) -> Result<()> {
    netns.run(|| {
        switches
            .iter()
            .try_for_each(|(key, value)| write(key, value))
    })?
}

fn path(key: &str) -> io::Result<PathBuf> {
    let good = !key.is_empty() && key.split('/').all(|part| !matches!(part, "" | "." | ".."));
    if good {
        Ok(PathBuf::from("/proc/sys").join(key))
    } else {
        Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "not a path below /proc/sys",
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_stay_below_proc_sys() {
        for bad in ["", "/etc/passwd", "../kernel", "net//ipv4", "net/../../x"] {
            assert!(read(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn errors_name_the_key() {
        let error = read("net/ipv4/no_such_key")
            .expect_err("absent")
            .to_string();
        assert_eq!(
            error,
            "cannot read sysctl net/ipv4/no_such_key: No such file or directory (os error 2)"
        );
    }
}
