#!/bin/sh
# Builds a pinned kube-apiserver, kube-controller-manager and kubectl from the
# Go module proxy into a cache outside the work tree, and prints the directory.
# About six minutes on two cores the first time, a moment afterwards.
#
#   kube.sh DIR      builds what is missing in DIR
set -eu

VERSION=1.36.0
dir=${1:?usage: kube.sh DIR}/$VERSION
tools="kube-apiserver kube-controller-manager kubectl"

complete() { for tool in $tools; do [ -x "$dir/$tool" ] || return 1; done; }
if complete; then echo "$dir"; exit 0; fi
if ! command -v go >/dev/null; then
    echo "kube.sh: no Go toolchain, and KUBEBUILDER_ASSETS is not set" >&2
    exit 1
fi

mkdir -p "$dir/src"
cd "$dir/src"
export GOFLAGS=-mod=mod CGO_ENABLED=0

# k8s.io/kubernetes refers to its staging modules by relative path; outside its
# own repository each must be replaced by the version published with it.
upstream=$(GOFLAGS= go mod download -json "k8s.io/kubernetes@v$VERSION" | sed -n 's/.*"GoMod": "\(.*\)",/\1/p')
{
    echo "module berth/kube-assets"
    sed -n 's/^go /&/p; s/^godebug /&/p' "$upstream"
    echo "require k8s.io/kubernetes v$VERSION"
    echo "require ("
    sed -n '/^require (/,/^)/{/^require (/d;/^)/d;/ v0\.0\.0$/d;/ v0\.0\.0 /d;p}' "$upstream"
    echo ")"
    echo "replace ("
    sed -n "s,^[[:space:]]*\(k8s.io/[a-z-]*\) => ./staging.*,  \1 => \1 v0.${VERSION#1.},p" "$upstream"
    echo ")"
} >go.mod
for tool in $tools; do
    [ -x "$dir/$tool" ] && continue
    echo "kube.sh: building $tool $VERSION" >&2
    version=k8s.io/component-base/version
    go build -trimpath \
        -ldflags "-s -w -X $version.gitVersion=v$VERSION -X $version.gitMajor=1 -X $version.gitMinor=36" \
        -o "$dir/$tool.part" "k8s.io/kubernetes/cmd/$tool" >&2
    mv "$dir/$tool.part" "$dir/$tool"
done
echo "$dir"
