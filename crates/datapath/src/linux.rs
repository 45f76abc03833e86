// SPDX-License-Identifier: Apache-2.0
//! The real kernel: maps created or adopted by their pins, programs loaded from the object, links pinned.
//!
//! ```text
//! <bpf_root>/isthmus/v<abi::VERSION>/layout          what the maps of this layout look like
//! <bpf_root>/isthmus/v<abi::VERSION>/maps/<map>      maps of this layout
//! <bpf_root>/isthmus/v<abi::VERSION>/next/<map>      maps that are about to take their place with another limit
//! <bpf_root>/isthmus/links/<device>/<program>        links of the VXLAN device, of any version: replaced in place
//! ```

mod carry;
mod links;
mod pins;
mod resize;
mod shared;
mod sys;
mod transfer;

use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use abi::Counter;
use aya::programs::{ProgramError, SchedClassifier};
use aya::{Ebpf, EbpfLoader};
use zerocopy::FromBytes;

use crate::devices::POD_DEVICE_PREFIX;
use crate::kernel::{Attached, Cursor, Kernel, Put, Scan, Typed, hex};
use crate::{Error, EventReader, KeptLimit, Map, Program, Result, Settings, Shape, table};
pub use links::missing_filters;
use resize::Resize;
use shared::Shared;

/// How often a program is loaded that a signal interrupts.
const LOAD_ATTEMPTS: u32 = 10;

/// One map.
#[derive(Debug)]
struct Handle {
    fd: OwnedFd,
    limit: u32,
    shared: Option<Shared>,
    pin: PathBuf,
}

/// The kernel that this process runs on.
#[derive(Debug)]
pub struct Linux {
    root: PathBuf,
    maps: Vec<Handle>,
    ebpf: Ebpf,
    cpus: usize,
    kept: Vec<KeptLimit>,
}

impl Linux {
    /// Creates or adopts the maps, and loads the programs. Programs that are attached go on as they are until
    /// [`Kernel::attach`] replaces them; only if a map gets another limit, or if they are of another layout, they are
    /// replaced here. To be called in the network namespace of the devices.
    pub fn open(settings: &Settings) -> Result<Linux> {
        pins::check_root(&settings.bpf_root)?;
        let root = settings.bpf_root.join("isthmus");
        if let Some(former) = carry::former(&root)? {
            carry::carry(&root, settings, &former)?;
        }
        let mut kept = Vec::new();
        loop {
            let opened = pins::open_maps(&root, settings, &mut kept)?;
            let mut linux = Linux::with(&root, opened.handles)?;
            let resized: Vec<Map> = opened.resizes.iter().map(Resize::map).collect();
            let limits_differ = resized
                .iter()
                .any(|map| linux.limit(*map) != map.limit(settings));
            if linux.resize(opened.resizes, settings, &mut kept)? && !limits_differ {
                carry::mark(&root)?;
                linux.kept = kept;
                return Ok(linux);
            }
        }
    }

    /// Loads the programs over these maps.
    fn with(root: &Path, maps: Vec<Handle>) -> Result<Linux> {
        let ebpf = load(&maps)?;
        let cpus = aya::util::nr_cpus().map_err(|(path, error)| Error::PinDirectory {
            path: path.into(),
            error,
        })?;
        Ok(Linux {
            root: root.to_owned(),
            maps,
            ebpf,
            cpus,
            kept: Vec::new(),
        })
    }

    /// Brings maps to their new limits. `false` if one of them has to keep its own, which is in `kept` then: everything
    /// is as before.
    fn resize(
        &mut self,
        mut resizes: Vec<Resize>,
        settings: &Settings,
        kept: &mut Vec<KeptLimit>,
    ) -> Result<bool> {
        if resizes.is_empty() {
            return Ok(true);
        }
        for resize in &mut resizes {
            let map = resize.map();
            match resize.transfer().copy(&self.handle(map).fd) {
                Ok(()) => {}
                Err(Error::MapFull { .. }) => {
                    kept.push(KeptLimit {
                        map,
                        wanted: map.limit(settings),
                        limit: resize.old_limit()?,
                        reason: "another map does not take what is in use: too many entries, or no memory".into(),
                    });
                    for resize in resizes {
                        resize.give_up()?;
                    }
                    return Ok(false);
                }
                Err(error) => return Err(error),
            }
        }
        self.replace_programs()?;
        for mut resize in resizes {
            let map = resize.map();
            resize.transfer().catch_up(&self.handle(map).fd)?;
            self.maps[map as usize].pin = resize.finish()?;
        }
        Ok(true)
    }

    /// Has this version's programs, over these maps, run wherever programs of ours do; returns once no others run.
    fn replace_programs(&mut self) -> Result<()> {
        for (device, program) in self.attached()? {
            // A device that is gone has no packets. What cannot be replaced is met again, and told, by whoever
            // attaches the device's programs.
            if let Ok(ifindex) = nix::net::if_::if_nametoindex(device.as_str()) {
                let classifier = classifier(&mut self.ebpf, program.name())?;
                let _ = links::replace(classifier, &self.root, &device, ifindex, program);
            }
        }
        sys::barrier();
        Ok(())
    }

    /// Where programs may run: the pinned links, and the filters of the endpoints' devices. An index that was given to
    /// another kind of device since is no endpoint's.
    fn attached(&self) -> Result<Vec<(String, Program)>> {
        let mut attached = self.links()?;
        self.each::<table::Devices>(&mut |ifindex, _| {
            if let Ok(name) = nix::net::if_::if_indextoname(ifindex) {
                let device = name.to_string_lossy();
                if !device.starts_with(POD_DEVICE_PREFIX) {
                    return;
                }
                attached.push((device.to_string(), Program::FromPod));
                attached.push((device.to_string(), Program::ToPod));
            }
        })?;
        Ok(attached)
    }

    /// The reader of drop events. There should be one at a time: it consumes what it reads.
    pub fn events(&self) -> Result<EventReader> {
        EventReader::from_pin(&pins::maps_directory(&self.root).join(Map::Events.name()))
    }

    /// Removes the maps of other versions. Call it when every link runs this version's programs.
    pub fn remove_old_versions(&self) -> Result<Vec<String>> {
        pins::remove_old_versions(&self.root)
    }

    fn handle(&self, map: Map) -> &Handle {
        &self.maps[map as usize]
    }

    fn shared(&self, map: Map, key: &[u8]) -> Result<(&Shared, u32)> {
        let index = u32::read_from_bytes(key).ok();
        let shared = self.handle(map).shared.as_ref();
        shared
            .zip(index)
            .filter(|(shared, index)| *index < shared.entries())
            .ok_or_else(|| Error::Invalid {
                map,
                what: format!("{} is no index of this array", hex(key)),
            })
    }

    fn write_error(&self, map: Map, key: &[u8], error: std::io::Error) -> Error {
        match error.raw_os_error() {
            Some(libc::E2BIG | libc::ENOSPC) => Error::MapFull {
                map,
                max: self.handle(map).limit,
            },
            _ => Error::Write {
                map,
                key: hex(key),
                error,
            },
        }
    }
}

fn load(maps: &[Handle]) -> Result<Ebpf> {
    let mut loader = EbpfLoader::new();
    for (map, handle) in Map::ALL.iter().zip(maps) {
        loader.map_pin_path(map.name(), &handle.pin);
    }
    let mut ebpf = loader
        .load(crate::object::OBJECT)
        .map_err(|error| Error::LoadObject(Box::new(error)))?;
    for program in Program::ALL {
        let name = program.name();
        verify(classifier(&mut ebpf, name)?).map_err(|error| Error::LoadProgram {
            program: name,
            error: Box::new(error),
        })?;
    }
    Ok(ebpf)
}

/// Loads a program. The verifier gives up when a signal comes, if only to stop this process for a while: that is tried again.
fn verify(program: &mut SchedClassifier) -> std::result::Result<(), ProgramError> {
    for _ in 1..LOAD_ATTEMPTS {
        match program.load() {
            Err(ProgramError::LoadError { io_error, .. })
                if io_error.raw_os_error() == Some(libc::EAGAIN) => {}
            result => return result,
        }
    }
    program.load()
}

fn classifier<'a>(ebpf: &'a mut Ebpf, name: &'static str) -> Result<&'a mut SchedClassifier> {
    let program = ebpf.program_mut(name).ok_or(Error::NoProgram(name))?;
    program.try_into().map_err(|_| Error::NoProgram(name))
}

/// The slices handed to bpf(2) must have the sizes that the map has.
fn check(map: Map, key: &[u8], value: Option<&[u8]>) -> Result<()> {
    let value_size = value.map_or(map.value_size(), <[u8]>::len);
    if key.len() == map.key_size() && value_size == map.value_size() {
        return Ok(());
    }
    Err(Error::Invalid {
        map,
        what: format!(
            "a key of {} and a value of {value_size} bytes, {} and {} are right",
            key.len(),
            map.key_size(),
            map.value_size()
        ),
    })
}

impl Kernel for Linux {
    fn get(&self, map: Map, key: &[u8]) -> Result<Option<Vec<u8>>> {
        check(map, key, None)?;
        if map.shape() == Shape::Array {
            let (shared, index) = self.shared(map, key)?;
            return Ok(shared.get(index));
        }
        let mut value = vec![0; map.value_size()];
        let found =
            sys::lookup(&self.handle(map).fd, key, &mut value).map_err(|error| Error::Read {
                map,
                key: hex(key),
                error,
            })?;
        Ok(found.then_some(value))
    }

    fn put(&mut self, map: Map, key: &[u8], value: &[u8], mode: Put) -> Result<bool> {
        check(map, key, Some(value))?;
        if map.shape() == Shape::Array {
            let (shared, index) = self.shared(map, key)?;
            return Ok(shared.put(index, value).is_some());
        }
        let flags = match mode {
            Put::Any => sys::ANY,
            Put::New => sys::NOEXIST,
        };
        sys::update(&self.handle(map).fd, key, value, flags)
            .map_err(|error| self.write_error(map, key, error))
    }

    fn delete(&mut self, map: Map, key: &[u8]) -> Result<bool> {
        check(map, key, None)?;
        sys::delete(&self.handle(map).fd, key).map_err(|error| Error::Delete {
            map,
            key: hex(key),
            error,
        })
    }

    fn take(&mut self, map: Map, key: &[u8]) -> Result<Option<Vec<u8>>> {
        check(map, key, None)?;
        let mut value = vec![0; map.value_size()];
        let found =
            sys::take(&self.handle(map).fd, key, &mut value).map_err(|error| Error::Delete {
                map,
                key: hex(key),
                error,
            })?;
        Ok(found.then_some(value))
    }

    fn scan(
        &self,
        map: Map,
        cursor: &mut Cursor,
        limit: u32,
        visit: &mut dyn FnMut(&[u8], &[u8]),
    ) -> Result<Scan> {
        if let Some(shared) = &self.handle(map).shared {
            for index in 0..shared.entries() {
                if let Some(value) = shared.get(index) {
                    visit(&index.to_ne_bytes(), &value);
                }
            }
            return Ok(Scan::Done);
        }
        let sizes = (map.key_size(), map.value_size());
        pins::scan(&self.handle(map).fd, map, sizes, cursor, limit, visit)
    }

    fn add(&mut self, map: Map, index: u32, delta: i32) -> Result<u32> {
        let key = index.to_ne_bytes();
        let (shared, index) = self.shared(map, &key)?;
        Ok(shared.add(index, delta).expect("index was checked"))
    }

    fn counters(&self) -> Result<Vec<Counter>> {
        let handle = self.handle(Map::Metrics);
        let mut values = vec![0; size_of::<Counter>() * self.cpus];
        let mut sums = Vec::with_capacity(handle.limit as usize);
        for index in 0..handle.limit {
            let key = index.to_ne_bytes();
            sys::lookup(&handle.fd, &key, &mut values).map_err(|error| Error::Read {
                map: Map::Metrics,
                key: hex(&key),
                error,
            })?;
            let mut sum = Counter::default();
            for bytes in values.chunks_exact(size_of::<Counter>()) {
                let one =
                    Counter::read_from_bytes(bytes).expect("chunks have the size of a counter");
                sum.packets = sum.packets.wrapping_add(one.packets);
                sum.bytes = sum.bytes.wrapping_add(one.bytes);
            }
            sums.push(sum);
        }
        Ok(sums)
    }

    fn limit(&self, map: Map) -> u32 {
        self.handle(map).limit
    }

    fn kept_limits(&self) -> &[KeptLimit] {
        &self.kept
    }

    fn barrier(&self) {
        sys::barrier();
    }

    fn attach(&mut self, device: &str, ifindex: u32, program: Program) -> Result<Attached> {
        let classifier = classifier(&mut self.ebpf, program.name())?;
        links::attach(classifier, &self.root, device, ifindex, program)
    }

    fn detach(&mut self, device: &str, program: Program) -> Result<()> {
        links::detach(&links::path(&self.root, device, program))
    }

    fn links(&self) -> Result<Vec<(String, Program)>> {
        links::list(&self.root)
    }
}
