#!/bin/bash
# Everything that `make test` does, step by step, each with its duration.
#
# The whole output of each step is in target/test-logs/<n>-<step>.log; the last
# line of this script says whether all is well. A step that fails ends the run,
# except that formatting and lints are collected: they say something about the
# code, and the tests say something else.
set -u -o pipefail

cd "$(dirname "$0")/.."
logs=$PWD/target/test-logs
rm -rf "$logs"
mkdir -p "$logs"
export PATH=$PATH:/usr/sbin:/sbin
started=$SECONDS
number=0
failed=()

# step NAME COMMAND...   runs it, shows and keeps its output, says how long it took
step() {
    local name=$1 start=$SECONDS status=0
    shift
    number=$((number + 1))
    local log=$logs/$number-$name.log
    echo "==> $name: $*"
    "$@" 2>&1 | tee "$log" || status=$?
    if [ "$status" -eq 0 ]; then
        echo "==> $name: ok, $((SECONDS - start)) s"
    else
        echo "==> $name: FAILED with status $status, $((SECONDS - start)) s (log: $log)"
        failed+=("$name")
        echo "$log" >>"$logs/failed"
    fi
    return "$status"
}

conclude() {
    local minutes=$(((SECONDS - started) / 60)) seconds=$(((SECONDS - started) % 60))
    local skipped
    skipped=$(cat "$logs"/*-tests.log 2>/dev/null | grep -c SKIPPED)
    if [ ${#failed[@]} -eq 0 ]; then
        if [ "$skipped" -gt 0 ]; then
            echo "RESULT: ok, but $skipped suites or tests were skipped (see SKIPPED above), in $minutes min $seconds s"
        else
            echo "RESULT: ok, all steps passed in $minutes min $seconds s"
        fi
        exit 0
    fi
    echo "RESULT: FAILED in ${failed[*]}, after $minutes min $seconds s; logs in $logs"
    exit 1
}

# Without it the suites that need a real control plane are skipped, by name.
kube_assets() {
    if [ -n "${KUBEBUILDER_ASSETS:-}" ]; then
        echo "using KUBEBUILDER_ASSETS=$KUBEBUILDER_ASSETS"
    elif ! tests/assets/kube.sh "${BERTH_CACHE:-$HOME/.cache/berth}/kube"; then
        echo "kube-apiserver cannot be built here: the suites that need it will be skipped"
    fi
}

# The same for the suites that need KubeVirt's own command.
virtctl() {
    if [ -n "${BERTH_VIRTCTL:-}" ]; then
        echo "using BERTH_VIRTCTL=$BERTH_VIRTCTL"
    elif ! tests/assets/virtctl.sh "${BERTH_CACHE:-$HOME/.cache/berth}/virtctl"; then
        echo "virtctl cannot be built here: the suites that need it will be skipped"
    fi
}

# The built kubectl serves where the system has none; a step is a pipeline and
# cannot change the environment.
use_built_kubectl() {
    command -v kubectl >/dev/null && return
    local tool
    for tool in "${KUBEBUILDER_ASSETS:-}/kubectl" "${BERTH_CACHE:-$HOME/.cache/berth}"/kube/*/kubectl; do
        [ -x "$tool" ] && export PATH=$PATH:$(dirname "$tool") && return
    done
}

step packages berth/host/install.sh tests || conclude
step format cargo fmt --all --check
step build cargo build --locked --workspace --all-targets || conclude
step lints cargo clippy --locked --workspace --all-targets -- -D warnings
step documentation env RUSTDOCFLAGS='-D warnings' cargo doc --locked --workspace --no-deps
step kube-assets kube_assets
step virtctl virtctl
use_built_kubectl
step guest-image sh berth/host/guest-image.sh "${BERTH_CACHE:-$HOME/.cache/berth}/guest"
step tests cargo test --locked --workspace --no-fail-fast
step fuzz env BERTH_FUZZ_SECONDS=60 cargo test --locked --workspace --test fuzz -- --nocapture
conclude
