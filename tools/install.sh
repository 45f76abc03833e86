#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Installs what building, testing and the demo need and the machine lacks. Quiet when nothing is missing.
# With the argument `deny`: cargo-deny, which takes minutes to build and only `make lint` needs.
# With the argument `kubernetes`: what the nodes of Kubernetes labs run; only `make test-kubernetes` and
# `make test-conformance` need it.
set -eu
cd "$(dirname "$0")/.."

# bpf-linker links with rustc's own LLVM: its version and LLVM feature belong to the toolchain of
# rust-toolchain.toml.
linker_version=0.13.0
linker_llvm=llvm-22
deny_version=0.20.2
toolchain=$(sed -n 's/^channel = "\(.*\)"/\1/p' rust-toolchain.toml)

say() { echo "tools: $*" >&2; }

as_root() {
	if [ "$(id -u)" = 0 ]; then
		"$@"
	elif command -v sudo >/dev/null; then
		sudo "$@"
	else
		say "needs root for: $*; install sudo, or run \`make tools\` once as root"
		exit 1
	fi
}

# apt-get that waits for another one, such as the machine's own updates, for up to ten minutes.
apt() {
	as_root env DEBIAN_FRONTEND=noninteractive apt-get -qq -o DPkg::Lock::Timeout=600 "$@"
}

# Building: a C and C++ compiler (ring, libFuzzer), musl's, and protoc with the definitions that etcd's include.
# Labs: etcd, ip and nft, ping, curl, and ps. Measuring: iperf3. The product itself starts no program.
packages='build-essential ca-certificates curl etcd-client etcd-server git iperf3 iproute2 iputils-ping
	libprotobuf-dev musl-tools nftables procps protobuf-compiler'

# Kubernetes labs: conntrack, ipset and iptables are for kube-proxy, the plugins for containerd and the hostPorts of pods,
# dig, nc and wget for the pods of Kubernetes' own tests.
kubernetes_packages='bind9-dnsutils conntrack containerd containernetworking-plugins ipset iptables netcat-openbsd
	nftables runc wget'

# Installs those packages of its arguments that are missing.
debian_packages() {
	missing=
	for package in "$@"; do
		dpkg-query -W -f '${Status}' "$package" 2>/dev/null | grep -q 'ok installed' || missing="$missing $package"
	done
	[ -n "$missing" ] || return 0
	command -v apt-get >/dev/null || { say "install these first:$missing"; exit 1; }
	say "installing$missing"
	# Another package manager may hold the lists, which apt-get does not wait for.
	tries=0
	until apt update; do
		tries=$((tries + 1))
		[ "$tries" -lt 12 ] || { say 'cannot update the package lists, see above'; exit 1; }
		sleep 10
	done
	# shellcheck disable=SC2086 # a list of names
	apt install --no-install-recommends $missing >/dev/null
	# Debian starts servers at once; labs run their own.
	if [ -d /run/systemd/system ]; then
		case "$missing " in *' etcd-server '*) as_root systemctl --quiet disable --now etcd ;; esac
		case "$missing " in *' containerd '*) as_root systemctl --quiet disable --now containerd ;; esac
	fi
}

kubernetes() {
	# shellcheck disable=SC2086 # a list of names
	debian_packages $kubernetes_packages
	go=$(go env GOVERSION 2>/dev/null | sed 's/^go//')
	case "${go:-0}" in
	0 | 0.* | 1.[0-9] | 1.[0-9].* | 1.1[0-9]* | 1.2[0-4]*)
		say "Kubernetes is built from its modules: install Go 1.25 or newer first (there is ${go:-none}): https://go.dev/dl"
		exit 1 ;;
	esac
}

rust() {
	if ! command -v rustup >/dev/null && [ -x "${CARGO_HOME:-$HOME/.cargo}/bin/rustup" ]; then
		say "rustup is in ${CARGO_HOME:-$HOME/.cargo}/bin, which is not in PATH: run \`. ${CARGO_HOME:-$HOME/.cargo}/env\`"
		exit 1
	fi
	command -v rustup >/dev/null || { say 'install Rust with rustup first: https://rustup.rs'; exit 1; }
	# rustc of the toolchain that rust-toolchain.toml names is there only if that toolchain is.
	root=$(rustup run "$toolchain" rustc --print sysroot 2>/dev/null) || root=/nonexistent
	if ! [ -x "$root/bin/cargo" ] || ! [ -x "$root/bin/cargo-clippy" ] || ! [ -x "$root/bin/rustfmt" ] ||
		! [ -d "$root/lib/rustlib/x86_64-unknown-linux-musl/lib" ] || ! [ -d "$root/lib/rustlib/src/rust/library/core" ]; then
		say 'installing the Rust toolchain of rust-toolchain.toml'
		# Without a name rustup reads the file, with components and targets; rustup before 1.28 wants a name.
		rustup toolchain install --no-self-update 2>/dev/null ||
			rustup toolchain install "$toolchain" --no-self-update --profile minimal \
				--component rustfmt,clippy,rust-src --target x86_64-unknown-linux-musl
	fi
}

bpf_linker() {
	if .tools/bin/bpf-linker --version 2>/dev/null | grep -qx "bpf-linker $linker_version"; then return 0; fi
	sysroot=$(rustc --print sysroot)
	llvm=$(find "$sysroot/lib" -name 'libLLVM.so.*-rust-*' | head -n 1)
	[ -n "$llvm" ] || { say "no libLLVM in $sysroot/lib: is this a toolchain from rustup?"; exit 1; }
	# Kept for all working copies of a user; it finds this LLVM by its path.
	kept=${XDG_CACHE_HOME:-$HOME/.cache}/isthmus/bpf-linker-$linker_version-$(printf %s "$llvm" | sha256sum | cut -c 1-16)
	if [ -x "$kept" ]; then
		mkdir -p .tools/bin
		cp "$kept" .tools/bin/bpf-linker
		return 0
	fi
	say "building bpf-linker $linker_version (about two minutes)"
	RUSTFLAGS="-C link-arg=$llvm -C link-arg=-Wl,-rpath,$sysroot/lib" \
		cargo install --quiet bpf-linker --version "$linker_version" --locked --no-default-features \
		--features "$linker_llvm,no-llvm-linking" --root .tools --target-dir target/tools
	mkdir -p "${kept%/*}" && cp .tools/bin/bpf-linker "$kept.new" && mv "$kept.new" "$kept" ||
		say "bpf-linker is not kept for other working copies"
}

deny() {
	if .tools/bin/cargo-deny --version 2>/dev/null | grep -qx "cargo-deny $deny_version"; then return 0; fi
	say "building cargo-deny $deny_version (some minutes)"
	cargo install --quiet cargo-deny --version "$deny_version" --locked --root .tools --target-dir target/tools
}

case "${1:-}" in
'')
	# shellcheck disable=SC2086 # a list of names
	debian_packages $packages
	rust
	bpf_linker
	;;
deny) deny ;;
kubernetes) kubernetes ;;
*) say "unknown argument $1"; exit 2 ;;
esac
