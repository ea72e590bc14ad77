use std::sync::LazyLock;

use crds::kubeovn::{Subnet, SubnetSpec};
use serde_json::json;

use super::*;

fn subnet(name: &str, cidr: &str, change: impl FnOnce(&mut SubnetSpec)) -> (String, Network) {
    let mut spec = SubnetSpec { cidr_block: cidr.to_owned(), ..SubnetSpec::default() };
    change(&mut spec);
    (name.to_owned(), Network::parse(&Subnet::new(name, spec)).unwrap())
}

pub(super) fn subnets() -> BTreeMap<String, Network> {
    [
        subnet("s1", "10.0.0.0/24,fd00::/64", |spec| spec.namespaces = vec!["default".to_owned()]),
        subnet("s2", "10.1.0.0/24", |_| ()),
        subnet("s3", "10.2.0.0/24", |spec| spec.provider = "net2.default.ovn".to_owned()),
    ]
    .into()
}

pub(super) fn vm(annotations: &serde_json::Value, spec: &serde_json::Value) -> VirtualMachine {
    let mut template = json!({ "metadata": { "annotations": annotations }, "spec": { "domain": { "devices": {} } } });
    if let (Some(template), Some(spec)) = (template["spec"].as_object_mut(), spec.as_object()) {
        template.extend(spec.clone());
    }
    serde_json::from_value(json!({
        "apiVersion": "kubevirt.io/v1",
        "kind": "VirtualMachine",
        "metadata": { "name": "web", "namespace": "default" },
        "spec": { "runStrategy": "Always", "template": template },
    }))
    .unwrap()
}

/// An offer without any pools.
fn offer<'a>(
    in_force: &'a BTreeMap<String, Network>,
    refused: &'a BTreeMap<String, NetworkError>,
    used: &'a BTreeSet<String>,
    bound: Option<(&'a str, &'a str)>,
) -> Offer<'a> {
    static NO_POOLS: LazyLock<Shelf<String, IpPool>> = LazyLock::new(Shelf::default);
    static NO_FLAWS: BTreeMap<String, Flaw> = BTreeMap::new();
    static NO_VIPS: LazyLock<Shelf<String, Vip>> = LazyLock::new(Shelf::default);
    static NO_VPCS: LazyLock<Shelf<String, Vpc>> = LazyLock::new(Shelf::default);
    let (vpcs, vips) = (&*NO_VPCS, &*NO_VIPS);
    static NO_PORTS: Known =
        Known { held: BTreeSet::new(), networks: BTreeMap::new(), loans: BTreeMap::new() };
    static NO_CLAIMS: LazyLock<Shelf<VmKey, crds::cni::IpamClaim>> = LazyLock::new(Shelf::default);
    let (pools, refused_pools, known) = (&*NO_POOLS, &NO_FLAWS, &NO_PORTS);
    let claims = &*NO_CLAIMS;
    Offer { in_force, refused, vpcs, vips, claims, pools, refused_pools, used, known, bound }
}

fn asked(annotations: &serde_json::Value) -> Result<Vec<Request>, RequestError> {
    of(&vm(annotations, &json!({})), &subnets())
}

/// What `vm` asks for where these subnets are in force and it has nothing yet.
pub(super) fn of(
    vm: &VirtualMachine,
    in_force: &BTreeMap<String, Network>,
) -> Result<Vec<Request>, RequestError> {
    let (refused, used) = (BTreeMap::new(), BTreeSet::new());
    requests(vm.into(), offer(in_force, &refused, &used, None))
}

#[test]
fn a_template_beyond_all_bounds_is_refused_in_few_words() {
    let networks: Vec<_> =
        (0..300).map(|at| json!({ "name": format!("n{at}"), "pod": {} })).collect();
    let error = of(&vm(&json!({}), &json!({ "networks": networks })), &subnets()).unwrap_err();
    assert!(error.to_string().contains("300 networks"), "{error}");
    let addresses = "10.0.0.5,".repeat(20_000);
    let vips = (0..300).map(|at| format!("v{at}")).collect::<Vec<_>>().join(",");
    let further = vec!["10.0.0.9"; 300].join(",");
    for (field, text, words) in [
        ("ip_pool", addresses.as_str(), "180000 bytes long: write at most 65536"),
        ("ip_address", addresses.as_str(), "180000 bytes long: write at most 1024"),
        ("aaps", vips.as_str(), "names more than 256 Vips"),
        ("port_vips", further.as_str(), "names more than 256"),
    ] {
        let notes = json!({ "ovn.kubernetes.io/logical_switch": "s1",
            format!("ovn.kubernetes.io/{field}"): text });
        let error = of(&vm(&notes, &json!({})), &subnets()).unwrap_err().to_string();
        assert!(error.contains(words) && error.contains(field), "{error}");
        assert!(error.len() < 400, "{} bytes are said", error.len());
    }
    // What is not read may be as long as it likes.
    let routes = json!({ "ovn.kubernetes.io/routes": addresses });
    of(&vm(&routes, &json!({})), &subnets()).unwrap();
}

#[test]
fn a_vm_that_says_nothing_gets_a_port_in_its_namespaces_subnet() {
    let requests = asked(&json!({})).unwrap();
    assert_eq!(requests.len(), 1);
    assert_eq!(requests[0].port, "web.default");
    assert_eq!(requests[0].subnet, "s1");
    assert!(requests[0].addresses.is_empty());
}

#[test]
fn annotations_choose_subnet_addresses_and_mac() {
    let requests = asked(&json!({
        "ovn.kubernetes.io/logical_switch": "s1",
        "ovn.kubernetes.io/ip_address": "10.0.0.9, fd00::9",
        "ovn.kubernetes.io/mac_address": "02:00:00:00:00:09",
    }))
    .unwrap();
    assert_eq!(requests[0].addresses.len(), 2);
    assert_eq!(requests[0].mac.unwrap().to_string(), "02:00:00:00:00:09");
}

#[test]
fn a_mac_in_the_interface_counts() {
    let vm = vm(
        &json!({}),
        &json!({
            "domain": { "devices": { "interfaces": [{ "name": "default", "macAddress": "02:00:00:00:00:0a" }] } },
            "networks": [{ "name": "default", "pod": {} }],
        }),
    );
    let requests = of(&vm, &subnets()).unwrap();
    assert_eq!(requests[0].mac.unwrap().to_string(), "02:00:00:00:00:0a");
}

#[test]
fn an_attachment_is_served_by_the_subnet_of_its_provider() {
    let vm = vm(
        &json!({}),
        &json!({ "networks": [
            { "name": "default", "pod": {} },
            { "name": "second", "multus": { "networkName": "net2" } },
        ] }),
    );
    let requests = of(&vm, &subnets()).unwrap();
    assert_eq!(requests[1].port, "web.default.net2.default.ovn");
    assert_eq!(requests[1].subnet, "s3");
}

#[test]
fn a_vm_without_interfaces_that_declines_the_pod_network_has_none() {
    let vm =
        vm(&json!({}), &json!({ "domain": { "devices": { "autoattachPodInterface": false } } }));
    assert_eq!(of(&vm, &subnets()), Ok(vec![]));
}

#[test]
fn what_cannot_be_served_is_refused_with_what_to_change() {
    let message = |annotations| asked(&annotations).unwrap_err().to_string();
    let ip = |text: &str| message(json!({ "ovn.kubernetes.io/ip_address": text }));
    assert!(ip("ten").contains("not an address"));
    assert!(ip("10.0.0.5,10.0.0.6").contains("two addresses of one family"));
    assert!(ip("10.9.0.5").contains("not in 10.0.0.0/24"));
    assert!(ip("10.9.0.5").contains("choose a free address of it, or another subnet"));
    assert!(
        message(json!({ "ovn.kubernetes.io/logical_switch": "none" }))
            .contains("create it or name another")
    );
    assert!(message(json!({ "ovn.kubernetes.io/logical_switch": "s3" })).contains("provider"));
    assert!(
        message(json!({ "ovn.kubernetes.io/mac_address": "01:00:00:00:00:01" }))
            .contains("multicast")
    );
    assert!(message(json!({ "ovn.kubernetes.io/mac_address": "1" })).contains("six hexadecimal"));
    let elsewhere = of(&vm(&json!({}), &json!({})), &BTreeMap::new()).unwrap_err();
    assert!(elsewhere.to_string().contains("logical_switch"));
}

#[test]
fn a_subnet_that_is_refused_says_why_to_the_vm_that_names_it() {
    let refused = [("blue".to_owned(), NetworkError::NoVpc("sky".to_owned()))].into();
    let (in_force, used) = (BTreeMap::new(), BTreeSet::new());
    let vm = vm(&json!({ "ovn.kubernetes.io/logical_switch": "blue" }), &json!({}));
    let error = requests((&vm).into(), offer(&in_force, &refused, &used, None));
    let message = error.unwrap_err().to_string();
    assert!(message.contains("not in force: spec.vpc: Vpc \"sky\" does not exist"), "{message}");
}

#[test]
fn a_subnet_that_is_being_deleted_is_open_to_the_vms_on_it_only() {
    let mut in_force = subnets();
    in_force.get_mut("s1").unwrap().leaving = true;
    in_force.get_mut("s2").unwrap().default = true;
    let refused = BTreeMap::new();
    let subnet_of = |used: &BTreeSet<String>| {
        let offer = offer(&in_force, &refused, used, None);
        requests((&vm(&json!({}), &json!({}))).into(), offer).unwrap()[0].subnet.clone()
    };
    assert_eq!(subnet_of(&["s1".to_owned()].into()), "s1");
    assert_eq!(subnet_of(&BTreeSet::new()), "s2");
}

#[test]
fn a_vm_has_one_pod_network() {
    let vm = vm(
        &json!({}),
        &json!({ "networks": [{ "name": "a", "pod": {} }, { "name": "b", "pod": {} }] }),
    );
    assert!(matches!(of(&vm, &subnets()), Err(RequestError::SamePort { .. })));
}

#[test]
fn two_networks_of_one_attachment_are_two_ports_each_with_its_annotations() {
    let twice = |notes| {
        vm(
            &notes,
            &json!({ "networks": [
                { "name": "a", "multus": { "networkName": "net2" } },
                { "name": "b", "multus": { "networkName": "default/net2" } },
            ] }),
        )
    };
    for (first, second) in [
        (
            "net2.default.ovn.kubernetes.io/ip_address",
            "net2.default.ovn.b.kubernetes.io/ip_address",
        ),
        ("net2.default.ovn.a.kubernetes.io/ip_address", "net2.default.kubernetes.io/ip_address.b"),
        // What KubeVirt calls the interfaces in a pod.
        (
            "net2.default.ovn.podca978112ca1.kubernetes.io/ip_address",
            "net2.default.kubernetes.io/ip_address.pod3e23e816003",
        ),
    ] {
        let vm = twice(json!({ first: "10.2.0.7", second: "10.2.0.8",
            "net2.default.ovn.b.kubernetes.io/port_security": "false",
            "net2.default.ovn.c.kubernetes.io/port_security": "false" }));
        let requests = of(&vm, &subnets()).unwrap();
        let ports: Vec<_> = requests.iter().map(|one| one.port.as_str()).collect();
        assert_eq!(ports, ["web.default.net2.default.ovn", "web.default.net2.default.ovn.b"]);
        for (request, address) in requests.iter().zip(["10.2.0.7", "10.2.0.8"]) {
            assert_eq!(request.addresses, [address.parse::<IpAddr>().unwrap()], "{first}");
            assert_eq!(request.subnet, "s3");
        }
        assert!(!requests[0].leave.unguarded && requests[1].leave.unguarded);
        let unused = without_effect(Asker::from(&vm), None);
        assert_eq!(unused, ["net2.default.ovn.c.kubernetes.io/port_security"]);
    }
}

fn pool(text: &str) -> Vec<Vec<String>> {
    let requests = asked(&json!({ "ovn.kubernetes.io/ip_pool": text })).unwrap();
    let entries = requests[0].pool.iter();
    entries.map(|entry| entry.iter().map(ToString::to_string).collect()).collect()
}

#[test]
fn a_pool_is_a_list_of_addresses_of_ranges_or_of_pairs() {
    assert_eq!(pool("10.0.0.5, 10.0.0.6"), [["10.0.0.5"], ["10.0.0.6"]]);
    assert_eq!(pool("10.0.0.5..10.0.0.7,10.0.0.9").len(), 4);
    assert_eq!(pool("10.0.0.5,fd00::5"), [["10.0.0.5", "fd00::5"]]);
    let pairs = pool("10.0.0.5,fd00::5;10.0.0.6,fd00::6");
    assert_eq!(pairs, [["10.0.0.5", "fd00::5"], ["10.0.0.6", "fd00::6"]]);
    assert_eq!(pool("10.0.0.5;10.0.0.6"), [["10.0.0.5"], ["10.0.0.6"]]);
}

#[test]
fn a_named_address_wins_over_a_pool() {
    let requests = asked(&json!({
        "ovn.kubernetes.io/ip_pool": "10.0.0.5,10.0.0.6",
        "ovn.kubernetes.io/ip_address": "10.0.0.9",
    }))
    .unwrap();
    assert!(requests[0].pool.is_empty() && requests[0].addresses.len() == 1);
}

fn with_attachment(annotations: &serde_json::Value) -> VirtualMachine {
    vm(
        annotations,
        &json!({ "networks": [
            { "name": "default", "pod": {} },
            { "name": "second", "multus": { "networkName": "net2" } },
        ] }),
    )
}

#[test]
fn an_attachments_address_and_mac_may_be_named_by_interface() {
    let vm = with_attachment(&json!({
        "net2.default.kubernetes.io/ip_address.second": "10.2.0.7",
        "net2.default.kubernetes.io/mac_address.second": "02:00:00:00:00:07",
    }));
    let requests = of(&vm, &subnets()).unwrap();
    assert_eq!(requests[1].addresses, ["10.2.0.7".parse::<IpAddr>().unwrap()]);
    assert_eq!(requests[1].mac.unwrap().to_string(), "02:00:00:00:00:07");
    assert!(without_effect(Asker::from(&vm), None).is_empty());
}

#[test]
fn what_multus_list_says_of_others_and_asks_nothing_for_is_in_nobodys_way() {
    let vm = with_attachment(&json!({
        "net2.default.ovn.kubernetes.io/ip_address": "10.2.0.7",
        "k8s.v1.cni.cncf.io/networks": r#"[
            {"name": "elsewhere", "ips": null},
            {"name": "net2", "mac": "02:00:00:00:00:07", "ips": null, "interface": null}]"#,
    }));
    let requests = of(&vm, &subnets()).unwrap();
    assert_eq!(requests[1].mac.unwrap().to_string(), "02:00:00:00:00:07");
    assert_eq!(without_effect(Asker::from(&vm), None), ["k8s.v1.cni.cncf.io/networks [0]"]);
}

#[test]
fn annotations_without_effect_are_named_and_those_of_others_are_not() {
    let vm = with_attachment(&json!({
        "ovn.kubernetes.io/logical_switch": "s1",
        "ovn.kubernetes.io/ip_pool": "10.0.0.5",
        "net2.default.ovn.kubernetes.io/ip_address": "10.2.0.7",
        "ovn.kubernetes.io/security_groups": "web",
        "ovn.kubernetes.io/ip_family": "ipv4",
        "ovn.kubernetes.io/vip": "v",
        "ovn.kubernetes.io/aaps": "v",
        "ovn.kubernetes.io/ip_adress": "10.0.0.5",
        "net3.default.ovn.kubernetes.io/ip_address": "10.3.0.7",
        "net2.default.kubernetes.io/ip_address.third": "10.2.0.8",
        "k8s.v1.cni.cncf.io/networks": "net2",
        "v1.multus-cni.io/default-network": "net2",
        "kubectl.kubernetes.io/restartedAt": "now",
        "vm.kubevirt.io/os": "linux",
    }));
    assert_eq!(
        without_effect(Asker::from(&vm), None),
        [
            "k8s.v1.cni.cncf.io/networks",
            "net2.default.kubernetes.io/ip_address.third",
            "net3.default.ovn.kubernetes.io/ip_address",
            "ovn.kubernetes.io/ip_adress",
            "ovn.kubernetes.io/security_groups",
            "v1.multus-cni.io/default-network",
        ]
    );
}

#[test]
fn without_an_annotation_subnet_then_vpc_then_default_decide() {
    let mut in_force: BTreeMap<_, _> = [
        subnet("bound", "10.0.0.0/24", |spec| spec.namespaces = vec!["default".to_owned()]),
        subnet("of-vpc", "10.1.0.0/24", |spec| spec.vpc = "v".to_owned()),
        subnet("fallback", "10.2.0.0/24", |spec| spec.default = true),
    ]
    .into();
    let (refused, used) = (BTreeMap::new(), BTreeSet::new());
    let chosen = |in_force: &BTreeMap<String, Network>, bound| {
        let offer = offer(in_force, &refused, &used, bound);
        requests((&vm(&json!({}), &json!({}))).into(), offer)
            .map(|requests| requests[0].subnet.clone())
            .map_err(|error| error.to_string())
    };
    let by_vpc = Some(("v", "of-vpc"));
    assert_eq!(chosen(&in_force, by_vpc).as_deref(), Ok("bound"));
    in_force.remove("bound");
    assert_eq!(chosen(&in_force, by_vpc).as_deref(), Ok("of-vpc"));
    assert_eq!(chosen(&in_force, None).as_deref(), Ok("fallback"));
    let error = chosen(&in_force, Some(("v", "gone"))).unwrap_err();
    assert!(error.contains("spec.defaultSubnet of Vpc \"v\": subnet \"gone\" does not"), "{error}");
    let error = chosen(&in_force, Some(("v", "fallback"))).unwrap_err();
    assert!(error.contains("not one of this vpc"), "{error}");
}
