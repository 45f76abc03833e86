# SPDX-License-Identifier: Apache-2.0
# Everything starts here: `make help`.

SUDO := $(shell [ "$$(id -u)" = 0 ] || echo sudo --preserve-env=KEEP,ISTHMUS_BIN)
MUSL := x86_64-unknown-linux-musl
BIN  := $(or $(CARGO_TARGET_DIR),target)/$(MUSL)/release
LAB  := $(BIN)/lab
KEEP ?= 0

.DEFAULT_GOAL := help
.PHONY: help tools build image test test-kubernetes test-conformance fuzz demo demo-down bench lint fmt clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-16s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

tools: ## install what is missing: Debian packages, Rust components, the eBPF linker
	@tools/install.sh

build: tools ## build the static binary and its links into target/dist
	@cargo xtask dist

image: build ## pack the binary as a container image: target/dist/isthmus-image.tar (OCI and Docker archive)
	@cargo xtask image

test: tools ## run levels 1 to 4 of the test ladder, or WHAT='2 node_repair'; the last line is `N passed, N failed`
	@$(if $(filter 5 kubernetes%,$(WHAT)),tools/install.sh kubernetes)
	@cargo xtask test $(WHAT)

test-kubernetes: ## run level 5 against real Kubernetes clusters; needs Go, the first build takes minutes
	@$(MAKE) --no-print-directory test WHAT=5

test-conformance: tools ## run Kubernetes' own network tests against a cluster: ONLY=regex for some, PROXY=iptables
	@tools/install.sh kubernetes
	@cargo xtask conformance-build
	@$(SUDO) $(LAB) kubernetes conformance $(if $(ONLY),--only '$(ONLY)') $(if $(PROXY),--proxy $(PROXY))

fuzz: tools ## look for inputs that break it: FUZZ_SECONDS per target (60), TARGET=name for one
	@cargo xtask fuzz $(TARGET)

demo: build ## two clusters, real etcds, pods, policy and faults; KEEP=1 leaves it running
	@$(SUDO) env KEEP=$(KEEP) $(LAB) demo --manifests demo

demo-down: ## remove what the demo left, also after a crash
	@if [ -x $(LAB) ]; then $(SUDO) $(LAB) down; else echo 'nothing was built, so nothing runs'; fi

bench: build ## measure against kernel baselines of the same run; JSON in target/bench/latest.json
	@cargo build --release --target $(MUSL) -p isthmus -p testbed -p bench
	@$(SUDO) $(BIN)/bench --json target/bench/latest.json

lint: tools ## formatting, clippy, tidy, licences, sources and advisories of dependencies
	@cargo fmt --all --check
	@cargo fmt --manifest-path crates/ebpf/Cargo.toml --check
	@cargo clippy --workspace --all-targets -- -D warnings
	@cargo xtask tidy
	@tools/install.sh deny
	@PATH="$(CURDIR)/.tools/bin:$$PATH" tools/deny.sh

fmt: ## format all Rust files
	@cargo fmt --all
	@cargo fmt --manifest-path crates/ebpf/Cargo.toml

clean: demo-down ## remove everything that was built
	@cargo clean
	@rm -rf crates/ebpf/target
