//! IPPools, Vips, and IP objects that people make.

use std::net::IpAddr;

use crds::kubeovn::{Ip, IpPool, Vip};
use kube::ResourceExt as _;
use net::MacAddr;

use super::machine::address_refusal;
use super::{Findings, Index};
use crate::decide::has_owner;
use crate::flaw::Flaw;
use crate::ledger::VmKey;
use crate::network::Network;
use crate::{pools, vips};

pub(super) fn pool(index: &Index, pool: &IpPool) -> Findings {
    match pools::review(pool, index.networks()) {
        Ok(None) => Findings::default(),
        Ok(Some(waits)) => Findings::waiting(waits),
        Err(flaw) => Findings::refused(flaw),
    }
}

pub(super) fn vip(index: &Index, vip: &Vip) -> Findings {
    let flaws = vips::own_flaws(&vip.spec);
    let asked = match vips::understand(index.networks(), index.refused(), vip) {
        Ok(asked) => asked,
        Err(error) if error.waits => return Findings { flaws, ..Findings::waiting(error.message) },
        Err(error) => return Findings { flaws, ..Findings::refused(error.message) },
    };
    let own = VmKey::of_vip(&vip.name_any());
    let held = asked.addresses.iter().find_map(|address| {
        let why = address_refusal(index, asked.network, *address, &own)?;
        let field = if address.is_ipv4() { "v4ip" } else { "v6ip" };
        Some(Flaw::new(field.to_owned(), address, why).to_string())
    });
    Findings { refusal: held, flaws, ..Findings::default() }
}

/// One that was written for a VM says what the ledger does.
pub(super) fn reservation(index: &Index, ip: &Ip) -> Findings {
    if has_owner(ip) {
        return Findings::default();
    }
    let spec = &ip.spec;
    let network = index.networks().get(&spec.subnet);
    let whose = VmKey { namespace: spec.namespace.clone(), name: spec.pod_name.clone() };
    let mut found = Findings::default();
    for (field, text, family) in [
        ("v4IpAddress", &spec.v4_ip_address, Some(true)),
        ("v6IpAddress", &spec.v6_ip_address, Some(false)),
        ("ipAddress", &spec.ip_address, None),
    ] {
        let parts = text.split(',').map(str::trim).filter(|part| !part.is_empty());
        found.flaws.extend(parts.filter_map(|part| {
            let why = address_flaw(index, network, part, family, &whose)?;
            Some(Flaw::new(field.to_owned(), text, why))
        }));
    }
    found.flaws.extend(mac_flaw(index, network, ip));
    if network.is_none() {
        let advice = "no Subnet of that name is in force: create it, or name another";
        found.waits.push(Flaw::new("subnet".to_owned(), &spec.subnet, advice).to_string());
    }
    found
}

fn address_flaw(
    index: &Index,
    network: Option<&Network>,
    text: &str,
    v4: Option<bool>,
    whose: &VmKey,
) -> Option<String> {
    let address = text.parse::<IpAddr>().ok();
    let Some(address) = address.filter(|one| v4.is_none_or(|v4| one.is_ipv4() == v4)) else {
        let advice = match v4 {
            Some(true) => "write one IPv4 address, such as 10.0.0.5",
            Some(false) => "write one IPv6 address, such as fd00::5",
            None => "write addresses with a comma between, such as 10.0.0.5,fd00::5",
        };
        return Some(advice.to_owned());
    };
    let network = network?;
    if !network.cidrs.contains(address) {
        let Network { cidrs, name, .. } = network;
        return Some(format!("it is not in {cidrs} of subnet {name:?}: write an address of it"));
    }
    address_refusal(index, network, address, whose)
}

fn mac_flaw(index: &Index, network: Option<&Network>, ip: &Ip) -> Option<Flaw> {
    let text = ip.spec.mac_address.trim();
    if text.is_empty() {
        return None;
    }
    let flaw = |why: &str| Some(Flaw::new("macAddress".to_owned(), text, why));
    match text.parse::<MacAddr>() {
        Err(_) => flaw("write a MAC address, such as 02:00:00:00:00:01"),
        Ok(mac) if mac.is_multicast() || mac.octets() == [0; 6] => {
            flaw("it is zero or a multicast address: write that of one station")
        }
        Ok(mac) => flaw(&index.mac_refusal(network?, mac, &ip.name_any())?),
    }
}
