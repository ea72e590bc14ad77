//! What a server refuses by our definitions alone, before any controller sees it: each
//! with the field, the value, and what to write instead. `bad_input` puts the same table
//! to servers that also ask the controller, and past all of them.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, ensure};
use serde_json::{Value, json};
use tests::cluster::{Cluster, Flavour};
use tests::kinds::{IP, Kind, POOL, SUBNET, VIP, VM, VPC};
use tests::objects::Vm;

const SOON: Duration = Duration::from_secs(20);

/// Who refuses it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum By {
    /// Types, words, ranges and patterns: every server.
    Schema,
    /// Rules in CEL, which our own API does not run.
    Rule,
}

use By::{Rule, Schema};

/// Of a kind: who refuses it, its spec, and what the refusal says: the field first, then
/// what stands there, as far as a server can say it, and what to write instead.
pub(super) type Case = (By, Value, &'static [&'static str]);

fn subnets() -> Vec<Case> {
    let with = |field: &str, value: Value| {
        let mut spec = json!({"cidrBlock": "10.1.0.0/24"});
        spec[field] = value;
        spec
    };
    let acl = |field: &str, value: Value| {
        let mut acl =
            json!({"direction": "to-lport", "priority": 1, "match": "ip4", "action": "drop"});
        acl[field] = value;
        with("acls", json!([acl]))
    };
    let without = |field: &str| {
        let mut acl =
            json!({"direction": "to-lport", "priority": 1, "match": "ip4", "action": "drop"});
        acl.as_object_mut().expect("an object").remove(field);
        with("acls", json!([acl]))
    };
    let both = |one: (&str, Value), other: (&str, Value)| {
        let mut spec = with(one.0, one.1);
        spec[other.0] = other.1;
        spec
    };
    vec![
        (
            Rule,
            with("cidrBlock", json!("10.300.0.0/24")),
            &["spec.cidrBlock", "10.300.0.0/24", "such as 10.0.0.0/24"],
        ),
        (
            Rule,
            with("cidrBlock", json!("10.1.0.0/33")),
            &["spec.cidrBlock", "10.1.0.0/33", "such as 10.0.0.0/24"],
        ),
        (
            Rule,
            with("cidrBlock", json!("10.1.0.0")),
            &["spec.cidrBlock", "10.1.0.0", "such as 10.0.0.0/24"],
        ),
        (
            Rule,
            with("cidrBlock", json!("10.1.0.0/24;fd00::/64")),
            &["spec.cidrBlock", "fd00::/64", "such as 10.0.0.0/24"],
        ),
        (Rule, with("cidrBlock", json!("ten")), &["spec.cidrBlock", "ten", "such as 10.0.0.0/24"]),
        (Rule, with("gateway", json!("10.1.0")), &["spec.gateway", "10.1.0", "of each family"]),
        (
            Rule,
            with("gateway", json!("10.1.0.1/24")),
            &["spec.gateway", "10.1.0.1/24", "of each family"],
        ),
        (Rule, with("gateway", json!("first")), &["spec.gateway", "first", "of each family"]),
        (
            Rule,
            both(("logicalGateway", json!(true)), ("u2oInterconnection", json!(true))),
            &["spec.logicalGateway", "exclude each other"],
        ),
        (
            Rule,
            both(("natOutgoing", json!(true)), ("externalEgressGateway", json!("10.9.0.1"))),
            &["spec.externalEgressGateway", "exclude each other"],
        ),
        (
            Rule,
            with("gateway", json!("10.2.0.1")),
            &["spec.gateway", "10.2.0.1", "10.1.0.0/24", "choose an address of the subnet"],
        ),
        (
            Rule,
            both(
                ("cidrBlock", json!("10.1.0.0/24,fd01::/64")),
                ("gateway", json!("10.1.0.1,fd02::1")),
            ),
            &["spec.gateway", "fd02::1", "fd01::/64", "choose an address of the subnet"],
        ),
        (Rule, with("vips", json!(["ten"])), &["spec.vips[0]", "ten", "write an address"]),
        (
            Rule,
            with("allowSubnets", json!(["10.9.0.0/33"])),
            &["spec.allowSubnets[0]", "10.9.0.0/33", "write a network"],
        ),
        (
            Rule,
            with("externalEgressGateway", json!("10.1.0.9,gw")),
            &["spec.externalEgressGateway", "10.1.0.9,gw", "of each family"],
        ),
        (
            Rule,
            with("u2oInterconnectionIP", json!("10.1.0")),
            &["spec.u2oInterconnectionIP", "10.1.0", "of each family"],
        ),
        (
            Rule,
            with("natOutgoingPolicyRules", json!([{"match": {"srcIPs": "ten"}}])),
            &["spec.natOutgoingPolicyRules[0].match.srcIPs", "ten", "of one family"],
        ),
        (
            Rule,
            with("natOutgoingPolicyRules", json!([{"match": {"dstIPs": "10.9.0.0/16;any"}}])),
            &["spec.natOutgoingPolicyRules[0].match.dstIPs", "10.9.0.0/16;any", "of one family"],
        ),
        (Schema, with("cidrBlock", json!(10)), &["spec.cidrBlock", "integer", "string"]),
        (Schema, with("cidrBlock", json!("1".repeat(101))), &["spec.cidrBlock", "100"]),
        (Schema, with("protocol", json!("IPX")), &["spec.protocol", "IPX", "Dual"]),
        (Schema, with("protocol", json!("ipv4")), &["spec.protocol", "ipv4", "IPv4"]),
        (
            Schema,
            with("gatewayType", json!("local")),
            &["spec.gatewayType", "local", "centralized"],
        ),
        (Schema, with("mtu", json!(-1)), &["spec.mtu", "-1", "greater than or equal to 0"]),
        (Schema, with("mtu", json!(70000)), &["spec.mtu", "70000", "65535"]),
        (Schema, with("mtu", json!("big")), &["spec.mtu", "integer"]),
        (
            Rule,
            with("excludeIps", json!(["ten"])),
            &["spec.excludeIps[0]", "ten", "10.0.0.5..10.0.0.9"],
        ),
        (
            Rule,
            with("excludeIps", json!(["10.1.0.5-10.1.0.9"])),
            &["spec.excludeIps[0]", "10.1.0.5-10.1.0.9", "10.0.0.5..10.0.0.9"],
        ),
        (Schema, with("excludeIps", json!("10.1.0.5")), &["spec.excludeIps", "array"]),
        (Schema, with("excludeIps", json!(vec!["10.1.0.5"; 4097])), &["spec.excludeIps", "4096"]),
        (
            Schema,
            with(
                "acls",
                json!(vec![
                    json!({"direction": "to-lport", "priority": 1,
                "match": "ip4", "action": "drop"});
                    1025
                ]),
            ),
            &["spec.acls", "1024"],
        ),
        (Schema, with("private", json!("yes")), &["spec.private", "boolean"]),
        (Schema, with("namespaces", json!("default")), &["spec.namespaces", "array"]),
        (
            Schema,
            acl("direction", json!("in")),
            &["spec.acls[0].direction", "\"in\"", "from-lport"],
        ),
        (Schema, acl("action", json!("pass")), &["spec.acls[0].action", "pass", "allow-stateless"]),
        (Schema, acl("priority", json!(-1)), &["spec.acls[0].priority", "-1"]),
        (Schema, acl("priority", json!(40000)), &["spec.acls[0].priority", "40000", "32767"]),
        (Schema, acl("priority", json!("high")), &["spec.acls[0].priority", "integer"]),
        (Rule, without("direction"), &["spec.acls[0].direction", "write from-lport or to-lport"]),
        (Rule, without("match"), &["spec.acls[0].match", "write an expression"]),
        (Rule, without("action"), &["spec.acls[0].action", "write allow-related"]),
        (Rule, acl("match", json!("ip4 \u{1}")), &["spec.acls[0].match", "write an expression"]),
        (Schema, acl("match", json!("a".repeat(4097))), &["spec.acls[0].match", "4096"]),
        (Rule, with("routeTable", json!("blue\u{1}")), &["spec.routeTable", "write a name"]),
        (
            Schema,
            with("natOutgoingPolicyRules", json!([{"action": "snat"}])),
            &["spec.natOutgoingPolicyRules[0].action", "snat", "forward"],
        ),
    ]
}

fn vpcs() -> Vec<Case> {
    let route = |field: &str, value: Value| {
        let mut route = json!({"cidr": "10.9.0.0/16", "nextHopIP": "10.1.0.9"});
        route[field] = value;
        json!({"staticRoutes": [route]})
    };
    let policy = |change: Value| {
        let mut policy = json!({"priority": 1, "match": "ip4", "action": "allow"});
        for (field, value) in change.as_object().into_iter().flatten() {
            policy[field.as_str()] = value.clone();
        }
        json!({"policyRoutes": [policy]})
    };
    vec![
        (
            Schema,
            route("policy", json!("src")),
            &["spec.staticRoutes[0].policy", "src", "policySrc"],
        ),
        (
            Schema,
            route("ecmpMode", json!("on")),
            &["spec.staticRoutes[0].ecmpMode", "on", "ecmp_symmetric_reply"],
        ),
        (
            Rule,
            json!({"staticRoutes": [{"cidr": "10.9.0.0/16"}]}),
            &["spec.staticRoutes[0].nextHopIP", "write one address"],
        ),
        (
            Rule,
            json!({"staticRoutes": [{"nextHopIP": "10.1.0.9"}]}),
            &["spec.staticRoutes[0].cidr", "write a network"],
        ),
        (
            Rule,
            route("routeTable", json!("blue\u{1}")),
            &["spec.staticRoutes[0].routeTable", "write a name"],
        ),
        (
            Schema,
            json!({"staticRoutes": vec![json!({"cidr": "10.9.0.0/16", "nextHopIP": "10.1.0.9"}); 1025]}),
            &["spec.staticRoutes", "1024"],
        ),
        (Schema, json!({"staticRoutes": {}}), &["spec.staticRoutes", "array"]),
        (
            Schema,
            policy(json!({"priority": 40000})),
            &["spec.policyRoutes[0].priority", "40000", "32767"],
        ),
        (Schema, policy(json!({"priority": -1})), &["spec.policyRoutes[0].priority", "-1"]),
        (
            Schema,
            policy(json!({"action": "pass"})),
            &["spec.policyRoutes[0].action", "pass", "reroute"],
        ),
        (
            Rule,
            json!({"policyRoutes": [{"priority": 1, "action": "allow"}]}),
            &["spec.policyRoutes[0].match", "write an expression"],
        ),
        (
            Rule,
            json!({"policyRoutes": [{"priority": 1, "match": "ip4"}]}),
            &["spec.policyRoutes[0].action", "write allow, drop or reroute"],
        ),
        (
            Rule,
            policy(json!({"match": "ip4 \u{1}"})),
            &["spec.policyRoutes[0].match", "write an expression"],
        ),
        (
            Rule,
            policy(json!({"action": "reroute"})),
            &["spec.policyRoutes[0].nextHopIP", "write one address"],
        ),
        (
            Rule,
            policy(json!({"action": "reroute", "nextHopIP": "10.1.0.9,gw"})),
            &["spec.policyRoutes[0].nextHopIP", "10.1.0.9,gw", "write one address"],
        ),
        (
            Rule,
            route("cidr", json!("10.9.0.0/33")),
            &["spec.staticRoutes[0].cidr", "10.9.0.0/33", "write a network"],
        ),
        (
            Rule,
            route("nextHopIP", json!("gw")),
            &["spec.staticRoutes[0].nextHopIP", "gw", "write one address"],
        ),
        (
            Rule,
            json!({"vpcPeerings": [{"remoteVpc": "b"}]}),
            &["spec.vpcPeerings[0].localConnectIP", "with its prefix length"],
        ),
        (
            Rule,
            json!({"vpcPeerings": [{"localConnectIP": "10.9.0.1/30"}]}),
            &["spec.vpcPeerings[0].remoteVpc", "write the name of another Vpc"],
        ),
        (
            Rule,
            json!({"vpcPeerings": [{"remoteVpc": "b_c", "localConnectIP": "10.9.0.1/30"}]}),
            &["spec.vpcPeerings[0].remoteVpc", "b_c", "write that of another Vpc"],
        ),
        (
            Rule,
            json!({"vpcPeerings": [{"remoteVpc": "b", "localConnectIP": "10.9.0.1"}]}),
            &["spec.vpcPeerings[0].localConnectIP", "10.9.0.1", "with its prefix length"],
        ),
        (
            Rule,
            json!({"vpcPeerings": [{"remoteVpc": "b", "localConnectIP": "10.9.0.1/30,x"}]}),
            &["spec.vpcPeerings[0].localConnectIP", "10.9.0.1/30,x", "with its prefix length"],
        ),
        (Schema, json!({"namespaces": "default"}), &["spec.namespaces", "array"]),
        (Schema, json!({"enableBfd": "yes"}), &["spec.enableBfd", "boolean"]),
    ]
}

fn pools() -> Vec<Case> {
    vec![
        (Rule, json!({"subnet": "s"}), &["spec.ips", "write an address"]),
        (Rule, json!({"ips": ["10.1.0.5"]}), &["spec.subnet", "write the name of a Subnet"]),
        (
            Rule,
            json!({"subnet": "", "ips": ["10.1.0.5"]}),
            &["spec.subnet", "write the name of a Subnet"],
        ),
        (Rule, json!({"subnet": "s", "ips": []}), &["spec.ips", "write an address"]),
        (Schema, json!({"subnet": "s", "ips": vec!["10.1.0.5"; 4097]}), &["spec.ips", "4096"]),
        (
            Rule,
            json!({"subnet": "s", "ips": ["web"]}),
            &["spec.ips[0]", "web", "a range such as 10.0.0.5..10.0.0.9"],
        ),
        (
            Rule,
            json!({"subnet": "s", "ips": ["10.1.0.5-10.1.0.9"]}),
            &["spec.ips[0]", "10.1.0.5-10.1.0.9", "a range such as 10.0.0.5..10.0.0.9"],
        ),
        (Schema, json!({"subnet": "s", "ips": "10.1.0.5"}), &["spec.ips", "array"]),
        (
            Schema,
            json!({"subnet": "s", "ips": ["10.1.0.5"], "enableAddressSet": "no"}),
            &["spec.enableAddressSet", "boolean"],
        ),
    ]
}

fn vips() -> Vec<Case> {
    vec![
        (Schema, json!({"subnet": "s", "type": "float"}), &["spec.type", "float", "switch_lb_vip"]),
        (Schema, json!({"subnet": "s", "selector": "app:web"}), &["spec.selector", "array"]),
        (Rule, json!({"subnet": "held", "v4ip": "ten"}), &["spec.v4ip", "ten", "IPv4 address"]),
        (
            Rule,
            json!({"subnet": "held", "v4ip": "fd00::5"}),
            &["spec.v4ip", "fd00::5", "IPv4 address"],
        ),
        (
            Rule,
            json!({"subnet": "held", "v6ip": "10.0.0.5"}),
            &["spec.v6ip", "10.0.0.5", "IPv6 address"],
        ),
        (
            Rule,
            json!({"subnet": "held", "macAddress": "01:00:00:00:00:01"}),
            &["spec.macAddress", "01:00:00:00:00:01", "one station"],
        ),
    ]
}

fn ips() -> Vec<Case> {
    let with = |field: &str, value: Value| {
        let mut spec = json!({"subnet": "held", "podName": "later", "namespace": "default"});
        spec[field] = value;
        spec
    };
    vec![
        (
            Rule,
            with("v4IpAddress", json!("10.0.0")),
            &["spec.v4IpAddress", "10.0.0", "write one IPv4"],
        ),
        (
            Rule,
            with("v6IpAddress", json!("fd00::g")),
            &["spec.v6IpAddress", "fd00::g", "write one IPv6"],
        ),
        (
            Rule,
            with("macAddress", json!("02:00:00:00:00")),
            &["spec.macAddress", "02:00:00:00:00", "one station"],
        ),
        (Schema, json!({"subnet": 5}), &["spec.subnet", "string"]),
        (
            Schema,
            with("ipAddress", json!("10.90.0.7,".repeat(100_000))),
            &["spec.ipAddress", "100"],
        ),
        (Schema, with("macAddress", json!("x".repeat(46))), &["spec.macAddress", "45"]),
        (Schema, with("podName", json!("x".repeat(254))), &["spec.podName", "253"]),
        (Schema, with("attachIps", json!("10.0.0.5")), &["spec.attachIps", "array"]),
    ]
}

/// Every case, with its kind.
pub(super) fn table() -> Vec<(Kind, Case)> {
    let kinds = [(SUBNET, subnets()), (VPC, vpcs()), (POOL, pools()), (VIP, vips()), (IP, ips())];
    let of = |(kind, cases): (Kind, Vec<Case>)| cases.into_iter().map(move |case| (kind, case));
    kinds.into_iter().flat_map(of).collect()
}

pub(super) fn object(kind: Kind, name: &str, spec: &Value) -> Value {
    let resource = kind.resource();
    json!({
        "apiVersion": resource.api_version, "kind": resource.kind,
        "metadata": {"name": name}, "spec": spec,
    })
}

pub(super) async fn what_cannot_be_is_refused_with_field_and_value(
    cluster: &mut Cluster,
) -> anyhow::Result<()> {
    let runs_rules = cluster.flavour() == Flavour::Real;
    for (kind, (by, spec, words)) in table() {
        if by == Rule && !runs_rules {
            continue;
        }
        let refusal = cluster.create(kind, object(kind, "refused", &spec)).await.err();
        let said = refusal.with_context(|| format!("{by:?} lets {spec} in"))?;
        let said = format!("{said:#}");
        ensure!(words.len() > 1, "{spec}: the field and what to write are to be said");
        for word in words {
            ensure!(said.contains(word), "{spec}: {word:?} is not said: {said}");
        }
    }
    Ok(())
}

/// What Kube-OVN's own YAML looks like after its controller has filled it in.
pub(super) async fn empty_fields_mean_what_absent_ones_do(
    cluster: &mut Cluster,
) -> anyhow::Result<()> {
    let good = [
        (
            VPC,
            json!({"namespaces": [], "policyRoutes": [{"priority": 1, "match": "ip4",
            "action": "reroute", "nextHopIP": "10.1.0.9, 10.1.0.8"}],
            "vpcPeerings": [{"remoteVpc": "b", "localConnectIP": "169.254.0.1/30, fd00::1/126"}],
            "staticRoutes": [{"policy": "", "cidr": "0.0.0.0/0",
            "nextHopIP": "10.1.0.9", "ecmpMode": "", "bfdId": "", "routeTable": ""}]}),
        ),
        (
            SUBNET,
            json!({"vpc": "", "protocol": "", "provider": "", "cidrBlock": "10.1.0.0/24,fd01::/64",
            "gateway": "10.1.0.1,fd01::1", "excludeIps": ["10.1.0.1", "10.1.0.5..10.1.0.9", "fd01::1"],
            "gatewayType": "", "mtu": 0, "natOutgoing": true, "externalEgressGateway": "",
            "vlan": "", "u2oInterconnectionIP": "", "vips": [" 10.1.0.8"], "allowSubnets": ["10.9.0.0/16"],
            "natOutgoingPolicyRules": [{"action": "forward", "match": {"srcIPs": "10.1.0.0/25, 10.1.0.9",
            "dstIPs": ""}}]}),
        ),
        (
            POOL,
            json!({"subnet": "s", "ips": ["10.1.0.20", "10.1.0.30..10.1.0.40", "10.1.0.64/28"]}),
        ),
        (
            VIP,
            json!({"subnet": "s", "type": "", "v4ip": "", "v6ip": "fd01::9", "macAddress": "",
            "selector": []}),
        ),
        (
            IP,
            json!({"subnet": "s", "v4IpAddress": "10.1.0.50", "v6IpAddress": "", "podName": "web",
            "macAddress": "02-00-00-00-0a-0B"}),
        ),
    ];
    for (kind, spec) in good {
        cluster.create(kind, object(kind, "filled-in", &spec)).await?;
        cluster.delete(kind, "filled-in").await?;
    }
    Ok(())
}

/// Of a field that may not change any other value is refused; the default is the same
/// as an empty one.
pub(super) async fn what_others_rely_on_cannot_be_changed(
    cluster: &mut Cluster,
) -> anyhow::Result<()> {
    let first = |kind: Kind| match kind.resource().kind.as_str() {
        "Subnet" => json!({"cidrBlock": "10.1.0.0/24"}),
        "IPPool" => json!({"subnet": "s", "ips": ["10.1.0.5"]}),
        "IP" => json!({"subnet": "s", "podName": "web", "namespace": "default"}),
        _ => json!({"subnet": "s"}),
    };
    let cases: [(Kind, Value, Option<&str>); 8] = [
        (SUBNET, json!({"vpc": "ovn-cluster"}), None),
        (SUBNET, json!({"vpc": "blue"}), Some("spec.vpc")),
        (SUBNET, json!({"provider": "net.default.ovn"}), Some("spec.provider")),
        (POOL, json!({"subnet": "t"}), Some("spec.subnet")),
        (POOL, json!({"ips": ["10.1.0.6"]}), None),
        (VIP, json!({"subnet": "t"}), Some("spec.subnet")),
        (IP, json!({"podName": "db"}), Some("spec.podName")),
        (IP, json!({"subnet": "t"}), None),
    ];
    for (kind, change, refusal) in cases {
        let name = if kind.resource().kind == "IP" { "web.default" } else { "kept" };
        cluster.create(kind, object(kind, name, &first(kind))).await?;
        let changed = cluster.merge(kind, name, json!({"spec": change})).await;
        match (changed, refusal) {
            (Ok(()), None) => {}
            (Err(error), Some(words)) => {
                let said = format!("{error:#}");
                let names = said.contains(words) && said.contains("cannot be changed");
                ensure!(names, "{change}: {said}");
            }
            (outcome, _) => anyhow::bail!("{change}: {outcome:?}"),
        }
        cluster.delete(kind, name).await?;
        cluster.gone(kind, name, SOON).await?;
    }
    Ok(())
}

/// What a Vip's status says that it has; whatever it asks for besides is refused.
pub(super) async fn what_a_vip_was_given_stays(cluster: &mut Cluster) -> anyhow::Result<()> {
    let mut vip = object(VIP, "given", &json!({"subnet": "s"}));
    cluster.create(VIP, vip.clone()).await?;
    let free = json!({"v6ip": "fd00::7"});
    cluster.merge(VIP, "given", json!({"spec": free})).await.context("nothing is given yet")?;
    cluster.merge(VIP, "given", json!({"spec": {"v6ip": ""}})).await?;
    vip["status"] = json!({"v4ip": "10.1.0.9", "v6ip": "fd00::9", "mac": "02:00:00:00:00:09"});
    let given = json!({"status": vip["status"]});
    cluster.merge(VIP, "given", given).await?;
    let cases: [(Value, Option<&[&str]>); 7] = [
        (json!({"v4ip": "10.1.0.8"}), Some(&["spec.v4ip", "10.1.0.8", "it stays", "10.1.0.9"])),
        (json!({"v6ip": "fd00::8"}), Some(&["spec.v6ip", "fd00::8", "it stays", "fd00::9"])),
        (
            json!({"macAddress": "02:00:00:00:00:08"}),
            Some(&["spec.macAddress", "02:00:00:00:00:08", "it stays", "make another Vip"]),
        ),
        (json!({"v4ip": "10.1.0.9", "v6ip": "fd00:0::9"}), None),
        (json!({"macAddress": "02-00-00-00-00-09"}), None),
        (json!({"v4ip": "", "macAddress": ""}), None),
        (json!({"selector": ["app:web"], "namespace": "default"}), None),
    ];
    for (change, refusal) in cases {
        let changed = cluster.merge(VIP, "given", json!({"spec": change})).await;
        match (changed, refusal) {
            (Ok(()), None) => {}
            (Err(error), Some(words)) => {
                let said = format!("{error:#}");
                let missing = words.iter().find(|word| !said.contains(**word));
                ensure!(missing.is_none(), "{change}: {missing:?} is not said: {said}");
            }
            (outcome, _) => anyhow::bail!("{change}: {outcome:?}"),
        }
    }
    cluster.delete(VIP, "given").await
}

/// A VM's template is KubeVirt's; what is checked of it here is what its type says.
pub(super) async fn a_machine_that_does_not_fit_its_type_is_refused(
    cluster: &mut Cluster,
) -> anyhow::Result<()> {
    let mut cases = BTreeMap::new();
    for (place, value) in [
        ("/spec/runStrategy", json!("Sometimes")),
        ("/spec/template", json!("none")),
        ("/spec/template/spec/networks", json!("pod")),
        ("/spec/template/spec/domain/devices/interfaces", json!({})),
    ] {
        let mut vm = Vm::named("refused").object();
        *vm.pointer_mut(place).context("the field is there")? = value;
        cases.insert(place, vm);
    }
    for (place, vm) in cases {
        let refusal = cluster.create(VM, vm).await.err();
        let said = refusal.with_context(|| format!("{place} was let in"))?;
        let field = place.trim_start_matches('/').replace('/', ".");
        ensure!(format!("{said:#}").contains(&field), "{field} is not said: {said:#}");
    }
    Ok(())
}
