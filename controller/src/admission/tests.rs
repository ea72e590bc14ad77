use crds::cause::{self, Reason};
use serde_json::{Value, json};

use super::*;

/// By itself, beside nothing.
fn review(plural: &str, old: Option<&Value>, new: &Value) -> Result<Vec<String>, String> {
    beside(&Facts::default(), plural, old, new)
}

fn beside(
    facts: &Facts,
    plural: &str,
    old: Option<&Value>,
    new: &Value,
) -> Result<Vec<String>, String> {
    let write = Write { old, new, by: "kubectl" };
    super::review(facts, plural, write).map_err(|causes| cause::message(&causes))
}

fn object(kind: &str, spec: Value) -> Value {
    json!({"apiVersion": "kubeovn.io/v1", "kind": kind, "metadata": {"name": "one"}, "spec": spec})
}

fn subnet_of(spec: Value) -> Value {
    object("Subnet", spec)
}

#[test]
fn what_cannot_be_is_refused_with_field_value_and_advice() {
    let net = "10.0.0.0/24";
    let acl = |direction: &str, priority: i32, matches: &str, action: &str| {
        json!({"cidrBlock": net, "acls": [{"direction": direction, "priority": priority,
            "match": matches, "action": action}]})
    };
    let route = |cidr: &str, hop: &str, policy: &str, ecmp: &str| json!({"staticRoutes": [{"cidr": cidr, "nextHopIP": hop, "policy": policy, "ecmpMode": ecmp}]});
    let policy = |priority: i32, matches: &str, action: &str, hop: &str| {
        json!({"policyRoutes": [{"priority": priority, "match": matches, "action": action,
            "nextHopIP": hop}]})
    };
    #[rustfmt::skip]
    let table = [
        ("subnets", json!({}), "spec.cidrBlock", "", "write a network"),
        ("subnets", json!({"cidrBlock": " "}), "spec.cidrBlock", "", "write a network"),
        ("subnets", json!({"cidrBlock": "10.300.0.0/24"}), "spec.cidrBlock", "10.300.0.0/24", ""),
        ("subnets", json!({"cidrBlock": "10.0.0.0/33"}), "spec.cidrBlock", "10.0.0.0/33", ""),
        ("subnets", json!({"cidrBlock": "10.0.0.0/24,10.1.0.0/24"}), "spec.cidrBlock", "", ""),
        ("subnets", json!({"cidrBlock": net, "gateway": "x"}), "spec.gateway", "x", "write one of each"),
        ("subnets", json!({"cidrBlock": net, "gateway": "10.1.0.1"}), "spec.gateway", "10.1.0.1", "choose"),
        ("subnets", json!({"cidrBlock": net, "gateway": "10.0.0.0"}), "spec.gateway", "10.0.0.0", "choose"),
        ("subnets", json!({"cidrBlock": net, "gateway": "10.0.0.255"}), "spec.gateway", "10.0.0.255", "choose"),
        ("subnets", json!({"cidrBlock": net, "excludeIps": ["10.0.0.9..10.0.0.1"]}), "spec.excludeIps", "10.0.0.9", ""),
        ("subnets", json!({"cidrBlock": net, "protocol": "IPv6"}), "spec.protocol", "IPv6", "leave protocol out"),
        ("subnets", json!({"cidrBlock": net, "mtu": 100}), "spec.mtu", "100", "use at least"),
        ("subnets", json!({"cidrBlock": net, "vpc": "one"}), "vpc", "one", "rename"),
        ("subnets", json!({"cidrBlock": net, "gatewayType": "both"}), "spec.gatewayType", "both", "write distributed"),
        ("subnets", json!({"cidrBlock": net, "vips": ["10.9.0.9"]}), "spec.vips[0]", "10.9.0.9", "write an address in"),
        ("subnets", json!({"cidrBlock": net, "allowSubnets": ["x"]}), "spec.allowSubnets[0]", "x", "write a network"),
        ("subnets", acl("in", 1, "ip4", "drop"), "spec.acls[0].direction", "in", "write from-lport"),
        ("subnets", acl("to-lport", -1, "ip4", "drop"), "spec.acls[0].priority", "-1", "write 0 to 32767"),
        ("subnets", acl("to-lport", 40_000, "ip4", "drop"), "spec.acls[0].priority", "40000", "write 0 to 32767"),
        ("subnets", acl("to-lport", 1, " ", "drop"), "spec.acls[0].match", " ", "write an expression"),
        ("subnets", acl("to-lport", 1, "ip4", "deny"), "spec.acls[0].action", "deny", "write allow-related"),
        ("vpcs", route("10.0.0.0/33", "10.0.0.1", "", ""), "spec.staticRoutes[0].cidr", "10.0.0.0/33", "write a network"),
        ("vpcs", route("", "10.0.0.1", "", ""), "spec.staticRoutes[0].cidr", "", "write a network"),
        ("vpcs", route("10.0.0.0/8", "x", "", ""), "spec.staticRoutes[0].nextHopIP", "x", "write one address"),
        ("vpcs", route("10.0.0.0/8", "10.0.0.1", "src", ""), "spec.staticRoutes[0].policy", "src", "write policyDst"),
        ("vpcs", route("10.0.0.0/8", "10.0.0.1", "", "x"), "spec.staticRoutes[0].ecmpMode", "x", ""),
        ("vpcs", policy(40_000, "ip4", "drop", ""), "spec.policyRoutes[0].priority", "40000", "write 0 to 32767"),
        ("vpcs", policy(1, "", "drop", ""), "spec.policyRoutes[0].match", "", "write an expression"),
        ("vpcs", policy(1, "ip4", "deny", ""), "spec.policyRoutes[0].action", "deny", "write allow"),
        ("vpcs", policy(1, "ip4", "reroute", ""), "spec.policyRoutes[0].nextHopIP", "", "write one address"),
    ];
    for (plural, spec, field, value, advice) in table {
        let kind = if plural == "vpcs" { "Vpc" } else { "Subnet" };
        let said = review(plural, None, &object(kind, spec.clone())).expect_err(&spec.to_string());
        for words in [field, value, advice] {
            assert!(said.contains(words), "{spec}: {said:?} does not say {words:?}");
        }
    }
}

/// As long as an API takes an object, and wrong in each entry: under the lock it keeps
/// everybody waiting.
/// What this thread has computed so far, in ticks of 10 ms (`proc_pid_stat(5)`): what a
/// machine does besides does not count.
fn busy() -> u64 {
    let stat = std::fs::read_to_string("/proc/thread-self/stat").unwrap();
    let (_, fields) = stat.rsplit_once(')').unwrap();
    let times = fields.split_whitespace().skip(11).take(2);
    times.map(|ticks| ticks.parse::<u64>().unwrap()).sum()
}

#[test]
fn what_is_written_at_length_is_told_briefly_and_soon() {
    let many = |text: &'static str| vec![text; 60_000];
    let net = "10.0.0.0/24";
    let route = json!({"cidr": "x", "nextHopIP": "10.0.0.1"});
    let subnet = |field: &str, text: &'static str| {
        ("subnets", "Subnet", json!({"cidrBlock": net, field: many(text)}))
    };
    let ip = |field: &str, text: String| {
        ("ips", "IP", json!({"subnet": "s", "podName": "web", field: text}))
    };
    #[rustfmt::skip]
    let table = [
        (subnet("vips", "x"), "spec.vips"),
        (subnet("excludeIps", "10.0.0.9"), "spec.excludeIps has 60000 entries: write at most 4096"),
        (subnet("allowSubnets", "10.0.0.0/8"), "spec.allowSubnets has 60000 entries"),
        (("vpcs", "Vpc", json!({"staticRoutes": vec![route; 60_000]})), "spec.staticRoutes has 60000 entries"),
        (("ippools", "IPPool", json!({"subnet": "s", "ips": many("10.0.0.9")})), "spec.ips has 60000 entries"),
        (("vips", "Vip", json!({"subnet": "s", "selector": many("x")})), "spec.selector"),
        (ip("ipAddress", "10.0.0.9,".repeat(100_000)), "write one address of each family at most"),
        (ip("v4IpAddress", "10.0.0.9,".repeat(100_000)), "write one address"),
        (ip("macAddress", "x".repeat(1_000_000)), "spec.macAddress"),
    ];
    for ((plural, kind, spec), words) in table {
        let new = object(kind, spec);
        let mut old = new.clone();
        old["spec"]["namespace"] = "other".into();
        let begun = busy();
        let said = review(plural, None, &new).expect_err(words);
        drop(review(plural, Some(&old), &new));
        let took = busy() - begun;
        assert!(said.contains(words), "{said:?} does not say {words:?}");
        assert!(said.len() < 4096, "{} bytes are said of {words}", said.len());
        assert!(took < 200, "{words}: {took} ticks");
    }
}

#[test]
fn empty_fields_mean_what_absent_ones_do() {
    let spec = json!({"cidrBlock": "10.0.0.0/24", "gateway": "", "vpc": "", "protocol": "",
        "provider": "", "gatewayType": "", "vlan": "", "excludeIps": [], "acls": []});
    assert_eq!(review("subnets", None, &subnet_of(spec)), Ok(vec![]));
    assert_eq!(review("vpcs", None, &object("Vpc", json!({}))), Ok(vec![]));
}

#[test]
fn what_has_no_effect_as_written_is_warned_of_and_let_in() {
    let spec = json!({"cidrBlock": "10.0.0.0/24", "excludeIps": ["10.0.0.9", "10.9.0.9"]});
    let warnings = review("subnets", None, &subnet_of(spec)).unwrap();
    let begins = r#"spec.excludeIps[1] is "10.9.0.9": it has no effect"#;
    assert!(warnings.iter().any(|one| one.starts_with(begins)), "{warnings:?}");

    let facts = Facts::default();
    let vpc = object("Vpc", json!({"namespaces": ["red"]}));
    assert_eq!(beside(&facts, "vpcs", None, &vpc), Ok(vec![]), "it may be to come");
    let mut subnet = subnet_of(json!({"vpc": "one", "cidrBlock": "10.0.0.0/24"}));
    subnet["metadata"] = json!({"name": "lan", "resourceVersion": "1"});
    facts.stored("subnets", subnet.to_string().as_bytes());
    let warnings = beside(&facts, "vpcs", None, &vpc).unwrap();
    let begins = r#"spec.namespaces[0] is "red": no Subnet of this vpc"#;
    assert!(warnings.iter().any(|one| one.starts_with(begins)), "{warnings:?}");
    subnet["metadata"]["resourceVersion"] = "2".into();
    subnet["spec"]["default"] = true.into();
    facts.stored("subnets", subnet.to_string().as_bytes());
    assert_eq!(beside(&facts, "vpcs", None, &vpc), Ok(vec![]));
}

#[test]
fn what_leaves_and_what_stays_as_it_was_is_never_refused() {
    let bad = subnet_of(json!({"cidrBlock": "x"}));
    let mut labelled = bad.clone();
    labelled["metadata"]["labels"] = json!({"a": "b"});
    labelled["status"] = json!({"conditions": []});
    assert_eq!(review("subnets", Some(&bad), &labelled), Ok(vec![]));
    let good = subnet_of(json!({"cidrBlock": "10.0.0.0/24"}));
    review("subnets", Some(&good), &bad).unwrap_err();
    let mut leaving = bad;
    leaving["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z".into();
    assert_eq!(review("subnets", Some(&good), &leaving), Ok(vec![]));
}

#[test]
fn faults_are_mended_one_by_one_and_new_ones_refused() {
    let two = subnet_of(json!({"cidrBlock": "10.0.0.0/24", "gateway": "x", "mtu": 1}));
    let one = subnet_of(json!({"cidrBlock": "10.0.0.0/24", "gateway": "x"}));
    assert_eq!(review("subnets", Some(&two), &one), Ok(vec![]));

    let bad = json!({"cidr": "x", "nextHopIP": "10.0.0.1"});
    let old = object("Vpc", json!({"staticRoutes": [bad]}));
    let beside = object("Vpc", json!({"staticRoutes": [bad], "namespaces": ["a"]}));
    assert_eq!(review("vpcs", Some(&old), &beside), Ok(vec![]));
    let more =
        object("Vpc", json!({"staticRoutes": [bad, {"cidr": "y", "nextHopIP": "10.0.0.1"}]}));
    let said = review("vpcs", Some(&old), &more).unwrap_err();
    assert!(said.contains("staticRoutes[1].cidr") && !said.contains("[0]"), "{said}");
}

fn machine(spec: Value) -> Value {
    let metadata = json!({"name": "web", "namespace": "default"});
    let template = json!({"metadata": {"labels": {"app": "web"}}, "spec": spec});
    json!({"apiVersion": "kubevirt.io/v1", "kind": "VirtualMachine", "metadata": metadata,
        "spec": {"runStrategy": "Always", "template": template}})
}

fn set(spec: Value) -> Value {
    let mut set = machine(spec);
    set["kind"] = "VirtualMachineInstanceReplicaSet".into();
    set["spec"]["selector"] = json!({"matchLabels": {"app": "web"}});
    set
}

fn instance(spec: Value) -> Value {
    json!({"apiVersion": "kubevirt.io/v1", "kind": "VirtualMachineInstance",
        "metadata": {"name": "web", "namespace": "default"}, "spec": spec})
}

fn causes(plural: &str, old: Option<&Value>, new: &Value, by: &str) -> Vec<Cause> {
    let reviewed = super::review(&Facts::default(), plural, Write { old, new, by });
    reviewed.err().unwrap_or_default()
}

/// The rules themselves are `crds`' to test: here that they are asked, and where.
#[test]
fn the_spec_of_an_instance_is_looked_at_wherever_it_is_written() {
    let bad = || {
        json!({"hostname": "Web", "domain": {"memory": {"guest": "64k"}, "devices": {}},
            "volumes": [{"name": "a"}]})
    };
    let table = [
        ("virtualmachines", machine(bad()), "spec.template.spec"),
        ("virtualmachineinstancereplicasets", set(bad()), "spec.template.spec"),
        ("virtualmachineinstances", instance(bad()), "spec"),
    ];
    for (plural, object, path) in table {
        let found = causes(plural, None, &object, "kubectl");
        let fields: Vec<_> = found.iter().map(|cause| cause.field.as_str()).collect();
        let want = ["hostname", "domain.memory.guest", "volumes[0]"];
        assert_eq!(fields, want.map(|field| format!("{path}.{field}")), "{plural}");
    }
    let bare = json!({"domain": {"devices": {}}});
    let said = causes("virtualmachineinstances", None, &instance(bare.clone()), "kubectl");
    assert!(said[0].message.starts_with("no memory requested"), "{said:?}");
    // As upstream: that is said of the instance.
    let said = causes("virtualmachines", None, &machine(bare), "kubectl");
    assert!(said.iter().all(|one| !one.message.starts_with("no memory")), "{said:?}");
}

#[test]
fn of_a_machine_with_faults_only_new_ones_are_refused() {
    let with = |hostname: &str, strategy: &str| json!({"hostname": hostname, "startStrategy": strategy, "domain": {"devices": {}}});
    let old = machine(with("Web", ""));
    let again = causes("virtualmachines", Some(&old), &machine(with("Web", "Paused")), "kubectl");
    assert!(again.iter().all(|one| !one.field.ends_with("hostname")), "{again:?}");
    let more = causes("virtualmachines", Some(&old), &machine(with("Web", "Fast")), "kubectl");
    assert_eq!(more[0].field, "spec.template.spec.startStrategy");
}

#[test]
fn the_spec_of_an_instance_is_ours_to_change() {
    let old = instance(json!({"domain": {"memory": {"guest": "1Gi"}, "devices": {}}}));
    let mut new = old.clone();
    new["metadata"]["labels"] = json!({"a": "b"});
    assert_eq!(causes("virtualmachineinstances", Some(&old), &new, "kubectl"), []);
    new["spec"]["domain"]["memory"]["guest"] = "2Gi".into();
    let refused = causes("virtualmachineinstances", Some(&old), &new, "kubectl-edit");
    let [cause] = &refused[..] else { panic!("{refused:?}") };
    assert_eq!(cause.message, "update of VMI object is restricted");
    assert_eq!(cause.reason, Reason::NotSupported);
    assert_eq!(causes("virtualmachineinstances", Some(&old), &new, MANAGER), []);
}

#[test]
fn fields_without_effect_are_warned_of_when_they_are_written() {
    let spec = json!({"priorityClassName": "high", "dnsPolicy": "None",
        "domain": {"memory": {"guest": "1Gi"}, "devices": {"logSerialConsole": false}}});
    for (plural, object) in
        [("virtualmachines", machine(spec.clone())), ("virtualmachineinstances", instance(spec))]
    {
        let told = placed(plural, &object);
        for field in ["priorityClassName", "dnsPolicy", "domain.devices.logSerialConsole"] {
            let words = format!("spec.{field} is kept but has no effect");
            assert!(told.iter().any(|one| one.ends_with(&words)), "{plural} {field}: {told:?}");
        }
    }
}

/// What is warned of beside a subnet for all.
fn placed(plural: &str, object: &Value) -> Vec<String> {
    let facts = Facts::default();
    let vpc = object_of("Vpc", "v", json!({}));
    facts.stored("vpcs", vpc.to_string().as_bytes());
    let subnet = json!({"vpc": "v", "cidrBlock": "10.0.0.0/24", "namespaces": ["default"]});
    facts.stored("subnets", object_of("Subnet", "s", subnet).to_string().as_bytes());
    beside(&facts, plural, None, object).unwrap()
}

fn object_of(kind: &str, name: &str, spec: Value) -> Value {
    let mut object = object(kind, spec);
    object["metadata"] = json!({"name": name, "resourceVersion": "1"});
    object
}
