// SPDX-License-Identifier: Apache-2.0
//! Which test program belongs to which level of the ladder.

/// A level of the ladder.
pub(super) struct Level {
    pub(super) number: u8,
    pub(super) name: &'static str,
    pub(super) needs_root: bool,
    /// For libtest.
    pub(super) arguments: &'static [&'static str],
    /// How many of its programs run at a time.
    pub(super) lanes: usize,
}

/// From the least to the most powerful.
pub(super) const LEVELS: [Level; 5] = [
    Level {
        number: 1,
        name: "pure",
        needs_root: false,
        arguments: &[],
        lanes: 2,
    },
    Level {
        number: 2,
        name: "simulation",
        needs_root: false,
        arguments: &[],
        lanes: 2,
    },
    Level {
        number: 3,
        name: "kernel",
        needs_root: true,
        // The programs' figures are output of tests that pass.
        arguments: &["--show-output"],
        lanes: 2,
    },
    // Labs mostly wait, and two fit a small machine; but those of one program share what it made.
    Level {
        number: 4,
        name: "mesh",
        needs_root: true,
        arguments: &["--test-threads=1"],
        lanes: 2,
    },
    Level {
        number: 5,
        name: "kubernetes",
        needs_root: true,
        // What was measured is output of tests that pass. A cluster takes all that a small machine has.
        arguments: &["--test-threads=1", "--show-output"],
        lanes: 1,
    },
];

/// Programs beside which nothing else runs: one takes all of a processor, the other counts losses while kernels verify programs.
const ALONE: [(&str, &str); 2] = [("testbed", "mesh_layouts"), ("testbed", "packets_flood")];

/// (package, target, level); `lib` and `bin` are unit tests. What is not listed is pure.
const PLACES: [(&str, &str, u8); 28] = [
    ("clustermesh", "*", 2),
    ("kvstore", "auth", 4),
    ("kvstore", "etcd", 4),
    ("kvstore", "members", 4),
    ("kvstore", "silence", 4),
    ("kvstore", "tls", 4),
    ("kvstore", "*", 2),
    ("kubernetes", "api", 2),
    ("kubernetes", "client", 2),
    ("kubernetes", "events", 2),
    ("kubernetes", "leader", 2),
    ("kubernetes", "own_node", 2),
    ("kubernetes", "pool", 2),
    ("kubernetes", "prune", 2),
    ("agent", "*", 3),
    ("cni", "*", 3),
    ("datapath", "*", 3),
    ("netlink", "*", 3),
    ("testbed", "kubernetes", 5),
    ("testbed", "kubernetes_change", 5),
    ("testbed", "kubernetes_chart", 5),
    ("testbed", "kubernetes_events", 5),
    ("testbed", "kubernetes_measures", 5),
    ("testbed", "kubernetes_node", 5),
    ("testbed", "kubernetes_objects", 5),
    ("testbed", "kubernetes_operator", 5),
    ("testbed", "kubernetes_page", 5),
    ("testbed", "*", 4),
];

/// Whether nothing else may run beside a test program.
pub(super) fn runs_alone(package: &str, target: &str) -> bool {
    ALONE.contains(&(package, target))
}

/// The level of a test program.
pub(super) fn level_of(package: &str, target: &str) -> u8 {
    if matches!(target, "lib" | "bin") {
        return 1;
    }
    let place = PLACES
        .iter()
        .find(|(own, name, _)| *own == package && (*name == target || *name == "*"));
    place.map_or(1, |(_, _, level)| *level)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_more_special_place_wins() {
        assert_eq!(level_of("kvstore", "etcd"), 4);
        assert_eq!(level_of("kvstore", "memory"), 2);
        assert_eq!(level_of("kvstore", "lib"), 1);
        assert_eq!(level_of("policy", "property"), 1);
    }
}
