# An initramfs for Debian's cloud kernel, written to $1: it shows what the
# firmware says, and powers off when its power button is pressed.
set -eu
out=$1
kernel=$2
tree=$(mktemp -d)
trap 'rm -rf "$tree"' EXIT
mkdir -p "$tree/bin" "$tree/dev" "$tree/proc" "$tree/sys" "$tree/lib"
cp "$(command -v busybox)" "$tree/bin/busybox"
modules="drivers/acpi/button drivers/input/evdev drivers/virtio/virtio_ring drivers/virtio/virtio
    drivers/virtio/virtio_pci_legacy_dev drivers/virtio/virtio_pci_modern_dev drivers/virtio/virtio_pci
    net/core/failover drivers/net/net_failover drivers/net/virtio_net drivers/block/virtio_blk"
for module in $modules; do cp "/lib/modules/$kernel/kernel/$module.ko" "$tree/lib/"; done
cat > "$tree/init" <<'INIT'
#!/bin/busybox sh
/bin/busybox --install -s /bin
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev
for module in button evdev virtio_ring virtio virtio_pci_legacy_dev virtio_pci_modern_dev virtio_pci \
    failover net_failover virtio_net virtio_blk; do
    insmod /lib/$module.ko
done
for event in /dev/input/event*; do
    (while dd if=$event bs=24 count=1 2>/dev/null | hexdump -v -e '24/1 "%02x"' > /tmp.${event##*/}; do
        # Type EV_KEY, code KEY_POWER, value pressed.
        grep -q '0100740001' /tmp.${event##*/} && poweroff -f
    done) &
done
echo "uuid $(cat /sys/class/dmi/id/product_uuid)"
echo "disk $(head -c 14 /dev/vda)"
echo "mtu $(cat /sys/class/net/eth0/mtu)"
echo "mac $(cat /sys/class/net/eth0/address)"
echo "guest is up"
while :; do sleep 1000; done
INIT
chmod +x "$tree/init"
(cd "$tree" && find . | cpio -o -H newc --quiet | gzip -1) > "$out"
