#!/bin/sh
# The user space of the guest image: one script, called by several names.
#
#   /init                       first process: mounts, modules, then busybox init
#   /etc/berth/start            once at boot: cidata, network, power button
#   /etc/berth/dhcp4 EVENT      what udhcpc calls, facts in the environment
#   /etc/berth/dhcp6            what dhclient -6 calls, facts in the environment
#   /etc/berth/follow-ra IFACE  starts DHCPv6 when a router advertises itself
#   /etc/berth/report [now]     the one line that says the guest is ready
export PATH=/bin:/sbin

first_process() {
    mount -t devtmpfs dev /dev
    mount -t proc proc /proc
    mount -t sysfs sys /sys
    mount -t tmpfs run /run
    mount -t tmpfs tmp /tmp
    mkdir -p /dev/pts
    mount -t devpts devpts /dev/pts
    while read -r module; do insmod "/lib/modules/$module.ko"; done </lib/modules/order
    exec /sbin/init
}

# NoCloud: user-data that is a script runs once the network has been started,
# with its output in /var/log/user-data.log; local-hostname counts until DHCP
# says otherwise.
cidata() {
    mkdir -p /run/cidata
    config_drive && return 0
    device=$(findfs LABEL=cidata 2>/dev/null || findfs LABEL=CIDATA 2>/dev/null) || return 0
    mount -t iso9660 -o ro "$device" /run/cidata || return 0
    # YAML, of which JSON is a part.
    name=$(sed -n 's/.*local-hostname"\{0,1\}: *"\{0,1\}\([^",} ]*\).*/\1/p' /run/cidata/meta-data)
    [ -z "$name" ] || hostname "$name"
}

# OpenStack's layout, as far as it says what to run.
config_drive() {
    device=$(findfs LABEL=config-2 2>/dev/null || findfs LABEL=CONFIG-2 2>/dev/null) || return 1
    mount -t iso9660 -o ro "$device" /mnt || return 1
    cp /mnt/openstack/latest/user_data /run/cidata/user-data
    umount /mnt
}

user_data() {
    [ -f /run/cidata/user-data ] || return 0
    case $(head -c 2 /run/cidata/user-data) in
    '#!')
        cp /run/cidata/user-data /run/user-data
        chmod 755 /run/user-data
        /run/user-data >/var/log/user-data.log 2>&1 </dev/null &
        ;;
    *) echo "berth-guest: user-data is not a script (#!); it is left alone" >/dev/console ;;
    esac
}

start() {
    # A guest that powers off at the button must hear it from the first second.
    acpid
    hostname guest
    cidata
    ip link set lo up
    for path in /sys/class/net/eth*; do
        [ -e "$path" ] || continue
        iface=${path##*/}
        conf=/proc/sys/net/ipv6/conf/$iface
        echo 0 >"$conf/router_solicitation_delay"
        echo 2 >"$conf/accept_ra"
        ip link set "$iface" up
        # Retries for ever, every three seconds at first: the port may be
        # bound to the switch only after the guest has come up.
        udhcpc -b -S -t 10 -T 1 -A 3 -i "$iface" -s /etc/berth/dhcp4 \
            -O staticroutes -O search -O mtu -p "/run/udhcpc.$iface.pid" >/dev/null 2>&1 &
        /etc/berth/follow-ra "$iface" &
    done
    guest_agent
    user_data
}

# There is no udev that would give the port its name.
guest_agent() {
    for name in /sys/class/virtio-ports/*/name; do
        [ "$(cat "$name" 2>/dev/null)" = org.qemu.guest_agent.0 ] || continue
        port=${name%/name}
        qemu-ga -d -m virtio-serial -p "/dev/${port##*/}" -t /run -f /run/qemu-ga.pid
    done
}

write_resolv_conf() {
    # Each family leaves its part; the file is their sum.
    cat /run/resolv.v4 /run/resolv.v6 >/etc/resolv.conf 2>/dev/null
}

dhcp4() {
    case $1 in
    deconfig) ip -4 addr flush dev "$interface" ;;
    bound | renew)
        [ -z "$mtu" ] || ip link set "$interface" mtu "$mtu"
        ip -4 addr replace "$ip/$mask" broadcast + dev "$interface" valid_lft "$lease" preferred_lft "$lease"
        # Option 121 replaces the router option when it is there (RFC 3442).
        if [ -n "$staticroutes" ]; then
            set -- $staticroutes
            while [ $# -ge 2 ]; do
                if [ "$2" = 0.0.0.0 ]; then
                    ip -4 route replace "$1" dev "$interface"
                else
                    ip -4 route replace "$1" via "$2" dev "$interface" onlink
                fi
                shift 2
            done
        else
            for gateway in $router; do
                ip -4 route replace default via "$gateway" dev "$interface"
                break
            done
        fi
        {
            [ -z "$search$domain" ] || echo "search ${search:-$domain}"
            for server in $dns; do echo "nameserver $server"; done
        } >/run/resolv.v4
        write_resolv_conf
        [ -z "$hostname" ] || hostname "$hostname"
        /etc/berth/report
        ;;
    esac
}

follow_ra() {
    # The kernel takes the prefix and the router from the advertisement. It
    # does not tell a shell whether M was set, so DHCPv6 is simply tried.
    until ip -6 route show default | grep -q "dev $1"; do usleep 200000; done
    # The first advertisement may come unasked, before the link-local address has
    # proved unique; dhclient cannot use it until then, and would end.
    while ip -6 addr show dev "$1" scope link | grep -q tentative; do usleep 100000; done
    dhclient -6 -q -sf /etc/berth/dhcp6 -lf "/run/dhclient6.$1.leases" -pf "/run/dhclient6.$1.pid" "$1"
}

dhcp6() {
    case $reason in
    BOUND6 | RENEW6 | REBIND6)
        # RFC 5942: the address says nothing about what is on-link, the
        # advertisement does; hence /128.
        [ -z "$old_ip6_address" ] || [ "$old_ip6_address" = "$new_ip6_address" ] ||
            ip -6 addr del "$old_ip6_address/128" dev "$interface"
        ip -6 addr replace "$new_ip6_address/128" dev "$interface" \
            valid_lft "$new_max_life" preferred_lft "$new_preferred_life"
        {
            [ -z "$new_dhcp6_domain_search" ] || echo "search $new_dhcp6_domain_search"
            for server in $new_dhcp6_name_servers; do echo "nameserver $server"; done
        } >/run/resolv.v6
        write_resolv_conf
        /etc/berth/report
        ;;
    DEPREF6) ip -6 addr change "$cur_ip6_address/128" dev "$interface" preferred_lft 0 ;;
    EXPIRE6 | RELEASE6 | STOP6) ip -6 addr del "$old_ip6_address/128" dev "$interface" ;;
    esac
    exit 0
}

# Prints when both families are there, and again after a change. A network with
# one family only is reported after ten seconds without the other.
report() {
    v4=$(ip -4 addr show scope global | sed -n 's/.*inet \([^ ]*\).*/\1/p' | head -n 1)
    v6=$(ip -6 addr show scope global | sed -n 's/.*inet6 \([^ ]*\).*/\1/p' | head -n 1)
    if [ "$1" != now ] && { [ -z "$v4" ] || [ -z "$v6" ]; }; then
        (sleep 10 && /etc/berth/report now) >/dev/null 2>&1 </dev/null &
        return
    fi
    line="berth-guest: ready hostname=$(hostname) v4=${v4:-none} v6=${v6:-none}"
    [ "$line" = "$(cat /run/reported 2>/dev/null)" ] && return
    echo "$line" >/run/reported
    # On a line of its own, also next to a prompt.
    printf '\n%s\n' "$line" >/dev/console
}

case ${0##*/} in
init) first_process ;;
start) start ;;
dhcp4) dhcp4 "$1" ;;
dhcp6) dhcp6 ;;
follow-ra) follow_ra "$1" ;;
report) report "${1:-}" ;;
esac
