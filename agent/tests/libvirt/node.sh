# A node of its own, within the namespaces it was started in: OVS with the
# userspace datapath and libvirtd, everything below $1. Ends with its PID
# namespace.
set -eu
dir=$1
mkdir -p "$dir/ovs" "$dir/run" "$dir/var" "$dir/etc" "$dir/log"
ip link set lo up
hostname berth-test

export OVS_RUNDIR="$dir/ovs" OVS_LOGDIR="$dir/ovs" OVS_DBDIR="$dir/ovs" OVS_SYSCONFDIR="$dir/ovs"
ovsdb-tool create "$dir/ovs/conf.db" /usr/share/openvswitch/vswitch.ovsschema
ovsdb-server "$dir/ovs/conf.db" --remote="punix:$dir/ovs/db.sock" --unixctl="$dir/ovs/db.ctl" \
    --pidfile="$dir/ovs/db.pid" --log-file="$dir/ovs/db.log" --detach
ovs-vsctl --db="unix:$dir/ovs/db.sock" --no-wait init
ovs-vswitchd "unix:$dir/ovs/db.sock" --unixctl="$dir/ovs/vswitchd.ctl" \
    --pidfile="$dir/ovs/vswitchd.pid" --log-file="$dir/ovs/vswitchd.log" --detach
ovs-vsctl --db="unix:$dir/ovs/db.sock" add-br br-int -- set bridge br-int datapath_type=netdev

mkdir -p /run/libvirt /var/lib/libvirt /etc/libvirt /var/log/libvirt
mount --bind "$dir/run" /run/libvirt
mount --bind "$dir/var" /var/lib/libvirt
mount --bind "$dir/etc" /etc/libvirt
mount --bind "$dir/log" /var/log/libvirt
cat > /etc/libvirt/libvirtd.conf <<CONF
auth_unix_rw = "none"
host_uuid = "$(cat /proc/sys/kernel/random/uuid)"
CONF
cat > /etc/libvirt/qemu.conf <<CONF
stdio_handler = "file"
security_driver = "none"
cgroup_controllers = [ ]
namespaces = [ ]
remember_owner = 0
user = "root"
group = "root"
CONF
libvirtd -d --pid-file /run/libvirt/libvirtd.pid
touch "$dir/up"
# As the first process of its namespace this shell inherits QEMU's processes
# and must reap them, or libvirt takes the dead for living.
while :; do sleep 1000; done
