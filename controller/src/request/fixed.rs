//! Addresses and a MAC that a template names for a network: in annotations of Kube-OVN's,
//! in Multus's list, in the interface.
//!
//! An annotation wins over the interface's field, as ever. Whoever writes Multus's list
//! beside one of them means the same, or one of the two was not meant.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use crds::annotations::{IP_ADDRESS, MAC_ADDRESS};
use ipnetwork::IpNetwork;
use net::MacAddr;

use super::{Named, Reader, Request, RequestError};
use crate::network::Network;

impl Reader<'_> {
    /// What names the address or MAC of this network: annotation and text.
    pub(super) fn said(&self, named: &Named<'_>, field: &str) -> Option<(String, String)> {
        self.noted(named, field).or_else(|| named.element?.said(field))
    }

    /// The annotation of Kube-OVN's.
    fn noted(&self, named: &Named<'_>, field: &str) -> Option<(String, String)> {
        let mut keys = named.keys(field).into_iter();
        keys.find_map(|key| self.annotations.get(&key).cloned().map(|text| (key, text)))
    }

    /// The addresses that are named, and where.
    pub(super) fn addresses(
        &self,
        named: &Named<'_>,
        subnet: &Network,
    ) -> Result<(String, Vec<IpAddr>), RequestError> {
        let noted = self.noted(named, IP_ADDRESS);
        let listed = named.element.and_then(|element| element.said(IP_ADDRESS));
        let read = |(key, text): &(String, String), bare| addresses(key, text, subnet, bare);
        let first = noted.as_ref().map(|said| read(said, true)).transpose()?;
        let second = listed.as_ref().map(|said| read(said, false)).transpose()?;
        if let (Some((key, text)), Some((other, theirs))) = (&noted, &listed)
            && sorted(first.as_deref()) != sorted(second.as_deref())
        {
            return Err(contradicted(other.clone(), theirs, format!("annotation {key}"), text));
        }
        let place = noted.or(listed).map(|(key, _)| format!("annotation {key}"));
        Ok((place.unwrap_or_default(), first.or(second).unwrap_or_default()))
    }

    /// The MAC that is named, and where.
    pub(super) fn mac(&self, named: &Named<'_>) -> Result<Option<(String, MacAddr)>, RequestError> {
        let as_place = |(key, text): (String, String)| (format!("annotation {key}"), text);
        let noted = self.noted(named, MAC_ADDRESS).map(as_place);
        let network = &named.network.name;
        let field = self
            .interfaces
            .iter()
            .find(|interface| interface.name == *network)
            .and_then(|interface| interface.mac_address.clone())
            .map(|text| (format!("interface {network:?}: macAddress"), text));
        let element = named.element.and_then(|element| element.said(MAC_ADDRESS));
        let Some((key, text)) = element else {
            let said = noted.map(mac).transpose()?;
            let other = field.map(mac).transpose()?;
            if let (Some((place, asked)), Some((other, theirs))) = (&said, &other)
                && asked != theirs
            {
                let (text, theirs) = (asked.to_string(), theirs.to_string());
                let (place, other) = (place.clone(), other.clone());
                return Err(RequestError::Contradicted { place, text, other, theirs });
            }
            return Ok(said.or(other));
        };
        let (place, asked) = mac((format!("annotation {key}"), text.clone()))?;
        for other in noted.into_iter().chain(field) {
            let (other, theirs) = mac(other)?;
            if theirs != asked {
                return Err(contradicted(key, &text, other, &theirs.to_string()));
            }
        }
        Ok(Some((place, asked)))
    }
}

fn sorted(addresses: Option<&[IpAddr]>) -> BTreeSet<IpAddr> {
    addresses.into_iter().flatten().copied().collect()
}

fn contradicted(key: String, text: &str, other: String, theirs: &str) -> RequestError {
    let (text, theirs) = (text.to_owned(), theirs.to_owned());
    RequestError::Contradicted { place: format!("annotation {key}"), text, other, theirs }
}

/// The addresses in a list with commas, of the subnet and at most one of each family;
/// unless they must be bare with the length of the subnet's network or not.
fn addresses(
    key: &str,
    text: &str,
    subnet: &Network,
    bare: bool,
) -> Result<Vec<IpAddr>, RequestError> {
    let (key, text) = (key.to_owned(), text.to_owned());
    let mut addresses: Vec<IpAddr> = Vec::new();
    for part in text.split(',').map(str::trim) {
        let address = part.parse().ok().or_else(|| with_length(part, subnet).filter(|_| !bare));
        let Some(address) = address else { return Err(RequestError::Address { key, text }) };
        if addresses.iter().any(|other| other.is_ipv4() == address.is_ipv4()) {
            return Err(RequestError::SameFamilyTwice { key, text });
        }
        if !subnet.cidrs.contains(address) {
            let (cidr, subnet) = (subnet.cidrs.to_string(), subnet.name.clone());
            return Err(RequestError::OutsideSubnet { key, address, cidr, subnet });
        }
        if subnet.vips.contains(&address) {
            let subnet = subnet.name.clone();
            return Err(RequestError::OfTheSubnet { key, address, subnet });
        }
        addresses.push(address);
    }
    Ok(addresses)
}

/// The address of `10.0.0.5/24`, if that is the length of the subnet's network. What is
/// not of the subnet has no length that could be wrong.
fn with_length(text: &str, subnet: &Network) -> Option<IpAddr> {
    let network: IpNetwork = text.contains('/').then(|| text.parse().ok()).flatten()?;
    let of_family = subnet.cidrs.iter().find(|one| one.is_ipv4() == network.is_ipv4());
    let whole = if network.is_ipv4() { 32 } else { 128 };
    let fits = |of: IpNetwork| {
        !of.contains(network.ip()) || [of.prefix(), whole].contains(&network.prefix())
    };
    of_family.is_none_or(fits).then(|| network.ip())
}

fn mac((place, text): (String, String)) -> Result<(String, MacAddr), RequestError> {
    let mac: MacAddr =
        text.trim().parse().map_err(|source| RequestError::Mac { place: place.clone(), source })?;
    if mac.is_multicast() || mac.octets() == [0; 6] {
        return Err(RequestError::MulticastMac { place, mac });
    }
    Ok((place, mac))
}

/// Refuses what another network of the VM names already: an address of the subnet, a MAC
/// in its VPC.
pub(super) fn differs(
    request: &Request,
    others: &[Request],
    in_force: &BTreeMap<String, Network>,
) -> Result<(), RequestError> {
    let vpc = |one: &Request| in_force.get(&one.subnet).map(|network| &network.vpc);
    for other in others {
        let network = other.network.clone();
        let address = request.addresses.iter().find(|one| other.addresses.contains(one));
        if let Some(address) = address.filter(|_| request.subnet == other.subnet) {
            let (place, what) = (request.places.addresses.clone(), address.to_string());
            return Err(RequestError::NamedTwice { place, what, network });
        }
        if let Some(mac) = request.mac.filter(|mac| other.mac == Some(*mac))
            && vpc(request) == vpc(other)
        {
            let (place, what) = (request.places.mac.clone(), format!("MAC address {mac}"));
            return Err(RequestError::NamedTwice { place, what, network });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::super::tests::{of, subnets, vm};
    use super::super::{Asker, without_effect};
    use super::*;
    use crds::annotations::MULTUS_NETWORKS;
    use crds::kubevirt::VirtualMachine;

    /// A VM on attachments `net2` and `net3`, the latter as two networks.
    fn with(list: &str, notes: Value) -> VirtualMachine {
        let mut notes = notes;
        notes[MULTUS_NETWORKS] = json!(list);
        vm(
            &notes,
            &json!({
                "domain": { "devices": { "interfaces": [
                    { "name": "more", "macAddress": "02:00:00:00:00:22" },
                ] } },
                "networks": [
                    { "name": "default", "pod": {} },
                    { "name": "more", "multus": { "networkName": "net2" } },
                    { "name": "a", "multus": { "networkName": "other/net3" } },
                    { "name": "b", "multus": { "networkName": "other/net3" } },
                ],
            }),
        )
    }

    fn asked(list: &str, notes: Value) -> Result<Vec<Request>, String> {
        let mut subnets = subnets();
        let mut s4 = subnets["s3"].clone();
        (s4.name, s4.provider) = ("s4".to_owned(), "net3.other.ovn".to_owned());
        s4.cidrs = "10.4.0.0/24,fd04::/64".parse().unwrap();
        subnets.insert("s4".to_owned(), s4);
        of(&with(list, notes), &subnets).map_err(|error| error.to_string())
    }

    #[test]
    fn an_element_names_addresses_and_mac_of_the_network_of_its_attachment() {
        let list = r#"[
            {"name": "net2", "ips": ["10.2.0.7/24"]},
            {"name": "net3", "namespace": "other", "interface": "b", "ips": ["10.4.0.8", "fd04::8/64"],
             "mac": "02:00:00:00:00:04"}]"#;
        let same = json!({ "net2.default.ovn.kubernetes.io/ip_address": "10.2.0.7" });
        for notes in [json!({}), same] {
            let requests = asked(list, notes).unwrap();
            let addresses = |at: usize| -> Vec<_> {
                requests[at].addresses.iter().map(ToString::to_string).collect()
            };
            assert_eq!(addresses(1), ["10.2.0.7"]);
            assert_eq!(addresses(3), ["10.4.0.8", "fd04::8"]);
            assert_eq!(requests[3].mac.unwrap().to_string(), "02:00:00:00:00:04");
            assert!(requests[0].addresses.is_empty() && requests[2].addresses.is_empty());
        }
        assert!(without_effect(Asker::from(&with(list, json!({}))), None).is_empty());
    }

    #[test]
    fn the_short_form_asks_for_nothing_and_nothing_is_wrong_with_it() {
        let list = "net2@eth1,other/net3,elsewhere";
        assert_eq!(asked(list, json!({})).unwrap().len(), 4);
        assert_eq!(without_effect(Asker::from(&with(list, json!({}))), None), [MULTUS_NETWORKS]);
    }

    #[test]
    fn fields_that_are_not_served_are_named() {
        let list = r#"[{"name": "net2", "ips": ["10.2.0.7"], "bandwidth": {}}]"#;
        let named = [format!("{MULTUS_NETWORKS} [0].bandwidth")];
        assert_eq!(without_effect(Asker::from(&with(list, json!({}))), None), named);
    }

    #[test]
    fn what_cannot_be_is_refused_with_its_place_and_what_to_do() {
        let net2 = |rest: &str| format!(r#"[{{"name": "net2", {rest}}}]"#);
        let address = |text: &str| json!({ "net2.default.ovn.kubernetes.io/ip_address": text });
        for (list, notes, advice) in [
            ("[{\"name\": ".to_owned(), json!({}), "cannot be read: "),
            ("[{\"ips\": []}]".to_owned(), json!({}), "missing field `name`"),
            ("{}".to_owned(), json!({}), "write a list such as [{\"name\""),
            (net2(r#""ips": "10.2.0.7""#), json!({}), "write a list such as"),
            (
                r#"[{"name": "net9", "mac": "02:00:00:00:00:24"}]"#.to_owned(),
                json!({}),
                "[0].name: \"net9\" is no network",
            ),
            (
                net2(r#""namespace": "other", "ips": ["10.2.0.7"]"#),
                json!({}),
                "list it in spec.networks",
            ),
            (
                r#"[{"name": "net3", "namespace": "other", "ips": ["10.4.0.8"]}]"#.to_owned(),
                json!({}),
                "write the name of network \"a\" or \"b\"",
            ),
            (
                r#"[{"name": "net2", "ips": ["10.2.0.7"]}, {"name": "net2", "ips": ["10.2.0.8"]}]"#
                    .to_owned(),
                json!({}),
                "[1].name: element [0] is for network \"more\" already",
            ),
            (net2(r#""ips": ["ten"]"#), json!({}), "[0].ips: \"ten\" is not an address"),
            (net2(r#""ips": ["10.2.0.7/16"]"#), json!({}), "\"10.2.0.7/16\" is not an address"),
            (net2(r#""ips": ["10.9.0.7/16"]"#), json!({}), "[0].ips: 10.9.0.7 is not in"),
            (net2(r#""ips": ["10.2.0.7", "10.2.0.8"]"#), json!({}), "two addresses of one family"),
            (net2(r#""mac": "1""#), json!({}), "[0].mac: "),
            (net2(r#""mac": "02:00:00:00:00:23""#), json!({}), "interface \"more\": macAddress asks"),
            (net2(r#""ips": ["10.2.0.7"]"#), address("10.2.0.8"), "ip_address asks for \"10.2.0.8\""),
            (
                net2(r#""ips": ["10.2.0.7"]"#),
                json!({ "net2.default.ovn.kubernetes.io/vip": "v" }),
                "annotation k8s.v1.cni.cncf.io/networks [0].ips asks for others",
            ),
            (
                r#"[{"name": "net3", "namespace": "other", "interface": "a", "ips": ["10.4.0.8"]},
                    {"name": "net3", "namespace": "other", "interface": "b", "ips": ["10.4.0.8"]}]"#
                    .to_owned(),
                json!({}),
                "10.4.0.8 is named for network \"a\" already",
            ),
            (
                r#"[{"name": "net3", "namespace": "other", "interface": "a", "mac": "02:00:00:00:00:22"}]"#
                    .to_owned(),
                json!({}),
                "MAC address 02:00:00:00:00:22 is named for network \"more\" already",
            ),
        ] {
            let message = asked(&list, notes).expect_err(&list);
            assert!(message.contains(advice), "{list}: {message}");
        }
    }
}
