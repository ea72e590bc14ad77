//! What cannot be, and the words in which whoever writes it is told.

use serde_json::{Value, json};
use tests::kinds::{CLAIM, IP, Kind, POOL, SUBNET, VIP, VM, VMI, VPC};
use tests::objects::Vm;

use crate::attachments::attached;
use crate::schema_rules;

/// An object that cannot be, and what its refusal says.
pub(super) struct Bad {
    pub(super) kind: Kind,
    pub(super) object: Value,
    /// The field, what stands there, and what to write instead.
    pub(super) words: Vec<String>,
    /// Whether its condition says the same: a schema has words of its own.
    pub(super) same_words: bool,
}

impl Bad {
    /// What its condition says: the field and what stands there, whoever speaks.
    pub(super) fn told_of_it(&self) -> impl Iterator<Item = &String> {
        let spec = self.object["spec"].to_string();
        let written = move |word: &String| spec.contains(word.as_str());
        let first = self.words.first();
        self.words.iter().filter(move |one| self.same_words || first == Some(*one) || written(one))
    }
}

/// Those that a server refuses by itself, and those that it must ask about: beside what
/// [`stage`](super::stage) has made.
pub(super) fn table() -> Vec<Bad> {
    let of_schemas = schema_rules::table().into_iter();
    let of_schemas = of_schemas.map(|(kind, (_, spec, words))| (kind, spec, words, false));
    let reviewed = networks().into_iter().chain(addresses());
    let specs = of_schemas.chain(reviewed.map(|(kind, spec, words)| (kind, spec, words, true)));
    let objects = specs.map(|(kind, spec, words, same_words)| {
        (kind, schema_rules::object(kind, "", &spec), words, same_words)
    });
    let machines = machines().into_iter().map(|(vm, words)| (VM, vm, words, true));
    let instances = instances().into_iter().map(|(one, words)| (VMI, one, words, true));
    let claims = claims().into_iter().map(|(spec, words, same_words)| {
        (CLAIM, schema_rules::object(CLAIM, "", &spec), words, same_words)
    });
    let all = objects.chain(machines).chain(instances).chain(claims).enumerate();
    all.map(|(at, (kind, mut object, words, same_words))| {
        // A network of its own, so that it is told what is wrong with it and not that it
        // overlaps another one of the table.
        let own = |text: &str| text.replace("10.1.0", &format!("172.20.{at}"));
        let spec = own(&object["spec"].to_string());
        object["spec"] = serde_json::from_str(&spec).expect("it was JSON before");
        let name = format!("bad-{at}");
        // The name of an IP object says of which port of its VM it is.
        let of_port = object["spec"]["podName"]
            .as_str()
            .filter(|pod| kind.resource().kind == "IP" && pod.len() < 64);
        let name = of_port.map(|pod| format!("{pod}.default.{name}")).unwrap_or(name);
        object["metadata"]["name"] = name.into();
        let words = words.iter().map(|word| own(word)).collect();
        Bad { kind, object, words, same_words }
    })
    .collect()
}

type Spec = (Kind, Value, &'static [&'static str]);

fn networks() -> Vec<Spec> {
    let net = "10.91.0.0/24";
    let of = |net: &str, field: &str, value: Value| {
        let mut spec = json!({"vpc": "stage", "cidrBlock": net});
        spec[field] = value;
        spec
    };
    let with = |field: &str, value: Value| of(net, field, value);
    // These are in force all the same, so they may not overlap.
    let [other, third] = ["10.93.0.0/24", "10.94.0.0/24"];
    let acl = json!([{"direction": "to-lport", "priority": 1, "match": " ", "action": "drop"}]);
    let selector = json!([{"matchExpressions": [{"key": "a", "operator": "Is"}]}]);
    let route = |cidr: &str, hop: &str| json!({"staticRoutes": [{"cidr": cidr, "nextHopIP": hop}]});
    let policy = |matches: &str, action: &str, hop: &str| json!({"policyRoutes": [{"priority": 1, "match": matches, "action": action, "nextHopIP": hop}]});
    let peering = |addresses: &[&str]| {
        let one = |one: &&str| json!({"remoteVpc": "stage", "localConnectIP": one});
        json!({"vpcPeerings": addresses.iter().map(one).collect::<Vec<_>>()})
    };
    let six = json!({"vpc": "stage", "cidrBlock": "fd91::/64", "mtu": 1000});
    vec![
        (SUBNET, json!({"vpc": "stage"}), &["spec.cidrBlock", "write a network"]),
        (
            SUBNET,
            with("cidrBlock", json!("10.91.0.0/24,10.92.0.0/24")),
            &["10.92.0.0/24", "one family"],
        ),
        (
            SUBNET,
            with("cidrBlock", json!("10.91.0.0/31")),
            &["spec.cidrBlock", "10.91.0.0/31", "/30"],
        ),
        (
            SUBNET,
            with("cidrBlock", json!("10.90.0.128/25")),
            &["spec.cidrBlock", "10.90.0.128/25", "overlaps", "held"],
        ),
        (
            SUBNET,
            json!({"cidrBlock": "10.100.0.0/16"}),
            &["spec.cidrBlock", "10.100.0.0/16", "10.96.0.0/12", "--service-cluster-ip-range"],
        ),
        (
            SUBNET,
            json!({"cidrBlock": "100.64.9.0/24"}),
            &["spec.cidrBlock", "100.64.9.0/24", "100.64.0.0/16", "choose a network"],
        ),
        (
            SUBNET,
            json!({"vpc": "bound", "cidrBlock": "10.98.0.0/24", "namespaces": ["mine", "other"]}),
            &["spec.namespaces[1]", "other", "spec.namespaces of Vpc", "add it there"],
        ),
        (
            SUBNET,
            json!({"cidrBlock": "10.86.0.0/24"}),
            &["spec.cidrBlock", "10.86.0.0/24", "10.86.0.7", "Node \"far\"", "choose a network"],
        ),
        (SUBNET, with("gateway", json!("10.92.0.1")), &["spec.gateway", "10.92.0.1", "choose"]),
        (SUBNET, with("gateway", json!("10.91.0.0")), &["spec.gateway", "10.91.0.0", "choose"]),
        (SUBNET, with("gateway", json!("10.91.0.255")), &["spec.gateway", "10.91.0.255", "choose"]),
        (
            SUBNET,
            with("gateway", json!("10.91.0.1,10.91.0.2")),
            &["spec.gateway", "10.91.0.1,10.91.0.2", "one of each"],
        ),
        (SUBNET, with("protocol", json!("IPv6")), &["spec.protocol", "IPv6", "leave protocol out"]),
        (SUBNET, with("protocol", json!("Dual")), &["spec.protocol", "Dual", "leave protocol out"]),
        (SUBNET, with("mtu", json!(100)), &["spec.mtu", "100", "at least 1280"]),
        (SUBNET, six, &["spec.mtu", "1000", "at least 1280"]),
        (
            SUBNET,
            with("vips", json!(["10.1.1.1"])),
            &["spec.vips[0]", "10.1.1.1", "write an address"],
        ),
        (
            SUBNET,
            of(other, "vips", json!(["10.93.0.1"])),
            &["spec.vips[0]", "10.93.0.1", "write another"],
        ),
        (
            SUBNET,
            with("allowSubnets", json!(["x"])),
            &["spec.allowSubnets[0]", "x", "write a network"],
        ),
        (
            SUBNET,
            with("excludeIps", json!(["10.91.0.9..10.91.0.1"])),
            &["spec.excludeIps", "10.91.0.9"],
        ),
        (SUBNET, with("acls", acl), &["spec.acls[0].match", "write an expression"]),
        (
            SUBNET,
            with(
                "acls",
                json!([{"direction": "to-lport", "priority": 1, "match": "((((", "action": "drop"}]),
            ),
            &["spec.acls[0].match", "((((", "is not closed", "write an expression"],
        ),
        (
            SUBNET,
            with("cidrBlock", json!("224.0.0.0/24")),
            &["spec.cidrBlock", "224.0.0.0/24", "multicast", "choose a network"],
        ),
        (
            SUBNET,
            with("cidrBlock", json!("fe80::/64")),
            &["spec.cidrBlock", "fe80::/64", "one link", "choose a network"],
        ),
        (
            SUBNET,
            of("10.89.0.0/24", "u2oInterconnectionIP", json!("10.88.0.9")),
            &["spec.u2oInterconnectionIP", "10.88.0.9", "write an address in spec.cidrBlock"],
        ),
        (SUBNET, of(third, "namespaceSelectors", selector), &["spec.namespaceSelectors[0]", "Is"]),
        (
            SUBNET,
            of("10.95.0.0/24", "dhcpV4Options", json!("lease_time=600,dns=10.95.0.53")),
            &["spec.dhcpV4Options", "dns=10.95.0.53", "write dns_server"],
        ),
        (
            SUBNET,
            of("fd95::/64", "dhcpV6Options", json!("dns_server=10.95.0.53")),
            &["spec.dhcpV6Options", "dns_server=10.95.0.53", "write IPv6 addresses"],
        ),
        (
            SUBNET,
            of("fd97::/64", "dhcpV6PrefixDelegation", json!({"cidrBlock": "10.97.0.0/24"})),
            &["spec.dhcpV6PrefixDelegation", "10.97.0.0/24", "write one such as fd10::/48"],
        ),
        (
            SUBNET,
            of("fd97::/64", "dhcpV6PrefixDelegation", json!({"cidrBlock": "fd98::/64"})),
            &["spec.dhcpV6PrefixDelegation", "fd98::/64", "a length from 65 to 126"],
        ),
        (
            SUBNET,
            of("fd97::/64", "dhcpV6PrefixDelegation", json!({"cidrBlock": "fd97::/32"})),
            &["spec.dhcpV6PrefixDelegation", "fd97::/32", "overlaps", "choose a network"],
        ),
        (
            SUBNET,
            of("10.97.0.0/24", "dhcpV6PrefixDelegation", json!({"cidrBlock": "fd98::/48"})),
            &["spec.dhcpV6PrefixDelegation", "10.97.0.0/24", "add an IPv6 network"],
        ),
        (
            SUBNET,
            of("fd96::/112", "ipv6RAConfigs", json!("address_mode=slaac")),
            &["spec.ipv6RAConfigs", "fd96::/112", "write address_mode=dhcpv6_stateful"],
        ),
        (
            SUBNET,
            of("10.96.0.0/24", "externalEgressGateway", json!("10.96.0.9,gw")),
            &["spec.externalEgressGateway", "10.96.0.9,gw", "of each family"],
        ),
        (
            SUBNET,
            of(
                "10.97.0.0/24",
                "natOutgoingPolicyRules",
                json!([{"action": "forward", "match": {"srcIPs": "10.97.0.0/25,fd00::/64"}}]),
            ),
            &["spec.natOutgoingPolicyRules[0].match.srcIPs", "fd00::/64", "of one family"],
        ),
        (
            VPC,
            route("10.0.0.0/33", "10.0.0.1"),
            &["spec.staticRoutes[0].cidr", "10.0.0.0/33", "write a network"],
        ),
        (
            VPC,
            route("10.0.0.0/8", "x"),
            &["spec.staticRoutes[0].nextHopIP", "x", "write one address"],
        ),
        (
            VPC,
            peering(&["169.254.0.1"]),
            &["spec.vpcPeerings[0].localConnectIP", "169.254.0.1", "with its prefix length"],
        ),
        (
            VPC,
            peering(&["169.254.0.1/30", "169.254.1.1/30"]),
            &["spec.vpcPeerings[1].remoteVpc", "stage", "remove one of them"],
        ),
        (
            VPC,
            policy("ip4.src == $", "drop", ""),
            &["spec.policyRoutes[0].match", "ip4.src == $", "names nothing", "write an expression"],
        ),
        (
            VPC,
            json!({"defaultSubnet": "held"}),
            &["spec.defaultSubnet", "held", "of Vpc \"stage\"", "name one of this vpc"],
        ),
        (VPC, policy(" ", "drop", ""), &["spec.policyRoutes[0].match", "write an expression"]),
        (
            VPC,
            policy("ip4", "reroute", "x"),
            &["spec.policyRoutes[0].nextHopIP", "x", "write one address"],
        ),
    ]
}

fn addresses() -> Vec<Spec> {
    let pool = |ips: &str| json!({"subnet": "held", "ips": [ips]});
    let vip = |field: &str, value: Value| {
        let mut spec = json!({"subnet": "held"});
        spec[field] = value;
        spec
    };
    let ip = |field: &str, value: &str| {
        let mut spec = json!({"subnet": "held", "podName": "later", "namespace": "default"});
        spec[field] = value.into();
        spec
    };
    vec![
        (POOL, pool("10.99.0.5"), &["spec.ips[0]", "10.99.0.5", "10.90.0.0/24"]),
        (POOL, pool("10.90.0.1"), &["spec.ips[0]", "10.90.0.1", "leave it out"]),
        (POOL, pool("10.90.0.60"), &["spec.ips[0]", "10.90.0.60", "spec.vips", "write others"]),
        (
            POOL,
            pool("10.90.0.9..10.90.0.7"),
            &["spec.ips[0]", "10.90.0.9..10.90.0.7", "lower address first"],
        ),
        (POOL, pool("10.90.0.40"), &["spec.ips[0]", "10.90.0.40", "named"]),
        (VIP, vip("v4ip", json!("10.99.0.5")), &["spec.v4ip", "10.99.0.5", "10.90.0.0/24"]),
        (VIP, vip("v4ip", json!("10.90.0.1")), &["10.90.0.1", "gateway", "choose another"]),
        (VIP, vip("v4ip", json!("10.90.0.5")), &["10.90.0.5", "holder.default", "choose another"]),
        (
            VIP,
            vip("macAddress", json!("01:00:5e:00:00:01")),
            &["spec.macAddress", "01:00:5e:00:00:01", "one station"],
        ),
        (
            VIP,
            vip("macAddress", json!("02:00:00:00:90:05")),
            &["spec.macAddress", "02:00:00:00:90:05", "holder.default", "choose another"],
        ),
        (VIP, vip("selector", json!(["web"])), &["spec.selector[0]", "web", "key:value"]),
        (VIP, vip("selector", json!(["app:web"])), &["spec.namespace", "name it"]),
        (
            IP,
            ip("v4IpAddress", "10.99.0.5"),
            &["spec.v4IpAddress", "10.99.0.5", "write an address of it"],
        ),
        (
            IP,
            ip("ipAddress", "10.90.0.78,10.90.0.79"),
            &["spec.ipAddress", "10.90.0.79", "one address of each family"],
        ),
        (IP, ip("v4IpAddress", "10.90.0.5"), &["spec.v4IpAddress", "10.90.0.5", "holder.default"]),
        (
            IP,
            ip("macAddress", "02:00:00:00:90:05"),
            &["spec.macAddress", "02:00:00:00:90:05", "holder.default"],
        ),
        (IP, ip("macAddress", "x"), &["spec.macAddress", "write a MAC address"]),
    ]
}

fn machines() -> Vec<(Value, &'static [&'static str])> {
    let with = |field: &str, text: &str| {
        Vm::named("").on("held").annotated(&format!("ovn.kubernetes.io/{field}"), text).object()
    };
    let listed = |list: &str| {
        Vm::named("").on("held").annotated("k8s.v1.cni.cncf.io/networks", list).object()
    };
    let mut twice = with("ip_address", "10.90.0.77");
    twice["spec"]["running"] = true.into();
    vec![
        (twice, &["Running and RunStrategy", "mutually exclusive"]),
        (with("ip_address", "10.99.0.5"), &["ip_address", "10.99.0.5", "10.90.0.0/24", "choose"]),
        (with("ip_address", "10.90.0.five"), &["ip_address", "10.90.0.five", "write 10.0.0.5"]),
        (
            with("ip_address", "10.90.0.8,10.90.0.9"),
            &["ip_address", "10.90.0.8,10.90.0.9", "one of each"],
        ),
        (with("ip_address", "10.90.0.1"), &["10.90.0.1", "gateway", "choose another"]),
        (with("ip_address", "10.90.0.255"), &["10.90.0.255", "network's own", "choose another"]),
        (with("ip_address", "10.90.0.5"), &["10.90.0.5", "holder.default", "choose another"]),
        (with("ip_address", "10.90.0.6"), &["10.90.0.6", "Vip floating", "choose another"]),
        (
            with("mac_address", "01:00:5e:00:00:01"),
            &["mac_address", "01:00:5e:00:00:01", "write another"],
        ),
        (with("mac_address", "02:00"), &["mac_address", "02:00"]),
        (
            with("mac_address", "02:00:00:00:90:05"),
            &["02:00:00:00:90:05", "is used by", "choose another"],
        ),
        (
            with("mac_address", "02:00:00:00:90:06"),
            &["02:00:00:00:90:06", "is used by Vip floating", "choose another"],
        ),
        (with("ip_pool", "10.90.0.5;x y"), &["ip_pool", "x y", "write 10.0.0.5"]),
        (with("ip_pool", "10.0.0.0..10.0.9.9"), &["ip_pool", "10.0.0.0..10.0.9.9", "1024"]),
        (with("ip_pool", "10.99.0.5,10.99.0.6"), &["ip_pool", "10.99.0.5", "10.90.0.0/24"]),
        (with("ip_family", "ipv5"), &["ip_family", "ipv5", "write ipv4 or ipv6"]),
        (with("ip_family", "ipv6"), &["ip_family", "10.90.0.0/24", "another subnet"]),
        (with("port_security", "maybe"), &["port_security", "maybe", "write"]),
        (with("layer2_forward", "yes"), &["layer2_forward", "yes", "write"]),
        (with("port_vips", "x"), &["port_vips", "x", "write"]),
        (with("port_vips", "0.0.0.0/0"), &["port_vips", "0.0.0.0/0", "port_security"]),
        (with("aaps", "a,,b"), &["aaps", "a,,b", "commas between"]),
        (with("aaps", &vec!["a"; 300].join(",")), &["aaps", "more than 256 Vips", "list fewer"]),
        (with("port_vips", &vec!["10.9.0.9"; 300].join(",")), &["port_vips", "more than 256"]),
        (with("ip_address", &"10.90.0.77,".repeat(9000)), &["ip_address", "99000 bytes long"]),
        (listed("[{"), &["k8s.v1.cni.cncf.io/networks", "cannot be read", "write a list"]),
        (
            listed("[{\"name\": \"net2\", \"ips\": [\"10.90.0.9\"]}]"),
            &["k8s.v1.cni.cncf.io/networks [0].name", "net2", "spec.networks"],
        ),
        (with("ingress_rate", "10M"), &["ingress_rate", "10M", "write one of Mbit/s"]),
        (with("egress_rate", "1.5"), &["egress_rate", "1.5", "write one of Mbit/s"]),
        (with("egress_burst", "fast"), &["egress_burst", "fast", "write one of Mbit/s"]),
        (
            listed("[{\"name\": \"net2\", \"ipam-claim-reference\": \"kept\"}]"),
            &["k8s.v1.cni.cncf.io/networks [0].name", "net2", "spec.networks"],
        ),
        (
            attached(
                &Vm::named("")
                    .on("held")
                    .annotated(
                        "k8s.v1.cni.cncf.io/networks",
                        "[{\"name\": \"quay\", \"ipam-claim-reference\": \"kept\"}]",
                    )
                    .annotated("quay.default.ovn.kubernetes.io/ip_pool", "10.90.0.9"),
                &["more"],
            ),
            &["ipam-claim-reference", "an IPAMClaim", "ip_pool", "leave one of the two out"],
        ),
        (
            with("dhcp-v4-options", "tcp_ttl=9,mtu=big"),
            &["dhcp-v4-options", "mtu=big", "write a number"],
        ),
    ]
}

/// What an instance without a VM says of its network; it is told where it is to run.
fn instances() -> Vec<(Value, &'static [&'static str])> {
    let with = |field: &str, text: &str| {
        let key = format!("ovn.kubernetes.io/{field}");
        let vm = Vm::named("").on("held").annotated(&key, text).object();
        let template = &vm["spec"]["template"];
        json!({
            "apiVersion": "kubevirt.io/v1", "kind": "VirtualMachineInstance",
            "metadata": {"namespace": "default", "annotations": template["metadata"]["annotations"]},
            "spec": template["spec"],
        })
    };
    vec![
        (with("ip_address", "10.99.0.5"), &["ip_address", "10.99.0.5", "10.90.0.0/24", "choose"]),
        (with("ip_address", "10.90.0.five"), &["ip_address", "10.90.0.five", "write 10.0.0.5"]),
        (with("ip_address", "10.90.0.5"), &["10.90.0.5", "holder.default", "choose another"]),
        (
            with("mac_address", "01:00:5e:00:00:01"),
            &["mac_address", "01:00:5e:00:00:01", "write another"],
        ),
        (
            with("mac_address", "02:00:00:00:90:06"),
            &["02:00:00:00:90:06", "is used by Vip floating", "choose another"],
        ),
        (with("ip_pool", "10.90.0.5;x y"), &["ip_pool", "x y", "write 10.0.0.5"]),
        (with("ip_family", "ipv6"), &["ip_family", "10.90.0.0/24", "another subnet"]),
        (with("egress_rate", "10M"), &["egress_rate", "10M", "write one of Mbit/s"]),
    ]
}

/// IPAMClaims by themselves: spec, words, and whether their condition uses the same.
fn claims() -> Vec<(Value, &'static [&'static str], bool)> {
    vec![
        (json!({"network": ""}), &["spec.network", "write the name of an attachment"], true),
        (json!({"network": " "}), &["spec.network", "write the name of an attachment"], true),
        (json!({"network": 5}), &["spec.network", "string"], false),
        (json!({"interface": "more"}), &["network", "equired"], false),
    ]
}

/// Changes of what [`stage`] has made that cannot be, and what their refusals say.
pub(super) fn edits() -> Vec<(Kind, &'static str, Value, &'static [&'static str])> {
    let bad_route = json!({"cidr": "10.98.0.0/33", "nextHopIP": "10.90.0.9"});
    let policy = json!({"priority": 1, "match": "ip4.src == $", "action": "drop"});
    let peering = json!({"remoteVpc": "bound", "localConnectIP": "169.254.0.1"});
    vec![
        (
            VPC,
            "stage",
            json!({"staticRoutes": [good_route(), bad_route]}),
            &["spec.staticRoutes[1].cidr", "10.98.0.0/33", "write a network"],
        ),
        (
            VPC,
            "stage",
            json!({"policyRoutes": [policy]}),
            &["spec.policyRoutes[0].match", "ip4.src == $", "write an expression"],
        ),
        (
            VPC,
            "stage",
            json!({"vpcPeerings": [peering]}),
            &["spec.vpcPeerings[0].localConnectIP", "169.254.0.1", "with its prefix length"],
        ),
        (
            POOL,
            "named",
            json!({"ips": ["10.99.0.5"]}),
            &["spec.ips[0]", "10.99.0.5", "10.90.0.0/24"],
        ),
        (
            POOL,
            "named",
            json!({"ips": ["10.90.0.1"]}),
            &["spec.ips[0]", "10.90.0.1", "leave it out"],
        ),
        (POOL, "named", json!({"subnet": "elsewhere"}), &["spec.subnet", "cannot be changed"]),
        (VIP, "floating", json!({"subnet": "elsewhere"}), &["spec.subnet", "cannot be changed"]),
        (
            VIP,
            "floating",
            json!({"selector": ["web"], "namespace": "default"}),
            &["spec.selector[0]", "web", "key:value"],
        ),
        (
            VIP,
            "floating",
            json!({"v4ip": "10.90.0.7"}),
            &["spec.v4ip", "10.90.0.7", "it stays \"10.90.0.6\"", "make another Vip"],
        ),
        (
            VIP,
            "floating",
            json!({"macAddress": "02:00:00:00:90:07"}),
            &["spec.macAddress", "02:00:00:00:90:07", "it stays", "make another Vip"],
        ),
        (
            IP,
            "holder.default",
            json!({"v4IpAddress": "10.90.0.9"}),
            &["spec.v4IpAddress", "10.90.0.9", "VirtualMachine default/holder has 10.90.0.5"],
        ),
    ]
}

/// A route that stays in force, whatever is written beside it.
pub(super) fn good_route() -> Value {
    json!({"cidr": "10.199.0.0/16", "nextHopIP": "10.90.0.9"})
}
