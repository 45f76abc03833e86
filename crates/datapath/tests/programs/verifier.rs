// SPDX-License-Identifier: Apache-2.0
//! Loads a program with the verifier's statistics switched on: aya keeps the log of failures only.

use std::collections::HashSet;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd, RawFd};

use aya::Ebpf;
use aya::maps::{Map, MapData};
use aya_obj::Object;
use aya_obj::generated::bpf_insn;

const BPF_PROG_LOAD: libc::c_long = 5;
const SCHED_CLS: u32 = 3;
const LOG_STATS: u32 = 4;

/// Beginning of the kernel's `union bpf_attr` for `BPF_PROG_LOAD`.
#[repr(C)]
struct Load {
    kind: u32,
    count: u32,
    instructions: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log: u64,
    version: u32,
    flags: u32,
}

/// Stack bytes of each function of a program, the entry first.
pub(crate) fn stacks(bpf: &Ebpf, name: &str) -> Vec<u32> {
    let log = log(&instructions(bpf, name));
    let line = log
        .lines()
        .find_map(|line| line.strip_prefix("stack depth "));
    let line = line.unwrap_or_else(|| panic!("{name}: no stack depth in {log}"));
    let depth = |text: &str| text.trim().parse().expect("a number");
    line.split('+').map(depth).collect()
}

fn instructions(bpf: &Ebpf, name: &str) -> Vec<bpf_insn> {
    let mut object = Object::parse(datapath::object::OBJECT).expect("the object parses");
    let sections: HashSet<usize> = object
        .functions
        .keys()
        .map(|(section, _)| *section)
        .collect();
    let maps: Vec<_> = object
        .maps
        .iter()
        .map(|(name, map)| (name.clone(), map.clone()))
        .collect();
    let with_fds = maps
        .iter()
        .map(|(name, map)| (name.as_str(), fd(bpf, name), map));
    object
        .relocate_maps(with_fds, &sections)
        .expect("maps relocate");
    object.relocate_calls(&sections).expect("calls relocate");
    let key = object.programs[name].function_key();
    object.functions[&key].instructions.clone()
}

fn fd(bpf: &Ebpf, name: &str) -> RawFd {
    let data: &MapData = match bpf.map(name).expect("loaded") {
        Map::Array(map)
        | Map::HashMap(map)
        | Map::LpmTrie(map)
        | Map::LruHashMap(map)
        | Map::PerCpuArray(map)
        | Map::RingBuf(map) => map,
        other => panic!("{name} is {other:?}"),
    };
    data.fd().as_fd().as_raw_fd()
}

fn log(instructions: &[bpf_insn]) -> String {
    let mut log = vec![0u8; 1 << 16];
    let attr = Load {
        kind: SCHED_CLS,
        count: instructions.len() as u32,
        instructions: instructions.as_ptr() as u64,
        license: c"Dual MIT/GPL".as_ptr() as u64,
        log_level: LOG_STATS,
        log_size: log.len() as u32,
        log: log.as_mut_ptr() as u64,
        version: 0,
        flags: 0,
    };
    // SAFETY: the kernel reads as many bytes as it is told, and all pointers are valid for their lengths.
    let fd = unsafe { libc::syscall(libc::SYS_bpf, BPF_PROG_LOAD, &attr, size_of::<Load>()) };
    let end = log.iter().position(|byte| *byte == 0).unwrap_or(log.len());
    let text = String::from_utf8_lossy(&log[..end]).into_owned();
    assert!(fd >= 0, "{}: {text}", std::io::Error::last_os_error());
    // SAFETY: the kernel has just given us this descriptor, and nobody else has it.
    drop(unsafe { OwnedFd::from_raw_fd(fd as RawFd) });
    text
}
