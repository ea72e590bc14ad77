#!/bin/sh
# Installs what Berth needs from Debian, and changes nothing else on the host:
# no service is started, no libvirt default network, no system Open vSwitch.
#
#   install.sh          what `make run` needs
#   install.sh tests    the same and what `make test` needs besides
#
# Running it again costs a second. On anything but Debian 12 it says what is
# needed and stops.
set -eu

RUN="
  ovn-central ovn-host openvswitch-switch
  qemu-system-x86 qemu-utils libvirt-daemon libvirt-daemon-driver-qemu libvirt-daemon-system libvirt-clients libvirt-dev
  iproute2 ethtool procps util-linux
  busybox-static linux-image-cloud-amd64 cpio kmod genisoimage
  isc-dhcp-client syslinux syslinux-common mtools fdisk
  build-essential pkg-config curl ca-certificates
"
TESTS="etcd-server etcd-client openssl ndisc6"

wanted=$RUN
[ "${1:-}" = tests ] && wanted="$RUN $TESTS"

. /etc/os-release
if [ "${ID:-}" != debian ] || [ "${VERSION_ID:-}" != 12 ]; then
    echo "berth: this script knows Debian 12 only; this is ${PRETTY_NAME:-unknown}." >&2
    echo "berth: install the equivalents of:" $wanted >&2
    exit 1
fi

missing=""
for package in $wanted; do
    dpkg-query -W -f '${db:Status-Status}\n' "$package" 2>/dev/null | grep -qx installed || missing="$missing $package"
done
if [ -z "$missing" ]; then
    echo "berth: all Debian packages are present"
    exit 0
fi
if [ "$(id -u)" != 0 ]; then
    echo "berth: run as root, to install:$missing" >&2
    exit 1
fi

# Packages that bring daemons start them on installation unless this file says
# no. It is ours only for the duration: an existing one comes back, and one that
# an interrupted run of ours left is not taken for the user's.
policy=/usr/sbin/policy-rc.d
mark="# berth: for the duration of an installation"
restore() {
    grep -qsF "$mark" "$policy" && rm -f "$policy"
    [ -e "$policy.berth-saved" ] && mv "$policy.berth-saved" "$policy"
    return 0
}
restore
trap restore EXIT
trap 'exit 130' INT
trap 'exit 143' TERM
[ -e "$policy" ] && mv "$policy" "$policy.berth-saved"
printf '#!/bin/sh\n%s\nexit 101\n' "$mark" >"$policy"
chmod 755 "$policy"

echo "berth: installing$missing"
export DEBIAN_FRONTEND=noninteractive
apt-get update -qq
apt-get install -y -qq --no-install-recommends $missing >/dev/null

# Installed, their services would start at the next boot. Those that were not on
# this host before have nobody who wants that.
for package in $missing; do
    for unit in $(dpkg-query -L "$package" 2>/dev/null | sed -n 's,.*/lib/systemd/system/\([^/@]*\.\(service\|socket\)\)$,\1,p'); do
        systemctl disable --quiet "$unit" 2>/dev/null || true
    done
done
echo "berth: installed; none of their services was started or will start by itself"
