# Runs in mount and UTS namespaces of its own, and becomes the node's libvirtd.
# $1: the node's directory, $2: its name, $3: its control group, if there are any, and then the
# controllers that have it.
set -eu
node=$1
name=$2
group=$3
shift 3
hostname "$name"

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
libvirtd="libvirtd --listen --config /etc/libvirt/libvirtd.conf --pid-file /run/libvirt/libvirtd.pid"
[ -n "$group" ] || exec $libvirtd

# What it sees of control groups begins at its own. `ip netns exec` has left none in /sys.
mount -t tmpfs -o mode=755 tmpfs /sys/fs/cgroup
cd /sys/fs/cgroup
for controller; do
    mkdir "$controller"
    mount -t cgroup -o "$controller" cgroup "$controller"
    echo $$ >"$controller/$group/cgroup.procs"
    umount "$controller"
done
exec unshare --cgroup sh -euc '
    libvirtd=$1
    shift
    for controller; do mount -t cgroup -o "$controller" cgroup "$controller"; done
    cd /
    exec $libvirtd
' sh "$libvirtd" "$@"
