//! What a Vip asks for, understood; and what of it is not in force.

use std::net::IpAddr;

use crds::kubeovn::{Vip, VipSpec};
use kube::ResourceExt as _;
use net::{MacAddr, names};

use super::{held, shown};
use crate::flaw::Flaw;
use crate::network::Network;
use crate::world::World;

/// Types of which the address is reserved and no more.
const RESERVED_ONLY: [&str; 2] = ["switch_lb_vip", "kube_host_vm_vip"];

/// What a Vip asks for.
pub(super) struct Asked<'a> {
    pub network: &'a Network,
    pub addresses: Vec<IpAddr>,
}

/// What `vip` asks for, or what its author must change.
pub(super) fn understand<'a>(world: &'a World, vip: &Vip) -> Result<Asked<'a>, String> {
    let (spec, name) = (&vip.spec, vip.name_any());
    if name.contains('.') {
        return Err(format!(
            "the name {name:?} has a dot, as those of VMs' ports have: create the Vip under a name without"
        ));
    }
    let networks = world.ledger.networks();
    let is_link = |network: &Network| names::switch_side(&network.name, &network.vpc) == name;
    if let Some(network) = networks.values().find(|network| is_link(network)) {
        return Err(format!(
            "the name {name:?} is that of the port between subnet {:?} and its vpc: create the Vip under another",
            network.name
        ));
    }
    let refused = |field: &str, value: &str, advice: &str| {
        Flaw::new(field.to_owned(), value, advice).to_string()
    };
    let kinds = || RESERVED_ONLY.contains(&spec.r#type.as_str());
    if !spec.r#type.is_empty() && !kinds() {
        let advice = format!("leave it out, or write {}", RESERVED_ONLY.join(" or "));
        return Err(refused("type", &spec.r#type, &advice));
    }
    check_mac(&spec.mac_address)?;
    let subnet = spec.subnet.trim();
    let network = match (networks.get(subnet), world.refused.get(subnet)) {
        (Some(network), _) if !network.leaving => network,
        (Some(_), _) => return Err(refused("subnet", subnet, "it is being deleted: name another")),
        (None, Some(why)) => {
            return Err(refused("subnet", subnet, &format!("it is not in force: {why}")));
        }
        (None, None) => {
            return Err(refused("subnet", subnet, "there is none: create it or name another"));
        }
    };
    let mut addresses = Vec::new();
    for (field, text, v4) in [("v4ip", &spec.v4_ip, true), ("v6ip", &spec.v6_ip, false)] {
        let text = text.trim();
        if text.is_empty() {
            continue;
        }
        let family = if v4 { "an IPv4" } else { "an IPv6" };
        let address = text.parse::<IpAddr>().ok().filter(|address| address.is_ipv4() == v4);
        let Some(address) = address.filter(|address| network.cidrs.contains(*address)) else {
            let advice = format!(
                "write {family} address in {} of subnet {subnet:?}, or leave it out for a free one",
                network.cidrs
            );
            return Err(refused(field, text, &advice));
        };
        if network.vips.contains(&address) {
            let advice =
                "the subnet itself lists it in spec.vips: write another, or take it out there";
            return Err(refused(field, text, advice));
        }
        addresses.push(address);
    }
    Ok(Asked { network, addresses })
}

fn check_mac(text: &str) -> Result<(), String> {
    if text.trim().is_empty() {
        return Ok(());
    }
    let mac = text.trim().parse::<MacAddr>().ok();
    let fits = mac.is_some_and(|mac| !mac.is_multicast() && mac.octets() != [0; 6]);
    let advice = "write a MAC address of one station, such as 02:00:00:00:00:01, or leave it out";
    fits.then_some(()).ok_or_else(|| Flaw::new("macAddress".to_owned(), text, advice).to_string())
}

/// The labels that a selector asks for, and the entries that cannot be.
pub(super) fn selector(spec: &VipSpec) -> (Vec<(&str, &str)>, Vec<Flaw>) {
    let (mut labels, mut flaws) = (Vec::new(), Vec::new());
    for (at, entry) in spec.selector.iter().enumerate() {
        match entry.split_once(':').map(|(key, value)| (key.trim(), value.trim())) {
            Some((key, value)) if !key.is_empty() => labels.push((key, value)),
            _ => {
                let advice = "write key:value, a label of the VM template";
                flaws.push(Flaw::new(format!("selector[{at}]"), entry, advice));
            }
        }
    }
    (labels, flaws)
}

/// What of a Vip that holds its addresses is not in force as written.
#[must_use]
pub fn flaws(world: &World, vip: &Vip) -> Vec<Flaw> {
    let spec = &vip.spec;
    let Some((subnet, _)) = held(world, vip) else { return Vec::new() };
    let (_, mut flaws) = selector(spec);
    if !spec.selector.is_empty() && spec.namespace.is_empty() {
        let advice = "spec.selector looks at the VMs of one namespace: name it";
        flaws.push(Flaw::new("namespace".to_owned(), "", advice));
    }
    let in_force = shown(world, vip);
    let mac = spec.mac_address.trim().to_lowercase().replace('-', ":");
    let v6 = spec
        .v6_ip
        .trim()
        .parse::<IpAddr>()
        .map_or_else(|_| spec.v6_ip.clone(), |one| one.to_string());
    for (field, written, given) in [
        ("subnet", spec.subnet.trim(), subnet.as_str()),
        ("v4ip", spec.v4_ip.trim(), &in_force.v4_ip),
        ("v6ip", v6.as_str(), &in_force.v6_ip),
        ("macAddress", mac.as_str(), &in_force.mac),
    ] {
        if written != given && !written.is_empty() {
            let advice = format!(
                "it stays {given:?}, since what a Vip was given does not change: write that again, or make another Vip"
            );
            flaws.push(Flaw::new(field.to_owned(), written, advice));
        }
    }
    flaws
}

/// The fields of a Vip that have no effect.
#[must_use]
pub fn without_effect(spec: &VipSpec) -> Vec<&'static str> {
    let reserved_only = RESERVED_ONLY.contains(&spec.r#type.as_str());
    [
        ("type", reserved_only),
        ("selector", reserved_only && !spec.selector.is_empty()),
        ("attachSubnets", !spec.attach_subnets.is_empty()),
    ]
    .into_iter()
    .filter_map(|(field, set)| set.then_some(field))
    .collect()
}
