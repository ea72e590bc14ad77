# Runs in mount and UTS namespaces of its own, and becomes the node's libvirtd.
# $1: the node's directory, $2: its name.
set -eu
node=$1
hostname "$2"

# The host's /run is not the node's: a fresh one needs no mount points on the
# host, and libvirt's ovs-vsctl finds the node's Open vSwitch at the usual place.
mount -t tmpfs -o mode=755 tmpfs /run
mkdir -p /run/libvirt /run/openvswitch /run/lock
ln -s "$node/ovs/db.sock" /run/openvswitch/db.sock

# What TPMs write beside libvirt's own.
mount -t tmpfs -o mode=755 tmpfs /var/log
mkdir -p /var/log/libvirt
[ ! -d /var/lib/swtpm-localca ] || mount -t tmpfs -o mode=700 tmpfs /var/lib/swtpm-localca

bind() { mount --bind "$node/libvirt/$1" "$2"; }
bind run /run/libvirt
bind etc /etc/libvirt
bind lib /var/lib/libvirt
bind log /var/log/libvirt
bind cache /var/cache/libvirt
exec libvirtd --listen --config /etc/libvirt/libvirtd.conf --pid-file /run/libvirt/libvirtd.pid
