//! The clients as Debian has them, each with what it can do.

use nix::sys::signal::Signal;

use crate::lab::{Lab, NETWORKD};
use crate::scenario::Scenario::{Decline, Lease, Prefix, Rebind, Reboot, Release, Renew};
use crate::scenario::{Family, MAC, Program, SERVER, Scenario, Stage, V4_ADDRESS, V6_ADDRESS};

/// One line of the table: a client in one family.
pub(crate) struct Row {
    pub(crate) client: &'static str,
    pub(crate) family: Family,
    pub(crate) has: &'static [Scenario],
    pub(crate) play: Box<dyn Fn(Scenario) + Sync>,
}

const NM_UUID: &str = "5a1b9d5c-0000-4000-8000-000000000001";
const NM_LEASE: &str = "NetworkManager/internal-5a1b9d5c-0000-4000-8000-000000000001-eth0.lease";

const EVERYTHING_V4: &[Scenario] = &[Lease, Renew, Rebind, Reboot, Decline, Release];
const EVERYTHING_V6: &[Scenario] = &Scenario::ALL;

pub(crate) fn rows() -> Vec<Row> {
    let programs = [
        Program {
            name: "dhclient",
            family: Family::V4,
            has: EVERYTHING_V4,
            command: |lab, scenario| dhclient(lab, "-4", scenario),
            release: |lab, _| assert!(lab.guest(&dhclient(lab, "-4 -r", Release)).ok),
            memory: Some(("leases", V4_ADDRESS)),
        },
        Program {
            name: "dhclient",
            family: Family::V6,
            has: EVERYTHING_V6,
            command: |lab, scenario| dhclient(lab, "-6", scenario),
            release: |lab, _| assert!(lab.guest(&dhclient(lab, "-6 -r", Release)).ok),
            memory: Some(("leases", V6_ADDRESS)),
        },
        Program {
            name: "dhcpcd",
            family: Family::V4,
            has: EVERYTHING_V4,
            command: |lab, scenario| dhcpcd(lab, "-4", scenario),
            release: |_, client| client.signal(Signal::SIGALRM),
            memory: Some(("dhcpcd/eth0.lease", "")),
        },
        Program {
            name: "dhcpcd",
            family: Family::V6,
            has: &[Lease, Renew, Rebind, Reboot, Release, Prefix],
            command: |lab, scenario| dhcpcd(lab, "-6", scenario),
            release: |_, client| client.signal(Signal::SIGALRM),
            memory: Some(("dhcpcd/eth0.lease6", "")),
        },
        Program {
            name: "dhcpcd",
            family: Family::Ra,
            has: &[Lease, Renew],
            command: |lab, scenario| dhcpcd(lab, "-6 --nodhcp6", scenario),
            release: |_, _| {},
            memory: None,
        },
        Program {
            name: "udhcpc",
            family: Family::V4,
            has: &[Lease, Renew, Rebind, Decline, Release],
            command: udhcpc,
            release: |_, client| client.signal(Signal::SIGUSR2),
            memory: None,
        },
        Program {
            name: "systemd-networkd",
            family: Family::V4,
            has: &[Lease, Renew, Rebind, Reboot, Release],
            command: |lab, scenario| networkd(lab, "DHCP=ipv4\nIPv6AcceptRA=no", scenario),
            release: |_, client| client.signal(Signal::SIGTERM),
            memory: None,
        },
        Program {
            name: "systemd-networkd",
            family: Family::V6,
            has: &[Lease, Renew, Rebind, Prefix],
            command: |lab, scenario| networkd(lab, "DHCP=ipv6\nIPv6AcceptRA=yes", scenario),
            release: |_, client| client.signal(Signal::SIGTERM),
            memory: None,
        },
        Program {
            name: "systemd-networkd",
            family: Family::Ra,
            has: &[Lease, Renew],
            command: |lab, scenario| networkd(lab, "DHCP=no\nIPv6AcceptRA=yes", scenario),
            release: |_, _| {},
            memory: None,
        },
        Program {
            name: "NetworkManager",
            family: Family::V4,
            has: &[Lease, Renew, Rebind, Reboot, Decline],
            command: |lab, scenario| network_manager(lab, "auto", "ignore", scenario),
            release: |_, _| {},
            memory: Some((NM_LEASE, V4_ADDRESS)),
        },
        Program {
            name: "NetworkManager",
            family: Family::V6,
            has: &[Lease, Renew, Rebind],
            command: |lab, scenario| network_manager(lab, "disabled", "auto", scenario),
            release: |_, _| {},
            memory: None,
        },
        Program {
            name: "NetworkManager",
            family: Family::Ra,
            has: &[Lease, Renew],
            command: |lab, scenario| network_manager(lab, "disabled", "auto", scenario),
            release: |_, _| {},
            memory: None,
        },
        Program {
            name: "Linux itself",
            family: Family::Ra,
            has: &[Lease, Renew],
            command: |_, _| "sysctl -qw net.ipv6.conf.eth0.accept_ra=2".to_owned(),
            release: |_, _| {},
            memory: None,
        },
    ];
    let mut rows: Vec<Row> = programs.into_iter().map(Row::from).collect();
    rows.extend(visitors());
    rows
}

/// Those that do one thing and go.
fn visitors() -> [Row; 3] {
    [
        Row { client: "rdisc6", family: Family::Ra, has: &[Lease], play: Box::new(|_| rdisc6()) },
        Row {
            client: "dhcp_release",
            family: Family::V4,
            has: &[Release],
            play: Box::new(|_| dhcp_release()),
        },
        Row {
            client: "dhcp_release6",
            family: Family::V6,
            has: &[Release],
            play: Box::new(|_| dhcp_release6()),
        },
    ]
}

impl From<Program> for Row {
    fn from(program: Program) -> Self {
        Self {
            client: program.name,
            family: program.family,
            has: program.has,
            play: Box::new(move |scenario| program.play(scenario)),
        }
    }
}

/// What Debian's own script does, and nothing but the address.
const DHCLIENT: &str = r#"#!/bin/sh
case $reason in
BOUND|REBOOT|RENEW|REBIND)
    [ "$LOOK" = 0 ] || busybox arping -D -q -c 1 -w 1 -I eth0 "$new_ip_address" || exit 1
    ip address replace "$new_ip_address/24" dev eth0 \
        valid_lft "$new_dhcp_lease_time" preferred_lft "$new_dhcp_lease_time";;
BOUND6|RENEW6|REBIND6)
    [ -z "$new_ip6_prefix" ] || ip -6 route replace unreachable "$new_ip6_prefix"
    [ -n "$new_ip6_address" ] || exit 0
    ip address replace "$new_ip6_address/128" dev eth0 \
        valid_lft "$new_max_life" preferred_lft "$new_preferred_life"
    while :; do
        case $(ip -6 address show dev eth0 to "$new_ip6_address") in
        ''|*dadfailed*) exit 3;;
        *tentative*) sleep 0.1;;
        *) exit 0;;
        esac
    done;;
RELEASE|RELEASE6)
    ip address del "${old_ip_address:-$old_ip6_address}/${old_ip6_prefixlen:-24}" dev eth0;;
esac
exit 0
"#;

fn dhclient(lab: &Lab, how: &str, scenario: Scenario) -> String {
    let script = lab.script("dhclient.sh", DHCLIENT);
    let conf = lab.script("dhclient.conf", "timeout 30; retry 1; initial-interval 1;\n");
    let look = u8::from(scenario == Decline);
    // With an address too.
    let how = if scenario == Prefix { format!("{how} -N -P") } else { how.to_owned() };
    let (leases, pid) = (lab.path("leases"), lab.path("pid"));
    format!(
        "exec dhclient {how} -d -v -cf {conf} -lf {leases} -pf {pid} -sf {script} \
         -e LOOK={look} eth0"
    )
}

const UDHCPC: &str = r#"#!/bin/sh
case $1 in
deconfig) ip -4 address flush dev eth0;;
bound|renew) ip address replace "$ip/$mask" dev eth0 valid_lft "$lease" preferred_lft "$lease";;
esac
"#;

fn udhcpc(lab: &Lab, scenario: Scenario) -> String {
    let script = lab.script("udhcpc.sh", UDHCPC);
    let look = if scenario == Decline { "-a200" } else { "" };
    format!("exec busybox udhcpc -f -i eth0 -s {script} -T 1 -A 1 {look}")
}

fn dhcpcd(lab: &Lab, how: &str, scenario: Scenario) -> String {
    let look = if scenario == Decline { "" } else { "noarp\n" };
    // A prefix is asked for by who has all interfaces only.
    let (asks, at) = match scenario {
        Prefix => ("nodev\nallowinterfaces eth0\ninterface eth0\nia_na 1\nia_pd 2\n", ""),
        _ => ("ia_na 1\n", "eth0"),
    };
    let conf = lab.script("dhcpcd.conf", &format!("duid ll\nslaac hwaddr\nnoipv4ll\n{look}{asks}"));
    let state = lab.path("dhcpcd");
    format!(
        "mkdir -p {state}; mount -t tmpfs none /run; mount --bind {state} /var/lib/dhcpcd; \
         exec dhcpcd -B -d -f {conf} -c /bin/true {how} {at}"
    )
}

/// Without systemd and without udev: it asks for neither where `/sys` cannot be written.
fn networkd(lab: &Lab, how: &str, scenario: Scenario) -> String {
    let keep = if scenario == Reboot { "dhcp" } else { "no" };
    let look = if scenario == Decline { "yes" } else { "no" };
    let network = lab.script(
        "eth0.network",
        &format!(
            "[Match]\nName=eth0\n[Network]\n{how}\nKeepConfiguration={keep}\n\
             [DHCPv4]\nClientIdentifier=mac\nSendDecline={look}\nUseHostname=no\n\
             [DHCPv6]\nDUIDType=link-layer\n"
        ),
    );
    format!(
        "mount -t tmpfs none /run; mkdir -p /run/systemd/network; \
         cp {network} /run/systemd/network; mount -t tmpfs none /etc/systemd; \
         mount -o remount,bind,ro /sys; \
         SYSTEMD_LOG_LEVEL=debug exec {NETWORKD}"
    )
}

/// What of a bus NetworkManager needs: that it is there, and starts nobody.
const BUS: &str = r#"<!DOCTYPE busconfig PUBLIC "-//freedesktop//DTD D-Bus Bus Configuration 1.0//EN"
 "http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd">
<busconfig>
  <type>system</type>
  <listen>ADDRESS</listen>
  <auth>EXTERNAL</auth>
  <policy context="default">
    <allow user="*"/>
    <allow own="*"/>
    <allow send_type="*"/>
    <allow receive_type="*"/>
  </policy>
</busconfig>
"#;

/// The network behind a guest that is a router.
const SHARED: &str = "[connection]
id=lan0
uuid=5a1b9d5c-0000-4000-8000-000000000002
type=ethernet
interface-name=lan0
[ipv4]
method=disabled
[ipv6]
method=shared
";

/// By its own client, with a bus of its own, and without udev as [`networkd`]. What is the
/// host's it leaves alone: there is one `resolv.conf`, and one host name.
fn network_manager(lab: &Lab, ipv4: &str, ipv6: &str, scenario: Scenario) -> String {
    let look = if scenario == Decline { 200 } else { 0 };
    let profile = lab.script(
        "eth0.nmconnection",
        &format!(
            "[connection]\nid=eth0\nuuid={NM_UUID}\ntype=ethernet\ninterface-name=eth0\n\
             [ipv4]\nmethod={ipv4}\ndhcp-client-id=mac\ndad-timeout={look}\n\
             [ipv6]\nmethod={ipv6}\ndhcp-duid=ll\naddr-gen-mode=eui64\nip6-privacy=0\n"
        ),
    );
    let (shared, link) = match scenario {
        Prefix => (
            lab.script("lan0.nmconnection", SHARED),
            "ip link add lan0 type veth peer lan1; ip link set lan1 up; ",
        ),
        _ => (String::new(), ""),
    };
    let conf = lab.script(
        "NetworkManager.conf",
        "[main]\nplugins=keyfile\ndhcp=internal\ndns=none\nhostname-mode=none\n\
         no-auto-default=*\nauth-polkit=false\n[logging]\nlevel=DEBUG\n",
    );
    let address = format!("unix:path={}", lab.path("bus"));
    let bus = lab.script("bus.conf", &BUS.replace("ADDRESS", &address));
    let state = lab.path("NetworkManager");
    format!(
        "{link}mkdir -p {state}; mount --bind {state} /var/lib/NetworkManager; \
         mount -t tmpfs none /run; \
         mount -t tmpfs none /etc/NetworkManager; mount -o remount,bind,ro /sys; \
         mkdir /etc/NetworkManager/system-connections; \
         install -m 600 {profile} {shared} /etc/NetworkManager/system-connections; \
         cp {conf} /etc/NetworkManager; \
         dbus-daemon --config-file={bus} --fork --nopidfile; \
         DBUS_SYSTEM_BUS_ADDRESS={address} exec NetworkManager --debug"
    )
}

/// It asks for a prefix where it has a network to share it with. What is for the rest of the
/// prefix goes out again, so that the table has no "yes" for it.
#[test]
fn network_manager_shares_the_prefix_that_it_is_delegated() {
    let stage = Stage::set(Family::V6, Prefix);
    let command = network_manager(&stage.lab, "disabled", "auto", Prefix);
    let _process = stage.lab.start_in_guest("client.log", &command);
    stage.until("a network of the prefix", || {
        stage.lab.guest("ip -6 address show dev lan0").output.contains("fd67:0:0:500::1/64")
    });
    let rest = stage.lab.guest("ip -6 route get fd67:0:0:577::1").output;
    assert!(rest.contains("via fe80::5eff:fe00:1 dev eth0"), "{rest}");
}

fn rdisc6() {
    let stage = Stage::set(Family::Ra, Lease);
    let run = stage.lab.guest("rdisc6 -1 -r 5 -w 1000 eth0");
    assert!(run.ok && run.output.contains("fd66::/64"), "{}", run.output);
}

/// Made for the server's own host, it sends to whichever address of this host's is in the
/// network: to the guest the server's is lent, but for its being delivered there.
fn dhcp_release() {
    let stage = Stage::set(Family::V4, Release);
    let run = stage.lab.guest(&format!(
        "set -e
         ip address add {SERVER}/24 dev eth0
         ip route del table local local {SERVER}
         ip neighbour replace {SERVER} lladdr 02:00:5e:00:00:01 dev eth0
         dhcp_release eth0 {V4_ADDRESS} {MAC}"
    ));
    assert!(run.ok, "{}", run.output);
    stage.is_said(Release);
}

fn dhcp_release6() {
    let stage = Stage::set(Family::V6, Release);
    let run = stage.lab.guest(&format!(
        "dhcp_release6 --iface eth0 --ip {V6_ADDRESS} --iaid 1 \
         --client-id 00:03:00:01:{MAC} --server-id 00:03:00:01:02:00:5e:00:00:01"
    ));
    assert!(run.ok, "{}", run.output);
    stage.is_said(Release);
}
