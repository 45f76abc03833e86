// SPDX-License-Identifier: Apache-2.0
//! Tasks of the repository that need more than a line of shell: `cargo xtask tidy|dist|image|other-layout|kubernetes-build|conformance-build|test|fuzz`.
#![forbid(unsafe_code)]

mod cache;
mod cargo;
mod dist;
mod fuzz;
mod image;
mod kubernetes;
mod levels;
mod other_layout;
mod sources;
mod tidy;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

const USAGE: &str = "\
usage: cargo xtask <task>
  tidy            check layers, file heads and sizes, and where unsafe code is
  dist            build the static binary and its links into target/dist
  image           pack what `dist` built into target/dist/isthmus-image.tar
  other-layout    build the product with other layouts of its maps, which tests need, into target/other-layout
  kubernetes-build
                  build what Kubernetes labs run into target/kubernetes
  conformance-build
                  build that, Kubernetes' own network tests and the image
  test [WHAT…]    run levels of the test ladder, or test programs by their names: levels 1 to 4 if nothing is named
  fuzz [TARGET…]  run fuzz targets for FUZZ_SECONDS each (60), all if none is named
";

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let result = match words.as_slice() {
        ["tidy"] => tidy::check(&root()),
        ["dist"] => dist::build(&root()),
        ["fuzz", targets @ ..] => fuzz::long(&root(), targets),
        ["image"] => image::build(&root()),
        ["other-layout"] => {
            other_layout::build(&root()).and_then(|()| other_layout::build_image(&root()))
        }
        ["kubernetes-build"] => {
            kubernetes::build(&root()).and_then(|()| kubernetes::build_helm(&root()))
        }
        ["conformance-build"] => {
            kubernetes::build_tests(&root()).and_then(|()| image::build(&root()))
        }
        ["test", what @ ..] => levels::run(&root(), what),
        _ => Err(USAGE.to_owned()),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("{message}");
            ExitCode::FAILURE
        }
    }
}

/// The workspace's directory.
fn root() -> PathBuf {
    let own = Path::new(env!("CARGO_MANIFEST_DIR"));
    own.ancestors()
        .nth(2)
        .expect("crates/xtask is two levels below the root")
        .to_path_buf()
}
