//! What a Vip asks for, understood; and what of it is not in force.

use std::collections::BTreeMap;
use std::net::IpAddr;

use crds::kubeovn::{Vip, VipSpec, VipStatus, most};
use kube::ResourceExt as _;
use net::MacAddr;

use super::{held, shown};
use crate::flaw::Flaw;
use crate::network::{Network, NetworkError};
use crate::port_names::{self, Objects, Owner};
use crate::world::World;

/// Types of which the address is reserved and no more.
const RESERVED_ONLY: [&str; 2] = ["switch_lb_vip", "kube_host_vm_vip"];

/// What a Vip asks for.
#[derive(Clone, Debug)]
pub struct Asked<'a> {
    /// The subnet.
    pub network: &'a Network,
    /// The addresses named, at most one of each family.
    pub addresses: Vec<IpAddr>,
}

/// Why a Vip has no address.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("{message}")]
pub struct VipError {
    /// What its author must change.
    pub message: String,
    /// Or else its subnet is to be there and in force.
    pub waits: bool,
}

impl From<String> for VipError {
    fn from(message: String) -> Self {
        Self { message, waits: false }
    }
}

/// What `vip` asks of the `networks` that are in force.
///
/// # Errors
/// What its author must change, or what it waits for.
pub fn understand<'a>(
    objects: &impl Objects,
    networks: &'a BTreeMap<String, Network>,
    refused_networks: &BTreeMap<String, NetworkError>,
    vip: &Vip,
) -> Result<Asked<'a>, VipError> {
    let (spec, name) = (&vip.spec, vip.name_any());
    if name.contains('.') {
        return Err(format!(
            "the name {name:?} has a dot, as those of VMs' ports have: create the Vip under a name without"
        )
        .into());
    }
    let others = port_names::owners(objects, networks, &name);
    if let Some(owner) = others.iter().find(|owner| !matches!(owner, Owner::Vip(_))) {
        return Err(
            format!("the name {name:?} is that of {owner}: create the Vip under another").into()
        );
    }
    let refused = |field: &str, value: &str, advice: &str| {
        Flaw::new(field.to_owned(), value, advice).to_string()
    };
    let kinds = || RESERVED_ONLY.contains(&spec.r#type.as_str());
    if !spec.r#type.is_empty() && !kinds() {
        let advice = format!("leave it out, or write {}", RESERVED_ONLY.join(" or "));
        return Err(refused("type", &spec.r#type, &advice).into());
    }
    check_mac(&spec.mac_address)?;
    let subnet = spec.subnet.trim();
    let waits = |advice: &str| VipError { message: refused("subnet", subnet, advice), waits: true };
    let network = match (networks.get(subnet), refused_networks.get(subnet)) {
        (Some(network), _) if !network.leaving => network,
        (Some(_), _) => return Err(waits("it is being deleted: name another")),
        (None, Some(why)) => return Err(waits(&format!("it is not in force: {why}"))),
        (None, None) => return Err(waits("there is none: create it or name another")),
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
            return Err(refused(field, text, &advice).into());
        };
        if network.vips.contains(&address) {
            let advice =
                "the subnet itself lists it in spec.vips: write another, or take it out there";
            return Err(refused(field, text, advice).into());
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
    for (at, entry) in spec.selector.iter().enumerate().take(most("Vip", "selector")) {
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

/// What of a Vip cannot be in force, whatever it holds.
#[must_use]
pub fn own_flaws(spec: &VipSpec) -> Vec<Flaw> {
    let (_, mut flaws) = selector(spec);
    flaws.extend(Flaw::of_too_many("Vip", "selector", spec.selector.len()));
    if !spec.selector.is_empty() && spec.namespace.is_empty() {
        let advice = "spec.selector looks at the VMs of one namespace: name it";
        flaws.push(Flaw::new("namespace".to_owned(), "", advice));
    }
    flaws
}

/// What of a Vip that holds its addresses is not in force as written.
#[must_use]
pub fn flaws(world: &World, vip: &Vip) -> Vec<Flaw> {
    let spec = &vip.spec;
    let Some((subnet, _)) = held(world, vip) else { return Vec::new() };
    let mut flaws = own_flaws(spec);
    flaws.extend(moved("subnet", spec.subnet.trim(), &subnet));
    flaws.extend(given_otherwise(spec, &shown(world, vip)));
    flaws
}

/// What a Vip asks for that is not what it was given.
#[must_use]
pub fn given_otherwise(spec: &VipSpec, given: &VipStatus) -> Vec<Flaw> {
    let mac = spec.mac_address.trim().to_lowercase().replace('-', ":");
    let v6 = spec.v6_ip.trim().parse::<IpAddr>();
    let v6 = v6.map_or_else(|_| spec.v6_ip.clone(), |one| one.to_string());
    let fields = [
        moved("v4ip", spec.v4_ip.trim(), &given.v4_ip),
        moved("v6ip", &v6, &given.v6_ip),
        moved("macAddress", &mac, &given.mac),
    ];
    fields.into_iter().flatten().collect()
}

fn moved(field: &str, written: &str, given: &str) -> Option<Flaw> {
    let advice = || {
        format!(
            "it stays {given:?}, since what a Vip was given does not change: write that again, or make another Vip"
        )
    };
    (written != given && !written.is_empty())
        .then(|| Flaw::new(field.to_owned(), written, advice()))
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
