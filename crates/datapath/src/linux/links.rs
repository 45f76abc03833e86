// SPDX-License-Identifier: Apache-2.0
//! Links: a program's place on a device. It outlives the agent, and is replaced in place, so that no packet goes
//! without a program.
//!
//! On the VXLAN device a link is a pinned TCX link. On a pod's device it is a filter of the device's clsact qdisc,
//! which lives as long as the device: a TCX link costs a grace period of RCU with the kernel's lock over all devices
//! held, 20 ms for both directions of a pod, and every other pod that starts or ends waits for it.

use std::io;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use aya::programs::links::{FdLink, PinnedLink};
use aya::programs::tc::{
    NlOptions, SchedClassifierLink, SchedClassifierLinkId, TcAttachOptions, TcError, TcHandle,
    qdisc_add_clsact,
};
use aya::programs::{LinkOrder, ProgramError, SchedClassifier, TcAttachType};
use netlink::{Filter, Side, Socket};

use super::sys;
use crate::kernel::Attached;
use crate::{Error, Program, Result};

/// Where our filter is among those of a clsact qdisc: first, and always under the same number, so that it can be
/// replaced by another run.
const FILTER: NlOptions = NlOptions {
    priority: 1,
    handle: TcHandle::new(0, 1),
    classid: None,
};

/// The programs whose filters are not on a pod's device (an index).
pub fn missing_filters(socket: &Socket, ifindex: u32) -> Result<Vec<Program>> {
    let mut missing = Vec::new();
    for program in Program::ALL.iter().filter(|program| program.is_of_pod()) {
        let side = match program.is_ingress() {
            true => Side::Ingress,
            false => Side::Egress,
        };
        let ours = |found: &Filter| found.priority == FILTER.priority && found.handle == 1;
        if !socket.filters(ifindex, side)?.iter().any(ours) {
            missing.push(*program);
        }
    }
    Ok(missing)
}

fn directory(root: &Path) -> PathBuf {
    root.join("links")
}

/// A BPF filesystem refuses names with dots; device names may have them, but never a colon.
fn file_name(device: &str) -> String {
    device.replace('.', ":")
}

/// Where the link of `program` on `device` is pinned.
pub(super) fn path(root: &Path, device: &str, program: Program) -> PathBuf {
    directory(root).join(file_name(device)).join(program.name())
}

/// Replaces the program on `device`, or attaches it if there is none of ours.
pub(super) fn attach(
    classifier: &mut SchedClassifier,
    root: &Path,
    device: &str,
    ifindex: u32,
    program: Program,
) -> Result<Attached> {
    if replace(classifier, root, device, ifindex, program)? {
        return Ok(Attached::Replaced);
    }
    if program.is_of_pod() {
        make_filter(classifier, device, program)?;
    } else {
        make_link(classifier, &path(root, device, program), device, program)?;
    }
    Ok(Attached::New)
}

/// Replaces the program on `device`; `false` if there is none of ours.
pub(super) fn replace(
    classifier: &mut SchedClassifier,
    root: &Path,
    device: &str,
    ifindex: u32,
    program: Program,
) -> Result<bool> {
    if program.is_of_pod() {
        replace_filter(classifier, device, ifindex, program)
    } else {
        Ok(replace_link(
            classifier,
            &path(root, device, program),
            ifindex,
        ))
    }
}

fn direction(program: Program) -> TcAttachType {
    match program.is_ingress() {
        true => TcAttachType::Ingress,
        false => TcAttachType::Egress,
    }
}

fn failed(device: &str, program: Program, reason: String) -> Error {
    Error::Attach {
        program,
        device: device.to_owned(),
        reason,
    }
}

fn replace_filter(
    classifier: &mut SchedClassifier,
    device: &str,
    ifindex: u32,
    program: Program,
) -> Result<bool> {
    let failed = |reason| failed(device, program, reason);
    let found = nix::net::if_::if_nametoindex(device).map_err(|error| failed(words(&error)))?;
    if found != ifindex {
        return Err(failed(format!("it is interface {found}, not {ifindex}")));
    }
    let NlOptions {
        priority,
        handle,
        classid,
    } = FILTER;
    let direction = direction(program);
    let present = SchedClassifierLink::attached(device, direction, priority, handle, classid)
        .map_err(|error| failed(words(&error)))?;
    match classifier.attach_to_link(present) {
        Ok(id) => keep(classifier, id).map_err(|error| failed(words(&*error))),
        Err(error) if is_absent(&error) => return Ok(false),
        Err(error) => Err(failed(words(&error))),
    }?;
    Ok(true)
}

/// Makes the filter, and the qdisc before it.
fn make_filter(classifier: &mut SchedClassifier, device: &str, program: Program) -> Result<()> {
    let failed = |reason| failed(device, program, reason);
    match qdisc_add_clsact(device) {
        Err(error) if !is_present(&error) => return Err(failed(words(&error))),
        _ => {}
    }
    let options = TcAttachOptions::Netlink(FILTER);
    let id = classifier
        .attach_with_options(device, direction(program), options)
        .map_err(|error| failed(words(&error)))?;
    keep(classifier, id).map_err(|error| failed(words(&*error)))
}

/// Whether there is no filter of that number, or no qdisc that could have one (which the kernel calls invalid).
fn is_absent(error: &ProgramError) -> bool {
    let ProgramError::TcError(TcError::NetlinkError(error)) = error else {
        return false;
    };
    matches!(error.raw_os_error(), Some(libc::ENOENT | libc::EINVAL))
}

fn is_present(error: &TcError) -> bool {
    match error {
        TcError::AlreadyAttached => true,
        TcError::NetlinkError(error) => error.raw_os_error() == Some(libc::EEXIST),
        _ => false,
    }
}

/// aya removes a filter with its link; ours stays with the device.
fn keep(
    classifier: &mut SchedClassifier,
    id: SchedClassifierLinkId,
) -> std::result::Result<(), Box<dyn std::error::Error>> {
    std::mem::forget(classifier.take_link(id)?);
    Ok(())
}

/// Makes the link and pins it. A pin that is there is of a device that is gone.
fn make_link(
    classifier: &mut SchedClassifier,
    pin: &Path,
    device: &str,
    program: Program,
) -> Result<()> {
    let failed = |reason| failed(device, program, reason);
    let pin_error = |error| Error::PinLink {
        path: pin.to_owned(),
        error,
    };
    remove(pin).map_err(pin_error)?;
    if let Some(parent) = pin.parent() {
        std::fs::create_dir_all(parent).map_err(pin_error)?;
    }
    let options = TcAttachOptions::TcxOrder(LinkOrder::default());
    let id = classifier
        .attach_with_options(device, direction(program), options)
        .map_err(|error| failed(words(&error)))?;
    let link = fd_link(classifier, id).map_err(|error| failed(words(&*error)))?;
    link.pin(pin)
        .map_err(|error| failed(format!("{pin:?}: {}", words(&error))))?;
    Ok(())
}

/// Puts the program into the living link at `pin`; `false` if there is none for this device.
fn replace_link(classifier: &mut SchedClassifier, pin: &Path, ifindex: u32) -> bool {
    let living = sys::open(pin)
        .and_then(|fd| sys::tcx_info(fd.as_fd()))
        .is_ok_and(|info| info.ifindex == ifindex && ifindex != 0);
    if !living {
        return false;
    }
    let Ok(pinned) = PinnedLink::from_pin(pin) else {
        return false;
    };
    let Ok(link) = FdLink::from(pinned).try_into() else {
        return false;
    };
    // The link's descriptor is closed at once: the pin keeps the link.
    classifier
        .attach_to_link(link)
        .is_ok_and(|id| fd_link(classifier, id).is_ok())
}

fn fd_link(
    classifier: &mut SchedClassifier,
    id: SchedClassifierLinkId,
) -> std::result::Result<FdLink, Box<dyn std::error::Error>> {
    Ok(classifier.take_link(id)?.try_into()?)
}

/// An error with its causes.
fn words(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}

fn remove(pin: &Path) -> io::Result<()> {
    match std::fs::remove_file(pin) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Removes the pin, and with it the link.
pub(super) fn detach(pin: &Path) -> Result<()> {
    remove(pin).map_err(|error| Error::PinLink {
        path: pin.to_owned(),
        error,
    })?;
    if let Some(parent) = pin.parent() {
        // Fails while the other program's pin is there, and that is right.
        let _ = std::fs::remove_dir(parent);
    }
    Ok(())
}

/// All pinned links.
pub(super) fn list(root: &Path) -> Result<Vec<(String, Program)>> {
    let directory = directory(root);
    let failed = |path: &Path| {
        let path = path.to_owned();
        move |error| Error::PinLink { path, error }
    };
    let devices = match std::fs::read_dir(&directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        result => result.map_err(failed(&directory))?,
    };
    let mut links = Vec::new();
    for entry in devices {
        let path = entry.map_err(failed(&directory))?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let device = name.replace(':', ".");
        for program in Program::ALL {
            if path.join(program.name()).exists() {
                links.push((device.clone(), *program));
            }
        }
    }
    links.sort();
    Ok(links)
}
