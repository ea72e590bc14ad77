//! Real clients against the real server, over a veth pair whose far end plays
//! the guest. Everything happens in network namespaces of the test's own.
//!
//! These tests need root and what `berth/host/install.sh tests` installs; where something is
//! missing they fail and say which. Whatever the server says in any of them, Wireshark's
//! decoder has to find nothing wrong with it (`clients/decoder.rs`).

// The whole file is a test, its helpers too.
#![allow(clippy::unwrap_used)]

#[path = "clients/decoder.rs"]
mod decoder;
#[path = "clients/lab.rs"]
mod lab;
#[path = "clients/matrix.rs"]
mod matrix;
#[path = "clients/programs.rs"]
mod programs;
#[path = "clients/scenario.rs"]
mod scenario;
#[path = "clients/wire.rs"]
mod wire;

use std::net::Ipv6Addr;

use dhcp::{Binding, Prefix, Ra, Route4, V4, V6};
use lab::{Lab, eventually};
use net::options::ra::{Preference, RouteInfo};
use net::options::{Clients, Coded};

const MAC: &str = "02:00:5e:10:00:05";
const ROUTER_MAC: &str = "02:00:5e:00:00:01";

fn binding() -> Binding {
    Binding {
        mac: MAC.parse().unwrap(),
        hostname: Some("web".to_owned()),
        v4: Some(V4 {
            gateway: Some([10, 66, 0, 1].into()),
            dns: vec![[10, 66, 0, 53].into(), [10, 66, 0, 54].into()],
            domain: Some("example.com".to_owned()),
            search: vec!["example.com".to_owned(), "eng.example.com".to_owned()],
            mtu: Some(1400),
            routes: vec![Route4 {
                to: "192.0.2.0/24".parse().unwrap(),
                via: [10, 66, 0, 2].into(),
            }],
            ..V4::new([10, 66, 0, 5].into(), 24, [169, 254, 0, 254].into(), 3600)
        }),
        v6: Some(V6 {
            dns: vec!["fd66::53".parse().unwrap()],
            search: vec!["example.com".to_owned(), "eng.example.com".to_owned()],
            server: Some(ROUTER_MAC.parse().unwrap()),
            ..V6::new("fd66::5".parse().unwrap(), 3600)
        }),
        ra: Some(Ra {
            prefixes: vec![Prefix {
                network: "fd66::/64".parse().unwrap(),
                on_link: true,
                autonomous: false,
            }],
            mtu: Some(1400),
            rdnss: vec!["fd66::53".parse().unwrap()],
            dnssl: vec!["example.com".to_owned()],
            min_interval: 3,
            max_interval: 4,
            ..Ra::new(ROUTER_MAC.parse().unwrap())
        }),
    }
}

fn router() -> Ipv6Addr {
    ROUTER_MAC.parse::<net::MacAddr>().unwrap().link_local()
}

/// A client's script that leaves what it was told, one `name=value` a line, in `$OUT`.
const SCRIPT: &str = "#!/bin/sh\ncase \"$1$reason\" in bound|BOUND|BOUND6|RENEW6|REBIND6) env > \"$OUT.new\"; mv \"$OUT.new\" \"$OUT\";; esac\nexit 0\n";

fn udhcpc(lab: &Lab, more: &str) -> bool {
    let script = lab.script("udhcpc.sh", SCRIPT);
    lab.guest(&format!(
        "OUT={out} busybox udhcpc -f -q -n -t 5 -T 1 -i eth0 -s {script} {more}",
        out = lab.path("udhcpc.out"),
    ))
    .ok
}

fn dhclient(lab: &Lab, family: &str) -> String {
    let script = lab.script("dhclient.sh", SCRIPT);
    let out = lab.path(&format!("dhclient{family}.out"));
    let conf = lab.script(
        "dhclient.conf",
        "timeout 15; retry 1;\n\
         option rfc3442 code 121 = array of unsigned integer 8;\n\
         request subnet-mask, routers, domain-name-servers, domain-name, domain-search, host-name,\n\
         interface-mtu, rfc3442, dhcp6.name-servers, dhcp6.domain-search, dhcp6.sntp-servers;\n",
    );
    let (leases, pid) = (lab.path("dhclient.leases"), lab.path("dhclient.pid"));
    let run = lab.guest(&format!(
        "dhclient {family} -1 -d -v -cf {conf} -lf {leases}{family} -pf {pid}{family} \
         -sf {script} -e OUT={out} eth0 2> {out}.log & client=$!; \
         for i in $(seq 150); do [ -s {out} ] && break; sleep 0.1; done; \
         kill $client; wait $client; cat {out}.log >&2; [ -s {out} ]"
    ));
    assert!(run.ok, "dhclient {family} got no lease:\n{}", run.output);
    std::fs::read_to_string(out).unwrap()
}

#[track_caller]
fn told(environment: &str, line: &str) {
    assert!(environment.lines().any(|have| have == line), "no {line:?} in:\n{environment}");
}

#[test]
fn udhcpc_is_told_all_of_its_binding() {
    let lab = Lab::start(binding());
    assert!(udhcpc(&lab, "-O search -O mtu -O staticroutes -O hostname"), "{}", lab.state());
    let environment = std::fs::read_to_string(lab.path("udhcpc.out")).unwrap();
    for line in [
        "ip=10.66.0.5",
        "subnet=255.255.255.0",
        "mask=24",
        "dns=10.66.0.53 10.66.0.54",
        "domain=example.com",
        "search=example.com eng.example.com",
        "hostname=web",
        "mtu=1400",
        "lease=3600",
        "serverid=169.254.0.254",
        "staticroutes=192.0.2.0/24 10.66.0.2 0.0.0.0/0 10.66.0.1",
    ] {
        told(&environment, line);
    }
    let report = lab.report();
    assert!(report.first_ack_v4.is_some() && report.first_ack_v6.is_none(), "{report:?}");
    assert_eq!(lab.counter("berth_dhcp_messages_total", "ack"), 1.0);
}

fn coded(code: u16, value: &str) -> Coded {
    Coded { code, value: value.parse().unwrap(), only: Clients::default() }
}

#[test]
fn udhcpc_is_told_the_options_that_a_binding_brings_by_number() {
    let mut more = binding();
    let v4 = more.v4.as_mut().unwrap();
    v4.next_server = Some([10, 66, 0, 9].into());
    v4.options = vec![
        coded(2, "i32:-18000"),
        coded(42, "ip:10.66.0.7;10.66.0.8"),
        coded(66, "text:boot.example"),
        coded(67, "text:pxelinux.0"),
        coded(252, "text:http://wpad.example/wpad.dat"),
        coded(240, "hex:0104ff"),
    ];
    let lab = Lab::start(more);
    let wanted = "-O timezone -O ntpsrv -O tftp -O bootfile -O wpad -O 240 -F ours.example";
    assert!(udhcpc(&lab, wanted), "{}", lab.state());
    let environment = std::fs::read_to_string(lab.path("udhcpc.out")).unwrap();
    for line in [
        // busybox takes it for a number without a sign.
        "timezone=4294949296",
        "ntpsrv=10.66.0.7 10.66.0.8",
        "tftp=boot.example",
        "bootfile=pxelinux.0",
        "wpad=http://wpad.example/wpad.dat",
        "opt240=0104ff",
        "siaddr=10.66.0.9",
        "boot_file=pxelinux.0",
        "sname=boot.example",
        // O, N, no labels: web.example.com, and DNS is the guest's own affair.
        "opt81=0affff7765622e6578616d706c652e636f6d",
    ] {
        told(&environment, line);
    }
}

#[test]
fn dhclient_is_told_the_options_that_a_binding_brings_by_number() {
    let mut more = binding();
    more.v4.as_mut().unwrap().always = vec![42, 100, 33];
    more.v4.as_mut().unwrap().options = vec![
        coded(42, "ip:10.66.0.7"),
        coded(100, "text:CET-1CEST"),
        coded(33, "ip:10.67.0.5;10.66.0.2"),
    ];
    let v6 = more.v6.as_mut().unwrap();
    v6.options = vec![coded(31, "ip:fd66::7")];
    let lab = Lab::start(more);
    let environment = dhclient(&lab, "-4");
    told(&environment, "new_ntp_servers=10.66.0.7");
    told(&environment, "new_pcode=CET-1CEST");
    told(&environment, "new_static_routes=10.67.0.5 10.66.0.2");
    told(&dhclient(&lab, "-6"), "new_dhcp6_sntp_servers=fd66::7");
}

#[test]
fn rdisc6_is_told_routes_and_preference() {
    let mut quiet = binding();
    let ra = quiet.ra.as_mut().unwrap();
    (ra.max_interval, ra.preference) = (0, Preference::High);
    let to = "fd01::/48".parse().unwrap();
    ra.routes = vec![RouteInfo { to, preference: Preference::Low }];
    // Of these it knows nothing, and goes on behind them.
    ra.pref64 = vec!["64:ff9b::/96".parse().unwrap()];
    ra.encrypted_dns = vec!["1 dns.example fd66::53 alpn=dot".to_owned().try_into().unwrap()];
    let lab = Lab::start(quiet);
    let run = lab.guest("rdisc6 -1 -r 5 -w 1000 eth0");
    assert!(run.ok, "{}\n{}", run.output, lab.state());
    let words = |line: &str| line.split_whitespace().collect::<Vec<_>>().join(" ");
    let lines: Vec<String> = run.output.lines().map(words).collect();
    for line in [
        "Router preference : high",
        "Route : fd01::/48",
        "Route preference : low",
        "Route lifetime : 1800 (0x00000708) seconds",
    ] {
        assert!(lines.iter().any(|have| have == line), "no {line:?} in:\n{}", run.output);
    }
}

#[test]
fn a_client_that_asks_for_a_foreign_address_ends_with_its_own() {
    let lab = Lab::start(binding());
    // udhcpc asks for it in its DISCOVER and takes what the OFFER says.
    assert!(udhcpc(&lab, "-r 10.66.0.77"), "{}", lab.state());
    told(&std::fs::read_to_string(lab.path("udhcpc.out")).unwrap(), "ip=10.66.0.5");
}

#[test]
fn dhclient_takes_its_dhcpv4_lease() {
    let lab = Lab::start(binding());
    let environment = dhclient(&lab, "-4");
    for line in [
        "new_ip_address=10.66.0.5",
        "new_subnet_mask=255.255.255.0",
        "new_domain_name_servers=10.66.0.53 10.66.0.54",
        "new_domain_name=example.com",
        "new_domain_search=example.com. eng.example.com.",
        "new_host_name=web",
        "new_interface_mtu=1400",
        "new_dhcp_lease_time=3600",
        "new_dhcp_renewal_time=1800",
        "new_dhcp_rebinding_time=3150",
        "new_dhcp_server_identifier=169.254.0.254",
        "new_rfc3442=24 192 0 2 10 66 0 2 0 10 66 0 1",
    ] {
        told(&environment, line);
    }
}

#[test]
fn a_rebooting_dhclient_with_a_foreign_lease_is_refused_and_starts_anew() {
    let lab = Lab::start(binding());
    lab.script(
        "dhclient.leases-4",
        "lease { interface \"eth0\"; fixed-address 10.66.0.77; option subnet-mask 255.255.255.0;\n\
         option dhcp-lease-time 86400; option dhcp-message-type 5;\n\
         option dhcp-server-identifier 169.254.0.254;\n\
         renew never; rebind never; expire never; }\n",
    );
    told(&dhclient(&lab, "-4"), "new_ip_address=10.66.0.5");
    assert_eq!(lab.counter("berth_dhcp_messages_total", "nak"), 1.0);
}

#[test]
fn dhclient_renews_by_unicast_through_its_kernel() {
    let mut short = binding();
    // T1 after 5 seconds, T2 after 9: the second ACK comes from the renewal.
    short.v4.as_mut().unwrap().lease = 10;
    let lab = Lab::start(short);
    let configure = lab.script(
        "configure.sh",
        "#!/bin/sh\n[ \"$reason\" = BOUND ] || exit 0\n\
         ip address add 10.66.0.5/24 dev eth0\n\
         ip neighbour replace 169.254.0.254 lladdr 02:00:5e:00:00:01 dev eth0\n\
         ip route replace 169.254.0.254 dev eth0\n",
    );
    let (leases, pid) = (lab.path("renewing.leases"), lab.path("renewing.pid"));
    let acks = lab.guest(&format!(
        "timeout 8 dhclient -4 -1 -d -v -cf /dev/null -lf {leases} -pf {pid} -sf {configure} eth0"
    ));
    let to_server =
        acks.output.matches("DHCPREQUEST for 10.66.0.5 on eth0 to 169.254.0.254").count();
    assert_eq!(to_server, 1, "{}", acks.output);
    assert_eq!(lab.counter("berth_dhcp_messages_total", "ack"), 2.0, "{}", acks.output);
}

/// Runs dhclient until what it was told holds, and changes what it is told in the meantime.
fn hears_of_a_change(lab: &Lab, family: &str, changed: Binding, wanted: &str) {
    let out = lab.path("changing.out");
    let configure = lab.script(
        "changing.sh",
        "#!/bin/sh\ncase \"$reason\" in\n\
         BOUND) ip address add 10.66.0.5/24 dev eth0\n\
         ip neighbour replace 169.254.0.254 lladdr 02:00:5e:00:00:01 dev eth0\n\
         ip route replace 169.254.0.254 dev eth0;;\n\
         RENEW|RENEW6) env > \"$OUT.new\"; mv \"$OUT.new\" \"$OUT\";; esac\nexit 0\n",
    );
    let (leases, pid) = (lab.path("changing.leases"), lab.path("changing.pid"));
    let given = if family == "-4" { "ack" } else { "reply" };
    let hears = |out: &str| {
        let heard = std::fs::read_to_string(out).unwrap_or_default();
        heard.lines().any(|line| line == wanted)
    };
    std::thread::scope(|scope| {
        let client = scope.spawn(|| {
            lab.guest(&format!(
                "timeout 15 dhclient {family} -1 -d -v -cf /dev/null -lf {leases} -pf {pid} \
                 -sf {configure} -e OUT={out} eth0"
            ))
        });
        eventually("a lease", || lab.counter("berth_dhcp_messages_total", given) > 0.0);
        lab.set(changed);
        eventually("the change in the guest", || hears(&out) || client.is_finished());
        let _ = lab.guest(&format!("kill $(cat {pid})"));
        let said = client.join().unwrap();
        assert!(hears(&out), "{}", said.output);
    });
}

#[test]
fn a_changed_name_server_reaches_a_running_guest_with_its_next_renewal() {
    let mut short = binding();
    // T1 after 5 seconds.
    short.v4.as_mut().unwrap().lease = 10;
    let mut changed = short.clone();
    changed.v4.as_mut().unwrap().dns = vec![[10, 66, 0, 99].into()];
    let lab = Lab::start(short);
    hears_of_a_change(&lab, "-4", changed, "new_domain_name_servers=10.66.0.99");
}

#[test]
fn a_changed_name_server_reaches_a_running_guest_with_its_next_dhcpv6_renewal() {
    let mut short = binding();
    // T1 after 3 seconds.
    let v6 = short.v6.as_mut().unwrap();
    (v6.lease, v6.server) = (10, None);
    let mut changed = short.clone();
    changed.v6.as_mut().unwrap().dns = vec!["fd66::99".parse().unwrap()];
    // Nor does the server become another one with the end of its router.
    changed.ra = None;
    let lab = Lab::start(short);
    hears_of_a_change(&lab, "-6", changed, "new_dhcp6_name_servers=fd66::99");
}

#[test]
fn a_renewal_to_a_server_of_another_name_by_now_is_answered_at_once() {
    let mut short = binding();
    short.v4.as_mut().unwrap().lease = 10;
    let mut changed = short.clone();
    changed.v4.as_mut().unwrap().server = [10, 66, 0, 1].into();
    let lab = Lab::start(short);
    hears_of_a_change(&lab, "-4", changed, "new_dhcp_server_identifier=10.66.0.1");
    // At T1 and not at T2.
    assert_eq!(lab.counter("berth_dhcp_ignored_total", "other_destination"), 0.0);
}

#[test]
fn tagged_frames_and_fragments_are_counted_and_not_answered() {
    let lab = Lab::start(binding());
    // One tag of each kind, and one under another; what is for no server is not even looked at.
    let tags: [&[u16]; 5] = [&[0x8100], &[0x88a8], &[0x9100], &[0x88a8, 0x8100], &[0x8100, 0x8100]];
    for tags in tags {
        lab.tagged(tags, 7);
        lab.tagged(tags, 67);
    }
    eventually("the tagged frames", || lab.counter("berth_dhcp_ignored_total", "tagged") == 5.0);
    // Of each datagram three: the first, and those that name no port.
    assert!(lab.guest("ip address add 10.66.0.5/24 dev eth0; ip route add default dev eth0").ok);
    lab.fragments();
    eventually("the fragments", || lab.counter("berth_dhcp_ignored_total", "fragment") >= 6.0);
    assert_eq!(lab.counter("berth_dhcp_ignored_total", "tagged"), 5.0);
}

#[test]
fn dhclient_takes_its_dhcpv6_lease() {
    let lab = Lab::start(binding());
    let environment = dhclient(&lab, "-6");
    for line in [
        "new_ip6_address=fd66::5",
        "new_max_life=3600",
        "new_preferred_life=2250",
        "new_renew=1125",
        "new_rebind=1800",
        "new_dhcp6_name_servers=fd66::53",
        "new_dhcp6_domain_search=example.com. eng.example.com.",
        "new_dhcp6_server_id=0:3:0:1:2:0:5e:0:0:1",
    ] {
        told(&environment, line);
    }
    let report = lab.report();
    assert!(report.first_ack_v6.is_some() && report.first_ack_v4.is_none(), "{report:?}");
}

#[test]
fn rdisc6_gets_the_router_it_solicits() {
    let mut quiet = binding();
    quiet.ra.as_mut().unwrap().max_interval = 0;
    let lab = Lab::start(quiet);
    let run = lab.guest("rdisc6 -1 -r 5 -w 1000 eth0");
    assert!(run.ok, "{}\n{}", run.output, lab.state());
    let lines: Vec<String> = run
        .output
        .lines()
        .map(|line| line.split_whitespace().collect::<Vec<_>>().join(" "))
        .collect();
    for line in [
        "Hop limit : 64 ( 0x40)",
        "Stateful address conf. : Yes",
        "Stateful other conf. : Yes",
        "Router lifetime : 1800 (0x00000708) seconds",
        "Prefix : fd66::/64",
        "On-link : Yes",
        "Autonomous address conf.: No",
        "MTU : 1400 bytes (valid)",
        "Source link-layer address: 02:00:5E:00:00:01",
        "Recursive DNS server : fd66::53",
        "DNS search list : example.com",
        &format!("from {}", router()),
    ] {
        assert!(lines.iter().any(|have| have == line), "no {line:?} in:\n{}", run.output);
    }
    // The kernel solicits as well, when the interface comes up.
    eventually("the advertisement to be counted", || lab.report().ra_sent >= 1);
}

#[test]
fn the_guests_kernel_takes_its_default_route_from_the_periodic_advertisement() {
    let lab = Lab::start_with(binding(), "sysctl -qw net.ipv6.conf.eth0.accept_ra=2");
    let wanted = format!("default via {} dev eth0", router());
    eventually("a default route", || {
        lab.guest("ip -6 route show default").output.contains(&wanted)
    });
    assert!(lab.guest("ip -6 route show default").output.contains("mtu 1400"));
    // M=1 and A=0: the prefix is on the link, and no address is made up in it.
    assert!(lab.guest("ip -6 route").output.contains("fd66::/64 dev eth0"));
    assert!(!lab.guest("ip -6 address show dev eth0").output.contains("fd66:"));
    let before = lab.report().ra_sent;
    eventually("another advertisement", || lab.report().ra_sent > before);
}

#[test]
fn a_withdrawn_router_is_forgotten_at_once() {
    let lab = Lab::start_with(binding(), "sysctl -qw net.ipv6.conf.eth0.accept_ra=2");
    let has_route = || lab.guest("ip -6 route show default").output.contains("default via");
    eventually("a default route", has_route);
    lab.set(Binding { ra: None, ..binding() });
    eventually("no default route", || !has_route());
}

#[test]
fn a_guest_with_another_mac_address_gets_nothing() {
    let lab = Lab::start(binding());
    assert!(lab.guest("ip link set eth0 down && ip link set eth0 address 02:00:5e:10:00:66 && ip link set eth0 up").ok);
    assert!(!udhcpc(&lab, ""), "a foreign MAC address got a lease");
    assert!(lab.counter("berth_dhcp_ignored_total", "foreign_mac") > 0.0);
    assert_eq!(lab.counter("berth_dhcp_messages_total", "offer"), 0.0);
}

#[test]
fn guests_behind_one_interface_are_each_answered_from_their_own_binding() {
    let lab = Lab::start(binding());
    let mut other = binding();
    other.mac = "02:00:5e:10:00:06".parse().unwrap();
    other.v4.as_mut().unwrap().address = [10, 66, 0, 6].into();
    lab.set_other("mail.default", other);
    let becomes = |mac: &str| {
        let change = format!("ip link set eth0 address {mac}");
        assert!(lab.guest(&format!("ip link set eth0 down; {change}; ip link set eth0 up")).ok);
    };
    let gets = |ip: &str| {
        assert!(udhcpc(&lab, ""), "{}", lab.state());
        let environment = std::fs::read_to_string(lab.path("udhcpc.out")).unwrap();
        told(&environment, &format!("ip={ip}"));
    };
    gets("10.66.0.5");
    becomes("02:00:5e:10:00:06");
    gets("10.66.0.6");
    // One that goes takes neither the socket nor the other with it.
    lab.remove_other("mail.default");
    assert!(!udhcpc(&lab, ""), "who is not served any more got a lease");
    becomes(MAC);
    gets("10.66.0.5");
}

#[test]
fn an_interface_that_is_made_anew_is_served_again() {
    let lab = Lab::start(binding());
    assert!(udhcpc(&lab, ""), "{}", lab.state());
    lab.unplug();
    eventually("the port to be closed", || !lab.report().open);
    lab.plug("true");
    eventually("the port to be open", || lab.report().open);
    assert!(udhcpc(&lab, ""), "{}", lab.state());
}

#[test]
fn a_port_set_before_its_interface_is_served_when_it_comes() {
    let lab = Lab::without_interface(binding());
    assert!(!lab.report().open);
    lab.plug("true");
    lab.opened();
    assert!(udhcpc(&lab, ""), "{}", lab.state());
}

#[test]
fn a_removed_port_is_silent_until_it_is_set_again() {
    let lab = Lab::start(binding());
    lab.remove();
    assert!(!udhcpc(&lab, ""), "a removed port got a lease");
    lab.set(binding());
    eventually("the port to be open", || lab.report().open);
    assert!(udhcpc(&lab, ""), "{}", lab.state());
}

#[test]
fn a_port_removed_and_set_in_one_breath_goes_on_with_a_new_report() {
    let lab = Lab::start(binding());
    assert!(udhcpc(&lab, ""), "{}", lab.state());
    lab.remove();
    lab.set(binding());
    lab.opened();
    assert_eq!(lab.report().first_ack_v4, None);
    assert!(udhcpc(&lab, ""), "{}", lab.state());
}

#[test]
fn a_flooded_interface_is_not_read_all_the_time() {
    const FRAMES: u32 = 40_000;
    let lab = Lab::start(binding());
    lab.flood(FRAMES);
    // Who behaves again is heard again.
    assert!(udhcpc(&lab, ""), "{}", lab.state());
    let read = lab.counter("berth_dhcp_rate_limited_total", "");
    assert!(read < f64::from(FRAMES) / 2.0, "{read} of {FRAMES} were read");
}

#[test]
fn a_flood_is_cut_to_the_ports_limit() {
    let lab = Lab::start(binding());
    // Far more than a port's burst, faster than its rate: it is the number that counts.
    lab.flood(500);
    eventually("a cut", || lab.counter("berth_dhcp_rate_limited_total", "") > 0.0);
    // What was cut is not owed: the client that behaves again is served.
    assert!(udhcpc(&lab, ""), "{}", lab.state());
}
