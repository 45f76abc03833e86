#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Installs what building, testing and the demo need and the machine lacks. Quiet when nothing is missing.
# With the argument `deny`: also cargo-deny, which takes minutes to build and only `make lint` needs.
set -eu
cd "$(dirname "$0")/.."

# bpf-linker links with rustc's own LLVM: its version and LLVM feature belong to the toolchain of
# rust-toolchain.toml.
linker_version=0.13.0
linker_llvm=llvm-22
deny_version=0.20.2

say() { echo "tools: $*" >&2; }

as_root() {
	if [ "$(id -u)" = 0 ]; then "$@"; else sudo "$@"; fi
}

debian_packages() {
	# libprotobuf-dev has the definitions that etcd-client's own include. iperf3 is for `make bench`, ping and nftables for labs: the product itself starts no program.
	missing=
	for package in build-essential curl etcd-client etcd-server iperf3 iproute2 iputils-ping libprotobuf-dev musl-tools nftables protobuf-compiler; do
		dpkg-query -W -f '${Status}' "$package" 2>/dev/null | grep -q 'ok installed' || missing="$missing $package"
	done
	[ -n "$missing" ] || return 0
	command -v apt-get >/dev/null || { say "install these first:$missing"; exit 1; }
	say "installing$missing"
	as_root apt-get -qq update
	# shellcheck disable=SC2086 # a list of names
	as_root env DEBIAN_FRONTEND=noninteractive apt-get -qq install --no-install-recommends $missing >/dev/null
	case "$missing" in *etcd-server*)
		# Debian starts a server on localhost at once; labs run their own.
		if [ -d /run/systemd/system ]; then as_root systemctl --quiet disable --now etcd; fi ;;
	esac
}

rust() {
	command -v rustup >/dev/null || { say 'install Rust with rustup first: https://rustup.rs'; exit 1; }
	# Installs toolchain, components and targets of rust-toolchain.toml.
	if ! rustup target list --installed 2>/dev/null | grep -q x86_64-unknown-linux-musl ||
		! rustup component list --installed 2>/dev/null | grep -q rust-src; then
		say 'installing the Rust toolchain of rust-toolchain.toml'
		rustup toolchain install --no-self-update
	fi
}

bpf_linker() {
	if .tools/bin/bpf-linker --version 2>/dev/null | grep -qx "bpf-linker $linker_version"; then return 0; fi
	sysroot=$(rustc --print sysroot)
	llvm=$(find "$sysroot/lib" -name 'libLLVM.so.*-rust-*' | head -n 1)
	[ -n "$llvm" ] || { say "no libLLVM in $sysroot/lib: is this a toolchain from rustup?"; exit 1; }
	say "building bpf-linker $linker_version (about two minutes)"
	RUSTFLAGS="-C link-arg=$llvm -C link-arg=-Wl,-rpath,$sysroot/lib" \
		cargo install --quiet bpf-linker --version "$linker_version" --locked --no-default-features \
		--features "$linker_llvm,no-llvm-linking" --root .tools --target-dir target/tools
}

deny() {
	if .tools/bin/cargo-deny --version 2>/dev/null | grep -qx "cargo-deny $deny_version"; then return 0; fi
	say "building cargo-deny $deny_version (some minutes)"
	cargo install --quiet cargo-deny --version "$deny_version" --locked --root .tools --target-dir target/tools
}

case "${1:-}" in
'')
	debian_packages
	rust
	bpf_linker
	;;
deny) deny ;;
*) say "unknown argument $1"; exit 2 ;;
esac
