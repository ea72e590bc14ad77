#!/bin/sh
# Installs what Berth needs from Debian, and changes nothing else on the host:
# no service is started or enabled, no libvirt default network, no system Open
# vSwitch. What the host's owner has enabled or forbidden stays so. The kernel and
# the busybox of the demonstration guest are unpacked, not installed: the one would
# be the host's own at the next boot, the other takes the place of `busybox`. Its
# guest agent never is: udev starts it by itself, where the host is a guest, too.
#
#   install.sh          what `make run` needs
#   install.sh tests    the same and what `make test` needs besides
#   install.sh bench    the same again and the peers that `make bench` measures
#
# Running it again costs a second, and finishes what a killed run left halfway. On
# anything but Debian 12 for amd64 it says what is needed and stops.
set -eu

RUN="
  ovn-central ovn-host openvswitch-switch
  qemu-system-x86 qemu-utils qemu-block-extra ovmf swtpm swtpm-tools libvirt-daemon libvirt-daemon-driver-qemu libvirt-daemon-system libvirt-clients libvirt-dev
  iproute2 nftables ethtool procps util-linux
  cpio kmod genisoimage xz-utils
  isc-dhcp-client syslinux syslinux-common mtools fdisk
  build-essential pkg-config curl ca-certificates
"
GUEST="linux-image-cloud-amd64 busybox-static"
AGENT=qemu-guest-agent
# The tests make guests of their own, of what is installed.
TESTS="$GUEST etcd-server etcd-client openssl zstd"
# DHCP clients, and with systemd its networkd; systemd-sysv would make it the init.
TESTS="$TESTS ndisc6 dhcpcd-base dnsmasq-utils systemd network-manager"
# Somebody else's reading of what our DHCP server says.
TESTS="$TESTS tshark"
# Where images come from.
TESTS="$TESTS docker-registry"

# Servers to measure ours against.
BENCH="kea-dhcp4-server kea-dhcp6-server dnsmasq-base"

# Where the host's files are: a test has a root of its own.
root=${BERTH_INSTALL_ROOT:-}

# Where guest-image.sh looks, besides among what is installed.
guest=$root/usr/local/lib/berth/guest

case ${1:-} in
tests) wanted="$RUN $TESTS" ;;
bench) wanted="$RUN $TESTS $BENCH" ;;
*) wanted=$RUN ;;
esac

refuse() {
    echo "berth: this script knows Debian 12 on amd64 only; this is $1." >&2
    # Unquoted: one line.
    echo "berth: install the equivalents of:" $wanted $GUEST >&2
    exit 1
}
[ -r "$root/etc/os-release" ] || refuse "unknown: it has no /etc/os-release"
. "$root/etc/os-release"
[ "${ID:-} ${VERSION_ID:-}" = "debian 12" ] || refuse "${PRETTY_NAME:-unknown}"
[ "$(dpkg --print-architecture)" = amd64 ] || refuse "$PRETTY_NAME on $(dpkg --print-architecture)"

missing() {
    for package in "$@"; do
        dpkg-query -W -f '${db:Status-Status}\n' "$package" 2>/dev/null | grep -qx installed || printf ' %s' "$package"
    done
}

# The guest's parts that have to be unpacked: kernel and busybox not where they are
# installed, the guest agent not where its owner has installed it.
to_unpack() {
    case " $wanted " in
    *" $GUEST "*) ;;
    *) [ -d "$guest/boot" ] || [ -z "$(missing $GUEST)" ] || printf '%s' "$GUEST" ;;
    esac
    [ -e "$guest/usr/sbin/qemu-ga" ] || missing $AGENT
}
guest_is_missing() { [ -n "$(to_unpack)" ]; }

everything_is_there() {
    [ -z "$missing" ] && ! guest_is_missing || return 1
    echo "berth: all Debian packages are present"
}

# Packages that bring daemons start them on installation unless this file says
# no. It is ours only for the duration: an existing one comes back as it was.
policy=$root/usr/sbin/policy-rc.d
mark="# berth: for the duration of an installation"
# What would start by itself before we came; there only for the duration, too.
before=$root/var/lib/berth-install.before

# The links by which systemd starts something by itself, and the scripts that
# another init does so for.
starters() {
    find "$root/etc/systemd/system" -type l 2>/dev/null || true
    find "$root/etc/init.d" -type f 2>/dev/null || true
}

# Puts everything back that must not stay: after an installation, and first of all
# for one that was killed. What came with the packages, or with those that they
# need, does not start at the next boot: nobody has asked for it.
finish() {
    if [ -e "$before" ]; then
        starters | grep -vxFf "$before" | while IFS= read -r new; do
            case $new in
            */init.d/*) update-rc.d "${new##*/}" disable >/dev/null 2>&1 || true ;;
            *) rm -f "$new" ;;
            esac
        done
        if [ -d "$root/run/systemd/system" ]; then systemctl daemon-reload || true; fi
    fi
    if [ -e "$policy.berth-saved" ] || [ -L "$policy.berth-saved" ]; then
        mv -f "$policy.berth-saved" "$policy"
    elif grep -qsF "$mark" "$policy"; then
        rm -f "$policy"
    fi
    rm -f "$before" "$before.new" "$policy.berth-new"
}

if [ "$(id -u)" != 0 ]; then
    missing=$(missing $wanted)
    if everything_is_there; then exit 0; fi
    if guest_is_missing; then missing="$missing $(to_unpack)"; fi
    echo "berth: run as root, to install:$missing" >&2
    exit 1
fi

# One at a time: what is left of a killed one must not be one that still runs.
exec 9<"$0"
flock 9
finish
missing=$(missing $wanted)
if everything_is_there; then exit 0; fi

trap finish EXIT
trap 'exit 129' HUP
trap 'exit 130' INT
trap 'exit 143' TERM
# A line that no file has: an empty list of patterns would match nothing, and so
# would a list that is not complete.
{ echo "$mark"; starters; } >"$before.new"
mv "$before.new" "$before"
printf '#!/bin/sh\n%s\nexit 101\n' "$mark" >"$policy.berth-new"
chmod 755 "$policy.berth-new"
if [ -e "$policy" ] || [ -L "$policy" ]; then mv "$policy" "$policy.berth-saved"; fi
mv "$policy.berth-new" "$policy"

export DEBIAN_FRONTEND=noninteractive
# Nobody is asked: changed configuration files stay. Another apt that runs now, as
# the daily upgrade may, is waited for.
apt() { apt-get -qq -o DPkg::Lock::Timeout=300 -o Dpkg::Options::=--force-confold "$@" </dev/null 9<&- >/dev/null; }
apt update
if [ -n "$missing" ]; then
    echo "berth: installing$missing"
    apt install -y --no-install-recommends $missing
fi
if guest_is_missing; then
    unpacked=$(to_unpack)
    echo "berth: unpacking$(printf ' %s' $unpacked) into $guest"
    # The first is a name for the newest kernel.
    kernel=$(apt-cache depends --important linux-image-cloud-amd64 | sed -n 's/^ *Depends: \(linux-image-[0-9].*\)/\1/p' | head -n 1)
    rm -rf "$guest.new"
    mkdir -p "$guest.new/debs"
    (cd "$guest.new/debs" && apt -o APT::Sandbox::User=root download $(echo $unpacked | sed "s/linux-image-cloud-amd64/$kernel/"))
    # What an earlier run has unpacked stays.
    if [ -d "$guest" ]; then cp -a "$guest/." "$guest.new"; fi
    for deb in "$guest.new"/debs/*.deb; do dpkg-deb -x "$deb" "$guest.new"; done
    rm -rf "$guest.new/debs" "$guest"
    mv "$guest.new" "$guest"
fi
echo "berth: installed; none of their services was started or will start by itself"
