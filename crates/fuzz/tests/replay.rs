// SPDX-License-Identifier: Apache-2.0
//! Every seed through its target: where fuzzing begins, and what it once found.

#[test]
fn every_seed_passes() {
    for target in fuzz::TARGETS {
        let seeds = fuzz::seeds(&target).unwrap_or_else(|error| panic!("{error}"));
        assert!(!seeds.is_empty(), "{} has no seeds", target.name);
        for (name, bytes) in seeds {
            println!("{}/{name}", target.name);
            (target.run)(&bytes);
        }
    }
}
