use serde_json::{Value, json};

use super::super::{Write, leaves};
use super::*;

fn review(
    facts: &Facts,
    plural: &str,
    old: Option<&Value>,
    new: &Value,
) -> Result<Vec<String>, String> {
    let reviewed = super::super::review(facts, plural, Write { old, new, by: "kubectl" });
    reviewed.map_err(|causes| crds::cause::message(&causes))
}

fn object(plural: &str, name: &str, spec: Value) -> Value {
    let (version, kind) = match plural {
        "addressblocks" => ("berth.io/v1alpha1", "AddressBlock"),
        "virtualmachines" => ("kubevirt.io/v1", "VirtualMachine"),
        "virtualmachineinstances" => ("kubevirt.io/v1", "VirtualMachineInstance"),
        "vpcs" => ("kubeovn.io/v1", "Vpc"),
        "subnets" => ("kubeovn.io/v1", "Subnet"),
        "ippools" => ("kubeovn.io/v1", "IPPool"),
        "vips" => ("kubeovn.io/v1", "Vip"),
        _ => ("kubeovn.io/v1", "IP"),
    };
    let metadata = json!({"name": name, "namespace": "default", "uid": name});
    json!({"apiVersion": version, "kind": kind, "metadata": metadata, "spec": spec})
}

fn put(facts: &Facts, version: u32, plural: &str, name: &str, spec: Value) {
    let mut object = object(plural, name, spec);
    object["metadata"]["resourceVersion"] = version.to_string().into();
    facts.stored(plural, object.to_string().as_bytes());
}

/// Two subnets of a VPC, `web` with an address and a MAC on the first, a Vip and a pool.
fn facts() -> Facts {
    let facts = Facts::default();
    put(&facts, 1, "vpcs", "v", json!({}));
    put(&facts, 1, "subnets", "s", json!({"vpc": "v", "cidrBlock": "10.0.0.0/24,fd00::/64"}));
    put(&facts, 1, "subnets", "t", json!({"vpc": "v", "cidrBlock": "10.0.1.0/24"}));
    let web = json!({"port": "web.default", "vm": "default/web", "uid": "u"});
    let vip = json!({"port": "vip:v1", "vm": "/vip:v1", "uid": "v1"});
    let held = json!({"10.0.0.5": web, "10.0.0.6": vip});
    let block = json!({"subnet": "s", "first": "10.0.0.0", "held": held});
    put(&facts, 1, "addressblocks", "s.v4.0a0000", block);
    let mut ip = object(
        "ips",
        "web.default",
        json!({"podName": "web", "namespace": "default",
        "subnet": "s", "v4IpAddress": "10.0.0.5", "macAddress": "02:00:00:00:00:05"}),
    );
    ip["metadata"]["annotations"] = json!({"berth.io/owner-uid": "u"});
    facts.stored("ips", ip.to_string().as_bytes());
    put(&facts, 1, "vips", "v1", json!({"subnet": "s", "v4ip": "10.0.0.6"}));
    facts.stored("virtualmachines", machine("web", "u", false).to_string().as_bytes());
    put(&facts, 1, "ippools", "p", json!({"subnet": "s", "ips": ["10.0.0.32/28"]}));
    facts
}

/// As it is stored.
fn machine(name: &str, uid: &str, leaves: bool) -> Value {
    let mut vm = vm(name, &[]);
    vm["metadata"]["uid"] = uid.into();
    if leaves {
        vm["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z".into();
    }
    vm
}

fn vm(name: &str, annotations: &[(&str, &str)]) -> Value {
    let notes = annotations
        .iter()
        .map(|(field, text)| (format!("ovn.kubernetes.io/{field}"), Value::from(*text)));
    let notes: serde_json::Map<String, Value> = notes.collect();
    let template = json!({"metadata": {"annotations": notes},
        "spec": {"domain": {"devices": {}}}});
    object("virtualmachines", name, json!({"running": true, "template": template}))
}

fn said(facts: &Facts, plural: &str, new: &Value) -> Result<Vec<String>, String> {
    review(facts, plural, None, new)
}

fn refused(answer: Result<Vec<String>, String>, words: &[&str]) {
    let said = answer.expect_err(&format!("{words:?} is not said"));
    words.iter().for_each(|word| assert!(said.contains(word), "{said:?} without {word:?}"));
}

fn warned(answer: Result<Vec<String>, String>, words: &[&str]) {
    let said = answer.unwrap().join("; ");
    words.iter().for_each(|word| assert!(said.contains(word), "{said:?} without {word:?}"));
}

#[test]
fn what_somebody_else_has_is_refused_with_its_holder() {
    let facts = facts();
    let on = |field, text| vm("db", &[("logical_switch", "s"), (field, text)]);
    let say = |vm: &Value| said(&facts, "virtualmachines", vm);
    refused(
        say(&on("ip_address", "10.0.0.5")),
        &["kubernetes.io/ip_address", "10.0.0.5", "web.default", "choose another"],
    );
    refused(say(&on("ip_address", "10.0.0.6")), &["10.0.0.6", "Vip v1"]);
    refused(say(&on("ip_address", "10.0.0.1")), &["10.0.0.1", "gateway"]);
    refused(say(&on("ip_address", "10.0.9.5")), &["10.0.9.5", "10.0.0.0/24", "choose"]);
    refused(
        say(&on("mac_address", "02:00:00:00:00:05")),
        &["mac_address", "02:00:00:00:00:05", "web.default"],
    );
    let also = |name| vm(name, &[("logical_switch", "t"), ("mac_address", "02:00:00:00:00:05")]);
    refused(say(&also("db")), &["web.default"]);
    assert_eq!(say(&also("web")), Ok(vec![]), "it is its own");
    assert_eq!(say(&on("ip_address", "10.0.0.7")), Ok(vec![]));
    let own = vm("web", &[("logical_switch", "s"), ("ip_address", "10.0.0.5")]);
    assert_eq!(say(&own), Ok(vec![]));

    let vip = |name, v4: &str| object("vips", name, json!({"subnet": "s", "v4ip": v4}));
    refused(
        said(&facts, "vips", &vip("v2", "10.0.0.5")),
        &["spec.v4ip", "10.0.0.5", "web.default"],
    );
    assert_eq!(said(&facts, "vips", &vip("v1", "10.0.0.6")), Ok(vec![]));
    let ip = |v4: &str, mac: &str| {
        object(
            "ips",
            "db.default",
            json!({"podName": "db", "namespace": "default",
            "subnet": "s", "v4IpAddress": v4, "macAddress": mac}),
        )
    };
    refused(said(&facts, "ips", &ip("10.0.0.5", "")), &["spec.v4IpAddress", "web.default"]);
    refused(said(&facts, "ips", &ip("", "02:00:00:00:00:05")), &["spec.macAddress", "web.default"]);
    let pool = object("ippools", "q", json!({"subnet": "s", "ips": ["10.0.0.40"]}));
    refused(said(&facts, "ippools", &pool), &["spec.ips[0]", "10.0.0.40", "IPPool", "p"]);
}

#[test]
fn what_somebody_has_who_goes_is_warned_of() {
    let facts = facts();
    let mac = "02:00:00:00:00:05";
    let successor =
        vm("db", &[("logical_switch", "s"), ("ip_address", "10.0.0.5"), ("mac_address", mac)]);
    let vip = object("vips", "v2", json!({"subnet": "s", "v4ip": "10.0.0.5"}));
    let ip = object(
        "ips",
        "db.default",
        json!({"podName": "db", "namespace": "default", "subnet": "s",
            "v4IpAddress": "10.0.0.5", "macAddress": mac}),
    );
    let all = [("virtualmachines", &successor), ("vips", &vip), ("ips", &ip)];
    let tell = |leaves, gone| {
        let web = machine("web", "u", leaves).to_string();
        match gone {
            true => facts.removed("virtualmachines", web.as_bytes()),
            false => facts.stored("virtualmachines", web.as_bytes()),
        }
    };
    let waits: &[&str] = &["10.0.0.5", "still held by VirtualMachine default/web", "waited for"];
    for (leaves, gone) in [(true, false), (true, true)] {
        all.iter().for_each(|(plural, new)| refused(said(&facts, plural, new), &["10.0.0.5"]));
        tell(leaves, gone);
        all.iter().for_each(|(plural, new)| warned(said(&facts, plural, new), waits));
        warned(said(&facts, "virtualmachines", &successor), &[mac, "still used by web.default"]);
        tell(false, false);
    }
    // Its instance, which outlived it, holds what it held.
    tell(true, true);
    let instance = |notes: Value, owners: Value, leaves: bool| {
        let mut instance = object("virtualmachineinstances", "web", json!({}));
        instance["metadata"]["annotations"] = notes;
        instance["metadata"]["ownerReferences"] = owners;
        if leaves {
            instance["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z".into();
        }
        facts.stored("virtualmachineinstances", instance.to_string().as_bytes());
    };
    let owner = json!([{"apiVersion": "kubevirt.io/v1", "kind": "VirtualMachine", "name": "web", "uid": "u"}]);
    let noted = || json!({"berth.io/owner-uid": "u"});
    instance(noted(), owner, false);
    warned(said(&facts, "virtualmachines", &successor), waits);
    instance(noted(), json!([]), false);
    refused(said(&facts, "virtualmachines", &successor), &["10.0.0.5", "web.default"]);
    instance(noted(), json!([]), true);
    warned(said(&facts, "virtualmachines", &successor), waits);

    let thief = vm("db", &[("logical_switch", "s"), ("ip_address", "10.0.0.6")]);
    refused(said(&facts, "virtualmachines", &thief), &["Vip v1"]);
    facts.removed("vips", object("vips", "v1", json!({})).to_string().as_bytes());
    warned(said(&facts, "virtualmachines", &thief), &["10.0.0.6", "still held by Vip v1"]);
}

#[test]
fn a_reservation_that_is_deleted_is_in_nobodys_way() {
    let facts = facts();
    let reserved = json!({"port": "later.default", "vm": "default/later", "uid": ""});
    let block = json!({"subnet": "s", "first": "10.0.0.0", "held": {"10.0.0.9": reserved}});
    put(&facts, 2, "addressblocks", "s.v4.0a0000", block);
    let mac = "02:00:00:00:00:09";
    let mut ip = object(
        "ips",
        "later.default",
        json!({"podName": "later", "namespace": "default", "subnet": "s",
            "v4IpAddress": "10.0.0.9", "macAddress": mac}),
    );
    let asks = |field, text| vm("db", &[("logical_switch", "s"), (field, text)]);
    for leaves in [false, true] {
        if leaves {
            ip["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z".into();
        }
        facts.stored("ips", ip.to_string().as_bytes());
        for (field, text) in [("ip_address", "10.0.0.9"), ("mac_address", mac)] {
            let answer = said(&facts, "virtualmachines", &asks(field, text));
            match leaves {
                false => refused(answer, &[text, "later.default"]),
                true => warned(answer, &[text, "later.default"]),
            }
        }
    }
}

#[test]
fn a_subnet_that_overlaps_or_lets_addresses_fall_out_is_refused() {
    let facts = facts();
    let of = |name, vpc: &str, cidr: &str| {
        object("subnets", name, json!({"vpc": vpc, "cidrBlock": cidr}))
    };
    let say = |subnet: &Value| said(&facts, "subnets", subnet);
    refused(say(&of("u", "v", "10.0.0.128/25")), &["10.0.0.128/25", "overlaps", "subnet \"s\""]);
    refused(say(&of("u", "v", "10.0.0.0/16")), &["overlaps"]);
    refused(say(&of("u", "v", "10.9.0.0/24,fd00::/48")), &["overlaps", "subnet \"s\""]);
    assert_eq!(say(&of("u", "v", "10.0.2.0/23")), Ok(vec![]));
    warned(say(&of("u", "w", "10.0.0.0/24")), &["spec.vpc", "w", "create it"]);

    let before = of("s", "v", "10.0.0.0/24,fd00::/64");
    let edit = |cidr: &str| review(&facts, "subnets", Some(&before), &of("s", "v", cidr));
    refused(edit("10.0.0.128/25"), &["10.0.0.5 of VirtualMachine default/web", "Vip v1"]);
    assert_eq!(edit("10.0.0.0/25"), Ok(vec![]));
    let mut thief = before.clone();
    thief["spec"]["gateway"] = "10.0.0.5".into();
    refused(review(&facts, "subnets", Some(&before), &thief), &["spec.gateway", "10.0.0.5"]);
    refused(
        review(&facts, "subnets", Some(&before), &of("s", "w", "10.0.0.0/24,fd00::/64")),
        &["spec.vpc", "w", "cannot be changed"],
    );
}

#[test]
fn a_subnet_that_overlaps_what_another_delegates_or_delegates_what_it_has_is_refused() {
    let facts = facts();
    let of = |name, cidr: &str, pool: &str| {
        let delegation = json!({"cidrBlock": pool});
        let spec = json!({"vpc": "v", "cidrBlock": cidr, "dhcpV6PrefixDelegation": delegation});
        object("subnets", name, spec)
    };
    let say = |subnet: &Value| said(&facts, "subnets", subnet);
    let field = "spec.dhcpV6PrefixDelegation.cidrBlock";
    refused(say(&of("u", "fd01::/64", "fd00::/48")), &[field, "fd00::/48", "subnet \"s\""]);
    assert_eq!(say(&of("u", "fd01::/64", "fd10::/48")), Ok(vec![]));
    facts.stored("subnets", of("d", "fd02::/64", "fd10::/48").to_string().as_bytes());
    refused(say(&of("u", "fd01::/64", "fd10::/56")), &[field, "fd10::/56", "subnet \"d\""]);
    refused(say(&of("u", "fd10:0:0:4::/64", "fd11::/48")), &["spec.cidrBlock", "subnet \"d\""]);
    facts.removed("subnets", of("d", "fd02::/64", "fd10::/48").to_string().as_bytes());
    assert_eq!(say(&of("u", "fd01::/64", "fd10::/56")), Ok(vec![]));
}

#[test]
fn a_gateway_that_moves_is_told_with_the_guests_that_it_leaves() {
    let facts = facts();
    let before = object("subnets", "s", json!({"vpc": "v", "cidrBlock": "10.0.0.0/24,fd00::/64"}));
    let edit = |gateway: &str| {
        let mut after = before.clone();
        after["spec"]["gateway"] = gateway.into();
        review(&facts, "subnets", Some(&before), &after)
    };
    warned(
        edit("10.0.0.254"),
        &["spec.gateway", "10.0.0.1", "restart", "VirtualMachine default/web"],
    );
    assert_eq!(edit("10.0.0.1"), Ok(vec![]), "it is the gateway already");
    assert_eq!(edit("fd00::fe"), Ok(vec![]), "nobody has an address of that family");
}

#[test]
fn a_namespace_that_the_vpc_does_not_list_is_refused() {
    let facts = facts();
    put(&facts, 2, "vpcs", "v", json!({"namespaces": ["mine"]}));
    let of = |vpc: &str| {
        object(
            "subnets",
            "u",
            json!({"vpc": vpc, "cidrBlock": "10.7.0.0/24", "namespaces": ["mine", "other"]}),
        )
    };
    refused(said(&facts, "subnets", &of("v")), &["spec.namespaces[1]", "other", "Vpc \"v\""]);
    warned(said(&facts, "subnets", &of("late")), &["spec.vpc", "late"]);
    // The subnet is there, and its namespaces follow what the Vpc says.
    put(&facts, 3, "vpcs", "v", json!({}));
    put(&facts, 3, "subnets", "u", of("v")["spec"].clone());
    let vm = |facts: &Facts| {
        let mut vm = vm("a", &[]);
        vm["metadata"]["namespace"] = "other".into();
        said(facts, "virtualmachines", &vm)
    };
    assert_eq!(vm(&facts), Ok(vec![]));
    put(&facts, 4, "vpcs", "v", json!({"namespaces": ["mine"]}));
    warned(vm(&facts), &["has no subnet"]);
}

#[test]
fn a_subnet_of_the_default_vpc_that_has_what_nodes_have_is_refused() {
    let facts = facts();
    let addresses = json!([{"type": "InternalIP", "address": "10.7.0.5"}]);
    let node = json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "n1"},
        "status": {"addresses": addresses}});
    facts.stored("nodes", node.to_string().as_bytes());
    let of = |vpc: &str| object("subnets", "u", json!({"vpc": vpc, "cidrBlock": "10.7.0.0/24"}));
    let words = ["spec.cidrBlock", "10.7.0.0/24", "10.7.0.5", "Node \"n1\"", "choose"];
    refused(said(&facts, "subnets", &of("")), &words);
    assert_eq!(said(&facts, "subnets", &of("v")), Ok(vec![]));
    facts.removed("nodes", node.to_string().as_bytes());
    assert_eq!(said(&facts, "subnets", &of("")), Ok(vec![]));
}

#[test]
fn an_ip_object_says_what_its_port_holds_and_nothing_else() {
    let facts = facts();
    let ip = |port: &str, subnet: &str, v4: &str, owner: Option<&str>| {
        let pod = port.trim_end_matches(".default");
        let spec = json!({"podName": pod, "namespace": "default", "subnet": subnet, "v4IpAddress": v4,
            "ipAddress": v4});
        let mut ip = object("ips", port, spec);
        if let Some(uid) = owner {
            ip["metadata"]["annotations"] = json!({"berth.io/owner-uid": uid});
        }
        ip
    };
    let edit = |old: &Value, new: &Value| review(&facts, "ips", Some(old), new);
    let web = |subnet, v4| ip("web.default", subnet, v4, Some("u"));
    let words = ["VirtualMachine default/web has 10.0.0.5", "template", "stop it"];
    let told = edit(&web("s", "10.0.0.5"), &web("s", "10.0.0.9"));
    refused(told.clone(), &words);
    refused(told, &["spec.v4IpAddress", "10.0.0.9"]);
    refused(edit(&web("s", "10.0.0.5"), &web("t", "10.0.0.5")), &["spec.subnet", "\"t\""]);
    assert_eq!(edit(&web("s", "10.0.0.9"), &web("s", "10.0.0.5")), Ok(vec![]), "so it is");

    let with_mac = |noted: &str, mac: &str| {
        let mut ip = web("s", "10.0.0.5");
        ip["metadata"]["annotations"]["berth.io/mac-address"] = noted.into();
        ip["spec"]["macAddress"] = mac.into();
        ip
    };
    let (own, other) = ("02:00:00:00:00:05", "02:00:00:00:00:06");
    let words = ["spec.macAddress", other, "default/web has 02:00:00:00:00:05", "template"];
    refused(edit(&with_mac(own, own), &with_mac(own, other)), &words);
    let news = "who notes it writes both";
    assert_eq!(edit(&with_mac(own, own), &with_mac(other, other)), Ok(vec![]), "{news}");
    assert_eq!(edit(&with_mac(own, other), &with_mac(own, own)), Ok(vec![]), "it is put back");

    let later = |v4| ip("later.default", "s", v4, None);
    assert_eq!(edit(&later("10.0.0.9"), &later("10.0.0.10")), Ok(vec![]), "it holds nothing yet");
    let reserved = json!({"port": "later.default", "vm": "default/later", "uid": ""});
    let block = json!({"subnet": "s", "first": "10.0.0.0", "held": {"10.0.0.9": reserved}});
    put(&facts, 2, "addressblocks", "s.v4.0a0000", block);
    refused(
        edit(&later("10.0.0.9"), &later("10.0.0.10")),
        &["10.0.0.10", "10.0.0.9 is reserved", "make another"],
    );
}

#[test]
fn what_a_vip_was_given_stays() {
    let facts = facts();
    let mut vip = object("vips", "v1", json!({"subnet": "s", "v4ip": "10.0.0.6"}));
    let edit = |field: &str, value: &str| {
        let mut new = object("vips", "v1", json!({"subnet": "s", "v4ip": "10.0.0.6"}));
        new["spec"][field] = value.into();
        review(&facts, "vips", Some(&vip), &new)
    };
    assert_eq!(edit("v4ip", "10.0.0.7"), Ok(vec![]), "its status says nothing yet");
    vip["metadata"]["resourceVersion"] = "9".into();
    vip["status"] = json!({"v4ip": "10.0.0.6", "mac": "02:00:00:00:00:06"});
    facts.stored("vips", vip.to_string().as_bytes());
    let edit = |field: &str, value: &str| {
        let mut new = object("vips", "v1", json!({"subnet": "s", "v4ip": "10.0.0.6"}));
        new["spec"][field] = value.into();
        review(&facts, "vips", Some(&vip), &new)
    };
    refused(edit("v4ip", "10.0.0.7"), &["spec.v4ip", "10.0.0.7", "it stays", "10.0.0.6"]);
    refused(edit("macAddress", "02:00:00:00:00:07"), &["spec.macAddress", "make another Vip"]);
    assert_eq!(edit("macAddress", "02-00-00-00-00-06"), Ok(vec![]));
    assert_eq!(edit("v4ip", ""), Ok(vec![]));
}

#[test]
fn a_network_that_has_the_short_name_keeps_it_wherever_the_list_has_it() {
    let facts = facts();
    let provider = "net2.default.ovn";
    let net = json!({"vpc": "v", "cidrBlock": "10.0.2.0/24", "provider": provider});
    put(&facts, 1, "subnets", "n", net);
    let name = format!("web.default.{provider}");
    let spec =
        json!({"podName": "web", "namespace": "default", "subnet": "n", "v4IpAddress": "10.0.2.5"});
    let mut ip = object("ips", &name, spec);
    ip["metadata"]["annotations"] =
        json!({"berth.io/owner-uid": "u", "berth.io/network": "odd_one"});
    let mut web = machine("web", "u", false);
    let attached = |name: &str| json!({"name": name, "multus": {"networkName": "net2"}});
    let plugged = |name: &str| json!({"name": name, "bridge": {}});
    web["spec"]["template"]["spec"] = json!({
        "networks": [attached("even"), attached("odd_one")],
        "domain": {"devices": {"interfaces": [plugged("even"), plugged("odd_one")]}},
    });
    // A long name is made of the network's, which this is not fit for.
    refused(said(&facts, "virtualmachines", &web), &["odd_one"]);
    facts.stored("ips", ip.to_string().as_bytes());
    assert_eq!(said(&facts, "virtualmachines", &web), Ok(vec![]));
    web["metadata"]["uid"] = "another".into();
    refused(said(&facts, "virtualmachines", &web), &["odd_one"]);
}

#[test]
fn what_is_deleted_in_use_is_told_by_whom_and_the_default_is_refused() {
    let facts = facts();
    let delete = |plural: &str, object: &Value| leaves(&facts, plural, object);
    let vpc = |name: &str| object("vpcs", name, json!({}));
    let mut subnet = object("subnets", "s", json!({"vpc": "v", "cidrBlock": "10.0.0.0/24"}));
    warned(delete("vpcs", &vpc("v")), &["the vpc stays in force", "Subnet s, Subnet t"]);
    assert_eq!(delete("vpcs", &vpc("w")), Ok(vec![]));
    warned(
        delete("subnets", &subnet),
        &["the subnet stays in force", "Vip v1", "VirtualMachine default/web"],
    );
    subnet["spec"]["default"] = true.into();
    refused(delete("subnets", &subnet), &["Subnet \"s\" is the default one", "default/web"]);
    let unused = object("subnets", "t", json!({"vpc": "v", "default": true}));
    assert_eq!(delete("subnets", &unused), Ok(vec![]), "nobody uses it");
    put(&facts, 1, "subnets", "everyones", json!({"cidrBlock": "10.16.0.0/16"}));
    refused(delete("vpcs", &vpc("ovn-cluster")), &["is the default one", "Subnet everyones"]);
    let mut ip = object(
        "ips",
        "web.default",
        json!({"podName": "web", "namespace": "default", "subnet": "s"}),
    );
    assert_eq!(delete("ips", &ip), Ok(vec![]));
    ip["metadata"]["annotations"] = json!({"berth.io/owner-uid": "u"});
    warned(delete("ips", &ip), &["VirtualMachine default/web", "waits", "freed"]);
    // In a file that is deleted they go in any order.
    facts.stored("virtualmachines", machine("web", "u", true).to_string().as_bytes());
    facts.removed("vips", object("vips", "v1", json!({})).to_string().as_bytes());
    subnet["spec"]["default"] = false.into();
    assert_eq!(delete("subnets", &subnet), Ok(vec![]));
    assert_eq!(delete("ips", &ip), Ok(vec![]));
}

#[test]
fn a_claim_is_looked_at_as_the_vm_that_refers_to_it_needs_it() {
    let facts = facts();
    let net = json!({"vpc": "v", "cidrBlock": "10.0.2.0/24", "provider": "net2.default.ovn"});
    put(&facts, 1, "subnets", "n", net);
    let db = |ips: &[&str]| {
        let list = json!([{"name": "net2", "ipam-claim-reference": "c", "ips": ips}]).to_string();
        let mut vm = vm("db", &[]);
        let template = &mut vm["spec"]["template"];
        template["metadata"]["annotations"]["k8s.v1.cni.cncf.io/networks"] = list.into();
        template["spec"]["networks"] = json!([{"name": "a", "multus": {"networkName": "net2"}}]);
        let interfaces = json!([{"name": "a", "bridge": {}}]);
        template["spec"]["domain"]["devices"]["interfaces"] = interfaces;
        said(&facts, "virtualmachines", &vm)
    };
    warned(db(&[]), &["IPAMClaim \"c\"", "does not exist"]);
    let mut claim = object("ipamclaims", "c", json!({"network": "net2", "interface": ""}));
    let stored = |claim: &Value, version: u32| {
        let mut claim = claim.clone();
        claim["metadata"]["resourceVersion"] = version.to_string().into();
        facts.stored("ipamclaims", claim.to_string().as_bytes());
    };
    assert_eq!(said(&facts, "ipamclaims", &claim), Ok(vec![]));
    stored(&claim, 1);
    assert_eq!(db(&["10.0.2.9"]), Ok(vec![]));
    let holder = "claim:default/c";
    let of_claim = json!({"port": holder, "vm": format!("/{holder}"), "uid": "c"});
    let block = |held: Value| json!({"subnet": "n", "first": "10.0.2.0", "held": held});
    put(&facts, 1, "addressblocks", "n.v4.0a0002", block(json!({"10.0.2.9": of_claim})));
    claim["metadata"]["annotations"] = json!({"berth.io/subnet": "n"});
    claim["status"] = json!({"ips": ["10.0.2.9/24"]});
    stored(&claim, 2);
    assert_eq!(db(&["10.0.2.9"]), Ok(vec![]), "it is to have that");
    refused(db(&["10.0.2.8"]), &["has 10.0.2.9", "10.0.2.8", "leave that out"]);
    let lender = json!({"name": holder, "uid": "c"});
    let lent = json!({"port": "web.default.net2.default.ovn", "vm": "default/web", "uid": "u",
        "lender": lender});
    put(&facts, 2, "addressblocks", "n.v4.0a0002", block(json!({"10.0.2.9": lent})));
    warned(db(&[]), &["is lent to web.default.net2.default.ovn", "waited for"]);
    warned(leaves(&facts, "ipamclaims", &claim), &["VirtualMachine default/web"]);

    claim["spec"]["network"] = "net3".into();
    warned(said(&facts, "ipamclaims", &claim), &["spec.network", "net3", "no effect here"]);
    stored(&claim, 3);
    refused(db(&[]), &["is of network \"net3\"", "name another claim"]);
}

#[test]
fn what_lends_and_is_deleted_is_told_who_has_it() {
    let facts = facts();
    let vip = json!({"name": "vip:v1", "uid": "v1"});
    let lent = json!({"port": "db.default", "vm": "default/db", "uid": "d", "lender": vip});
    let block = json!({"subnet": "s", "first": "10.0.0.0", "held": {"10.0.0.6": lent}});
    put(&facts, 2, "addressblocks", "s.v4.0a0000", block);
    let mut vip = object("vips", "v1", json!({"subnet": "s"}));
    assert_eq!(leaves(&facts, "vips", &vip), Ok(vec![]));
    vip["status"] = json!({"v4ip": "10.0.0.6"});
    warned(leaves(&facts, "vips", &vip), &["port db.default", "VirtualMachine default/db"]);
}

#[test]
fn what_is_not_there_yet_is_warned_of() {
    let facts = facts();
    let say = |vm: &Value| said(&facts, "virtualmachines", vm);
    warned(say(&vm("a", &[("logical_switch", "late")])), &["late", "does not exist"]);
    warned(say(&vm("a", &[("ip_pool", "late")])), &["late", "does not exist"]);
    warned(
        say(&vm("a", &[("logical_switch", "s"), ("aaps", "late")])),
        &["late", "does not exist"],
    );
    warned(say(&vm("a", &[])), &["has no subnet"]);
    // What it says of itself counts all the same.
    let both = vm("a", &[("logical_switch", "late"), ("mac_address", "x")]);
    refused(say(&both), &["mac_address", "x"]);
    let pool = |ips: &str| object("ippools", "q", json!({"subnet": "late", "ips": [ips]}));
    warned(said(&facts, "ippools", &pool("10.7.0.1")), &["spec.subnet", "late", "create it"]);
    refused(said(&facts, "ippools", &pool("x")), &["spec.ips[0]", "x"]);
    let vip = |mac: &str| object("vips", "q", json!({"subnet": "late", "macAddress": mac}));
    warned(said(&facts, "vips", &vip("")), &["spec.subnet", "late", "create it"]);
    refused(said(&facts, "vips", &vip("x")), &["spec.macAddress", "x"]);
}

#[test]
fn what_is_gone_is_in_nobodys_way() {
    let facts = facts();
    let wide = object("subnets", "u", json!({"vpc": "v", "cidrBlock": "10.0.0.0/23"}));
    refused(said(&facts, "subnets", &wide), &["overlaps"]);
    for name in ["s", "t"] {
        facts.removed("subnets", object("subnets", name, json!({})).to_string().as_bytes());
    }
    assert_eq!(said(&facts, "subnets", &wide), Ok(vec![]));

    let facts = self::facts();
    let asks = vm(
        "db",
        &[
            ("logical_switch", "s"),
            ("ip_address", "10.0.0.5"),
            ("mac_address", "02:00:00:00:00:05"),
        ],
    );
    let block = json!({"subnet": "s", "first": "10.0.0.0", "held": {}});
    put(&facts, 2, "addressblocks", "s.v4.0a0000", block);
    refused(said(&facts, "virtualmachines", &asks), &["mac_address"]);
    facts.removed("ips", object("ips", "web.default", json!({})).to_string().as_bytes());
    assert_eq!(said(&facts, "virtualmachines", &asks), Ok(vec![]));
}

#[test]
fn of_two_that_overlap_the_second_is_in_force_once_the_first_is_gone() {
    let facts = Facts::default();
    put(&facts, 1, "subnets", "a", json!({"vpc": "v", "cidrBlock": "10.0.0.0/24"}));
    put(&facts, 1, "subnets", "b", json!({"vpc": "v", "cidrBlock": "10.0.0.0/16"}));
    let outside = vm("x", &[("logical_switch", "b"), ("ip_address", "10.9.0.5")]);
    warned(said(&facts, "virtualmachines", &outside), &["not in force", "overlaps"]);
    facts.removed("subnets", object("subnets", "a", json!({})).to_string().as_bytes());
    refused(said(&facts, "virtualmachines", &outside), &["10.9.0.5", "10.0.0.0/16"]);
}

#[test]
fn an_instance_made_by_hand_is_looked_at_and_one_of_a_vm_is_not() {
    let facts = facts();
    let spec = json!({"domain": {"memory": {"guest": "1Gi"}, "devices": {}}});
    let mut instance = object("virtualmachineinstances", "db", spec);
    instance["metadata"]["annotations"] = json!({"ovn.kubernetes.io/logical_switch": "s",
        "ovn.kubernetes.io/ip_address": "10.0.0.5"});
    refused(said(&facts, "virtualmachineinstances", &instance), &["10.0.0.5", "web.default"]);
    instance["metadata"]["ownerReferences"] = json!([{"apiVersion": "kubevirt.io/v1", "kind": "VirtualMachine", "name": "db", "uid": "u"}]);
    assert_eq!(said(&facts, "virtualmachineinstances", &instance), Ok(vec![]));
}

#[test]
fn a_vip_that_lends_a_vm_nothing_is_told_before_it_starts() {
    let facts = facts();
    put(&facts, 1, "vips", "of-t", json!({"subnet": "t"}));
    put(&facts, 1, "vips", "shared", json!({"subnet": "s", "selector": ["app:web"]}));
    put(&facts, 1, "vips", "fits", json!({"subnet": "s"}));
    let say = |vip: &str| {
        let vm = vm("db", &[("logical_switch", "s"), ("vip", vip)]);
        said(&facts, "virtualmachines", &vm)
    };
    let key = "annotation ovn.kubernetes.io/vip: Vip";
    warned(say("nowhere"), &[key, "\"nowhere\" does not exist", "create it"]);
    warned(say("of-t"), &[key, "is of subnet \"t\"", "name one of the same subnet"]);
    warned(say("shared"), &[key, "spec.selector", "name another"]);
    assert_eq!(say("fits"), Ok(vec![]));
}
