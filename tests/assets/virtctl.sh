#!/bin/sh
# Builds a pinned virtctl, KubeVirt's own command, from the Go module proxy into a cache outside
# the work tree, and prints its path. About four minutes on two cores the first time.
#
#   virtctl.sh DIR      builds what is missing in DIR
set -eu

VERSION=1.6.0
dir=${1:?usage: virtctl.sh DIR}/$VERSION
tool=$dir/virtctl

if [ -x "$tool" ]; then echo "$tool"; exit 0; fi
if ! command -v go >/dev/null; then
    echo "virtctl.sh: no Go toolchain, and BERTH_VIRTCTL is not set" >&2
    exit 1
fi

mkdir -p "$dir/src"
cd "$dir/src"
export GOFLAGS=-mod=mod CGO_ENABLED=0

# kubevirt.io/kubevirt refers to its staging modules by relative path; outside its own
# repository each must be replaced by the version published with it.
upstream=$(GOFLAGS= go mod download -json "kubevirt.io/kubevirt@v$VERSION" | sed -n 's/.*"GoMod": "\(.*\)",/\1/p')
{
    echo "module berth/virtctl"
    sed -n 's/^go /&/p' "$upstream"
    echo "require kubevirt.io/kubevirt v$VERSION"
    sed -n '/^require (/,/^)/p' "$upstream" | grep -v 'kubevirt.io/\(api\|client-go\) \| v0\.0\.0$'
    echo "replace ("
    sed -n "s,^[[:space:]]*\(kubevirt.io/[a-z-]*\) => ./staging.*,  \1 => \1 v$VERSION,p" "$upstream"
    grep '^[[:space:]].* => ' "$upstream" | grep -v '=> \./'
    echo ")"
} >go.mod
echo "virtctl.sh: building virtctl $VERSION" >&2
go build -trimpath -ldflags "-s -w" -o "$tool.part" kubevirt.io/kubevirt/cmd/virtctl >&2
mv "$tool.part" "$tool"
echo "$tool"
