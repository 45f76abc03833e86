#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# What deny.toml accepts of the dependencies of the workspace and of the programs for the kernel. Known vulnerabilities are
# looked for if their database can be had; if not, it is said, because then nobody has looked.
set -eu
cd "$(dirname "$0")/.."

for manifest in Cargo.toml crates/ebpf/Cargo.toml; do
	cargo deny --log-level error --manifest-path "$manifest" --config deny.toml check licenses bans sources
done
if said=$(cargo deny --log-level error fetch db 2>&1); then
	cargo deny --log-level error check --disable-fetch advisories
else
	echo "lint: advisories NOT CHECKED, their database cannot be fetched: $(echo "$said" | tail -n 1)" >&2
fi
