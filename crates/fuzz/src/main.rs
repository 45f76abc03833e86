// SPDX-License-Identifier: Apache-2.0
//! libFuzzer around the target that `FUZZ_TARGET` names; started by `cargo xtask fuzz`. Before libFuzzer reads its corpus,
//! the target's seeds are put there, into the directory that `FUZZ_CORPUS` names.
#![no_main]

use std::path::Path;
use std::sync::OnceLock;

use fuzz::Target;

static TARGET: OnceLock<Target> = OnceLock::new();

fn named() -> Target {
    let name = std::env::var("FUZZ_TARGET").unwrap_or_default();
    fuzz::target(&name).unwrap_or_else(|| {
        let names: Vec<_> = fuzz::TARGETS.iter().map(|target| target.name).collect();
        panic!("FUZZ_TARGET={name:?}: expected one of {}", names.join(", "))
    })
}

fn begin() {
    let target = TARGET.get_or_init(named);
    if let Some(corpus) = std::env::var_os("FUZZ_CORPUS") {
        fuzz::plant(target, Path::new(&corpus)).unwrap_or_else(|error| panic!("{error}"));
    }
}

libfuzzer_sys::fuzz_target!(init: begin(), |data: &[u8]| {
    (TARGET.get_or_init(named).run)(data);
});
