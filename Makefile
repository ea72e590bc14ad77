# Every daily command. `make` alone lists them.

# Programs of the system live where a user's PATH may not look.
export PATH := $(PATH):/usr/sbin:/sbin
ARGS ?=
NODES ?= 2
DATA_DIR ?= /var/lib/berth

.DEFAULT_GOAL := help
.PHONY: help run build test lint deny advisories bench generate clean-lab root cargo cargo-deny

help: ## This list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)
	@echo
	@echo "  make run ARGS=--exit-when-ready     proves that it works, and ends"
	@echo "  make run NODES=3 DATA_DIR=/srv/lab  other numbers and places; ARGS takes the rest of berth up --help"

# Said before anything else: a plain user who first installs Rust has it for nothing.
root:
	@[ "$$(id -u)" = 0 ] || { echo "make $(firstword $(MAKECMDGOALS)) needs root (network namespaces, libvirt): run it with sudo, or as root" >&2; exit 1; }

cargo:
	@command -v cargo >/dev/null || { echo "Rust is missing for user $$(id -un): install rustup from https://rustup.rs; it then follows rust-toolchain.toml." >&2; echo "Is it there for another user? Then: sudo env \"PATH=\$$PATH\" RUSTUP_HOME=~/.rustup make $(firstword $(MAKECMDGOALS))" >&2; exit 1; }

cargo-deny: cargo
	@cargo deny --version >/dev/null 2>&1 || { echo "cargo-deny is missing: cargo install --locked cargo-deny" >&2; exit 1; }

run: root cargo ## Install what is missing, build, run the whole system on this host (as root)
	berth/host/install.sh
	cargo build --release --package berth
	target/release/berth up --nodes $(NODES) --data-dir $(DATA_DIR) $(ARGS)

build: cargo ## Build everything, optimised
	berth/host/install.sh
	cargo build --workspace --release

test: root cargo ## Install what tests need, then formatting, lints and every test (as root)
	tests/run.sh

lint: cargo ## Formatting, clippy and documentation, all without warnings
	cargo fmt --all --check
	cargo clippy --workspace --all-targets -- -D warnings
	RUSTDOCFLAGS='-D warnings' cargo doc --workspace --no-deps

deny: cargo-deny ## Licences, duplicates and sources of dependencies (needs cargo-deny)
	cargo deny --offline check licenses bans sources

advisories: cargo-deny ## Known vulnerabilities of dependencies (needs cargo-deny and github.com)
	cargo deny check advisories

bench: root cargo ## Measure: figures on stdout (as root)
	berth/host/install.sh bench
	cargo build --workspace --release
	cargo bench --package benches

generate: cargo ## Write manifests/crds from the types
	cargo run --package crds --bin crdgen -- manifests/crds

clean-lab: root ## Remove what a killed `berth up` left (as root); data stay
	@for berth in target/release/berth target/debug/berth; do \
	    if [ -x $$berth ]; then exec $$berth clean --data-dir $(DATA_DIR); fi; \
	done; \
	$(MAKE) --no-print-directory cargo && cargo build --package berth && \
	exec target/debug/berth clean --data-dir $(DATA_DIR)
