#!/bin/sh
# Builds the demonstration guest: an OCI image layout in DIR that holds one
# containerDisk, `berth/guest:latest`, and beside the disk its kernel and initial RAM disk as
# /boot/vmlinuz and /boot/initrd, for kernelBoot. Nothing is downloaded: the kernel and its
# modules are those of linux-image-cloud-amd64, the user space is busybox-static
# (both installed, or unpacked by install.sh), Debian's dhclient for DHCPv6 and its
# qemu-ga, the guest agent (unpacked by install.sh, or installed).
# No root, no loop device, no mount.
#
#   guest-image.sh DIR [INIT]     INIT: guest-init.sh, by default beside this script
#
# A second run with the same inputs finds its stamp and does nothing.
set -eu

dir=${1:?usage: guest-image.sh DIR [INIT]}
init=${2:-$(dirname "$0")/guest-init.sh}
reference=berth/guest:latest

fail() {
    echo "guest image: $*" >&2
    exit 1
}
say() { echo "guest image: $*"; }

# What install.sh has unpacked comes first, then what is installed. Debian keeps
# several kernels; the newest cloud one is ours.
for base in /usr/local/lib/berth/guest ""; do
    kernel=$(find "$base/boot" -maxdepth 1 -name 'vmlinuz-*-cloud-amd64' 2>/dev/null | sort -V | tail -n 1)
    [ -z "$kernel" ] || break
done
[ -n "$kernel" ] || fail "no cloud kernel: run berth/host/install.sh"
version=${kernel##*/vmlinuz-}
modules=$base/lib/modules/$version/kernel
busybox=$base/bin/busybox
[ -e "$busybox" ] || busybox=/bin/busybox
! ldd "$busybox" >/dev/null 2>&1 || fail "$busybox needs libraries: run berth/host/install.sh, for busybox-static"
dhclient=/sbin/dhclient
for qemu_ga in /usr/local/lib/berth/guest/usr/sbin/qemu-ga /usr/sbin/qemu-ga; do
    [ ! -e "$qemu_ga" ] || break
done
mbr=/usr/lib/syslinux/mbr/mbr.bin
for input in "$modules" "$busybox" "$dhclient" "$qemu_ga" "$mbr" "$init"; do
    [ -e "$input" ] || fail "$input is missing: run berth/host/install.sh"
done
for tool in cpio gzip mformat mcopy syslinux sfdisk qemu-img sha256sum tar; do
    PATH=$PATH:/sbin:/usr/sbin command -v "$tool" >/dev/null || fail "$tool is missing: run berth/host/install.sh"
done
PATH=$PATH:/sbin:/usr/sbin

inputs=$(sha256sum "$0" "$init" "$kernel" "$busybox" "$dhclient" "$qemu_ga" | cut -d ' ' -f 1 | sha256sum | cut -d ' ' -f 1)
if [ "$(cat "$dir/stamp" 2>/dev/null)" = "$inputs" ]; then
    say "$reference is up to date in $dir"
    exit 0
fi

# Beside what it becomes, so that nothing is left elsewhere whenever this ends;
# what a killed run left goes first.
mkdir -p "$dir"
rm -rf "$dir"/work.*
work=$(mktemp -d "$dir/work.XXXXXX")
trap 'rm -rf "$work"' EXIT
trap 'exit 1' INT TERM
export SOURCE_DATE_EPOCH=0

say "initramfs: busybox, dhclient, qemu-ga, modules of $version"
root=$work/root
mkdir -p "$root"/bin "$root"/dev "$root"/proc "$root"/sys "$root"/run "$root"/tmp "$root"/root "$root"/mnt \
    "$root"/etc/berth "$root"/etc/acpi/PWRF "$root"/lib/modules "$root"/lib64 \
    "$root"/var/log "$root"/var/lib/dhcp "$root"/var/run "$root"/usr
ln -s bin "$root/sbin"
ln -s ../bin "$root/usr/bin"
ln -s ../bin "$root/usr/sbin"
cp "$busybox" "$root/bin/busybox"
for applet in $("$busybox" --list); do
    [ "$applet" = busybox ] || ln -s busybox "$root/bin/$applet"
done

cp "$dhclient" "$qemu_ga" "$root/bin/"
{ ldd "$dhclient" && ldd "$qemu_ga"; } | sed -n 's/.*=> \(\/[^ ]*\).*/\1/p; s/^[[:space:]]*\(\/[^ ]*\) (.*/\1/p' | while read -r library; do
    mkdir -p "$root$(dirname "$library")"
    cp -L "$library" "$root$library"
done

# In the order of their dependencies; the rest of what a guest needs is built
# into this kernel.
: >"$root/lib/modules/order"
for module in virtio/virtio_ring virtio/virtio virtio/virtio_pci_legacy_dev virtio/virtio_pci_modern_dev \
    virtio/virtio_pci net/failover net/net_failover net/virtio_net block/virtio_blk cdrom/cdrom isofs \
    acpi/button input/evdev char/virtio_console; do
    name=${module##*/}
    file=$(find "$modules" -name "$name.ko" | head -n 1)
    [ -n "$file" ] || continue
    cp "$file" "$root/lib/modules/$name.ko"
    echo "$name" >>"$root/lib/modules/order"
done

# Only where the firmware is EFI; whoever wants its variables loads it.
cp "$modules/fs/efivarfs/efivarfs.ko" "$root/lib/modules/"

# Disks on virtio-scsi, in the order of their dependencies: whoever wants them loads it.
for name in scsi_common scsi_mod sd_mod virtio_scsi; do
    file=$(find "$modules" -name "$name.ko" | head -n 1)
    [ -z "$file" ] || cp "$file" "$root/lib/modules/$name.ko"
done

cp "$init" "$root/init"
chmod 755 "$root/init"
for name in start dhcp4 dhcp6 follow-ra report; do ln -s ../../init "$root/etc/berth/$name"; done
# How an example (manifests/examples/features) finds out that it has what it shows, and says so.
cat >"$root/etc/berth/checks" <<'CHECKS'
verdict=ok
# is WHAT FOUND WANTED
is() { [ "$2" = "$3" ] || verdict="$1: '$2' instead of '$3'"; }
# soon WHAT PATTERN COMMAND...   the command prints it within 30 seconds
soon() {
    what=$1 pattern=$2 left=60
    shift 2
    until "$@" 2>&1 | grep -qE "$pattern"; do
        left=$((left - 1))
        [ "$left" -gt 0 ] || { verdict="$what: no '$pattern' in '$("$@" 2>&1 | tail -n 1)'"; return; }
        usleep 500000
    done
}
trap 'printf "\nexample: %s\n" "$verdict" >/dev/console' EXIT
CHECKS
# At once: init would wait two seconds for processes that have nothing to save.
printf '#!/bin/sh\nsync\nexec /sbin/poweroff -f\n' >"$root/etc/acpi/PWRF/00000080"
chmod 755 "$root/etc/acpi/PWRF/00000080"
cat >"$root/etc/inittab" <<INITTAB
::sysinit:/etc/berth/start
ttyS0::respawn:-/bin/sh
::ctrlaltdel:/sbin/reboot
INITTAB
cat >"$root/etc/profile" <<'PROFILE'
export PATH=/bin:/sbin HOME=/root PS1='guest# '
cd /root
PROFILE
echo 'root::0:0:root:/root:/bin/sh' >"$root/etc/passwd"
echo 'root:x:0:' >"$root/etc/group"
: >"$root/etc/resolv.conf"
printf 'NAME="Berth guest"\nID=berth-guest\nPRETTY_NAME="Berth demonstration guest"\n' >"$root/etc/os-release"
find "$root" -exec touch -h -d @0 {} +
(cd "$root" && find . | LC_ALL=C sort | cpio --quiet -o -H newc -R 0:0 --reproducible) | gzip -9n >"$work/initrd"

say "disk: syslinux, kernel $(du -k "$kernel" | cut -f 1) KiB, initramfs $(du -k "$work/initrd" | cut -f 1) KiB"
# Software emulation is what it mostly runs under: each of these saves work there.
fast="mitigations=off nokaslr tsc=reliable no_timer_check cryptomgr.notests"
cat >"$work/syslinux.cfg" <<SYSLINUX
DEFAULT guest
PROMPT 0
TIMEOUT 0
LABEL guest
  KERNEL /vmlinuz
  INITRD /initrd
  APPEND console=ttyS0 quiet loglevel=3 $fast
SYSLINUX
raw=$work/disk.raw
truncate -s 48M "$raw"
echo '2048,,c,*' | sfdisk -q --no-reread --no-tell-kernel "$raw"
dd if="$mbr" of="$raw" bs=440 count=1 conv=notrunc status=none
partition=$raw@@1M
mformat -i "$partition" -c 16 -v BERTH -N 62657274 -T 96256 -h 64 -s 32 -H 2048 ::
mcopy -i "$partition" "$kernel" ::/vmlinuz
mcopy -i "$partition" "$work/initrd" ::/initrd
mcopy -i "$partition" "$work/syslinux.cfg" ::/syslinux.cfg
syslinux --install --offset 1048576 "$raw"
mkdir -p "$work/layer/disk" "$work/layer/boot"
cp "$kernel" "$work/layer/boot/vmlinuz"
cp "$work/initrd" "$work/layer/boot/initrd"
qemu-img convert -f raw -O qcow2 "$raw" "$work/layer/disk/disk.qcow2"

say "OCI layout"
layout=$work/layout
mkdir -p "$layout/blobs/sha256"
# Moves a file among the blobs and prints `"digest": …, "size": …`.
blob() {
    digest=$(sha256sum "$1" | cut -d ' ' -f 1)
    size=$(stat -c %s "$1")
    mv "$1" "$layout/blobs/sha256/$digest"
    echo "\"digest\":\"sha256:$digest\",\"size\":$size"
}
tar -C "$work/layer" --sort=name --mtime=@0 --owner=107 --group=107 --numeric-owner -cf "$work/layer.tar" boot disk
diff_id=$(sha256sum "$work/layer.tar" | cut -d ' ' -f 1)
gzip -1n "$work/layer.tar"
layer=$(blob "$work/layer.tar.gz")
printf '{"architecture":"amd64","os":"linux","rootfs":{"type":"layers","diff_ids":["sha256:%s"]}}' "$diff_id" >"$work/config"
config=$(blob "$work/config")
printf '{"schemaVersion":2,"mediaType":"%s","config":{"mediaType":"%s",%s},"layers":[{"mediaType":"%s",%s}]}' \
    application/vnd.oci.image.manifest.v1+json application/vnd.oci.image.config.v1+json "$config" \
    application/vnd.oci.image.layer.v1.tar+gzip "$layer" >"$work/manifest"
manifest=$(blob "$work/manifest")
printf '{"schemaVersion":2,"manifests":[{"mediaType":"%s",%s,"annotations":{"org.opencontainers.image.ref.name":"%s"}}]}\n' \
    application/vnd.oci.image.manifest.v1+json "$manifest" "$reference" >"$layout/index.json"
echo '{"imageLayoutVersion":"1.0.0"}' >"$layout/oci-layout"

# Blobs of an earlier build stay until here, so a reader never finds the index
# of one build with the blobs of another.
mkdir -p "$dir/blobs/sha256"
rm -f "$dir/stamp"
cp "$layout"/blobs/sha256/* "$dir/blobs/sha256/"
cp "$layout/oci-layout" "$dir/oci-layout"
cp "$layout/index.json" "$dir/index.json.new"
mv "$dir/index.json.new" "$dir/index.json"
for old in "$dir"/blobs/sha256/*; do
    [ -e "$layout/blobs/sha256/${old##*/}" ] || rm -f "$old"
done
echo "$inputs" >"$dir/stamp"
say "$reference is ready in $dir ($(du -sk "$dir" | cut -f 1) KiB)"
