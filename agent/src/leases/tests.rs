use std::path::Path;

use serde_json::{Value, json};

use super::*;

fn vmi() -> Value {
    json!({
        "apiVersion": "kubevirt.io/v1", "kind": "VirtualMachineInstance",
        "metadata": {
            "name": "web", "namespace": "default",
            "annotations": {
                "ovn.kubernetes.io/allocated": "true",
                "ovn.kubernetes.io/ip_address": "10.0.0.5,fd00::5",
                "ovn.kubernetes.io/mac_address": "02:00:00:00:00:05",
                "ovn.kubernetes.io/cidr": "10.0.0.0/24,fd00::/64",
                "ovn.kubernetes.io/gateway": "10.0.0.1,fd00::1",
                "ovn.kubernetes.io/logical_switch": "s1",
                "net2.default.ovn.kubernetes.io/ip_address": "10.1.0.9",
                "net2.default.ovn.kubernetes.io/mac_address": "02:00:00:00:01:09",
                "net2.default.ovn.kubernetes.io/cidr": "10.1.0.0/24",
                "net2.default.ovn.kubernetes.io/logical_switch": "s2",
            },
        },
        "spec": {
            "hostname": "www",
            "domain": { "devices": { "interfaces": [
                { "name": "default", "masquerade": {} },
                { "name": "second", "bridge": {} },
            ] } },
            "networks": [
                { "name": "default", "pod": {} },
                { "name": "second", "multus": { "networkName": "net2" } },
            ],
        },
    })
}

fn subnets() -> Subnets {
    let subnet = |name: &str, spec: Value, status: Value| {
        let object = json!({
            "apiVersion": "kubeovn.io/v1", "kind": "Subnet",
            "metadata": { "name": name }, "spec": spec, "status": status,
        });
        (name.to_owned(), serde_json::from_value(object).unwrap())
    };
    Subnets::from([
        subnet(
            "s1",
            json!({
                "cidrBlock": "10.0.0.0/24,fd00::/64",
                "dhcpV4Options": "lease_time=600,dns_server=10.0.0.53;1.1.1.1,domain_name=\"example.org\",\
                    classless_static_route={10.9.0.0/16,10.0.0.2, 10.8.0.0/16,10.0.0.3}",
                "dhcpV6Options": "dns_server=fd00::53",
                "ipv6RAConfigs": "address_mode=dhcpv6_stateful,max_interval=60,min_interval=20",
            }),
            json!({ "gatewayMAC": "02:00:5e:00:00:01" }),
        ),
        subnet("s2", json!({ "cidrBlock": "10.1.0.0/24", "mtu": 8900 }), json!({})),
    ])
}

#[test]
fn the_prefix_behind_a_guest_goes_with_its_address_and_who_has_none_is_told() {
    let mut subnets = subnets();
    let address = first(&subnets).binding.v6.unwrap().address;
    assert_eq!(address.to_string(), "fd00::5");
    let mut port = |pool: &str| {
        let delegation = json!({ "cidrBlock": pool, "prefixLength": 60 });
        let spec = &mut subnets.get_mut("s1").unwrap().spec;
        spec.dhcp_v6_prefix_delegation = serde_json::from_value(delegation).unwrap();
        let port = first(&subnets);
        let delegated = port.binding.v6.unwrap().delegated.map(|prefix| prefix.to_string());
        (delegated, port.faults)
    };
    assert_eq!(port("fd10::/48"), (Some("fd10:0:0:50::/60".to_owned()), vec![]));
    let (none, told) = port("fd10::/58");
    assert_eq!(none, None);
    assert!(told[0].contains("no prefix goes with fd00::5") && told[0].contains("up to fd00::3"));
}

fn typed(vmi: Value) -> VirtualMachineInstance {
    serde_json::from_value(vmi).unwrap()
}

fn changed(pointer: &str, value: Value) -> VirtualMachineInstance {
    let mut vmi = vmi();
    *vmi.pointer_mut(pointer).unwrap() = value;
    typed(vmi)
}

/// The ports of a VM where nobody changed a default.
fn ports(vmi: &VirtualMachineInstance, subnets: &Subnets) -> Result<Vec<Port>, LeaseError> {
    super::ports(vmi, subnets, &Defaults::default())
}

fn first(subnets: &Subnets) -> Port {
    ports(&typed(vmi()), subnets).unwrap().remove(0)
}

/// What a guest of the subnet with these configs and options is told.
fn told_by(configs: &str, v6_options: &str, enabled: bool) -> Binding {
    let mut subnets = subnets();
    let spec = &mut subnets.get_mut("s1").unwrap().spec;
    configs.clone_into(&mut spec.ipv6_ra_configs);
    v6_options.clone_into(&mut spec.dhcp_v6_options);
    spec.enable_dhcp = Some(enabled);
    first(&subnets).binding
}

/// `BERTH_REWRITE_GOLDEN=1` writes the file instead of comparing with it.
#[test]
fn two_ports_become_the_bindings_of_the_golden_file() {
    let ports = ports(&typed(vmi()), &subnets()).unwrap();
    let bindings: Vec<_> = ports
        .iter()
        .map(|port| json!({ "port": port.name, "network": port.network, "tap": port.tap, "mtu": port.mtu, "binding": port.binding }))
        .collect();
    let text = serde_norway::to_string(&bindings).unwrap();
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/leases/tests/bindings.yaml");
    if std::env::var_os("BERTH_REWRITE_GOLDEN").is_some() {
        std::fs::write(&path, &text).unwrap();
    }
    assert_eq!(text, std::fs::read_to_string(&path).unwrap());
}

#[test]
fn of_two_networks_of_one_attachment_the_annotations_say_which_is_the_further_one() {
    let mut vmi = vmi();
    let mut twice = |network: &str, address: &str, prefix: &str| {
        let notes = [("allocated", "true"), ("ip_address", address), ("logical_switch", "s2")];
        for (field, text) in notes.into_iter().chain([("mac_address", "02:00:00:00:01:0a")]) {
            vmi["metadata"]["annotations"][format!("{prefix}.kubernetes.io/{field}")] = json!(text);
        }
        let push = |at: &mut Value, one: Value| at.as_array_mut().unwrap().push(one);
        let interfaces = &mut vmi["spec"]["domain"]["devices"]["interfaces"];
        push(interfaces, json!({ "name": network, "bridge": {} }));
        let attachment = json!({ "name": network, "multus": { "networkName": "default/net2" } });
        push(&mut vmi["spec"]["networks"], attachment);
    };
    twice("third", "10.1.0.10", "net2.default.ovn.third");
    let ports = ports(&typed(vmi), &subnets()).unwrap();
    let names: Vec<_> = ports.iter().map(|port| port.name.as_str()).collect();
    let short = "web.default.net2.default.ovn";
    assert_eq!(names, ["web.default", short, "web.default.net2.default.ovn.third"]);
    assert_eq!(ports[1].addresses, ["10.1.0.9".parse::<IpAddr>().unwrap()]);
    assert_eq!(ports[2].addresses, ["10.1.0.10".parse::<IpAddr>().unwrap()]);
    assert_ne!(ports[1].tap, ports[2].tap);
}

#[test]
fn a_subnet_that_says_no_is_not_served() {
    let mut subnets = subnets();
    let spec = &mut subnets.get_mut("s1").unwrap().spec;
    spec.enable_dhcp = Some(false);
    spec.enable_ipv6_ra = Some(false);
    let Binding { mac: _, hostname: _, v4, v6, ra } = first(&subnets).binding;
    assert_eq!((v4, v6, ra), (None, None, None));
}

#[test]
fn no_router_is_advertised_before_its_mac_is_known() {
    let mut subnets = subnets();
    subnets.get_mut("s1").unwrap().status = None;
    let binding = first(&subnets).binding;
    assert_eq!(binding.ra, None);
    assert!(binding.v6.is_some());
}

#[test]
fn slaac_is_advertised_only_where_the_subnet_asks_for_it() {
    let mut subnets = subnets();
    "address_mode=slaac,send_periodic=false"
        .clone_into(&mut subnets.get_mut("s1").unwrap().spec.ipv6_ra_configs);
    let ra = first(&subnets).binding.ra.unwrap();
    assert!(ra.prefixes[0].autonomous && !ra.managed && !ra.other);
    assert_eq!((ra.max_interval, ra.lifetime), (0, u16::MAX));
}

#[test]
fn guests_are_sent_to_dhcpv6_for_no_more_than_it_answers() {
    let flags = |configs: &str, v6: &str, enabled: bool| {
        let binding = told_by(configs, v6, enabled);
        let ra = binding.ra.unwrap();
        let gives = binding.v6.is_some_and(|v6| !v6.stateless);
        (ra.managed, ra.other, ra.prefixes[0].autonomous, gives)
    };
    assert_eq!(flags("", "", true), (true, true, false, true));
    assert_eq!(flags("", "", false), (false, false, false, false));
    assert_eq!(flags("", "dhcpv6_stateless=true", true), (false, true, true, false));
    assert_eq!(flags("address_mode=dhcpv6_stateless", "", true), (false, true, true, false));
    assert_eq!(flags("address_mode=dhcpv6_stateless", "", false), (false, false, true, false));
    assert_eq!(flags("address_mode=slaac", "", true), (false, false, true, true));
}

#[test]
fn a_mode_that_is_not_advertised_takes_no_address_away() {
    let mut subnets = subnets();
    let spec = &mut subnets.get_mut("s1").unwrap().spec;
    "address_mode=dhcpv6_stateless".clone_into(&mut spec.ipv6_ra_configs);
    spec.enable_ipv6_ra = Some(false);
    assert!(!first(&subnets).binding.v6.unwrap().stateless);
}

#[test]
fn rfc4862_5_5_3_a_short_lived_prefix_is_preferred_no_longer_than_it_lives() {
    let ra = told_by("address_mode=slaac,prefix_valid_lifetime=86400", "", true).ra.unwrap();
    assert_eq!((ra.valid, ra.preferred), (86_400, 86_400));
}

#[test]
fn the_node_says_how_long_a_lease_is_where_nobody_else_does() {
    let defaults = Defaults { lease: 120, domain: String::new() };
    let leases = |v4: &str, v6: &str| {
        let mut subnets = subnets();
        let spec = &mut subnets.get_mut("s1").unwrap().spec;
        v4.clone_into(&mut spec.dhcp_v4_options);
        v6.clone_into(&mut spec.dhcp_v6_options);
        let port = super::ports(&typed(vmi()), &subnets, &defaults).unwrap().remove(0);
        (port.binding.v4.unwrap().lease, port.binding.v6.unwrap().lease)
    };
    assert_eq!(leases("", ""), (120, 120));
    assert_eq!(leases("lease_time=600", ""), (600, 120));
    assert_eq!(leases("", "lease_time=900"), (120, 900));
}

#[test]
fn kubevirt_s_search_list_is_the_guest_s_where_nobody_names_a_domain() {
    let searched = |v4: &str, cluster: &str| {
        let mut subnets = subnets();
        v4.clone_into(&mut subnets.get_mut("s1").unwrap().spec.dhcp_v4_options);
        let defaults = Defaults { domain: cluster.to_owned(), ..Defaults::default() };
        let port = super::ports(&typed(vmi()), &subnets, &defaults).unwrap().remove(0);
        let v4 = port.binding.v4.unwrap();
        assert_eq!(port.binding.ra.unwrap().dnssl, port.binding.v6.as_ref().unwrap().search);
        (v4.domain, v4.search, port.binding.v6.unwrap().search)
    };
    let own = ["default.svc.k8s.example", "svc.k8s.example", "k8s.example"].map(str::to_owned);
    let wanted = (Some(own[0].clone()), own.to_vec(), own.to_vec());
    assert_eq!(searched("", "k8s.example"), wanted);
    assert_eq!(searched("", ""), (None, vec![], vec![]));
    let named = "example.org".to_owned();
    assert_eq!(
        searched("domain_name=example.org", "k8s.example"),
        (Some(named.clone()), vec![], vec![named.clone()])
    );
    assert_eq!(
        searched("domain_search_list=example.org", "k8s.example"),
        (None, vec![named.clone()], vec![named])
    );
}

#[test]
fn a_port_s_own_options_take_the_place_of_the_subnet_s() {
    let mut vmi = vmi();
    vmi["metadata"]["annotations"]["ovn.kubernetes.io/dhcp-v4-options"] = json!("lease_time=60");
    let v4 = ports(&typed(vmi), &subnets()).unwrap().remove(0).binding.v4.unwrap();
    assert_eq!((v4.lease, v4.dns), (60, vec![]));
}

fn told(vmi: Value) -> (Port, String) {
    let port = ports(&typed(vmi), &subnets()).unwrap().remove(0);
    let faults = port.faults.join("; ");
    (port, faults)
}

#[test]
fn what_a_vm_wants_said_takes_the_place_of_what_its_subnet_says() {
    let mut vmi = vmi();
    vmi["spec"]["domain"]["devices"]["interfaces"][0]["dhcpOptions"] = json!({
        "bootFileName": "menu", "tftpServerName": "10.0.0.2", "ntpServers": ["10.0.0.3"],
        "privateOptions": [{"option": 240, "value": "x"}],
    });
    let (port, faults) = told(vmi);
    assert!(faults.is_empty(), "{faults}");
    let v4 = port.binding.v4.unwrap();
    let list: Vec<String> =
        v4.options.iter().map(|one| format!("{} {}", one.code, one.value)).collect();
    assert_eq!(list, ["67 text:menu", "66 text:10.0.0.2", "42 ip:10.0.0.3", "240 text:x"]);
    assert_eq!(v4.next_server, Some(Ipv4Addr::new(10, 0, 0, 2)));
    assert_eq!(v4.dns.len(), 2, "the subnet's");
}

#[test]
fn a_bad_option_of_a_port_is_told_and_the_port_served_with_the_rest() {
    let mut vmi = vmi();
    vmi["metadata"]["annotations"]["ovn.kubernetes.io/dhcp-v4-options"] =
        json!("lease_time=60,mtu=big");
    vmi["metadata"]["annotations"]["ovn.kubernetes.io/dhcp-v6-options"] = json!("dns=fd00::1");
    vmi["spec"]["domain"]["devices"]["interfaces"][0]["dhcpOptions"] =
        json!({"ntpServers": ["ntp.example", "10.0.0.3"]});
    let (port, faults) = told(vmi);
    assert_eq!(port.binding.v4.unwrap().lease, 60);
    for wanted in [
        r#"annotation ovn.kubernetes.io/dhcp-v4-options: "mtu=big": write a number"#,
        r#"annotation ovn.kubernetes.io/dhcp-v6-options: "dns=fd00::1": there is no option"#,
        r#"dhcpOptions of interface "default": "ntpServers[0]: ntp.example": write"#,
    ] {
        assert!(faults.contains(wanted), "{faults}");
    }
}

#[test]
fn a_guest_that_makes_up_another_address_than_the_ports_is_told_so() {
    let with = |mode: &str, address: &str| {
        let mut subnets = subnets();
        mode.clone_into(&mut subnets.get_mut("s1").unwrap().spec.ipv6_ra_configs);
        let addresses = json!(format!("10.0.0.5,{address}"));
        let vmi = changed("/metadata/annotations/ovn.kubernetes.io~1ip_address", addresses);
        ports(&vmi, &subnets).unwrap().remove(0).faults
    };
    let faults = with("address_mode=slaac", "fd00::5");
    assert!(faults[0].contains("address fd00::ff:fe00:5, and the port has fd00::5"), "{faults:?}");
    assert!(with("address_mode=slaac", "fd00::ff:fe00:5").is_empty());
    assert!(with("address_mode=dhcpv6_stateful", "fd00::5").is_empty());
}

#[test]
fn a_domain_is_searched_in_both_families_and_a_subdomain_is_one() {
    let mut vmi = vmi();
    let binding = told(vmi.clone()).0.binding;
    assert_eq!(binding.v6.unwrap().search, ["example.org"]);
    assert_eq!(binding.ra.unwrap().dnssl, ["example.org"]);
    vmi["spec"]["subdomain"] = json!("group");
    vmi["metadata"]["annotations"]["ovn.kubernetes.io/dhcp-v4-options"] = json!("tcp_ttl=9");
    let v4 = told(vmi).0.binding.v4.unwrap();
    assert_eq!(v4.domain.as_deref(), Some("group.default.svc.cluster.local"));
    assert_eq!(v4.search.len(), 4);
}

#[test]
fn the_encrypted_resolver_of_dhcpv6_is_advertised_too_unless_advertisements_have_their_own() {
    let v6 = "encrypted_dns=1 dns.example fd00::53 alpn=dot";
    let resolvers = |configs: &str| -> Vec<String> {
        let ra = told_by(configs, v6, true).ra.unwrap();
        ra.encrypted_dns.iter().map(ToString::to_string).collect()
    };
    assert_eq!(resolvers(""), ["1 dns.example fd00::53 alpn=dot"]);
    assert_eq!(resolvers("encrypted_dns=2 dns.other; 3 dns.third"), ["2 dns.other", "3 dns.third"]);
}

#[test]
fn advertisements_say_what_the_subnet_says_of_them() {
    let mut subnets = subnets();
    "router_preference=HIGH,route_info={LOW-fd01::/48},pref64=64:ff9b::/96,max_interval=1800,\
     encrypted_dns=1 dns.example.com fd00::53 alpn=dot,\
     captive_portal=https://portal.example/api,prefix_valid_lifetime=700000"
        .clone_into(&mut subnets.get_mut("s1").unwrap().spec.ipv6_ra_configs);
    let ra = first(&subnets).binding.ra.unwrap();
    assert_eq!((ra.routes.len(), ra.pref64.len(), ra.valid), (1, 1, 700_000));
    assert_eq!((ra.lifetime, ra.max_interval, ra.min_interval), (1800, 1800, 5));
    assert_eq!(ra.encrypted_dns.len(), 1);
    assert!(ra.captive_portal.is_some() && !ra.preference.is_medium());
}

#[test]
fn a_port_is_not_known_before_its_addresses_are() {
    let vmi = changed("/metadata/annotations/ovn.kubernetes.io~1ip_address", json!(""));
    let error = ports(&vmi, &subnets()).unwrap_err();
    assert_eq!(error, LeaseError::NotAllocated("default".to_owned()));
    assert!(!error.is_hopeless());
}

#[test]
fn a_subnet_that_is_not_there_is_named() {
    let error = ports(&typed(vmi()), &Subnets::new()).unwrap_err();
    assert!(error.to_string().contains("\"s1\""), "{error}");
}

#[test]
fn an_interface_without_network_is_hopeless() {
    let vmi = changed("/spec/networks/0/name", json!("other"));
    assert!(ports(&vmi, &subnets()).unwrap_err().is_hopeless());
}

#[test]
fn an_annotation_that_cannot_be_read_says_which_and_why() {
    let vmi = changed("/metadata/annotations/ovn.kubernetes.io~1mac_address", json!("02:00"));
    let error = ports(&vmi, &subnets()).unwrap_err().to_string();
    assert!(error.contains("ovn.kubernetes.io/mac_address = \"02:00\""), "{error}");
}

#[test]
fn an_interface_that_is_to_be_absent_has_no_port() {
    let mut vmi = vmi();
    vmi["spec"]["domain"]["devices"]["interfaces"][1]["state"] = json!("absent");
    assert_eq!(ports(&typed(vmi), &subnets()).unwrap().len(), 1);
}

#[test]
fn a_vm_with_one_family_of_its_subnet_is_told_nothing_of_the_other() {
    let port = |address: &str, cidr: &str, gateway: &str| {
        let mut vmi = vmi();
        for (field, text) in [("ip_address", address), ("cidr", cidr), ("gateway", gateway)] {
            vmi["metadata"]["annotations"][format!("ovn.kubernetes.io/{field}")] = json!(text);
        }
        ports(&typed(vmi), &subnets()).unwrap().remove(0)
    };
    let four = port("10.0.0.5", "10.0.0.0/24", "10.0.0.1");
    assert_eq!((four.addresses.len(), four.binding.v6, four.binding.ra), (1, None, None));
    let v4 = four.binding.v4.unwrap();
    assert_eq!((v4.prefix, v4.gateway), (24, Some(Ipv4Addr::new(10, 0, 0, 1))));
    let six = port("fd00::5", "fd00::/64", "fd00::1");
    assert_eq!((six.addresses.len(), six.binding.v4), (1, None));
    assert_eq!(six.binding.v6.unwrap().address, "fd00::5".parse::<Ipv6Addr>().unwrap());
    assert_eq!(six.binding.ra.unwrap().prefixes.len(), 1);
}
