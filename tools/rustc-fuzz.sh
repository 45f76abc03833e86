#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# rustc for `cargo xtask fuzz` (RUSTC_WORKSPACE_WRAPPER): our own crates get the counters that libFuzzer reads;
# libraries, build scripts and the programs for the kernel are compiled as always.
set -eu
rustc=$1
shift
case " $* " in
*' --crate-name build_script_'* | *' --crate-type proc-macro '* | *' bpfel-unknown-none '* | *' --print'*)
	exec "$rustc" "$@"
	;;
esac
exec "$rustc" "$@" -Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
	-Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
	-Cllvm-args=-sanitizer-coverage-trace-compares
