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
