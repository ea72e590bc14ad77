//! What guests are to be told, as users write it: what of it cannot be.
//!
//! The agents serve it ([`net::options`] is what both read it with); here it is only
//! judged, so that whoever wrote it learns of it before a guest does. An option that
//! cannot be stops nobody: the others are served.

use std::collections::{BTreeMap, BTreeSet};

use crds::annotations::{self, DHCP_V4_OPTIONS, DHCP_V6_OPTIONS};
use crds::kubeovn::SubnetSpec;
use crds::kubevirt::{Interface, VirtualMachineInstanceSpec};
use net::names;
use net::options::ra::Mode;
use net::options::{Fault, Guest, Ra, V4, V6};

use crate::flaw::Flaw;
use crate::request::networks_of;

/// The annotations that are read here.
pub const FIELDS: [&str; 2] = [DHCP_V4_OPTIONS, DHCP_V6_OPTIONS];

/// The options of a Subnet that cannot be.
#[must_use]
pub fn flaws(spec: &SubnetSpec) -> Vec<Flaw> {
    let (ra, of_ra) = Ra::parse(&spec.ipv6_ra_configs);
    let mut flaws = Vec::new();
    for (field, faults) in [
        ("dhcpV4Options", V4::parse(&spec.dhcp_v4_options).1),
        ("dhcpV6Options", V6::parse(&spec.dhcp_v6_options).1),
        ("ipv6RAConfigs", of_ra),
    ] {
        let flaw = |Fault { pair, advice }| Flaw::new(field.to_owned(), pair, advice);
        flaws.extend(faults.into_iter().map(flaw));
    }
    let v6 = spec.cidr_block.parse::<net::Cidrs>().ok().and_then(|cidrs| cidrs.v6);
    if let Some(network) = v6.filter(|network| ra.mode != Mode::Stateful && network.prefix() != 64)
    {
        let advice = format!(
            "guests make up addresses in a /64 only, and {network} is none: write \
             address_mode=dhcpv6_stateful, or a /64 in spec.cidrBlock"
        );
        flaws.push(Flaw::new("ipv6RAConfigs".to_owned(), &spec.ipv6_ra_configs, advice));
    }
    flaws
}

/// The options of a VM's ports that cannot be: annotation or field, value, what to write
/// instead.
#[must_use]
pub fn of_ports(
    annotations: Option<&BTreeMap<String, String>>,
    spec: &VirtualMachineInstanceSpec,
    namespace: &str,
) -> Vec<Flaw> {
    let mut providers = BTreeSet::new();
    for network in networks_of(spec) {
        let attachment = network.multus.as_ref().map(|multus| multus.network_name.as_str());
        let provider = names::provider(attachment, namespace);
        // One of several of an attachment has a longer name.
        let longer = [names::further, names::further_in_pod].map(|of| of(&provider, &network.name));
        providers.extend(longer.into_iter().filter(|_| attachment.is_some()));
        providers.insert(provider);
    }
    let mut told = Vec::new();
    for provider in providers {
        for (field, parse) in [
            (DHCP_V4_OPTIONS, (|text| V4::parse(text).1) as fn(&str) -> Vec<Fault>),
            (DHCP_V6_OPTIONS, |text| V6::parse(text).1),
        ] {
            let key = annotations::key(&provider, field);
            let text = annotations.and_then(|annotations| annotations.get(&key));
            let faults = text.map(|text| parse(text)).unwrap_or_default();
            told.extend(faults.iter().map(|fault| format!("annotation {key}: {fault}")));
        }
    }
    told.extend(spec.domain.devices.interfaces.iter().flat_map(of_interface));
    told.into_iter().map(Flaw::said).collect()
}

fn of_interface(interface: &Interface) -> Vec<String> {
    let Some(options) = &interface.dhcp_options else { return Vec::new() };
    let private = options.private_options.iter();
    let guest = Guest {
        boot_file: options.boot_file_name.as_deref(),
        tftp_server: options.tftp_server_name.as_deref(),
        ntp_servers: options.ntp_servers.iter().map(String::as_str).collect(),
        private: private.map(|one| (one.option, one.value.as_str())).collect(),
    };
    let faults = guest.put_into(&mut V4::default());
    let told = |fault| format!("dhcpOptions of interface {:?}: {fault}", interface.name);
    faults.into_iter().map(told).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn told(spec: SubnetSpec) -> Vec<String> {
        flaws(&spec).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn an_option_that_cannot_be_is_named_with_its_field_and_what_to_write() {
        let told = told(SubnetSpec {
            dhcp_v4_options: "lease_time=600,mtu=big,dns=10.0.0.53".to_owned(),
            dhcp_v6_options: "dns_server=10.0.0.53".to_owned(),
            ipv6_ra_configs: "address_mode=auto".to_owned(),
            ..SubnetSpec::default()
        });
        for (told, wanted) in told.iter().zip([
            r#"spec.dhcpV4Options is "mtu=big": write a number"#,
            r#"spec.dhcpV4Options is "dns=10.0.0.53": there is no"#,
            r#"spec.dhcpV6Options is "dns_server=10.0.0.53": write IPv6 addresses"#,
            r#"spec.ipv6RAConfigs is "address_mode=auto": write dhcpv6_stateful"#,
        ]) {
            assert!(told.starts_with(wanted), "{told}");
        }
        assert_eq!(told.len(), 4, "{told:?}");
    }

    #[test]
    fn addresses_that_guests_make_up_need_a_64() {
        let spec = |cidr: &str, configs: &str| SubnetSpec {
            cidr_block: cidr.to_owned(),
            ipv6_ra_configs: configs.to_owned(),
            ..SubnetSpec::default()
        };
        assert!(told(spec("fd00::/64", "address_mode=slaac")).is_empty());
        assert!(told(spec("fd00::/112", "")).is_empty());
        assert!(told(spec("fd00::/112", "address_mode=slaac"))[0].contains("in a /64 only"));
    }

    #[test]
    fn options_of_ports_that_cannot_be_are_named_by_annotation_and_interface() {
        let spec: VirtualMachineInstanceSpec = serde_json::from_value(json!({
            "domain": { "devices": { "interfaces": [
                { "name": "default", "dhcpOptions": {
                    "ntpServers": ["ntp.example"], "privateOptions": [{"option": 12, "value": "x"}],
                } },
                { "name": "second" },
            ] } },
            "networks": [
                { "name": "default", "pod": {} },
                { "name": "second", "multus": { "networkName": "net2" } },
            ],
        }))
        .unwrap();
        let annotations = BTreeMap::from(
            [
                ("ovn.kubernetes.io/dhcp-v4-options", "mtu=big,tcp_ttl=9"),
                ("net2.ns.ovn.kubernetes.io/dhcp-v6-options", "option_3=x"),
                ("net3.ns.ovn.kubernetes.io/dhcp-v6-options", "option_3=x"),
            ]
            .map(|(key, text)| (key.to_owned(), text.to_owned())),
        );
        let flaws = of_ports(Some(&annotations), &spec, "ns");
        let told: Vec<String> = flaws.iter().map(ToString::to_string).collect();
        for (told, wanted) in told.iter().zip([
            r#"annotation net2.ns.ovn.kubernetes.io/dhcp-v6-options: "option_3=x": "#,
            r#"annotation ovn.kubernetes.io/dhcp-v4-options: "mtu=big": write"#,
            r#"dhcpOptions of interface "default": "ntpServers[0]: ntp.example": write"#,
            r#"dhcpOptions of interface "default": "privateOptions[0]: 12 "#,
        ]) {
            assert!(told.starts_with(wanted), "{told}");
        }
        assert_eq!(told.len(), 4, "{told:?}");
    }
}
